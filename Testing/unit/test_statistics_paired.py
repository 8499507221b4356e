"""Paired tests: against their definitions, scipy, R and worked examples."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from XTLLib.errors import InputError
from XTLLib.metrics.effect import effect_size
from XTLLib.metrics.multiplicity import holm
from XTLLib.metrics.paired import paired_difference, sign_flip_p, unit_means, wilcoxon
from XTLLib.metrics.resampled import corrected_resampled_t

# Fisher 1935, The Design of Experiments: Darwin's 15 pairs of maize, cross- minus self-fertilised, eighths of an inch.
_DARWIN = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48], float)


def test_fisher_s_own_example():
    """863 of 32,768 sign flips give a sum of at least 314; twice that is Fisher's 5.267 %."""
    found = paired_difference(_DARWIN, np.zeros(15))
    assert found.p_value == pytest.approx(2 * 863 / 32768)
    assert found.exact and found.flips == 2**15 and found.smallest_p == 2 / 2**15
    assert found.difference == pytest.approx(314 / 15)
    assert found.low < 0 < found.high


def _p_by_definition(differences):
    observed = abs(sum(differences))
    flips = itertools.product((-1, 1), repeat=len(differences))
    sums = [abs(sum(s * d for s, d in zip(signs, differences))) for signs in flips]
    return sum(total >= observed - 1e-9 for total in sums) / len(sums)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=9))
def test_sign_flip_agrees_with_all_flips_written_out(differences):
    zeros = np.zeros(len(differences))
    assert sign_flip_p(differences, zeros) == pytest.approx(_p_by_definition(differences))
    assert sign_flip_p(zeros, differences) == sign_flip_p(differences, zeros)


def test_sign_flip_agrees_with_scipy():
    from scipy.stats import permutation_test

    d = np.random.default_rng(2).normal(0.4, 1, 11)
    theirs = permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p(d, np.zeros(11)) == pytest.approx(theirs.pvalue)


def test_the_interval_is_what_the_test_does_not_reject():
    d = np.random.default_rng(3).normal(1.0, 2.0, 10)
    found = paired_difference(d, np.zeros(10))
    for shift, rejected in (
        (found.low - 1e-6, True), (found.low + 1e-6, False), (found.high - 1e-6, False), (found.high + 1e-6, True),
    ):  # fmt: skip
        assert (_p_by_definition(d - shift) <= 0.05) == rejected
    assert found.low < found.difference < found.high
    swapped = paired_difference(np.zeros(10), d)
    assert (swapped.low, swapped.high) == pytest.approx((-found.high, -found.low))


def test_too_few_patients_can_show_nothing_and_say_so():
    found = paired_difference(np.full(5, 0.9), np.full(5, 0.1))
    assert found.p_value == found.smallest_p == 0.0625
    assert (found.low, found.high) == (-math.inf, math.inf)
    six = paired_difference(np.arange(6) + 10.0, np.zeros(6))
    assert six.p_value == 2 / 64 and (six.low, six.high) == (10.0, 15.0)


def test_many_units_are_sampled_close_to_the_normal_distribution_and_repeatably():
    from scipy.stats import ttest_1samp

    d = np.random.default_rng(5).normal(0.25, 1, 60)
    found = paired_difference(d, np.zeros(60), flips=20_000)
    theirs = ttest_1samp(d, 0)
    interval = theirs.confidence_interval()
    assert not found.exact
    assert found.p_value == pytest.approx(theirs.pvalue, abs=0.01)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=0.03)
    assert found == paired_difference(d, np.zeros(60), flips=20_000)
    assert found.p_value == sign_flip_p(d, np.zeros(60), flips=20_000)
    assert sign_flip_p(d + 100, np.zeros(60), flips=999) == 2 / 1000


def test_the_unit_is_the_patient():
    means, names = unit_means([1, 3, 10, 5, 5], ["b", "b", "a", "c", "c"])
    assert names == ["a", "b", "c"] and means == pytest.approx([10, 2, 5])
    with pytest.raises(InputError, match="2 values of 3 units"):
        unit_means([1, 2], ["a", "b", "c"])


