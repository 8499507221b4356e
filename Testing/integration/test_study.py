"""Whole studies: their scores depend neither on the number of processes, nor on order, kills and restarts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy_study import RUNS, write_toy_study
from XTLLib.cli import main
from XTLLib.errors import Cancelled
from XTLLib.progress import Progress
from XTLLib.study import run as study_run
from XTLLib.study.config import load_study
from XTLLib.study.local_pool import LocalPool
from XTLLib.study.places import Resources
from XTLLib.study.result import StudyResult
from XTLLib.study.run import run_study

POSIX = pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")


class Watched(Resources):
    """Resources whose pool can be looked into."""

    def open_pool(self) -> LocalPool:
        object.__setattr__(self, "pool", super().open_pool())
        return self.pool


def run(study: Path, out: Path, **options) -> StudyResult:
    options.setdefault("resources", Resources("cpu", processes=2))
    return run_study(load_study(study), out, **options)


def scores(out: Path) -> bytes:
    return (out / "scores.tsv").read_bytes()


def finished(out: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("runs/*/values.json")}


def is_gone(pid: int) -> bool:
    """Whether a process has ended, as a zombie, too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_for(condition, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    return write_toy_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def whole(study, tmp_path_factory) -> Path:
    """The study, done by two processes."""
    out = tmp_path_factory.mktemp("whole") / "out"
    result = run(study, out)
    assert result.facts["failures"] == []
    assert len(finished(out)) == len(result.facts["runs"]) == RUNS
    assert len(list(out.glob("cache/*/record.json"))) == 2  # the mammogram stage of each seed
    return out


@POSIX
def test_one_process_in_reversed_order_that_is_killed_once_gives_the_same_scores(study, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(study_run, "in_good_order", lambda tasks: list(reversed(tasks)))
    resources, killed = Watched("cpu", processes=1), []

    def kill_one(board) -> None:
        if not killed and board.finished >= 5:
            killed.append(resources.pool.pids[0])
            os.kill(killed[0], signal.SIGKILL)

    result = run(study, tmp_path / "out", resources=resources, watch=kill_one)
    assert killed and result.facts["failures"] == []
    assert scores(tmp_path / "out") == scores(whole)
    assert finished(tmp_path / "out").keys() == finished(whole).keys()


def test_a_change_repeats_what_it_touches(study, whole, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    shutil.copytree(study.parent, tmp_path / "elsewhere")
    before, folder = finished(out), tmp_path / "elsewhere"
    again = {"name": "another name", "alpha": 0.01, "comparisons": [], "folds": 2}
    twin = {"name": "twin", "chain": "chain.yaml", "intermediate": False}
    result = run(
        write_toy_study(folder, arms=[twin, {"name": "XTL", "chain": "chain.yaml"}], **again), out, resume=True
    )
    assert finished(out) == before, "names, paths, order of arms and what is reported repeat no run"
    assert len(result.of("twin")) == 2 * 12
    run(write_toy_study(folder, seeds=[0, 1, 2], arms=[twin], comparisons=[], baselines=[]), out, resume=True)
    after = finished(out)
    assert len(after) == len(before) + 2, "a further seed is two further runs"
    assert {key: after[key] for key in before} == before


@POSIX
def test_a_run_that_kills_its_process_is_named_and_the_others_go_on(study, whole, tmp_path, capsys):
    resources, name = Watched("cpu", processes=1), "XTL/seed-1/repeat-0/fold-1/size-all"

    def kill(board) -> None:
        for pid in resources.pool.pids if name in board.running else ():
            os.kill(pid, signal.SIGKILL)

    result = run(study, tmp_path / "out", resources=resources, watch=kill)
    (failure,) = result.facts["failures"]
    assert failure["run"] == name and "signal 9" in failure["error"]
    assert len(finished(tmp_path / "out")) == RUNS - 1
    kept = [row for row in scores(whole).splitlines() if not row.startswith(b"XTL\t1\t0\t1\t")]
    assert scores(tmp_path / "out").splitlines() == kept
    assert name in (tmp_path / "out" / "report.md").read_text()


def test_a_run_that_fails_makes_the_command_fail_and_is_named(study, tmp_path, capsys):
    """One arm learns at a rate at which the loss is soon no number."""
    shutil.copytree(study.parent, tmp_path / "study")
    wild = {"name": "wild", "chain": "chain.yaml", "intermediate": False, "training": {"learning_rate": 1.0}}
    wild["training"] |= {"clip_norm": None, "optimiser": "sgd", "encoder_rate": 1.0, "schedule": "constant"}
    tame = {"name": "TL", "chain": "chain.yaml", "intermediate": False}
    path = write_toy_study(tmp_path / "study", 12, arms=[tame, wild], seeds=[0], baselines=[], comparisons=[])
    command = ["study", str(path), "--out", str(tmp_path / "out"), "--progress", "none", "--device", "cpu"]
    assert main(command) == 1
    said = capsys.readouterr()
    assert "the run wild/seed-0/repeat-0/fold-0/size-all failed: " in said.err
    assert "no longer a number" in said.err
    assert "| TL |" in said.out
    assert json.loads((tmp_path / "out" / "facts.json").read_text())["failures"]


@POSIX
def test_a_parent_that_ends_takes_its_processes_along_and_resume_goes_on(study, whole, tmp_path):
    out, before = tmp_path / "out", {}
    command = [sys.executable, "-m", "XTLLib.cli", "study", str(study), "--out", str(out), "--device", "cpu"]
    command += ["--progress", "none", "--resume"]
    for ending, code, processes in ((signal.SIGTERM, 130, 1), (signal.SIGKILL, -signal.SIGKILL, 2)):
        parent = subprocess.Popen(
            [*command, "--processes", str(processes)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        enough = len(before) + 2
        wait_for(lambda enough=enough: len(finished(out)) >= enough)
        children = [int(pid) for pid in Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()]
        assert len(children) == processes
        parent.send_signal(ending)
        parent.wait(30)
        assert parent.returncode == code, parent.stderr.read()
        wait_for(lambda running=children: all(is_gone(pid) for pid in running), 20)
        assert {key: time for key, time in finished(out).items() if key in before} == before
        before = finished(out)
        assert len(before) < RUNS and not (out / "scores.tsv").exists()
    run(study, out, resume=True, resources=Resources("cpu", processes=1))
    assert {key: time for key, time in finished(out).items() if key in before} == before
    assert scores(out) == scores(whole)
    assert list(out.glob("runs/**/.*xtl-part*")) == []


def test_a_cancel_leaves_a_checkpoint_from_which_the_run_goes_on(study, tmp_path):
    shutil.copytree(study.parent, tmp_path / "study")
    arm = {"name": "TL", "chain": "chain.yaml", "intermediate": False}
    path = write_toy_study(tmp_path / "study", 16, arms=[arm], seeds=[0], baselines=[], comparisons=[])
    out, resources, reached = tmp_path / "out", Watched("cpu", processes=1), []

    def watch(board) -> None:
        reached.extend(fraction for fraction, _ in board.running.values() if fraction > 0.2)

    with pytest.raises(Cancelled):
        run(path, out, resources=resources, watch=watch, progress=Progress(None, lambda: bool(reached)))
    assert resources.pool.pids == ()
    (checkpoint,) = out.glob("runs/*/chain/stages/*/checkpoint.pt")
    begun = checkpoint.parents[2] / "chain.json"
    since = begun.stat().st_mtime_ns
    run(path, out, resources=Resources("cpu", processes=1), resume=True)
    assert begun.stat().st_mtime_ns == since, "it began anew"
    assert not checkpoint.exists(), "a finished run needs none"


@pytest.mark.long
@POSIX
def test_a_ray_cluster_gives_the_same_scores_though_a_worker_is_killed(study, whole, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")
    killed: list[int] = []

    def kill_one(board) -> None:
        if not killed and board.finished >= 2:
            killed.extend(_ray_workers()[:1])
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    result = run(study, tmp_path / "out", resources=Resources("cpu", processes=2, ray="local"), watch=kill_one)
    assert killed, "no worker was found at work"
    assert result.facts["failures"] == []
    assert scores(tmp_path / "out") == scores(whole)


def _ray_workers() -> list[int]:
    """Processes of this user that are at a run: Ray names a worker after its task."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::_remote_run"):
                found.append(int(path.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
