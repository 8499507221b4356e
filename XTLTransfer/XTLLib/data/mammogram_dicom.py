"""Mammograms as DICOM (MG): stored values to an image with bright tissue, and what the tags say of the view.

Part 3 of the DICOM standard: C.7.6.3 (pixels), C.11.1 (modality LUT), C.11.2 (VOI LUT), C.8.11 (MG).
Messages name files, never what a header says of the patient.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError, MissingPackageError
from .quiet_dicom import quiet_pydicom
from .voi import apply_voi, look_up

SUFFIXES = (".dcm", ".dicom", ".ima")
_REMEDY = "Export it again from the archive"
_TOMOSYNTHESIS = "1.2.840.10008.5.1.4.1.1.13.1.3"
_PIXEL_DATA = 0x7FE00010
_LARGE_VALUE = 4096
_VIEW_CODES = {"R-10242": "CC", "399162004": "CC", "R-10226": "MLO", "399368009": "MLO"}
# Endings of the transfer syntaxes 1.2.840.10008.1.2.4.* and the package that decodes them for pydicom.
_DECODERS = {
    **dict.fromkeys(("50", "51", "57", "70", "80", "81"), "pylibjpeg-libjpeg"),
    **dict.fromkeys(("90", "91", "201", "202", "203"), "pylibjpeg-openjpeg"),
}


@dataclass(frozen=True)
class FilmTags:
    """What a mammogram's header says of its view; nothing of who the patient is.

    Attributes
    ----------
    modality : "MG" for mammograms, "" when not said.
    laterality : "L", "R" or "". view : "CC", "MLO", another view position in capitals, or "".
    chest_wall : the side of the picture, "left" or "right", on which the tags put the chest wall, or "".
    is_raw : FOR PROCESSING, an image that was not made for the eye.
    frames : more than one for tomosynthesis. is_tomosynthesis : by the kind of object, whatever its frames.
    """

    modality: str
    laterality: str
    view: str
    chest_wall: str
    is_raw: bool
    frames: int
    is_tomosynthesis: bool


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its ending or by the letters DICM."""
    if path.suffix.lower() in SUFFIXES:
        return True
    with open(path, "rb") as stream:
        return stream.read(132)[128:] == b"DICM"


@quiet_pydicom()
def read_header(path: str | os.PathLike):
    """The pydicom dataset of a file, large values left on disk. Raises InputError when it is not readable DICOM."""
    import pydicom

    try:
        return pydicom.dcmread(path, defer_size=_LARGE_VALUE)
    except Exception as error:  # pydicom raises many kinds for files that are cut off or not DICOM
        raise InputError(f"the DICOM file {path} cannot be read ({type(error).__name__})", _REMEDY) from error


@quiet_pydicom()
def require_pixels(dataset, path: str | os.PathLike) -> tuple[int, int]:
    """The image's (rows, columns), or InputError unless what ``read_header`` gave has its pixel data in full."""
    try:
        raw = dataset.get_item(_PIXEL_DATA, keep_deferred=True)
        syntax = dataset.file_meta.TransferSyntaxUID
        stated = getattr(raw, "length", None)
        # An inflated file's positions say nothing of the file's size, an undefined length nothing of its end.
        is_whole = syntax.is_deflated or stated in (None, 0xFFFFFFFF)
        is_whole = is_whole or raw.value_tell + stated <= os.path.getsize(path)
        shape = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    except Exception as error:  # a damaged header
        raise InputError(f"the DICOM file {path} cannot be read ({type(error).__name__})", _REMEDY) from error
    if raw is None or not all(shape):
        raise InputError(f"the DICOM file {path} holds no pixel data: it is truncated or no image", _REMEDY)
    if not is_whole:
        raise InputError(f"the DICOM file {path} is truncated: its pixel data end early", _REMEDY)
    return shape


