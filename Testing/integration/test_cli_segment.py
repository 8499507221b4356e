"""``xtl segment`` with its options, and on a datalist."""

from __future__ import annotations

import inspect
import json
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from XTLLib.bundle.load import load_bundle
from XTLLib.bundle.write import write_bundle
from XTLLib.cli import main
from XTLLib.data.case import Case
from XTLLib.data.datalist import Datalist, Entry
from XTLLib.data.images import read_volume, write_volume
from XTLLib.data.volume import Volume
from XTLLib.inference.batch import segment_cases
from XTLLib.inference.segment import segment_case
from XTLLib.networks.build import build_network
from XTLLib.scene.self_test import small_brain, write_segmentation_bundle

pytest.importorskip("slicer")
pytest.importorskip("matplotlib")
CHANNELS = ("FLAIR", "T1", "T2")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    for name, volume in small_brain().channels.items():
        write_volume(volume, folder / f"{name}.nii.gz")
    (folder / "broken.nii").write_text("no image")
    write_segmentation_bundle(folder / "ms-bundle")
    return folder


@pytest.fixture
def workplace(source, tmp_path, monkeypatch) -> Path:
    """A folder with cases.json (one good case, one broken) and ms-bundle, as in the documentation; the current one."""
    images = {channel: str(source / f"{channel}.nii.gz") for channel in CHANNELS}
    good = Entry("P1", "good", images)
    broken = Entry("P2", "broken", {**images, "T1": str(source / "broken.nii")})
    labels = {"0": "background", "1": "lesion"}
    datalist = Datalist("two", "csv", "segmentation", CHANNELS, "FLAIR", labels, test=(good, broken))
    datalist.save(tmp_path / "cases.json")
    (tmp_path / "ms-bundle").symlink_to(source / "ms-bundle")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def volumes_of(source: Path) -> list[str]:
    return [f"--volume={channel}={source / channel}.nii.gz" for channel in CHANNELS]


def test_the_documented_example_runs(workplace, capsys):
    example = inspect.getdoc(segment_cases).split("As in a console::")[1].split("Parameters\n")[0]
    exec(textwrap.dedent(example), {})  # what a user would paste
    good, broken = capsys.readouterr().out.splitlines()
    assert good.startswith("good ") and good.endswith(" ml") and "is truncated" in broken
    assert (workplace / "results" / "good" / "scene.mrb").is_file()


def test_the_command_ends_with_2_and_a_line_for_each_failed_case(workplace, capsys, monkeypatch):
    cases = json.loads((workplace / "cases.json").read_text())
    cases["test"][1]["image"][1] = "gone.nii"
    (workplace / "cases.json").write_text(json.dumps(cases))
    arguments = ["segment", "--bundle", "ms-bundle", "--datalist", "cases.json", "--out", "out", "--device", "cpu"]
    assert main([*arguments, "--progress", "none"]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("xtl: error: case broken: ") and "does not exist" in printed.err
    assert printed.err.count("\n") == 1 and "1 of 2 cases segmented" in printed.out
    with open("/dev/null" if sys.platform != "win32" else "nul") as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert main([*arguments, "--progress", "json", "--resume"]) == 2
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1]["type"] == "error" and lines[-1]["message"].startswith("case broken: ")
    assert not any("good" in line.get("stage", "") for line in lines)


