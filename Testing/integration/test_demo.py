"""``xtl demo``: a shrunk run of the whole thing, and the full one (long)."""

from __future__ import annotations

import zipfile
from dataclasses import replace

import numpy as np
import pytest
from XTLLib.bundle.load import load_bundle
from XTLLib.data.datalist import Datalist
from XTLLib.errors import Cancelled, InputError
from XTLLib.progress import Progress
from XTLLib.scene.demo import run_demo
from XTLLib.scene.session import new_scene
from XTLLib.study.demo_chains import ARMS, SMALL, TARGETS, write_chains
from XTLLib.transfer.chain import load_chain

slicer = pytest.importorskip("slicer")
pytest.importorskip("matplotlib")

BUNDLES = {f"{arm.lower()}-{target}" for arm in ARMS for target in TARGETS}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    import torch

    events, threads = [], torch.get_num_threads()
    torch.set_num_threads(1)  # steps this small gain nothing by a second one, and lose much on a busy machine
    try:
        result = run_demo(tmp_path_factory.mktemp("demo") / "out", Progress(events.append), size=SMALL)
    finally:
        torch.set_num_threads(threads)
    return result, events


def test_demo_leaves_scene_report_table_and_four_bundles(demo):
    result, _ = demo
    left = {path.name for path in result.out.iterdir()} - {".xtl-output"}
    assert left == {"scene.mrb", "report.png", "comparison.txt", "data", "chains", "runs", "bundles"}
    assert result.report.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert {path.name for path in (result.out / "bundles").iterdir()} == set(result.bundles) == BUNDLES
    for name, path in result.bundles.items():
        bundle = load_bundle(path)
        assert bundle.task == ("segmentation" if name.endswith("ms") else "classification")
    assert not list(result.out.rglob("checkpoint.pt"))


def test_the_arms_differ_in_the_mammogram_stage_only(demo):
    result, _ = demo
    provenance = {name: load_bundle(path).provenance["stages"] for name, path in result.bundles.items()}
    for target in TARGETS:
        tl, xtl = provenance[f"tl-{target}"], provenance[f"xtl-{target}"]
        assert [stage["kind"] for stage in tl] == ["initialisation", "target"]
        assert [stage["kind"] for stage in xtl] == ["initialisation", "intermediate", "target"]
        assert tl[0]["weights_out"] == xtl[0]["weights_out"]
        assert tl[-1]["configuration"] == xtl[-1]["configuration"]
        assert tl[-1]["datalist"] == xtl[-1]["datalist"]
        assert tl[-1]["weights_in"] != xtl[-1]["weights_in"]
    # the mammogram stage is trained once for both targets
    assert provenance["xtl-ms"][1]["weights_out"] == provenance["xtl-prostate"][1]["weights_out"]
    assert provenance["xtl-ms"][1]["seconds"] == provenance["xtl-prostate"][1]["seconds"]


def test_the_chains_are_files_that_a_user_can_run_again(demo):
    result, _ = demo
    for target in TARGETS:
        tl, xtl = (load_chain(result.out / "chains" / f"{arm}-{target}.yaml") for arm in ("tl", "xtl"))
        assert xtl.without_intermediate() == tl
        assert Datalist.load(xtl.target.datalist).test


def test_no_stage_learns_from_a_patient_it_is_tested_on(demo):
    result, _ = demo
    for name in ("brain", "prostate"):
        datalist = Datalist.load(result.out / "data" / name / "datalist.json")
        seen = {entry.patient for entry in datalist.training + datalist.validation}
        assert datalist.test and not seen & {entry.patient for entry in datalist.test}
    brains = Datalist.load(result.out / "data" / "brain" / "datalist.json")
    assert set(result.dice["XTL"]) == {entry.case for entry in brains.test}


def test_the_scene_opens_with_the_results_of_both_arms(demo, tmp_path):
    result, _ = demo
    with zipfile.ZipFile(result.scene) as archive:
        archive.extractall(tmp_path)
    (file,) = tmp_path.rglob("*.mrml")
    with new_scene() as scene:
        scene.SetURL(str(file))
        assert scene.Import()
        names = {node.GetName() for node in (scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes()))}
        expected = {"FLAIR", "T1", "T2", "T2W", "ADC", "HBV", "reference mask", "Comparison of TL and XTL"}
        for arm in ARMS:
            expected |= {f"{arm} FLAIR MS lesions", f"{arm} FLAIR MS lesion table", f"{arm} T2W findings"}
            expected |= {f"{arm} {target} training log" for target in TARGETS}
        assert expected <= names
        table = scene.GetFirstNodeByName("Comparison of TL and XTL")
        assert [table.GetColumnName(n) for n in range(3)] == ["figure", "tl", "xtl"]
        shown = [
            scene.GetFirstNodeByName(f"{arm} FLAIR MS lesions").GetDisplayNode().GetVisibility()
            for arm in ("TL", "XTL")
        ]
        assert shown == [0, 1]


def test_the_table_says_what_phantoms_prove_and_where_the_weights_came_from(demo):
    result, _ = demo
    text = result.table_text
    assert "nothing medical" in text
    assert "random" in text and "from scratch" in text
    for arm in ARMS:
        for value in result.dice[arm].values():
            assert f"{value:.3f}" in text
        assert f"{result.auc[arm]:.3f}" in text
    assert (result.out / "comparison.txt").read_text(encoding="utf-8").strip() == text.strip()


def test_progress_goes_from_0_to_1(demo):
    _, events = demo
    fractions = np.array([event.fraction for event in events])
    assert fractions[-1] == 1
    assert (np.diff(fractions) > -1e-6).all()


def test_a_cancelled_demo_leaves_nothing(tmp_path):
    seen = []
    progress = Progress(seen.append, is_cancelled=lambda: len(seen) > 5)
    with pytest.raises(Cancelled):
        run_demo(tmp_path / "out", progress, size=replace(SMALL, segmentation_steps=1))
    assert list(tmp_path.iterdir()) == []


def test_weights_that_do_not_exist_are_told_before_anything_is_made(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.pth"):
        run_demo(tmp_path / "out", weights=tmp_path / "nowhere.pth", size=SMALL)
    assert list(tmp_path.iterdir()) == []


def test_given_weights_stand_in_every_chain(tmp_path):
    weights = tmp_path / "imagenet.pth"
    for path in write_chains(tmp_path / "chains", SMALL, 3, weights).values():
        chain = load_chain(path)
        assert chain.initialisation.weights == str(weights)
        assert chain.seed == 3


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_the_full_demo_segments_unseen_phantoms_with_both_arms(tmp_path):
    result = run_demo(tmp_path / "out")
    for arm in ARMS:
        assert np.mean(list(result.dice[arm].values())) >= 0.7
        assert result.auc[arm] > 0.65
