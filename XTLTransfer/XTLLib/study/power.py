"""What the design of a study can show at all, said before anything runs. The assumptions are project choices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..data.datalist import Datalist, Entry
from ..metrics.power import (
    POWER,
    detectable_auc_difference,
    detectable_difference,
    power_statement,
    smallest_p_value,
    units_needed,
)
from .config import Study

ASSUMED_AUC, ASSUMED_CORRELATION = 0.75, 0.5  # of the weaker arm; of both arms' scores within a class
ASSUMED_SDS = (0.02, 0.05, 0.10)  # of paired differences of a share such as Dice
_SHARES = ("dice", "iou", "ppv", "tpr", "ltpr", "lfpr", "lesion-f1", "isbi")
_PLURALS = {"patient": "patients", "case": "cases", "finding": "findings"}


@dataclass(frozen=True)
class DesignPower:
    """The power of a design.

    Attributes
    ----------
    text : for a plan and a report, in sentences.
    units : how many there are of the unit of analysis. alpha : that the best of the comparisons has to reach.
    can_decide : whether significance is possible at all, and in AUC whether the largest gain would be found with a
        probability of 80 %.
    """

    text: str
    units: int
    alpha: float
    can_decide: bool


def design_power(study: Study, datalist: Datalist) -> DesignPower:
    """What so many patients can show in this study, from labels and counts alone."""
    count = len(study.comparisons)
    alpha = study.alpha / max(count, 1)
    units = _units(study.unit, datalist.entries)
    if datalist.task == "classification":
        sentences, can = _of_ratings(datalist.entries, alpha)
    else:
        sentences, can = _of_cases(study, datalist, units, alpha)
    if count > 1:
        sentences.append(
            f"With Holm's correction the best of {count} comparisons has to reach p = {alpha:.2g} for "
            f"{study.alpha:g} in all."
        )
    if study.repeats > 1 or len(study.seeds) > 1:
        sentences.append("Seeds and repeated folds make a figure steadier; they do not stand for more patients.")
    if not can:
        sentences.insert(
            0,
            "This design is too small to decide anything: it is a demonstration."
            if datalist.task == "classification"
            else "This design cannot reach significance, whatever comes out: it is a demonstration.",
        )
    return DesignPower(" ".join(sentences), units, alpha, can)


def _of_cases(study: Study, datalist: Datalist, units: int, alpha: float) -> tuple[list[str], bool]:
    """A figure for every case, compared in pairs by the sign-flip test."""
    name = _PLURALS[study.unit]
    can = smallest_p_value(units) <= alpha
    has_table = can and study.metric_of(datalist.task) in _SHARES
    sentences = [power_statement(units, None, name, alpha)]
    if has_table:
        found = [(sd, detectable_difference(units, sd, alpha)) for sd in ASSUMED_SDS]
        words = ", ".join(f"{difference:.3f} (if it is {sd:.2f})" for sd, difference in found)
        sentences.append(
            f"Depending on the standard deviation of the paired differences, a mean difference is found with a "
            f"probability of {POWER:.0%} from: {words} (simulation)."
        )
    patients = len(datalist.patients())
    if study.unit == "case" and patients < units:
        smallest = smallest_p_value(patients)
        sentences.append(
            f"These {units} cases come from {patients} patients, and cases of one patient resemble each other: by "
            f"patient an exact test cannot fall below p = {smallest:.4g}"
            + (f"; {units_needed(alpha)} patients are needed." if smallest > alpha else ".")
        )
    return sentences, can


def _of_ratings(entries: Sequence[Entry], alpha: float) -> tuple[list[str], bool]:
    """A rating for every finding, compared by AUC; the truth lies between findings and patients as the units."""
    worst: dict[str, int] = {}
    for entry in entries:
        worst[entry.patient] = max(int(entry.label or 0), worst.get(entry.patient, 0))
    positives = sum(1 for entry in entries if entry.label)
    by_finding = _detectable(positives, len(entries) - positives, alpha)
    by_patient = _detectable(sum(worst.values()), len(worst) - sum(worst.values()), alpha)
    counts = (
        f"{len(worst)} patients, {sum(worst.values())} with a positive finding; {len(entries)} findings, "
        f"{positives} positive."
    )
    if math.isinf(by_finding):
        return [
            f"{counts} Against an arm of AUC {ASSUMED_AUC}, not even a gain to 1 is found at p = {alpha:.2g} with a "
            f"probability of {POWER:.0%} (simulation)."
        ], False
    low, high = f"{by_finding:.2f}", "none" if math.isinf(by_patient) else f"{by_patient:.2f}"
    spread = low if low == high else f"{low} (findings of a patient independent) to {high} (one finding a patient)"
    return [
        f"{counts} Against an arm of AUC {ASSUMED_AUC}, a gain is found with a probability of {POWER:.0%} from "
        f"{spread} (simulation, correlation {ASSUMED_CORRELATION} between arms)."
    ], True


def _detectable(positives: int, negatives: int, alpha: float) -> float:
    if min(positives, negatives) < 2:
        return math.inf
    return detectable_auc_difference(positives, negatives, ASSUMED_AUC, ASSUMED_CORRELATION, alpha)


def _units(unit: str, entries: Sequence[Entry]) -> int:
    return len({entry.patient for entry in entries}) if unit == "patient" else len(entries)
