"""Mammograms: reading a film and making it a network's input."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from .images import reason_of
from .truncation import require_whole

SUFFIXES = (".png", ".pgm", ".tif", ".tiff", ".jpg", ".jpeg", ".dcm")
_SMALLEST_FILM = 16
_COARSE_PIXELS = 96
_BACKGROUND_SHARE = 0.08
_CLIP_PERCENTILES = (0.5, 99.5)


def read_mammogram(path: str | os.PathLike) -> np.ndarray:
    """Read a 2D image (PNG, PGM, TIFF, JPEG; 8 or 16 bit; grey or RGB; DICOM) as float32 (H, W), tissue bright.

    ITK inverts DICOM images of MONOCHROME1, so that dense tissue is bright in every file.

    Raises
    ------
    InputError : the file is missing, unreadable or truncated, not one 2D image, or constant.
    """
    import SimpleITK

    path = Path(path)
    if not path.is_file():
        raise InputError(f"the mammogram {path} does not exist", "Check the path")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"the mammogram {path} is of no kind that is read", f"Convert it to one of: {', '.join(SUFFIXES)}"
        )
    if path.suffix.lower() == ".pgm":
        return _require_film(_read_pgm(path), path)
    require_whole(path)
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        image = SimpleITK.ReadImage(str(path))
    except RuntimeError as error:
        raise InputError(f"the mammogram {path} cannot be read ({reason_of(error)})", "Check the file") from error
    array = SimpleITK.GetArrayFromImage(image).astype(np.float32)
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = array[..., :3].mean(axis=-1)
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    return _require_film(array, path)


def prepare_mammogram(image: np.ndarray, size: int) -> np.ndarray:
    """The breast of a film, chest wall at the left: float32 (size, size).

    The largest bright region is the breast; burned-in markers and the film's background are cut away.
    The breast's box is scaled with its aspect kept so that its longer side is ``size``, centred
    vertically; intensities are clipped to the breast's 0.5-99.5 percentiles, have zero mean and unit SD
    in the breast, and are 0 outside it.

    Parameters
    ----------
    image : (H, W), tissue bright.
    """
    box, breast, place = _breast_box(image, size)
    height, width = place.height, place.width
    tissue = _resize(box, height, width)
    inside = _resize(breast.astype(np.float32), height, width) > 0.25
    values = tissue[inside]
    values = np.clip(values, *np.percentile(values, _CLIP_PERCENTILES))
    result = np.zeros((size, size), dtype=np.float32)
    result[place.first_row : place.first_row + height, :width][inside] = (values - values.mean()) / max(
        float(values.std()), 1e-6
    )
    return result


def positions_in_prepared(image: np.ndarray, size: int, positions: np.ndarray) -> np.ndarray:
    """Where pixels (n, 2) [row, column] of a film lie in ``prepare_mammogram(image, size)``: float (n, 2)."""
    _, _, place = _breast_box(image, size)
    rows, columns = np.asarray(positions, dtype=float).reshape(-1, 2).T
    if place.is_mirrored:
        columns = np.asarray(image).shape[1] - 1 - columns
    moved = [(rows - place.top + 0.5) * place.factor - 0.5 + place.first_row]
    moved.append((columns - place.left + 0.5) * place.factor - 0.5)
    return np.stack(moved, axis=1)


@dataclass(frozen=True)
class _Place:
    """How a breast's box (corner ``top``, ``left`` in the film, mirrored or not) lies in the prepared image."""

    top: int
    left: int
    is_mirrored: bool
    factor: float
    height: int
    width: int
    first_row: int


