"""DeLong's method against two published worked examples and against its definition over all pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from XTLLib.errors import InputError
from XTLLib.metrics.delong import delong_auc, delong_difference
from XTLLib.metrics.roc import auc

# Albumin (g/dl), total protein (g/dl), K-G score and outcome of the 43 complete patients with ovarian cancer and
# bowel obstruction of DeLong et al. 1988; a lower K-G score is the better sign.
_OVARIAN = np.array(
    [
        [3.0, 5.8, 10, 0], [3.2, 6.3, 5, 1], [3.9, 6.8, 3, 1], [2.8, 4.8, 6, 0], [3.2, 5.8, 3, 1], [0.9, 4.0, 5, 0],
        [2.5, 5.7, 8, 0], [1.6, 5.6, 5, 1], [3.8, 5.7, 5, 1], [3.7, 6.7, 6, 1], [3.2, 5.4, 4, 1], [3.8, 6.6, 6, 1],
        [4.1, 6.6, 5, 1], [3.6, 5.7, 5, 1], [4.3, 7.0, 4, 1], [3.6, 6.7, 4, 0], [2.3, 4.4, 6, 1], [4.2, 7.6, 4, 0],
        [4.0, 6.6, 6, 0], [3.5, 5.8, 6, 1], [3.8, 6.8, 7, 1], [3.0, 4.7, 8, 0], [4.5, 7.4, 5, 1], [3.7, 7.4, 5, 1],
        [3.1, 6.6, 6, 1], [4.1, 8.2, 6, 1], [4.3, 7.0, 5, 1], [4.3, 6.5, 4, 1], [3.2, 5.1, 5, 1], [2.6, 4.7, 6, 1],
        [3.3, 6.8, 6, 0], [1.7, 4.0, 7, 0], [3.7, 6.1, 5, 1], [3.3, 6.3, 7, 1], [4.2, 7.7, 6, 1], [3.5, 6.2, 5, 1],
        [2.9, 5.7, 9, 0], [2.1, 4.8, 7, 1], [2.8, 6.2, 8, 0], [4.0, 7.0, 7, 1], [3.3, 5.7, 6, 1], [3.7, 6.9, 5, 1],
        [3.6, 6.6, 5, 1],
    ]
)  # fmt: skip


def test_the_ovarian_cancer_example_as_published():
    """Figures as in the SAS/STAT User's Guide, LOGISTIC procedure, "Comparing ROC curves"."""
    albumin, protein, kg, outcome = _OVARIAN.T
    published = {
        "albumin": (albumin, 0.7366, 0.0927, 0.5549, 0.9182),
        "K-G": (10 - kg, 0.7258, 0.1028, 0.5243, 0.9273),
        "protein": (protein, 0.6478, 0.1000, 0.4518, 0.8439),
    }
    for scores, *figures in published.values():
        found = delong_auc(scores, outcome, interval="normal")
        assert [found.auc, found.standard_error, found.low, found.high] == pytest.approx(figures, abs=6e-5)
    first, second = (delong_difference(scores, 10 - kg, outcome) for scores in (albumin, protein))
    for found, figures in (
        (first, (0.0108, 0.0953, -0.1761, 0.1976, 0.0127, 0.9102)),
        (second, (-0.0780, 0.1046, -0.2830, 0.1271, 0.5554, 0.4561)),
    ):
        mine = [found.difference, found.standard_error, found.low, found.high, found.z**2, found.p_value]
        assert mine == pytest.approx(figures, abs=6e-5)


def test_the_tomography_ratings_of_hanley_and_mcneil():
    """Five ratings of 58 normal and 51 abnormal images (Hanley & McNeil 1982); figures as Stata's roctab gives them."""
    normal = np.repeat([1, 2, 3, 4, 5], [33, 6, 6, 11, 2])
    abnormal = np.repeat([1, 2, 3, 4, 5], [3, 2, 2, 11, 33])
    found = delong_auc(np.r_[normal, abnormal], np.r_[np.zeros(58), np.ones(51)], interval="normal")
    assert (found.auc, found.standard_error) == pytest.approx((0.8932, 0.0307), abs=6e-5)
    assert (found.low, found.high) == pytest.approx((0.83295, 0.95339), abs=6e-6)


def _by_all_pairs(scores, truth):
    """Structural components straight from the definition, without ranks."""
    x, y = scores[truth], scores[~truth]
    order = (x[:, None] > y) + 0.5 * (x[:, None] == y)
    return order.mean(axis=1), order.mean(axis=0)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.booleans()), min_size=6, max_size=40))
def test_agrees_with_the_definition_over_all_pairs(rows):
    a, b, truth = (np.array(column) for column in zip(*rows))
    if truth.sum() < 2 or (~truth).sum() < 2:
        with pytest.raises(InputError):
            delong_difference(a, b, truth)
        return
    (pa, na), (pb, nb) = _by_all_pairs(a, truth), _by_all_pairs(b, truth)
    found = delong_difference(a, b, truth)
    assert (found.auc_a, found.auc_b) == pytest.approx((pa.mean(), nb.mean()))
    assert found.auc_a == pytest.approx(auc(a, truth))
    variance = (pa - pb).var(ddof=1) / pa.size + (na - nb).var(ddof=1) / na.size
    assert found.standard_error**2 == pytest.approx(variance, abs=1e-11)


def test_arms_that_rank_alike_do_not_differ():
    generator = np.random.default_rng(0)
    scores, truth = generator.normal(size=30), generator.random(30) < 0.4
    found = delong_difference(scores, np.exp(scores), truth)
    assert (found.difference, found.standard_error, found.z, found.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_one_positive_has_no_variance():
    with pytest.raises(InputError, match="1 positives"):
        delong_auc([1, 2, 3], [1, 0, 0])


def test_the_logit_interval_is_symmetric_on_its_scale_and_stays_inside():
    generator = np.random.default_rng(1)
    truth = np.arange(24) < 8
    scores = generator.normal(2.5 * truth)
    logit, normal = delong_auc(scores, truth), delong_auc(scores, truth, interval="normal")
    assert logit.standard_error == normal.standard_error and normal.high == 1.0 > logit.high
    low, middle, high = (np.log(v / (1 - v)) for v in (logit.low, logit.auc, logit.high))
    assert high - middle == pytest.approx(middle - low)
    # For a small standard error both agree.
    many = np.tile(scores, 400), np.tile(truth, 400)
    a, b = delong_auc(*many), delong_auc(*many, interval="normal")
    assert (a.low, a.high) == pytest.approx((b.low, b.high), abs=1e-3)
