"""From Apply to the result in the scene: with a warm worker, and from nothing.

python Testing/benchmarks/start_up.py [--quick] [--out FILE.json] [--rounds 5] [--stock]

warm    nodes -> case -> background worker, which has the bundle -> result -> nodes
cold    the same with the worker's process started by it: imports, weights, the network made quick
stock   a fresh process with MONAI's sliding_window_inference, for the same volume

Volume and network are those of segmentation_inference.py. The parts are timed by the worker's own reports.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from results import Result, Row, table_of, write_results
from segmentation_data import CHANNELS, head_case, trained_bundle
from segmentation_inference import COUNTED, KEPT, Side
from segmentation_worker import Settings
from XTLLib.child import ALLOCATOR
from XTLLib.inference.client import InferenceWorker
from XTLLib.scene.inputs import add_case
from XTLLib.scene.nodes import case_from_nodes
from XTLLib.scene.segmentation import add_segmentation
from XTLLib.scene.session import new_scene

NAME = "start-up"
WARM_S, COLD_S = 1.5, 3.5
_POLL_S = 0.005
_HEAVY = ("monai", "SimpleITK", "scipy", "sklearn", "pydantic", "pydicom", "matplotlib", "vtk", "slicer", "yaml")
# What the worker does before its first result, with what it has imported by then.
_IMPORTS = """
import json, sys, time
began = time.perf_counter()
import torch
torch_s = time.perf_counter() - began
import XTLLib.inference.segment, XTLLib.inference.worker
from XTLLib.bundle.load import load_bundle
from XTLLib.inference.engine import fast_network
imported_s = time.perf_counter() - began
bundle = load_bundle({bundle!r})
loaded_s = time.perf_counter() - began
fast_network(bundle.network(), len(bundle.channels), "cpu")
done_s = time.perf_counter() - began
print(json.dumps({{
    "import torch": torch_s, "import XTL": imported_s - torch_s, "load the bundle": loaded_s - imported_s,
    "make the network quick": done_s - loaded_s, "modules": sorted(set({heavy!r}) & set(sys.modules)),
}}))
"""


def apply(worker: InferenceWorker, scene: Any, channels: dict[str, Any], bundle: Path) -> dict[str, float]:
    """One Apply: seconds of each stage, and ``total``, from the input nodes to the output nodes."""
    began = time.perf_counter()
    parts: dict[str, float] = {}
    stage, since = "reading the nodes", began

    def enter(name: str) -> None:
        nonlocal stage, since
        now = time.perf_counter()
        parts[stage] = parts.get(stage, 0.0) + now - since
        stage, since = name, now

    case = case_from_nodes(channels, "FLAIR")
    enter("handing over, starting")
    job = worker.segment(case, bundle)
    while not job.is_done:
        for event in job.poll():
            if event.stage != stage:
                enter(event.stage)
        time.sleep(_POLL_S)
    result = job.result()
    enter("filling the nodes")
    add_segmentation(result, scene, channels["FLAIR"])
    enter("")
    return {**parts, "total": time.perf_counter() - began}


def applies(bundle: Path, case, rounds: int) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Warm and cold ones, in turns."""
    warm, cold = [], []
    for _ in range(rounds):
        with new_scene() as scene:
            nodes = add_case(case, scene)
            channels = {name: nodes.channels[name] for name in CHANNELS}
            worker = InferenceWorker()
            try:
                cold.append(apply(worker, scene, channels, bundle))
                warm.append(apply(worker, scene, channels, bundle))
            finally:
                worker.close()
    return warm, cold


def start_parts(bundle: Path) -> dict[str, Any]:
    """Seconds of what a fresh worker does before its first case, and the heavy modules that it has by then."""
    script = _IMPORTS.format(bundle=str(bundle), heavy=_HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={**os.environ, **ALLOCATOR}
    )
    return json.loads(done.stdout.splitlines()[-1])


def stock(settings: Settings) -> float:
    """Seconds of a fresh process that segments the volume with MONAI's defaults."""
    began = time.perf_counter()
    with Side(settings, allocator=False) as side:
        side.answer()
        side.run(KEPT)
    return time.perf_counter() - began


def measure(argv: Sequence[str] = ()) -> Result:
    """Parse a command line, measure."""
    arguments = _arguments(argv)
    quick = arguments.quick
    settings = Settings((KEPT,), shape=(60, 72, 60), spacing_mm=3.0, window=32, steps=0) if quick else Settings((KEPT,))
    case = head_case(shape=settings.shape, spacing_mm=settings.spacing_mm)
    bundle = trained_bundle() if settings.steps is None else trained_bundle(settings.steps)
    rounds = arguments.rounds or (1 if quick else 5)
    warm, cold = applies(bundle, case, rounds)
    begun = [start_parts(bundle) for _ in range(min(rounds, COUNTED))]
    rows = [
        *_rows("Apply to scene, warm", warm, None if quick else WARM_S),
        *_rows("Apply to scene, cold", cold, None if quick else COLD_S),
    ]
    rows += [
        Row(f"a fresh worker: {part}", "s", median(run[part] for run in begun))
        for part in begun[0]
        if part != "modules"
    ]
    details = {"warm": warm, "cold": cold, "begun": begun}
    if arguments.stock:
        seconds = median(stock(settings) for _ in range(min(rounds, COUNTED)))
        ours = rows[len(warm[0])].ours
        rows.append(Row("stock MONAI process, beside cold", "s", ours, seconds, seconds / ours))
    return Result(NAME, tuple(rows), details)


def _rows(what: str, runs: list[dict[str, float]], limit: float | None) -> list[Row]:
    total = median(run["total"] for run in runs)
    target = "" if limit is None else f"<= {limit} s"
    rows = [Row(what, "s", total, target=target, met=None if limit is None else total <= limit)]
    for part in runs[0]:
        if part != "total":
            rows.append(Row(f"  {part}", "s", median(run.get(part, 0.0) for run in runs)))
    return rows


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small head, an untrained network, one round")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    parser.add_argument("--rounds", type=int, help="default 5")
    parser.add_argument("--stock", action="store_true", help="a stock MONAI process, too")
    return parser.parse_args(argv)


def main() -> int:
    result = measure(sys.argv[1:])
    print(table_of(result.rows))
    out = _arguments(sys.argv[1:]).out
    if out is not None:
        write_results([result], out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
