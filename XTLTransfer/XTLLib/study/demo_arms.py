"""Trains the arms of ``xtl demo`` and applies their bundles to phantoms that no stage has seen."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.case import Case
from ..data.datalist import Datalist, Entry
from ..data.load import load_case
from ..errors import InputError
from ..inference.results import ClassificationResult, SegmentationResult
from ..metrics.roc import AucInterval, auc_interval
from ..progress import Progress

if TYPE_CHECKING:
    from ..transfer.provenance import ChainRecord


@dataclass(frozen=True, eq=False)
class TrainedArm:
    """One chain after its run.

    Attributes
    ----------
    arm : TL or XTL. target : ms or prostate.
    bundle : folder. record : of the chain.
    log : rows of the logs of all its stages (training.logs.read_logs).
    """

    arm: str
    target: str
    bundle: Path
    record: ChainRecord
    log: list[dict[str, Any]]

    @property
    def target_seconds(self) -> float:
        """Training time of the target stage."""
        return self.record.stages[-1].seconds

    @property
    def mammogram_seconds(self) -> float:
        """Training time of the mammogram stage, 0 without one; arms of two targets share it."""
        return sum(stage.seconds for stage in self.record.stages[1:-1])


@dataclass(frozen=True, eq=False)
class SegmentationOutcome:
    """An arm on the unseen brains.

    Attributes
    ----------
    trained : the arm. entries : the unseen cases.
    dice : of each. results : of each, in the same order.
    """

    trained: TrainedArm
    entries: tuple[Entry, ...]
    dice: tuple[float, ...]
    results: tuple[SegmentationResult, ...]

    @property
    def mean_dice(self) -> float:
        return float(np.mean(self.dice))


@dataclass(frozen=True, eq=False)
class ClassificationOutcome:
    """An arm on the unseen prostates.

    Attributes
    ----------
    trained : the arm.
    probabilities, truth : (n,) of every unseen finding. patients : of each.
    auc : with its patient-bootstrap interval.
    result : of one unseen patient with all findings.
    """

    trained: TrainedArm
    probabilities: np.ndarray
    truth: np.ndarray
    patients: tuple[str, ...]
    auc: AucInterval
    result: ClassificationResult


def train_arm(
    arm: str, target: str, chain_file: Path, runs: Path, bundles: Path, cache: Path, device: str, progress: Progress
) -> TrainedArm:
    """Run a chain in ``runs/<name>`` and move its bundle to ``bundles/<name>``; checkpoints are not kept."""
    from ..training.logs import read_logs
    from ..training.run import run_chain
    from ..transfer.chain import load_chain

    chain = load_chain(chain_file)
    run = runs / chain.name
    result = run_chain(chain, run, progress=progress, device=device, stage_cache=cache)
    for checkpoint in run.rglob("checkpoint.pt"):
        checkpoint.unlink()
    bundle = bundles / chain.name
    bundles.mkdir(parents=True, exist_ok=True)
    shutil.move(str(result.bundle), str(bundle))
    return TrainedArm(arm, target, bundle, result.record, read_logs(run))


def segment_unseen(trained: TrainedArm, datalist: Datalist, device: str, progress: Progress) -> SegmentationOutcome:
    """Segment the test part and measure Dice on each reference grid."""
    from ..bundle.load import load_bundle
    from ..inference.segment import segment_case
    from .evaluate import segmentation_values

    bundle = load_bundle(trained.bundle)
    results, dice = [], []
    for number, entry in enumerate(datalist.test):
        part = progress.part(number / len(datalist.test), (number + 1) / len(datalist.test))
        case = load_case(entry, datalist)
        results.append(segment_case(case, bundle, device=device, progress=part))
        dice.append(segmentation_values(results[-1].label, case)["dice"])
    return SegmentationOutcome(trained, datalist.test, tuple(dice), tuple(results))


def classify_unseen(trained: TrainedArm, datalist: Datalist, device: str, progress: Progress) -> ClassificationOutcome:
    """Rate all findings of the test part, and one unseen patient as a user would."""
    from ..bundle.load import load_bundle
    from ..inference.classify import classify_case, rate_patches
    from .evaluate import held_out_patches

    bundle = load_bundle(trained.bundle)
    probabilities = rate_patches(bundle, held_out_patches(datalist, bundle.patch_spec), device=device)
    truth = np.array([int(entry.label) for entry in datalist.test])
    patients = tuple(entry.patient for entry in datalist.test)
    result = classify_case(unseen_prostate(datalist), bundle, device=device, progress=progress)
    return ClassificationOutcome(
        trained, probabilities, truth, patients, auc_interval(probabilities, truth, patients), result
    )


def unseen_prostate(datalist: Datalist) -> Case:
    """The test patient with most findings among those who have findings of both kinds, with all findings."""
    by_patient: dict[str, list[Entry]] = {}
    for entry in datalist.test:
        by_patient.setdefault(entry.patient, []).append(entry)
    if not by_patient:
        raise InputError(f"the datalist {datalist.name} has no test patient", "Keep patients out as the test part")
    chosen = max(by_patient.values(), key=lambda entries: (len({e.label for e in entries}), len(entries)))
    case = load_case(chosen[0], datalist)
    return replace(case, findings=tuple(entry.finding for entry in chosen if entry.finding is not None))
