"""All figures of a study, computed once for every form of its report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..data.datalist import Datalist
from ..errors import InputError, XTLError
from ..metrics.bootstrap import INTERVAL_DRAWS
from ..metrics.calibration import ReliabilityCurve, reliability_curve
from ..metrics.isbi import isbi_score, volume_correlation
from ..metrics.paired import unit_means
from ..metrics.power import power_statement
from ..metrics.roc import MeanInterval, mean_interval
from ..metrics.roc_curve import RocBand, roc_band
from .comparisons import Comparison, adjust, compare
from .estimates import RANKED, Estimate, estimate, point_value, units_of
from .gaps import CaseMeans, Gap, case_means, find_gaps
from .measures import CONVENTIONS, LESION_WISE, MEASURES, OVERLAP, RATES, Measure, detection_key
from .power import design_power
from .result import StudyResult


@dataclass(frozen=True)
class Volumes:
    """Lesion volumes of an arm, means over seeds, in ml.

    Attributes
    ----------
    reference, predicted : of each scan, (n,) tuples. correlation : Pearson's r across scans, NaN below three.
    isbi : mean raw ISBI score over scans with r in it; NaN where a figure of it is missing.
    """

    reference: tuple[float, ...]
    predicted: tuple[float, ...]
    correlation: float
    isbi: float


@dataclass(frozen=True)
class Calibration:
    """Whether an arm's scores mean what they say.

    Attributes
    ----------
    brier : score with its interval, by a bootstrap over units. reliability : curve of 10 bins of equal width.
    """

    brier: MeanInterval
    reliability: ReliabilityCurve


@dataclass(frozen=True, eq=False)
class ArmFigures:
    """One arm or baseline at its largest training size.

    Attributes
    ----------
    name, size : of the arm; None is all training cases.
    cases : means over seeds and repetitions of the primary figure (scores in classification).
    estimate : primary figure; None when it could not be computed, for the reason given.
    by_run : (seed, repeat, figure) of each pass over all cases; NaN where one lacks a case.
    measures : of a segmentation name -> Estimate; one whose cases are all infinite or absent is not there.
    detection : (convention, rate) -> Estimate. volumes : of a segmentation.
    band : ROC with its band. calibration : None where the scores are no probabilities.
    """

    name: str
    size: int | None
    cases: CaseMeans
    estimate: Estimate | None
    reason: str
    by_run: tuple[tuple[int, int, float], ...]
    measures: Mapping[str, Estimate] = field(default_factory=dict)
    detection: Mapping[tuple[str, str], Estimate] = field(default_factory=dict)
    volumes: Volumes | None = None
    band: RocBand | None = None
    calibration: Calibration | None = None


@dataclass(frozen=True)
class SizePoint:
    """A point of a learning curve; estimate is None where it could not be computed."""

    name: str
    size: int | None
    estimate: Estimate | None


@dataclass(frozen=True, eq=False)
class Analysis:
    """What a study found.

    Attributes
    ----------
    result : it is about. measure : primary.
    arms : in the order of the study. comparisons : of the primary measure, with Holm's p-values.
    further : the same pairs in the other measures of a segmentation, without tests.
    curve : of every arm at every size; () when the study has one size.
    gaps : what is missing. power : statement of what so many units can show.
    """

    result: StudyResult
    measure: Measure
    arms: tuple[ArmFigures, ...]
    comparisons: tuple[Comparison, ...]
    further: tuple[Comparison, ...]
    curve: tuple[SizePoint, ...]
    gaps: tuple[Gap, ...]
    power: str

    def arm(self, name: str) -> ArmFigures:
        """The figures of one arm."""
        return next(arm for arm in self.arms if arm.name == name)


def analyse(result: StudyResult) -> Analysis:
    """Compute every table and curve of a study's report; the same scores in any order give the same figures."""
    measure = MEASURES[result.study.metric_of(result.task)]
    key = "score" if result.task == "classification" else measure.key
    comparisons = adjust([compare(result, a, b, measure) for a, b in result.study.comparisons])
    others = [] if result.task == "classification" else [MEASURES[n] for n in (*OVERLAP, *LESION_WISE)]
    further = [compare(result, a, b, m) for a, b in result.study.comparisons for m in others if m != measure]
    arms = tuple(_arm(result, name, measure, key) for name in result.names)
    curve: tuple[SizePoint, ...] = ()
    if len(result.sizes) > 1:
        curve = tuple(
            SizePoint(name, size, _estimate_or_none(case_means(result, name, size, key), measure, result)[0])
            for name in result.names
            for size in result.sizes
        )
    gaps = find_gaps(result, key)
    return Analysis(
        result,
        measure,
        arms,
        comparisons,
        tuple(found for found in further if not found.reason),
        curve,
        gaps,
        power_text(result, arms, comparisons, measure),
    )


