"""A scene file (MRB) of anybody's, opened in a scene of its own, without Slicer around."""

from __future__ import annotations

import os
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..bundle.members import checked_member, same_file_key
from ..errors import InputError
from .scene_description import DISTRUST, MOST_BYTES, reduce_description
from .session import Session, open_session, silent_vtk

_MOST_FILES = 5000  # a project choice
_BLOCK = 1 << 20


@contextmanager
def open_scene(path: str | os.PathLike) -> Iterator[Session]:
    """Read an MRB file into a new scene, which is emptied at the end of the block.

    Only files of the archive are read: a scene that names others, on this machine or elsewhere, is refused. Nodes
    that no page shows (models, sequences, ...) are passed over; see scene_description.

    Raises
    ------
    InputError : no such file, no MRB file, or one that names files outside of itself.
    MissingPackageError : slicer-core is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"the scene file {path} does not exist", "Name an .mrb file, for example build/demo/scene.mrb")
    if path.suffix.lower() != ".mrb":
        raise InputError(f"{path} is not a scene file", "Name a file that ends in .mrb")
    session = open_session()
    try:
        with tempfile.TemporaryDirectory(prefix="xtl-scene-") as folder:  # of a patient's images: gone when read
            description = _unpack(path, Path(folder))
            reduce_description(description, str(path))
            with silent_vtk():  # views of another layout, and models that are not shown, are reported at length
                session.scene.SetURL(str(description))
                if not session.scene.Import():
                    raise InputError(f"the scene {path} cannot be read", "Open it in Slicer and save it again")
        yield session
    finally:
        session.close()


def _unpack(path: Path, folder: Path) -> Path:
    """Unpack into an empty folder; returns the .mrml file."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            if len(infos) > _MOST_FILES or sum(info.file_size for info in infos) > MOST_BYTES:
                raise InputError(f"{path} unpacks to more than {MOST_BYTES >> 30} GiB or {_MOST_FILES} files", DISTRUST)
            seen: set[str] = set()
            for info in infos:
                _take(archive, info, path, folder, seen)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{path} is no whole scene file", "Save the scene again as MRB") from error
    found = sorted([*folder.glob("*.mrml"), *folder.glob("*/*.mrml")])
    if len(found) != 1:
        raise InputError(f"{path} holds {len(found)} scenes, not one", "Name a scene file that Slicer or XTL saved")
    return found[0]


def _take(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, folder: Path, seen: set[str]) -> None:
    name = checked_member(info.orig_filename, path.name)
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG) or same_file_key(name) in seen:
        raise InputError(f"{path} holds a link, a device or one file twice, {name}", DISTRUST)
    seen.add(same_file_key(name))
    target = folder.joinpath(*name.split("/"))
    target.parent.mkdir(parents=True, exist_ok=True)
    left = info.file_size
    with archive.open(info) as stream, open(target, "xb") as out:
        while block := stream.read(min(_BLOCK, left + 1)):
            left -= len(block)
            if left < 0:
                raise InputError(f"{path} holds {name}, which is larger than it says", DISTRUST)
            out.write(block)
