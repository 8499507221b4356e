"""Mammograms: reading a film and making it a network's input."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from . import mammogram_dicom
from .images import reason_of
from .truncation import require_whole

SUFFIXES = (".png", ".pgm", ".tif", ".tiff", ".jpg", ".jpeg", *mammogram_dicom.SUFFIXES)
_REMEDY = "Open it in another program to see whether it is whole, or export it again as PNG"
_SMALLEST_FILM = 16
_COARSE_PIXELS = 96
_BACKGROUND_SHARE = 0.08
# The darkest half per cent of a breast is skin that shares its pixels with the background, down to -5 SD on
# real films. At the bright end nothing is cut by share: calcifications are the brightest few pixels of a
# breast, and where they lie is what a network shall learn. A cap only holds back metal (clips, skin
# markers); the brightest pixels of 264 MIAS films are at 1.2 to 3.4 SD.
_DARKEST_PERCENTILE = 0.5
_BRIGHTEST_SD = 6.0


@dataclass(frozen=True, eq=False)
class Film:
    """One mammogram.

    Attributes
    ----------
    pixels : float32 (H, W), tissue bright. laterality : "L", "R" or "". view : "CC", "MLO", another one or "".
    notes : what was done or seen that somebody should know, in words without anything of the patient.
    """

    pixels: np.ndarray
    laterality: str = ""
    view: str = ""
    notes: tuple[str, ...] = ()


def read_mammogram(path: str | os.PathLike) -> np.ndarray:
    """The pixels of ``read_film``: float32 (H, W), tissue bright."""
    return read_film(path).pixels


def read_film(path: str | os.PathLike) -> Film:
    """Read a 2D image (PNG, PGM, TIFF, JPEG; 8 or 16 bit; grey or RGB) or a DICOM mammogram.

    Other files than DICOM hold bright tissue and keep their values; see read_dicom_pixels for DICOM.
    Where the tags of a DICOM file put the chest wall on the side on which the image does not show it, the
    image is believed and the film has a note.

    Raises
    ------
    InputError : the file is missing, unreadable or truncated, not one 2D image, or constant; a DICOM
        file of another modality, with several frames or without pixels.
    MissingPackageError : a DICOM file that nothing installed can decode.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"the mammogram {path} does not exist", "Check the path")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES and not mammogram_dicom.is_dicom(path):
        raise InputError(
            f"the mammogram {path} is of no kind that is read", f"Convert it to one of: {', '.join(SUFFIXES)}"
        )
    if suffix == ".pgm":
        return Film(_require_film(_read_pgm(path), path))
    if suffix in SUFFIXES and suffix not in mammogram_dicom.SUFFIXES:
        return Film(_require_film(_read_picture(path), path))
    pixels, tags, notes = mammogram_dicom.read_dicom_pixels(path)
    side = find_chest_wall(_require_film(pixels, path))
    if tags.chest_wall and tags.chest_wall != side:
        notes += (f"its tags put the chest wall at the {tags.chest_wall}, the image shows it at the {side}",)
    return Film(pixels, tags.laterality, tags.view, notes)


def film_shape(path: str | os.PathLike) -> tuple[int, int]:
    """(rows, columns) of an image file that ``read_film`` reads, from its header alone where it is no PGM."""
    path = Path(path)
    if path.suffix.lower() == ".pgm":
        return read_mammogram(path).shape
    if path.suffix.lower() in mammogram_dicom.SUFFIXES:
        return mammogram_dicom.require_pixels(mammogram_dicom.read_header(path), path)
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise InputError(f"the mammogram {path} cannot be read ({reason_of(error)})", _REMEDY) from error
    columns, rows = reader.GetSize()[:2]
    return rows, columns


def _read_picture(path: Path) -> np.ndarray:
    import SimpleITK

    require_whole(path)
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        image = SimpleITK.ReadImage(str(path))
    except RuntimeError as error:
        raise InputError(f"the mammogram {path} cannot be read ({reason_of(error)})", _REMEDY) from error
    array = SimpleITK.GetArrayFromImage(image).astype(np.float32)
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = array[..., :3].mean(axis=-1)
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    return array


def prepare_mammogram(image: np.ndarray, size: int, keep_side: bool = False) -> np.ndarray:
    """The breast of a film, chest wall at the left: float32 (size, size).

    The largest bright region is the breast; burned-in markers and the film's background are cut away.
    The breast's box is scaled with its aspect kept so that its longer side is ``size``, centred
    vertically; intensities have zero mean and unit SD in the breast, and are 0 outside it. The darkest
    half per cent is made equal, and what is brighter than 6 SD.

    Parameters
    ----------
    image : (H, W), tissue bright.
    keep_side : leaves the chest wall on the film's side, for networks that shall tell the laterality.
    """
    box, breast, place = _breast_box(image, size, keep_side)
    tissue = _resize(box, place.height, place.width)
    inside = _resize(breast.astype(np.float32), place.height, place.width) > 0.25
    values = tissue[inside]
    values = np.maximum(values, np.percentile(values, _DARKEST_PERCENTILE))
    result = np.zeros((size, size), dtype=np.float32)
    result[place.inside][inside] = np.minimum(
        (values - values.mean()) / max(float(values.std()), 1e-6), np.float32(_BRIGHTEST_SD)
    )
    return place.turned_back(result)


