"""Cohorts of phantoms as files and a MONAI Decathlon datalist, split by patient."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...progress import Progress
from ..case import Case
from ..datalist import Datalist, Entry
from ..images import write_volume
from . import brain, mammogram, prostate

LAYOUT = "phantom"
LICENCE = "generated, no rights reserved"
_NOTE = "Generated images: they prove the machinery and nothing medical"
_THREADS = 2


@dataclass(frozen=True)
class Parts:
    """Numbers of patients in the three parts of a cohort; patients are numbered in this order."""

    training: int
    validation: int = 0
    test: int = 0

    @property
    def patients(self) -> int:
        return self.training + self.validation + self.test

    def deal(self, entries: Iterable[Entry]) -> dict[str, tuple[Entry, ...]]:
        """The entries by part, in the order of their patients' numbers."""
        dealt: dict[str, list[Entry]] = {"training": [], "validation": [], "test": []}
        for entry in entries:
            number = int(entry.patient.rsplit("-", 1)[1])
            in_training, in_validation = number <= self.training, number <= self.training + self.validation
            dealt["training" if in_training else "validation" if in_validation else "test"].append(entry)
        return {part: tuple(members) for part, members in dealt.items()}


def write_mammograms(folder: Path, parts: Parts, seed: int = 0, progress: Progress | None = None) -> Datalist:
    """Two films a patient (16-bit PNG), half of the films abnormal; label 1 = benign or malignant mass.

    The attribute circles_px of an abnormal film is "x y radius" of its mass in pixels from the top left.

    Writes ``folder/phantom-NNN/*.png`` and ``folder/datalist.json``.
    """

    def write(number: int) -> list[Entry]:
        rng = np.random.default_rng([seed, 1, number])
        patient = _name(number)
        view = str(rng.choice(mammogram.VIEWS))
        severities = ["normal", str(rng.choice(mammogram.SEVERITIES[1:]))]
        if number % 4 == 0:
            severities = ["normal", "normal"] if number % 8 == 0 else ["benign", "malignant"]
        rng.shuffle(severities)
        entries = []
        for laterality, severity in zip("LR", severities):
            film = mammogram.mammogram(int(rng.integers(2**31)), severity, laterality, view)
            path = folder / patient / f"{laterality}-{view}.png"
            _write_png(film.pixels, path)
            attributes = {"severity": severity, "laterality": laterality, "view": view}
            if film.centre_px is not None:
                attributes["circles_px"] = " ".join(f"{value:.1f}" for value in (*film.centre_px, film.radius_px))
            case = f"{patient}-{laterality}"
            entries.append(Entry(patient, case, {"MG": str(path)}, film.abnormal, attributes=attributes))
        return entries

    entries = _in_threads(write, folder, parts, "Phantoms: mammograms", progress)
    return _save(
        Datalist(
            name="phantom mammograms",
            layout=LAYOUT,
            task="mammogram-classification",
            channels=("MG",),
            reference="MG",
            labels={"0": "normal", "1": "abnormal"},
            licence=LICENCE,
            description=_NOTE,
            **parts.deal(entries),
        ),
        folder,
    )


def write_brains(folder: Path, parts: Parts, seed: int = 0, progress: Progress | None = None) -> Datalist:
    """FLAIR, T1, T2 and lesion mask of each patient as NIfTI; one in four of each kind of grid (brain.VARIANTS).

    Writes ``folder/phantom-NNN/{FLAIR,T1,T2,lesions}.nii`` and ``folder/datalist.json``.
    """

    def write(number: int) -> list[Entry]:
        case_seed = int(np.random.default_rng([seed, 2, number]).integers(2**31))
        case = brain.brain_case(case_seed, _name(number), brain.VARIANTS[(number - 1) % len(brain.VARIANTS)])
        images = _write_channels(case, folder)
        mask = folder / case.patient / "lesions.nii"
        write_volume(case.mask, mask)
        variant = brain.VARIANTS[(number - 1) % len(brain.VARIANTS)]
        return [Entry(case.patient, case.patient, images, str(mask), attributes={"grids": variant})]

    entries = _in_threads(write, folder, parts, "Phantoms: brain MR", progress)
    return _save(
        Datalist(
            name="phantom brain MR",
            layout=LAYOUT,
            task="segmentation",
            channels=brain.CHANNELS,
            reference="FLAIR",
            labels={"0": "background", "1": "lesion"},
            licence=LICENCE,
            description=_NOTE,
            **parts.deal(entries),
        ),
        folder,
    )


def write_prostates(folder: Path, parts: Parts, seed: int = 0, progress: Progress | None = None) -> Datalist:
    """T2W, ADC and HBV of each patient as NIfTI, one datalist entry a finding; label 1 = significant.

    Writes ``folder/phantom-NNN/{T2W,ADC,HBV}.nii`` and ``folder/datalist.json``.
    """

    def write(number: int) -> list[Entry]:
        case_seed = int(np.random.default_rng([seed, 3, number]).integers(2**31))
        case = prostate.prostate_case(case_seed, _name(number))
        images = _write_channels(case, folder)
        return [
            Entry(
                case.patient,
                f"{case.patient}-{finding.identifier}",
                images,
                int(bool(finding.significant)),
                finding=finding,
                attributes={"zone": finding.zone},
            )
            for finding in case.findings
        ]

    entries = _in_threads(write, folder, parts, "Phantoms: prostate MR", progress)
    return _save(
        Datalist(
            name="phantom prostate MR",
            layout=LAYOUT,
            task="classification",
            channels=prostate.CHANNELS,
            reference="T2W",
            labels={"0": "not significant", "1": "significant"},
            licence=LICENCE,
            description=_NOTE,
            **parts.deal(entries),
        ),
        folder,
    )


def _name(number: int) -> str:
    return f"phantom-{number:03d}"


def _in_threads(
    write: Callable[[int], list[Entry]], folder: Path, parts: Parts, stage: str, progress: Progress | None
) -> list[Entry]:
    """The entries of all patients, in their order; numpy and SimpleITK leave the interpreter to the other thread."""
    for number in range(1, parts.patients + 1):
        (folder / _name(number)).mkdir(parents=True, exist_ok=True)
    entries: list[Entry] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        jobs = [pool.submit(write, number) for number in range(1, parts.patients + 1)]
        try:
            for done, job in enumerate(jobs):
                if progress is not None:
                    progress.report(stage, done / parts.patients)
                entries.extend(job.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return entries


def _write_channels(case: Case, folder: Path) -> dict[str, str]:
    images = {}
    for name, volume in case.channels.items():
        path = folder / case.patient / f"{name}.nii"
        write_volume(volume, path)
        images[name] = str(path)
    return images


def _write_png(pixels: np.ndarray, path: Path) -> None:
    import SimpleITK

    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(pixels), str(path))


def _save(datalist: Datalist, folder: Path) -> Datalist:
    datalist.save(folder / "datalist.json")
    return datalist
