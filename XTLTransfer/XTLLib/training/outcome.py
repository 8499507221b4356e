"""What a target stage leaves, and the bundle that it becomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..bundle.write import write_bundle
from ..transfer.provenance import ChainRecord, StageRecord
from ..transfer.stages import FROZEN_RANDOM, IMAGENET, RANDOM, TrainedStage

if TYPE_CHECKING:
    from ..bundle.calibration import Calibration
    from ..data.datalist import Datalist
    from ..data.patches import PatchSpec
    from ..data.prepare import Preparation
    from ..networks.build import Network
    from ..networks.spec import NetworkSpec
    from ..transfer.chain import Chain

_TITLES = {
    "mammogram-classification": "Mammogram classification",
    "mammogram-segmentation": "Mammogram segmentation",
    "segmentation": "MS segmentation",
    "classification": "Prostate classification",
}
_STARTS = {RANDOM: "random weights", FROZEN_RANDOM: "random weights, kept", IMAGENET: "ImageNet weights"}


@dataclass(frozen=True, eq=False)
class Outcome:
    """A trained target stage.

    Attributes
    ----------
    networks : on CPU; several of an ensemble. spec : of each.
    threshold, minimum_volume_mm3 : how results are cut.
    preparation : of cases (segmentation). patches : of findings (classification).
    calibration : of a classification; None where there were no findings to fit it on.
    """

    networks: tuple[Network, ...]
    spec: NetworkSpec
    threshold: float
    minimum_volume_mm3: float = 0.0
    preparation: Preparation | None = None
    patches: PatchSpec | None = None
    calibration: Calibration | None = None


def write_outcome(
    out: Path, chain: Chain, datalists: Sequence[Datalist], records: Sequence[StageRecord], outcome: Outcome
) -> None:
    """Write the bundle of a chain; ``datalists`` are those of its trained stages, in order."""
    stage, weights = chain.target, chain.initialisation.weights
    steps = [_STARTS.get(weights, f"weights of {without_folders(weights)}")]
    for earlier, datalist in zip(chain.intermediates, datalists):
        steps.append(f"{title_of(earlier).lower()} on {datalist.name}")
    steps.append(f"{', '.join(stage.channels)} of {datalists[-1].name}")
    first, *members = outcome.networks
    write_bundle(
        out,
        first,
        outcome.spec,
        stage.task,
        outcome.preparation,
        outcome.patches,
        {"threshold": outcome.threshold, "minimum_volume_mm3": outcome.minimum_volume_mm3},
        ChainRecord.of(chain, records).to_dict(),
        chain.name,
        f"{title_of(stage)} on {chain.backbone}: {', then '.join(steps)}",
        members=members,
        calibration=outcome.calibration,
    )


def title_of(stage: TrainedStage) -> str:
    """A stage in a few words, for people."""
    if stage.task == "self-supervised":
        return f"Self-supervision on {stage.images} ({stage.method})"
    return _TITLES[stage.task]


def without_folders(source: str) -> str:
    """The name of a weights file; an address stays whole."""
    return source if "://" in source else source.replace("\\", "/").rpartition("/")[2]
