"""Interaction: a slider's answer, the hand-over of a result to the scene, and the module's start-up.

python Testing/benchmarks/rethreshold.py [--quick] [--out FILE.json] [--rounds 15]

re-threshold    from a moved slider to the refreshed label map, segment and table, on a map with 200 lesions
hand-over       from a result in memory to its nodes, first and filled again, beside the CPU inference of its volume
import          of XTLSegment.py into a running Slicer, in a process of its own
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import numpy as np
from results import Result, Row, table_of, write_results
from XTLLib.data.case import Case
from XTLLib.data.geometry import Grid
from XTLLib.data.volume import Volume
from XTLLib.inference.lesions import find_lesions
from XTLLib.inference.results import SegmentationResult
from XTLLib.scene.inputs import add_case
from XTLLib.scene.interactive import InteractiveLesions
from XTLLib.scene.segmentation import add_segmentation
from XTLLib.scene.session import new_scene

NAME = "rethreshold"
ANSWER_S, HAND_OVER_SHARE, IMPORT_MS = 0.15, 0.05, 20.0
_TESTING = Path(__file__).resolve().parents[1]
_IMPORT = """
import sys, time
sys.path.insert(0, {testing!r})
import host.boot as boot
boot.start()
import qt, slicer, slicer.ScriptedLoadableModule, slicer.parameterNodeWrapper
began = time.perf_counter()
import XTLSegment
print(1000 * (time.perf_counter() - began))
"""


def lesion_map(shape: tuple[int, int, int], count: int) -> Volume:
    """A probability map with about ``count`` lesions of 3 to 28 mm, most of them small, on a grid of 1 mm."""
    rng = np.random.default_rng(0)
    array = np.zeros(shape, np.float32)
    distance = np.linalg.norm(np.indices((31, 31, 31)) - 15, axis=0)
    for _ in range(round(count * 1.07)):  # some touch and are one
        k, j, i = (rng.integers(20, n - 20) for n in shape)
        part = array[k - 15 : k + 16, j - 15 : j + 16, i - 15 : i + 16]
        radius = rng.choice([1.5, 2, 3, 4, 6, 9, 14], p=[0.2, 0.2, 0.2, 0.2, 0.1, 0.07, 0.03])
        np.maximum(part, 1 / (1 + np.exp(distance - radius)), out=part)
    return Volume(array, Grid(shape, np.diag([-1.0, -1.0, 1.0, 1.0])), "probability")


def result_of(probability: Volume) -> SegmentationResult:
    """The lesions of a map at 0.5 as a result."""
    label, lesions = find_lesions(probability, 0.5)
    case = Case("patient", {"FLAIR": Volume(probability.array, probability.grid, "FLAIR")}, "FLAIR")
    return SegmentationResult(probability, label, lesions, 0.5, case, "bundle")


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def answers(probability: Volume, rounds: int) -> tuple[list[float], int]:
    """Seconds of each answer to a slider that moves, and the number of lesions at 0.5."""
    result = result_of(probability)
    with new_scene() as scene:
        nodes = add_segmentation(result, scene, add_case(result.case, scene).reference)
        parameters = SimpleNamespace(
            threshold=0.5, minimumVolume=0.0, edits="", lesion=0, tissue=None, uncertainty=None,
            segmentation=nodes.segmentation, labelMap=nodes.label, probability=nodes.probability, table=nodes.table,
        )  # fmt: skip
        lesions = InteractiveLesions(lambda: None)
        lesions.attach(parameters)
        taken = []
        for step in range(rounds + 1):  # the first answer reads the map
            parameters.threshold = 0.3 + 0.4 * ((step * 7) % (rounds + 1)) / (rounds + 1)
            parameters.minimumVolume = float(step % 3)
            taken.append(seconds(lesions.refresh))
        lesions.release()
    return taken, len(result.lesions)


def hand_overs(probability: Volume, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of the first hand-over into a scene, and of one that fills the nodes again."""
    first, again = [], []
    for _ in range(rounds):
        with new_scene() as scene:
            result = result_of(probability)
            reference = add_case(result.case, scene).reference
            nodes = []
            first.append(seconds(lambda: nodes.append(add_segmentation(result, scene, reference))))  # noqa: B023
            filled = (nodes[0].label, nodes[0].segmentation, nodes[0].probability, nodes[0].table)
            fresh = result_of(probability)
            again.append(seconds(lambda: add_segmentation(fresh, scene, reference, *filled)))  # noqa: B023
    return first, again


def inferences(shape: tuple[int, int, int], rounds: int) -> list[float]:
    """Seconds of the CPU inference of a whole volume with the inflated ResNet18 U-Net, after a first one."""
    import torch
    from XTLLib.inference.engine import predict_case
    from XTLLib.networks.build import build_network
    from XTLLib.networks.spec import NetworkSpec

    torch.manual_seed(0)
    network = build_network(NetworkSpec("segmentation", "resnet18", 3, "inflate", patch_shape=(96, 96, 96))).eval()
    image = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    foreground = np.zeros(shape, bool)  # a head fills about two thirds of each axis
    foreground[tuple(slice(n // 6, n - n // 6) for n in shape)] = True
    return [seconds(lambda: predict_case(network, image, foreground, device="cpu")) for _ in range(rounds + 1)][1:]


def imports(rounds: int) -> list[float]:
    """Milliseconds of importing the module's file where Slicer runs."""
    script = _IMPORT.format(testing=str(_TESTING))
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    taken = []
    for _ in range(rounds):
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
        )
        taken.append(float(done.stdout.splitlines()[-1]))
    return taken


def measure(argv: Sequence[str] = ()) -> Result:
    """All rows; ``--quick`` takes small maps and few rounds."""
    arguments = _parser().parse_args(argv)
    shape, head, count = ((96,) * 3, (64, 72, 64), 20) if arguments.quick else ((256,) * 3, (181, 217, 181), 200)
    rounds = 3 if arguments.quick else arguments.rounds
    few = max(2, rounds // 3)

    answer, found = answers(lesion_map(shape, count), rounds)
    first, again = hand_overs(lesion_map(head, count // 4), few)
    inference = inferences(head, few)
    start = imports(few)
    middle, share = median(answer[1:]), median(first) / median(inference)
    size = "x".join(map(str, shape))
    rows = (
        Row(f"re-threshold, {size}, {found} lesions", "s", middle, None, None, f"<= {ANSWER_S} s", middle <= ANSWER_S),
        Row("  the first answer, which reads the map", "s", answer[0]),
        Row(
            "hand-over of a result (peer: its inference)",
            "s",
            median(first),
            median(inference),
            1 / share,
            f"<= {HAND_OVER_SHARE:.0%} of the inference",
            share <= HAND_OVER_SHARE,
        ),
        Row("  into nodes that are there", "s", median(again)),
        Row("import XTLSegment", "ms", median(start), None, None, f"<= {IMPORT_MS:g} ms", median(start) <= IMPORT_MS),
    )
    details = {"shape": shape, "lesions": found, "head": head, "answers_s": answer, "first_s": first}
    return Result(NAME, rows, {**details, "again_s": again, "inference_s": inference, "import_ms": start})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    return parser


if __name__ == "__main__":
    result = measure(sys.argv[1:])
    print(table_of(result.rows))
    out = _parser().parse_args(sys.argv[1:]).out
    if out is not None:
        write_results([result], out)
    print(json.dumps({"met": [row.met for row in result.rows]}))
