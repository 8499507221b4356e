"""The Markdown documents of the project, as the tests read them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
DOCUMENTS = tuple(sorted([*PROJECT.glob("*.md"), *PROJECT.glob("Resources/**/*.md")]))
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|<img [^>]*src=\"([^\"]+)\"")
_COMMENT = re.compile(r"\s#\s.*$")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language ("" for none), its text, and the line of the file where the text begins."""

    language: str
    text: str
    line: int


def blocks(path: Path, language: str | None = None) -> list[Block]:
    """The fenced blocks of a document, of one language when it is named."""
    text = path.read_text(encoding="utf-8")
    found = [Block(m[1], m[2], text.count("\n", 0, m.start(2)) + 1) for m in _FENCE.finditer(text)]
    return [block for block in found if language is None or block.language == language]


def links(path: Path) -> list[str]:
    """The targets of links and pictures outside of fenced blocks."""
    found = _LINK.finditer(_FENCE.sub("", path.read_text(encoding="utf-8")))
    return [match[1] or match[2] for match in found]


def commands(text: str) -> list[list[str]]:
    """The ``xtl`` commands of a shell block, as words without ``xtl``; lines that end in a backslash go on."""
    lines = [_COMMENT.sub("", line).strip() for line in text.replace("\\\n", " ").splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("xtl ")]


def headings(path: Path) -> list[str]:
    """The anchors that GitHub makes of a document's headings."""
    texts = re.findall(r"^#+ (.+)$", _FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", text).lower()).replace(" ", "-") for text in texts]
