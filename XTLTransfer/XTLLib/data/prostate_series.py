"""Which DICOM series of a prostate MR study are T2W, ADC and HBV; the rules leave nothing to chance.

The rules are a project choice:

* T2W: the description says t2, the slices are transverse by their geometry (the description is not
  asked), and it is no diffusion series. A turbo spin echo (tse, fse) goes before other kinds.
* ADC: the image type or the description says ADC; an exponential ADC is none.
* HBV: the diffusion series that is no ADC map and has the highest b-value, at least 500 s/mm²; values
  that the scanner calculated count like measured ones. A series of several b-values is read at its highest.
* Ties: the series acquired last (it was repeated because the first was not good enough); then the
  higher series number.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from .dicom import b_value_of, dicom_files
from .quiet_dicom import quiet_pydicom

CHANNELS = ("T2W", "ADC", "HBV")
_LEAST_HIGH_B = 500.0


@dataclass(frozen=True)
class Series:
    """One series folder, by what its headers say.

    Attributes
    ----------
    study : (study date, study UID); acquired : date and time of acquisition as text that sorts.
    kind : description in lower case. derived : image type in capitals.
    b_value : the highest of the series, s/mm²; None when nothing tells one.
    """

    folder: Path
    study: tuple[str, str]
    number: int
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
    def _last(self) -> tuple[str, int]:
        return self.acquired, self.number


def find_series(folder: str | os.PathLike) -> list[Series]:
    """Every folder at or below ``folder`` that holds a DICOM image series, by path.

    One file of a series is looked at, of a diffusion series all, for their b-values.
    """
    found = []
    for root, folders, _ in os.walk(folder):
        folders.sort()
        files = dicom_files(root)
        if files:
            series = _describe(Path(root), files)
            if series is not None:
                found.append(series)
    return found


def choose_series(series: list[Series]) -> dict[str, Path]:
    """The folders of T2W, ADC and HBV among the series of one study; a channel that is not there is left out."""
    anatomy = [s for s in series if "t2" in s.kind and s.is_transverse and not s.is_diffusion and not s.is_adc]
    spin_echo = [s for s in anatomy if re.search(r"tse|fse", s.kind)]
    maps = [s for s in series if s.is_adc]
    weighted = [s for s in series if s.is_diffusion and not s.is_adc and (s.b_value or 0) >= _LEAST_HIGH_B]
    chosen = {
        "T2W": max(spin_echo or anatomy, key=lambda s: s._last, default=None),
        "ADC": max(maps, key=lambda s: s._last, default=None),
        "HBV": max(weighted, key=lambda s: (s.b_value, s._last), default=None),
    }
    return {channel: one.folder for channel, one in chosen.items() if one is not None}


@quiet_pydicom()
def _describe(folder: Path, files: list[Path]) -> Series | None:
    first = _header(files[0])
    if "ImageOrientationPatient" not in first or "Rows" not in first:
        return None  # a report or a segmentation: no image series
    rows, columns = np.array(first.ImageOrientationPatient, dtype=float).reshape(2, 3)
    series = Series(
        folder=folder,
        study=(str(first.get("StudyDate", "")), str(first.get("StudyInstanceUID", ""))),
        number=int(first.get("SeriesNumber") or 0),
        acquired=f"{first.get('AcquisitionDate') or first.get('StudyDate') or ''} {first.get('AcquisitionTime') or ''}",
        kind=str(first.get("SeriesDescription", "")).lower(),
        derived=tuple(str(part).upper() for part in first.get("ImageType", ())),
        is_transverse=int(np.argmax(np.abs(np.cross(rows, columns)))) == 2,
        b_value=None,
    )
    if not series.is_diffusion or series.is_adc:
        return series
    values = [b_value_of(_header(file)) for file in files]
    known = [value for value in values if value is not None]
    return Series(**{**series.__dict__, "b_value": max(known, default=None)})


@quiet_pydicom()
def _header(path: Path):
    import pydicom

    try:
        return pydicom.dcmread(path, stop_before_pixels=True)
    except Exception as error:  # pydicom raises many kinds for files that are cut off or not DICOM
        raise InputError(
            f"the DICOM file {path} cannot be read ({type(error).__name__})", "Complete the download"
        ) from error
