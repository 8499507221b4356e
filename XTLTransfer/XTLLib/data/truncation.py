"""Noticing image files that were cut off: SimpleITK reads a cut NIfTI without a word and gives zeros or noise."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

from ..errors import InputError

_META_BYTES = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG": 4, "LONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}
_BLOCK = 1 << 20


def require_whole(path: Path) -> None:
    """Raise InputError when a NIfTI, MetaImage or JPEG file ends before its data do.

    What cannot be told (another format, a header that makes no sense) is left to the reader. NRRD, PNG
    and TIFF need no check here: SimpleITK refuses them when they are cut off.
    """
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz", ".hdr", ".img", ".hdr.gz", ".img.gz")):
        _check_nifti(path)
    elif name.endswith((".mha", ".mhd")):
        _check_meta(path)
    elif name.endswith((".jpg", ".jpeg")) and b"\xff\xd9" not in path.read_bytes()[-1024:]:
        raise _truncated(path, "its end marker is missing")


def _truncated(path: Path, detail: str) -> InputError:
    return InputError(f"the image file {path} is truncated: {detail}", "Copy, download or export it again")


def _check_nifti(path: Path) -> None:
    header_file, data_file = _nifti_files(path)
    if not header_file.is_file() or not data_file.is_file():
        return  # half of a pair; SimpleITK says so
    packed = _is_gzip(header_file)
    try:
        with gzip.open(header_file) if packed else open(header_file, "rb") as stream:
            header = stream.read(540)
    except (OSError, EOFError, zlib.error) as error:
        raise _truncated(header_file, "it ends within the header") from error
    if len(header) < 348:
        raise _truncated(header_file, "it ends within the header")
    needed = _nifti_bytes(header)
    if needed is None:
        return
    if not _is_gzip(data_file):
        size = data_file.stat().st_size
        if size < needed:
            raise _truncated(data_file, f"{size} of {needed} bytes are there")
    elif _stated_size(data_file) != needed % (1 << 32):
        # A gzip file ends with its content's size; where that says something else, only unpacking tells
        # whether the file is cut off, or has several members, or bytes after the image.
        there = _unpacked_size(data_file)
        if there is None or there < needed:
            raise _truncated(data_file, f"it does not unpack to the {needed} bytes that its header promises")


def _nifti_files(path: Path) -> tuple[Path, Path]:
    """The files of the header and of the voxels: one, or a pair such as ``.hdr`` and ``.img.gz``."""
    for suffix in (".hdr", ".img", ".hdr.gz", ".img.gz"):
        if path.name.lower().endswith(suffix):
            stem = path.name[: -len(suffix)]
            pair = [[path.with_name(stem + kind + pack) for pack in ("", ".gz")] for kind in (".hdr", ".img")]
            return tuple(next((file for file in choice if file.is_file()), choice[0]) for choice in pair)
    return path, path


def _nifti_bytes(header: bytes) -> int | None:
    """How many bytes the file should have: offset of the data plus voxels times bytes a voxel."""
    for order in "<>":
        (size,) = struct.unpack_from(order + "i", header, 0)
        if size == 348:
            dims = struct.unpack_from(order + "8h", header, 40)
            (bits,) = struct.unpack_from(order + "h", header, 72)
            (offset,) = struct.unpack_from(order + "f", header, 108)
        elif size == 540 and len(header) >= 540:
            dims = struct.unpack_from(order + "8q", header, 16)
            (bits,) = struct.unpack_from(order + "h", header, 14)
            (offset,) = struct.unpack_from(order + "q", header, 168)
        else:
            continue
        if not 1 <= dims[0] <= 7 or bits <= 0 or not 0 <= offset < 1 << 31:
            return None
        return int(offset) + math.ceil(math.prod(max(1, n) for n in dims[1 : dims[0] + 1]) * bits / 8)
    return None


def _check_meta(path: Path) -> None:
    header, after = _meta_header(path)
    if "ElementDataFile" not in header:
        raise _truncated(path, "it ends within the header")
    try:
        count = math.prod(int(n) for n in header["DimSize"].split()) * int(header.get("ElementNumberOfChannels", "1"))
        needed = (
            count * _META_BYTES[header["ElementType"].removeprefix("MET_").removeprefix("U").removesuffix("_ARRAY")]
        )
        if header.get("CompressedData", "False").lower() == "true":
            needed = int(header["CompressedDataSize"])
        source = header["ElementDataFile"]
        skipped = max(0, int(header.get("HeaderSize", "0")))
    except (KeyError, ValueError):
        return
    if source.upper() == "LOCAL":
        data_file, there = path, path.stat().st_size - after
    elif source.upper() == "LIST" or "%" in source:
        return
    else:
        data_file = path.parent / source
        if not data_file.is_file():
            raise InputError(
                f"the image file {path} needs {data_file}, which does not exist", "Keep both files together"
            )
        there = data_file.stat().st_size - skipped
    if there < needed:
        raise _truncated(data_file, f"{there} of {needed} bytes of its voxels are there")


def _meta_header(path: Path) -> tuple[dict[str, str], int]:
    """The "key = value" lines, up to ElementDataFile, and the offset of what follows them."""
    header: dict[str, str] = {}
    with open(path, "rb") as stream:
        for _ in range(200):
            line = stream.readline(65536)
            key, separator, value = line.decode("latin-1").partition("=")
            if not separator:
                break
            header[key.strip()] = value.strip()
            if key.strip() == "ElementDataFile":
                break
        return header, stream.tell()


def _is_gzip(path: Path) -> bool:
    with open(path, "rb") as stream:
        return stream.read(2) == b"\x1f\x8b"


def _stated_size(path: Path) -> int:
    with open(path, "rb") as stream:
        stream.seek(-4, 2)
        return struct.unpack("<I", stream.read(4))[0]


def _unpacked_size(path: Path) -> int | None:
    """How many bytes a gzip file gives; None when it does not end as a gzip file does."""
    count = 0
    try:
        with gzip.open(path) as stream:
            while block := stream.read(_BLOCK):
                count += len(block)
    except (OSError, EOFError, zlib.error):
        return None
    return count
