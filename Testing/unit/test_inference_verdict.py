"""What is said of a finding: calibrated, with interval, class, predictive values and warnings."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from XTLLib.bundle.calibration import Calibration
from XTLLib.bundle.load import Bundle
from XTLLib.data.case import Case, Finding
from XTLLib.data.geometry import Grid
from XTLLib.data.patches import PatchSource, PatchSpec
from XTLLib.data.volume import Volume
from XTLLib.errors import InputError
from XTLLib.inference.classify import classify_case, rate_patches
from XTLLib.inference.patch_sources import PatchSources
from XTLLib.inference.patch_views import MOST_VIEWS, patch_views
from XTLLib.inference.verdict import Rating, learned_on_prostatex, rate_findings, rating_notes
from XTLLib.metrics.operating_points import OperatingPoint
from XTLLib.metrics.recalibration import Isotonic, Temperature
from XTLLib.networks.spec import NetworkSpec

PATCHES = PatchSpec(("T2W", "ADC"), (4, 8, 8), {"T2W": (16.0, 16.0, 8.0), "ADC": (16.0, 16.0, 8.0)}, "robust", "T2W")
HALF = (0.25, 0.75)
PROSTATEX = {"stages": [{"kind": "initialisation", "datalist": None}, {"datalist": {"layout": "prostatex-patches"}}]}


class _Linear(nn.Module):
    """The logit: a weight for each sample, and one for the zone's number."""

    def __init__(self, seed: int, zone_weight: float = 0.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(2, 4, 8, 8, generator=generator) / 20)
        self.zone_weight = zone_weight

    def forward(self, x, zones=None):
        logits = (x * self.weight).sum(dim=(1, 2, 3, 4))
        return (logits if zones is None else logits + self.zone_weight * zones)[:, None]


def point(rule="Youden", threshold=0.5, ppv=0.375, npv=0.875) -> OperatingPoint:
    return OperatingPoint(rule, threshold, 0.8, 0.7, ppv, npv, HALF, HALF, HALF, HALF, 0.95, 100)


def calibration(*points: OperatingPoint, temperature: float = 2.0) -> Calibration:
    return Calibration(
        "temperature", Temperature(temperature), points or (point(),), 200, 50, 120, "out-of-fold scores"
    )


def bundle(*networks, **changes) -> Bundle:
    spec = NetworkSpec("classification", "resnet18", 2, "inflate", patch_shape=(4, 8, 8))
    networks = networks or (_Linear(0),)
    values = {
        "path": Path("nowhere"), "name": "m", "description": "", "task": "classification", "spec": spec,
        "preparation": None, "patch_spec": PATCHES, "threshold": 0.5, "minimum_volume_mm3": 0.0,
        "weights_sha256": "", "provenance": {}, "metadata": {}, "_network": networks[0], "_further": networks[1:],
    }  # fmt: skip
    return Bundle(**{**values, **changes})


def case(*findings: Finding) -> Case:
    affine = np.diag([-1.0, -1.0, 2.0, 1.0])
    affine[:3, 3] = (20, 20, -10)
    grid = Grid((11, 41, 41), affine)
    rng = np.random.default_rng(0)
    channels = {
        name: Volume(rng.normal(100, 20, grid.shape).astype(np.float32), grid, name) for name in PATCHES.channels
    }
    return Case("SECRET", channels, "T2W", findings=findings or (Finding("1", (1.0, 2.0, 0.0), "PZ"),))


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def test_members_and_views_are_averaged_before_calibration_and_calibrated_each_for_the_interval():
    raw = np.array([[[0.9], [0.6]], [[0.3], [0.2]]])  # two members, two views, one finding
    (rated,) = rate_findings(
        (Finding("1", (0, 0, 0)),), [Rating(bundle(calibration=calibration()), raw, point())], [()]
    )
    assert rated.raw_probability == pytest.approx(0.5)
    assert rated.probability == pytest.approx(0.5)  # the logit of a half is 0 at every temperature
    # logit 0.9 = ln 9, halved is ln 3; logit 0.2 = -ln 4, halved is -ln 2
    assert rated.interval == pytest.approx((1 / 3, 0.75))
    assert rated.threshold == 0.5 and rated.is_significant is True  # from the threshold on
    assert (rated.ppv, rated.npv) == (0.375, 0.875)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8), st.booleans(), st.floats(0.1, 10))
