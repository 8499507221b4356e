"""AUC and its patient bootstrap against scikit-learn, scipy and arguments from design."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine_speed import cpu_seconds, slowness
from XTLLib.errors import InputError
from XTLLib.metrics.roc import auc, auc_interval, macro_auc, macro_auc_interval, mean_interval, weighted_auc
from XTLLib.metrics.score_difference import score_difference


def test_hand_worked_example_with_a_tie():
    # pairs (0.8 > 0.3), (0.8 > 0.5), (0.5 > 0.3) in order, (0.5 = 0.5) tied: 3.5 of 4
    assert auc([0.8, 0.5, 0.3, 0.5], [1, 1, 0, 0]) == pytest.approx(3.5 / 4)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_agrees_with_scikit_learn_and_mann_whitney(pairs):
    from scipy.stats import mannwhitneyu
    from sklearn.metrics import roc_auc_score

    scores, truth = np.array([p[0] for p in pairs], float), np.array([p[1] for p in pairs])
    if truth.all() or not truth.any():
        with pytest.raises(InputError, match="one class"):
            auc(scores, truth)
        return
    assert auc(scores, truth) == pytest.approx(roc_auc_score(truth, scores))
    u = mannwhitneyu(scores[truth], scores[~truth]).statistic
    assert auc(scores, truth) == pytest.approx(u / (truth.sum() * (~truth).sum()))


def _sample(patients=120, separation=1.0, seed=0):
    generator = np.random.default_rng(seed)
    truth = generator.random(patients) < 0.3
    return generator.normal(truth * separation), truth, [f"patient{n}" for n in range(patients)]


def test_interval_agrees_with_the_hanley_mcneil_formula():
    scores, truth, patients = _sample(400)
    result = auc_interval(scores, truth, patients)
    a, m, n = result.auc, result.positives, result.negatives
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    error = np.sqrt((a * (1 - a) + (m - 1) * (q1 - a * a) + (n - 1) * (q2 - a * a)) / (m * n))
    assert result.low < a < result.high
    assert (result.high - result.low) / (2 * 1.96) == pytest.approx(error, rel=0.15)
    assert result == auc_interval(scores, truth, patients)  # same seed, same interval


def test_interval_equals_a_plain_bootstrap_written_out():
    from sklearn.metrics import roc_auc_score

    scores, truth, _ = _sample(60)
    patients = np.repeat(np.arange(30), 2)
    result = auc_interval(scores, truth, patients.tolist(), draws=2000)
    generator, values = np.random.default_rng(5), []
    while len(values) < 2000:
        rows = np.concatenate([np.flatnonzero(patients == p) for p in generator.integers(0, 30, 30)])
        if 0 < truth[rows].sum() < rows.size:
            values.append(roc_auc_score(truth[rows], scores[rows]))
    assert (result.low, result.high) == pytest.approx(tuple(np.quantile(values, (0.025, 0.975))), abs=0.02)


def test_repeated_findings_of_one_patient_add_no_certainty():
    scores, truth, patients = _sample(100)
    once = auc_interval(scores, truth, patients, seed=3)
    fourfold = auc_interval(np.tile(scores, 4), np.tile(truth, 4), patients * 4, seed=3)
    assert (fourfold.low, fourfold.high) == pytest.approx((once.low, once.high), abs=1e-9)


def test_difference_of_equal_arms_is_zero_and_of_unequal_arms_is_seen():
    scores, truth, patients = _sample(200)
    same = score_difference(weighted_auc, scores, 2 * scores + 1, truth, patients, draws=1000)
    assert (same.difference, same.low, same.high, same.p_value) == (0.0, 0.0, 0.0, 1.0)
    noise = np.random.default_rng(9).normal(size=200)
    better = score_difference(weighted_auc, scores, noise, truth, patients, draws=1000)
    assert better.difference == pytest.approx(auc(scores, truth) - auc(noise, truth))
    assert better.low > 0 and better.p_value < 0.05
    worse = score_difference(weighted_auc, noise, scores, truth, patients, draws=1000)
    assert (worse.low, worse.high) == pytest.approx((-better.high, -better.low))
    assert worse.p_value == better.p_value


def test_pairing_narrows_the_difference_of_correlated_arms():
    scores, truth, patients = _sample(200)
    nearly = scores + np.random.default_rng(1).normal(scale=0.1, size=200)
    paired = score_difference(weighted_auc, scores, nearly, truth, patients, draws=2000)
    single = auc_interval(scores, truth, patients, draws=2000)
    assert paired.high - paired.low < 0.3 * (single.high - single.low)


def test_ten_thousand_draws_are_quick():
    scores, truth, patients = _sample(264)
    taken = cpu_seconds(lambda: score_difference(weighted_auc, scores, -scores, truth, patients))
    assert taken < 10 * slowness()


@pytest.mark.parametrize(
    ("scores", "truth", "words"),
    [([1, 2], [1, 0, 1], "2 scores"), ([1, np.nan], [1, 0], "NaN"), ([1, 2], [2, 0], "other than"), ([1], [1], "one")],
)
def test_bad_input_is_refused(scores, truth, words):
    with pytest.raises(InputError, match=words):
        auc(scores, truth)


def test_patients_must_be_named_for_every_finding():
    with pytest.raises(InputError, match="patients for"):
        auc_interval([1, 2, 3], [0, 1, 1], ["a", "b"])


def _three_classes(count=90, seed=0):
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 3, count)
    scores = generator.random((count, 3)) + 0.5 * np.eye(3)[truth]
    return scores / scores.sum(axis=1, keepdims=True), truth, np.arange(count) // 2


def test_macro_auc_is_that_of_scikit_learn():
    from sklearn.metrics import roc_auc_score

    scores, truth, _ = _three_classes()
    assert macro_auc(scores, truth) == pytest.approx(roc_auc_score(truth, scores, multi_class="ovr", average="macro"))
    # A class that nobody has is left out.
    with_a_fourth = np.column_stack([scores, np.zeros(len(truth))])
    assert macro_auc(with_a_fourth, truth) == pytest.approx(macro_auc(scores, truth))
    with pytest.raises(InputError, match="Give one column"):
        macro_auc(scores[:, :2], truth)


def test_macro_auc_of_two_classes_is_the_auc():
    scores, truth, patients = _sample()
    both = np.column_stack([-scores, scores])
    assert macro_auc(both, truth.astype(int)) == pytest.approx(auc(scores, truth))
    interval, macro = auc_interval(scores, truth, patients), macro_auc_interval(both, truth.astype(int), patients)
    assert (macro.low, macro.high) == pytest.approx((interval.low, interval.high))


def test_macro_interval_holds_the_estimate():
    scores, truth, patients = _three_classes()
    interval = macro_auc_interval(scores, truth, patients, draws=500)
    assert 0.5 < interval.low < interval.mean < interval.high < 1 and interval.patients == 45


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution():
    values = np.random.default_rng(0).normal(5, 2, 400)
    interval = mean_interval(values, np.arange(400))
    half = 1.96 * values.std() / 20
    assert interval.mean == pytest.approx(values.mean())
    assert (interval.low, interval.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)
    # Four images of each patient that say the same say no more than one.
    same = mean_interval(values.repeat(4), np.arange(400).repeat(4))
    assert (same.low, same.high) == pytest.approx((interval.low, interval.high), abs=0.03)
    with pytest.raises(InputError, match="3 values of 2 patients"):
        mean_interval([1, 2, 3], ["a", "b"])
