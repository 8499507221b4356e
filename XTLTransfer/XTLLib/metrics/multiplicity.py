"""Several comparisons in one study."""

from __future__ import annotations

import numpy as np

from ..errors import InputError


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down adjusted p-values (Holm 1979, Scand J Stat 6:65), in the order given -> (k,).

    A comparison is significant at level alpha, with the family-wise error at most alpha, when its adjusted p is
    at most alpha. No assumption about dependence is made.

    Raises InputError when a p-value is NaN or outside 0 to 1.
    """
    p_values = np.asarray(p_values, dtype=np.float64).ravel()
    if not ((p_values >= 0) & (p_values <= 1)).all():
        raise InputError("a p-value that is NaN or outside 0 to 1", "Leave out comparisons that could not be tested")
    order = np.argsort(p_values, kind="stable")
    steps = np.maximum.accumulate(p_values[order] * (p_values.size - np.arange(p_values.size)))
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted
