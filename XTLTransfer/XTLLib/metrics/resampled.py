"""The corrected resampled t-test for repeated cross-validation (Nadeau & Bengio 2003, Mach Learn 52:239).

The J differences of a repeated cross-validation share training data, so that their variance is too small for a t-test.
The correction widens it: t = mean(d) / sqrt((1/J + n_test/n_train) var(d)) with J - 1 degrees of freedom. It is a
heuristic of about the right size, secondary to the tests of :mod:`.paired`, whose unit is the patient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .bootstrap import tails


@dataclass(frozen=True)
class ResampledT:
    """Attributes
    ----------
    difference, low, high : mean of the differences and its interval at ``level``.
    t, p_value : two-sided, ``resamples`` - 1 degrees of freedom; 0 and 1 when all differences are 0.
    resamples : J, folds x repetitions. test_train_ratio : n_test / n_train.
    """

    difference: float
    low: float
    high: float
    level: float
    t: float
    p_value: float
    resamples: int
    test_train_ratio: float


def corrected_resampled_t(differences: np.ndarray, test_train_ratio: float, level: float = 0.95) -> ResampledT:
    """Test whether the mean of the differences of J resamples is 0.

    Parameters
    ----------
    differences : (J,) finite, arm a minus arm b on each test fold; J >= 2.
    test_train_ratio : test patients over training patients of a resample; 1/(k-1) in k-fold cross-validation.
    """
    d = np.asarray(differences, dtype=np.float64).ravel()
    if d.size < 2 or not np.isfinite(d).all():
        raise InputError(f"a t-test of {d.size} resamples", "Give a finite difference of two resamples or more")
    if not 0 < test_train_ratio < np.inf:
        raise InputError(f"a ratio of test to training patients of {test_train_ratio}", "Give it, for example 1/4")
    from scipy.stats import t as student

    mean = float(d.mean())
    error = float(np.sqrt((1.0 / d.size + test_train_ratio) * d.var(ddof=1)))
    reach = error * float(student.ppf(tails(level)[1], d.size - 1))
    t = mean / error if error else float(np.copysign(np.inf, mean)) if mean else 0.0
    p_value = float(2.0 * student.sf(abs(t), d.size - 1))
    return ResampledT(mean, mean - reach, mean + reach, level, t, p_value, d.size, float(test_train_ratio))