@quiet_pydicom()
def tags_of(dataset) -> FilmTags:
    """The tags of a pydicom dataset that speak of the view."""
    laterality = (_text(dataset, "ImageLaterality") or _text(dataset, "Laterality"))[:1]
    laterality = laterality if laterality in ("L", "R") else ""
    along_row = str(next(iter(_values(dataset.get("PatientOrientation"))), "")).upper()
    if along_row[:1] in ("A", "P"):  # anterior is the nipple: the wall is where rows come from, or go to
        chest_wall = "left" if along_row[0] == "A" else "right"
    else:
        chest_wall = {"L": "left", "R": "right"}.get(laterality, "")
    return FilmTags(
        modality=_text(dataset, "Modality"),
        laterality=laterality,
        view=_text(dataset, "ViewPosition") or _coded_view(dataset),
        chest_wall=chest_wall,
        is_raw=_text(dataset, "PresentationIntentType") == "FOR PROCESSING",
        frames=int(dataset.get("NumberOfFrames") or 1),
        is_tomosynthesis=str(dataset.get("SOPClassUID", "")) == _TOMOSYNTHESIS,
    )


@quiet_pydicom()
def read_dicom_pixels(path: str | os.PathLike) -> tuple[np.ndarray, FilmTags, tuple[str, ...]]:
    """The pixels (float32 (H, W), tissue bright), the tags, and notes on what was done about them.

    Images for presentation go through the modality LUT or rescale, then the first VOI LUT, else the
    first window (linear, linear exact or sigmoid): 0..1 where there is a window, the units of the
    LUT or of the rescaled stored values otherwise. MONOCHROME1 and the presentation LUT shape INVERSE
    both say that high values are dark; either inverts the image, both together not twice.
    Images FOR PROCESSING have no window of use: their linear exposure becomes minus its logarithm.
    Padding pixels become as dark as the darkest pixel.

    Raises
    ------
    InputError : not a readable single-frame MG image, or one without pixels.
    MissingPackageError : a compression that nothing installed can decode.
    """
    import pydicom

    path = Path(path)
    header = read_header(path)
    try:
        tags = tags_of(header)
        _require_one_mammogram(tags, path)
        require_pixels(header, path)
        dataset = pydicom.dcmread(path)
        stored = _stored_values(dataset, path)
        values, notes = _tissue_bright(stored, dataset, tags.is_raw)
        padding = _padding(stored, dataset)
        if padding.any() and not padding.all():
            values[padding] = values[~padding].min()
    except (InputError, MissingPackageError):
        raise
    except Exception as error:  # damaged headers fail in many ways
        raise InputError(f"the DICOM file {path} is truncated or damaged ({type(error).__name__})", _REMEDY) from error
    return values, tags, tuple(notes)


def _require_one_mammogram(tags: FilmTags, path: Path) -> None:
    if tags.modality not in ("MG", ""):
        raise InputError(f"the DICOM file {path} is of the modality {tags.modality}, not MG", "Name a mammogram")
    if tags.is_tomosynthesis or tags.frames > 1:
        kind = "breast tomosynthesis" if tags.is_tomosynthesis else "multi-frame"
        raise InputError(
            f"the mammogram {path} is {kind} with {tags.frames} frames", "Give single 2D images or its synthesised view"
        )


def _stored_values(dataset, path: Path) -> np.ndarray:
    from pydicom.pixels import get_decoder

    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_compressed:
        try:
            can_decode = get_decoder(syntax).is_available
        except NotImplementedError:
            can_decode = False
        if not can_decode:
            return _decoded_by_itk(dataset, path)
    pixels = dataset.pixel_array
    return pixels[..., :3].mean(axis=-1) if pixels.ndim == 3 else pixels


def _decoded_by_itk(dataset, path: Path) -> np.ndarray:
    """Stored values by SimpleITK (GDCM), which knows most compressions; what it does to the values is undone."""
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        values = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))[0].astype(np.float64)
    except RuntimeError as error:
        syntax = dataset.file_meta.TransferSyntaxUID
        name = syntax.name if syntax.name != str(syntax) else "an unknown one"
        package = _DECODERS.get(str(syntax).removeprefix("1.2.840.10008.1.2.4."), "")
        raise MissingPackageError(
            f"the DICOM file {path} is damaged, or nothing installed can decode its compression ({name})",
            f"Install pylibjpeg and {package}, or export it uncompressed" if package else "Export it uncompressed",
        ) from error
    slope, intercept = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
    values = np.rint((values - intercept) / slope)
    if _text(dataset, "PhotometricInterpretation") == "MONOCHROME1":
        values = sum(_stored_range(dataset)) - values
    return values.astype(np.int32)


