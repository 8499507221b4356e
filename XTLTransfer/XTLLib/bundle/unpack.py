"""A bundle of somebody else, in a zip archive or a folder, copied to a new folder without any harm.

Only plain files are taken, under checked names and with plain permissions, up to stated sizes. Links, devices,
encrypted members, two members of one name and archives that unpack to far more than they are, are refused
before anything is written.
"""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from ..errors import InputError
from ..progress import Progress
from .hashes import is_ignored
from .members import checked_member, same_file_key

_BLOCK = 1 << 20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DISTRUST = "Do not use this file; get the model from a source that you trust"
_RATIO_COUNTS_FROM = 1 << 20  # a small file may shrink as much as it likes


@dataclass(frozen=True)
class Limits:
    """How much a bundle may hold. The defaults are a project choice, some ten times what the largest bundle needs.

    Attributes
    ----------
    files : number of files. file_bytes, total_bytes : size of one and of all, unpacked.
    text_bytes : size of one file that is no weights.
    ratio : unpacked size over packed size of one file.
    """

    files: int = 200
    file_bytes: int = 4 << 30
    total_bytes: int = 5 << 30
    text_bytes: int = 32 << 20
    ratio: float = 100.0


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class _Member:
    """A file to be taken: its path in the bundle, its size, and how it is opened."""

    path: str
    size: int
    open: Callable[[], BinaryIO]


def unpack_bundle(
    source: str | os.PathLike, target: Path, limits: Limits = DEFAULT_LIMITS, progress: Progress | None = None
) -> None:
    """Copy the bundle in ``source`` (a zip archive or a folder) into the empty folder ``target``.

    A bundle may lie at the archive's root or in its one folder. Hidden files, results of earlier runs
    (``eval``) and ``__MACOSX`` are left out.

    Raises
    ------
    InputError : names what is wrong with the source; ``target`` may then hold part of it.
    """
    source = Path(source)
    progress = progress or Progress()
    if source.is_dir():
        _take(_folder_members(source, limits), source, target, limits, progress)
        return
    if not source.is_file():
        raise InputError(f"{source} does not exist", "Name a bundle's folder or zip archive")
    try:
        with zipfile.ZipFile(source) as archive:
            _take(_archive_members(archive, source, limits), source, target, limits, progress)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(
            f"{source} is no whole zip archive ({reason})", "Name a bundle's folder or zip archive, or get it again"
        ) from error


def check_weights_archive(path: Path, limits: Limits = DEFAULT_LIMITS) -> None:
    """Raise InputError when a weights file, itself a zip archive, would unpack to more than it is."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(info.file_size for info in archive.infolist())
    except (zipfile.BadZipFile, ValueError) as error:
        raise InputError(f"the weights {path.name} are damaged", "Get the model again") from error
    if total > max(limits.text_bytes, 2 * path.stat().st_size):
        raise InputError(f"the weights {path.name} would unpack to {total} bytes", _DISTRUST)


def _archive_members(archive: zipfile.ZipFile, source: Path, limits: Limits) -> list[_Member]:
    infos = archive.infolist()
    if len(infos) > 4 * limits.files:
        raise InputError(f"{source} holds {len(infos)} files, {limits.files} are the most", _DISTRUST)
    members, seen = [], set()
    for info in infos:
        path = checked_member(info.orig_filename, source.name)
        key = same_file_key(path)
        if key in seen:
            raise InputError(f"{source} holds {path} twice", _DISTRUST)
        seen.add(key)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise InputError(f"{source} holds a link or a device, {path}", _DISTRUST)
        if info.is_dir():
            continue
        if kind == stat.S_IFDIR or info.flag_bits & 0x1 or info.compress_type not in _METHODS:
            raise InputError(f"{source} holds {path}, which is encrypted or packed in an unusual way", _DISTRUST)
        if info.file_size > _RATIO_COUNTS_FROM and info.file_size > limits.ratio * max(info.compress_size, 1):
            raise InputError(
                f"{source} holds {path}, which unpacks to more than {limits.ratio:g} times its size", _DISTRUST
            )
        members.append(_Member(path, info.file_size, partial(archive.open, info)))
    return _below_the_root(members, source)


def _folder_members(source: Path, limits: Limits) -> list[_Member]:
    members = []
    open_folders = [""]
    while open_folders:
        folder = open_folders.pop()
        with os.scandir(source / folder) as entries:
            for entry in entries:
                path = f"{folder}/{entry.name}".lstrip("/")
                if is_ignored(path) or is_ignored(f"{path}/x"):
                    continue
                checked_member(path, str(source))
                if entry.is_dir(follow_symlinks=False):
                    open_folders.append(path)
                elif entry.is_file(follow_symlinks=False):
                    size = entry.stat(follow_symlinks=False).st_size
                    members.append(_Member(path, size, partial((source / path).open, "rb")))
                else:
                    raise InputError(f"{source} holds a link or a device, {path}", "Copy the file itself in its place")
        if len(members) > limits.files:
            break
    return sorted(members, key=lambda member: member.path)


def _below_the_root(members: list[_Member], source: Path) -> list[_Member]:
    """The members with their paths in the bundle, which may lie in the archive's one folder."""
    members = [member for member in members if not is_ignored(member.path)]
    tops = {member.path.partition("/")[0] for member in members}
    if "configs" in tops:
        return members
    if len(tops) != 1 or any("/" not in member.path for member in members):
        raise InputError(f"{source} holds no bundle (there is no configs folder)", "Name a bundle's zip archive")
    return [_Member(member.path.partition("/")[2], member.size, member.open) for member in members]


def _take(members: list[_Member], source: Path, target: Path, limits: Limits, progress: Progress) -> None:
    total = sum(member.size for member in members)
    if len(members) > limits.files or total > limits.total_bytes:
        raise InputError(
            f"{source} holds {len(members)} files of {total} bytes, {limits.files} files of "
            f"{limits.total_bytes} bytes are the most",
            _DISTRUST,
        )
    files = {same_file_key(member.path) for member in members}
    for member in members:
        largest = limits.file_bytes if member.path.startswith("models/") else limits.text_bytes
        if member.size > largest:
            raise InputError(f"{source} holds {member.path} of {member.size} bytes, {largest} are the most", _DISTRUST)
        parts = same_file_key(member.path).split("/")
        if any("/".join(parts[:n]) in files for n in range(1, len(parts))):
            raise InputError(f"{source} holds a file and a folder of one name ({member.path})", _DISTRUST)
    if total > shutil.disk_usage(target).free:
        raise InputError(f"the {total / 1e6:.0f} MB of {source} do not fit on the disk of {target.parent}", "Make room")
    done = 0
    for member in members:
        path = target.joinpath(*member.path.split("/"))
        path.parent.mkdir(parents=True, exist_ok=True)
        with member.open() as stream, open(path, "xb") as out:
            left = member.size
            while block := stream.read(min(_BLOCK, left + 1)):
                left -= len(block)
                if left < 0:
                    raise InputError(f"{source} holds {member.path}, which is larger than it says", _DISTRUST)
                out.write(block)
                done += len(block)
                progress.report("Copying the model", done / max(total, 1))
