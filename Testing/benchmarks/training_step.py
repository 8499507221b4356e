"""Training throughput: one fine-tuning step of XTL beside a plain MONAI pipeline.

python Testing/benchmarks/training_step.py [--quick] [--out FILE.json] [--backbone resnet18] [--window 96 64]

Both sides train the same network (a U-Net on the inflated backbone, three channels) on batches of the same
shape, with the same random changes of the images, float32 on CPU and bfloat16 on a GPU. Each side is a process
of its own, and rounds of steps alternate between them, so that whatever else the machine does hits all alike:

ours        XTL's engine, started as ``xtl train`` starts: glibc keeps freed pages
monai       MONAI's CacheDataset, dictionary transforms, DataLoader and SupervisedTrainer with their
            defaults, started as a plain user starts Python
monai-kept  the same, started with XTL's allocator settings; says how much of the difference they make
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from results import Result, Row, table_of, write_results
from training_data import write_heads
from training_worker import Settings
from XTLLib.cli import ALLOCATOR

NAME = "training-step"
SIDES = ("ours", "monai", "monai-kept")
CPU_TARGET, GPU_TARGET, PREPARATION_TARGET = 1.7, 1.0, 0.05
_HEAD = (160, 190, 160)


class Side:
    """The process of one side; a context that ends it."""

    def __init__(self, name: str, settings: Settings, folder: Path) -> None:
        self.name = name
        file = folder / f"{name}.json"
        file.write_text(json.dumps(asdict(settings)), encoding="utf-8")
        plain = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(Path(__file__).with_name("training_worker.py")), str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=plain if name == "monai" else {**plain, **ALLOCATOR},
        )
        self.rounds: list[dict[str, Any]] = []

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def answer(self) -> dict[str, Any]:
        """The next JSON line of the process."""
        for line in self._process.stdout:
            if line.startswith("{"):  # libraries print, too
                return json.loads(line)
        raise SystemExit(f"{NAME}: the side {self.name} ended with code {self._process.wait()}")

    def run_round(self) -> None:
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        self.rounds.append(self.answer())

    def seconds(self, figure: str) -> float:
        """Median over all counted steps."""
        return median(value for turn in self.rounds for value in turn[figure])


def compare(
    backbone: str, window: int, batch: int, device: str, steps: int, rounds: int, sides: Sequence[str], workers: int
) -> tuple[list[Row], dict[str, Any]]:
    """Rows and raw figures of one network and window."""
    head = tuple(max(n, window + 12) for n in _HEAD) if window > 32 else (window + 16,) * 3
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        datalist = str(write_heads(folder, head))
        running = []
        for side in sides:
            kind = "ours" if side == "ours" else "monai"
            settings = Settings(kind, datalist, backbone, window, batch, device, steps, workers)
            running.append(stack.enter_context(Side(side, settings, folder)))
        facts = [side.answer() for side in running]  # each has prepared its data and made one step
        if any(other != facts[0] for other in facts):
            raise SystemExit(f"{NAME}: the sides differ: {facts}")
        for _ in range(rounds):
            for side in running:
                side.run_round()
    by_name = {side.name: side for side in running}
    what = f"{backbone}, {batch} windows of {window}^3, {device}"
    details = {"what": what, "facts": facts[0], "rounds": {side.name: side.rounds for side in running}}
    return _rows(what, by_name, batch, device), details


def _rows(what: str, sides: dict[str, Side], batch: int, device: str) -> list[Row]:
    ours = sides["ours"]
    step = ours.seconds("step_s")
    needed = GPU_TARGET if device == "cuda" else CPU_TARGET
    rows = []
    for name, words in (("monai", "plain MONAI"), ("monai-kept", "MONAI with our allocator settings")):
        if name not in sides:
            continue
        theirs = sides[name].seconds("step_s")
        target = f">= {needed:g}x" if name == "monai" else ""
        rows.append(
            Row(
                f"{what}: {words}",
                "samples/s",
                batch / step,
                batch / theirs,
                theirs / step,
                target,
                theirs / step >= needed if target else None,
            )
        )
    target = f"<= {PREPARATION_TARGET:.0%}"
    peer = sides.get("monai")
    for figure, words in (
        ("preparation_s", "CPU time of data preparation in a step"),
        ("waiting_s", "waiting for data in a step"),
    ):
        share = ours.seconds(figure) / step
        theirs = None if peer is None else 100 * peer.seconds(figure) / peer.seconds("step_s")
        rows.append(Row(f"{what}: {words}", "%", 100 * share, theirs, None, target, share <= PREPARATION_TARGET))
    peaks = [None if side is None else max(turn["peak_mib"] for turn in side.rounds) for side in (ours, peer)]
    rows.append(Row(f"{what}: peak memory", "MiB", *peaks))
    return rows


def measure(argv: Sequence[str] | None = None) -> Result:
    """Run what the arguments ask for."""
    arguments = parser().parse_args(argv)
    device = arguments.device
    if device == "auto":
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
    quick = arguments.quick
    backbones = arguments.backbone or (["resnet18"] if quick else ["resnet18", "mobilenet_v2"])
    windows = arguments.window or ([64] if quick else [96, 64])
    rounds, steps = arguments.rounds or (2 if quick else 5), arguments.steps or (2 if quick else 3)
    rows, details = [], []
    for backbone in backbones:
        for window in windows:
            new, raw = compare(
                backbone, window, arguments.batch, device, steps, rounds, arguments.side, arguments.workers
            )
            rows += new
            details.append(raw)
    return Result(NAME, tuple(rows), {"steps": steps, "rounds": rounds, "comparisons": details})


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="resnet18 at 64^3, few steps")
    options.add_argument("--out", type=Path, metavar="FILE.json")
    options.add_argument("--backbone", nargs="+", help="default: resnet18 and mobilenet_v2")
    options.add_argument("--window", nargs="+", type=int, help="sides of the cubes; default: 96 and 64")
    options.add_argument("--batch", type=int, default=2)
    options.add_argument("--steps", type=int, help="counted steps of a round")
    options.add_argument("--rounds", type=int)
    options.add_argument("--side", nargs="+", choices=SIDES, default=SIDES, help="ours always has to be among them")
    options.add_argument("--workers", type=int, default=0, help="of MONAI's DataLoader (its default is 0)")
    options.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    result = measure(argv)
    print(table_of(result.rows))
    out = parser().parse_args(argv).out
    if out is not None:
        write_results([result], out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
