"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import InputError

_MARKER = ".xtl-output"


@contextmanager
def atomic_folder(target: str | os.PathLike) -> Iterator[Path]:
    """Yield a new folder beside ``target`` that takes its place when the block ends without an error.

    A run that dies leaves ``target`` as it was. An existing ``target`` is replaced only when it is
    empty or an earlier output of XTL (it holds the marker file ``.xtl-output``).

    Raises
    ------
    InputError : ``target`` is a file, or a folder with somebody else's files in it, or cannot be made.
    """
    target = Path(target).absolute()
    check_output_folder(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    except OSError as error:
        raise InputError(
            f"the output folder {target} cannot be made ({error.strerror})", "Choose a place that can be written to"
        ) from error
    try:
        yield draft
        (draft / _MARKER).touch()
        draft.chmod(0o755)
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".old", dir=target.parent))
            os.replace(target, old / "old")
            os.replace(draft, target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(draft, target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def check_output_folder(target: str | os.PathLike) -> None:
    """Raise InputError unless ``target`` may be written as an output folder (see atomic_folder)."""
    target = Path(target)
    if target.is_file():
        raise InputError(f"the output folder {target} is a file", "Name a folder")
    if target.is_dir() and any(target.iterdir()) and not (target / _MARKER).exists():
        raise InputError(
            f"the output folder {target} holds files that XTL did not write", "Name a new or an empty folder"
        )


@contextmanager
def atomic_file(target: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path with the suffixes of ``target`` that replaces it when the block succeeds."""
    target = Path(target).absolute()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the folder {target.parent} cannot be made ({error.strerror})", "Choose a place that can be written to"
        ) from error
    draft = target.with_name(f".{os.getpid()}.part.{target.name}")
    try:
        yield draft
        with open(draft, "rb") as stream:
            os.fsync(stream.fileno())
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)


def sha256_of(path: str | os.PathLike) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as stream:
        return (
            hashlib.file_digest(stream, "sha256").hexdigest()
            if hasattr(hashlib, "file_digest")
            else _sha256_by_blocks(stream)
        )


def _sha256_by_blocks(stream) -> str:  # Python 3.10
    digest = hashlib.sha256()
    for block in iter(lambda: stream.read(1 << 20), b""):
        digest.update(block)
    return digest.hexdigest()
