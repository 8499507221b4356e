"""What is read of a stranger's scene: a description (.mrml) reduced to what a page shows, its files looked at before.

MRML's reader opens every file that a description names, wherever it lies, and so do the readers of the files
themselves (a NRRD header may name the file of its voxels). It ends the process at some descriptions that make no
sense. So nothing reaches it but nodes of the kinds below, with files of the archive in formats whose headers are
looked at here (image_claims).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

from ..errors import InputError
from .image_claims import claimed_bytes, require_readable_segments

DISTRUST = "Do not open this file; get the scene from a source that you trust"
_SAVE_AGAIN = "Open it in Slicer and save it again as MRB"
# Project choices: a description of a study takes some 50 kB, its texts less, its images some 50 MB.
_MOST_TEXT_BYTES = 64 << 20
MOST_BYTES = 4 << 30
_DEEPEST = 64
_MOST_COLORS = 70_000  # those of a 16-bit label map

# MRML's names of what a page shows, and what that refers to. Others are passed over: models, sequences, scene views,
# parameters of modules, nodes of other extensions.
_SHOWN = {
    "Volume", "VolumeDisplay", "VolumeArchetypeStorage", "LabelMapVolume", "LabelMapVolumeDisplay",
    "Segmentation", "SegmentationDisplay", "SegmentationStorage", "Table", "TableStorage",
    "MarkupsFiducial", "MarkupsFiducialDisplay", "MarkupsDisplay", "MarkupsJsonStorage", "MarkupsFiducialStorage",
    "ColorTable", "ColorTableStorage", "LinearTransform", "SubjectHierarchy", "Slice", "SliceComposite", "View",
}  # fmt: skip
_TRANSFORMS = {"LinearTransform", "Transform", "BSplineTransform", "GridTransform"}
_MATRIX = "matrixTransformToParent"
# Of a slice, where it lies and what it shows; a stranger's numbers of pixels or of parts are not taken.
_OF_SLICES = {"id", "name", "singletonTag", "layoutName", "orientation", "orientationReference", "sliceToRAS"}
_ENDINGS = {
    "VolumeArchetypeStorage": (".nrrd", ".nii", ".nii.gz"),
    "SegmentationStorage": (".nrrd",),
    "TableStorage": (".tsv", ".csv"),
    "MarkupsJsonStorage": (".json",),
    "MarkupsFiducialStorage": (".fcsv",),
    "ColorTableStorage": (".csv", ".ctbl", ".txt"),
}
_NOT_FINITE = re.compile(r"[-+]?(nan|inf)", re.IGNORECASE)


def reduce_description(description: Path, source: str) -> None:
    """Write the .mrml file anew, as far as it may be read.

    Parameters
    ----------
    description : in the folder of the unpacked archive. source : what messages call the scene.

    Raises
    ------
    InputError : a damaged description, one that names a file outside of its archive, or with a file in it that
        cannot be read safely.
    """
    root, unread = _parsed(description, source)
    _require_linear(root, unread, source)
    inside, claimed, read = description.parent.resolve(), 0, {description.resolve()}
    for element in root:
        for key, value in list(element.attrib.items()):
            if not _is_kept(element.tag, key, value):
                del element.attrib[key]
        for file in _files_of(element.tag, element.attrib, inside, source):
            claimed += _looked_at(element.tag, file)
            read.add(file)
    if claimed > MOST_BYTES:
        raise InputError(f"the images of {source} take more than {MOST_BYTES >> 30} GiB of memory", DISTRUST)
    for file in inside.rglob("*"):  # MRML's reader takes files of a series that nobody named
        if file.is_file() and file not in read:
            file.unlink()
    ElementTree.ElementTree(root).write(description, encoding="UTF-8", xml_declaration=True)


class _Builder(ElementTree.TreeBuilder):
    """Builds the elements that are shown, without those around that are not."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self._source, self._open = source, []
        self.unread: set[str] = set()  # transforms, by their IDs

    def doctype(self, *_: Any) -> None:
        raise InputError(f"the scene {self._source} defines entities, which no scene of Slicer does", DISTRUST)

    def start(self, tag: str, attributes: Mapping[str, str]) -> Any:
        if len(self._open) == _DEEPEST:
            raise InputError(f"the scene {self._source} is nested more than {_DEEPEST} deep", DISTRUST)
        is_node = len(self._open) == 1
        is_kept = not self._open or (self._open[-1] and (not is_node or tag in _SHOWN))
        if is_node and tag in _TRANSFORMS and not (tag == "LinearTransform" and _has_matrix(attributes)):
            is_kept = False
            self.unread.add(attributes.get("id", ""))
        self._open.append(is_kept)
        return super().start(tag, dict(attributes)) if is_kept else None

    def end(self, tag: str) -> Any:
        return super().end(tag) if self._open.pop() else None

    def data(self, _: str) -> None:
        """MRML keeps nothing between its elements."""


