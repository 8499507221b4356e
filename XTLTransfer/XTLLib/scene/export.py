"""Scenes and segmentations as files that other software opens."""

from __future__ import annotations

import os
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import atomic_file
from .session import import_slicer

_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the same scene gives the same bytes
_BARE_AMPERSAND = re.compile(r"&(?!(?:amp|lt|gt|quot|apos|#[0-9]+|#x[0-9a-fA-F]+);)")
_STORED = (".nrrd", ".gz", ".png")  # compressed already


def save_scene(scene: Any, path: str | os.PathLike) -> None:
    """Write the whole scene with its data as an MRB file; the path appears whole or not at all.

    Nodes keep the file names they had. Saved again, an unchanged scene gives the same bytes: the
    archive's time stamps are constant.

    Raises
    ------
    InputError : the path does not end in .mrb, or a node cannot be written (named in the message).
    """
    path = Path(path)
    if path.suffix.lower() != ".mrb":
        raise InputError(f"the scene file {path} does not end in .mrb", "Give it the ending .mrb")
    slicer = import_slicer()
    name = path.stem.rstrip()
    with atomic_file(path) as draft, tempfile.TemporaryDirectory(dir=draft.parent, prefix=".scene.") as folder:
        bundle = Path(folder) / name
        bundle.mkdir()
        messages = slicer.vtkMRMLMessageCollection()
        if not scene.SaveSceneToSlicerDataBundleDirectory(str(bundle), None, messages):
            reason = messages.GetAllMessagesAsString() or "no reason given"
            raise InputError(
                f"the scene cannot be saved as {path} ({reason})", "Check the free space and the nodes it names"
            )
        _escape_ampersands(bundle)
        _zip_folder(bundle, draft)


def save_segmentation(node: Any, path: str | os.PathLike) -> None:
    """Write a segmentation node as .seg.nrrd: mask on the reference geometry, names, colours, terminology.

    Raises
    ------
    InputError : the path does not end in .seg.nrrd, or the file cannot be written.
    """
    path = Path(path)
    if not path.name.lower().endswith(".seg.nrrd"):
        raise InputError(f"the segmentation file {path} does not end in .seg.nrrd", "Give it the ending .seg.nrrd")
    slicer = import_slicer()
    storage = slicer.vtkMRMLSegmentationStorageNode()  # of its own: the node's own file name stays
    with atomic_file(path) as draft:
        storage.SetFileName(str(draft))
        if not storage.WriteData(node):
            reason = storage.GetUserMessages().GetAllMessagesAsString() or "no reason given"
            raise InputError(
                f"the segmentation {node.GetName()} cannot be written as {path} ({reason})",
                "Check the folder and the free space",
            )


def _escape_ampersands(folder: Path) -> None:
    """MRML writes names of files without escaping "&" (Slicer 5.13): such a scene could not be opened again."""
    for file in folder.glob("*.mrml"):
        text = file.read_text(encoding="utf-8")
        escaped = _BARE_AMPERSAND.sub("&amp;", text)
        if escaped != text:
            file.write_text(escaped, encoding="utf-8", newline="\n")


def _zip_folder(folder: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                entry = zipfile.ZipInfo(file.relative_to(folder.parent).as_posix(), _ZIP_DATE)
                entry.external_attr = 0o644 << 16
                entry.compress_type = zipfile.ZIP_STORED if file.suffix in _STORED else zipfile.ZIP_DEFLATED
                with open(file, "rb") as source, archive.open(entry, "w") as drain:
                    while block := source.read(1 << 20):
                        drain.write(block)
