"""Scores that promise to tell a good source before training on it: LogME, LEEP, NCE, H-score.

**Advisory only.** Each looks at the source network's output on the target data, untuned. Whether they rank sources
correctly depends on the task and on how the network is then tuned, and published evidence conflicts (for example
arXiv 2308.07444 on medical images); a study decides by its arms, never by these figures. Values of one score are
comparable between sources on the same target data, not between scores or targets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError

CAUTION = (
    "Transferability scores are advisory: published evidence on whether they rank medical sources correctly conflicts, "
    "and no conclusion of this study rests on them."
)


@dataclass(frozen=True)
class Transferability:
    """Higher is better in every score; None where the source gives nothing to compute it from.

    Attributes
    ----------
    logme, h_score : from features. leep, nce : from the source's own class probabilities, 0 at best.
    """

    logme: float
    h_score: float
    leep: float | None = None
    nce: float | None = None


def transferability(
    features: np.ndarray, labels: np.ndarray, source_probabilities: np.ndarray | None = None
) -> Transferability:
    """All scores of one source; the H-score regularised, since studies here have more features than findings.

    Parameters
    ----------
    features : (n, d) of the target images, as the source network gives them.
    labels : (n,) target classes, any whole numbers, at least two of them present.
    source_probabilities : (n, z) of the source's classes for the target images; None for a source without classes.
    """
    leep_score = nce_score = None
    if source_probabilities is not None:
        leep_score = leep(source_probabilities, labels)
        nce_score = nce(np.argmax(source_probabilities, axis=1), labels)
    return Transferability(logme(features, labels), h_score(features, labels, True), leep_score, nce_score)


def nce(source_labels: np.ndarray, labels: np.ndarray) -> float:
    """Negative conditional entropy -H(target class | source class) in nats (Tran et al. 2019, ICCV).

    Parameters
    ----------
    source_labels : (n,) class that the source network gives each target image. labels : (n,) target classes.
    """
    source_labels, labels = np.asarray(source_labels).ravel(), _checked_labels(labels)
    if source_labels.size != labels.size:
        raise InputError(f"{source_labels.size} source and {labels.size} target classes", "Give both of each image")
    _, z = np.unique(source_labels, return_inverse=True)
    joint = np.zeros((labels.max() + 1, z.max() + 1))
    np.add.at(joint, (labels, z), 1.0)
    return float(np.log((joint / joint.sum(axis=0))[labels, z]).mean())


def leep(source_probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Log expected empirical prediction (Nguyen et al. 2020, ICML), at most 0.

    Parameters
    ----------
    source_probabilities : (n, z), rows that sum to 1. labels : (n,) target classes.
    """
    theta, labels = np.asarray(source_probabilities, dtype=np.float64), _checked_labels(labels)
    if theta.ndim != 2 or len(theta) != labels.size or not np.isfinite(theta).all() or (theta < 0).any():
        raise InputError(f"source probabilities of shape {theta.shape} for {labels.size} images", "Give a row for each")
    if np.abs(theta.sum(axis=1) - 1.0).max() > 1e-3:
        raise InputError("source probabilities that do not sum to 1", "Give the softmax, not the logits")
    theta = theta[:, theta.sum(axis=0) > 0]
    joint = np.eye(labels.max() + 1)[labels].T @ theta  # (classes, z)
    conditional = joint / joint.sum(axis=0)
    return float(np.log((theta * conditional[labels]).sum(axis=1)).mean())


