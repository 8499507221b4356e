"""What the images of a stranger claim, known from their headers before a reader makes room for it."""

from __future__ import annotations

import math
import re
from pathlib import Path

from ..data.nifti import ENDINGS as NIFTI_ENDINGS
from ..data.nifti import read_header
from ..data.truncation import require_whole, stated_size
from ..errors import InputError

_REMEDY = "Open the scene in Slicer and save it again as MRB"
_MOST_HEADER_BYTES = 1 << 20  # of segments with their names
_MOST_RATIO = 1100  # deflate packs 1032 bytes into one at best
_TYPES = {
    1: ("char", "signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"),
    2: ("short", "short int", "signed short", "signed short int", "int16", "int16_t", "ushort", "unsigned short",
        "unsigned short int", "uint16", "uint16_t"),
    4: ("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t", "float"),
    8: ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t",
        "ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t", "double"),
}  # fmt: skip
_BYTES = {name: size for size, names in _TYPES.items() for name in names}
_PLACE = ("spacedirections", "spaceorigin", "spacings", "measurementframe")
_NOT_FINITE = re.compile("nan|inf", re.IGNORECASE)
_EXTENT = re.compile(r"Segment\d+_Extent")
_REPRESENTATIONS = frozenset(("Binary labelmap", "Closed surface"))


def claimed_bytes(file: Path) -> int:
    """How many bytes the voxels of a NRRD or NIfTI file take.

    Raises
    ------
    InputError : no such file, one that holds less than it claims, or a NRRD file whose voxels lie in another file.
    """
    if file.name.lower().endswith(NIFTI_ENDINGS):
        return _nifti_bytes(file)
    header, offset = _nrrd_header(file)
    if "datafile" in header:
        raise InputError(f"the image {file.name} names another file, {header['datafile'][:80]!r}", _REMEDY)
    claimed = math.prod(_sizes(header, file)) * _BYTES[header["type"].lower()]
    encoding = header.get("encoding", "raw").lower()
    _require_room(file, claimed, file.stat().st_size - offset, encoding == "raw")
    if encoding in ("gzip", "gz") and stated_size(file) != claimed % (1 << 32):  # else its end would be missing unsaid
        raise _damaged(file, "it is cut off")
    if any(_NOT_FINITE.search(value) for key, value in header.items() if key in _PLACE):
        raise _damaged(file, "its place in space is not finite")
    return claimed


def require_readable_segments(file: Path) -> None:
    """Raise InputError for a .seg.nrrd file with parts that do not lie in its image, or other representations.

    MRML makes room for a part as it is said to be, and ends the process where there is none.
    """
    header, _ = _nrrd_header(file)
    sizes = _sizes(header, file)[-3:]
    for key, value in header.items():
        if _EXTENT.fullmatch(key):
            low, high = (_whole(value, file, 6)[first::2] for first in (0, 1))
            if any(b >= a for a, b in zip(low, high)) and not all(
                a >= 0 and b < size for a, b, size in zip(low, high, sizes)
            ):
                raise _damaged(file, f"{key} is {value[:40]}")
        if key == "Segmentation_ReferenceImageExtentOffset" and max(map(abs, _whole(value, file, 3))) >= 1 << 24:
            raise _damaged(file, f"{key} is {value[:40]}")
        is_kind = key in ("Segmentation_MasterRepresentation", "Segmentation_SourceRepresentation")
        if is_kind and value != "Binary labelmap":
            raise _damaged(file, f"{key} is {value[:40]}")
        if key == "Segmentation_ContainedRepresentationNames" and not set(filter(None, value.split("|"))) <= (
            _REPRESENTATIONS
        ):
            raise _damaged(file, f"{key} is {value[:60]}")


def _nifti_bytes(file: Path) -> int:
    try:
        header = read_header(file)
    except EOFError as error:
        raise _damaged(file, "it ends within the header") from error
    if header is None:
        raise _damaged(file, "no NIfTI header")
    _require_room(file, header.bytes, file.stat().st_size, False)
    require_whole(file)
    return header.bytes


def _require_room(file: Path, claimed: int, there: int, is_raw: bool) -> None:
    if claimed > there * (1 if is_raw else _MOST_RATIO):
        raise _damaged(file, f"it claims {claimed} bytes of voxels, {there} bytes are there")


def _nrrd_header(file: Path) -> tuple[dict[str, str], int]:
    """Fields (names in small letters, without blanks) and key/value pairs (as they are), and where the voxels begin."""
    with open(file, "rb") as stream:
        head, separator, _ = stream.read(_MOST_HEADER_BYTES).partition(b"\n\n")
    if not head.startswith(b"NRRD000") or not separator or b"\r" in head:
        raise _damaged(file, "no NRRD header as Slicer writes it")
    header: dict[str, str] = {}
    for line in head.decode("utf-8", "replace").split("\n")[1:]:
        key, _, value = line.partition(":")
        if line.startswith("#"):
            continue
        if not value.startswith("="):
            key = "".join(key.split()).lower()
        if key in header:  # which of them a reader takes is not known
            raise _damaged(file, f"{key[:40]} is said twice")
        header[key] = value.removeprefix("=").strip()
    if header.get("type", "").lower() not in _BYTES:
        raise _damaged(file, f"its type is {header.get('type', 'missing')[:40]}")
    return header, len(head) + len(separator)


def _sizes(header: dict[str, str], file: Path) -> list[int]:
    sizes = _whole(header.get("sizes", ""), file, None)
    if not 1 <= len(sizes) <= 16 or min(sizes) < 1:
        raise _damaged(file, f"its sizes are {header.get('sizes', 'missing')[:40]}")
    return sizes


def _whole(text: str, file: Path, count: int | None) -> list[int]:
    try:
        numbers = [int(word) for word in text.split()]
    except ValueError as error:
        raise _damaged(file, f"{text[:40]!r} are no whole numbers") from error
    if count is not None and len(numbers) != count:
        raise _damaged(file, f"{text[:40]!r} are not {count} numbers")
    return numbers


def _damaged(file: Path, why: str) -> InputError:
    return InputError(f"the image {file.name} of the scene is damaged ({why})", _REMEDY)
