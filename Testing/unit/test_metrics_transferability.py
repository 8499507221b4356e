"""Transferability scores against closed forms, brute force and other libraries."""

from __future__ import annotations

import math

import numpy as np
import pytest
from XTLLib.errors import InputError
from XTLLib.metrics.transferability import h_score, leep, logme, nce, transferability


def _features(n=80, d=6, seed=0, separation=1.0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, n)
    return generator.standard_normal((n, d)) + separation * labels[:, None] * np.r_[1, np.zeros(d - 1)], labels


def test_nce_is_the_conditional_entropy():
    from sklearn.metrics import mutual_info_score

    generator = np.random.default_rng(0)
    z, y = generator.integers(0, 5, 300), generator.integers(0, 3, 300)
    share = np.bincount(y) / 300
    entropy = -(share * np.log(share)).sum()
    assert nce(z, y) == pytest.approx(mutual_info_score(z, y) - entropy)
    assert nce([0, 0, 1, 1], [0, 1, 0, 1]) == pytest.approx(-math.log(2))
    assert nce([7, 7, 3, 3], [0, 0, 1, 1]) == 0.0


def test_leep_by_definition_and_equal_to_nce_for_certain_sources():
    generator = np.random.default_rng(1)
    theta, y = generator.dirichlet(np.ones(4), 60), generator.integers(0, 3, 60)
    total = 0.0
    for i in range(60):
        value = 0.0
        for z in range(4):
            joint = sum(theta[j, z] for j in range(60) if y[j] == y[i])
            value += theta[i, z] * joint / theta[:, z].sum()
        total += math.log(value)
    assert leep(theta, y) == pytest.approx(total / 60)
    z = generator.integers(0, 4, 60)
    assert leep(np.eye(4)[z], y) == pytest.approx(nce(z, y))
    # A source that gives every image the same probabilities knows the class frequencies only.
    share = np.bincount(y) / 60
    assert leep(np.full((60, 4), 0.25), y) == pytest.approx((share * np.log(share)).sum())


def test_h_score_of_two_classes_is_r_squared_of_a_linear_fit():
    from sklearn.linear_model import LinearRegression

    features, labels = _features()
    assert h_score(features, labels) == pytest.approx(LinearRegression().fit(features, labels).score(features, labels))
    # It does not depend on how the features are mixed or scaled.
    mixed = features @ np.random.default_rng(2).standard_normal((6, 6)) + 3
    assert h_score(mixed, labels) == pytest.approx(h_score(features, labels))


def test_h_score_is_the_sum_of_squared_canonical_correlations():
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 4, 120)
    features = generator.standard_normal((120, 5)) + np.eye(5)[labels]
    f = features - features.mean(axis=0)
    y = np.eye(4)[labels] - np.eye(4)[labels].mean(axis=0)
    correlations = np.linalg.svd(np.linalg.qr(f)[0].T @ np.linalg.qr(y[:, :3])[0])[1]
    assert h_score(features, labels) == pytest.approx((correlations**2).sum())


def test_the_regularised_h_score_works_with_more_features_than_images():
    informative, labels = _features(40, 100, separation=4.0)
    noise, _ = _features(40, 100, seed=8, separation=0.0)
    with pytest.raises(InputError, match="40 images with 100"):
        h_score(informative, labels)
    assert 0 <= h_score(noise, labels, True) < h_score(informative, labels, True) < 1
    # With many images it approaches the plain score.
    many, classes = _features(4000)
    many = many @ np.diag([32, 16, 8, 4, 2, 1])  # the classes differ along the first
    assert h_score(many, classes, True) == pytest.approx(h_score(many, classes), rel=0.03)


@pytest.mark.parametrize(("n", "d"), [(60, 5), (25, 40)])
def test_logme_is_the_largest_evidence_found_by_a_general_optimiser(n, d):
    from scipy.optimize import minimize
    from scipy.stats import multivariate_normal

    features, labels = _features(n, d, seed=4)
    total = 0.0
    for value in (0, 1):
        y = (labels == value).astype(float)

        def loss(log_precisions, y=y):
            alpha, beta = np.exp(log_precisions)
            covariance = np.eye(n) / beta + features @ features.T / alpha
            return -multivariate_normal.logpdf(y, np.zeros(n), covariance)

        starts = [(0.0, 0.0), (2.0, 2.0), (4.0, 1.0)]
        total -= min(minimize(loss, start, method="Nelder-Mead", options={"maxiter": 400}).fun for start in starts)
    assert logme(features, labels) == pytest.approx(total / 2 / n, abs=1e-4)


def test_every_score_prefers_the_better_source():
    good, labels = _features(150, 8, seed=5, separation=3.0)
    poor, _ = _features(150, 8, seed=6, separation=0.0)
    sure = np.where(labels[:, None] == [0, 1], 0.9, 0.1)
    vague = np.full((150, 2), 0.5) + np.random.default_rng(0).uniform(-0.1, 0.1, (150, 1)) * [1, -1]
    a, b = transferability(good, labels, sure), transferability(poor, labels, vague)
    assert a.logme > b.logme and a.h_score > b.h_score and a.leep > b.leep and a.nce > b.nce
    assert transferability(good, labels).leep is None


def test_bad_input_is_refused():
    features, labels = _features()
    with pytest.raises(InputError, match="1 target classes"):
        logme(features, np.zeros(80))
    with pytest.raises(InputError, match="features of shape"):
        logme(features[:5], labels)
    with pytest.raises(InputError, match="sum to 1"):
        leep(features**2, labels)
    with pytest.raises(InputError, match="2 source"):
        nce([1, 2], labels)