def positions_in_prepared(image: np.ndarray, size: int, positions: np.ndarray, keep_side: bool = False) -> np.ndarray:
    """Where pixels (n, 2) [row, column] of a film lie in ``prepare_mammogram(image, size)``: float (n, 2)."""
    return _breast_box(image, size, keep_side)[2].positions(positions)


def circles_in_prepared(image: np.ndarray, size: int, circles: np.ndarray, keep_side: bool = False) -> np.ndarray:
    """Discs on the breast as a bool (size, size) mask of ``prepare_mammogram(image, size)``.

    Parameters
    ----------
    circles : (n, 3) [row, column, radius] in pixels of the film.
    """
    _, breast, place = _breast_box(image, size, keep_side)
    circles = np.asarray(circles, dtype=float).reshape(-1, 3)
    rows, columns = np.mgrid[:size, :size]
    mask = np.zeros((size, size), dtype=bool)
    for (row, column), radius in zip(place.positions(circles[:, :2]), circles[:, 2] * place.factor):
        # half a pixel at least, so that a mark of any size has a pixel
        mask |= np.hypot(rows - row, columns - column) <= max(radius, 0.71)
    on_breast = np.zeros_like(mask)
    on_breast[place.inside] = _resize(breast.astype(np.float32), place.height, place.width) > 0.25
    return mask & place.turned_back(on_breast)


def mask_in_prepared(image: np.ndarray, mask: np.ndarray, size: int, keep_side: bool = False) -> np.ndarray:
    """A mask (H, W) of a film as a bool (size, size) mask of ``prepare_mammogram(image, size)``.

    A pixel is in when at least half of it was; a region too small for that leaves its fullest pixel.
    """
    _, _, place = _breast_box(image, size, keep_side)
    box = place.cut(np.asarray(mask) > 0).astype(np.float32)
    share = _resize(box, place.height, place.width)
    result = np.zeros((size, size), dtype=bool)
    result[place.inside] = (share >= 0.5) | ((share == share.max()) & (share > 0) & (share.max() < 0.5))
    return place.turned_back(result)


@dataclass(frozen=True)
class _Place:
    """How a breast's box (rows and columns of the film with its chest wall at the left) lies in the prepared image."""

    film: tuple[int, int]
    rows: tuple[int, int]
    columns: tuple[int, int]
    size: int
    is_mirrored: bool
    is_turned_back: bool
    factor: float
    height: int
    width: int

    @property
    def first_row(self) -> int:
        return (self.size - self.height) // 2

    @property
    def inside(self) -> tuple[slice, slice]:
        """The part of the prepared image that the box fills, before it is turned back."""
        return slice(self.first_row, self.first_row + self.height), slice(0, self.width)

    def turned_back(self, prepared: np.ndarray) -> np.ndarray:
        """The prepared image with the chest wall on the side that is wanted."""
        return np.ascontiguousarray(prepared[:, ::-1]) if self.is_turned_back else prepared

    def cut(self, image: np.ndarray) -> np.ndarray:
        """The box of an image of the film's shape."""
        image = image[:, ::-1] if self.is_mirrored else image
        return image[slice(*self.rows), slice(*self.columns)]

    def positions(self, positions: np.ndarray) -> np.ndarray:
        """Pixels (n, 2) [row, column] of the film in the prepared image, float."""
        rows, columns = np.asarray(positions, dtype=float).reshape(-1, 2).T
        if self.is_mirrored:
            columns = self.film[1] - 1 - columns
        rows = (rows - self.rows[0] + 0.5) * self.factor - 0.5 + self.first_row
        columns = (columns - self.columns[0] + 0.5) * self.factor - 0.5
        return np.stack([rows, self.size - 1 - columns if self.is_turned_back else columns], axis=1)


def _breast_box(image: np.ndarray, size: int, keep_side: bool) -> tuple[np.ndarray, np.ndarray, _Place]:
    """The film's pixels in the breast's box, chest wall at the left; the breast on a coarse raster in it; the place."""
    image = np.asarray(image, dtype=np.float32)
    breast, step = _breast_mask(image)
    is_mirrored = _side_of(breast) == "right"
    if is_mirrored:
        # The raster leaves out what is no whole step at the right: mirrored before it is rastered, a film never
        # loses pixels at the chest wall, and gives the same image as its mirror image does.
        image = image[:, ::-1]
        breast, step = _breast_mask(image)
    rows, columns = (np.flatnonzero(breast.any(axis=axis)) for axis in (1, 0))
    breast = breast[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    rows, columns = ((int(where[0]) * step, (int(where[-1]) + 1) * step) for where in (rows, columns))
    box = image[slice(*rows), slice(*columns)]
    factor = size / max(box.shape)
    height, width = (max(1, round(length * factor)) for length in box.shape)
    place = _Place(image.shape, rows, columns, size, is_mirrored, is_mirrored and keep_side, factor, height, width)
    return box, breast, place


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
