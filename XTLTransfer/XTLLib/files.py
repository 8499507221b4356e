"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .errors import InputError, XTLError

_MARKER = ".xtl-output"
_DRAFT, _DRAFT_FOLDER = ".xtl-part.", ".xtl-part"  # within the name of a draft, at the end of one
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
        draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=_DRAFT_FOLDER, dir=target.parent))
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
def atomic_file(target: str | os.PathLike, *, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary path with the suffixes of ``target`` that replaces it when the block succeeds.

    With ``sync`` the file is on the disk before it takes the place of the one before, and so is its name
    afterwards: a power failure leaves one of the two whole. Without, only a process that dies is survived.

    Raises
    ------
    InputError : the folder cannot be made.
    XTLError : there is no room left; ``target`` is as it was.
    """
    target = Path(target).absolute()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the folder {target.parent} cannot be made ({error.strerror})", "Choose a place that can be written to"
        ) from error
    draft = target.with_name(f".{os.getpid()}{_DRAFT}{target.name}")
    try:
        yield draft
        if sync:
            with open(draft, "rb") as stream:
                os.fsync(stream.fileno())
        os.replace(draft, target)
        if sync:
            _sync_folder(target.parent)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise XTLError(
            f"{target} cannot be written ({error.strerror})", "Make room on that disk; what was there before is kept"
        ) from error
    finally:
        draft.unlink(missing_ok=True)


def remove_drafts(folder: str | os.PathLike) -> None:
    """Delete what :func:`atomic_file` and :func:`atomic_folder` left in ``folder`` when their process was killed.

    Only for a folder in which no other process is writing.
    """
    folder = Path(folder)
    for path in [*folder.glob(f".*{_DRAFT}*"), *folder.glob(f".*{_DRAFT_FOLDER}")]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows has no handle of a folder to be synced
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_names(names: Sequence[str], empty: str) -> dict[str, str]:
    """Name -> a file's or folder's name of its own, also where file systems do not tell large from small letters.

    ``empty`` is what a name becomes of which nothing is left.
    """
    given: dict[str, str] = {}
    taken: set[str] = set()
    for wanted in names:
        plain = name = re.sub(r"[^\w.+-]", "_", wanted).lstrip(".") or empty
        number = 1
        while name.lower() in taken:
            number += 1
            name = f"{plain}-{number}"
        taken.add(name.lower())
        given[wanted] = name
    return given


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