def test_the_probability_lies_in_its_interval(values, is_isotonic, temperature):
    isotonic = Isotonic(np.array([0.2, 0.4, 0.9]), np.array([0.1, 0.6, 0.6]))
    fitted = (
        Calibration("isotonic", isotonic, (), 10, 5, 8, "") if is_isotonic else calibration(temperature=temperature)
    )
    rating = Rating(bundle(calibration=fitted), np.array(values)[:, None, None], None)
    (rated,) = rate_findings((Finding("1", (0, 0, 0)),), [rating], [()])
    low, high = rated.interval
    assert low - 1e-12 <= rated.probability <= high + 1e-12


def test_a_single_network_has_no_interval_and_an_uncalibrated_one_says_so():
    (rated,) = classify_case(case(), bundle(), device="cpu").findings
    assert rated.interval is None and rated.threshold is None and rated.is_significant is None
    assert rated.probability == rated.raw_probability and rated.ppv is None
    assert rated.warnings == ("not calibrated: ranks findings, and is no probability to rely on",)
    calibrated = bundle(calibration=calibration(point("Youden"), point("sensitivity 0.90", 0.125, npv=math.nan)))
    result = classify_case(case(), calibrated, device="cpu", operating_point="sensitivity 0.90")
    assert result.operating_point == "sensitivity 0.90" and result.findings[0].threshold == 0.125
    assert result.findings[0].npv is None and result.findings[0].warnings == ()
    logit = math.log(rated.probability / (1 - rated.probability))
    assert result.findings[0].probability == pytest.approx(sigmoid(logit / 2), abs=1e-6)
    assert result.notes[0] == (
        "In the data of calibration (200 findings of 120 patients, 25% of them significant) the operating point "
        "sensitivity 0.90 has sensitivity 0.80 (0.25 to 0.75), specificity 0.70 (0.25 to 0.75), PPV 0.38 (0.25 to "
        "0.75), with 95% intervals over patients; PPV and NPV hold for that share alone"
    )
    with pytest.raises(InputError, match=r"operating point 'best'. Choose one of Youden, sensitivity 0\.90"):
        classify_case(case(), calibrated, operating_point="best")


def test_an_ensemble_is_the_mean_of_its_members_and_says_so():
    networks = [_Linear(seed) for seed in range(3)]
    each = [classify_case(case(), bundle(net), device="cpu").findings[0].probability for net in networks]
    result = classify_case(case(), bundle(*networks), device="cpu")
    assert result.findings[0].probability == pytest.approx(np.mean(each), abs=1e-6)
    assert result.findings[0].interval == pytest.approx((min(each), max(each)), abs=1e-6)
    assert result.notes == ("A probability is the mean over 3 networks and 1 view",)


def test_of_several_bundles_the_calibrated_probabilities_are_averaged():
    one = bundle(_Linear(0), calibration=calibration(point(threshold=0.5)), name="a")
    other = bundle(_Linear(1), calibration=calibration(point(threshold=0.25), temperature=1.0), name="b")
    single = [classify_case(case(), model, device="cpu").findings[0].probability for model in (one, other)]
    result = classify_case(case(), [one, other], device="cpu")
    (rated,) = result.findings
    assert rated.probability == pytest.approx(np.mean(single)) and rated.threshold == 0.375
    assert rated.interval == pytest.approx((min(single), max(single))) and rated.ppv is None
    assert result.bundle_name == "ensemble of a, b" and "no PPV and NPV" in result.notes[-1]
    mixed = classify_case(case(), [one, bundle()], device="cpu")
    assert mixed.operating_point == "" and mixed.findings[0].threshold is None
    with pytest.raises(InputError, match="no bundle"):
        classify_case(case(), [])


def test_the_zone_reaches_a_network_that_takes_it():
    spec = replace(bundle().spec, zones=True)
    found = [Finding(zone or "none", (1.0, 2.0, 0.0), zone) for zone in ("", "PZ", "TZ", "AS", "SV")]
    model = bundle(_Linear(0, zone_weight=0.5), spec=spec)
    rated = classify_case(case(*found), model, device="cpu", views=2).findings
    logits = [math.log(one.interval[1] / (1 - one.interval[1])) for one in rated]
    np.testing.assert_allclose(np.diff(logits), 0.5, atol=1e-4)  # 0 unknown, 1 PZ, 2 TZ, 3 AS, 4 SV
    assert "zone unknown, which the model asks for" in rated[0].warnings
    assert not any("zone" in warning for one in rated[1:] for warning in one.warnings)
    patches = np.zeros((2, 2, 4, 8, 8), np.float32)
    np.testing.assert_allclose(
        rate_patches(model, patches, zones=np.array([0, 2]), device="cpu"), [0.5, sigmoid(1.0)], atol=1e-6
    )


