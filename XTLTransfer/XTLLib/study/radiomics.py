"""The radiomics baseline: 79 texture and intensity features of an image, and a logistic regression on them.

The features are those of Romero et al. 2020 (Med Phys 47(12):6246), whose images were chest radiographs of 256 grey
levels. A finding has several images of 32 x 32 pixels; what differs for that reason is a project choice:

* each channel of the patch gives 79 features from the finding's slice, and they are put one after the other;
* co-occurrence is counted on 32 grey levels, equal steps of the range 0 to 1 of rank intensities. The steps are the
  same for every image, so that nothing is fitted, not even on the patch;
* C is chosen by folds that keep patients together, and the scaler is fitted anew in each of them.

As in the paper, matrices are not symmetrised, and offsets are rounded to whole pixels: the angle 45 degrees gives
(1, 1), (1, 1), (3, 3) and (4, 4) for the distances 1, 2, 4 and 6, so that six of the 72 features stand twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError, MissingPackageError
from .inner_folds import fit_by_inner_folds

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

DISTANCES = (1, 2, 4, 6)  # pixels
ANGLES = (0, 45, 90)  # degrees
PROPERTIES = ("contrast", "dissimilarity", "homogeneity", "ASM", "energy", "correlation")
MOMENTS = (2, 3, 4, 5)
LEVELS = 32
FEATURE_NAMES = (
    *(f"{name}, {distance} px, {angle} degrees" for name in PROPERTIES for distance in DISTANCES for angle in ANGLES),
    "mean",
    "SD",
    *(f"central moment {order}" for order in MOMENTS),
    "entropy",
)
# As scikit-learn's LogisticRegressionCV tries them; smaller ones shrink more.
_INVERSE_PENALTIES = tuple(np.logspace(-4, 4, 10).tolist())
_MOST_STEPS = 10_000


def image_features(image: np.ndarray) -> np.ndarray:
    """The features of one image, float64 (79,) in the order of ``FEATURE_NAMES``.

    A correlation of pixels of which either side is of one level, as in a constant image, is 1, as scikit-image means
    it. Entropy is in bits, of the 32 levels.

    Parameters
    ----------
    image : (J, I), values from 0 to 1, at least 7 x 7 pixels.

    Raises
    ------
    InputError : the image is smaller, or has values that are not numbers from 0 to 1.
    MissingPackageError : scikit-image is not installed.
    """
    image = np.asarray(image, dtype=np.float64)
    if image.ndim != 2 or min(image.shape) <= max(DISTANCES):
        raise InputError(
            f"radiomics features of an image of shape {image.shape}",
            f"Give rows and columns of at least {max(DISTANCES) + 1} pixels",
        )
    if not (np.isfinite(image).all() and image.min() >= 0 and image.max() <= 1):
        raise InputError(
            f"radiomics features of values from {image.min():g} to {image.max():g}",
            "Give patches of the intensity rank, which runs from 0 to 1",
        )
    levels = grey_levels(image)
    centred = image - image.mean()
    shares = np.bincount(levels.reshape(-1)) / levels.size
    shares = shares[shares > 0]
    intensity = [image.mean(), image.std(), *((centred**order).mean() for order in MOMENTS)]
    return np.array([*_co_occurrence(levels), *intensity, -(shares * np.log2(shares)).sum()])


def grey_levels(image: np.ndarray) -> np.ndarray:
    """Values from 0 to 1 as uint8 levels 0 to 31 of equal width; 1 belongs to the last."""
    return np.minimum(np.floor(np.asarray(image, dtype=np.float64) * LEVELS), LEVELS - 1).astype(np.uint8)


def patch_features(patches: np.ndarray) -> np.ndarray:
    """The features of patches (N, C, K, J, I): float64 (N, C * 79), of the middle slice, channel after channel."""
    patches = np.asarray(patches)
    middle = patches[:, :, patches.shape[2] // 2]
    return np.stack([np.concatenate([image_features(image) for image in channels]) for channels in middle])


def fit_radiomics(features: np.ndarray, truth: np.ndarray, patients: Sequence[str], seed: int) -> Pipeline:
    """Standardised features and a logistic regression with L2 penalty; C by AUC over inner patient-grouped folds.

    Parameters
    ----------
    features : (n, F). truth : (n,) 0 or 1. patients : (n,). seed : of the inner folds; nothing else is random.

    Returns
    -------
    A fitted scikit-learn pipeline; its ``decision_function`` is the score, larger where cancer is likelier.

    Raises InputError when the findings cannot be divided into inner folds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    # Not LogisticRegressionCV: it would see features scaled with the findings that it judges by, and the way to ask
    # it for L2 changes between releases.
    steps = [("scale", StandardScaler()), ("regression", LogisticRegression(max_iter=_MOST_STEPS))]
    grid = {"regression__C": _INVERSE_PENALTIES}
    return fit_by_inner_folds(Pipeline(steps), grid, features, truth, patients, seed)


def _co_occurrence(levels: np.ndarray) -> np.ndarray:
    """The 72 properties of the co-occurrence matrices: property by property, distance by distance, angle by angle."""
    try:
        from skimage.feature import graycomatrix, graycoprops
    except ImportError as error:
        raise MissingPackageError.of("radiomics features", "scikit-image", "study") from error
    matrices = graycomatrix(levels, DISTANCES, np.deg2rad(ANGLES), levels=LEVELS)
    found = {name: graycoprops(matrices, name) for name in PROPERTIES}
    # Where the first or the second pixels of all pairs are of one level the correlation is 0/0: rounding would decide.
    has_one_level = (matrices.any(axis=1).sum(axis=0) == 1) | (matrices.any(axis=0).sum(axis=0) == 1)
    found["correlation"] = np.where(has_one_level, 1.0, found["correlation"])
    return np.concatenate([found[name].reshape(-1) for name in PROPERTIES])
