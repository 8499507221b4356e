"""A chain that is killed at any moment, or whose disk fills up, and is resumed: bit for bit the same weights."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from toys import write_toy_mammograms, write_toy_volumes

POSIX = pytest.mark.skipif(os.name == "nt", reason="SIGKILL and limits of a process's files are POSIX")
pytestmark = POSIX


@pytest.fixture(scope="module")
def chain(tmp_path_factory) -> Path:
    """Two stages that use between them all that has a state of its own."""
    folder = tmp_path_factory.mktemp("chain")
    mammograms = {
        "kind": "intermediate",
        "task": "mammogram-classification",
        "datalist": str(write_toy_mammograms(folder / "mammograms", patients=16)),
        "image_size": 64,
        "training": {
            "epochs": 8,
            "batch_size": 4,
            "validation": 0.5,
            "validations": 8,
            "ema": 0.9,
            "mixup": 0.4,
            "class_balance": "sample",
            "early_stopping": 3,
        },
    }
    volumes = {
        "kind": "target",
        "task": "segmentation",
        "datalist": str(write_toy_volumes(folder / "volumes")),
        "channels": ["FLAIR", "T1"],
        "window": [16, 16, 16],
        "training": {
            "steps": 24,
            "batch_size": 2,
            "accumulate": 2,
            "optimiser": "adam",
            "schedule": "plateau",
            "validations": 6,
            "keep": "loss",
            "unfreeze": [0.2, 0.5],
            "l2sp": 0.01,
            "ema": 0.8,
        },
    }
    path = folder / "chain.yaml"
    stages = [{"kind": "initialisation", "weights": "random"}, mammograms, volumes]
    path.write_text(yaml.safe_dump({"name": "xtl-toy", "seed": 4, "backbone": "squeezenet1_0", "stages": stages}))
    return path


def start(chain: Path, out: Path, *options: str, **popen: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "XTLLib.cli", "train", str(chain), "--out", str(out), "--device", "cpu"]
    return subprocess.Popen(
        [*command, "--progress", "json", "--checkpoint-every", "0", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        **popen,
    )


def finish(process: subprocess.Popen) -> list[str]:
    """Wait for the end -> the stage of every report."""
    reports, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    return [json.loads(line)["stage"] for line in reports.splitlines()]


def outcome(out: Path) -> dict[str, str]:
    """Hashes of every stage's weights, and the logs without their seconds."""
    stages = sorted((out / "stages").iterdir())
    hashes = {stage.name: json.loads((stage / "record.json").read_text())["weights_out"] for stage in stages}
    logs = {f"{stage.name} log": (stage / "log.tsv").read_text() for stage in stages[1:]}
    return hashes | logs


@pytest.fixture(scope="module")
def whole(chain, tmp_path_factory) -> Path:
    """The chain, run without interruption."""
    out = tmp_path_factory.mktemp("whole") / "out"
    reports = finish(start(chain, out))
    assert reports.count("MS segmentation: training") == 24
    assert 0 < reports.count("Mammogram classification: training") < 16, "it did not stop early"
    return out


def drafts(out: Path) -> list[Path]:
    return list(out.glob("stages/*/.*.xtl-part.*"))


def wait_for(condition, process: subprocess.Popen) -> None:
    """Return when the condition holds or the process has ended."""
    until = time.monotonic() + 120
    while not condition() and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.0005)


def stop_in_writing(process: subprocess.Popen, out: Path) -> None:
    """Stop a process while one of its files is not whole yet."""
    state = Path(f"/proc/{process.pid}/stat")
    while True:
        wait_for(lambda: drafts(out), process)
        process.send_signal(signal.SIGSTOP)
        wait_for(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", process)
        if drafts(out) or process.poll() is not None:
            return
        process.send_signal(signal.SIGCONT)


def test_killed_at_any_moment_it_ends_in_the_same_weights(chain, whole, tmp_path):
    out, draw = tmp_path / "out", random.Random(7)
    target = out / "stages" / "02-target"
    out.mkdir()
    (out / ".1.xtl-part.chain.json").write_text('{"name": "xt')  # killed before anything was there
    moments = (
        lambda: (out / "chain.json").exists(),  # nothing but the beginning
        lambda: bool(drafts(out)),  # while a checkpoint is written
        lambda: (target / "checkpoint.pt").exists() and any(target.glob(".*.xtl-part.checkpoint.pt")),
    )
    for number, moment in enumerate(moments):
        process = start(chain, out, "--resume")
        wait_for(moment, process)
        time.sleep(draw.uniform(0, 0.004 if number else 0.3))
        if number:
            stop_in_writing(process, out)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL, process.stderr.read()
        assert drafts(out) or not number, "the kill met no file that was being written"
    (out / "stages" / "00-initialisation" / ".1.xtl-part.record.json").write_text("{")  # of a stage that is finished
    reports = finish(start(chain, out, "--resume"))
    # It went on: the first stage was finished, and steps of the second one were done.
    assert "Mammogram classification: training" not in reports
    assert 0 < reports.count("MS segmentation: training") < 24
    assert outcome(out) == outcome(whole)
    assert not drafts(out) and not list(out.glob(".*"))
    models = [torch.load(run / "bundle" / "models" / "model.pt", weights_only=True) for run in (out, whole)]
    assert all(torch.equal(models[0][name], value) for name, value in models[1].items())


def test_a_full_disk_is_one_error_and_leaves_the_last_good_checkpoint(chain, whole, tmp_path):
    import resource

    out = tmp_path / "out"
    # The checkpoint grows when the first validation adds the weights kept; there the disk is full.
    limit = int(0.95 * (whole / "stages" / "01-intermediate" / "checkpoint.pt").stat().st_size)
    process = start(
        chain, out, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    )
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 2
    assert errors.count("\n") == 1 and errors.startswith("xtl: error: ") and "Traceback" not in errors
    assert "checkpoint.pt cannot be written (File too large). Make room" in errors
    stage = out / "stages" / "01-intermediate"
    assert 1 <= torch.load(stage / "checkpoint.pt", weights_only=True)["step"] <= 2 and not drafts(out)
    finish(start(chain, out, "--resume"))
    assert outcome(out) == outcome(whole)
