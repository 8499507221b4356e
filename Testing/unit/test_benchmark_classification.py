"""The benchmark of classification measures every way to a rating, and lies on the grids that it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


def test_every_way_is_timed_and_the_registry_knows_it(tmp_path, monkeypatch):
    out = tmp_path / "classification.json"
    command = [sys.executable, str(FOLDER / "classification.py"), "--quick", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (benchmark,) = json.loads(out.read_text())["benchmarks"]
    (taken,) = benchmark["details"]["runs"]
    single = {"cold", "moved", "warm", "grad-cam", "evidence"}
    assert set(taken) == single | {"ensemble", "ensemble, moved", "ensemble, evidence"}
    assert min(taken.values()) > 0
    rows = {row["what"]: row for row in benchmark["rows"]}
    assert rows["5 findings, warm"]["ours"] == taken["warm"]
    assert rows["2 networks, with Grad-CAM and occlusion"]["ours"] == taken["ensemble, evidence"] > taken["warm"]
    assert 50 < rows["peak memory, with evidence"]["ours"] < 3072
    monkeypatch.syspath_prepend(str(FOLDER))
    import registry

    assert registry.BENCHMARKS["classification"].module == "classification"


def test_the_study_has_the_shapes_of_the_target(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import classification

    case = classification.study()
    assert case.grid.shape == (19, 384, 384) and len(case.findings) == 5
    assert case.channels["ADC"].grid.shape == (19, 128, 84)
    for finding in case.findings:
        assert all(volume.grid.contains(finding.position_ras) for volume in case.channels.values())
    assert case.grid.spacing_mm == pytest.approx((0.5, 0.5, 3.0))
