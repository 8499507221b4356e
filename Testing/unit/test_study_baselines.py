"""Learned baselines: how they choose, what they see of an image, and that the held-out part is not looked at."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from toys import write_toy_patches, write_toy_volumes
from XTLLib.data.case import Finding
from XTLLib.data.datalist import Datalist, Entry
from XTLLib.data.geometry import Grid
from XTLLib.data.images import write_volume
from XTLLib.data.patches import load_patch
from XTLLib.data.volume import Volume
from XTLLib.errors import InputError
from XTLLib.metrics.roc import auc_interval
from XTLLib.study.baselines import adc_contrast, baseline_patches
from XTLLib.study.evaluate import evaluate_baseline, held_out_patches
from XTLLib.study.inner_folds import inner_folds
from XTLLib.study.radiomics import fit_radiomics
from XTLLib.study.svm_baseline import fit_svm, neighbourhoods

LEARNED = ("radiomics-lr", "svm")


@pytest.fixture(scope="module")
def fold(tmp_path_factory) -> Datalist:
    path = write_toy_patches(tmp_path_factory.mktemp("patches"), patients=24)
    return Datalist.load(path).folds(3, seed=0)[0]


def _scores(values: list[dict[str, float]]) -> np.ndarray:
    return np.array([value["score"] for value in values])


def _with_labels(entries: tuple[Entry, ...], labels) -> tuple[Entry, ...]:
    return tuple(replace(entry, label=int(label)) for entry, label in zip(entries, labels, strict=True))


# --- inner folds ----------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=2, max_size=40), st.integers(0, 3))
def test_inner_folds_part_no_patient_and_judge_every_finding_once(findings, seed):
    patients, truth = [f"p{number}" for number, _ in findings], np.array([label for _, label in findings])
    try:
        folds = inner_folds(truth, patients, seed)
    except InputError:
        # Two patients of each class that have no finding of the other one always suffice.
        labels = {p: {bool(t) for q, t in zip(patients, truth) if q == p} for p in patients}
        assert min(sum(found == {label} for found in labels.values()) for label in (False, True)) < 2
        return
    assert 2 <= len(folds) <= 5
    assert sorted(np.concatenate([judged for _, judged in folds])) == list(range(len(findings)))
    for fitted, judged in folds:
        assert sorted([*fitted, *judged]) == list(range(len(findings)))
        assert not {patients[row] for row in fitted} & {patients[row] for row in judged}
        assert len(set(truth[fitted])) == len(set(truth[judged])) == 2


def test_inner_folds_depend_on_the_seed_and_not_on_the_order():
    patients, truth = [f"p{number // 2}" for number in range(40)], np.arange(40) % 4 == 0

    def parts(order, seed):
        folds = inner_folds(truth[order], [patients[row] for row in order], seed)
        return [frozenset(patients[order[row]] for row in judged) for _, judged in folds]

    forwards = np.arange(40)
    assert parts(forwards, 1) == parts(forwards[::-1], 1) != parts(forwards, 2)


def test_too_few_patients_of_a_class_are_told():
    with pytest.raises(InputError, match="6 training findings of 3 patients, 1 of whom have a significant one"):
        inner_folds([0, 0, 0, 0, 1, 1], ["a", "a", "b", "b", "c", "c"], 0)


# --- the two classifiers --------------------------------------------------------------------------------


def _sample(seed: int = 0, count: int = 60):
    rng = np.random.default_rng(seed)
    truth = np.arange(count) % 3 == 0
    features = rng.standard_normal((count, 6)) * [1, 10, 100, 1, 1, 0] + np.outer(truth, [1, 5, 0, 0, 0, 0])
    return features, truth.astype(int), [f"p{number // 2}" for number in range(count)]


def _chosen_by_hand(make, grid, features, truth, patients, seed):
    """The scores of a scaler and a classifier whose settings were tried out one after the other."""
    means = []
    for settings_ in grid:
        values = []
        for fitted, judged in inner_folds(truth, patients, seed):
            scaler = StandardScaler().fit(features[fitted])
            model = make(settings_).fit(scaler.transform(features[fitted]), truth[fitted])
            values.append(roc_auc_score(truth[judged], model.decision_function(scaler.transform(features[judged]))))
        means.append(np.mean(values))
    scaler = StandardScaler().fit(features)
    best = make(grid[int(np.argmax(means))]).fit(scaler.transform(features), truth)
    return lambda rows: best.decision_function(scaler.transform(rows))


@pytest.mark.parametrize("seed", [0, 1])
def test_the_svm_is_scikit_learn_s_with_the_settings_of_the_best_inner_auc(seed):
    features, truth, patients = _sample(seed)
    grid = list(product([0.1, 1, 10, 100], [1e-4, 1e-3, 1e-2, 1e-1]))
    by_hand = _chosen_by_hand(lambda s: SVC(C=s[0], gamma=s[1]), grid, features, truth, patients, seed)
    unseen, unseen_truth, _ = _sample(seed + 10, 200)
    found = fit_svm(features, truth, patients, seed).decision_function(unseen)
    assert found == pytest.approx(by_hand(unseen))
    assert roc_auc_score(unseen_truth, found) > 0.6


@pytest.mark.parametrize("seed", [0, 1])
def test_the_regression_is_scikit_learn_s_with_the_penalty_of_the_best_inner_auc(seed):
    features, truth, patients = _sample(seed)
    grid = np.logspace(-4, 4, 10).tolist()
    by_hand = _chosen_by_hand(lambda c: LogisticRegression(C=c, max_iter=10_000), grid, features, truth, patients, seed)
    unseen, unseen_truth, _ = _sample(seed + 10, 200)
    found = fit_radiomics(features, truth, patients, seed).decision_function(unseen)
    assert found == pytest.approx(by_hand(unseen), rel=1e-5)
    assert roc_auc_score(unseen_truth, found) > 0.6


# --- what they see --------------------------------------------------------------------------------------


def test_a_neighbourhood_is_the_middle_25_samples_of_the_slice_and_the_zone():
    patches = np.arange(2 * 2 * 3 * 7 * 9, dtype=float).reshape(2, 2, 3, 7, 9)
    found = neighbourhoods(patches, ["TZ", ""])
    assert found.shape == (2, 2 * 25 + 4)
    assert np.array_equal(found[0, 25:50].reshape(5, 5), patches[0, 1, 1, 1:6, 2:7])
    assert found[:, 50:].tolist() == [[0, 1, 0, 0], [0, 0, 0, 0]]
    with pytest.raises(InputError, match="4 x 9"):
        neighbourhoods(np.zeros((1, 1, 1, 4, 9)), [""])
    with pytest.raises(InputError, match="not numbers"):
        neighbourhoods(np.full((1, 1, 1, 5, 5), np.nan), [""])


def test_a_neighbourhood_is_5_mm_wide_whatever_the_voxels(tmp_path):
    """Ramps towards the left: from sample to sample 1 mm, that is a share of the voxels of the volume's width."""
    images, spacings = {}, {"T2W": 0.5, "ADC": 2.0, "HBV": 0.8}
    for name, spacing in spacings.items():
        count = round(60 / spacing)
        affine = np.diag([-spacing, -spacing, 3.0, 1.0])
        affine[:3, 3] = [30, 30, -6]
        ramp = np.broadcast_to(np.arange(count, dtype=np.int16), (5, count, count))
        images[name] = str(tmp_path / f"{name}.nii")
        write_volume(Volume(ramp.copy(), Grid((5, count, count), affine)), images[name])
    finding = Finding("1", (3.0, -4.0, 0.3), "PZ")
    entry = Entry("p", "p-1", images, 1, finding)
    datalist = Datalist("ramps", "csv", "classification", tuple(images), "T2W", {}, training=(entry,))
    patch = load_patch(entry, datalist, baseline_patches("svm", datalist))
    found = neighbourhoods(patch[None], ["PZ"])[0]
    assert found[75:].tolist() == [1, 0, 0, 0]
    for number, spacing in enumerate(spacings.values()):
        square = found[25 * number : 25 * (number + 1)].reshape(5, 5)
        assert np.ptp(square, axis=0).max() < 1e-6
        # The finding lies 27 mm to the left of the first voxel's centre.
        assert square[0] == pytest.approx((27 + np.arange(-2, 3) + spacing) / 60, abs=0.26 * spacing / 60)


