"""The patient bootstrap: patients are drawn with replacement, each with all that was measured on them.

Findings and time points of one patient are not independent; drawing them one by one would make intervals too
narrow. A draw is a row of weights, how often each observation was drawn, so that one draw serves any number of
arms: arms compared on the same draws are compared on the same patients (Efron & Tibshirani 1993, chapter 8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..errors import InputError

INTERVAL_DRAWS = 2_000
DIFFERENCE_DRAWS = 10_000
_BLOCK_VALUES = 4_000_000  # weights held at once: 32 MB
_GIVE_UP = 1_000  # blocks without a single usable draw


def patient_draws(
    patients: Sequence, draws: int, seed: int, classes: Sequence[np.ndarray] = ()
) -> Iterator[np.ndarray]:
    """Yield blocks (rows, n) of weights: how often each observation is in a draw of patients with replacement.

    Parameters
    ----------
    patients : (n,) the patient of each observation.
    draws : rows in all blocks together. seed : of the draws; the same seed gives the same draws.
    classes : bool (n,) each; a draw without a member, or without a non-member, of one of them is drawn again.

    Raises
    ------
    InputError : lengths differ, or no draw can hold members and non-members of every class.
    """
    names, index = np.unique(np.asarray(patients), return_inverse=True)
    count = index.size
    wrong = [members.size for members in classes if members.size != count]
    if count == 0 or wrong:
        raise InputError(
            f"{count} patients for {wrong[0] if wrong else 0} findings", "Name the patient of each finding"
        )
    generator = np.random.default_rng(seed)
    share = np.full(names.size, 1.0 / names.size)
    rows = max(1, min(draws, _BLOCK_VALUES // count))
    done = fruitless = 0
    while done < draws:
        weights = generator.multinomial(names.size, share, size=rows)[:, index]
        usable = np.ones(rows, dtype=bool)
        for members in classes:
            usable &= (weights[:, members].sum(axis=1) > 0) & (weights[:, ~members].sum(axis=1) > 0)
        block = weights[usable][: draws - done].astype(np.float64)
        done += len(block)
        fruitless = 0 if len(block) else fruitless + 1
        if fruitless > _GIVE_UP:
            raise InputError("no draw of patients holds findings of both classes", "Give more patients of each class")
        yield block


def over_draws(
    figure: Callable[[np.ndarray], np.ndarray],
    patients: Sequence,
    draws: int,
    seed: int,
    classes: Sequence[np.ndarray] = (),
) -> np.ndarray:
    """A figure in every draw of patients: (draws,); ``figure`` turns weights (rows, n) into values (rows,).

    The other parameters are those of :func:`patient_draws`.
    """
    return np.concatenate([figure(weights) for weights in patient_draws(patients, draws, seed, classes)])


def percentile_interval(values: np.ndarray, level: float) -> tuple[float, float]:
    """The central share ``level`` of the values, for example 0.95: their quantiles (1 - level)/2 and (1 + level)/2."""
    low, high = np.quantile(values, tails(level))
    return float(low), float(high)


def two_sided_p(differences: np.ndarray) -> float:
    """Twice the smaller share of bootstrapped differences on one side of 0, counted as (draws there + 1) / (draws + 1).

    Never 0: so many draws cannot show a smaller one.
    """
    below, above = (differences <= 0).sum(), (differences >= 0).sum()
    return float(min(1.0, 2.0 * (min(below, above) + 1.0) / (differences.size + 1.0)))


def tails(level: float) -> tuple[float, float]:
    """The two quantiles of a central interval. Raises InputError unless 0 < level < 1."""
    if not 0.0 < level < 1.0:
        raise InputError(f"an interval of level {level}", "Give a level between 0 and 1, for example 0.95")
    return (1.0 - level) / 2.0, (1.0 + level) / 2.0
