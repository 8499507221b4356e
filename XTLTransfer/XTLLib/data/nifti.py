"""NIfTI headers, and the voxels of floating-point NIfTI files as they are stored.

ITK's NIfTI reader turns NaN and infinite voxels into 0 without a word; a scan with NaN would then be
segmented as if nothing were wrong. Floating-point voxels are therefore read here, geometry by SimpleITK.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ENDINGS = (".nii", ".nii.gz", ".hdr", ".img", ".hdr.gz", ".img.gz")
_FLOATS = {16: "f4", 64: "f8"}


@dataclass(frozen=True)
class NiftiHeader:
    """What a NIfTI-1 header says (ITK does not read NIfTI-2) of the stored voxels.

    Attributes
    ----------
    order : "<" or ">". offset : of the first voxel in its file. counts : voxels along each dimension.
    datatype, bits : NIfTI's code and the bits a voxel. slope, intercept : of the scale, (1, 0) for none.
    """

    order: str
    offset: int
    counts: tuple[int, ...]
    datatype: int
    bits: int
    slope: float
    intercept: float

    @property
    def bytes(self) -> int:
        """Bytes that all voxels take."""
        return math.ceil(math.prod(self.counts) * self.bits / 8)


def files_of(path: Path) -> tuple[Path, Path]:
    """The files of the header and of the voxels: one, or a pair such as ``.hdr`` and ``.img.gz``."""
    for suffix in (".hdr", ".img", ".hdr.gz", ".img.gz"):
        if path.name.lower().endswith(suffix):
            stem = path.name[: -len(suffix)]
            packs = (".gz", "") if suffix.endswith(".gz") else ("", ".gz")
            pair = [[path.with_name(stem + kind + pack) for pack in packs] for kind in (".hdr", ".img")]
            return tuple(next((file for file in choice if file.is_file()), choice[0]) for choice in pair)
    return path, path


def read_header(path: Path) -> NiftiHeader | None:
    """The header of a file, None when it is not NIfTI-1's. Raises EOFError when the file ends within it."""
    try:
        with gzip.open(path) if is_gzip(path) else open(path, "rb") as stream:
            content = stream.read(348)
    except (OSError, zlib.error) as error:
        raise EOFError(str(error)) from error
    if len(content) < 348:
        raise EOFError("fewer bytes than a header has")
    for order in "<>":
        (size,) = struct.unpack_from(order + "i", content, 0)
        if size != 348:
            continue
        dims = struct.unpack_from(order + "8h", content, 40)
        datatype, bits = struct.unpack_from(order + "2h", content, 70)
        offset, slope, intercept = struct.unpack_from(order + "3f", content, 108)
        if not 1 <= dims[0] <= 7 or bits <= 0 or not 0 <= offset < 1 << 31:
            return None
        counts = tuple(max(1, n) for n in dims[1 : dims[0] + 1])
        if not math.isfinite(slope) or not math.isfinite(intercept) or slope == 0:
            slope, intercept = 1.0, 0.0
        return NiftiHeader(order, int(offset), counts, datatype, bits, slope, intercept)
    return None


def read_floats(path: Path) -> np.ndarray | None:
    """The voxels (K, J, I) of a whole floating-point 3D NIfTI file, scaled; None for any other file."""
    if not path.name.lower().endswith(ENDINGS):
        return None
    header_file, data_file = files_of(path)
    header = read_header(header_file)
    if header is None or header.datatype not in _FLOATS or math.prod(header.counts[3:]) != 1 or len(header.counts) < 3:
        return None
    content = data_file.read_bytes()
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    kind = np.dtype(header.order + _FLOATS[header.datatype])
    voxels = np.frombuffer(content, kind, math.prod(header.counts), header.offset)
    voxels = voxels.astype(kind.newbyteorder("=")).reshape(header.counts[2::-1])
    if (header.slope, header.intercept) != (1.0, 0.0):
        voxels = (voxels * header.slope + header.intercept).astype(voxels.dtype)
    return voxels


def is_gzip(path: Path) -> bool:
    """Whether a file begins as a gzip file does."""
    with open(path, "rb") as stream:
        return stream.read(2) == b"\x1f\x8b"
