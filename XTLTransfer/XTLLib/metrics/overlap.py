"""Voxel overlap of two masks (definitions of the field, for example Taha & Hanbury 2015, BMC Med Imaging 15:29).

P is the predicted mask, G the reference mask. All functions take arrays of one shape, any number of
axes; every value above 0 counts as inside.

Empty masks
-----------
``empty`` says what two empty masks give: ``"one"`` (default: perfect agreement, 1), ``"zero"``
(worst, 0) or ``"nan"`` (undefined). When exactly one mask is empty, Dice and IoU are 0 by
definition; PPV without a prediction and TPR without a reference have no definition and give 0, or
NaN under ``"nan"``. For ``avd``, where 0 is perfect, the three policies give 0, infinity and NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ..errors import InputError

EmptyPolicy = Literal["one", "zero", "nan"]
_BOTH_EMPTY = {"one": 1.0, "zero": 0.0, "nan": float("nan")}


def dice(predicted: np.ndarray, reference: np.ndarray, empty: EmptyPolicy = "one") -> float:
    """2 |P∩G| / (|P| + |G|), 0 to 1."""
    p, g, both = _sizes(predicted, reference)
    return value_of_two_empty_masks(empty) if p + g == 0 else 2.0 * both / (p + g)


def iou(predicted: np.ndarray, reference: np.ndarray, empty: EmptyPolicy = "one") -> float:
    """|P∩G| / |P∪G| of the foreground, 0 to 1."""
    p, g, both = _sizes(predicted, reference)
    return value_of_two_empty_masks(empty) if p + g == 0 else both / (p + g - both)


def mean_iou(predicted: np.ndarray, reference: np.ndarray, empty: EmptyPolicy = "one") -> float:
    """Mean of the IoU of the lesion class and of the background class (the background counts)."""
    inside = iou(predicted, reference, empty)
    outside = iou(~_mask(predicted), ~_mask(reference), empty)
    return (inside + outside) / 2.0


def class_ious(
    predicted: np.ndarray, reference: np.ndarray, classes: Sequence[int], empty: EmptyPolicy = "nan"
) -> dict[int, float]:
    """IoU of each class of two label maps of whole numbers; whether the background counts is the caller's ``classes``.

    Parameters
    ----------
    classes : label values, for example (1, 2, 3) without the background 0, or (0, 1, 2, 3) with it.
    empty : the value of a class that is in neither map; NaN by default.
    """
    predicted, reference = np.asarray(predicted), np.asarray(reference)
    return {value: iou(predicted == value, reference == value, empty) for value in classes}


def class_mean_iou(
    predicted: np.ndarray, reference: np.ndarray, classes: Sequence[int], empty: EmptyPolicy = "nan"
) -> float:
    """mIOU of two label maps: the mean of :func:`class_ious` over the classes given.

    A class that is in neither map counts as ``empty`` says; under ``"nan"`` (default) it is left out, and the
    mean over no class is NaN.
    """
    values = [value for value in class_ious(predicted, reference, classes, empty).values() if not np.isnan(value)]
    return float(np.mean(values)) if values else float("nan")


def ppv(predicted: np.ndarray, reference: np.ndarray, empty: EmptyPolicy = "one") -> float:
    """Positive predictive value |P∩G| / |P|, 0 to 1."""
    p, g, both = _sizes(predicted, reference)
    if p == 0:
        return value_of_two_empty_masks(empty) if g == 0 else _one_empty(empty)
    return both / p


def tpr(predicted: np.ndarray, reference: np.ndarray, empty: EmptyPolicy = "one") -> float:
    """True positive rate (sensitivity) |P∩G| / |G|, 0 to 1."""
    p, g, both = _sizes(predicted, reference)
    if g == 0:
        return value_of_two_empty_masks(empty) if p == 0 else _one_empty(empty)
    return both / g


def avd(predicted: np.ndarray, reference: np.ndarray, empty: EmptyPolicy = "one") -> float:
    """Absolute volume difference ||P| - |G|| / |G|, 0 is perfect; infinite where only the reference is empty."""
    p, g, _ = _sizes(predicted, reference)
    if g > 0:
        return abs(p - g) / g
    if p == 0:
        return {1.0: 0.0, 0.0: float("inf")}.get(value_of_two_empty_masks(empty), float("nan"))
    return float("nan") if empty == "nan" else float("inf")


def value_of_two_empty_masks(empty: str) -> float:
    """1, 0 or NaN, as the policy says. Raises InputError for any other policy."""
    if empty not in _BOTH_EMPTY:
        raise InputError(f"{empty!r} is not a policy for empty masks", f"Choose one of {', '.join(_BOTH_EMPTY)}")
    return _BOTH_EMPTY[empty]


def _mask(array: np.ndarray) -> np.ndarray:
    array = np.asarray(array)
    return array if array.dtype == bool else array > 0


def _sizes(predicted: np.ndarray, reference: np.ndarray) -> tuple[int, int, int]:
    p, g = _mask(predicted), _mask(reference)
    if p.shape != g.shape:
        raise InputError(
            f"a predicted mask of shape {p.shape} cannot be compared with a reference mask of shape {g.shape}",
            "Bring both onto one voxel grid first",
        )
    return int(np.count_nonzero(p)), int(np.count_nonzero(g)), int(np.count_nonzero(p & g))


def _one_empty(empty: str) -> float:
    return float("nan") if empty == "nan" else 0.0
