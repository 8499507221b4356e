"""From the networks' probabilities of findings to what is said of each: calibrated, with its interval and class."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..bundle.load import Bundle
from ..data.case import Finding
from ..metrics.operating_points import OperatingPoint
from .results import RatedFinding

# A project choice: below this calibrated probability a finding is like those that radiologists gave PI-RADS 2.
NEVER_BIOPSIED = 0.10


@dataclass(frozen=True, eq=False)
class Rating:
    """What a bundle's networks say.

    Attributes
    ----------
    bundle : whose. raw : probabilities float64 (members, views, findings). point : its operating point, if it has one.
    """

    bundle: Bundle
    raw: np.ndarray
    point: OperatingPoint | None

    @property
    def is_calibrated(self) -> bool:
        return self.bundle.calibration is not None and self.bundle.calibration.method != "none"

    def calibrated(self, probabilities: np.ndarray) -> np.ndarray:
        """Of any shape; as they are where the bundle has no calibration."""
        return probabilities if self.bundle.calibration is None else self.bundle.calibration(probabilities)


def operating_point_of(bundle: Bundle, rule: str) -> OperatingPoint | None:
    """The operating point of a rule; None for a bundle without any. Raises InputError for a rule it does not know."""
    if bundle.calibration is None or not bundle.calibration.operating_points:
        return None
    return bundle.calibration.point(rule)


def rate_findings(
    findings: Sequence[Finding], ratings: Sequence[Rating], warnings: Sequence[Sequence[str]]
) -> tuple[RatedFinding, ...]:
    """What is said of each finding, from one bundle's or several bundles' networks.

    A bundle's probability is its calibration of the mean over its members and views; of several bundles the
    probability is the mean, and the threshold too. Predictive values are known of single bundles only.

    Parameters
    ----------
    warnings : for each finding, those that its patches gave.
    """
    raw = np.mean([rating.raw.mean(axis=(0, 1)) for rating in ratings], axis=0)
    probabilities = np.mean([rating.calibrated(rating.raw.mean(axis=(0, 1))) for rating in ratings], axis=0)
    each = np.concatenate([rating.calibrated(rating.raw).reshape(-1, len(findings)) for rating in ratings])
    points = [rating.point for rating in ratings]
    threshold = None if None in points else float(np.mean([point.threshold for point in points]))
    only = points[0] if len(points) == 1 else None
    rated = []
    for index, finding in enumerate(findings):
        probability = float(probabilities[index])
        rated.append(
            RatedFinding(
                row=index + 1,
                finding=finding,
                probability=probability,
                raw_probability=float(raw[index]),
                interval=(float(each[:, index].min()), float(each[:, index].max())) if len(each) > 1 else None,
                threshold=threshold,
                is_significant=None if threshold is None else probability >= threshold,
                ppv=_known(only and only.ppv),
                npv=_known(only and only.npv),
                warnings=(*warnings[index], *_warnings(finding, probability, ratings)),
            )
        )
    return tuple(rated)


def rating_notes(ratings: Sequence[Rating]) -> tuple[str, ...]:
    """What holds for all findings, in sentences."""
    notes = []
    members, views = sum(len(rating.raw) for rating in ratings), ratings[0].raw.shape[1]
    if members * views > 1:
        networks = "1 network" if members == 1 else f"{members} networks"
        notes.append(f"A probability is the mean over {networks} and {views} view{'s' if views > 1 else ''}")
    for rating in ratings:
        calibration = rating.bundle.calibration
        if calibration is None:
            continue
        if rating.point is not None and len(ratings) == 1 and calibration.findings:
            share = calibration.positives / calibration.findings
            notes.append(
                f"In the data of calibration ({calibration.findings} findings of {calibration.patients} patients, "
                f"{share:.0%} of them significant) {_figures_in_words(rating.point)}; PPV and NPV hold for that share "
                "alone"
            )
        if members * views > 1:
            notes.append(f"{rating.bundle.name}: calibrated on {calibration.source}, and not on this mean")
    if len(ratings) > 1 and any(rating.point is not None for rating in ratings):
        notes.append("The threshold is the mean of the models'; no PPV and NPV are known of several models together")
    return tuple(notes)


def _figures_in_words(point: OperatingPoint) -> str:
    """What an operating point gave where it was chosen, each figure with its interval."""
    figures = (
        ("sensitivity", point.sensitivity, point.sensitivity_interval),
        ("specificity", point.specificity, point.specificity_interval),
        ("PPV", point.ppv, point.ppv_interval),
        ("NPV", point.npv, point.npv_interval),
    )
    words = [
        f"{name} {value:.2f} ({interval[0]:.2f} to {interval[1]:.2f})"
        for name, value, interval in figures
        if not math.isnan(value) and not math.isnan(interval[0])
    ]
    return f"the operating point {point.rule} has {', '.join(words)}, with {point.level:.0%} intervals over patients"


def _warnings(finding: Finding, probability: float, ratings: Sequence[Rating]) -> Iterator[str]:
    if not finding.zone and any(rating.bundle.spec.zones for rating in ratings):
        yield "zone unknown, which the model asks for"
    if not all(rating.is_calibrated for rating in ratings):
        yield "not calibrated: ranks findings, and is no probability to rely on"
    elif probability < NEVER_BIOPSIED and any(learned_on_prostatex(rating.bundle.provenance) for rating in ratings):
        yield "PI-RADS 2-like: such findings were never biopsied in the training data"


def learned_on_prostatex(provenance: Mapping[str, Any]) -> bool:
    """Whether a stage of a chain learned on ProstateX, where findings of PI-RADS 2 count as not significant unseen.

    Parameters
    ----------
    provenance : ``configs/chain.json``, which anybody may have written.
    """
    stages = provenance.get("stages", ())
    datalists = [
        stage.get("datalist") for stage in (stages if isinstance(stages, list) else ()) if isinstance(stage, Mapping)
    ]
    layouts = [datalist.get("layout") for datalist in datalists if isinstance(datalist, Mapping)]
    return any(isinstance(layout, str) and layout.startswith("prostatex") for layout in layouts)


def _known(share: float | None) -> float | None:
    return None if share is None or math.isnan(share) else float(share)
