"""The benchmarks of inference work, run the same network on the same head, and leave out what is not installed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


def run(script: str, out: Path, *arguments: str) -> tuple[dict, subprocess.CompletedProcess]:
    done = subprocess.run(
        [sys.executable, str(FOLDER / script), "--quick", "--out", str(out), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    (benchmark,) = json.loads(out.read_text())["benchmarks"]
    return benchmark, done


@pytest.mark.long
def test_methods_take_turns_and_what_is_missing_is_named(tmp_path):
    benchmark, done = run(
        "segmentation_inference.py", tmp_path / "inference.json", "--methods", "nnU-Net v2 without mirroring"
    )
    rows = {row["what"]: row for row in benchmark["rows"]}
    first = rows["MONAI defaults"]
    assert first["ratio"] == pytest.approx(first["peer"] / first["ours"]) and first["met"] is None
    assert "MONAI defaults, with only the allocator settings" in rows
    is_there = importlib.util.find_spec("nnunetv2") is not None
    assert ("nnU-Net v2 without mirroring" in rows) == is_there
    assert is_there or "left out: nnU-Net v2 without mirroring" in done.stderr
    runs = benchmark["details"]["runs"]
    assert len(runs["users"]["MONAI defaults"]) == len(runs["worker"]["ours"]) == 1


@pytest.mark.long
def test_apply_is_timed_warm_and_cold(tmp_path):
    pytest.importorskip("slicer")
    benchmark, _ = run("start_up.py", tmp_path / "start.json")
    (warm,), (cold,) = benchmark["details"]["warm"], benchmark["details"]["cold"]
    for taken in (warm, cold):
        assert taken["total"] == pytest.approx(sum(s for part, s in taken.items() if part != "total"), rel=0.01)
    assert "monai" not in benchmark["details"]["begun"][0]["modules"]


def test_heads_are_stretched_and_dice_is_counted(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import segmentation_data as data

    truth = np.zeros((2, 2, 2), bool)
    truth[0, 0] = True
    head = data.enlarged(data.Head(truth[None].astype(np.float32), truth, truth), (4, 6, 2))
    assert head.truth.sum() == 2 * 3 * 2 and head.image.shape == (1, 4, 6, 2)
    assert np.array_equal(head.image[0] > 0, head.truth)
    probability = np.where(truth, 0.9, 0.0)
    probability[1, 1, 1] = 0.8
    assert data.dice(probability, truth) == pytest.approx(2 * 2 / (3 + 2))
