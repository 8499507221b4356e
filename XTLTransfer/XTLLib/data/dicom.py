"""DICOM series: one folder of single-frame slices to a volume, with every doubt told as an error.

Messages name files and folders, never what a DICOM header says of the patient.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from .geometry import LPS_TO_RAS, Grid
from .quiet_dicom import quiet_pydicom
from .volume import Volume

_ORIENTATION_TOLERANCE = 1e-4
_SPACING_TOLERANCE_MM = 1e-3
_GAP_TOLERANCE = 0.02
_SHEAR_TOLERANCE_MM = 0.1
_SAME_POSITION_MM = 0.01
_ANGLE_TOLERANCE = 1e-3
_LARGEST_PIXEL_MM = 100.0
_LARGEST_RATIO_OF_SLOPES = 1000.0  # scanners that scale each slice on its own stay far below
_REMEDY = "Export the series again from the archive, alone in a folder"


@dataclass(frozen=True, eq=False)
class Slice:
    """The header of one DICOM file, without its pixels.

    Attributes
    ----------
    position_lps : centre of the first pixel, mm. rows, columns : unit vectors along a row and down a column.
    spacing_mm : pixel spacing along a row (x) and down a column (y).
    thickness_mm : nominal, used when there is only one slice.
    b_value : s/mm², None where nothing tells it.
    frame_of_reference : UID of the coordinate system, "" where the header has none.
    series_number, series_description : as the scanner's console shows them, "" where the header has none.
    rescale_slope : 1 where the header has none.
    """

    path: Path
    series_uid: str
    shape: tuple[int, int]
    position_lps: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    spacing_mm: tuple[float, float]
    thickness_mm: float
    b_value: float | None
    frame_of_reference: str = ""
    series_number: str = ""
    series_description: str = ""
    rescale_slope: float = 1.0

    @property
    def normal(self) -> np.ndarray:
        return np.cross(self.rows, self.columns)


def read_series_folder(
    folder: str | os.PathLike, b_value: float | None = None, series_number: str | None = None
) -> Volume:
    """Read the one DICOM series in a folder, or of several that with a series number.

    Slices are put in order by their position along the slice normal. The rescale slope and intercept of
    each file are applied (float32 then, else the stored integers). Of a diffusion series with several
    b-values the volume of ``b_value`` is read, the highest when it is None.

    Raises
    ------
    InputError : no DICOM in the folder; a file unreadable, truncated or multi-frame; several series;
        slices of different size or orientation; a slice missing, twice or off the line; no such b-value.
    """
    slices = series_slices(folder)
    name = str(folder)
    if series_number is not None:
        slices, name = _with_number(slices, Path(folder), series_number), f"{folder}#{series_number}"
    return _volume_of(slices, Path(folder), b_value, name)


def read_series_files(files: Sequence[Path], b_value: float | None = None, name: str = "") -> Volume:
    """As read_series_folder, for the files of one series wherever they lie; ``name`` is the volume's."""
    slices = [_read_header(file) for file in files]
    return _volume_of(slices, Path(files[0]).parent, b_value, name or str(Path(files[0]).parent))


def series_files_grid(files: Sequence[Path]) -> Grid:
    """The grid that ``read_series_files`` would give, from the headers alone."""
    return _grid_of(_one_volume([_read_header(file) for file in files], Path(files[0]).parent, None))


def series_grid(folder: str | os.PathLike, b_value: float | None = None) -> Grid:
    """The grid that ``read_series_folder`` would give, from the headers alone."""
    return _grid_of(_one_volume(series_slices(folder), Path(folder), b_value))


def series_slices(folder: str | os.PathLike) -> list[Slice]:
    """The headers of the DICOM files in a folder, by file name. Raises InputError when there are none."""
    files = dicom_files(folder)
    if not files:
        raise InputError(f"the folder {folder} holds no DICOM files", "Name the folder of one series")
    return [_read_header(file) for file in files]


