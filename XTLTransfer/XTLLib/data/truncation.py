"""Noticing image files that were cut off: SimpleITK reads a cut NIfTI without a word and gives zeros or noise."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

from ..errors import InputError
from .nifti import ENDINGS, files_of, is_gzip, read_header

_META_BYTES = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG": 4, "LONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}
_BLOCK = 1 << 20


def require_whole(path: Path) -> None:
    """Raise InputError when a NIfTI, MetaImage or JPEG file ends before its data do.

    What cannot be told (another format, a header that makes no sense) is left to the reader. NRRD, PNG
    and TIFF need no check here: SimpleITK refuses them when they are cut off.
    """
    name = path.name.lower()
    if name.endswith(ENDINGS):
        _check_nifti(path)
    elif name.endswith((".mha", ".mhd")):
        _check_meta(path)
    elif name.endswith((".jpg", ".jpeg")) and b"\xff\xd9" not in path.read_bytes()[-1024:]:
        raise _truncated(path, "its end marker is missing")


def _truncated(path: Path, detail: str) -> InputError:
    return InputError(f"the image file {path} is truncated: {detail}", "Copy, download or export it again")


def _check_nifti(path: Path) -> None:
    header_file, data_file = files_of(path)
    for file in (header_file, data_file):
        if not file.is_file():
            raise InputError(f"the image file {path} needs {file}, which does not exist", "Keep both files together")
    try:
        header = read_header(header_file)
    except EOFError as error:
        raise _truncated(header_file, "it ends within the header") from error
    if header is None:
        return
    needed = header.offset + header.bytes
    if not is_gzip(data_file):
        size = data_file.stat().st_size
        if size < needed:
            raise _truncated(data_file, f"{size} of {needed} bytes are there")
    elif stated_size(data_file) != needed % (1 << 32):
        # A gzip file ends with its content's size; where that says something else, only unpacking tells
        # whether the file is cut off, or has several members, or bytes after the image.
        there = _unpacked_size(data_file)
        if there is None or there < needed:
            raise _truncated(data_file, f"it does not unpack to the {needed} bytes that its header promises")


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


def stated_size(path: Path) -> int:
    """What the last four bytes of a gzip file say: the size of its content, modulo 4 GiB."""
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
