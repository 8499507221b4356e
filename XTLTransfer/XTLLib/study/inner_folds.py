"""Cross-validation within the training part of a fold: how a baseline chooses what it cannot fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.splits import deal_into_folds
from ..errors import InputError
from ..training.seeds import derive

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

INNER_FOLDS = 5


def inner_folds(truth: np.ndarray, patients: Sequence[str], seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Deal findings into folds, by patient and stratified on the patient's worst label.

    Five folds, or as many below five as leave findings of both classes on both sides of each.

    Parameters
    ----------
    truth : (n,) 0 or 1. patients : (n,) the patient of each finding. seed : of the deal.

    Returns
    -------
    For each fold the rows to fit on and the rows to judge by; no patient is on both sides.

    Raises
    ------
    InputError : not even two folds can hold both classes.
    """
    truth = np.asarray(truth).astype(int)
    strata: dict[str, int] = {}
    for patient, label in zip(patients, truth.tolist()):
        strata[patient] = max(label, strata.get(patient, 0))
    names = np.asarray(patients)
    for count in range(min(INNER_FOLDS, len(strata)), 1, -1):
        held = [np.isin(names, sorted(fold)) for fold in deal_into_folds(strata, count, derive(seed, "inner folds"))]
        if all(0 < truth[side].sum() < side.sum() for judged in held for side in (judged, ~judged)):
            return [(np.flatnonzero(~judged), np.flatnonzero(judged)) for judged in held]
    raise InputError(
        f"{truth.size} training findings of {len(strata)} patients, {sum(strata.values())} of whom have a significant "
        "one, cannot be divided into two parts that both hold both classes",
        "Give more training patients of each class, or leave this baseline out",
    )


def fit_by_inner_folds(
    pipeline: Pipeline,
    grid: Mapping[str, Sequence[Any]],
    features: np.ndarray,
    truth: np.ndarray,
    patients: Sequence[str],
    seed: int,
) -> Pipeline:
    """The pipeline with the settings of the largest mean AUC over :func:`inner_folds`, fitted to all findings.

    The whole pipeline, its scaler included, is fitted anew for each fold. Of settings that are equally good the
    first of the grid is taken.

    Parameters
    ----------
    grid : name of a parameter of the pipeline -> the values to try. features : (n, F). truth, patients : (n,).
    """
    from sklearn.model_selection import GridSearchCV

    search = GridSearchCV(
        pipeline, dict(grid), scoring="roc_auc", cv=inner_folds(truth, patients, seed), error_score="raise"
    )
    return search.fit(features, np.asarray(truth).astype(int)).best_estimator_