def h_score(features: np.ndarray, labels: np.ndarray, regularised: bool = False) -> float:
    """H-score tr(cov(f)^-1 cov(E[f|y])) (Bao et al. 2019, ICIP), 0 to classes - 1.

    Parameters
    ----------
    features : (n, d). labels : (n,) target classes.
    regularised : shrink cov(f) by Ledoit and Wolf's rule and multiply by 1 - shrinkage (Ibrahim et al. 2022,
        ECML PKDD). Needed with fewer images than features, where the plain score is classes - 1 whatever the features.
    """
    features, labels = _checked_features(features, labels)
    n, d = features.shape
    if not regularised and n <= d:
        raise InputError(f"an H-score of {n} images with {d} features", "Give more images, or regularise it")
    centred = features - features.mean(axis=0)
    means = np.stack([centred[labels == value].mean(axis=0) for value in range(labels.max() + 1)])[labels]
    between = means.T @ means / n
    if not regularised:
        return float(np.trace(np.linalg.pinv(centred.T @ centred / n, hermitian=True) @ between))
    from sklearn.covariance import ledoit_wolf

    covariance, shrinkage = ledoit_wolf(centred, assume_centered=True)
    return float((1.0 - shrinkage) * np.trace(np.linalg.solve(covariance, between)))


def logme(features: np.ndarray, labels: np.ndarray) -> float:
    """LogME (You et al. 2021, ICML): log evidence per image of a Bayesian linear model, mean over one-hot classes.

    y = F w + noise, w ~ N(0, 1/alpha), noise ~ N(0, 1/beta), with alpha and beta that maximise the evidence. Features
    are used as they are, neither centred nor scaled, as in the source. The maximum is searched for over alpha/beta
    instead of by the source's fixed-point iteration, which may end early.

    Parameters
    ----------
    features : (n, d), not all 0. labels : (n,) target classes.
    """
    features, labels = _checked_features(features, labels)
    u, s, _ = np.linalg.svd(features, full_matrices=False)
    if s[0] == 0:
        raise InputError("features that are all 0", "Look at the source network's weights and the images")
    kept = s > s[0] * 1e-10
    u, s2 = u[:, kept], s[kept] ** 2
    return float(
        np.mean([_evidence(u, s2, (labels == value) * 1.0) for value in range(labels.max() + 1)]) / len(features)
    )


def _evidence(u: np.ndarray, s2: np.ndarray, y: np.ndarray) -> float:
    """Largest log evidence of y (n,) given features of left singular vectors u and squared singular values s2."""
    from scipy.optimize import minimize_scalar

    n = y.size
    z2 = (u.T @ y) ** 2
    left_over = max(0.0, float(y @ y - z2.sum()))

    def negative(log_ratio: np.ndarray | float) -> np.ndarray:
        ratio = np.exp(np.asarray(log_ratio))[..., None]  # alpha / beta
        # Squared error and ratio * |w|² of the posterior mean; the best beta given the ratio is n over their sum.
        cost = left_over + (z2 * ratio / (ratio + s2)).sum(axis=-1)
        fit = n / 2 * (np.log(n / cost) - np.log(2 * np.pi) - 1)
        return -(fit + 0.5 * np.log(ratio / (ratio + s2)).sum(axis=-1))

    # The evidence can have two maxima: a coarse look over all ratios first.
    grid = np.log(s2[0]) + np.linspace(-25, 25, 101)
    best = int(np.argmin(negative(grid)))
    around = grid[max(0, best - 1)], grid[min(100, best + 1)]
    found = minimize_scalar(negative, bounds=around, method="bounded", options={"xatol": 1e-8})
    return -min(float(found.fun), float(negative(grid[best])))


def _checked_labels(labels: np.ndarray) -> np.ndarray:
    """Classes as 0 .. k-1 without gaps."""
    names, numbers = np.unique(np.asarray(labels).ravel(), return_inverse=True)
    if names.size < 2:
        raise InputError(f"transferability to {names.size} target classes", "Give images of two classes or more")
    return numbers


def _checked_features(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    features, labels = np.asarray(features, dtype=np.float64), _checked_labels(labels)
    if features.ndim != 2 or len(features) != labels.size or not np.isfinite(features).all():
        raise InputError(
            f"features of shape {features.shape} for {labels.size} images", "Give one finite row of features an image"
        )
    return features, labels
