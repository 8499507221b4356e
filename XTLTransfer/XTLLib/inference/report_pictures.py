"""Pictures of single lesions for the report page: three planes through each, with its outline, as PNG."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..data.geometry import Grid
from ..data.volume import Volume, resample
from ..metrics.components import bounding_box

_SIDE = 168  # pixels of a lesion's picture
_OVERVIEW_SIDE = 300
_FIELD_MM, _STEP_MM, _MARGIN = 40.0, 20.0, 1.4
_GREYS = 248  # of 256 entries in the palette; the others are the colours of outlines
_MARK, _OTHER, _SHADE = 250, 251, 252
_PALETTE = np.zeros((256, 3), np.uint8)
_PALETTE[:_GREYS] = np.linspace(0, 255, _GREYS).round()[:, None]
_PALETTE[_MARK], _PALETTE[_OTHER], _PALETTE[_SHADE] = (255, 176, 0), (86, 180, 233), (214, 120, 30)


@dataclass(frozen=True)
class Picture:
    """One plane through a lesion.

    Attributes
    ----------
    plane : "axial", "coronal" or "sagittal". left, top : the letters of the patient's directions there.
    field_mm : what the side of the square shows. png : the file's bytes.
    """

    plane: str
    left: str
    top: str
    field_mm: float
    png: bytes

    @property
    def uri(self) -> str:
        """The picture within an HTML page."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


# Of each plane: the axes, in an array [k, j, i] along LPS, of its rows, columns and view; +1 where k or j grows
# downwards; the letters at its left and its top.
_PLANES = (
    ("axial", 1, 2, 0, 1, "R", "A"),
    ("coronal", 0, 2, 1, -1, "R", "S"),
    ("sagittal", 0, 1, 2, -1, "A", "S"),
)


