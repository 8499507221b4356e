"""Overlap and lesion-wise figures against hand-worked examples and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from XTLLib.errors import InputError
from XTLLib.metrics.components import bounding_box, label_components
from XTLLib.metrics.lesionwise import detect_lesions
from XTLLib.metrics.overlap import avd, dice, iou, mean_iou, ppv, tpr

_MASKS = st.tuples(st.integers(0, 2**12 - 1), st.integers(0, 2**12 - 1))


def _bits(number: int) -> np.ndarray:
    return np.array([number >> bit & 1 for bit in range(12)], dtype=np.uint8).reshape(2, 2, 3)


def test_hand_worked_example():
    reference = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    predicted = np.array([1, 1, 1, 0, 1, 1, 0, 0, 0, 0])
    assert dice(predicted, reference) == pytest.approx(6 / 9)
    assert iou(predicted, reference) == pytest.approx(3 / 6)
    assert ppv(predicted, reference) == pytest.approx(3 / 5)
    assert tpr(predicted, reference) == pytest.approx(3 / 4)
    assert avd(predicted, reference) == pytest.approx(1 / 4)
    assert mean_iou(predicted, reference) == pytest.approx((3 / 6 + 4 / 7) / 2)


@settings(max_examples=200, deadline=None)
@given(_MASKS)
def test_agrees_with_scikit_learn_where_both_masks_are_filled(masks):
    from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

    predicted, reference = _bits(masks[0]), _bits(masks[1])
    if not predicted.any() or not reference.any():
        return
    truth, guess = reference.ravel(), predicted.ravel()
    assert dice(predicted, reference) == pytest.approx(f1_score(truth, guess))
    assert iou(predicted, reference) == pytest.approx(jaccard_score(truth, guess))
    assert ppv(predicted, reference) == pytest.approx(precision_score(truth, guess))
    assert tpr(predicted, reference) == pytest.approx(recall_score(truth, guess))


@settings(max_examples=100, deadline=None)
@given(_MASKS)
def test_symmetry_and_the_relation_of_dice_and_iou(masks):
    p, g = _bits(masks[0]), _bits(masks[1])
    assert dice(p, g) == dice(g, p)
    assert dice(p, g) == pytest.approx(2 * iou(p, g) / (1 + iou(p, g)))
    assert ppv(p, g) == tpr(g, p)


@pytest.mark.parametrize(("policy", "value"), [("one", 1.0), ("zero", 0.0), ("nan", math.nan)])
def test_two_empty_masks_follow_the_policy(policy, value):
    nothing = np.zeros((2, 2, 2), bool)
    for figure in (dice, iou, ppv, tpr):
        np.testing.assert_equal(figure(nothing, nothing, policy), value)
    np.testing.assert_equal(avd(nothing, nothing, policy), {1.0: 0.0, 0.0: math.inf}.get(value, math.nan))


def test_one_empty_mask():
    nothing, something = np.zeros((2, 2, 2), bool), np.ones((2, 2, 2), bool)
    for figure in (dice, iou, ppv, tpr):
        assert figure(nothing, something) == 0.0
        assert figure(something, nothing) == 0.0
    assert math.isnan(ppv(nothing, something, "nan")) and math.isnan(tpr(something, nothing, "nan"))
    assert dice(nothing, something, "nan") == 0.0
    assert avd(something, nothing) == math.inf and avd(nothing, something) == 1.0


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="shape"):
        dice(np.zeros((2, 2)), np.zeros((2, 3)))
    with pytest.raises(InputError, match="policy"):
        dice(np.zeros(3), np.zeros(3), "two")
    with pytest.raises(InputError, match="connectivity"):
        label_components(np.zeros((2, 2, 2), bool), 8)


def test_connectivity_joins_faces_edges_and_corners():
    mask = np.zeros((4, 4, 4), bool)
    mask[0, 0, 0] = mask[0, 1, 1] = mask[1, 2, 2] = True  # joined by an edge, then by a corner
    assert [label_components(mask, c)[1] for c in (6, 18, 26)] == [3, 2, 1]


def test_components_agree_with_a_second_library_inside_a_larger_volume():
    from skimage.measure import label

    mask = np.zeros((20, 24, 28), bool)
    mask[4:15, 3:20, 5:25] = np.random.default_rng(1).random((11, 17, 20)) > 0.8
    ours, count = label_components(mask, 26)
    theirs, their_count = label(mask, connectivity=3, return_num=True)
    assert count == their_count
    pairs = np.unique(np.stack([ours.ravel(), theirs.ravel()]), axis=1)
    assert pairs.shape[1] == count + 1  # a bijection of the labels, background included
    assert bounding_box(mask) == (slice(4, 15), slice(3, 20), slice(5, 25))
    assert bounding_box(np.zeros((2, 2, 2), bool)) is None


def test_lesions_by_hand():
    reference, predicted = np.zeros((1, 8, 8), bool), np.zeros((1, 8, 8), bool)
    reference[0, 0, 0:3] = True  # found by two predicted components
    reference[0, 4, 0:2] = True  # found
    reference[0, 7, 7] = True  # missed
    predicted[0, 0, 0] = predicted[0, 0, 2] = True
    predicted[0, 4, 1:4] = True
    predicted[0, 7, 0] = predicted[0, 2, 6] = True  # two false ones
    result = detect_lesions(predicted, reference, connectivity=26)
    assert (result.reference_lesions, result.found) == (3, 2)
    assert (result.predicted_lesions, result.false_lesions) == (5, 2)
    assert result.ltpr == pytest.approx(2 / 3) and result.lfpr == pytest.approx(2 / 5)
    assert result.f1 == pytest.approx(2 * (2 / 3) * (3 / 5) / (2 / 3 + 3 / 5))


def test_lesions_of_empty_masks():
    nothing, one = np.zeros((3, 3, 3), bool), np.ones((3, 3, 3), bool)
    perfect = detect_lesions(nothing, nothing)
    assert (perfect.ltpr, perfect.lfpr, perfect.f1) == (1.0, 0.0, 1.0)
    missed = detect_lesions(nothing, one)
    assert (missed.ltpr, missed.f1) == (0.0, 0.0)
    invented = detect_lesions(one, nothing)
    assert (invented.lfpr, invented.f1) == (1.0, 0.0)
    assert math.isnan(detect_lesions(nothing, nothing, empty="nan").f1)
