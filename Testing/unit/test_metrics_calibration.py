"""Average precision, ROC curves, operating points and calibration against scikit-learn and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from XTLLib.errors import InputError
from XTLLib.metrics.calibration import brier, expected_calibration_error, reliability_curve, wilson_interval
from XTLLib.metrics.operating_points import RULES, YOUDEN, Rule, operating_points
from XTLLib.metrics.precision_recall import (
    average_precision,
    average_precision_interval,
    weighted_average_precision,
)
from XTLLib.metrics.recalibration import fit_isotonic, fit_temperature
from XTLLib.metrics.roc import auc, auc_interval
from XTLLib.metrics.roc_curve import roc_band, roc_curve
from XTLLib.metrics.score_difference import score_difference

_PAIRS = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40)


def _sample(n=200, separation=1.2, seed=0):
    generator = np.random.default_rng(seed)
    truth = generator.random(n) < 0.3
    return generator.normal(separation * truth), truth


def _mixed(pairs):
    scores, truth = np.array([p[0] for p in pairs], float), np.array([p[1] for p in pairs])
    return scores, truth, truth.any() and not truth.all()


# --- ranking --------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(_PAIRS)
def test_average_precision_and_roc_agree_with_scikit_learn(pairs):
    from sklearn import metrics

    scores, truth, usable = _mixed(pairs)
    if not usable:
        with pytest.raises(InputError, match="one class"):
            average_precision(scores, truth)
        return
    assert average_precision(scores, truth) == pytest.approx(metrics.average_precision_score(truth, scores))
    curve = roc_curve(scores, truth)
    fpr, tpr, thresholds = metrics.roc_curve(truth, scores, drop_intermediate=False)
    np.testing.assert_allclose(curve.false_positive_rate, fpr)
    np.testing.assert_allclose(curve.true_positive_rate, tpr)
    np.testing.assert_allclose(curve.thresholds, thresholds)
    assert np.trapezoid(curve.true_positive_rate, curve.false_positive_rate) == pytest.approx(auc(scores, truth))


def test_average_precision_interval_equals_a_plain_bootstrap():
    from sklearn.metrics import average_precision_score

    scores, truth = _sample(80)
    found = average_precision_interval(scores, truth, np.arange(80))
    generator, values = np.random.default_rng(7), []
    while len(values) < 1000:
        rows = generator.integers(0, 80, 80)
        if truth[rows].any():
            values.append(average_precision_score(truth[rows], scores[rows]))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(values, (0.025, 0.975))), abs=0.03)
    assert found.mean == average_precision(scores, truth)


def test_a_difference_in_average_precision_equals_a_plain_bootstrap_of_pairs():
    from sklearn.metrics import average_precision_score

    scores, truth = _sample(80)
    other = scores + np.random.default_rng(2).normal(scale=0.5, size=80)
    patients = np.repeat(np.arange(40), 2)
    found = score_difference(weighted_average_precision, scores, other, truth, patients, draws=2000)
    generator, values = np.random.default_rng(7), []
    while len(values) < 1000:
        drawn = generator.integers(0, 40, 40)
        rows = np.concatenate([2 * drawn, 2 * drawn + 1])
        if 0 < truth[rows].sum() < rows.size:
            a, b = (average_precision_score(truth[rows], arm[rows]) for arm in (scores, other))
            values.append(a - b)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(values, (0.025, 0.975))), abs=0.03)
    assert found.value_a == average_precision(scores, truth) and found.value_b == average_precision(other, truth)
    assert found.difference == found.value_a - found.value_b and found.patients == 40


def test_the_band_is_about_the_curve_and_its_area_about_the_auc():
    scores, truth = _sample(150)
    band = roc_band(scores, truth, np.arange(150), draws=400)
    assert (band.low <= band.true_positive_rate + 1e-12).all() and (band.true_positive_rate <= band.high + 1e-12).all()
    assert band.true_positive_rate[-1] == 1.0 == band.low[-1]
    assert np.trapezoid(band.true_positive_rate, band.false_positive_rate) == pytest.approx(
        auc(scores, truth), abs=0.01
    )
    # Pointwise bounds lie further apart than those of the area, which averages them.
    interval = auc_interval(scores, truth, np.arange(150), draws=400)
    width = np.trapezoid(band.high - band.low, band.false_positive_rate)
    assert width > interval.high - interval.low
    # Binomial closed form in the middle of a curve with very many negatives.
    many = np.r_[scores[truth], np.random.default_rng(1).normal(size=4000)]
    classes = np.r_[np.ones(truth.sum()), np.zeros(4000)]
    middle = roc_band(many, classes, np.arange(many.size), points=3, draws=600)
    share = middle.true_positive_rate[1]
    expected = 2 * 1.96 * math.sqrt(share * (1 - share) / truth.sum())
    assert middle.high[1] - middle.low[1] == pytest.approx(expected, rel=0.25)


# --- operating points -----------------------------------------------------------------------------------


def test_operating_points_by_hand():
    #        1    0    1    1    0    1    0    0   (from the highest score)
    scores = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]
    truth = [1, 0, 1, 1, 0, 1, 0, 0]
    rules = (Rule("three of four", 0.75), Rule("all", 1.0), YOUDEN, Rule("elsewhere", fixed=0.85))
    three, all_, youden, fixed = operating_points(scores, truth, range(8), rules, draws=100)
    assert (three.threshold, three.sensitivity, three.specificity) == (0.6, 0.75, 0.75)
    assert (three.ppv, three.npv) == (0.75, 0.75)
    assert (all_.threshold, all_.sensitivity, all_.specificity) == (0.4, 1.0, 0.5)
    assert (youden.threshold, youden.sensitivity, youden.specificity) == (0.6, 0.75, 0.75)
    assert (fixed.threshold, fixed.sensitivity, fixed.specificity, fixed.ppv) == (0.85, 0.25, 1.0, 1.0)


def test_nothing_called_positive_leaves_the_ppv_undefined():
    (point,) = operating_points([0.1, 0.2, 0.3], [0, 1, 0], range(3), [Rule("high", fixed=0.9)], draws=50)
    assert point.sensitivity == 0.0 and point.specificity == 1.0
    assert math.isnan(point.ppv) and math.isnan(point.ppv_interval[0]) and point.npv == pytest.approx(2 / 3)


def test_a_fixed_threshold_has_the_binomial_interval_of_its_sensitivity():
    scores, truth = _sample(600, seed=4)
    (point,) = operating_points(scores, truth, np.arange(600), [Rule("fixed", fixed=0.5)])
    called = scores >= 0.5
    assert point.sensitivity == pytest.approx(called[truth].mean())
    assert point.ppv == pytest.approx(truth[called].mean())
    low, high = wilson_interval(called[truth].sum(), truth.sum())
    assert point.sensitivity_interval == pytest.approx((float(low), float(high)), abs=0.02)


def test_chosen_thresholds_reach_their_sensitivity_and_carry_the_choice_s_uncertainty():
    scores, truth = _sample(300, seed=5)
    ninety, ninety_five, youden = operating_points(scores, truth, np.arange(300))
    assert [p.rule for p in (ninety, ninety_five, youden)] == [rule.name for rule in RULES]
    assert 0.90 <= ninety.sensitivity < 0.92 and ninety_five.sensitivity >= 0.95
    assert ninety.threshold > ninety_five.threshold
    assert ninety.sensitivity_interval[0] >= 0.90
    (fixed,) = operating_points(scores, truth, np.arange(300), [Rule("same", fixed=ninety.threshold)])
    assert fixed.specificity == ninety.specificity
    assert np.ptp(ninety.specificity_interval) > 1.5 * np.ptp(fixed.specificity_interval)
    curve = roc_curve(scores, truth)
    best = (curve.true_positive_rate - curve.false_positive_rate).max()
    assert youden.sensitivity + youden.specificity - 1 == pytest.approx(best)
    with pytest.raises(InputError, match="sensitivity of 0"):
        operating_points(scores, truth, np.arange(300), [Rule("no", 0.0)])


# --- calibration ----------------------------------------------------------------------------------------


def test_brier_and_calibration_error_by_hand():
    p, y = [0.1, 0.1, 0.35, 0.35, 0.9], [0, 1, 0, 1, 1]
    assert brier(p, y) == pytest.approx((0.01 + 0.81 + 0.1225 + 0.4225 + 0.01) / 5)
    curve = reliability_curve(p, y, bins=4)  # bins 0-.25, .25-.5, .75-1
    assert curve.count.tolist() == [2, 2, 1]
    assert curve.predicted == pytest.approx([0.1, 0.35, 0.9]) and curve.observed == pytest.approx([0.5, 0.5, 1.0])
    assert curve.expected_error == pytest.approx((2 * 0.4 + 2 * 0.15 + 0.1) / 5)
    assert curve.largest_error == pytest.approx(0.4)
    assert expected_calibration_error(p, y, 4) == curve.expected_error


def test_reliability_agrees_with_scikit_learn():
    from sklearn.calibration import calibration_curve
    from sklearn.metrics import brier_score_loss

    generator = np.random.default_rng(0)
    p = generator.random(500)
    y = generator.random(500) < p**2
    assert brier(p, y) == pytest.approx(brier_score_loss(y, p))
    for ours, theirs in (("width", "uniform"), ("count", "quantile")):
        observed, predicted = calibration_curve(y, p, n_bins=8, strategy=theirs)
        curve = reliability_curve(p, y, 8, ours)
        np.testing.assert_allclose(curve.observed, observed)
        np.testing.assert_allclose(curve.predicted, predicted)
    assert reliability_curve(np.full(9, 0.5), np.ones(9), 4, "count").count.tolist() == [9]


def test_wilson_s_interval_agrees_with_scipy():
    from scipy.stats import binomtest

    for k, n in ((0, 7), (3, 10), (40, 41)):
        theirs = binomtest(k, n).proportion_ci(method="wilson")
        assert wilson_interval(k, n) == pytest.approx((theirs.low, theirs.high))
    assert math.isnan(wilson_interval(0, 0)[0])


def test_the_temperature_that_was_put_in_is_found():
    generator = np.random.default_rng(1)
    logits = generator.normal(0, 1.5, 20_000)
    truth = generator.random(20_000) < 1 / (1 + np.exp(-logits))
    overconfident = 1 / (1 + np.exp(-2.5 * logits))
    fitted = fit_temperature(overconfident, truth)
    assert fitted.temperature == pytest.approx(2.5, rel=0.05)
    assert fitted(overconfident) == pytest.approx(1 / (1 + np.exp(-2.5 * logits / fitted.temperature)), abs=1e-6)
    assert expected_calibration_error(fitted(overconfident), truth) < 0.015
    assert expected_calibration_error(overconfident, truth) > 0.05


def test_the_temperature_agrees_with_logistic_regression_without_an_intercept():
    from sklearn.linear_model import LogisticRegression

    scores, truth = _sample(150, seed=2)
    slope = LogisticRegression(fit_intercept=False, C=1e9, tol=1e-9).fit(scores[:, None], truth).coef_.item()
    assert fit_temperature(1 / (1 + np.exp(-scores)), truth).temperature == pytest.approx(1 / slope, rel=1e-3)


def test_separable_findings_end_at_the_bound_and_one_class_is_refused():
    fitted = fit_temperature([0.4, 0.45, 0.55, 0.6], [0, 0, 1, 1])
    assert fitted.temperature == pytest.approx(0.02, rel=0.01)
    assert np.isfinite(fitted([0.0, 1.0])).all()
    with pytest.raises(InputError, match="one class"):
        fit_temperature([0.1, 0.2], [1, 1])
    with pytest.raises(InputError, match="outside 0 to 1"):
        fit_temperature([0.1, 1.2], [0, 1])


@settings(max_examples=60, deadline=None)
@given(_PAIRS)
def test_isotonic_regression_agrees_with_scikit_learn(pairs):
    from sklearn.isotonic import IsotonicRegression

    scores, truth, _ = _mixed(pairs)
    theirs = IsotonicRegression(out_of_bounds="clip").fit(scores, truth.astype(float))
    grid = np.linspace(-1, 7, 33)
    np.testing.assert_allclose(fit_isotonic(scores, truth)(grid), theirs.predict(grid), atol=1e-9)