def power_text(
    result: StudyResult, arms: tuple[ArmFigures, ...], comparisons: tuple[Comparison, ...], measure: Measure
) -> str:
    """What so many units can show: as said before the study; else by its data; else by what its scores tell."""
    said = str(result.facts.get("power") or "").strip()
    if said:
        return said
    try:
        return design_power(result.study, Datalist.load(result.study.datalist)).text
    except XTLError:  # the data have gone
        pass
    study = result.study
    largest = max(arms, key=lambda arm: len(arm.cases.cases))
    units = len(set(units_of(largest.cases, study)))
    if units == 0:
        return "No case has a figure: nothing can be tested."
    if measure.name in RANKED:
        positives, cases = int(largest.cases.truth.sum()), largest.cases.truth.size
        return f"{cases} findings, {positives} positive, of {len(set(largest.cases.patients))} patients."
    spreads = [float(np.std([d for _, d in c.unit_differences], ddof=1)) for c in comparisons if c.units > 1]
    return power_statement(units, max(spreads, default=0.0) or None, f"{study.unit}s", study.alpha)


def _arm(result: StudyResult, name: str, measure: Measure, key: str) -> ArmFigures:
    size = result.largest_size(name)
    means = case_means(result, name, size, key)
    found, reason = _estimate_or_none(means, measure, result)
    by_run = _by_run(result, name, size, measure, key, means)
    if result.task == "classification":
        band = calibration = None
        if found is not None:
            draws, level = result.study.draws or INTERVAL_DRAWS, result.study.level
            units = units_of(means, result.study)
            band = roc_band(means.values, means.truth, units, draws=draws, level=level)
            if means.values.min() >= 0 and means.values.max() <= 1:
                curve = reliability_curve(means.values, means.truth, level=level)
                squares = (means.values - means.truth) ** 2  # whose mean is Brier's score
                calibration = Calibration(mean_interval(squares, units, draws, level), curve)
        return ArmFigures(name, size, means, found, reason, by_run, band=band, calibration=calibration)
    measures = {n: _estimate_or_none(case_means(result, name, size, MEASURES[n].key), MEASURES[n], result)[0]
                for n in (*OVERLAP, *LESION_WISE)}  # fmt: skip
    rates = {}
    for convention in CONVENTIONS:
        for rate in RATES:
            cases = case_means(result, name, size, detection_key(convention, rate))
            rates[convention, rate] = _estimate_or_none(cases, measure, result)[0]
    return ArmFigures(
        name,
        size,
        means,
        found,
        reason,
        by_run,
        {name: value for name, value in measures.items() if value is not None},
        {place: value for place, value in rates.items() if value is not None},
        _volumes(result, name, size),
    )


def _estimate_or_none(means: CaseMeans, measure: Measure, result: StudyResult) -> tuple[Estimate | None, str]:
    if not means.cases:
        return None, "no case has a finite figure of every planned run"
    try:
        return estimate(means, measure, result.study), ""
    except InputError as error:
        return None, error.what


def _by_run(
    result: StudyResult, name: str, size: int | None, measure: Measure, key: str, means: CaseMeans
) -> tuple[tuple[int, int, float], ...]:
    """The figure of each seed and repetition on the cases that the arm's figure stands on."""
    runs: dict[tuple[int, int], dict[str, float]] = {}
    for score in result.of(name, size):
        runs.setdefault((score.seed, score.repeat), {})[score.case] = score.values.get(key, np.nan)
    figures = []
    for (seed, repeat), values in sorted(runs.items()):
        part = CaseMeans(
            means.cases,
            means.patients,
            np.array([values.get(case, np.nan) for case in means.cases]),
            means.truth,
            (),
        )
        try:
            figures.append((seed, repeat, point_value(part, measure, result.study)))
        except InputError:  # a run without some case, or one class only
            figures.append((seed, repeat, float("nan")))
    return tuple(figures)


def _volumes(result: StudyResult, name: str, size: int | None) -> Volumes | None:
    keys = ("reference_ml", "predicted_ml", "dice", "ppv", "ltpr", "lfpr")
    columns = [case_means(result, name, size, key) for key in keys]
    cases = set(columns[0].cases).intersection(columns[1].cases)
    if not cases:
        return None
    reference, predicted = (column.restricted(cases).values for column in columns[:2])
    correlation = volume_correlation(predicted, reference)
    isbi = float("nan")
    if all(column.cases == columns[0].cases for column in columns):
        scores = isbi_score(*(column.values for column in columns[2:]), correlation)
        isbi = float(unit_means(scores, units_of(columns[0], result.study))[0].mean())
    return Volumes(tuple(reference.tolist()), tuple(predicted.tolist()), correlation, isbi)