def test_several_bundles_are_an_ensemble_with_an_uncertainty(workplace, source, capsys):
    first = load_bundle("ms-bundle")
    torch.manual_seed(5)
    post = {"threshold": first.threshold, "minimum_volume_mm3": first.minimum_volume_mm3}
    how = {"preparation": first.preparation, "postprocessing": post, "name": "other"}
    write_bundle(source / "other-bundle", build_network(first.spec), first.spec, "segmentation", **how)
    both = ["--bundle", "ms-bundle", "--bundle", str(source / "other-bundle"), "--device", "cpu", "--progress", "none"]
    assert main(["segment", *both, *volumes_of(source), "--out", "one", "--precision", "float32"]) == 0
    table = json.loads((workplace / "one" / "lesions.json").read_text())
    assert table["bundle"].startswith("ensemble of ")
    assert "uncertainty" in " ".join(column["name"] for column in table["columns"])
    channels = {name: read_volume(source / f"{name}.nii.gz") for name in CHANNELS}
    bundles = [load_bundle(source / name) for name in ("ms-bundle", "other-bundle")]
    each = [segment_case(Case("c", channels, "FLAIR"), one, device="cpu", precision="float32") for one in bundles]
    mean = np.mean([one.probability.array for one in each], axis=0)
    np.testing.assert_allclose(read_volume("one/probability.nii.gz").array, mean, atol=1e-4)
    assert np.abs(each[0].probability.array - each[1].probability.array).max() > 0.01
    assert main(["segment", *both, "--datalist", "cases.json", "--out", "all"]) == 2  # one of the two is broken
    summary = json.loads((workplace / "all" / "summary.json").read_text())
    assert summary["bundle"].count(",") == 1 and summary["weights_sha256"].count(",") == 1
    capsys.readouterr()
    assert (
        main(["segment", "--bundle", "ms-bundle", *both[4:], "--datalist", "cases.json", "--out", "all", "--resume"])
        == 2
    )
    assert "xtl: error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--datalist", "cases.json", "--mask", "brain.nii"], "--mask names one file for all cases"),
        (["--volume", "FLAIR=a.nii", "--resume"], "--resume goes on with the cases of a datalist"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(workplace, capsys, more, words):
    assert main(["segment", "--bundle", "ms-bundle", "--out", "out", "--progress", "none", *more]) == 2
    assert words in capsys.readouterr().err and not (workplace / "out").exists()


def test_the_options_of_the_command_reach_the_segmentation(workplace, source, capsys):
    """Brain mask, registration, N4, mirroring, precision: the notes say so, the scene holds transforms and mask."""
    flair = small_brain().channels["FLAIR"]
    write_volume(Volume(flair.array > np.percentile(flair.array, 50), flair.grid), "brain.nii.gz")
    more = ["--mask", "brain.nii.gz", "--register", "--bias-correction", "--mirror", "--precision", "float32"]
    arguments = ["segment", "--bundle", "ms-bundle", *volumes_of(source), "--out", "out", "--device", "cpu"]
    assert main([*arguments, *more, "--progress", "none"]) == 0
    printed = capsys.readouterr().out
    assert "note: T1 was registered to FLAIR" in printed and "trained without" in printed
    document = json.loads(Path("out/lesions.json").read_text())
    assert len(document["notes"]) == 4 and "uncertainty" in [column["name"] for column in document["columns"]]
    with zipfile.ZipFile("out/scene.mrb") as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".mrml"))
        scene = archive.read(name).decode()
    assert "T1 to FLAIR" in scene and "T2 to FLAIR" in scene and "brain mask" in scene


def test_a_volume_with_one_slice_a_time_series_and_colours_are_one_line_each(workplace, source, capsys):
    import nibabel

    shapes = {"slice": (20, 20, 1), "plane": (20, 20), "series": (20, 20, 20, 7)}
    for name, shape in shapes.items():
        values = np.random.default_rng(0).normal(100, 9, shape).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(values, np.diag([4.0, 4.0, 4.0, 1.0])), f"{name}.nii")
    for name, words in {"slice": "slice.nii (FLAIR) is a single slice", "plane": "2D: a single slice",
                        "series": "4D: 7 volumes"}.items():  # fmt: skip
        volumes = [f"--volume=FLAIR={name}.nii", *volumes_of(source)[1:]]
        code = main(["segment", "--bundle", "ms-bundle", *volumes, "--out", "out", "--progress", "none"])
        error = capsys.readouterr().err
        assert code == 2 and error.count("\n") == 1 and words in error, error
