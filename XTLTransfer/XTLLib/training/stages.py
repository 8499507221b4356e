"""From a stage of a chain to what the engine trains: network, data, and how both came about."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..data.prepare import Preparation
from ..networks.build import Network, convert_network
from ..networks.normalisation import is_folded, recalibrate_batchnorm, set_batchnorm
from ..networks.spec import NetworkSpec
from ..progress import Progress
from ..transfer.chain import Chain
from ..transfer.stages import (
    FROZEN_RANDOM,
    IntermediateSegmentation,
    MammogramClassification,
    MammogramSegmentation,
    SegmentationTarget,
    SelfSupervised,
    TrainedStage,
)
from .carried_decoder import carry_decoder
from .classes import ClassTask
from .fitness import require_depth
from .mammogram_segmentation import MammogramSegmentationTask
from .mammograms import FilmImages, MammogramTask, RegionTask
from .patches import PatchTask, patch_spec_of
from .seeds import derive, torch_seeded
from .self_supervised import ContrastiveTask, MaskedTask
from .slices import SliceImages
from .specs import flat_spec, mammogram_spec, patch_network_spec, window_spec
from .statistics import refresh_statistics
from .volumes import VolumeTask, preparation_of, require_values_for_batchnorm
from .window_images import WindowImages

if TYPE_CHECKING:
    from ..data.datalist import Datalist
    from ..data.patches import PatchSpec
    from ..networks.backbones import Backbone
    from ..networks.conversion import ConversionReport
    from ..transfer.training import Training
    from .task import Task

_BATCHES_FOR_STATISTICS = 8
_KEPT_ENCODER = {  # what the control with a frozen random encoder changes in the training of a stage
    "encoder_rate": 0.0,
    "discriminative": None,
    "frozen": (),
    "unfreeze": (),
    "peft": "none",
    "l2sp": 0.0,
}
_NOT_RESAMPLED = "the cases differ in voxel spacing and were not resampled: set spacing_mm in the chain"


@dataclass(frozen=True, eq=False)
class PreparedStage:
    """A stage ready to be trained.

    Attributes
    ----------
    datalist : as it is used: without its test part, with validation patients held out.
    network, spec, conversion : the network, its description, and the report on the transfer step.
    task : data, loss and validation. training : how to train, as the stage says or a control demands.
    preparation : of cases (segmentation). patches : of findings (classification).
    notes : what a reader of the record has to know.
    """

    datalist: Datalist
    network: Network
    spec: NetworkSpec
    conversion: ConversionReport
    task: Task
    training: Training
    preparation: Preparation | None = None
    patches: PatchSpec | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Data:
    """A stage's task, and what of it the network has to fit."""

    task: Task
    spec: NetworkSpec
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
    decoder: Mapping[str, Tensor] | None = None,
) -> PreparedStage:
    """Read the stage's data and make its network from the incoming backbone, 2D or volumetric.

    Parameters
    ----------
    chain : says how the backbone becomes volumetric. stage : one of its trained stages.
    datalist : training and validation part; a test part is not looked at.
    is_learned : whether the backbone's weights were learned, rather than drawn at random.
    seed : of the stage.
    decoder : weights of the decoder of the stage before, for a stage that carries it on.
    """
    datalist, note = hold_out(replace(datalist, test=()), stage.training.validation, seed)
    notes = [note] if note else []
    data = _data_of(chain, stage, datalist, seed, progress)
    notes += data.notes
    if datalist.validation and not data.task.can_validate:
        notes.append("too few validation entries (of a class) to choose a checkpoint by: the last weights are kept")
    network, conversion = make_network(data.spec, backbone, seed)
    if not stage.is_volumetric:
        conversion = replace(conversion, rule="none", depth_kernels=(), depth_strides=())
    if getattr(stage, "decoder", "new") == "carried" and decoder is not None:
        carry_decoder(network.decoder, decoder, chain.input_channels)
        carried = sum(parameter.numel() for parameter in network.decoder.parameters()) / conversion.parameters
        conversion = replace(conversion, carried_share=conversion.carried_share + carried)
    _require_statistics(data.spec, network, stage)
    training = stage.training
    if chain.initialisation.weights == FROZEN_RANDOM:
        training = training.model_copy(update=_KEPT_ENCODER)
        refresh_statistics(network.backbone, _backbone_inputs(network, data.task))
        notes.append("control: the encoder keeps its random weights; its BatchNorm has the statistics of real images")
    notes += _settle_batchnorm(network, training, data.task, is_learned)
    return PreparedStage(
        datalist, network, data.spec, conversion, data.task, training, data.preparation, data.patches, tuple(notes)
    )


