"""Segmentation of a volume: XTL beside MONAI, nnU-Net v2 and TorchIO, with the same trained network.

python Testing/benchmarks/segmentation_inference.py [--quick] [--out FILE.json] [--rounds 4] [--mirroring] [--large]

A phantom head of 181 x 217 x 181 voxels and three channels, prepared once; from the prepared array to the
probability. Methods take turns within a round, whatever else the machine does hits all alike, and what counts
is the median of each over the last three rounds. They run in two processes, of which one rests while the other works:

as users have it    peers, in a Python that was started without allocator settings
as the worker       ours, with the allocator settings that XTL starts its processes with; MONAI's defaults there,
                    too, which says how much of the difference is theirs
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from results import Result, Row, table_of, write_results
from segmentation_worker import Settings
from XTLLib.child import ALLOCATOR

NAME = "segmentation-inference"
SPEED_TARGET, GPU_TARGET, DICE_TARGET, PEAK_MIB, LARGE_MIB = 18.0, 3.0, 0.005, 2048.0, 8192.0
COUNTED = 3  # rounds
PEERS = ("MONAI defaults", "MONAI overlap 0.5 gaussian", "TorchIO", "nnU-Net v2 without mirroring")
OURS = ("ours", "ours float32", "ours OpenVINO bfloat16", "ours OpenVINO float32")
MIRRORED = ("nnU-Net v2 mirrored", "ours mirrored")
_LARGE = (300, 512, 512)
KEPT = "MONAI defaults"  # runs on both sides


class Side:
    """A process of methods; a context that ends it."""

    def __init__(self, settings: Settings, allocator: bool) -> None:
        plain = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
        self.runs: dict[str, list[dict[str, float]]] = {}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(Path(__file__).with_name("segmentation_worker.py")), _json(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**plain, **ALLOCATOR} if allocator else plain,
        )

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def answer(self) -> dict[str, Any]:
        """The next JSON line of the process."""
        for line in self._process.stdout:
            if line.startswith("{"):  # libraries print, too
                return json.loads(line)
        raise SystemExit(f"{NAME}: a process ended with code {self._process.wait()}")

    def run(self, method: str) -> None:
        """Run a method once."""
        self._process.stdin.write(method + "\n")
        self._process.stdin.flush()
        self.runs.setdefault(method, []).append(self.answer())

    def figures(self, method: str) -> dict[str, float]:
        """Seconds (median of the counted rounds) and Dice of a method."""
        counted = self.runs[method][-COUNTED:]
        return {"s": median(run["s"] for run in counted), "dice": counted[-1]["dice"]}


def compare(settings: Settings, rounds: int, peers: Sequence[str], ours: Sequence[str]) -> dict[str, Any]:
    """Run all methods in turns. ``details`` : of the result."""
    with ExitStack() as stack:
        users = stack.enter_context(Side(_with(settings, peers), allocator=False))
        ready = users.answer()  # one after the other: the first one may have to train the network
        worker = stack.enter_context(Side(_with(settings, (*ours, KEPT)), allocator=True))
        ours_ready = worker.answer()
        turns = [(users, name) for name in ready["ready"]] + [(worker, name) for name in ours_ready["ready"]]
        for number in range(rounds):
            for side, name in turns:
                print(f"round {number + 1} of {rounds}: {name} ...", file=sys.stderr)
                side.run(name)
        return {
            "users": {name: users.figures(name) for name in ready["ready"]},
            "worker": {name: worker.figures(name) for name in ours_ready["ready"]},
            "missing": ready["missing"] + ours_ready["missing"],
            "foreground": ready["foreground"],
            "runs": {"users": users.runs, "worker": worker.runs},
        }


def alone(settings: Settings) -> dict[str, float]:
    """One cold run of ours in a process of its own: seconds, Dice, peak memory."""
    with Side(_with(settings, ("ours",)), allocator=True) as side:
        side.answer()
        side.run("ours")
        return side.runs["ours"][-1]


def rows_of(found: dict[str, Any], target: float) -> list[Row]:
    """A row for each method beside ours; ``target`` is the ratio that some have to reach, 0 for none."""
    ours = found["worker"]["ours"]
    rows = []
    for name, figures in found["users"].items():
        mirrored = "mirrored" in name
        own = found["worker"]["ours mirrored"] if mirrored else ours
        counts = name in (KEPT, "nnU-Net v2 without mirroring", "nnU-Net v2 mirrored")
        rows.append(_speed(f"{name}{' (ours mirrored, too)' if mirrored else ''}", own, figures, target * counts))
    rows.append(_speed(f"{KEPT}, with only the allocator settings", ours, found["worker"][KEPT], 0))
    reference = found["users"][KEPT]
    for name, figures in found["worker"].items():
        if name.startswith("ours "):
            rows.append(_speed(f"{KEPT}, beside {name}", figures, reference, 0))
    for name, figures in {**found["users"], **found["worker"]}.items():
        rows.append(Row(f"Dice, {name}", "", figures["dice"]))
    difference = abs(ours["dice"] - reference["dice"])
    rows.append(Row("Dice difference to MONAI", "", difference, target="<= 0.005", met=difference <= DICE_TARGET))
    return rows


def measure(argv: Sequence[str]) -> Result:
    """Parse a command line, measure, compare."""
    arguments = _arguments(argv)
    settings = Settings((), arguments.device)
    rounds = arguments.rounds or COUNTED + 1
    peers, ours = PEERS, OURS
    if arguments.quick:
        settings = Settings((), arguments.device, (60, 72, 60), 3.0, 32, 32, 0)
        rounds, peers, ours = arguments.rounds or 1, (KEPT,), ("ours",)
    if arguments.methods:
        peers = tuple(name for name in PEERS if name == KEPT or name in arguments.methods)
        ours = tuple(name for name in OURS if name == "ours" or name in arguments.methods)
    if arguments.mirroring:
        peers, ours = (*peers, MIRRORED[0]), (*ours, MIRRORED[1])
    found = compare(settings, rounds, peers, ours)
    target = SPEED_TARGET if arguments.device == "cpu" else GPU_TARGET
    rows = rows_of(found, 0 if arguments.quick else target)
    if arguments.device == "cpu" and not arguments.quick:
        found["alone"] = single = alone(settings)
        rows.append(_peak("peak memory of ours, in a process of its own", single, PEAK_MIB))
    if arguments.large:
        large = alone(Settings((), arguments.device, stretched_to=_LARGE))
        rows.append(Row("512 x 512 x 300 voxels, ours, the first time", "s", large["s"]))
        rows.append(_peak("its peak memory", large, LARGE_MIB))
        found["large"] = large
    if arguments.device == "cuda":
        from segmentation_gpu import bound_share

        share = bound_share(settings)
        rows.append(Row("GPU: share of the bfloat16 compute bound", "", share, target=">= 0.4", met=share >= 0.4))
    if found["missing"]:
        print(f"not installed, and so left out: {', '.join(found['missing'])}", file=sys.stderr)
    return Result(NAME, tuple(rows), {"settings": asdict(settings), **found})


def _speed(what: str, ours: dict[str, float], peer: dict[str, float], target: float) -> Row:
    ratio = peer["s"] / ours["s"]
    words, met = (f">= {target:g}x", ratio >= target) if target else ("", None)
    return Row(what, "s", ours["s"], peer["s"], ratio, words, met)


def _peak(what: str, run: dict[str, float], limit: float) -> Row:
    return Row(what, "MiB", run["peak_mib"], target=f"<= {limit:.0f} MiB", met=run["peak_mib"] <= limit)


def _with(settings: Settings, methods: Sequence[str]) -> Settings:
    return Settings(**{**asdict(settings), "methods": tuple(methods)})


def _json(settings: Settings) -> str:
    return json.dumps(asdict(settings))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small head, an untrained network, one peer, one round")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    parser.add_argument("--rounds", type=int, help=f"default {COUNTED + 1}; the last {COUNTED} count")
    parser.add_argument(
        "--methods", nargs="*", choices=[*PEERS, *OURS], metavar="NAME", help=f"only these, {KEPT} and ours"
    )
    parser.add_argument("--mirroring", action="store_true", help="mirrored views, too; takes eight times as long")
    parser.add_argument("--large", action="store_true", help="a volume of 512 x 512 x 300 voxels, too")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    result = measure(sys.argv[1:] if argv is None else argv)
    print(table_of(result.rows))
    if _arguments(argv).out is not None:
        write_results([result], _arguments(argv).out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