def _parsed(description: Path, source: str) -> tuple[Any, set[str]]:
    """The description as far as it is shown, and the IDs of transforms that are not read."""
    if description.stat().st_size > _MOST_TEXT_BYTES:
        raise InputError(f"the description in {source} is larger than {_MOST_TEXT_BYTES >> 20} MiB", DISTRUST)
    builder = _Builder(source)
    try:
        root = ElementTree.parse(description, ElementTree.XMLParser(target=builder)).getroot()
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the others: of an encoding that there is not
        raise InputError(f"the scene in {source} is damaged ({error})", "Save the scene again as MRB") from error
    return root, builder.unread


def _has_matrix(attributes: Mapping[str, str]) -> bool:
    """Whether a transform's matrix stands in the description itself, so that its file (HDF5) need not be opened."""
    return _MATRIX in attributes and not _is_not_finite(attributes[_MATRIX])


def _require_linear(root: Any, unread: set[str], source: str) -> None:
    """Raise InputError where something stands under a transform that is not read: it would be shown elsewhere."""
    for element in root:
        references = re.findall(r"(?:^|;)\s*transform:([^;]*)", element.get("references", ""))
        named = {element.get("transformNodeRef"), *" ".join(references).split()}
        if named & unread:
            raise InputError(
                f"{element.get('name', element.tag)} in {source} stands under a transform that is not linear",
                "Harden the transform in Slicer (Data module, right click, Harden transform) and save the scene again",
            )


def _is_kept(tag: str, key: str, value: str) -> bool:
    """Whether an attribute reaches MRML's reader."""
    if tag == "Slice":
        return (key in _OF_SLICES or key.startswith("orientationMatrix")) and not _is_not_finite(value)
    if key == "numcolors":
        return value.isdigit() and int(value) <= _MOST_COLORS
    return key in ("id", "name", "description", "references", "attributes") or not _is_not_finite(value)


def _is_not_finite(value: str) -> bool:
    return any(_NOT_FINITE.fullmatch(word) for word in value.split())


def _files_of(tag: str, attributes: Mapping[str, str], inside: Path, source: str) -> list[Path]:
    """The files that a node names, of formats that are read. Raises InputError for others and for those outside."""
    files = []
    for key, value in attributes.items():
        if not key.lower().startswith(("filename", "filelistmember", "uri", "schemafilename")):
            continue
        named = unquote(value).strip()
        if not named:
            continue
        if key.lower().startswith("uri") or "://" in named or not _lies_in(inside, named):
            raise InputError(f"the scene {source} names a file outside of itself, {named[:80]!r}", DISTRUST)
        file = (inside / named).resolve()
        if not file.name.lower().endswith(_ENDINGS.get(tag, ())):
            raise InputError(
                f"the scene {source} holds {named[:80]}, in a format that is not opened here",
                f"Save it in Slicer in another ({', '.join(_ENDINGS.get(tag, ())) or 'none'})",
            )
        if not file.is_file():
            raise InputError(f"the scene {source} lacks its file {named[:80]!r}", _SAVE_AGAIN)
        files.append(file)
    return list(dict.fromkeys(files))


def _lies_in(inside: Path, named: str) -> bool:
    try:
        return "\\" not in named and (inside / named).resolve().is_relative_to(inside)
    except (OSError, ValueError):  # a null, or a name that no system has
        return False


def _looked_at(tag: str, file: Path) -> int:
    """How many bytes of memory a file claims. Raises InputError for one that must not be read."""
    if tag in ("VolumeArchetypeStorage", "SegmentationStorage"):
        if tag == "SegmentationStorage":
            require_readable_segments(file)
        return claimed_bytes(file)
    size = file.stat().st_size
    if size > _MOST_TEXT_BYTES:
        raise InputError(f"{file.name} is larger than {_MOST_TEXT_BYTES >> 20} MiB", DISTRUST)
    if file.suffix.lower() == ".json":
        _require_json(file)
    return size


def _require_json(file: Path) -> None:
    """MRML's reader descends as deep as a file is nested, and ends the process where that is too deep."""
    import json

    try:
        json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file.name} is no readable JSON ({type(error).__name__})", _SAVE_AGAIN) from error