def test_low_probabilities_of_models_of_prostatex_are_told_what_they_rest_on():
    def warnings(probability, **changes):
        rating = Rating(
            bundle(calibration=calibration(temperature=1.0), **changes), np.full((1, 1, 1), probability), None
        )
        return rate_findings((Finding("1", (0, 0, 0)),), [rating], [("without HBV",)])[0].warnings

    said = "PI-RADS 2-like: such findings were never biopsied in the training data"
    assert warnings(0.09, provenance=PROSTATEX) == ("without HBV", said)
    assert warnings(0.11, provenance=PROSTATEX) == ("without HBV",)
    assert warnings(0.09) == ("without HBV",)
    assert not learned_on_prostatex({"stages": [{"datalist": {"layout": "picai"}}]})
    for odd in ({}, {"stages": 3}, {"stages": ["x", {"datalist": []}, {"datalist": {"layout": 7}}]}):
        assert not learned_on_prostatex(odd)


def test_what_lies_outside_or_is_missing_is_said_at_its_finding_once():
    spec = replace(PATCHES, missing="neutral")
    near, inside = Finding("edge: left", (-18.0, 2.0, 0.0)), Finding("2", (1.0, 2.0, 0.0))
    whole = case(near, inside)
    lacking = replace(whole, channels={"T2W": whole.channels["T2W"]})
    first, second = classify_case(lacking, bundle(patch_spec=spec), device="cpu", views=4).findings
    # of 16 sampling points along x, 1 mm apart, the five at 3.5 to 7.5 mm lie beyond the border at 2.5 mm
    assert first.warnings[0] == "31 % of its patch lie outside the T2W image"
    assert first.warnings[1] == second.warnings[0] == "without ADC"
    assert not any("SECRET" in warning for one in (first, second) for warning in one.warnings)


def test_views_are_fixed_motions_around_the_finding():
    assert patch_views(1) == (None,)
    found, source = Finding("1", (1.0, 2.0, 0.0)), PatchSource(case(), PATCHES)
    views = patch_views(MOST_VIEWS)
    assert len(views) == MOST_VIEWS and [view is None for view in views] == [True] + [False] * (MOST_VIEWS - 1)
    plain, mirrored = source.patch(found), source.patch(found, views[1])
    np.testing.assert_allclose(mirrored, plain[..., ::-1], atol=1e-5)
    for view in views[1:]:
        np.testing.assert_allclose(view.sources(np.zeros(3)), np.zeros(3))
    turned = views[2].sources(np.array([1.0, 0.0, 0.0])), views[3].sources(np.array([1.0, 0.0, 0.0]))
    np.testing.assert_allclose([abs(math.degrees(math.atan2(p[1], p[0]))) for p in turned], [10, 10])
    assert turned[0][1] == pytest.approx(-turned[1][1])
    for count in (0, MOST_VIEWS + 1):
        with pytest.raises(InputError, match="views of each finding"):
            patch_views(count)


def test_test_time_augmentation_is_the_mean_over_the_views():
    model, found = bundle(), case().findings
    source = PatchSource(case(), PATCHES)
    patches = np.stack([source.patch(found[0], view) for view in patch_views(4)])
    each = rate_patches(model, patches, device="cpu")
    result = classify_case(case(), model, device="cpu", views=4)
    assert result.findings[0].raw_probability == pytest.approx(each.mean(), abs=1e-6)
    assert result.findings[0].interval == pytest.approx((each.min(), each.max()), abs=1e-6)
    assert result.notes == ("A probability is the mean over 1 network and 4 views",)


def test_a_calibration_of_single_networks_is_not_passed_off_as_the_ensembles():
    rating = Rating(bundle(calibration=calibration()), np.full((5, 1, 1), 0.5), point())
    assert "m: calibrated on out-of-fold scores, and not on this mean" in rating_notes([rating])


def test_prepared_cases_are_kept_while_their_volumes_stay():
    sources, first = PatchSources(), case()
    kept = sources.source(first, PATCHES)
    assert sources.source(replace(first, findings=()), PATCHES) is kept
    assert sources.source(first, replace(PATCHES, intensity="rank")) is not kept
    assert sources.source(first, PATCHES) is kept
    changed = replace(first, channels={**first.channels, "ADC": case().channels["ADC"]})
    assert sources.source(changed, PATCHES) is not kept
