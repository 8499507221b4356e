"""Two arms against each other: the difference with its interval, the tests, and the conclusion in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ..errors import InputError
from ..metrics.bootstrap import DIFFERENCE_DRAWS
from ..metrics.delong import delong_difference
from ..metrics.effect import EffectSize, effect_size
from ..metrics.multiplicity import holm
from ..metrics.paired import paired_difference, unit_means, wilcoxon
from ..metrics.precision_recall import weighted_average_precision
from ..metrics.resampled import corrected_resampled_t
from ..metrics.roc import weighted_auc
from ..metrics.score_difference import score_difference
from .estimates import point_value, units_of
from .gaps import CaseMeans, case_means
from .measures import Measure
from .result import StudyResult

Verdict = Literal["better", "worse", "undecided", "not determined"]


@dataclass(frozen=True)
class SecondaryTest:
    """A test beside the primary one.

    Attributes
    ----------
    name : of the test. p_value : two-sided, NaN when it could not be made.
    low, high : its interval, NaN where it has none. note : what it was made on, or why it was not.
    """

    name: str
    p_value: float
    low: float = float("nan")
    high: float = float("nan")
    note: str = ""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Arm a minus arm b.

    Attributes
    ----------
    a, b : names. measure : of the difference. size_a, size_b : training cases; None is all.
    value_a, value_b, difference, low, high, level : the interval may be infinite. NaN when nothing could be computed.
    p_value : two-sided, of the primary test. adjusted_p : by Holm over all comparisons of the study.
    test : its name. smallest_p : no data of this many units could give a smaller one; NaN where that is not known.
    units : compared. left_out : cases of either arm that could not be.
    effect : standardised; None for AUC and AP, which are no means over units.
    secondary : further tests. unit_differences : unit -> difference; empty for AUC and AP.
    fold_differences : (repeat, fold, difference) on each test fold, seeds averaged; a fold without both classes is out.
    reason : why nothing could be computed, "" otherwise.
    """

    a: str
    b: str
    measure: Measure
    size_a: int | None
    size_b: int | None
    level: float
    value_a: float = float("nan")
    value_b: float = float("nan")
    difference: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    p_value: float = float("nan")
    adjusted_p: float = float("nan")
    test: str = ""
    smallest_p: float = float("nan")
    units: int = 0
    left_out: int = 0
    effect: EffectSize | None = None
    secondary: tuple[SecondaryTest, ...] = ()
    unit_differences: tuple[tuple[str, float], ...] = ()
    fold_differences: tuple[tuple[int, int, float], ...] = ()
    reason: str = ""

    @property
    def verdict(self) -> Verdict:
        """What the interval says about arm a, and nothing else."""
        return verdict_of(self.low, self.high, self.measure.higher_is_better)


def verdict_of(low: float, high: float, higher_is_better: bool = True) -> Verdict:
    """Better or worse when the whole interval of a difference lies on one side of 0, otherwise undecided.

    An interval that holds 0 never says that two arms are equal.
    """
    if np.isnan(low) or np.isnan(high):
        return "not determined"
    if low > 0:
        return "better" if higher_is_better else "worse"
    if high < 0:
        return "worse" if higher_is_better else "better"
    return "undecided"


def compare(
    result: StudyResult, a: str, b: str, measure: Measure, size: int | Literal["largest"] | None = "largest"
) -> Comparison:
    """Estimate and test a - b on the cases that both arms have."""
    size_a, size_b = (result.largest_size(name) if size == "largest" else size for name in (a, b))
    key = "score" if result.task == "classification" else measure.key
    first, second = case_means(result, a, size_a, key), case_means(result, b, size_b, key)
    common = set(first.cases).intersection(second.cases)
    left_out = len(set(first.left_out).union(second.left_out))
    first, second = first.restricted(common), second.restricted(common)
    blank = Comparison(a, b, measure, size_a, size_b, result.study.level, left_out=left_out)
    if not common:
        return replace(blank, reason="no case has a finite figure of both arms")
    try:
        found = (
            _ranked(blank, first, second, result) if first.truth is not None else _paired(blank, first, second, result)
        )
    except InputError as error:
        return replace(blank, reason=error.what)
    folds = _fold_differences(result, found, first, second)
    tests = found.secondary + _resampled_test(result, found, folds)
    return replace(found, secondary=tests, fold_differences=folds, units=len(set(units_of(first, result.study))))


