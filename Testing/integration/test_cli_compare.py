"""``xtl compare``: what it writes, and one line for each kind of bad input."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from XTLLib.cli import main
from XTLLib.data.geometry import Grid
from XTLLib.data.images import read_image, write_volume
from XTLLib.data.volume import Volume

GRID = Grid((24, 24, 24), np.diag([-1.0, -1.0, 2.0, 1.0]))


@pytest.fixture
def files(tmp_path) -> dict[str, Path]:
    rng = np.random.default_rng(0)
    paths = {}
    for name, cubes in (("m1", [(2, 2, 2, 4)]), ("m2", [(2, 2, 2, 4), (14, 14, 14, 3)])):
        array = np.zeros(GRID.shape, np.uint8)
        for k, j, i, side in cubes:
            array[k : k + side, j : j + side, i : i + side] = 1
        paths[name] = tmp_path / f"{name}.nii.gz"
        write_volume(Volume(array, GRID), paths[name])
    for name in ("f1", "f2"):
        paths[name] = tmp_path / f"{name}.nii.gz"
        write_volume(Volume(rng.uniform(50, 100, GRID.shape).astype(np.float32), GRID), paths[name])
    return paths


def compare(files, out, *more: str) -> int:
    first = ["--time", "2024", str(files["m1"]), str(files["f1"])]
    second = ["--time", "2025", str(files["m2"]), str(files["f2"])]
    return main(["compare", *first, *second, "--out", str(out), "--progress", "none", *more])


def test_everything_that_was_promised_is_written(files, tmp_path, capsys):
    out = tmp_path / "out"
    assert compare(files, out, "--no-register") == 0
    assert "1 new, 0 enlarging, 1 stable, 0 shrinking, 0 resolved" in capsys.readouterr().out
    rows = list(csv.DictReader((out / "comparison.tsv").open(), delimiter="\t"))
    assert [(row["status"], row["volume_2_mm3"]) for row in rows] == [("new", "54.00"), ("stable", "128.00")]
    assert json.loads((out / "comparison.json").read_text())["time_points"] == ["2024", "2025"]
    status = read_image(out / "status.nii.gz")
    assert status.array[15, 15, 15] == 1 and status.array[3, 3, 3] == 3 and (status.array > 0).sum() == 27 + 64
    assert read_image(out / "lesions_2.nii.gz").array[15, 15, 15] == 1
    assert (out / "report.png").read_bytes()[:4] == b"\x89PNG" and (out / "segmentation.seg.nrrd").is_file()
    names = zipfile.ZipFile(out / "scene.mrb").namelist()
    assert any(name.endswith(".mrml") for name in names) and any("FLAIR 2025" in name for name in names)


def test_rules_can_be_set(files, tmp_path, capsys):
    assert compare(files, tmp_path / "out", "--no-register", "--minimum-volume", "100") == 0
    assert "0 new, 0 enlarging, 1 stable" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.update(m2=f["m2"].parent / "gone.nii.gz"), "gone.nii.gz"),
        (lambda f: f.update(f2="-"), "the time point 2025 has no image"),
    ],
)
def test_bad_input_is_one_line(files, tmp_path, capsys, change, words):
    change(files)
    assert compare(files, tmp_path / "out") == 2
    message = capsys.readouterr().err
    assert message.startswith("xtl: error: ") and words in message and message.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_one_time_point_is_not_a_comparison(files, tmp_path, capsys):
    time = ["--time", "2024", str(files["m1"]), str(files["f1"])]
    assert main(["compare", *time, "--out", str(tmp_path / "out"), "--progress", "none"]) == 2
    assert "Give two or more" in capsys.readouterr().err
    assert main(["compare", *time, *time, "--out", str(tmp_path / "out"), "--progress", "none"]) == 2
    assert "--time names 2024 twice" in capsys.readouterr().err