def _breast_box(image: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, _Place]:
    """The film's pixels in the breast's box, chest wall at the left; the breast on a coarse raster; the place."""
    image = np.asarray(image, dtype=np.float32)
    breast, step = _breast_mask(image)
    is_mirrored = _side_of(breast) == "right"
    if is_mirrored:
        image, breast = image[:, ::-1], breast[:, ::-1]
    rows, columns = (np.flatnonzero(breast.any(axis=axis)) for axis in (1, 0))
    breast = breast[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    top, left = int(rows[0]) * step, int(columns[0]) * step
    box = image[top : (rows[-1] + 1) * step, left : (columns[-1] + 1) * step]
    factor = size / max(box.shape)
    height, width = (max(1, round(length * factor)) for length in box.shape)
    return box, breast, _Place(top, left, is_mirrored, factor, height, width, (size - height) // 2)


def find_chest_wall(image: np.ndarray) -> str:
    """Which side of the film the chest wall is on: "left" or "right"; the breast leans on it.

    Right on 262 of the 264 MIAS films; the other two are filled by a breast whose edges are both cropped.
    """
    return _side_of(_breast_mask(image)[0])


def _side_of(breast: np.ndarray) -> str:
    columns = breast.sum(axis=0)
    half = len(columns) // 2
    return "right" if columns[-half:].sum() > columns[:half].sum() else "left"


def _require_film(array: np.ndarray, path: Path) -> np.ndarray:
    if array.ndim != 2 or min(array.shape) < _SMALLEST_FILM:
        raise InputError(f"the mammogram {path} is not one 2D image (shape {array.shape})", "Give one film a file")
    if not np.isfinite(array).all() or np.ptp(array) == 0:
        raise InputError(f"the mammogram {path} is constant or not finite", "Check that the right image was chosen")
    return array


def _read_pgm(path: Path) -> np.ndarray:
    """A binary portable grey map (netpbm "P5", up to 16 bit, the larger byte first), which ITK does not read."""
    content = path.read_bytes()
    header = re.match(rb"P5(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)\s", content)
    if header is None:
        raise InputError(f"the mammogram {path} is not a binary PGM image (P5)", "Convert it to PNG")
    width, height, largest = map(int, header.groups())
    kind = np.dtype(">u2" if largest > 255 else "u1")
    needed = width * height * kind.itemsize
    if len(content) - header.end() < needed:
        raise InputError(
            f"the mammogram {path} is truncated: {len(content) - header.end()} of {needed} bytes are there",
            "Copy, download or export it again",
        )
    return np.frombuffer(content, kind, width * height, header.end()).reshape(height, width).astype(np.float32)


def _breast_mask(image: np.ndarray) -> tuple[np.ndarray, int]:
    """The largest bright region on a coarse raster (bool), and the image pixels that a raster step is."""
    from scipy.ndimage import binary_fill_holes, binary_opening, label

    step = max(1, max(image.shape) // _COARSE_PIXELS)
    height, width = (length // step for length in image.shape)
    coarse = image[: height * step, : width * step].reshape(height, step, width, step).mean(axis=(1, 3))
    low, high = np.percentile(coarse, (2, 99))
    bright = binary_opening(coarse > low + _BACKGROUND_SHARE * (high - low), iterations=2)
    regions, count = label(bright)
    if count == 0:
        return np.ones_like(bright), step
    largest = 1 + int(np.argmax(np.bincount(regions.ravel())[1:]))
    return binary_fill_holes(regions == largest), step


def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Linear resampling onto (height, width), by averages where that is smaller, so that nothing aliases."""
    shrunk = _weights(image.shape[0], height) @ np.ascontiguousarray(image)
    return np.ascontiguousarray((_weights(image.shape[1], width) @ np.ascontiguousarray(shrunk.T)).T)


def _weights(source: int, target: int):
    """Sparse (target, source) weights of a triangle that is as wide as the larger of the two steps."""
    from scipy.sparse import csr_array

    step = source / target
    centres = (np.arange(target) + 0.5) * step - 0.5
    weights = np.maximum(1 - np.abs(np.arange(source) - centres[:, None]) / max(step, 1.0), 0)
    return csr_array((weights / weights.sum(axis=1, keepdims=True)).astype(np.float32))
