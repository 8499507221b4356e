"""Challenge scores, ISBI, MSSEG (Anima) and PI-CAI: answers known by hand, and second implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from XTLLib.data.geometry import Grid
from XTLLib.errors import InputError
from XTLLib.metrics.anima import AnimaRules, anima_detection
from XTLLib.metrics.detection import detection_by_conventions
from XTLLib.metrics.isbi import isbi_score, volume_correlation
from XTLLib.metrics.picai import match_case, picai_score


def _masks(*shape):
    return np.zeros(shape, bool), np.zeros(shape, bool)


# --- ISBI ---------------------------------------------------------------------------------------------


def test_isbi_score_by_hand():
    # .6/8 + .8/8 + (1 - .2)/4 + .5/4 = .075 + .1 + .2 + .125 = .5; with r = .9: + .225
    assert isbi_score(0.6, 0.8, 0.5, 0.2, 0.9) == pytest.approx(0.725)
    assert isbi_score(0.6, 0.8, 0.5, 0.2) == pytest.approx(0.5 * 4 / 3)
    assert isbi_score(0.6, 0.8, 0.5, 0.2, math.nan) == pytest.approx(0.5 * 4 / 3)
    assert isbi_score(1, 1, 1, 0, 1.0) == 1.0 == isbi_score(1, 1, 1, 0)
    many = isbi_score(np.array([0.6, 1]), np.array([0.8, 1]), np.array([0.5, 1]), np.array([0.2, 0]), 0.9)
    assert many == pytest.approx([0.725, 0.975])
    with pytest.raises(InputError, match="LFPR outside"):
        isbi_score(0.5, 0.5, 0.5, 20)


def test_volume_correlation_is_pearson_s_r():
    from scipy.stats import pearsonr

    generator = np.random.default_rng(0)
    a = generator.random(12)
    b = a + 0.3 * generator.random(12)
    assert volume_correlation(a, b) == pytest.approx(pearsonr(a, b).statistic)
    assert math.isnan(volume_correlation([1, 2], [1, 2]))
    assert math.isnan(volume_correlation([1, 1, 1], [1, 2, 3]))
    with pytest.raises(InputError, match="3 predicted and 2"):
        volume_correlation([1, 2, 3], [1, 2])


# --- MSSEG --------------------------------------------------------------------------------------------


def test_a_lesion_needs_more_than_a_tenth_of_its_voxels():
    p, g = _masks(1, 5, 50)
    g[0, 1, :40] = True
    p[0, 1, :4] = True  # exactly 10 %: not found
    result = anima_detection(p, g, 1.0)
    # With the roles exchanged all of the prediction is covered, but by a lesion that has 90 % outside it.
    assert (result.found, result.true_lesions) == (0, 0)
    p[0, 1, 4] = True
    assert anima_detection(p, g, 1.0).found == 1
    p[0, 1, :12] = True  # now 70 % of the reference lesion are outside the prediction, which is allowed
    result = anima_detection(p, g, 1.0)
    assert (result.sensitivity, result.ppv, result.f1) == (1.0, 1.0, 1.0)


def test_a_prediction_may_have_at_most_seventy_percent_outside():
    p, g = _masks(1, 5, 50)
    g[0, 1, 10:16] = True
    p[0, 1, 0:20] = True  # 6 of 20 inside: 70 % outside, still allowed
    assert anima_detection(p, g, 1.0).found == 1
    p[0, 1, 20] = True
    result = anima_detection(p, g, 1.0)
    assert result.found == 0
    # With the roles exchanged: 6 of 21 voxels are more than a tenth, and the reference lesion lies inside.
    assert result.true_lesions == 1


def test_the_walk_ends_when_enough_of_the_overlap_is_covered():
    p, g = _masks(1, 7, 40)
    g[0, 2:4, 0:20] = True  # 40 voxels
    p[0, 2, 0:14] = True  # 14 inside: 70 % of the overlap
    p[0, 3:7, 16:20] = True  # 4 inside, 12 outside: 75 % outside, but second in the walk
    p[0, 3, 12] = p[0, 3, 13] = False
    assert anima_detection(p, g, 1.0).found == 1  # 14 of 18 cover 78 % and end the walk before it
    p[0, 2, 5:14] = False
    p[0, 3, 14] = False
    assert anima_detection(p, g, 1.0).found == 0  # 5 of 9 cover 56 %: the second one is looked at and is outside


def test_components_up_to_three_cubic_millimetres_are_removed():
    p, g = _masks(3, 6, 12)
    g[1, 1, 0:3] = True  # 3 mm³
    p[1, 1, 0:3] = True
    g[1, 4, 0:4] = p[1, 4, 0:4] = True
    result = anima_detection(p, g, 1.0)
    assert (result.reference_lesions, result.predicted_lesions, result.found) == (1, 1, 1)
    assert anima_detection(p, g, 1.5).reference_lesions == 2  # 4.5 mm³
    assert anima_detection(p, g, 0.5).reference_lesions == 0
    assert anima_detection(p, g, 1.0, rules=AnimaRules(smallest_mm3=0)).reference_lesions == 2


def test_components_are_joined_by_faces_unless_said_otherwise():
    g = np.zeros((2, 4, 8), bool)
    g[0, 0, 0:4] = g[0, 1, 4:8] = True
    assert anima_detection(g, g, 1.0).reference_lesions == 2
    assert anima_detection(g, g, 1.0, connectivity=18).reference_lesions == 1


@pytest.mark.parametrize(
    ("policy", "both", "one"), [("one", 1.0, 0.0), ("zero", 0.0, 0.0), ("nan", math.nan, math.nan)]
)
def test_anima_without_lesions_follows_the_policy(policy, both, one):
    nothing, something = np.zeros((3, 3, 3), bool), np.ones((3, 3, 3), bool)
    empty = anima_detection(nothing, nothing, 1.0, empty=policy)
    np.testing.assert_equal((empty.sensitivity, empty.ppv, empty.f1), (both,) * 3)
    missed = anima_detection(nothing, something, 1.0, empty=policy)
    np.testing.assert_equal((missed.sensitivity, missed.ppv, missed.f1), (0.0, one, 0.0))
    invented = anima_detection(something, nothing, 1.0, empty=policy)
    np.testing.assert_equal((invented.sensitivity, invented.ppv, invented.f1), (one, 0.0, 0.0))


def _found_by_the_letter(lesions, others):
    """The rules read aloud, on sets of voxels."""
    everything, found = set().union(*lesions) if lesions else set(), 0
    for lesion in lesions:
        overlaps = sorted(((len(lesion & other), n) for n, other in enumerate(others)), key=lambda o: (-o[0], o[1]))
        total = sum(size for size, _ in overlaps)
        if total / len(lesion) <= 0.10:
            continue
        covered, good = 0, True
        for size, number in overlaps:
            if covered >= 0.65 * total:
                break
            other = others[number]
            good &= len(other - everything) / len(other) <= 0.70
            covered += size
        found += good
    return found


def _component_sets(mask):
    from skimage.measure import label

    labels = label(mask, connectivity=1)
    sets = [set(map(tuple, np.argwhere(labels == n))) for n in range(1, labels.max() + 1)]
    return [s for s in sets if len(s) > 3]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.15, 0.45), st.floats(0.15, 0.45))
def test_anima_agrees_with_the_rules_by_the_letter(seed, share_p, share_g):
    generator = np.random.default_rng(seed)
    p, g = generator.random((4, 9, 9)) < share_p, generator.random((4, 9, 9)) < share_g
    result = anima_detection(p, g, 1.0)
    lesions, others = _component_sets(g), _component_sets(p)
    assert (result.reference_lesions, result.predicted_lesions) == (len(lesions), len(others))
    assert result.found == _found_by_the_letter(lesions, others)
    assert result.true_lesions == _found_by_the_letter(others, lesions)


# --- PI-CAI -------------------------------------------------------------------------------------------


def test_picai_by_hand():
    p, g = np.zeros((1, 6, 40), np.float32), np.zeros((1, 6, 40), bool)
    g[0, 0, 0:10] = True
    p[0, 0, 0:4] = 0.7  # IoU 4/10
    p[0, 0, 8:10] = 0.9  # IoU 2/10: reaches 0.10 and is not paired, so that it is left out
    g[0, 3, 0:20] = True
    p[0, 3, 19:21] = 0.6  # IoU 1/21: too little
    p[0, 3, 30:33] = 0.2  # nothing there
    case = match_case(p, g)
    assert case.hits == ((pytest.approx(0.7), pytest.approx(0.4)),)
    assert case.misses == 1 and case.lesions == 2
    assert case.false_positives == pytest.approx((0.6, 0.2))
    assert case.confidence == pytest.approx(0.9)


def test_an_iou_of_exactly_a_tenth_is_a_hit():
    p, g = np.zeros((1, 1, 40), np.float32), np.zeros((1, 1, 40), bool)
    g[0, 0, :10] = True
    p[0, 0, 0] = 0.5
    assert match_case(p, g).misses == 0
    g[0, 0, 10] = True
    assert match_case(p, g).misses == 1


def test_pairs_are_chosen_together_and_not_one_by_one():
    # The middle candidate fits the first lesion best, but the second lesion has no other candidate.
    p, g = np.zeros((1, 3, 60), np.float32), np.zeros((1, 3, 60), bool)
    g[0, 1, 0:10] = g[0, 1, 12:20] = True
    p[0, 1, 0:3] = 0.3  # IoU 3/10 with the first
    p[0, 1, 4:16] = 0.8  # IoU 6/16 with the first, 4/16 with the second
    case = match_case(p, g)
    assert sorted(case.hits) == [pytest.approx((0.3, 0.3)), pytest.approx((0.8, 0.25))]
    assert case.misses == 0 and case.false_positives == ()


def test_candidates_are_26_connected_and_softmax_maps_are_refused():
    p, g = np.zeros((2, 3, 3), np.float32), np.zeros((2, 3, 3), bool)
    p[0, 0, 0] = p[1, 1, 1] = 0.5
    assert match_case(p, g).false_positives == (0.5,)
    p[1, 1, 1] = 0.4
    with pytest.raises(InputError, match="more confidences"):
        match_case(p, g)
    with pytest.raises(InputError, match="negative"):
        match_case(-p, g)


def _random_study(seed, cases=14):
    """Detection maps of blobs that sometimes fit the lesions, some cases empty on either side."""
    from scipy.ndimage import gaussian_filter, label

    generator = np.random.default_rng(seed)
    maps, truths = [], []
    for number in range(cases):
        field = gaussian_filter(generator.standard_normal((8, 20, 20)), 1.5)
        other = field + 0.6 * gaussian_filter(generator.standard_normal((8, 20, 20)), 1.5)
        truth = field > (np.quantile(field, 0.95) if number % 3 else 9)
        candidates, count = label(other > np.quantile(other, 0.94 if number % 5 else 1.0), np.ones((3, 3, 3)))
        values = np.r_[0, np.round(generator.random(count) * 0.9 + 0.05, 1)].astype(np.float32)
        maps.append(values[candidates])
        truths.append(truth)
    return maps, truths


def _speckled_study(seed, cases=10):
    """Small lesions and candidates by the dozen: many pairs of equal IoU."""
    from scipy.ndimage import binary_dilation, label

    generator = np.random.default_rng(seed)
    maps, truths = [], []
    for number in range(cases):
        truth = binary_dilation(generator.random((5, 12, 12)) < (0.02 if number % 3 else 0.0))
        mask = binary_dilation(generator.random(truth.shape) < 0.01) | truth & (generator.random(truth.shape) < 0.3)
        candidates, count = label(mask, np.ones((3, 3, 3)))
        maps.append(np.r_[0, np.round(generator.uniform(0.1, 1, count), 1)].astype(np.float32)[candidates])
        truths.append(truth)
    return maps, truths


@pytest.mark.parametrize("study", [_random_study, _speckled_study])
def test_picai_agrees_with_the_challenge_s_own_package(study):
    picai_eval = pytest.importorskip("picai_eval", reason="picai_eval is not installed")
    for seed in range(6):
        maps, truths = study(seed)
        ours = picai_score([match_case(p, g) for p, g in zip(maps, truths)], draws=10)
        theirs = picai_eval.evaluate([*maps], [t.astype(np.int32) for t in truths], num_parallel_calls=1)
        assert ours.auroc == pytest.approx(theirs.auroc)
        assert ours.average_precision == pytest.approx(theirs.AP)
        assert ours.score == pytest.approx(theirs.score)
        assert (ours.cases, ours.lesions) == (theirs.num_cases, theirs.num_lesions)


def test_picai_score_by_hand_and_its_interval():
    def case(confidence, hit=None, misses=0, false=(), patient=""):
        from XTLLib.metrics.picai import PicaiCase

        return PicaiCase(((hit, 0.5),) if hit else (), misses, false, confidence, patient)

    cases = [case(0.9, hit=0.9), case(0.8, false=(0.8,)), case(0.7, hit=0.7, misses=1), case(0.0)]
    score = picai_score(cases, draws=200)
    # Cases .9 and .7 against .8 and 0: three pairs of four in order.
    assert score.auroc == pytest.approx(3 / 4)
    # Recall 1/3 at precision 1, 2/3 at 2/3; the miss is never reached.
    assert score.average_precision == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3)
    assert score.score == pytest.approx((score.auroc + score.average_precision) / 2)
    assert score.score_interval[0] <= score.score <= score.score_interval[1]
    # Cases of one patient are drawn together: twice the same cases are no more certain.
    named = [
        case(c.confidence, c.hits[0][0] if c.hits else None, c.misses, c.false_positives, str(n))
        for n, c in enumerate(cases)
    ]
    assert picai_score(named * 2, draws=200).score_interval == pytest.approx(
        picai_score(named, draws=200).score_interval
    )
    with pytest.raises(InputError, match="one kind"):
        picai_score(cases[:1])


# --- side by side -------------------------------------------------------------------------------------


def test_three_conventions_give_three_answers_to_one_pair_of_masks():
    p, g = _masks(1, 9, 40)
    g[0, 0, 0:20] = p[0, 0, 0:20] = True  # found under all
    g[0, 3, 0:20] = True
    p[0, 3, 0:1] = True  # one voxel of twenty: any-overlap only; a lesion of 1 mm³ does not exist for Anima
    g[0, 6, 0:10] = True
    p[0, 6, 8:20] = True  # IoU 2/20 = 0.10; 10 of 12 outside: Anima refuses; 8 of 10 the other way: too
    p[0, 8, 30:35] = True  # false under all
    grid = Grid(p.shape, np.eye(4))
    rows = {row.convention: row for row in detection_by_conventions(p, g, grid)}
    counts = {n: (r.found, r.reference_lesions, r.true_lesions, r.predicted_lesions) for n, r in rows.items()}
    assert counts == {"any-overlap": (3, 3, 3, 4), "anima": (1, 3, 1, 3), "iou-0.10": (2, 3, 2, 4)}
    assert [row.connectivity for row in rows.values()] == [26, 6, 26]
    assert rows["iou-0.10"].f1 == pytest.approx(2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4))


def test_conventions_without_lesions_follow_the_policy():
    nothing, grid = np.zeros((3, 3, 3), bool), Grid((3, 3, 3), np.eye(4))
    assert [row.f1 for row in detection_by_conventions(nothing, nothing, grid)] == [1.0, 1.0, 1.0]
    assert all(math.isnan(row.f1) for row in detection_by_conventions(nothing, nothing, grid, "nan"))
    missed = detection_by_conventions(nothing, ~nothing, grid)
    assert [(row.sensitivity, row.precision, row.f1) for row in missed] == [(0.0, 0.0, 0.0)] * 3