def adjust(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """The comparisons with Holm's adjusted p-values over all that could be tested."""
    tested = [number for number, found in enumerate(comparisons) if np.isfinite(found.p_value)]
    adjusted = dict(zip(tested, holm(np.array([comparisons[number].p_value for number in tested])).tolist()))
    return tuple(
        replace(found, adjusted_p=adjusted.get(number, float("nan"))) for number, found in enumerate(comparisons)
    )


def _ranked(blank: Comparison, a: CaseMeans, b: CaseMeans, result: StudyResult) -> Comparison:
    study = result.study
    units, draws = units_of(a, study), study.draws or DIFFERENCE_DRAWS
    is_auc = blank.measure.name == "auc"
    figure = weighted_auc if is_auc else weighted_average_precision
    found = score_difference(figure, a.values, b.values, a.truth, units, draws, study.level)
    return replace(
        blank,
        value_a=found.value_a,
        value_b=found.value_b,
        difference=found.difference,
        low=found.low,
        high=found.high,
        p_value=found.p_value,
        test=f"{study.unit} bootstrap, {found.draws:,} draws",
        smallest_p=2.0 / (found.draws + 1.0),
        secondary=(_delong(a, b, study.level),) if is_auc else (),
    )


def _delong(a: CaseMeans, b: CaseMeans, level: float) -> SecondaryTest:
    try:
        found = delong_difference(a.values, b.values, a.truth, level)
    except InputError as error:
        return SecondaryTest("DeLong", float("nan"), note=error.what)
    return SecondaryTest("DeLong", found.p_value, found.low, found.high, f"z = {found.z:.2f}, findings as independent")


def _paired(blank: Comparison, a: CaseMeans, b: CaseMeans, result: StudyResult) -> Comparison:
    units = units_of(a, result.study)
    (of_a, names), (of_b, _) = unit_means(a.values, units), unit_means(b.values, units)
    found = paired_difference(of_a, of_b, result.study.level)
    signed = wilcoxon(of_a, of_b)
    how = "exact" if found.exact else f"{found.flips - 1:,} flips"
    return replace(
        blank,
        value_a=found.mean_a,
        value_b=found.mean_b,
        difference=found.difference,
        low=found.low,
        high=found.high,
        p_value=found.p_value,
        test=f"sign-flip over {result.study.unit}s, {how}",
        smallest_p=found.smallest_p,
        effect=effect_size(of_a, of_b, result.study.level) if len(names) > 1 else None,
        secondary=(SecondaryTest("Wilcoxon", signed.p_value, note=f"{signed.nonzero} of {signed.units} differ"),),
        unit_differences=tuple(zip(map(str, names), (of_a - of_b).tolist())),
    )


def _fold_differences(
    result: StudyResult, found: Comparison, a: CaseMeans, b: CaseMeans
) -> tuple[tuple[int, int, float], ...]:
    """On every test fold the difference of the figure, scores averaged over seeds."""
    key = "score" if result.task == "classification" else found.measure.key
    truth = {} if a.truth is None else dict(zip(a.cases, a.truth))
    patients, both = dict(zip(a.cases, a.patients)), set(a.cases)
    tables = []
    for name, size in ((found.a, found.size_a), (found.b, found.size_b)):
        table: dict[tuple[int, int], dict[str, list[float]]] = {}
        for score in result.of(name, size):
            if score.case in both:
                table.setdefault((score.repeat, score.fold), {}).setdefault(score.case, []).append(score.values[key])
        tables.append(table)
    differences = []
    for place in sorted(tables[0].keys() & tables[1].keys()):
        cases = sorted(tables[0][place].keys() & tables[1][place].keys())
        classes = None if a.truth is None else np.array([truth[case] for case in cases])
        values = []
        for table in tables:
            means = np.array([np.mean(table[place][case]) for case in cases])
            part = CaseMeans(tuple(cases), tuple(patients[case] for case in cases), means, classes, ())
            try:
                values.append(point_value(part, found.measure, result.study))
            except InputError:  # a fold of one class has no AUC
                break
        else:
            differences.append((*place, values[0] - values[1]))
    return tuple(differences)


def _resampled_test(
    result: StudyResult, found: Comparison, folds: Sequence[tuple[int, int, float]]
) -> tuple[SecondaryTest, ...]:
    """The corrected resampled t-test, of repeated cross-validation only."""
    study, name = result.study, "corrected resampled t"
    if study.repeats < 2:
        return ()
    planned = study.folds * study.repeats
    if len(folds) < planned:
        note = f"{len(folds)} of {planned} test folds have the figure of both arms"
        return (SecondaryTest(name, float("nan"), note=note),)
    if found.size_a is None:
        ratio = 1.0 / (study.folds - 1)
    else:
        tested = len({score.case for score in result.of(found.a, found.size_a)}) / study.folds
        ratio = tested / found.size_a
    t = corrected_resampled_t(np.array([difference for *_, difference in folds]), ratio, study.level)
    return (SecondaryTest(name, t.p_value, t.low, t.high, f"t = {t.t:.2f}, {t.resamples} folds"),)
