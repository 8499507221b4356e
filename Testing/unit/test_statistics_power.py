"""Power statements against closed forms and against tests that are really carried out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from XTLLib.errors import InputError
from XTLLib.metrics.delong import delong_difference
from XTLLib.metrics.paired import sign_flip_p
from XTLLib.metrics.power import (
    detectable_auc_difference,
    detectable_difference,
    power_statement,
    smallest_p_value,
    units_needed,
)


def test_the_smallest_p_is_that_of_the_test_itself():
    for units in range(1, 11):
        assert smallest_p_value(units) == sign_flip_p(np.arange(1, units + 1), np.zeros(units))
    assert smallest_p_value(5) == 0.0625
    assert units_needed() == 6 and smallest_p_value(6) <= 0.05
    assert units_needed(0.0625) == 5 and units_needed(0.01) == 8


def test_the_detectable_difference_of_many_units_is_that_of_the_normal_formula():
    from scipy.stats import norm

    for units in (40, 100):
        formula = (norm.ppf(0.975) + norm.ppf(0.8)) * 0.1 / math.sqrt(units)
        assert detectable_difference(units, 0.1) == pytest.approx(formula, rel=0.08)


def test_the_detectable_difference_is_found_as_often_as_stated():
    difference = detectable_difference(8, 0.05)
    generator = np.random.default_rng(11)
    found = [sign_flip_p(generator.normal(difference, 0.05, 8), np.zeros(8)) <= 0.05 for _ in range(1500)]
    assert np.mean(found) == pytest.approx(0.80, abs=0.04)
    assert detectable_difference(8, 0.10) == pytest.approx(2 * difference)
    assert detectable_difference(5, 0.05) == math.inf
    assert detectable_difference(16, 0.05) < difference


def test_the_detectable_auc_difference_is_found_as_often_as_stated():
    from scipy.stats import norm

    gain = detectable_auc_difference(40, 80, auc=0.70, correlation=0.5)
    truth, generator, found = np.arange(120) < 40, np.random.default_rng(12), []
    for _ in range(500):
        common, own = generator.standard_normal(120), generator.standard_normal((2, 120))
        better, weaker = np.sqrt(0.5) * (common + own)
        better = better + math.sqrt(2) * norm.ppf(0.70 + gain) * truth
        weaker = weaker + math.sqrt(2) * norm.ppf(0.70) * truth
        found.append(delong_difference(better, weaker, truth).p_value <= 0.05)
    assert np.mean(found) == pytest.approx(0.80, abs=0.06)
    assert detectable_auc_difference(3, 3) == math.inf
    assert detectable_auc_difference(40, 80, 0.70, correlation=0.9) < gain


def test_the_statement_says_what_cannot_be_shown():
    assert "cannot fall below p = 0.0625" in power_statement(5) and "at least 6 patients" in power_statement(5)
    text = power_statement(21, sd=0.04, unit="scans")
    assert text.startswith("21 scans") and "80%" in text
    assert f"{detectable_difference(21, 0.04):.3g}" in text


def test_bad_plans_are_refused():
    for bad in (lambda: detectable_difference(0, 1), lambda: detectable_difference(5, 0), lambda: units_needed(0)):
        with pytest.raises(InputError):
            bad()
    with pytest.raises(InputError):
        detectable_auc_difference(1, 10)
