"""Which DICOM series of a prostate MR study are T2W, ADC and HBV; the rules leave nothing to chance.

The rules are a project choice:

* T2W: the description says t2, the slices are transverse by their geometry (the description is not
  asked), and it is neither a diffusion series nor a localizer. A turbo spin echo (tse, fse) goes before
  other kinds.
* ADC: the image type or the description says ADC; an exponential ADC is none.
* HBV: the diffusion series that is no ADC map and has the highest b-value, at least 500 s/mm²; values
  that the scanner calculated count like measured ones. A series of several b-values is read at its highest.
* Ties: the series acquired last (it was repeated because the first was not good enough); then the
  higher series number; then the series UID that sorts last.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from .dicom import b_value_of, dicom_files
from .quiet_dicom import quiet_pydicom

CHANNELS = ("T2W", "ADC", "HBV")
_LEAST_HIGH_B = 500.0
_DIRECTORY_CLASS = "1.2.840.10008.1.3.10"
_REMEDY = "Complete the download, or export the study again"
_Headers = dict[Path, Any]


@dataclass(frozen=True)
class Series:
    """One series, by what its headers say.

    Attributes
    ----------
    folder : of its first file. files : of the series, by path; of ``find_series`` without ``mixed`` all of the folder.
    patient : a text that tells patients apart; it is the DICOM patient ID: never show or write it.
    study : (study date, study UID); acquired : date and time of acquisition as text that sorts.
    kind : description in lower case. derived : image type in capitals.
    b_value : the highest of the series, s/mm²; None when nothing tells one.
    """

    folder: Path
    files: tuple[Path, ...]
    patient: str
    study: tuple[str, str]
    number: int
    uid: str
    acquired: str
    kind: str
    derived: tuple[str, ...]
    is_transverse: bool
    b_value: float | None

    @property
    def is_adc(self) -> bool:
        return "ADC" in self.derived or ("adc" in self.kind and "eadc" not in self.kind)

    @property
    def is_diffusion(self) -> bool:
        return "DIFFUSION" in self.derived or re.search(r"diff|dwi|trace|bval", self.kind) is not None

    @property
    def is_localizer(self) -> bool:
        return "LOCALIZER" in self.derived or re.search(r"loc|scout|survey", self.kind) is not None

    @property
    def title(self) -> str:
        """Number and description, as a scanner's console lists it."""
        return f"series {self.number} ({self.kind[:40] or 'no description'})"

    @property
    def _last(self) -> tuple[str, int, str]:
        return self.acquired, self.number, self.uid


@dataclass(frozen=True)
class Choice:
    """The series of a channel and, in words, why it and no other."""

    series: Series
    why: str


def find_series(folder: str | os.PathLike, mixed: bool = False) -> list[Series]:
    """Every DICOM image series at or below ``folder``, by path.

    Parameters
    ----------
    mixed : every header is read and series are told by their UID, however the files are named and put
        into folders; copies of a file count once. Else each folder is taken as one series, and one file of
        it is looked at (of a diffusion series all, for their b-values): quick, for tidy archives.

    Raises
    ------
    InputError : a file cannot be read or, with ``mixed``, tells no series, or two different files call themselves one.
    """
    groups = _by_uid(folder) if mixed else _by_folder(folder)
    described = (_described(headers) for headers in groups)
    return sorted((series for series in described if series is not None), key=lambda series: series.files[0])


def choose_series(series: list[Series]) -> dict[str, Path]:
    """The folders of T2W, ADC and HBV among the series of one study; a channel that is not there is left out."""
    return {channel: choice.series.folder for channel, choice in chosen_series(series).items()}


def chosen_series(series: list[Series]) -> dict[str, Choice]:
    """The series of T2W, ADC and HBV among those of one study, and why; a channel that is not there is left out."""
    anatomy = [
        s for s in series if "t2" in s.kind and s.is_transverse and not (s.is_diffusion or s.is_adc or s.is_localizer)
    ]
    spin_echo = [s for s in anatomy if re.search(r"tse|fse", s.kind)]
    weighted = [s for s in series if s.is_diffusion and not s.is_adc and (s.b_value or 0) >= _LEAST_HIGH_B]
    highest = max((s.b_value for s in weighted), default=0.0)
    found = {
        "T2W": _last_of(spin_echo or anatomy, "transverse T2 series", _before(spin_echo, anatomy)),
        "ADC": _last_of([s for s in series if s.is_adc], "ADC maps", ""),
        "HBV": _last_of(
            [s for s in weighted if s.b_value == highest],
            f"diffusion series with b {highest:g} s/mm²",
            f"the highest of the b-values; {len(weighted)} series reach {_LEAST_HIGH_B:g}; ",
        ),
    }
    return {channel: choice for channel, choice in found.items() if choice is not None}


def _before(spin_echo: list[Series], anatomy: list[Series]) -> str:
    others = len(anatomy) - len(spin_echo)
    return f"turbo spin echo goes before {others} of another kind; " if spin_echo and others else ""