def dicom_files(folder: str | os.PathLike) -> list[Path]:
    """The files directly in a folder that are DICOM by their ending or by the letters DICM, sorted by name."""
    files = []
    for file in sorted(Path(folder).iterdir()):
        if not file.is_file() or file.name.startswith(".") or file.name.upper() == "DICOMDIR":
            continue
        if file.suffix.lower() in (".dcm", ".ima") or _says_dicm(file):
            files.append(file)
    return files


def b_value_of(dataset) -> float | None:
    """The b-value (s/mm²) of a slice: (0018,9087), else Siemens' private (0019,100C), else the sequence name.

    The private value comes as bytes with a trailing blank (``b"400 "``) where the file's syntax hides its
    type. A sequence name such as ``*ep_b400t`` tells a b-value, one such as ``*ep_b50_800`` a range only.
    """
    for tag in ((0x0018, 0x9087), (0x0019, 0x100C)):
        if tag in dataset:
            value = dataset[tag].value
            text = value.decode("ascii", "ignore") if isinstance(value, bytes) else str(value)
            if re.fullmatch(r"\s*\d+(\.\d*)?\s*\0*", text):
                return float(text.strip(" \0"))
    match = re.search(r"_b(\d+)(?![\d_])", str(dataset.get("SequenceName", "")))
    return float(match.group(1)) if match else None


def _says_dicm(file: Path) -> bool:
    with open(file, "rb") as stream:
        return stream.read(132)[128:] == b"DICM"


@quiet_pydicom()
def _read_header(path: Path) -> Slice:
    import pydicom

    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        if int(dataset.get("NumberOfFrames", 1) or 1) > 1:
            raise InputError(f"the DICOM file {path} is multi-frame", "Convert it to NIfTI or to single-frame DICOM")
        rows, columns = np.array(dataset.ImageOrientationPatient, dtype=float).reshape(2, 3)
        down, along = (float(value) for value in dataset.PixelSpacing)
        position = np.array(dataset.ImagePositionPatient, dtype=float).reshape(3)
        _check_geometry(path, rows, columns, position, (along, down))
        return Slice(
            path=path,
            series_uid=str(dataset.SeriesInstanceUID),
            shape=(int(dataset.Rows), int(dataset.Columns)),
            position_lps=position,
            rows=rows,
            columns=columns,
            spacing_mm=(along, down),
            thickness_mm=float(dataset.get("SpacingBetweenSlices") or dataset.get("SliceThickness") or 1),
            b_value=b_value_of(dataset),
            frame_of_reference=str(dataset.get("FrameOfReferenceUID") or ""),
            series_number=str(dataset.get("SeriesNumber") or ""),
            series_description=str(dataset.get("SeriesDescription") or ""),
            rescale_slope=_rescale_of(path, dataset)[0],
        )
    except InputError:
        raise
    except AttributeError as error:
        missing = re.search(r"attribute '(\w+)'", str(error))
        what = missing.group(1) if missing else "its geometry"
        raise InputError(f"the DICOM file {path} lacks {what}: it is truncated or no image slice", _REMEDY) from error
    except Exception as error:  # pydicom raises many kinds for files that are cut off or not DICOM
        raise InputError(f"the DICOM file {path} cannot be read ({type(error).__name__})", _REMEDY) from error


def _check_geometry(
    path: Path, rows: np.ndarray, columns: np.ndarray, position: np.ndarray, spacing: tuple[float, float]
) -> None:
    """Raise InputError for directions that are not of length 1 at right angles, or numbers that are no geometry."""
    axes = np.stack([rows, columns])
    if not np.abs(axes @ axes.T - np.eye(2)).max() <= _ANGLE_TOLERANCE:  # also NaN
        raise InputError(
            f"the DICOM file {path} has an ImageOrientationPatient that is not two unit vectors at right angles",
            _REMEDY,
        )
    if not np.isfinite(position).all() or not all(0 < mm < _LARGEST_PIXEL_MM for mm in spacing):
        raise InputError(f"the DICOM file {path} has an impossible position or pixel spacing", _REMEDY)


def _volume_of(slices: list[Slice], folder: Path, b_value: float | None, name: str) -> Volume:
    slices = _one_volume(slices, folder, b_value)
    grid = _grid_of(slices)
    return Volume(np.stack([_read_pixels(one) for one in slices]), grid, name, slices[0].frame_of_reference)