def make_network(spec: NetworkSpec, backbone: Backbone, seed: int) -> tuple[Network, ConversionReport]:
    """The transfer step; the new layers start from the stage's seed, whatever the backbone went through."""
    with torch_seeded(seed, "network"):
        return convert_network(spec, backbone)


def hold_out(datalist: Datalist, share: float, seed: int) -> tuple[Datalist, str | None]:
    """The datalist with validation patients, where there are enough, and what to note where there are not."""
    if datalist.validation:
        return datalist, None
    count = len({entry.patient for entry in datalist.training})
    if round(count * share) < 1:
        reason = "validation is 0" if share == 0 else f"{count} training patients are too few to hold one out"
        return datalist, f"no validation ({reason}): the last weights of the whole budget are kept"
    return datalist.hold_out(share, derive(seed, "validation")), None


def calibrate(network: Network, task: ClassTask) -> float:
    """Undo the class balance of the training in the last layer; return the threshold that it stood for.

    Training with positives weighing w times a negative shifts the logit by log w. Without the shift the
    output is the probability at the training data's share of positives, and the balanced decision that
    was at 0.5 is at 1 / (1 + w). Ranks, and so the AUC, stay.
    """
    with torch.no_grad():
        network.head.linear.bias -= math.log(task.class_weight)
    return 1.0 / (1.0 + task.class_weight)


def _data_of(chain: Chain, stage: TrainedStage, datalist: Datalist, seed: int, progress: Progress) -> _Data:
    if isinstance(stage, MammogramClassification):
        if stage.region is None:
            task = MammogramTask(stage, datalist, seed, progress)
            return _Data(task, mammogram_spec(stage, chain.backbone, task.out_channels))
        task = RegionTask(stage, datalist, seed, progress)
        note = (
            f"regions around marked abnormalities against regions of normal breasts; {task.unmarked} abnormal "
            "films without a mark were left out"
        )
        return _Data(task, mammogram_spec(stage, chain.backbone), notes=(note,))
    if isinstance(stage, MammogramSegmentation):
        task = MammogramSegmentationTask(stage, datalist, seed, progress)
        return _Data(task, flat_spec("segmentation", chain.backbone, task.shape[-1], stage.dropout))
    if isinstance(stage, SelfSupervised):
        return _self_supervised(chain, stage, datalist, seed, progress)
    if isinstance(stage, SegmentationTarget | IntermediateSegmentation):
        preparation = preparation_of(
            stage.channels,
            stage.spacing_mm,
            datalist,
            channel_dropout=stage.training.channel_dropout,
            bias_correction=stage.bias_correction,
        )
        task = VolumeTask(stage, preparation, datalist, seed, progress)
        require_depth(chain, f"the cases of the datalist {datalist.name} have", task.window[0])
        spec = window_spec(chain, stage, len(stage.channels), task.spacing_mm, task.window)
        return _Data(task, spec, preparation, notes=(_NOT_RESAMPLED,) if task.spacings_differ else ())
    patches = patch_spec_of(stage, datalist)
    task = PatchTask(stage, patches, datalist, seed, progress)
    return _Data(task, patch_network_spec(chain, stage, patches), patches=patches)


def _self_supervised(chain: Chain, stage: SelfSupervised, datalist: Datalist, seed: int, progress: Progress) -> _Data:
    make_task = MaskedTask if stage.method == "masked" else ContrastiveTask
    notes = ()
    if stage.images == "mammograms":
        images = FilmImages(stage, datalist, seed, progress)
    else:
        preparation = preparation_of(stage.channels or datalist.channels, stage.spacing_mm, datalist)
        kind = SliceImages if stage.images == "slices" else WindowImages
        images = kind(stage, preparation, datalist, seed, progress)
    if stage.images == "volumes":
        require_depth(chain, f"the cases of the datalist {datalist.name} have", images.shape[0])
        spec = window_spec(chain, stage, images.channels, images.spacing_mm, images.shape)
        notes = (_NOT_RESAMPLED,) if images.spacings_differ else ()
    else:
        kind = "reconstruction" if stage.method == "masked" else "projection"
        spec = flat_spec(kind, chain.backbone, stage.image_size)
    return _Data(make_task(stage, images, seed), spec, notes=notes)


def _require_statistics(spec: NetworkSpec, network: Network, stage: TrainedStage) -> None:
    """Windows and images of networks with a decoder: enough values for BatchNorm at the deepest level."""
    if spec.patch_shape is not None and spec.kind in ("segmentation", "reconstruction"):
        require_values_for_batchnorm(spec.patch_shape, network.size_multiple, stage.training.batch_size)


def _settle_batchnorm(network: Network, training: Training, task: Task, is_learned: bool) -> list[str]:
    """Freeze the encoder's statistics or let them learn."""
    policy = training.batchnorm
    if training.encoder_rate == 0 or training.peft == "linear-probe":
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