def _last_of(candidates: list[Series], what: str, first: str) -> Choice | None:
    """The candidate that wins the ties, and the rule that decided."""
    if not candidates:
        return None
    best = max(candidates, key=lambda s: s._last)
    if len(candidates) == 1:
        return Choice(best, f"{first}the only one of the {what}")
    rules: tuple[tuple[str, Callable[[Series], object]], ...] = (
        ("acquired last", lambda s: s.acquired),
        ("acquired at the same time, of the higher series number", lambda s: s.number),
        ("alike in time and number, of the series UID that sorts last", lambda s: s.uid),
    )
    left = candidates
    for rule, key in rules:
        left = [s for s in left if key(s) == key(best)]
        if len(left) == 1:
            return Choice(best, f"{first}of {len(candidates)} {what} the one {rule}")
    return Choice(best, f"{first}of {len(candidates)} {what} one that lies in several folders, the first by path")


def _by_folder(folder: str | os.PathLike) -> Iterator[_Headers]:
    for root, folders, _ in os.walk(folder):
        folders.sort()
        files = dicom_files(root)
        if not files:
            continue
        headers: _Headers = {files[0]: _header(files[0])}
        headers.update((file, None) for file in files[1:])
        yield headers


def _by_uid(folder: str | os.PathLike) -> list[_Headers]:
    series: dict[str, _Headers] = {}
    instances: dict[str, Path] = {}
    for root, folders, _ in os.walk(folder):
        folders.sort()
        for file in dicom_files(root):
            header = _header(file)
            if str(header.file_meta.get("MediaStorageSOPClassUID", "")) == _DIRECTORY_CLASS:
                continue
            uid, instance = _text(file, header, "SeriesInstanceUID"), _text(file, header, "SOPInstanceUID")
            if not uid or not instance:
                raise InputError(f"the DICOM file {file} tells no series: it is truncated", _REMEDY)
            first = instances.setdefault(instance, file)
            if first == file:
                series.setdefault(uid, {})[file] = header
            elif first.read_bytes() != file.read_bytes():
                raise InputError(
                    f"{first} and {file} have one SOPInstanceUID and different contents", "Remove the one that is wrong"
                )
    return list(series.values())


@quiet_pydicom()
def _text(file: Path, header: Any, keyword: str) -> str:
    try:
        return str(header.get(keyword) or "").strip()
    except Exception as error:  # pydicom raises many kinds for values that it cannot convert
        raise InputError(f"the DICOM file {file} has an unreadable {keyword}", _REMEDY) from error


@quiet_pydicom()
def _described(headers: _Headers) -> Series | None:
    files = sorted(headers)
    file = files[0]
    try:
        known = {file: header for file, header in headers.items() if header is not None}
        known = {file: header for file, header in known.items() if _is_image(header)}
        if not known:
            return None  # a report or a segmentation: no image series
        series = _from_headers(tuple(files), list(known.values()))
        if not series.is_diffusion or series.is_adc:
            return series
        values = []
        for file in files:
            values.append(b_value_of(headers[file] or _header(file)))
        b_values = [value for value in values if value is not None]
        return Series(**{**series.__dict__, "b_value": max(b_values, default=None)})
    except InputError:
        raise
    except Exception as error:  # pydicom raises many kinds for values that it cannot convert
        raise InputError(
            f"the header of the DICOM file {file} cannot be read ({type(error).__name__})", _REMEDY
        ) from error


def _is_image(header: Any) -> bool:
    return "ImageOrientationPatient" in header and "Rows" in header


def _from_headers(files: tuple[Path, ...], headers: list[Any]) -> Series:
    """What does not differ among the slices is taken from any; else from all, so that their order is nothing."""
    directions = [np.array(header.ImageOrientationPatient, dtype=float).reshape(2, 3) for header in headers]
    dates = [header.get("AcquisitionDate") or header.get("StudyDate") or "" for header in headers]
    times = [header.get("AcquisitionTime") or "" for header in headers]
    patients = {str(header.get("PatientID", "")) for header in headers}
    if len(patients) > 1:
        raise InputError(f"the series of the DICOM file {files[0]} has files of {len(patients)} patients", _REMEDY)
    return Series(
        folder=files[0].parent,
        files=files,
        patient=patients.pop(),
        study=min((str(header.get("StudyDate", "")), str(header.get("StudyInstanceUID", ""))) for header in headers),
        number=min(int(header.get("SeriesNumber") or 0) for header in headers),
        uid=min(str(header.get("SeriesInstanceUID", "")) for header in headers),
        acquired=min(f"{date} {time}" for date, time in zip(dates, times)),
        kind=min(str(header.get("SeriesDescription", "")) for header in headers).lower(),
        derived=tuple(sorted({str(part).upper() for header in headers for part in header.get("ImageType") or ()})),
        is_transverse=all(int(np.argmax(np.abs(np.cross(*pair)))) == 2 for pair in directions),
        b_value=None,
    )


@quiet_pydicom()
def _header(path: Path) -> Any:
    import pydicom

    try:
        return pydicom.dcmread(path, stop_before_pixels=True)
    except Exception as error:  # pydicom raises many kinds for files that are cut off or not DICOM
        raise InputError(f"the DICOM file {path} cannot be read ({type(error).__name__})", _REMEDY) from error
