"""What a study of so many patients can show at all, said before anything runs."""

from __future__ import annotations

import math

import numpy as np

from ..errors import InputError

ALPHA, POWER = 0.05, 0.80
SIMULATIONS = 2_000
_FLIPS = 2_000
_EXACT_UNITS = 11  # 2^11 flips


def smallest_p_value(units: int) -> float:
    """The smallest two-sided p-value of an exact paired sign-flip test on so many units: 2 / 2^n."""
    return min(1.0, 2.0 / 2.0**units)


def units_needed(alpha: float = ALPHA) -> int:
    """The fewest units with which an exact paired test can reach p <= alpha; 6 for 0.05."""
    _check_shares(alpha, POWER)
    return math.ceil(round(1.0 + math.log2(1.0 / alpha), 9))


def detectable_difference(
    units: int,
    sd: float,
    alpha: float = ALPHA,
    power: float = POWER,
    simulations: int = SIMULATIONS,
    seed: int = 0,
) -> float:
    """The mean difference that the sign-flip test finds with probability ``power``, by simulation.

    Differences are simulated as normal. Infinite when so few units cannot reach ``alpha`` at all.

    Parameters
    ----------
    units : patients. sd : standard deviation of the paired differences, in the metric's unit.
    alpha : two-sided. simulations, seed : of the simulation; 2,000 give a standard error of about 1 %.
    """
    if units < 1 or not 0 < sd < np.inf:
        raise InputError(f"a power of {units} units and a standard deviation of {sd}", "Give both above 0")
    _check_shares(alpha, power)
    generator = np.random.default_rng(seed)
    if units <= _EXACT_UNITS:
        members = (np.arange(1, 2**units)[:, None] >> np.arange(units)) & 1
    else:
        members = generator.random((_FLIPS - 1, units)) < 0.5
        members[~members.any(axis=1)] = True
    skipped = int(np.floor(alpha / 2 * (len(members) + 1) + 1e-9))
    if skipped == 0:
        return float("inf")
    noise = generator.standard_normal((units, simulations))
    means = (members @ noise) / members.sum(axis=1)[:, None]
    # The test of noise + shift rejects once the shift exceeds minus the lower bound of the noise's own interval
    # (see .paired), so that one simulation serves every shift.
    lower = np.partition(means, skipped - 1, axis=0)[skipped - 1]
    return float(sd * np.quantile(-lower, power))


def detectable_auc_difference(
    positives: int,
    negatives: int,
    auc: float = 0.75,
    correlation: float = 0.5,
    alpha: float = ALPHA,
    power: float = POWER,
    simulations: int = 500,
    seed: int = 0,
) -> float:
    """The gain over an arm of AUC ``auc`` that is found with probability ``power``, by simulation.

    Scores of both arms are simulated as binormal and tested by DeLong's method, one finding a patient (several
    findings of one patient count for less: then this is the least that can be hoped for).

    Parameters
    ----------
    positives, negatives : findings, at least two each. auc : of the weaker arm, 0.5 to below 1.
    correlation : of both arms' scores within a class, -1 to 1.

    Returns
    -------
    The difference of AUC; infinite when even an AUC of 0.9999 would not be found.
    """
    if min(positives, negatives) < 2 or not 0.5 <= auc < 0.9999 or not -1 <= correlation <= 1:
        raise InputError(
            f"the power of {positives} positives and {negatives} negatives at AUC {auc}, correlation {correlation}",
            "Give two of each or more, an AUC from 0.5 to below 1 and a correlation from -1 to 1",
        )
    _check_shares(alpha, power)
    from scipy.stats import norm

    truth = np.arange(positives + negatives) < positives
    generator = np.random.default_rng(seed)
    first, second = generator.standard_normal((2, simulations, truth.size))
    second = correlation * first + np.sqrt(1 - correlation**2) * second
    weaker = first + np.sqrt(2) * norm.ppf(auc) * truth
    critical = norm.ppf(1 - alpha / 2)

    def power_at(better: float) -> float:
        return _rejections(second + np.sqrt(2) * norm.ppf(better) * truth, weaker, truth, critical)

    low, high = auc, 0.9999
    if power_at(high) < power:
        return float("inf")
    while high - low > 5e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if power_at(middle) >= power else (middle, high)
    return high - auc


def power_statement(units: int, sd: float | None = None, unit: str = "patients", alpha: float = ALPHA) -> str:
    """One or two sentences for a plan and a report: what so many units can show.

    Parameters
    ----------
    sd : expected standard deviation of the paired differences; None leaves out the detectable difference.
    unit : plural name of the unit of analysis.
    """
    smallest = smallest_p_value(units)
    if smallest > alpha:
        return (
            f"{units} {unit}: an exact paired test cannot fall below p = {smallest:.4g}, so no result here can "
            f"be significant at {alpha:g}; at least {units_needed(alpha)} {unit} are needed."
        )
    text = f"{units} {unit}: an exact paired test can fall to p = {smallest:.2g}."
    if sd is None:
        return text
    difference = detectable_difference(units, sd, alpha)
    return (
        f"{text} With a standard deviation of {sd:.3g} between paired differences it finds a mean difference of "
        f"{difference:.3g} with a probability of {POWER:.0%} (simulation)."
    )


def _rejections(a: np.ndarray, b: np.ndarray, truth: np.ndarray, critical: float) -> float:
    """Share of simulations (rows of a and b) in which DeLong's test finds a better than b."""
    from scipy.stats import rankdata

    def placements(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ranks = rankdata(scores, axis=1)
        positive = (ranks[:, truth] - rankdata(scores[:, truth], axis=1)) / (~truth).sum()
        return positive, 1.0 - (ranks[:, ~truth] - rankdata(scores[:, ~truth], axis=1)) / truth.sum()

    (pa, na), (pb, nb) = placements(a), placements(b)
    difference = (pa - pb).mean(axis=1)
    variance = (pa - pb).var(axis=1, ddof=1) / truth.sum() + (na - nb).var(axis=1, ddof=1) / (~truth).sum()
    return float((difference > critical * np.sqrt(variance)).mean())


def _check_shares(alpha: float, power: float) -> None:
    if not (0 < alpha < 1 and 0 < power < 1):
        raise InputError(f"a test at level {alpha} with power {power}", "Give both between 0 and 1")