def _with_number(slices: list[Slice], folder: Path, number: str) -> list[Slice]:
    chosen = [one for one in slices if one.series_number == number]
    if not chosen:
        raise InputError(f"{folder} holds no DICOM series {number} (it holds {_series_in(slices)})", "Name one of them")
    return chosen


def _series_in(slices: list[Slice]) -> str:
    """The series of some slices, in words: number, description, count of files."""
    series: dict[str, list[Slice]] = {}
    for one in slices:
        series.setdefault(one.series_uid, []).append(one)
    ordered = sorted(series.values(), key=lambda s: (not s[0].series_number.isdigit(), s[0].series_number.zfill(9)))
    return ", ".join(
        f"{s[0].series_number or s[0].path.name} ({(s[0].series_description or 'no description')[:40]}, {len(s)} files)"
        for s in ordered
    )


def _one_volume(slices: list[Slice], folder: Path, b_value: float | None) -> list[Slice]:
    """The slices of one volume in order along the normal, or InputError saying what is wrong with them."""
    first = slices[0]
    for other in slices[1:]:
        if other.series_uid != first.series_uid:
            numbers = {one.series_number for one in slices}
            known = len(numbers) == len({one.series_uid for one in slices}) and "" not in numbers
            choose = f"Name the one that is meant by its number, for example {folder}#{first.series_number}, or put"
            raise InputError(
                f"the folder {folder} holds more than one DICOM series: {_series_in(slices)}",
                f"{choose if known else 'Put'} each series into its own folder",
            )
        orientation = max(np.abs(other.rows - first.rows).max(), np.abs(other.columns - first.columns).max())
        spacing = np.abs(np.subtract(other.spacing_mm, first.spacing_mm)).max()
        if other.shape != first.shape or orientation > _ORIENTATION_TOLERANCE or spacing > _SPACING_TOLERANCE_MM:
            raise InputError(
                f"{other.path} differs from {first.path} in size, orientation or pixel spacing",
                "Put slices of one orientation alone into a folder",
            )
    steep, flat = (pick(slices, key=lambda one: one.rescale_slope) for pick in (max, min))
    if steep.rescale_slope > _LARGEST_RATIO_OF_SLOPES * flat.rescale_slope:
        raise InputError(
            f"{steep.path} has the rescale slope {steep.rescale_slope:g}, other slices have {flat.rescale_slope:g}",
            _REMEDY,
        )
    values = sorted({one.b_value for one in slices if one.b_value is not None})
    if b_value is not None and b_value not in values:
        there = ", ".join(f"{value:g}" for value in values) or "none"
        raise InputError(f"the series in {folder} has no b-value {b_value:g} (it has: {there})", "Choose one of them")
    if len(values) > 1 or b_value is not None:
        wanted = values[-1] if b_value is None else b_value
        _check_b_values(slices, folder, wanted)
        slices = [one for one in slices if one.b_value == wanted]
    return sorted(slices, key=lambda one: float(one.position_lps @ first.normal))


def _check_b_values(slices: list[Slice], folder: Path, wanted: float) -> None:
    """Raise InputError where slices of the wanted b-value are missing, at the ends too, where no gap tells it."""
    silent = next((one for one in slices if one.b_value is None), None)
    if silent is not None:
        raise InputError(f"{silent.path} tells no b-value, and other slices of its series do", _REMEDY)
    normal = slices[0].normal
    places: dict[float, set[float]] = {}
    for one in slices:
        places.setdefault(one.b_value, set()).add(round(float(one.position_lps @ normal), 1))
    most = max(places, key=lambda b: (len(places[b]), b))
    if len(places[wanted]) < len(places[most]):
        raise InputError(
            f"the series in {folder} has {len(places[wanted])} slices of b-value {wanted:g} and {len(places[most])} "
            f"of {most:g}: slices are missing",
            "Complete the series",
        )