# --- on a fold ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LEARNED)
def test_a_baseline_learns_what_is_there(fold, name):
    values = evaluate_baseline(name, fold, 0)
    assert [value["truth"] for value in values] == [entry.label for entry in fold.test]
    assert roc_auc_score([value["truth"] for value in values], _scores(values)) == 1.0


@pytest.mark.parametrize("name", LEARNED)
def test_the_held_out_part_is_not_looked_at(fold, name):
    scores = _scores(evaluate_baseline(name, fold, 0))
    inverted = replace(fold, test=_with_labels(fold.test, [1 - entry.label for entry in fold.test]))
    assert np.array_equal(_scores(evaluate_baseline(name, inverted, 0)), scores)
    assert _scores(evaluate_baseline(name, replace(fold, test=fold.test[2:4]), 0)) == pytest.approx(scores[2:4])
    taught_wrong = replace(fold, training=_with_labels(fold.training, [1 - entry.label for entry in fold.training]))
    assert roc_auc_score([entry.label for entry in fold.test], _scores(evaluate_baseline(name, taught_wrong, 0))) == 0


@pytest.mark.parametrize("name", LEARNED)
def test_the_order_of_the_findings_does_not_matter(fold, name):
    turned = replace(fold, training=fold.training[::-1])
    assert _scores(evaluate_baseline(name, turned, 0)) == pytest.approx(
        _scores(evaluate_baseline(name, fold, 0)), rel=1e-3
    )


