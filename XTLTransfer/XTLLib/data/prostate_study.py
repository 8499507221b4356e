"""A prostate MR study from a folder: PI-CAI's ``.mha`` triples, or DICOM in any arrangement of files."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import InputError
from .case import Case, Finding
from .dicom import read_series_files, series_files_grid
from .images import read_volume
from .ktrans import find_ktrans, read_ktrans
from .prostate_series import CHANNELS, Choice, Series, chosen_series, find_series
from .volume import Volume

REFERENCE = "T2W"
_TRIPLE = re.compile(r"(\d+_\d+)_t2w\.mha", re.IGNORECASE)
# Median of the positive values of an ADC map -> its unit. Tissue and noise together have 0.2 to 3e-3 mm²/s.
_ADC_UNITS = (("1e-6 mm²/s", 1e2, 6e3), ("1e-3 mm²/s", 1e-1, 6.0), ("mm²/s", 1e-4, 6e-3))


@dataclass(frozen=True, eq=False)
class ProstateStudy:
    """A study that was read.

    Attributes
    ----------
    case : channels T2W (reference), ADC, HBV, KTRANS, those that there are, each on its own grid.
    choices : for a person to read: what was taken for each channel and why, what is missing, what was left.
        They name series and files, never what a DICOM header says of the patient or of dates.
    patient : the DICOM patient ID, "" where the images have none: never show or write it.
    """

    case: Case
    choices: tuple[str, ...]
    patient: str = field(default="", repr=False)


def read_prostate_study(
    folder: str | os.PathLike,
    *,
    findings: Sequence[Finding] = (),
    ktrans: str | os.PathLike | None = None,
    patient: str = "case",
) -> ProstateStudy:
    """Read the one study that a folder holds.

    A folder with a ``<patient>_<study>_t2w.mha`` at or below it is PI-CAI's; any other is searched for DICOM
    files, whose series are told and chosen by their headers (see prostate_series), however the files are
    named. Of several studies of one patient, the one that has the most of T2W, ADC, HBV, and among those shows all
    ``findings``, is read; of several such the latest.

    Parameters
    ----------
    findings : of the patient; they go into the case.
    ktrans : the Ktrans map's .mhd, or its folder; default: the one ``*Ktrans*.mhd`` in the folder, if any.
    patient : what to call the patient; nothing is taken from DICOM headers.

    Raises
    ------
    InputError : several patients or PI-CAI studies; no T2W; a file unreadable or truncated; a chosen series that is
        not one volume (see dicom); a channel with NaN, with axes that are not at right angles, away from the T2W,
        or with values that no such image has.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"the folder {folder} does not exist", "Name the folder of one study")
    triples = sorted(file for file in folder.rglob("*") if _TRIPLE.fullmatch(file.name))
    channels, choices, identity = (*_read_triple(folder, triples), "") if triples else _read_dicom(folder, findings)
    choices += [f"{name}: none found" for name in CHANNELS if name not in channels]
    found = Path(ktrans) if ktrans is not None else find_ktrans(folder)
    if found is not None:
        channels["KTRANS"] = read_ktrans(found)
        choices.append(f"KTRANS: {found.name}")
    if REFERENCE not in channels:
        raise InputError(f"the folder {folder} has no T2W: {'; '.join(choices)}", "Add the transverse T2 series")
    for name, volume in channels.items():
        volume.require_right_angles()
        _require_signal(name, volume)
    case = Case(patient, channels, REFERENCE, findings=tuple(findings))
    case.require_channels(tuple(channels))
    if "ADC" in channels:
        choices.append(f"ADC: values in {adc_unit(channels['ADC'])}, as their median tells; 0 is no value")
    return ProstateStudy(case, tuple(choices), identity)


def adc_unit(volume: Volume) -> str:
    """The unit of an ADC map by the median of its positive values. InputError when no unit makes them an ADC."""
    positive = volume.array[volume.array > 0]
    median = float(np.median(positive)) if positive.size else 0.0
    for unit, low, high in _ADC_UNITS:
        if low <= median <= high:
            return unit
    raise InputError(
        f"{volume.name} (ADC) has a median of {median:g}: no diffusion coefficient in mm²/s, 1e-3 or 1e-6 mm²/s",
        "Check that it is the ADC map, and its rescale slope",
    )


def _read_triple(folder: Path, triples: list[Path]) -> tuple[dict[str, Volume], list[str]]:
    if len(triples) > 1:
        studies = sorted({_study_of(file) for file in triples})
        listed = ", ".join(studies[:3]) + (" ..." if len(studies) > 3 else "")
        raise InputError(f"the folder {folder} holds {len(triples)} studies ({listed})", "Give each its own folder")
    study, beside = _study_of(triples[0]), list(triples[0].parent.iterdir())
    channels, choices = {}, []
    for name in CHANNELS:
        wanted = f"{study}_{name}.mha".lower()
        file = next((file for file in sorted(beside) if file.name.lower() == wanted), None)
        if file is not None:
            channels[name] = read_volume(file)
            choices.append(f"{name}: {file.name}, by PI-CAI's file names")
    return channels, choices


def _study_of(file: Path) -> str:
    match = _TRIPLE.fullmatch(file.name)
    assert match is not None
    return match.group(1)


def _read_dicom(folder: Path, findings: Sequence[Finding]) -> tuple[dict[str, Volume], list[str], str]:
    series = find_series(folder, mixed=True)
    if not series:
        raise InputError(
            f"the folder {folder} holds neither DICOM images nor <patient>_<study>_t2w.mha",
            "Name the folder of a study",
        )
    if len({one.patient for one in series}) > 1:
        raise InputError(
            f"the folder {folder} holds images of {len({one.patient for one in series})} patients",
            "Name the folder of one patient",
        )
    by_study: dict[tuple[str, str], list[Series]] = {}
    for one in series:
        by_study.setdefault(one.study, []).append(one)
    studies = [chosen_series(by_study[key]) for key in sorted(by_study, reverse=True)]
    best = max(studies, key=lambda chosen: (len(chosen), _shows(chosen, findings)))
    choices = []
    if len(studies) > 1:
        shown = " and shows the findings" if findings and _shows(best, findings) else ""
        choices.append(f"study: the latest of {len(studies)} that has the most channels{shown}")
    channels = {}
    for name, choice in best.items():
        channels[name] = read_series_files(choice.series.files, name=f"{choice.series.folder}#{choice.series.number}")
        choices.append(f"{name}: {choice.series.title}, {choice.why}")
    return channels, choices, series[0].patient


def _shows(chosen: dict[str, Choice], findings: Sequence[Finding]) -> bool:
    """Whether every chosen series holds every finding."""
    if not findings:
        return True
    points = np.array([finding.position_ras for finding in findings])
    return all(bool(series_files_grid(choice.series.files).contains(points).all()) for choice in chosen.values())


def _require_signal(name: str, volume: Volume) -> None:
    """Raise InputError for a constant or mostly negative image: neither a magnitude image nor a map is."""
    volume.require_finite()
    values = volume.array
    if values.min() == values.max():
        raise InputError(f"{volume.name} ({name}) has one value everywhere", "Check that the right image was chosen")
    if np.count_nonzero(values < 0) > values.size / 2:
        raise InputError(f"{volume.name} ({name}) is mostly negative", "Check its rescale slope and intercept")