def _grid_of(slices: list[Slice]) -> Grid:
    first, last = slices[0], slices[-1]
    step = first.normal * first.thickness_mm
    if len(slices) > 1:
        step = (last.position_lps - first.position_lps) / (len(slices) - 1)
        _check_gaps(slices)
    ijk_to_lps = np.eye(4)
    ijk_to_lps[:3, 0] = first.rows * first.spacing_mm[0]
    ijk_to_lps[:3, 1] = first.columns * first.spacing_mm[1]
    ijk_to_lps[:3, 2] = step
    ijk_to_lps[:3, 3] = first.position_lps
    return Grid((len(slices), *first.shape), LPS_TO_RAS @ ijk_to_lps)


def _check_gaps(slices: list[Slice]) -> None:
    moves = np.diff([one.position_lps for one in slices], axis=0)
    gaps = moves @ slices[0].normal
    _check_images_per_position(slices, gaps)
    typical = float(np.median(gaps))
    for index, gap in enumerate(gaps):
        before, after = slices[index].path, slices[index + 1].path
        if gap < _SAME_POSITION_MM:
            raise InputError(f"{before} and {after} are slices at one position", "Keep one of each slice")
        if abs(gap - typical) > _GAP_TOLERANCE * typical:
            raise InputError(
                f"between {before} and {after} lie {gap:.2f} mm, between other slices {typical:.2f} mm: "
                "a slice is missing or too many are there",
                "Complete the series",
            )
    sideways = moves - np.outer(gaps, slices[0].normal)
    if np.abs(sideways).max() > _SHEAR_TOLERANCE_MM:
        tilt = np.degrees(np.arctan2(np.linalg.norm(sideways, axis=1).max(), typical))
        raise InputError(
            f"the slices in {slices[0].path.parent} are not stacked at right angles (sheared by {tilt:.0f} degrees, "
            "as by a tilted gantry)",
            "Resample the series onto a rectangular grid first, for example when Slicer loads it (Acquisition "
            "geometry regularization)",
        )


def _check_images_per_position(slices: list[Slice], gaps: np.ndarray) -> None:
    """Raise InputError when every position has the same number of images, more than one: not one volume."""
    starts = np.flatnonzero(np.r_[True, gaps >= _SAME_POSITION_MM, True])
    counts = np.diff(starts)
    if counts.min() == counts.max() > 1:
        raise InputError(
            f"the series in {slices[0].path.parent} holds {counts[0]} images at each of its {len(counts)} slice "
            "positions: a time series, several echoes, or magnitude and phase",
            "Export the one that is meant alone",
        )


@quiet_pydicom()
def _read_pixels(one: Slice) -> np.ndarray:
    import pydicom

    try:
        dataset = pydicom.dcmread(one.path)
        slope, intercept = _rescale_of(one.path, dataset)
        if dataset.file_meta.TransferSyntaxUID.is_compressed:
            pixels, slope, intercept = _decompress(one.path), 1.0, 0.0
        else:
            pixels = dataset.pixel_array
    except InputError:
        raise
    except Exception as error:  # pydicom and GDCM raise many kinds for pixel data that are cut off
        raise InputError(
            f"the DICOM file {one.path} is truncated or damaged ({type(error).__name__})", _REMEDY
        ) from error
    if pixels.shape != one.shape:
        raise InputError(f"the DICOM file {one.path} holds no grey image of its stated size", _REMEDY)
    if slope == 1 and intercept == 0:
        return pixels
    return (pixels * np.float32(slope) + np.float32(intercept)).astype(np.float32)


def _rescale_of(path: Path, dataset) -> tuple[float, float]:
    """RescaleSlope and RescaleIntercept; 1 and 0 where they are absent or empty."""
    slope, intercept = (
        default if dataset.get(name) in (None, "") else float(dataset.get(name))
        for name, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
    )
    if not slope > 0 or not np.isfinite([slope, intercept]).all():
        raise InputError(f"the DICOM file {path} has the rescale slope {slope:g} and intercept {intercept:g}", _REMEDY)
    return slope, intercept


def _decompress(path: Path) -> np.ndarray:
    """Pixels of a compressed file by SimpleITK (GDCM), which applies the rescale slope and intercept."""
    import SimpleITK

    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))[0]
