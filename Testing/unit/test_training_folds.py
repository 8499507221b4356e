"""A target stage on folds: nobody is rated by a network that saw them, the bundle, its calibration, and resume."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import write_toy_patches
from XTLLib.bundle.load import load_bundle
from XTLLib.bundle.verify import verify_bundle
from XTLLib.data.datalist import Datalist
from XTLLib.data.patches import load_patch
from XTLLib.data.stored_patches import load_stored_patch
from XTLLib.errors import Cancelled, InputError
from XTLLib.metrics.roc import auc
from XTLLib.progress import Progress
from XTLLib.training import patches as patches_module
from XTLLib.training.folds import (
    OutOfFoldScore,
    calibrated_threshold,
    calibration_of_folds,
    fold_datalists,
    read_scores,
    write_scores,
)
from XTLLib.training.plan import plan_chain
from XTLLib.training.run import run_chain
from XTLLib.transfer.chain import Chain, chain_from_dict


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tensors this small are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def datalist(tmp_path_factory) -> Datalist:
    """Two findings of each of nine patients; zones alternate."""
    path = write_toy_patches(tmp_path_factory.mktemp("toys"), 18)
    made = Datalist.load(path)
    entries = [
        replace(entry, patient=f"q{n // 2}", attributes={"zone": ("PZ", "TZ", "")[n % 3]})
        for n, entry in enumerate(made.training)
    ]
    return replace(made, training=entries)


def chain(**changes) -> Chain:
    target = {
        "kind": "target",
        "task": "classification",
        "datalist": "replaced.json",
        "channels": ["T2W", "ADC"],
        "folds": 3,
        "training": {"epochs": 2, "batch_size": 6, "validation": 0},
        **changes,
    }
    stages = [{"kind": "initialisation", "weights": "random"}, target]
    return chain_from_dict({"name": "toy", "seed": 1, "backbone": "squeezenet1_0", "stages": stages})


@pytest.fixture(scope="module")
def run(datalist, tmp_path_factory):
    """The whole run, the patients whose patches were read while each fold was trained, and those it was scored on."""
    out = tmp_path_factory.mktemp("run") / "out"
    read: list[tuple[str, str]] = []
    stage = [""]

    def noted(entry, *arguments):
        read.append((stage[0], entry.patient))
        return load_patch(entry, *arguments)

    def follow(event) -> None:
        stage[0] = event.stage

    patch = pytest.MonkeyPatch()
    patch.setattr(patches_module, "load_patch", noted)
    result = run_chain(chain(), out, target_datalist=datalist, progress=Progress(follow))
    patch.undo()
    return result, out, read


def test_every_patient_is_held_out_once_and_whole(datalist):
    folds = fold_datalists(datalist, 3, 7)
    held = [{entry.patient for entry in fold.test} for fold in folds]
    assert set().union(*held) == set(datalist.patients()) and sum(map(len, held)) == 9
    for fold, patients in zip(folds, held):
        assert {entry.patient for entry in fold.training} == set(datalist.patients()) - patients
        assert not fold.validation
    assert held == [{entry.patient for entry in fold.test} for fold in fold_datalists(datalist, 3, 7)]


def test_a_validation_part_stays_out_of_all_folds(datalist):
    split = replace(datalist, training=datalist.training[:12], validation=datalist.training[12:])
    for fold in fold_datalists(split, 3, 7):
        assert fold.validation == split.validation
        assert not {e.patient for e in split.validation} & {e.patient for e in fold.training + fold.test}


def test_networks_never_see_their_own_held_out_patients(run, datalist):
    _, out, read = run
    scores = read_scores(out / "out_of_fold.tsv")
    assert sorted(s.case for s in scores) == sorted(e.case for e in datalist.training)
    truth = {entry.case: (entry.patient, entry.label) for entry in datalist.training}
    assert all(truth[s.case] == (s.patient, s.truth) for s in scores)
    # In the order in which they were read: training of a fold, then what it held out.
    patients, seen = [patient for _, patient in read], []
    for fold in (1, 2, 3):
        held = {s.patient for s in scores if s.fold == fold}
        count = len(datalist.training)
        part, patients = patients[:count], patients[count:]
        trained, scored = part[: count - 2 * len(held)], part[count - 2 * len(held) :]
        assert set(scored) == held and not set(trained) & held
        seen.append(held)
    assert not patients and not seen[0] & seen[1] and not seen[1] & seen[2]


def test_the_scores_are_those_of_the_networks_in_the_bundle(run, datalist):
    result, out, _ = run
    bundle = load_bundle(result.bundle)
    scores, entries = read_scores(out / "out_of_fold.tsv"), {e.case: e for e in datalist.training}
    networks = bundle.networks()
    assert len(networks) == 3
    for score in scores:
        patch = load_stored_patch(entries[score.case], bundle.patch_spec).astype(np.float16).astype(np.float32)
        with torch.no_grad():
            logit = networks[score.fold - 1](torch.from_numpy(patch)[None])
        assert torch.sigmoid(logit).item() == pytest.approx(score.score, abs=1e-5)


def test_record_and_bundle_agree(run):
    result, out, _ = run
    bundle, record = load_bundle(result.bundle), result.stages[-1]
    assert verify_bundle(result.bundle).agrees
    scores = read_scores(out / "out_of_fold.tsv")
    figure = record.metrics["out-of-fold AUC"]
    assert figure.value == pytest.approx(auc(np.array([s.score for s in scores]), np.array([s.truth for s in scores])))
    assert figure.count == 9 and record.metrics["networks"] == 3 and record.datalist.training == 18
    calibration = bundle.calibration
    assert (calibration.method, calibration.findings, calibration.positives, calibration.patients) == (
        "temperature",
        18,
        9,
        9,
    )
    assert "3 networks" in calibration.source and bundle.threshold == record.metrics["threshold"]
    assert [point.rule for point in calibration.operating_points] == ["sensitivity 0.90", "sensitivity 0.95", "Youden"]
    text = "".join(path.read_text() for path in result.bundle.rglob("*.json"))
    assert "q3" not in text and not (result.bundle / "out_of_fold.tsv").exists()  # no patient leaves in a bundle
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["stages"][-1]["out-of-fold AUC"]["value"] == pytest.approx(figure.value)


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.suffix in (".pt", ".tsv") and "checkpoint" not in path.name and "events" not in path.parts
    }


@pytest.mark.parametrize("place", ["fold 1 of 3", "fold 2 of 3"])
def test_interrupted_and_resumed_equals_uninterrupted(run, datalist, tmp_path, place):
    whole, out, _ = run
    seen = []
    stop = Progress(seen.append, lambda: sum(place in event.stage for event in seen) >= 2)
    with pytest.raises(Cancelled):
        run_chain(chain(), tmp_path / "out", target_datalist=datalist, progress=stop)
    assert not (tmp_path / "out" / "bundle").exists() and not (tmp_path / "out" / "out_of_fold.tsv").exists()
    events = []
    resumed = run_chain(
        chain(), tmp_path / "out", target_datalist=datalist, resume=True, progress=Progress(events.append)
    )
    if "2" in place:
        assert not any("fold 1 of 3" in event.stage for event in events)
    assert content(tmp_path / "out").keys() == content(out).keys()
    assert all(value == content(out)[name] for name, value in content(tmp_path / "out").items())
    a, b = (json.loads((path / "configs" / "xtl.json").read_text()) for path in (whole.bundle, resumed.bundle))
    assert a == b


def test_a_finished_run_is_not_run_again_and_a_lost_bundle_is_written_anew(run, datalist, tmp_path):
    import shutil

    whole, out, _ = run
    copy = Path(shutil.copytree(out, tmp_path / "copy"))
    events = []
    again = run_chain(chain(), copy, target_datalist=datalist, resume=True, progress=Progress(events.append))
    assert again.record == whole.record
    shutil.rmtree(copy / "bundle")
    run_chain(chain(), copy, target_datalist=datalist, resume=True, progress=Progress(events.append))
    assert not any("training" in event.stage for event in events)
    first, second = (path / "models" / "member-3.pt" for path in (whole.bundle, copy / "bundle"))
    assert first.read_bytes() == second.read_bytes()


def test_a_known_miscalibration_is_recovered_from_out_of_fold_scores():
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 1.5, 3000)
    truth = rng.random(3000) < 1 / (1 + np.exp(-logits))
    scores = [
        OutOfFoldScore(f"p{n // 2}", f"c{n}", 1 + n // 2 % 4, int(t), float(1 / (1 + np.exp(-2.5 * x))))
        for n, (x, t) in enumerate(zip(logits, truth))
    ]
    temperature = calibration_of_folds(scores, "temperature")
    assert temperature.map.temperature == pytest.approx(2.5, rel=0.1)
    for calibration in (temperature, calibration_of_folds(scores, "isotonic")):
        error = calibration(np.array([s.score for s in scores])) - 1 / (1 + np.exp(-logits))
        assert np.abs(error).mean() < 0.04  # 0.11 before
        assert (calibration.findings, calibration.patients) == (3000, 1500)
    assert calibration_of_folds(scores, "none")(np.array([0.3])) == 0.3
    # A threshold of 0.9 stands for the logit log 9 of the scores, so for log 9 / 2.5 afterwards.
    expected = 1 / (1 + np.exp(-np.log(9) / temperature.map.temperature))
    assert calibrated_threshold(temperature, 0.9) == pytest.approx(expected)


def test_scores_are_read_as_they_were_written(tmp_path):
    scores = [OutOfFoldScore("p 1", "c-1", 1, 0, 0.1 + 0.2), OutOfFoldScore("päť", 'c"2', 2, 1, 1e-17)]
    write_scores(scores, tmp_path / "out_of_fold.tsv")
    assert read_scores(tmp_path / "out_of_fold.tsv") == scores
    assert (tmp_path / "out_of_fold.tsv").read_text().splitlines()[0] == "patient\tcase\tfold\ttruth\tscore"
    (tmp_path / "broken.tsv").write_text("patient\tcase\tfold\ttruth\tscore\np\tc\tone\t0\t0.5\n")
    with pytest.raises(InputError, match="no table of out-of-fold scores"):
        read_scores(tmp_path / "broken.tsv")


def test_a_validation_part_calibrates_one_network(datalist, tmp_path):
    split = replace(datalist, training=datalist.training[:10], validation=datalist.training[10:])
    one = chain(folds=None, calibration="isotonic", training={"epochs": 1, "batch_size": 6})
    bundle = load_bundle(run_chain(one, tmp_path / "a", target_datalist=split).bundle)
    assert bundle.calibration.method == "isotonic" and bundle.calibration.findings == 8
    assert "validation" in bundle.calibration.source and len(bundle.networks()) == 1
    none = chain(folds=None, training={"epochs": 1, "batch_size": 6, "validation": 0})
    assert load_bundle(run_chain(none, tmp_path / "b", target_datalist=datalist).bundle).calibration is None


def test_late_fusion_and_zones_go_through_a_whole_chain(datalist, tmp_path):
    asked = chain(
        folds=2, fusion="late", zones=True, dropout=0.4, training={"epochs": 1, "batch_size": 6, "peft": "ssf"}
    )
    bundle = load_bundle(run_chain(asked, tmp_path / "out", target_datalist=datalist).bundle)
    spec = bundle.spec
    assert (spec.fusion, spec.groups, spec.zones, spec.dropout) == ("late", ((0,), (1,)), True, 0.4)
    with torch.no_grad():
        assert bundle.network()(torch.rand(3, 2, 1, 32, 32), torch.tensor([0, 1, 4])).shape == (3, 1)


def test_the_plan_tells_of_the_folds(datalist):
    plan = plan_chain(chain(), [datalist], device="cpu").stages[0]
    assert any("3 networks" in note for note in plan.notes)
    assert plan.entries == (12, 0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"folds": 1}, "folds"),
        ({"folds": 21}, "folds"),
        ({"fusion": "late", "channels": ["ADC"]}, "only one channel"),
        ({"zones": True, "training": {"mixup": 0.4, "class_balance": "none"}}, "mixup"),
        ({"calibration": "platt"}, "calibration"),
    ],
)
def test_keys_that_do_not_fit_are_refused(changes, words):
    with pytest.raises(InputError, match=words):
        chain(**changes)


def test_what_the_data_do_not_allow_is_refused(datalist, tmp_path):
    with pytest.raises(InputError, match="all show the same extent"):
        run_chain(chain(fusion="late", channels=["ADC", "HBV"]), tmp_path / "a", target_datalist=datalist)
    with pytest.raises(InputError, match="10 folds were asked for with 9 patients"):
        run_chain(chain(folds=10), tmp_path / "b", target_datalist=datalist)
