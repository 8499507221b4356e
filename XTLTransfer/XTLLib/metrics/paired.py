"""Tests and intervals for paired differences, the unit of analysis being the patient.

Primary: the sign-flip test. If both arms are exchangeable, each unit's difference is as likely to have one sign as the
other, so that the mean difference is compared with those under flips of the signs: all 2^n of them up to
``EXACT_UNITS`` units, a seeded sample beyond. The interval is the set of shifts that this very test does not reject
(Hartigan 1969, J Am Stat Assoc 64:1303: its bounds are order statistics of the means of subsets), so that test and
interval never disagree. With too few units for the level both are honest about it: the smallest p is 2/2^n and the
interval is infinite.

Secondary: Wilcoxon's signed-rank test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .bootstrap import tails
from .roc import MeanInterval

EXACT_UNITS = 16  # 65,536 flips
SAMPLED_FLIPS = 10_000
_BLOCK_VALUES = 4_000_000


@dataclass(frozen=True)
class PairedDifference:
    """Mean of a - b over units, by the sign-flip test.

    Attributes
    ----------
    mean_a, mean_b, difference : means over units.
    low, high : interval at ``level``; infinite when the units are too few for the level.
    p_value : two-sided. smallest_p : no data of so many units could give a smaller one.
    units : how many. exact : whether all flips were used. flips : how many were.
    """

    mean_a: float
    mean_b: float
    difference: float
    low: float
    high: float
    level: float
    p_value: float
    smallest_p: float
    units: int
    exact: bool
    flips: int


@dataclass(frozen=True)
class WilcoxonResult:
    """Wilcoxon's signed-rank test.

    Attributes
    ----------
    statistic : the smaller of both rank sums. p_value : two-sided; 1 when all differences are 0.
    units : how many. nonzero : how many entered the test (differences of 0 are left out, Wilcoxon's own rule).
    """

    statistic: float
    p_value: float
    units: int
    nonzero: int


def unit_means(values: np.ndarray, units: Sequence) -> tuple[np.ndarray, list]:
    """The mean of the values (n,) of each unit -> (means (u,), names), in the order of the sorted names.

    Time points, seeds and findings of a patient become one value of the patient. NaN of a value makes the unit NaN.
    """
    values = np.asarray(values, dtype=np.float64).ravel()
    names, index = np.unique(np.asarray(units), return_inverse=True)
    if values.size != index.size:
        raise InputError(f"{values.size} values of {index.size} units", "Name the unit of each value")
    return np.bincount(index, weights=values) / np.bincount(index), names.tolist()


def paired_difference(
    a: np.ndarray, b: np.ndarray, level: float = 0.95, flips: int = SAMPLED_FLIPS, seed: int = 0
) -> PairedDifference:
    """The sign-flip test of a - b, one value a unit (see :func:`unit_means`), with its interval.

    Parameters
    ----------
    a, b : (n,) finite, the same units in the same order.
    flips : drawn beyond ``EXACT_UNITS`` units. seed : of the draw.

    Raises
    ------
    InputError : lengths differ, nothing is given, or a value is NaN or infinite.
    """
    a, b = _checked_pairs(a, b)
    differences = a - b
    means, exact = _subset_means(differences, flips, seed)
    tail = tails(level)[0]
    tested = means.size + 1  # the flip of no sign belongs to them
    skipped = int(np.floor(tail * tested + 1e-9))
    low, high = (means[skipped - 1], means[-skipped]) if skipped else (-np.inf, np.inf)
    return PairedDifference(
        float(a.mean()),
        float(b.mean()),
        float(differences.mean()),
        float(low),
        float(high),
        level,
        _two_sided(means, 0.0, np.abs(differences).max()),
        min(1.0, 2.0 / tested),
        differences.size,
        exact,
        tested,
    )


def unit_interval(
    values: np.ndarray, units: Sequence, level: float = 0.95, flips: int = SAMPLED_FLIPS, seed: int = 0
) -> MeanInterval:
    """The mean over units of a figure, with an interval that also covers with few units.

    It is the interval of :func:`paired_difference` about the mean instead of a difference: exact where figures
    scatter symmetrically, infinite with fewer than six units at 0.95. (The percentile bootstrap of
    :func:`.roc.mean_interval` covers 86 % instead of 95 % with 6 units, 91 % with 12, 94 % with 40.)

    Parameters
    ----------
    values : (n,) finite, for example Dice of each scan. units : (n,) patient of each; the mean is over patients.
    """
    means, _ = unit_means(values, units)
    found = paired_difference(means, np.zeros_like(means), level, flips, seed)
    return MeanInterval(found.difference, found.low, found.high, level, found.flips, found.units)


def sign_flip_p(a: np.ndarray, b: np.ndarray, flips: int = SAMPLED_FLIPS, seed: int = 0) -> float:
    """Two-sided p-value of the sign-flip test alone."""
    a, b = _checked_pairs(a, b)
    means, _ = _subset_means(a - b, flips, seed)
    return _two_sided(means, 0.0, np.abs(a - b).max())


def wilcoxon(a: np.ndarray, b: np.ndarray) -> WilcoxonResult:
    """Wilcoxon's signed-rank test of paired values (n,), two-sided; differences of 0 are left out.

    Exact for few units without ties, otherwise scipy's normal approximation or permutations.
    """
    a, b = _checked_pairs(a, b)
    differences = a - b
    nonzero = int(np.count_nonzero(differences))
    if nonzero == 0:
        return WilcoxonResult(0.0, 1.0, differences.size, 0)
    from scipy import stats

    found = stats.wilcoxon(differences[differences != 0])
    return WilcoxonResult(float(found.statistic), float(found.pvalue), differences.size, nonzero)


def _subset_means(differences: np.ndarray, flips: int, seed: int) -> tuple[np.ndarray, bool]:
    """Sorted means of the differences over sets of units, and whether these are all sets that are not empty.

    Flipping the signs of a set of units makes the sum of (d - shift) no smaller exactly when the set's mean is
    at most the shift; so these means hold the answers for every shift.
    """
    count = differences.size
    exact = count <= EXACT_UNITS
    if exact:
        members = (np.arange(1, 2**count)[:, None] >> np.arange(count)) & 1
        means = (members @ differences) / members.sum(axis=1)
        return np.sort(means), True
    generator = np.random.default_rng(seed)
    rows = max(1, _BLOCK_VALUES // count)
    means = []
    for start in range(0, flips, rows):
        members = generator.random((min(rows, flips - start), count)) < 0.5
        members[~members.any(axis=1)] = True  # the empty set (chance below 1e-5) has no mean
        means.append((members @ differences) / members.sum(axis=1))
    return np.sort(np.concatenate(means)), False


def _two_sided(means: np.ndarray, shift: float, scale: float) -> float:
    """Twice the smaller one-sided p of a shift; equal values that rounding set apart count as equal."""
    tolerance = 1e-12 * scale
    below = np.searchsorted(means, shift + tolerance, side="right")
    above = means.size - np.searchsorted(means, shift - tolerance, side="left")
    return float(min(1.0, 2.0 * (1.0 + min(below, above)) / (means.size + 1.0)))


def _checked_pairs(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = (np.asarray(v, dtype=np.float64).ravel() for v in (a, b))
    if a.size != b.size or a.size == 0:
        raise InputError(f"{a.size} and {b.size} paired values", "Give both values of every unit")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InputError("paired values that are NaN or infinite", "Leave the unit out, or state a policy for it")
    return a, b