def _tissue_bright(stored: np.ndarray, dataset, is_raw: bool) -> tuple[np.ndarray, list[str]]:
    """Float32 values that rise with tissue, and notes."""
    is_dark_high = (
        _text(dataset, "PhotometricInterpretation") == "MONOCHROME1"
        or _text(dataset, "PresentationLUTShape") == "INVERSE"
    )
    if is_raw:
        return _attenuation(stored, dataset, is_dark_high)
    lowest, highest = _stored_range(dataset)
    if dataset.get("ModalityLUTSequence"):
        values, largest = look_up(stored, dataset.ModalityLUTSequence[0], dataset)
        lowest, highest = 0.0, largest
    else:
        slope, intercept = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
        values = (stored * np.float64(slope) + intercept).astype(np.float32)
        lowest, highest = lowest * slope + intercept, highest * slope + intercept
    values, voi_range, notes = apply_voi(values, dataset, _text(dataset, "VOILUTFunction") or "LINEAR")
    lowest, highest = voi_range or (lowest, highest)
    return (np.float32(lowest + highest) - values if is_dark_high else values), notes


def _attenuation(stored: np.ndarray, dataset, is_dark_high: bool) -> tuple[np.ndarray, list[str]]:
    """Minus the logarithm of the exposure of a raw image, whose values are exposures or their logarithms.

    The sign of the pixel intensity relationship (1: higher is more exposure) goes before the photometric
    interpretation, which raw images often have wrong.
    """
    sign = int(dataset.get("PixelIntensityRelationshipSign") or 0)
    rises_with_exposure = sign == 1 if sign else is_dark_high
    values = stored.astype(np.float32)
    exposure = values if rises_with_exposure else np.float32(_stored_range(dataset)[1]) - values
    if _text(dataset, "PixelIntensityRelationship") == "LOG":
        return -exposure, ["FOR PROCESSING: its values are logarithms already"]
    # Nothing behind metal: one count, whose brightness the preparation holds back.
    return -np.log(np.maximum(exposure, 1)), ["FOR PROCESSING: the logarithm of its exposure was taken"]


def _padding(stored: np.ndarray, dataset) -> np.ndarray:
    """Pixels (bool) that the scanner filled in, by (0028,0120) and, for a range, (0028,0121)."""
    first = dataset.get("PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, dtype=bool)
    last = dataset.get("PixelPaddingRangeLimit")
    first, last = int(first), int(first if last is None else last)
    return (stored >= min(first, last)) & (stored <= max(first, last))


def _stored_range(dataset) -> tuple[float, float]:
    """The lowest and the highest value that the stored bits can tell."""
    bits = int(dataset.get("BitsStored") or dataset.BitsAllocated)
    if int(dataset.get("PixelRepresentation") or 0):
        return -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1
    return 0.0, 2.0**bits - 1


def _coded_view(dataset) -> str:
    item = next(iter(dataset.get("ViewCodeSequence") or ()), None)
    return "" if item is None else _VIEW_CODES.get(str(item.get("CodeValue", "")), "")


def _text(dataset, keyword: str) -> str:
    """A code string in capitals, "" when it is missing, "?" when it is none: of a damaged header nothing is quoted."""
    text = str(dataset.get(keyword) or "").strip().upper()
    return text if re.fullmatch(r"[A-Z0-9 _-]{0,16}", text) else "?"


def _values(value) -> list:
    """A DICOM value of any multiplicity as a list."""
    if value is None or value == "":
        return []
    return [value] if isinstance(value, (str, int, float)) else list(value)
