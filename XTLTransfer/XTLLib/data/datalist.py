"""A datalist: which files make the cases of a task, and which part each patient belongs to."""

from __future__ import annotations

import functools
import glob
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import InputError
from ..files import sha256_of
from .case import Finding
from .splits import deal_into_folds, draw_patients, part_size

TASKS = ("segmentation", "classification", "mammogram-classification", "mammogram-segmentation", "unlabelled")
MAMMOGRAM_CHANNEL = "MG"
PARTS = ("training", "validation", "test")


@dataclass(frozen=True)
class Entry:
    """One item of a datalist: a case, a finding of a case, or a mammogram.

    Attributes
    ----------
    patient : splits never part the entries of one patient.
    case : unique within the datalist.
    images : channel -> absolute path of an image file, of a folder that holds one DICOM series, or of
        an array file that holds all channels.
    label : mask path (segmentation), 0 or 1 (classification), 0 .. n-1 (mammogram classification), None
        when unknown. Of mammogram segmentation a mask path, 1 where ``attributes["circles_px"]`` marks the
        abnormalities, 0 where there are none.
    finding : the point that ``label`` speaks of, for classification in volumes.
    row : the entry's row in an array file.
    attributes : what else is known (zone, view, laterality, grade, raters, ...).
    further_masks : masks of further raters; ``attributes["raters"]`` says how they join ``label``. Of
        mammogram segmentation the masks of further abnormalities.
    """

    patient: str
    case: str
    images: Mapping[str, str]
    label: str | int | None = None
    finding: Finding | None = None
    row: int | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    further_masks: tuple[str, ...] = ()

    def files(self) -> list[str]:
        """Every path that the entry needs, each once."""
        masks = [self.label] if isinstance(self.label, str) else []
        return list(dict.fromkeys([*self.images.values(), *masks, *self.further_masks]))


