"""Two processes on one machine, started by torchrun, against one process on the same batches."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import trained_together
import yaml
from toys import write_toy_volumes

SUPPORT = Path(trained_together.__file__).parent


def torchrun(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *arguments]
    return subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> Path:
    """Where two processes left the cases of ``trained_together``."""
    out = tmp_path_factory.mktemp("together")
    done = torchrun(SUPPORT / "trained_together.py", out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """Where one process left the plain case."""
    folder = tmp_path_factory.mktemp("alone")
    torch.save(trained_together.train("plain", folder)[1], folder / "weights.pt")
    return folder


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def require_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """What a tensor went from its beginning differs by a thousandth at most."""
    start = trained_together.new_network().state_dict()
    went = {name: (value - start[name]).norm() for name, value in expected.items() if value.is_floating_point()}
    assert all(went.values())
    for name, way in went.items():
        assert (found[name] - expected[name]).norm() <= 1e-3 * way, name


def weights_in(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "weights.pt", weights_only=True)


def log_of(folder: Path) -> list[list[float]]:
    lines = (folder / "log.tsv").read_text().splitlines()[1:]
    return [[float(value or 0) for value in line.split("\t")] for line in lines]


def require_equal_logs(one: Path, two: Path) -> None:
    assert len(log_of(one)) == len(log_of(two)) >= 3
    for row, other in zip(log_of(one), log_of(two)):
        assert row == pytest.approx(other, rel=1e-4)


@pytest.mark.long
def test_two_processes_end_where_one_does(together, alone):
    require_equal(weights_in(together / "plain"), weights_in(alone))
    require_equal_logs(together / "plain", alone)


@pytest.mark.long
def test_so_they_do_with_all_that_changes_the_weights(together, tmp_path):
    case = "all that changes the weights"
    _, expected = trained_together.train(case, tmp_path)
    require_equal(weights_in(together / case), expected)
    require_equal_logs(together / case, tmp_path)


def test_a_cancel_in_one_process_ends_both_and_one_process_can_go_on(together, alone):
    assert {path.name for path in together.glob("cancelled-*")} == {"cancelled-0", "cancelled-1"}
    folder = together / trained_together.CANCELLED
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["step"] == 2
    _, weights = trained_together.train(trained_together.CANCELLED, folder, resume=True)
    require_equal(weights, weights_in(alone))


def write_chain(folder: Path, **training: object) -> Path:
    stages = [
        {"kind": "initialisation", "weights": "random"},
        {
            "kind": "target",
            "task": "segmentation",
            "datalist": str(write_toy_volumes(folder / "volumes")),
            "channels": ["FLAIR", "T1"],
            "window": [16, 16, 16],
            "training": {"steps": 3, "validations": 1, **training},
        },
    ]
    path = folder / "chain.yaml"
    path.write_text(yaml.safe_dump({"name": "toy", "backbone": "squeezenet1_0", "stages": stages}))
    return path


def xtl_train(chain: Path, out: Path) -> subprocess.CompletedProcess:
    return torchrun("-m", "XTLLib.cli", "train", chain, "--out", out, "--device", "cpu", "--progress", "none")


def test_the_command_trains_with_two_processes_and_writes_once(tmp_path):
    done = xtl_train(write_chain(tmp_path, batch_size=2), tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"bundle: {tmp_path / 'out' / 'bundle'}"]
    assert "Warning" not in done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"bundle", "chain.json", "metrics.json", "stages"}


def test_a_batch_that_two_processes_cannot_share_is_one_error(tmp_path):
    done = xtl_train(write_chain(tmp_path, batch_size=1), tmp_path / "out")
    errors = [line for line in done.stderr.splitlines() if line.startswith("xtl: error")]
    assert done.returncode != 0 and len(errors) == 1
    assert "a batch of 1 for 2 processes" in errors[0] and not (tmp_path / "out" / "bundle").exists()
