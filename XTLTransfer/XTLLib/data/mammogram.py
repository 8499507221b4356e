"""Mammograms: reading a film and making it a network's input."""

from __future__ import annotations

import os
import re
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

    A DICOM image of MONOCHROME1 is inverted, so that dense tissue is bright in every file.

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
    is_dicom = image.HasMetaDataKey("0028|0004")
    if is_dicom and image.GetMetaData("0028|0004").strip() == "MONOCHROME1":
        array = array.max() - array
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
    image = np.asarray(image, dtype=np.float32)
    if find_chest_wall(image) == "right":
        image = image[:, ::-1]
    breast, scale = _breast_mask(image)
    rows, columns = (np.flatnonzero(breast.any(axis=axis)) for axis in (1, 0))
    top, bottom = rows[0] * scale[0], (rows[-1] + 1) * scale[0]
    left, right = columns[0] * scale[1], (columns[-1] + 1) * scale[1]
    factor = size / max(bottom - top, right - left)
    height, width = (max(1, min(size, round(length * factor))) for length in (bottom - top, right - left))
    down = _resize_matrix(image.shape[0], height, top, bottom)
    across = _resize_matrix(image.shape[1], width, left, right)
    tissue = down @ image @ across.T
    inside = (
        _resize_matrix(breast.shape[0], height, rows[0], rows[-1] + 1)
        @ breast.astype(np.float32)
        @ _resize_matrix(breast.shape[1], width, columns[0], columns[-1] + 1).T
    ) > 0.25
    values = tissue[inside]
    values = np.clip(values, *np.percentile(values, _CLIP_PERCENTILES))
    result = np.zeros((size, size), dtype=np.float32)
    first = (size - height) // 2
    result[first : first + height, :width][inside] = (values - values.mean()) / max(float(values.std()), 1e-6)
    return result


def find_chest_wall(image: np.ndarray) -> str:
    """Which side of the film the chest wall is on: "left" or "right"; the breast leans on it.

    Right on 262 of the 264 MIAS films; the other two are filled by a breast whose edges are both cropped.
    """
    breast, _ = _breast_mask(image)
    columns = breast.sum(axis=0).astype(float)
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


def _breast_mask(image: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """The largest bright region on a coarse raster (bool), and image pixels a raster step (rows, columns)."""
    from scipy.ndimage import binary_fill_holes, binary_opening, label

    step = max(1, max(image.shape) // _COARSE_PIXELS)
    height, width = (length // step for length in image.shape)
    coarse = image[: height * step, : width * step].reshape(height, step, width, step).mean(axis=(1, 3))
    low, high = np.percentile(coarse, (2, 99))
    bright = binary_opening(coarse > low + _BACKGROUND_SHARE * (high - low), iterations=2)
    regions, count = label(bright)
    if count == 0:
        return np.ones_like(bright), (step, step)
    largest = 1 + int(np.argmax(np.bincount(regions.ravel())[1:]))
    return binary_fill_holes(regions == largest), (step, step)


def _resize_matrix(source: int, target: int, start: float, stop: float) -> np.ndarray:
    """(target, source) weights that resample start..stop linearly, wide enough not to alias when shrinking."""
    step = (stop - start) / target
    centres = start + (np.arange(target) + 0.5) * step - 0.5
    distance = np.abs(np.arange(source)[None, :] - centres[:, None]) / max(step, 1.0)
    weights = np.maximum(1.0 - distance, 0.0)
    return (weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)).astype(np.float32)
