"""The benchmarks work, compare like with like, and say what they found. Timings are not looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from XTLLib import cli

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def results(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import results

    return results


def run(*arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "XTLLib.cli", "bench", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )


@pytest.mark.long
def test_both_sides_train_the_same_network_on_the_same_shapes(tmp_path):
    out = tmp_path / "out" / "step.json"
    script = FOLDER / "training_step.py"
    sizes = ["--backbone", "squeezenet1_0", "--window", "32", "--rounds", "1", "--steps", "2", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, str(script), *sizes, "--side", "ours", "monai", "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(out.read_text())
    assert document["machine"]["torch"] and document["machine"]["cores"] >= 1
    (benchmark,) = document["benchmarks"]
    (comparison,) = benchmark["details"]["comparisons"]
    # The benchmark itself refuses sides whose facts differ; these are those of both.
    assert comparison["facts"]["input"] == [2, 3, 32, 32, 32]
    assert comparison["facts"]["dtype"] == "float32"
    assert comparison["facts"]["parameters"] > 1e6
    for rounds in comparison["rounds"].values():
        (turn,) = rounds
        assert [len(turn[name]) for name in ("step_s", "preparation_s", "waiting_s")] == [2, 2, 2]
        assert min(turn["step_s"]) > 0 and min(turn["preparation_s"]) > 0 and turn["peak_mib"] > 100
    throughput = benchmark["rows"][0]
    assert throughput["ratio"] == pytest.approx(throughput["ours"] / throughput["peer"])
    assert throughput["met"] == (throughput["ratio"] >= 1.7)
    assert "plain MONAI" in done.stdout and "waiting for data" in done.stdout


def test_the_table_shows_what_is_met_and_what_is_not(results):
    rows = [
        results.Row("a step", "samples/s", 3.0, 1.5, 2.0, ">= 1.7x", True),
        results.Row("another", "samples/s", 1.0, 1.0, 1.0, ">= 1.7x", False),
        results.Row("memory", "MiB", 2048.0),
    ]
    lines = results.table_of(rows).splitlines()
    assert [line.split("|")[0].strip() for line in lines] == ["what", "-" * 7, "a step", "another", "memory"]
    assert [cell.strip() for cell in lines[2].split("|")][1:] == [
        "3 samples/s",
        "1.5 samples/s",
        "2.00x",
        ">= 1.7x (met)",
    ]
    assert lines[3].endswith("(NOT met)") and "2048 MiB" in lines[4]


def test_xtl_bench_names_its_benchmarks_and_refuses_others():
    listed = run("--list")
    assert listed.returncode == 0 and listed.stdout.startswith("training-step: ")
    unknown = run("no-such-thing")
    assert unknown.returncode == 2
    (line,) = unknown.stderr.splitlines()
    assert line.startswith("xtl: error: there is no benchmark no-such-thing. Choose from training-step, ")


def test_outside_a_checkout_xtl_bench_says_where_the_benchmarks_are(monkeypatch, tmp_path, capsys):
    installed = tmp_path / "site-packages" / "XTLLib" / "cli.py"
    monkeypatch.setattr(cli, "__file__", str(installed))
    assert cli.main(["bench"]) == 2
    assert "not of an installed XTL" in capsys.readouterr().err