def test_validation_patients_are_learned_from_too(fold):
    held = fold.hold_out(0.4)
    assert held.validation and _scores(evaluate_baseline("svm", held, 0)) == pytest.approx(
        _scores(evaluate_baseline("svm", fold, 0))
    )


def test_the_adc_contrast_of_the_fold(fold):
    spec = baseline_patches("adc-contrast", fold)
    assert spec.channels == ("ADC",) and spec.size_mm["ADC"][0] == 64
    expected = adc_contrast(held_out_patches(fold, spec), spec)
    assert np.array_equal(_scores(evaluate_baseline("adc-contrast", fold)), expected)


def test_the_flair_threshold_of_the_fold(tmp_path):
    fold = Datalist.load(write_toy_volumes(tmp_path, training=3, validation=1)).folds(2)[0]
    values = evaluate_baseline("flair-threshold", fold)
    # Lesions are 6 SD brighter than the rest: one threshold finds all but a few voxels.
    assert len(values) == len(fold.test) == 2 and min(value["dice"] for value in values) > 0.9
    assert all(value["ltpr"] == 1 for value in values)


def test_a_baseline_takes_the_channels_that_are_there(fold):
    images = {"ADC": fold.training[0].images["ADC"]}
    parts = {
        part: tuple(replace(entry, images=images) for entry in getattr(fold, part)) for part in ("training", "test")
    }
    adc = replace(fold, channels=("ADC",), reference="ADC", **parts)
    assert baseline_patches("svm", adc).channels == baseline_patches("radiomics-lr", adc).channels == ("ADC",)
    assert len(evaluate_baseline("svm", adc, 0)) == len(fold.test)


def _ktrans_only(fold):
    parts = {
        part: tuple(replace(entry, images={"KTRANS": entry.images["KTRANS"]}) for entry in getattr(fold, part))
        for part in ("training", "test")
    }
    return replace(fold, channels=("KTRANS",), reference="KTRANS", **parts)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("flair-threshold", lambda fold: fold, "does not serve classification. Use one of: radiomics-lr, svm"),
        ("forest", lambda fold: fold, "baseline forest on the datalist toy patches"),
        ("svm", lambda fold: replace(fold, test=()), "lacks a training or a test part"),
        ("svm", lambda fold: replace(fold, training=_with_labels(fold.training, [0] * 16)), "0 of whom"),
        ("radiomics-lr", lambda fold: replace(fold, training=_with_labels(fold.training, [1] * 16)), "16 of whom"),
        ("radiomics-lr", _ktrans_only, "needs T2W or ADC or HBV"),
        ("adc-contrast", _ktrans_only, "needs ADC"),
        (
            "svm",
            lambda fold: replace(fold, test=(replace(fold.test[0], label=None), *fold.test[1:])),
            "1 cases without a label",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_told_with_baseline_and_datalist(fold, name, change, message):
    with pytest.raises(InputError, match=message) as caught:
        evaluate_baseline(name, change(fold), 0)
    assert f"the baseline {name} on the datalist toy patches" in str(caught.value)


@pytest.mark.real
@pytest.mark.parametrize("name", LEARNED)
def test_on_the_real_patches_each_gives_an_auc_with_its_interval(real_data, name):
    """Signs of cancer are in the patches (published audits: 0.61 to 0.72); leaks would give more than 0.8."""
    from XTLLib.data.layouts.prostatex_patches_layout import read

    datalist = read(real_data / "prostate" / "prostatex_patches")
    rows = [
        (value["score"], value["truth"], entry.patient)
        for fold in datalist.folds(5)
        for value, entry in zip(evaluate_baseline(name, fold, 0), fold.test, strict=True)
    ]
    scores, truth, patients = zip(*rows)
    found = auc_interval(np.array(scores), np.array(truth), patients)
    assert (found.patients, found.positives, found.negatives) == (162, 59, 205)
    assert 0.5 < found.low < found.auc < found.high and found.auc < 0.8
