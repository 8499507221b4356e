"""The benchmarks by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module

from results import Result


@dataclass(frozen=True)
class Benchmark:
    """One benchmark: a file of this folder with ``measure(argv) -> Result``.

    Attributes
    ----------
    name : on the command line. module : the file's name. what : is measured. target : in words.
    """

    name: str
    module: str
    what: str
    target: str

    @property
    def measure(self) -> Callable[[Sequence[str]], Result]:
        """Takes the arguments of the file's command line; ``--quick`` is among them."""
        return import_module(self.module).measure


_ALL = (
    Benchmark(
        "training-step",
        "training_step",
        "samples/s of a fine-tuning step beside a plain MONAI pipeline, and its share of data preparation",
        ">= 1.7x on CPU, never slower on GPU; data preparation <= 5 % of a step",
    ),
    Benchmark(
        "rethreshold",
        "rethreshold",
        "a slider's answer, the hand-over of a result to the scene, and the start-up of XTL Segment",
        "<= 0.15 s on 256^3 with 200 lesions; <= 5 % of the inference; <= 20 ms",
    ),
    Benchmark(
        "adaptation",
        "adaptation",
        "Dice on a new scanner before and after xtl adapt with one corrected case, and its time",
        ">= 50 % of the lost Dice brought back in <= 180 s on 2 cores",
    ),
    Benchmark(
        "segmentation-inference",
        "segmentation_inference",
        "a volume of 181x217x181x3 by an inflated ResNet18 U-Net, beside MONAI, nnU-Net v2 and TorchIO",
        ">= 18x MONAI's defaults and nnU-Net without mirroring; |Dice difference| <= 0.005; <= 2 GB",
    ),
    Benchmark(
        "classification",
        "classification",
        "five findings of a study of 384x384x19: cold, warm, one moved, with evidence maps, by an ensemble",
        "<= 1 s warm, <= 10 s with evidence, <= 3 GiB",
    ),
    Benchmark(
        "start-up",
        "start_up",
        "from Apply to the result in the scene, with a warm worker and from nothing, by parts",
        "<= 1.5 s warm, <= 3.5 s cold",
    ),
    Benchmark(
        "panel-slots",
        "panel_slots",
        "how long each action in a panel keeps the interface waiting, and the set-up of each panel",
        "<= 0.1 s an action, <= 0.5 s a set-up",
    ),
    Benchmark(
        "web-page",
        "web_page",
        "xtl view in a real browser: first view, a slice step, a threshold change, by a volume of 181x217x181",
        "<= 3 s, <= 0.15 s (median), <= 0.5 s on 2 cores",
    ),
    Benchmark(
        "study-overhead",
        "study_overhead",
        "a study of 60 short runs: wall time x processes beside the sum of its trainings",
        "<= 10 % more on 2 cores",
    ),
)
BENCHMARKS: Mapping[str, Benchmark] = {benchmark.name: benchmark for benchmark in _ALL}