@dataclass(frozen=True)
class Datalist:
    """The entries of a task in three parts, no patient in two of them.

    Attributes
    ----------
    name : short name for reports. description : origin, and what was left out and why.
    layout : the layout it was read from. task : one of TASKS.
    channels : every entry has them. reference : the channel on whose grid results are given.
    labels : label value -> meaning; of a classification the classes "0" .. "n-1", two where it is empty.
        Empty for the task "unlabelled", whose entries have no label in any part.
    """

    name: str
    layout: str
    task: str
    channels: tuple[str, ...]
    reference: str
    labels: Mapping[str, str]
    licence: str = ""
    training: tuple[Entry, ...] = ()
    validation: tuple[Entry, ...] = ()
    test: tuple[Entry, ...] = ()
    description: str = ""

    def __post_init__(self) -> None:
        for part in PARTS:
            object.__setattr__(self, part, tuple(getattr(self, part)))
        object.__setattr__(self, "channels", tuple(self.channels))
        _check(self)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries: training, then validation, then test."""
        return self.training + self.validation + self.test

    @property
    def classes(self) -> tuple[str, ...]:
        """What the labels 0 .. n-1 of a classification mean, in this order; () for other tasks."""
        if self.task not in ("classification", "mammogram-classification"):
            return ()
        return tuple(self.labels[key] for key in sorted(self.labels, key=int)) or ("0", "1")

    @property
    def has_mammograms(self) -> bool:
        """Whether the entries are films (2D), not volumes."""
        return self.task.startswith("mammogram") or self.channels == (MAMMOGRAM_CHANNEL,)

    def patients(self) -> tuple[str, ...]:
        """All patients, sorted."""
        return tuple(sorted({entry.patient for entry in self.entries}))

    def split(self, validation: float = 0.2, test: float = 0.0, seed: int = 0) -> Datalist:
        """All entries divided anew by patient; fractions are of patients, stratified on the worst label.

        A test part that is there (an official one) stays as it is when no ``test`` is asked for.
        """
        if self.test and not test:
            whole = replace(self, training=self.training + self.validation, validation=())
            return whole.hold_out(validation, seed) if validation else whole
        strata = _strata(self.entries)
        sizes = [
            part_size(len(strata), fraction, name) for fraction, name in ((test, "test"), (validation, "validation"))
        ]
        if sum(sizes) >= len(strata):
            raise InputError(
                f"the datalist {self.name} has {len(strata)} patients: too few to hold out {sum(sizes)}",
                "Add patients, or hold out fewer",
            )
        tested = draw_patients(strata, sizes[0], seed, "test")
        rest = {patient: stratum for patient, stratum in strata.items() if patient not in tested}
        validated = draw_patients(rest, sizes[1], seed, "validation")
        return self._with_parts(validated, tested)

    def folds(self, k: int, seed: int = 0) -> list[Datalist]:
        """``k`` datalists, each with one fold of the patients as test and the others as training.

        Patients are dealt so that folds differ by at most one patient, and by at most one patient of a stratum.
        """
        return [self._with_parts(set(), held) for held in deal_into_folds(_strata(self.entries), k, seed)]

    def hold_out(self, validation: float = 0.2, seed: int = 0) -> Datalist:
        """Some patients of the training part moved to the validation part; the test part stays."""
        strata = _strata(self.training)
        size = part_size(len(strata), validation, "validation")
        if size >= len(strata):
            raise InputError(
                f"the datalist {self.name} has {len(strata)} training patients: too few to hold out {size}",
                "Add patients, or hold out none",
            )
        moved = draw_patients(strata, size, seed, "validation")
        return replace(
            self,
            training=tuple(entry for entry in self.training if entry.patient not in moved),
            validation=self.validation + tuple(entry for entry in self.training if entry.patient in moved),
        )

    def content_hash(self) -> str:
        """SHA-256 over what the entries are and the bytes of their files; where the files lie does not matter."""
        digest = hashlib.sha256()
        # Two classes add nothing, so that what was trained when there were always two is found again.
        more = [len(self.classes)] if len(self.classes) > 2 else []
        digest.update(json.dumps([self.task, self.channels, self.reference, *more]).encode())
        for part in PARTS:
            for entry in getattr(self, part):
                finding = entry.finding and [*map(float, entry.finding.position_ras), entry.finding.zone]
                label = "mask" if isinstance(entry.label, str) else entry.label
                facts = [part, entry.patient, entry.case, label, finding, entry.row, sorted(entry.attributes.items())]
                digest.update(json.dumps(facts).encode())
                paths = [entry.images[channel] for channel in self.channels]
                paths += [entry.label] if isinstance(entry.label, str) else []
                for path in [*paths, *entry.further_masks]:
                    digest.update(digest_of_image(Path(path)).encode())
        return digest.hexdigest()

    def save(self, path: str | os.PathLike) -> None:
        """Write a MONAI (Medical Segmentation Decathlon) datalist; files below its folder are named relatively."""
        from .datalist_json import write_datalist

        write_datalist(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike, check_files: bool = True) -> Datalist:
        """Read what ``save`` wrote.

        Without ``check_files`` the files that it names may be gone.

        Raises
        ------
        InputError : the file is missing, is not JSON, lacks keys, names files that are gone, or has a
            patient in two parts.
        """
        from .datalist_json import read_datalist

        return read_datalist(path, check_files)

    def _with_parts(self, validated: set[str], tested: set[str]) -> Datalist:
        entries = self.entries
        return replace(
            self,
            training=tuple(e for e in entries if e.patient not in validated and e.patient not in tested),
            validation=tuple(e for e in entries if e.patient in validated),
            test=tuple(e for e in entries if e.patient in tested),
        )


def _strata(entries: Iterable[Entry]) -> dict[str, int]:
    """patient -> the worst label of the patient's entries; masks and unknown labels count as 0."""
    strata: dict[str, int] = {}
    for entry in entries:
        label = entry.label if isinstance(entry.label, int) else 0
        strata[entry.patient] = max(label, strata.get(entry.patient, 0))
    return strata


