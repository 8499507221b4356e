"""``xtl demo``: the whole chain on generated phantoms, from files to a scene.

Phantoms prove that the machinery works, and nothing medical.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from ..data.datalist import Datalist
from ..errors import InputError, MissingPackageError
from ..files import atomic_folder
from ..progress import Progress
from ..study.demo_arms import (
    ClassificationOutcome,
    SegmentationOutcome,
    TrainedArm,
    classify_unseen,
    segment_unseen,
    train_arm,
)
from ..study.demo_chains import ARMS, FULL, TARGETS, DemoSize, write_chains, write_cohorts
from ..study.demo_report import write_demo_report
from ..study.demo_table import comparison_text
from .demo_scene import write_demo_scene
from .session import import_slicer

# Shares of the whole run: (arm, target) -> its end. XTL first, as it trains the mammogram stage for both targets.
_TRAINING_ENDS = {("XTL", "ms"): 0.42, ("TL", "ms"): 0.64, ("XTL", "prostate"): 0.78, ("TL", "prostate"): 0.92}
_PHANTOMS_END = 0.07
_APPLYING_END = 0.98


@dataclass(frozen=True, eq=False)
class DemoResult:
    """What the demonstration left.

    Attributes
    ----------
    out : the folder: data/, chains/, runs/, bundles/, scene.mrb, report.png, comparison.txt.
    scene, report : the two files to open.
    bundles : "tl-ms", "xtl-ms", "tl-prostate", "xtl-prostate" -> folder.
    dice : arm -> unseen case -> Dice. auc : arm -> AUC over the unseen findings.
    seconds : of the whole run.
    table_text : the comparison, for a terminal.
    """

    out: Path
    scene: Path
    report: Path
    bundles: dict[str, Path]
    dice: dict[str, dict[str, float]]
    auc: dict[str, float]
    seconds: float
    table_text: str


def run_demo(
    out: Path,
    progress: Progress | None = None,
    seed: int = 0,
    device: str = "cpu",
    weights: Path | None = None,
    size: DemoSize = FULL,
) -> DemoResult:
    """Generate phantoms, train TL and XTL for both targets, apply the bundles to unseen phantoms, make a scene.

    Parameters
    ----------
    out : appears whole at the end; an earlier output of XTL is replaced.
    seed : of phantoms and training. device : "auto", "cpu", "cuda" or "cuda:N".
    weights : ImageNet state dict for the backbone; None starts both arms at random.
    size : how much is generated and trained.

    Raises
    ------
    InputError : ``out`` holds other files, or the weights do not fit.
    MissingPackageError : slicer-core or matplotlib is missing; told before anything is trained.
    """
    began = time.monotonic()
    out, progress = Path(out).absolute(), progress or Progress()
    _require_tools()
    if weights is not None and not Path(weights).is_file():
        raise InputError(f"the weights file {weights} does not exist", "Check the path given with --weights")
    with atomic_folder(out) as draft:
        write_cohorts(draft / "data", size, seed, progress.part(0.0, _PHANTOMS_END))
        chains = write_chains(draft / "chains", size, seed, weights)
        trained = _train_all(chains, draft, device, progress)
        applying = progress.part(max(_TRAINING_ENDS.values()), _APPLYING_END)
        segmentation, classification = _apply_all(trained, draft / "data", device, applying)
        progress.report("Scene and report", _APPLYING_END)
        write_demo_scene(draft / "scene.mrb", segmentation, classification)
        mammograms = Datalist.load(draft / "data" / "mammograms" / "datalist.json")
        write_demo_report(draft / "report.png", mammograms, segmentation, classification, weights)
        seconds = time.monotonic() - began
        text = comparison_text(segmentation, classification, weights, out, seconds)
        (draft / "comparison.txt").write_text(text + "\n", encoding="utf-8")
        progress.report("Demonstration complete", 1.0)
    return DemoResult(
        out,
        out / "scene.mrb",
        out / "report.png",
        {arm.bundle.name: out / "bundles" / arm.bundle.name for arm in trained.values()},
        {arm: {e.case: d for e, d in zip(o.entries, o.dice)} for arm, o in segmentation.items()},
        {arm: outcome.auc.auc for arm, outcome in classification.items()},
        seconds,
        text,
    )


def _require_tools() -> None:
    """The packages of the last steps, asked for before minutes are spent on the first ones."""
    import_slicer()
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingPackageError.of("reports", "matplotlib", "scene") from error


def _train_all(
    chains: dict[tuple[str, str], Path], draft: Path, device: str, progress: Progress
) -> dict[tuple[str, str], TrainedArm]:
    trained, start = {}, _PHANTOMS_END
    cache = draft / "cache"
    for (arm, target), end in _TRAINING_ENDS.items():
        part = progress.part(start, end)
        chain = chains[arm, target]
        trained[arm, target] = train_arm(arm, target, chain, draft / "runs", draft / "bundles", cache, device, part)
        start = end
    shutil.rmtree(cache)
    return trained


def _apply_all(
    trained: dict[tuple[str, str], TrainedArm], data: Path, device: str, progress: Progress
) -> tuple[dict[str, SegmentationOutcome], dict[str, ClassificationOutcome]]:
    """arm -> outcome on the unseen phantoms, for both targets."""
    brains, prostates = (Datalist.load(data / name / "datalist.json") for name in ("brain", "prostate"))
    segmentation, classification = {}, {}
    for number, arm in enumerate(ARMS):
        ms, prostate = (trained[arm, target] for target in TARGETS)
        share = progress.part(number / 2, (number + 1) / 2)
        segmentation[arm] = segment_unseen(ms, brains, device, share.part(0.0, 0.7))
        classification[arm] = classify_unseen(prostate, prostates, device, share.part(0.7, 1.0))
    return segmentation, classification
