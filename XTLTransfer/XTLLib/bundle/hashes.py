"""``configs/hashes.json``: the SHA-256 of every other file of a bundle.

It tells a file that was changed, lost or added by accident. It is no signature: who changes a file on purpose
can write its hash anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ..errors import InputError
from ..files import sha256_of
from .layout import HASHES

_IGNORED = ("eval", "__MACOSX", "__pycache__")  # MONAI's output folder, and what systems leave about


def is_ignored(file: str) -> bool:
    """Whether a file (relative, "/" between parts) belongs to no bundle: hidden ones, results, litter."""
    parts = file.split("/")
    return any(part.startswith(".") for part in parts) or any(part in _IGNORED for part in parts[:-1])


def bundle_files(folder: Path) -> tuple[str, ...]:
    """Every file of a bundle's folder, relative, sorted; links are listed, not followed."""
    names = [
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()
    ]
    return tuple(sorted(name for name in names if not is_ignored(name)))


def write_hashes(folder: Path) -> None:
    """Write ``configs/hashes.json`` over the files that are there."""
    hashes = {file: sha256_of(folder / file) for file in bundle_files(folder) if file != HASHES}
    text = json.dumps({"algorithm": "SHA-256", "files": hashes}, indent=2)
    (folder / HASHES).write_text(text + "\n", encoding="utf-8")


def changed_files(folder: Path) -> tuple[str, ...] | None:
    """What is not as ``configs/hashes.json`` says, in words; () when all agrees, None when there is no such file.

    Raises InputError when the list itself is broken.
    """
    path = folder / HASHES
    if not path.is_file():
        return None
    try:
        expected = json.loads(path.read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__})", "Get the bundle again") from error
    if not isinstance(expected, Mapping):
        raise InputError(f"{path} holds no list of files", "Get the bundle again")
    present = [file for file in bundle_files(folder) if file != HASHES]
    words = [f"{file} is missing" for file in sorted(set(expected) - set(present))]
    for file in present:
        if file not in expected:
            words.append(f"{file} was added")
        elif (folder / file).is_symlink() or sha256_of(folder / file) != expected[file]:
            words.append(f"{file} was changed")
    return tuple(words)
