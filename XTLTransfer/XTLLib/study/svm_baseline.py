"""The SVM baseline: a small neighbourhood of the finding in each channel, and the zone it lies in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..data.zones import ZONES
from ..errors import InputError
from .inner_folds import fit_by_inner_folds

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

SIDE_MM = 5  # of the neighbourhood, in samples of 1 mm
# Both grids are a project choice; 80 standardised features make scikit-learn's own gamma 0.0125.
_C = (0.1, 1.0, 10.0, 100.0)
_GAMMA = (1e-4, 1e-3, 1e-2, 1e-1)


def neighbourhoods(patches: np.ndarray, zones: Sequence[str]) -> np.ndarray:
    """What the SVM sees of findings: float64 (N, C * 25 + 4).

    Parameters
    ----------
    patches : (N, C, K, J, I) in samples of 1 mm, J and I odd with the finding in the middle; the middle slice counts.
    zones : (N,) PZ, TZ, AS, SV, or "" when unknown: none of the four last columns is then 1.

    Raises InputError when a patch shows less than 5 mm, has no middle sample, or holds values that are not numbers.
    """
    patches = np.asarray(patches, dtype=np.float64)
    slices, rows, columns = patches.shape[2:]
    if min(rows, columns) < SIDE_MM or rows % 2 == 0 or columns % 2 == 0:
        raise InputError(
            f"a neighbourhood of {SIDE_MM} x {SIDE_MM} mm from patches of {rows} x {columns} samples",
            f"Give odd numbers of samples of 1 mm, at least {SIDE_MM}",
        )
    if not np.isfinite(patches).all():
        raise InputError("patches with values that are not numbers", "Check the images of the datalist")
    top, left = (rows - SIDE_MM) // 2, (columns - SIDE_MM) // 2
    inner = patches[:, :, slices // 2, top : top + SIDE_MM, left : left + SIDE_MM]
    is_in_zone = np.array([[zone == known for known in ZONES] for zone in zones], dtype=np.float64)
    return np.concatenate([inner.reshape(len(patches), -1), is_in_zone.reshape(len(patches), len(ZONES))], axis=1)


def fit_svm(features: np.ndarray, truth: np.ndarray, patients: Sequence[str], seed: int) -> Pipeline:
    """Standardised features and a support vector machine with Gaussian kernel; C and gamma by inner folds.

    Both are those of the largest mean AUC over patient-grouped folds of the training findings.

    Parameters
    ----------
    features : (n, F). truth : (n,) 0 or 1. patients : (n,). seed : of the inner folds; nothing else is random.

    Returns
    -------
    A fitted scikit-learn pipeline; its ``decision_function``, the signed distance from the boundary and no
    probability, is the score, larger where cancer is likelier.

    Raises InputError when the findings cannot be divided into inner folds.
    """
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    steps = [("scale", StandardScaler()), ("svm", SVC(kernel="rbf"))]
    return fit_by_inner_folds(Pipeline(steps), {"svm__C": _C, "svm__gamma": _GAMMA}, features, truth, patients, seed)
