"""From a stage of a chain to what the engine trains: network, data, and how both came about."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..networks.build import Network, convert_network
from ..networks.normalisation import is_folded, recalibrate_batchnorm, set_batchnorm
from ..networks.spec import NetworkSpec
from ..progress import Progress
from ..transfer.chain import Chain
from ..transfer.stages import (
    ClassificationTarget,
    IntermediateClassification,
    IntermediateSegmentation,
    MammogramClassification,
    SegmentationTarget,
    TrainedStage,
)
from .classes import ClassTask
from .mammograms import MammogramTask, RegionTask
from .patches import INTENSITY_STATISTICS, PatchTask, patch_spec_of
from .seeds import derive, torch_seeded
from .volumes import VolumeTask, preparation_of, require_values_for_batchnorm

if TYPE_CHECKING:
    from ..data.datalist import Datalist
    from ..data.patches import PatchSpec
    from ..data.prepare import Preparation
    from ..networks.backbones import Backbone
    from ..networks.conversion import ConversionReport
    from .task import Task

_SMALLEST_VIEW = 96  # pixels in plane to which a patch is enlarged: three positions of a stride-32 stage
_BATCHES_FOR_STATISTICS = 8


@dataclass(frozen=True, eq=False)
class PreparedStage:
    """A stage ready to be trained.

    Attributes
    ----------
    datalist : as it is used: without its test part, with validation patients held out.
    network, spec, conversion : the network, its description, and the report on the transfer step.
    task : data, loss and validation.
    preparation : of cases (segmentation). patches : of findings (classification).
    notes : what a reader of the record has to know.
    """

    datalist: Datalist
    network: Network
    spec: NetworkSpec
    conversion: ConversionReport
    task: Task
    preparation: Preparation | None = None
    patches: PatchSpec | None = None
    notes: tuple[str, ...] = ()


def prepare_stage(
    chain: Chain,
    stage: TrainedStage,
    datalist: Datalist,
    backbone: Backbone,
    *,
    is_learned: bool,
    seed: int,
    progress: Progress,
) -> PreparedStage:
    """Read the stage's data and make its network from the incoming 2D backbone.

    Parameters
    ----------
    chain : says how the backbone becomes volumetric. stage : one of its trained stages.
    datalist : training and validation part; a test part is not looked at.
    is_learned : whether the backbone's weights were learned, rather than drawn at random.
    seed : of the stage.
    """
    datalist, note = hold_out(replace(datalist, test=()), stage.training.validation, seed)
    notes = [note] if note else []
    preparation = patches = None
    if isinstance(stage, MammogramClassification):
        task = (MammogramTask if stage.region is None else RegionTask)(stage, datalist, seed, progress)
        if stage.region is not None:
            notes.append(
                f"regions around marked abnormalities against regions of normal breasts; {task.unmarked} abnormal "
                "films without a mark were left out"
            )
        spec = mammogram_spec(stage, backbone.name)
    elif isinstance(stage, SegmentationTarget | IntermediateSegmentation):
        preparation = preparation_of(stage, datalist)
        task = VolumeTask(stage, preparation, datalist, seed, progress)
        spec = NetworkSpec(
            "segmentation",
            backbone.name,
            in_channels=len(stage.channels),
            conversion=chain.conversion,
            spacing_mm=task.spacing_mm,
            patch_shape=task.window,
        )
        if task.spacings_differ:
            notes.append("the cases differ in voxel spacing and were not resampled: set spacing_mm in the chain")
    else:
        patches = patch_spec_of(stage, datalist)
        task = PatchTask(stage, patches, datalist, seed, progress)
        spec = _patch_network_spec(chain, stage, patches, backbone.name)
    if datalist.validation and not task.can_validate:
        notes.append("too few validation entries of a class to choose a checkpoint by: the last weights were kept")
    network, conversion = make_network(spec, backbone, seed)
    if isinstance(stage, SegmentationTarget | IntermediateSegmentation):
        require_values_for_batchnorm(task.window, network.size_multiple, stage.training.batch_size)
    notes += _settle_batchnorm(network, stage, task, is_learned)
    return PreparedStage(datalist, network, spec, conversion, task, preparation, patches, tuple(notes))


def make_network(spec: NetworkSpec, backbone: Backbone, seed: int) -> tuple[Network, ConversionReport]:
    """The transfer step; the new layers start from the stage's seed, whatever the backbone went through."""
    with torch_seeded(seed, "network"):
        return convert_network(spec, backbone)


def mammogram_spec(stage: MammogramClassification, backbone: str) -> NetworkSpec:
    """The network of an intermediate stage."""
    return NetworkSpec("mammogram-classification", backbone, dropout=stage.dropout)


def hold_out(datalist: Datalist, share: float, seed: int) -> tuple[Datalist, str | None]:
    """The datalist with validation patients, where there are enough, and what to note where there are not."""
    if datalist.validation:
        return datalist, None
    count = len({entry.patient for entry in datalist.training})
    if round(count * share) < 1:
        reason = "validation is 0" if share == 0 else f"{count} training patients are too few to hold one out"
        return datalist, f"no validation ({reason}): the last weights of the whole budget were kept"
    return datalist.hold_out(share, derive(seed, "validation")), None


def calibrate(network: Network, task: ClassTask) -> float:
    """Undo the class balance of the loss in the last layer; return the threshold that it stood for.

    Training with positives weighing w times a negative shifts the logit by log w. Without the shift the
    output is the probability at the training data's share of positives, and the balanced decision that
    was at 0.5 is at 1 / (1 + w). Ranks, and so the AUC, stay.
    """
    with torch.no_grad():
        network.head.linear.bias -= math.log(task.class_weight)
    return 1.0 / (1.0 + task.class_weight)


def _patch_network_spec(
    chain: Chain, stage: ClassificationTarget | IntermediateClassification, patches: PatchSpec, backbone: str
) -> NetworkSpec:
    mean, deviation = INTENSITY_STATISTICS[patches.intensity]
    # Channels may have different extents: depth is planned for the one that shows most detail.
    x, y, z = min(patches.size_mm[name] for name in patches.channels)
    k, j, i = patches.shape
    return NetworkSpec(
        "classification",
        backbone,
        in_channels=len(patches.channels),
        conversion=chain.conversion,
        spacing_mm=(x / i, y / j, z / k),
        patch_shape=patches.shape,
        dropout=stage.dropout,
        input_scale=max(1.0, _SMALLEST_VIEW / min(j, i)),
        input_mean=mean,
        input_sd=deviation,
    )


def _settle_batchnorm(network: Network, stage: TrainedStage, task: Task, is_learned: bool) -> list[str]:
    """Freeze the encoder's statistics or let them learn."""
    policy = stage.training.batchnorm
    if stage.training.encoder_rate == 0:
        policy = "frozen"  # an encoder that is kept as it came keeps its statistics too
    notes = []
    if policy == "train" and is_learned and is_folded(network.backbone):
        recalibrate_batchnorm(network.backbone, _backbone_inputs(network, task))
        notes.append("BatchNorm was folded in the weights and got the statistics of training images first")
    set_batchnorm(network.backbone, policy)
    return notes


def _backbone_inputs(network: Network, task: Task) -> Iterator[Tensor]:
    """What reaches the backbone of the first training batches."""
    seen: list[Tensor] = []
    hook = network.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network.eval()
    try:
        with torch.no_grad():
            for step in range(min(_BATCHES_FOR_STATISTICS, task.steps)):
                network(task.batch(step)[0])
    finally:
        hook.remove()
    return iter(seen)
