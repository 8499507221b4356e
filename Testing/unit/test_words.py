"""What is said to the user begins and ends as a sentence does."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import XTLLib
from XTLLib.scene.words import in_sentences


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (("the volume is empty. Choose another one",), "The volume is empty. Choose another one."),
        (("2 lesions, in 0.9 s", "T1 was moved", "Removed: T2."), "2 lesions, in 0.9 s. T1 was moved. Removed: T2."),
        (("/data/ms is not a folder",), "/data/ms is not a folder."),
        (("data/ms is not a folder",), "data/ms is not a folder."),
        (("aseg is empty", "monai is too old"), "aseg is empty. monai is too old."),
        (("scan.nii cannot be read", "host 1 is taken"), "scan.nii cannot be read. host 1 is taken."),
        (("--host is missing", "no, it is not"), "--host is missing. No, it is not."),
        (("finding 1: TZ", "ma-left is gone"), "Finding 1: TZ. ma-left is gone."),
        (("", "one"), "One."),
        ((), ""),
    ],
)
def test_texts_become_sentences(texts, said):
    assert in_sentences(*texts) == said


# Keys of chains and studies, and arguments of functions: with a small letter wherever they stand.
KEYS = {"source", "features", "discriminative", "frozen", "unfreeze", "mixup", "peft", "edits"}


def first_words() -> Iterator[tuple[str, str]]:
    """The first word of every error's message, where it is not filled in, and its place."""
    for file in Path(XTLLib.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args or not ast.unparse(node.func).endswith("Error"):
                continue
            what = node.args[0].values[0] if isinstance(node.args[0], ast.JoinedStr) else node.args[0]
            if isinstance(what, ast.Constant) and isinstance(what.value, str) and what.value[:1].islower():
                yield what.value.split()[0], f"{file.name}:{node.lineno}"


def test_every_message_of_ours_begins_with_a_capital_letter():
    words = list(first_words())
    assert len(words) > 400
    small = [(word, place) for word, place in words if in_sentences(word)[0].islower()]
    assert [(word, place) for word, place in small if word not in KEYS and "_" not in word] == []
