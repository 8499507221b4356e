"""The standardised effect size of paired differences, with an interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .bootstrap import tails


@dataclass(frozen=True)
class EffectSize:
    """Cohen's d_z and the share of units in favour.

    Attributes
    ----------
    d : mean of the differences over their standard deviation (n - 1). low, high : its interval at ``level`` from
        the noncentral t distribution, exact for normal differences (Cumming & Finch 2001, Educ Psychol Meas 61:532).
    share_better : share of units with a > b, ties counting one half.
    units : how many.
    """

    d: float
    low: float
    high: float
    level: float
    share_better: float
    units: int


def effect_size(a: np.ndarray, b: np.ndarray, level: float = 0.95) -> EffectSize:
    """Effect size of a - b, one value a unit, (n,) each.

    Differences without spread have an infinite d (0 when all are 0) and no interval (NaN).

    Raises
    ------
    InputError : lengths differ, fewer than two units, or a value is NaN or infinite.
    """
    a, b = (np.asarray(v, dtype=np.float64).ravel() for v in (a, b))
    if a.size != b.size or a.size < 2 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InputError(
            f"an effect size of {a.size} and {b.size} values", "Give two finite values of two units or more"
        )
    differences = a - b
    share = float(np.mean(differences > 0) + np.mean(differences == 0) / 2)
    spread = differences.std(ddof=1)
    if spread <= 1e-12 * np.abs(differences).max():
        mean = differences.mean()
        d = float(np.copysign(np.inf, mean)) if mean else 0.0
        return EffectSize(d, float("nan"), float("nan"), level, share, a.size)
    d = float(differences.mean() / spread)
    low, high = _noncentral_bounds(d * np.sqrt(a.size), a.size - 1, level)
    return EffectSize(d, low / np.sqrt(a.size), high / np.sqrt(a.size), level, share, a.size)


def _noncentral_bounds(t: float, freedom: int, level: float) -> tuple[float, float]:
    """Noncentralities under which t is at the upper and at the lower end of the central share ``level``."""
    from scipy.optimize import brentq
    from scipy.special import ndtr
    from scipy.stats import chi

    # P(T <= t) = E[Phi(t s - noncentrality)], s being the estimated over the true standard deviation: a sum over a fine
    # grid of s, because scipy's nct.cdf gives NaN in the tails that the search passes through.
    s = np.linspace(*chi.ppf((1e-13, 1 - 1e-13), freedom), 2001)
    weights = chi.pdf(s, freedom)
    weights[[0, -1]] /= 2
    weights /= weights.sum()
    s /= np.sqrt(freedom)
    tail, upper = tails(level)
    reach = 10.0 + 4.0 * abs(t)

    def bound(share: float) -> float:
        return float(brentq(lambda shift: weights @ ndtr(t * s - shift) - share, t - reach, t + reach, xtol=1e-9))

    return bound(upper), bound(tail)
