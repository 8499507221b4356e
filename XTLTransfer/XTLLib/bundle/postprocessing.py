"""The two numbers that turn a probability map into lesions."""

from __future__ import annotations

import math

from ..errors import InputError


def check_postprocessing(threshold: float, minimum_volume_mm3: float) -> None:
    """Raise InputError unless 0 < threshold <= 1 and the minimum volume is a number >= 0."""
    if not 0.0 < threshold <= 1.0:
        raise InputError(f"a threshold of {threshold}", "Give a probability above 0 and up to 1, for example 0.5")
    if not (math.isfinite(minimum_volume_mm3) and minimum_volume_mm3 >= 0.0):
        raise InputError(f"a minimum volume of {minimum_volume_mm3} mm³", "Give 0 mm³ or more")