def _check(datalist: Datalist) -> None:
    name = f"the datalist {datalist.name}"
    if datalist.task not in TASKS:
        raise InputError(f"{name} has the task {datalist.task}", f"Use one of: {', '.join(TASKS)}")
    if datalist.reference not in datalist.channels:
        raise InputError(
            f"{name} has the reference channel {datalist.reference}, which is not among its channels "
            f"({', '.join(datalist.channels)})",
            "Name one of the channels as the reference",
        )
    _check_labels(datalist)
    seen: set[str] = set()
    part_of: dict[str, str] = {}
    for part in PARTS:
        for entry in getattr(datalist, part):
            _check_entry(datalist, part, entry)
            if entry.case in seen:
                raise InputError(f"{name} has the case {entry.case} twice", "Give every entry its own case name")
            seen.add(entry.case)
            if part_of.setdefault(entry.patient, part) != part:
                raise InputError(
                    f"{name} has the patient {entry.patient} in two parts ({part_of[entry.patient]} and {part})",
                    "Split by patient: all entries of one patient belong in one part",
                )


def _check_entry(datalist: Datalist, part: str, entry: Entry) -> None:
    name = f"the datalist {datalist.name}, {part} case {entry.case or '(unnamed)'}"
    if not entry.patient or not entry.case:
        raise InputError(f"{name} lacks the name of the patient or of the case", "Name both")
    missing = [channel for channel in datalist.channels if not entry.images.get(channel)]
    if missing:
        raise InputError(f"{name} has no image for {', '.join(missing)}", "Add the image, or leave the case out")
    label = entry.label
    if datalist.task == "unlabelled":
        if label is not None:
            raise InputError(f"{name} has a label, and the datalist is unlabelled", "Take the label out")
        return
    if label is None and part == "test":
        return
    if datalist.task == "segmentation" and not isinstance(label, str):
        raise InputError(f"{name} has no mask", "Add the path of a mask, or move the case to the test part")
    if datalist.task == "mammogram-segmentation":
        if not isinstance(label, str) and not (type(label) is int and label == int("circles_px" in entry.attributes)):
            raise InputError(
                f"{name} has neither a mask nor marks (label {label})",
                "Give a mask, 1 with the attribute circles_px, or 0 without it",
            )
    elif datalist.task != "segmentation" and not (type(label) is int and 0 <= label < len(datalist.classes)):
        numbers = "0 or 1" if len(datalist.classes) == 2 else f"one of 0 to {len(datalist.classes) - 1}"
        raise InputError(f"{name} has the label {label}", f"Give {numbers}, or move the case to the test part")


def _check_labels(datalist: Datalist) -> None:
    """Raise InputError unless the labels of a classification are 0 .. n-1, of volumes 0 and 1."""
    keys = list(datalist.labels)
    if datalist.task not in ("classification", "mammogram-classification") or not keys:
        return
    binary = datalist.task == "classification"
    expected = {str(number) for number in range(len(keys))}
    if set(keys) != expected or len(keys) < 2 or (binary and len(keys) > 2):
        raise InputError(
            f"the datalist {datalist.name} has the labels {', '.join(keys)}",
            "Name the classes of volumes 0 and 1" if binary else "Name two classes or more: 0, 1, ...",
        )


def digest_of_image(path: Path) -> str:
    """SHA-256 of a file, with that of a MetaImage's voxels, or of all files of a folder.

    Remembered while the files do not change. The voxels of ``scan.mhd`` are looked for beside it, as ``scan.*raw``.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
    elif path.suffix.lower() == ".mhd":
        files = [path, *sorted(path.parent.glob(f"{glob.escape(path.stem)}.*raw"))]
    else:
        files = [path]
    try:
        states = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    except OSError as error:
        raise InputError(f"the file {path} cannot be read ({error.strerror})", "Put it back") from error
    return " ".join(_digest_of_file(*state) for state in states)


@functools.lru_cache(maxsize=100_000)
def _digest_of_file(path: str, size: int, mtime_ns: int) -> str:
    return sha256_of(path)