def test_wilcoxon_agrees_with_scipy_and_with_flips_of_ranks():
    from scipy.stats import rankdata

    # Ranks of the two negative differences 48 and 67: 10 and 14 of 15.
    found = wilcoxon(_DARWIN, np.zeros(15))
    assert (found.statistic, found.nonzero) == (24.0, 15)
    signed = np.sign(_DARWIN) * rankdata(np.abs(_DARWIN))
    assert found.p_value == pytest.approx(sign_flip_p(signed, np.zeros(15)))
    with_zeros = wilcoxon(np.r_[_DARWIN, 0, 0], np.zeros(17))
    assert (with_zeros.units, with_zeros.nonzero) == (17, 15)
    assert with_zeros.p_value == pytest.approx(found.p_value)
    assert wilcoxon([1, 2], [1, 2]).p_value == 1.0


@pytest.mark.parametrize("bad", [([1, 2], [1]), ([], []), ([1, np.nan], [1, 2])])
def test_bad_pairs_are_refused(bad):
    for test in (paired_difference, sign_flip_p, wilcoxon, effect_size):
        with pytest.raises(InputError):
            test(*bad)


def _holm_by_closure(p):
    """Holm's procedure is the closed test of Bonferroni tests of all intersections."""
    every = [set(s) for size in range(1, len(p) + 1) for s in itertools.combinations(range(len(p)), size)]
    return [max(min(1.0, len(s) * min(p[j] for j in s)) for s in every if i in s) for i in range(len(p))]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_agrees_with_the_closed_test(p):
    assert holm(p) == pytest.approx(_holm_by_closure(p))


def test_holm_by_hand():
    # Sorted .005 x 4, .01 x 3, .03 x 2, .04 x 1 with running maximum: .02, .03, .06, .06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]).size == 0
    with pytest.raises(InputError, match="NaN"):
        holm([0.1, np.nan])


def test_corrected_resampled_t_by_hand_and_towards_the_plain_t_test():
    from scipy.stats import ttest_1samp

    # Mean 2, variance 1, J = 3, ratio 1/4: t = 2 / sqrt(1/3 + 1/4)
    found = corrected_resampled_t([1, 2, 3], 0.25)
    assert found.t == pytest.approx(2 / math.sqrt(7 / 12))
    d = np.random.default_rng(0).normal(0.3, 1, 12)
    plain = corrected_resampled_t(d, 1e-12)
    theirs = ttest_1samp(d, 0)
    assert (plain.t, plain.p_value) == pytest.approx((theirs.statistic, theirs.pvalue))
    assert (plain.low, plain.high) == pytest.approx(tuple(theirs.confidence_interval()))
    assert corrected_resampled_t([0, 0, 0], 0.25).p_value == 1.0
    for bad in (([1.0], 0.25), ([1, 2], 0.0), ([1, np.nan], 0.25)):
        with pytest.raises(InputError):
            corrected_resampled_t(*bad)


@pytest.mark.parametrize("a", [_DARWIN, _DARWIN[:3], _DARWIN + 500, np.r_[_DARWIN, -_DARWIN, _DARWIN] + 5])
def test_effect_size_and_the_definition_of_its_interval(a):
    from scipy.stats import nct

    n = a.size
    found = effect_size(a, np.zeros(n))
    assert found.d == pytest.approx(a.mean() / a.std(ddof=1))
    t = found.d * math.sqrt(n)
    assert nct.sf(t, n - 1, found.low * math.sqrt(n)) == pytest.approx(0.025, abs=1e-6)
    assert nct.cdf(t, n - 1, found.high * math.sqrt(n)) == pytest.approx(0.025, abs=1e-6)
    assert found.share_better == pytest.approx((a > 0).mean())
    swapped = effect_size(np.zeros(n), a)
    assert (swapped.d, swapped.low, swapped.high) == pytest.approx((-found.d, -found.high, -found.low))


def test_effect_size_without_spread():
    same = effect_size([1, 2, 3], [1, 2, 3])
    assert same.d == 0.0 and math.isnan(same.low) and same.share_better == 0.5
    assert effect_size([2, 3, 4], [1, 2, 3]).d == math.inf
