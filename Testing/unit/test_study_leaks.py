"""On shuffled labels the whole pipeline finds nothing: its AUC is 0.5. Pipelines that leak do not pass.

Labels are shuffled by patient: patients with equally many findings exchange all their labels. So the findings of a
patient stay as alike in their labels as they are in their images, and a pipeline that parts a patient is found out.

The interval is that of the mean over several shuffles. The interval of one shuffle by the patient bootstrap would be
too narrow for this: it takes the fitted classifiers as given, while each shuffle fits others, and the AUC varies from
shuffle to shuffle by up to half more than from draw to draw of patients.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from XTLLib.data.datalist import Datalist, Entry
from XTLLib.data.patches import load_patch
from XTLLib.metrics.roc import auc
from XTLLib.study import radiomics
from XTLLib.study.baselines import baseline_patches
from XTLLib.study.evaluate import evaluate_baseline, evaluate_classification
from XTLLib.transfer.chain import chain_from_dict

CHANNELS = ("T2W", "ADC", "HBV", "KTRANS")
FOLDS = 3
SHUFFLES = 8
BASELINES = ("radiomics-lr", "svm")
Pipeline = Callable[[Datalist], list[dict[str, float]]]


def write_patients(folder: Path, patients: int = 40, contrast: float = 0.2) -> Datalist:
    """Findings of patients who each have a texture of their own; significant ones are darker on ADC.

    Three of four patients have findings of one class only, two or three of them.
    """
    rng = np.random.default_rng(0)
    patches, entries = [], []
    path = str(folder / "patches.npz")
    for number in range(patients):
        texture = rng.uniform(0.3, 0.8, (4, 32, 32))
        usual = int(rng.random() < 0.35)
        for index in range(2 + number % 2):
            label = int(rng.random() < 0.5) if number % 4 == 0 else usual
            patch = 0.8 * texture + 0.2 * rng.uniform(0, 1, texture.shape)
            patch[1, 12:20, 12:20] -= contrast * label
            entry = Entry(f"p{number}", f"p{number}-{index}", dict.fromkeys(CHANNELS, path), label, row=len(patches))
            entries.append(entry)
            patches.append(patch.astype(np.float32))
    np.savez(path, patches=np.array(patches), channels=np.array(["T2", "ADC", "BVAL", "KTRANS"]))
    labels = {"0": "no", "1": "yes"}
    return Datalist("patients", "prostatex-patches", "classification", CHANNELS, "T2W", labels, training=tuple(entries))


def with_shuffled_labels(datalist: Datalist, seed: int) -> Datalist:
    """Patients with equally many findings exchange their labels."""
    rng = np.random.default_rng(seed)
    labels: dict[str, list[int]] = {}
    for entry in datalist.entries:
        labels.setdefault(entry.patient, []).append(entry.label)
    given: dict[str, list[int]] = {}
    for size in {len(own) for own in labels.values()}:
        names = [name for name, own in labels.items() if len(own) == size]
        given |= {name: list(labels[names[other]]) for name, other in zip(names, rng.permutation(len(names)))}
    relabelled = tuple(replace(entry, label=given[entry.patient].pop(0)) for entry in datalist.entries)
    return replace(datalist, training=relabelled, validation=(), test=())


def out_of_fold_auc(datalist: Datalist, rate: Pipeline, folds: int = FOLDS) -> float:
    """Folds, fit, scores of every held-out finding, AUC."""
    values = [value for fold in datalist.folds(folds) for value in rate(fold)]
    assert len(values) == len(datalist.entries)
    return auc(*(np.array([value[name] for value in values]) for name in ("score", "truth")))


def mean_auc(
    datalist: Datalist,
    rate: Pipeline,
    change: Callable[[Datalist], Datalist] = lambda shuffled: shuffled,
    shuffles: int = SHUFFLES,
    folds: int = FOLDS,
) -> tuple[float, float]:
    """The 99 % interval (Student) of the mean AUC over shuffles, each ``change``d before it is divided into folds."""
    from scipy.stats import t

    values = [out_of_fold_auc(change(with_shuffled_labels(datalist, seed)), rate, folds) for seed in range(shuffles)]
    reach = t.ppf(0.995, shuffles - 1) * np.std(values, ddof=1) / np.sqrt(shuffles)
    return float(np.mean(values) - reach), float(np.mean(values) + reach)


def finds_nothing(interval: tuple[float, float]) -> bool:
    return interval[0] <= 0.5 <= interval[1]


def baseline(name: str) -> Pipeline:
    return lambda fold: evaluate_baseline(name, fold, 0)


def without_patients(datalist: Datalist) -> Datalist:
    """Each finding as if it were a patient of its own."""
    return replace(datalist, training=tuple(replace(entry, patient=entry.case) for entry in datalist.entries))


def with_features_chosen_by_all_labels(fold: Datalist) -> list[dict[str, float]]:
    """The regression on the 20 features and pixels that go best with all labels, those of the test part included."""
    spec = baseline_patches("radiomics-lr", fold)
    patches = np.stack([load_patch(entry, fold, spec) for entry in fold.entries])
    features = np.concatenate([radiomics.patch_features(patches), patches.reshape(len(patches), -1)], axis=1)
    truth = np.array([entry.label for entry in fold.entries])
    standard = (features - features.mean(0)) / (features.std(0) + 1e-12)
    features = features[:, np.argsort(-np.abs(standard.T @ (truth - truth.mean())))[:20]]
    known = len(fold.training)
    patients = [entry.patient for entry in fold.training]
    model = radiomics.fit_radiomics(features[:known], truth[:known], patients, 0)
    scores = model.decision_function(features[known:])
    return [{"truth": float(label), "score": float(score)} for label, score in zip(truth[known:], scores)]


@pytest.fixture(scope="module", autouse=True)
def features_are_computed_once():
    """Shuffles share their images: the features of an image are kept. scikit-learn need not check every argument."""
    from sklearn import config_context

    plain = radiomics.image_features

    @functools.cache
    def kept(content: bytes, shape: tuple[int, int]) -> np.ndarray:
        return plain(np.frombuffer(content, dtype=np.float32).reshape(shape))

    checks = config_context(assume_finite=True, skip_parameter_validation=True)
    with checks, pytest.MonkeyPatch.context() as patch:
        patch.setattr(radiomics, "image_features", lambda image: kept(image.tobytes(), image.shape))
        yield


@pytest.fixture(scope="module")
def datalist(tmp_path_factory) -> Datalist:
    return write_patients(tmp_path_factory.mktemp("patients"))


def test_shuffling_keeps_findings_patients_and_how_alike_their_labels_are(datalist):
    shuffled = with_shuffled_labels(datalist, 0)
    assert [entry.case for entry in shuffled.entries] == [entry.case for entry in datalist.entries]

    def blocks(of: Datalist) -> list[tuple[int, ...]]:
        own: dict[str, list[int]] = {}
        for entry in of.entries:
            own.setdefault(entry.patient, []).append(entry.label)
        return [tuple(labels) for labels in own.values()]

    assert blocks(shuffled) != blocks(datalist) and sorted(blocks(shuffled)) == sorted(blocks(datalist))


@pytest.mark.parametrize("name", BASELINES)
def test_the_sign_that_is_there_is_found(datalist, name):
    assert out_of_fold_auc(datalist, baseline(name)) > 0.7


@pytest.mark.parametrize("name", BASELINES)
def test_nothing_is_found_on_shuffled_labels(datalist, name):
    assert finds_nothing(mean_auc(datalist, baseline(name)))


def test_folds_that_part_patients_do_not_pass(datalist):
    found = mean_auc(datalist, baseline("svm"), without_patients, shuffles=5)
    assert found[0] > 0.5 and not finds_nothing(found)


def test_features_chosen_with_the_held_out_labels_do_not_pass(datalist):
    found = mean_auc(datalist, with_features_chosen_by_all_labels, shuffles=5)
    assert found[0] > 0.5 and not finds_nothing(found)


@pytest.mark.long
def test_a_network_finds_what_is_there_and_nothing_on_shuffled_labels(tmp_path):
    """Whole chains: their folds, training, bundle and inference."""
    datalist = write_patients(tmp_path, contrast=0.4)
    datalist.save(tmp_path / "patients.json")
    stages = [
        {"kind": "initialisation", "weights": "random"},
        {
            "kind": "target",
            "task": "classification",
            "datalist": str(tmp_path / "patients.json"),
            "channels": ["T2W", "ADC", "HBV"],
            "training": {"epochs": 6, "batch_size": 16, "validation": 0},
        },
    ]
    chain = chain_from_dict({"name": "scratch", "seed": 0, "backbone": "squeezenet1_0", "stages": stages})
    number = count()

    def rate(fold: Datalist) -> list[dict[str, float]]:
        from XTLLib.training.run import run_chain

        run = run_chain(chain, tmp_path / f"run-{next(number)}", device="cpu", target_datalist=fold)
        return evaluate_classification(run.bundle, fold, "cpu")

    assert out_of_fold_auc(datalist, rate, folds=2) > 0.7
    assert finds_nothing(mean_auc(datalist, rate, shuffles=6, folds=2))


@pytest.mark.real
@pytest.mark.long
@pytest.mark.parametrize("name", BASELINES)
def test_nothing_is_found_on_shuffled_labels_of_the_real_patches(real_data, name):
    from XTLLib.data.layouts.prostatex_patches_layout import read

    real = read(real_data / "prostate" / "prostatex_patches")
    assert finds_nothing(mean_auc(real, baseline(name), shuffles=12, folds=5))
