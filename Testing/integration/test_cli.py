"""The command line as a user meets it: what it writes, and how it refuses."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from XTLLib.cli import main
from XTLLib.data.images import write_volume
from XTLLib.data.volume import Volume
from XTLLib.scene.self_test import (
    small_brain,
    small_prostate,
    write_classification_bundle,
    write_segmentation_bundle,
)

RESULT_FILES = {
    "segmentation.seg.nrrd", "labelmap.nii.gz", "probability.nii.gz", "lesions.tsv", "lesions.json", "scene.mrb",
    "report.png", "report.html",
}  # fmt: skip


@pytest.fixture(scope="module")
def brain(tmp_path_factory) -> Path:
    """A folder with FLAIR.nii.gz, T1.nii.gz, T2.nii.gz and a bundle that takes them."""
    folder = tmp_path_factory.mktemp("brain")
    for name, volume in small_brain().channels.items():
        write_volume(volume, folder / f"{name}.nii.gz")
    write_segmentation_bundle(folder / "bundle")
    return folder


@pytest.fixture
def damaged(brain, tmp_path) -> Path:
    """A copy of ``brain`` to spoil."""
    return shutil.copytree(brain, tmp_path / "damaged")


def segment(folder: Path, out: Path, channels=("FLAIR", "T1", "T2"), *more: str) -> int:
    volumes = [part for name in channels for part in ("--volume", f"{name}={folder / name}.nii.gz")]
    arguments = ["--bundle", str(folder / "bundle"), *volumes, "--out", str(out), "--progress", "none"]
    return main(["segment", *arguments, *more])


def require_refusal(code: int, capsys, out: Path, *words: str) -> None:
    """Exit code 2, one line on stderr with all the words, and nothing written."""
    message = capsys.readouterr().err
    assert code == 2, message
    assert message.startswith("xtl: error: ") and message.count("\n") == 1, message
    for word in words:
        assert word in message
    assert not out.exists()
    assert not list(out.parent.glob(f".{out.name}*")), "a draft was left behind"


def test_segment_writes_the_whole_contract_on_the_grid_of_flair(brain, tmp_path):
    assert segment(brain, tmp_path / "out") == 0
    left = {p.name for p in (tmp_path / "out").iterdir() if not p.name.startswith(".")}
    assert left == RESULT_FILES | {"statistics.tsv", "statistics.json"}
    label = sitk.ReadImage(str(tmp_path / "out" / "labelmap.nii.gz"))
    flair = sitk.ReadImage(str(brain / "FLAIR.nii.gz"))
    assert label.GetSize() == flair.GetSize()
    assert np.allclose(label.GetOrigin(), flair.GetOrigin(), atol=1e-3)
    table = json.loads((tmp_path / "out" / "lesions.json").read_text())
    assert len(table["rows"]) == int(sitk.GetArrayFromImage(label).max()) > 0


def test_classify_rates_each_finding_of_a_csv(tmp_path):
    case = small_prostate()
    for name, volume in case.channels.items():
        write_volume(volume, tmp_path / f"{name}.nii.gz")
    write_classification_bundle(tmp_path / "bundle")
    lines = ["ProxID,fid,pos,zone"]
    for finding in case.findings:
        r, a, s = finding.position_ras
        lines.append(f"P1,{finding.identifier},{-r} {-a} {s},{finding.zone}")
    (tmp_path / "findings.csv").write_text("\n".join(lines) + "\n")
    volumes = [part for name in case.channels for part in ("--volume", f"{name}={tmp_path / name}.nii.gz")]
    arguments = ["--bundle", str(tmp_path / "bundle"), *volumes, "--findings", str(tmp_path / "findings.csv")]
    assert main(["classify", *arguments, "--out", str(tmp_path / "out"), "--progress", "none"]) == 0
    left = {p.name for p in (tmp_path / "out").iterdir() if not p.name.startswith(".")}
    assert left == RESULT_FILES | {"findings.csv"}
    rows = (tmp_path / "out" / "lesions.tsv").read_text().splitlines()
    assert len(rows) == 1 + len(case.findings)
    assert np.allclose(_position(rows), case.findings[0].position_ras, atol=0.01)


def _position(rows: list[str]) -> tuple[float, float, float]:
    row = dict(zip(rows[0].split("\t"), rows[1].split("\t")))
    return tuple(float(row[name]) for name in ("R_mm", "A_mm", "S_mm"))


def test_a_missing_image_is_named(damaged, tmp_path, capsys):
    (damaged / "T1.nii.gz").unlink()
    require_refusal(segment(damaged, tmp_path / "out"), capsys, tmp_path / "out", "T1.nii.gz", "does not exist")


def test_a_file_that_is_no_image_is_named(damaged, tmp_path, capsys):
    (damaged / "T1.nii.gz").write_bytes(b"this is no image" * 50)
    require_refusal(segment(damaged, tmp_path / "out"), capsys, tmp_path / "out", "T1.nii.gz", "cannot be read")


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_a_truncated_image_is_named(damaged, tmp_path, capsys, share):
    path = damaged / "T2.nii.gz"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    require_refusal(segment(damaged, tmp_path / "out"), capsys, tmp_path / "out", "T2.nii.gz")


def test_an_image_cut_before_it_was_compressed_is_named(damaged, tmp_path, capsys):
    path = damaged / "T2.nii.gz"
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[: len(content) // 2]))
    require_refusal(segment(damaged, tmp_path / "out"), capsys, tmp_path / "out", "T2.nii.gz")


def test_nan_is_named(damaged, tmp_path, capsys):
    image = sitk.Cast(sitk.ReadImage(str(damaged / "FLAIR.nii.gz")), sitk.sitkFloat32)
    image[5, 5, 5] = float("nan")
    sitk.WriteImage(image, str(damaged / "FLAIR.nii.gz"))
    code = segment(damaged, tmp_path / "out")
    require_refusal(code, capsys, tmp_path / "out", "FLAIR.nii.gz", "1 voxels that are NaN")


def test_a_missing_channel_is_named(brain, tmp_path, capsys):
    code = segment(brain, tmp_path / "out", ("FLAIR", "T1"))
    require_refusal(code, capsys, tmp_path / "out", "channel T2 is missing", "needed: FLAIR, T1, T2")


def test_channels_that_do_not_overlap_are_named(damaged, tmp_path, capsys):
    image = sitk.ReadImage(str(damaged / "T1.nii.gz"))
    image.SetOrigin([x + 500.0 for x in image.GetOrigin()])
    sitk.WriteImage(image, str(damaged / "T1.nii.gz"))
    code = segment(damaged, tmp_path / "out")
    require_refusal(code, capsys, tmp_path / "out", "T1.nii.gz", "0% of the reference", "register")


def test_a_bundle_for_another_task_is_refused(damaged, tmp_path, capsys):
    shutil.rmtree(damaged / "bundle")
    write_classification_bundle(damaged / "bundle")
    code = segment(damaged, tmp_path / "out", ("FLAIR", "T1", "T2"))
    require_refusal(code, capsys, tmp_path / "out", "classification")


def test_weights_that_are_no_state_dict_are_named(damaged, tmp_path, capsys):
    (damaged / "bundle" / "models" / "model.pt").write_bytes(b"not weights")
    require_refusal(segment(damaged, tmp_path / "out"), capsys, tmp_path / "out", "model.pt")


def test_somebody_elses_folder_is_not_overwritten(brain, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    assert segment(brain, out) == 2
    assert "XTL did not write" in capsys.readouterr().err
    assert [p.name for p in out.iterdir()] == ["thesis.txt"]


def test_a_threshold_outside_0_to_1_is_refused(brain, tmp_path, capsys):
    code = segment(brain, tmp_path / "out", ("FLAIR", "T1", "T2"), "--threshold", "1.5")
    require_refusal(code, capsys, tmp_path / "out", "threshold", "1.5")


def _chain(folder: Path, weights: str = "random", mask: bool = True) -> Path:
    """A chain of one target stage on one toy case, with its datalist."""
    from toys import write_toy_volumes

    write_toy_volumes(folder, training=1, validation=0)
    if not mask:
        path = folder / "p0_mask.nii"
        image = sitk.ReadImage(str(path))
        sitk.WriteImage(image * 0, str(path))
    (folder / "chain.yaml").write_text(
        "name: toy\nseed: 0\nbackbone: squeezenet1_0\nstages:\n"
        f"  - {{kind: initialisation, weights: {weights}}}\n"
        "  - kind: target\n    task: segmentation\n    datalist: volumes.json\n    channels: [FLAIR, T1]\n"
        "    window: [24, 24, 24]\n    training: {steps: 2, batch_size: 2}\n"
    )
    return folder / "chain.yaml"


def train(chain: Path, out: Path) -> int:
    return main(["train", str(chain), "--out", str(out), "--progress", "none"])


def test_a_datalist_whose_images_are_gone_is_refused_before_anything_runs(tmp_path, capsys):
    chain = _chain(tmp_path / "toy")
    (tmp_path / "toy" / "p0_T1.nii").unlink()
    require_refusal(train(chain, tmp_path / "out"), capsys, tmp_path / "out", "volumes.json", "p0_T1.nii")


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path, capsys):
    chain = _chain(tmp_path / "toy")
    before = sorted(tmp_path.rglob("*"))
    assert main(["train", str(chain), "--dry-run", "--progress", "none"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("toy: ") and "segmentation" in text.splitlines()[0]
    assert "parameters" in text and "carried" in text and "MiB" in text and "Nothing was written" in text
    assert sorted(tmp_path.rglob("*")) == before
    assert main(["train", str(chain), "--progress", "none"]) == 2
    assert "--out is missing" in capsys.readouterr().err


def test_an_empty_mask_is_refused(tmp_path, capsys):
    chain = _chain(tmp_path / "toy", mask=False)
    assert train(chain, tmp_path / "out") == 2
    assert "lesion" in capsys.readouterr().err
    assert not (tmp_path / "out" / "bundle").exists()


def test_a_weights_file_that_is_no_state_dict_is_refused(tmp_path, capsys):
    chain = _chain(tmp_path / "toy", weights="notes.pth")
    (tmp_path / "toy" / "notes.pth").write_text("dear diary")
    assert train(chain, tmp_path / "out") == 2
    message = capsys.readouterr().err
    assert "notes.pth" in message and message.count("\n") == 1
    assert not (tmp_path / "out" / "bundle").exists()


def test_a_misspelt_key_is_named_with_its_line(tmp_path, capsys):
    chain = _chain(tmp_path / "toy")
    chain.write_text(chain.read_text().replace("window:", "windw:"))
    require_refusal(train(chain, tmp_path / "out"), capsys, tmp_path / "out", "line 10", "windw", "window")


def test_training_and_segmenting_agree_through_the_installed_command(tmp_path):
    """One real process each: train a chain, then apply its bundle."""
    chain = _chain(tmp_path / "toy")
    xtl = [sys.executable, "-m", "XTLLib.cli"]
    done = subprocess.run(
        [*xtl, "train", str(chain), "--out", str(tmp_path / "run"), "--progress", "json"],
        capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[-1]["fraction"] == 1.0 and all(event["type"] == "progress" for event in events)
    volumes = [f"--volume={c}={tmp_path / 'toy' / f'p0_{c}.nii'}" for c in ("FLAIR", "T1")]
    bundle = str(tmp_path / "run" / "bundle")
    subprocess.run([*xtl, "segment", "--bundle", bundle, *volumes, "--out", str(tmp_path / "out")], check=True)
    assert (tmp_path / "out" / "scene.mrb").is_file()


@pytest.mark.parametrize("last_words", ["cancel\n", ""])
def test_a_cancel_or_the_death_of_the_parent_stops_a_training_which_can_then_be_resumed(tmp_path, last_words):
    chain = _chain(tmp_path / "toy")
    chain.write_text(chain.read_text().replace("steps: 2,", "steps: 2000,"))
    command = [sys.executable, "-m", "XTLLib.cli", "train", str(chain), "--out", str(tmp_path / "run")]
    with subprocess.Popen(
        [*command, "--progress", "json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        for line in running.stdout:
            if "training" in json.loads(line)["stage"]:
                break
        rest, _ = running.communicate(last_words, timeout=240)  # closes the pipe
    assert running.returncode == 130
    assert json.loads(rest.splitlines()[-1])["message"] == "cancelled"
    assert list((tmp_path / "run").rglob("checkpoint.pt"))
    assert not (tmp_path / "run" / "bundle").exists()


def test_the_model_library_lists_bundles_and_says_where_it_is_when_empty(brain, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XTL_HOME", str(tmp_path))
    assert main(["models", "list"]) == 0
    assert str(tmp_path / "models") in capsys.readouterr().out
    shutil.copytree(brain / "bundle", tmp_path / "models" / "mine")
    assert main(["models", "list"]) == 0
    assert "mine  segmentation  FLAIR, T1, T2  chain not recorded" in capsys.readouterr().out


def test_a_misspelt_command_is_one_line():
    done = subprocess.run([sys.executable, "-m", "XTLLib.cli", "sgment"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("xtl: error: ") and done.stderr.count("\n") == 1


def test_a_study_runs_each_run_once_and_its_folds_share_no_patient(tmp_path, capsys):
    from toys import write_toy_mammograms, write_toy_patches

    write_toy_patches(tmp_path)
    write_toy_mammograms(tmp_path)
    (tmp_path / "chain.yaml").write_text(
        "name: toy\nseed: 0\nbackbone: squeezenet1_0\nstages:\n  - {kind: initialisation, weights: random}\n"
        "  - {kind: intermediate, task: mammogram-classification, datalist: mammograms.json, image_size: 64,\n"
        "     training: {epochs: 1, batch_size: 4, validation: 0}}\n"
        "  - {kind: target, task: classification, datalist: patches.json, channels: [T2W, ADC],\n"
        "     training: {epochs: 1, batch_size: 4, validation: 0}}\n"
    )
    (tmp_path / "study.yaml").write_text(
        "name: toy\ndatalist: patches.json\nfolds: 3\narms:\n  - {name: TL, chain: chain.yaml, intermediate: false}\n"
        "  - {name: XTL, chain: chain.yaml}\nbaselines: [adc-contrast]\ncomparisons: [[XTL, TL]]\n"
    )
    command = ["study", str(tmp_path / "study.yaml"), "--out", str(tmp_path / "out"), "--progress", "none"]
    assert main(command) == 0
    assert "| adc-contrast | 1.000 |" in capsys.readouterr().out  # the toy lesions are plainly dark on ADC
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {arm["name"] for arm in results["arms"]} == {"TL", "XTL", "adc-contrast"}
    rows = (tmp_path / "out" / "scores.tsv").read_text().splitlines()
    assert len(rows) == 1 + 3 * 12  # every patch once for each arm and baseline
    kept = list((tmp_path / "out" / "cache").glob("*/record.json"))
    assert len(kept) == 1  # the mammogram stage was trained once for the three folds
    weights = sorted((tmp_path / "out" / "runs").rglob("model.pt"))
    times = [path.stat().st_mtime_ns for path in weights]
    assert main(command) == 2  # the folder is in use
    assert main([*command, "--resume"]) == 0
    assert [path.stat().st_mtime_ns for path in weights] == times
    assert (tmp_path / "out" / "scores.tsv").read_text().splitlines() == rows


def test_volumes_of_one_value_are_refused(damaged, tmp_path, capsys):
    flair = small_brain().channels["FLAIR"]
    for name in ("FLAIR", "T1", "T2"):
        write_volume(Volume(np.zeros_like(flair.array), flair.grid), damaged / f"{name}.nii.gz")
    require_refusal(segment(damaged, tmp_path / "out"), capsys, tmp_path / "out", "FLAIR.nii.gz", "foreground")