class Illustrator:
    """Draws the lesions of one case.

    Parameters
    ----------
    image : what lies behind, on any grid that overlaps. label : lesions' values on the grid that the planes follow.
    """

    def __init__(self, image: Volume, label: Volume) -> None:
        grid = label.grid
        moved = resample(image, grid)
        self._image = np.asarray(grid.to_along_lps(moved.array), np.float32)
        self._label = np.asarray(grid.to_along_lps(label.array))
        self._grid: Grid = grid.along_lps()
        self._mm = np.array(self._grid.spacing_mm[::-1])
        there = self._image[self._image > 0]
        low, high = np.percentile(there[:: max(1, there.size // 200_000)], (1, 99.7)) if there.size else (0.0, 1.0)
        self._low, self._scale = float(low), (_GREYS - 1) / max(float(high) - float(low), 1e-6)

    def lesion(self, value: int, box: tuple[slice, slice, slice] | None = None) -> tuple[Picture, ...]:
        """Axial, coronal and sagittal picture through the slices that show most of a lesion, an orange line round it.

        Other lesions have a blue one. All three show the same field: 40 mm, more for large lesions.

        Parameters
        ----------
        box : of the lesion in the map along LPS, where it is known (see ``boxes``).
        """
        box = box or bounding_box(self._label == value)
        if box is None:
            return ()
        mask = self._label[box] == value
        start = np.array([part.start for part in box])
        sides = np.array(mask.shape) * self._mm
        field = max(_FIELD_MM, _STEP_MM * np.ceil(_MARGIN * sides.max() / _STEP_MM))
        middle = start + (np.array(mask.shape) - 1) / 2
        pictures = []
        for plane, rows, columns, view, down, left, top in _PLANES:
            others = tuple(axis for axis in range(3) if axis != view)
            sizes = mask.sum(axis=others)
            largest = np.flatnonzero(sizes == sizes.max())
            at = int(start[view] + largest[len(largest) // 2])
            pixels = self._draw(view, at, (rows, columns), middle, field, down, value)
            pictures.append(Picture(plane, left, top, float(field), _png(pixels)))
        return tuple(pictures)

    def boxes(self) -> dict[int, tuple[slice, slice, slice]]:
        """The box of every lesion at a cost of one pass."""
        from scipy.ndimage import find_objects

        return {value: box for value, box in enumerate(find_objects(self._label), start=1) if box is not None}

    def overview(self, value: int | None) -> tuple[Picture, ...]:
        """The whole head in three planes through a lesion (None: through the middle), all lesions projected onto it."""
        everything = tuple(slice(0, n) for n in self._image.shape)
        head = bounding_box((self._image > self._low) | (self._label > 0)) or everything
        middle = np.array([(part.start + part.stop - 1) / 2 for part in head])
        where = np.argwhere(self._label == value) if value is not None else np.zeros((0, 3))
        through = np.rint(where.mean(axis=0) if len(where) else middle).astype(int)
        field = max((part.stop - part.start) * mm for part, mm in zip(head, self._mm)) + 6.0
        pictures = []
        for plane, rows, columns, view, down, left, top in _PLANES:
            pixels = self._overview(view, int(through[view]), (rows, columns), middle, field, down)
            pictures.append(Picture(plane, left, top, float(field), _png(pixels)))
        return tuple(pictures)

    def _draw(self, view, at, plane, middle, field, down, value) -> np.ndarray:
        places = self._places(plane, middle, field, down, _SIDE)
        pixels = self._grey(self._image.take(at, axis=view), places)
        label = self._label.take(at, axis=view)
        pixels[_around(_sampled(((label > 0) & (label != value)).astype(np.float32), places) >= 0.5)] = _OTHER
        pixels[_around(_sampled((label == value).astype(np.float32), places) >= 0.5)] = _MARK
        return pixels

    def _overview(self, view, at, plane, middle, field, down) -> np.ndarray:
        places = self._places(plane, middle, field, down, _OVERVIEW_SIDE)
        pixels = self._grey(self._image.take(at, axis=view), places)
        shadow = _sampled((self._label > 0).any(axis=view).astype(np.float32), places) >= 0.5
        checked = np.indices(pixels.shape).sum(axis=0) % 2 == 0
        pixels[shadow & checked] = _SHADE  # every other pixel: what lies behind stays visible
        pixels[_around(shadow)] = _MARK
        return pixels

    def _places(self, plane, middle, field, down, side) -> np.ndarray:
        """Where the pixels lie in the slice: (2, side, side) indices along its rows and columns."""
        offsets = (np.arange(side) + 0.5) / side - 0.5
        rows = middle[plane[0]] + down * offsets * field / self._mm[plane[0]]
        columns = middle[plane[1]] + offsets * field / self._mm[plane[1]]
        return np.stack(np.meshgrid(rows, columns, indexing="ij"))

    def _grey(self, plane: np.ndarray, places: np.ndarray) -> np.ndarray:
        values = (_sampled(plane, places) - self._low) * self._scale
        return np.clip(values, 0, _GREYS - 1).astype(np.uint8)


def _sampled(plane: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Linear between voxel centres, constant in the outer half of the border voxels, 0 beyond."""
    from scipy.ndimage import map_coordinates

    sizes = np.array(plane.shape)[:, None, None]
    inside = ((places >= -0.5) & (places <= sizes - 0.5)).all(axis=0)
    return map_coordinates(plane, places, order=1, mode="nearest") * inside


def _around(mask: np.ndarray) -> np.ndarray:
    """The pixels just outside of a mask, two wide: what it holds stays to be seen."""
    from scipy.ndimage import binary_dilation, generate_binary_structure

    return binary_dilation(mask, generate_binary_structure(2, 2), iterations=2) & ~mask


def _png(indices: np.ndarray) -> bytes:
    """An indexed PNG (uint8, rows by columns) with our palette."""
    height, width = indices.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), indices], axis=1)  # each begins with its filter: none
    chunks: Sequence[tuple[bytes, bytes]] = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", _PALETTE.tobytes()),
        (b"IDAT", zlib.compress(rows.tobytes(), 6)),
        (b"IEND", b""),
    )
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, data in chunks:
        parts.append(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))
    return b"".join(parts)
