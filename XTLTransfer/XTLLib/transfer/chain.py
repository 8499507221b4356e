"""A chain: the ordered stages that a set of weights goes through, as one YAML file describes them.

One *initialisation* stage, zero or more *intermediate* stages on mammograms, one *target* stage. XTL is
the whole chain, TL is the same chain without its intermediate stages. Every default here is a project
choice: the papers that compare TL with XTL do not publish theirs.

Shapes are counted as arrays are, (K, J, I): slices, rows, columns on the working grid, whose axes run
closest to S, P, L. Spacings and extents are (x, y, z) in mm along L, P, S.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from .yaml_model import StrictModel, load_model, validate_model

BackboneName = Literal["mobilenet_v2", "squeezenet1_0", "resnet18", "resnet50", "densenet121", "vgg16_bn"]
Shape = tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
Millimetres = tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]

_PATH_KEYS: Mapping[str, tuple[str, ...]] = {"datalist": (), "weights": ("imagenet", "random")}


def _require_unique(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError(f"a channel is named twice in {', '.join(names)}")
    return names


Channels = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_require_unique)]


class Training(StrictModel):
    """How one stage is trained; the subclasses add the budget and set the defaults of their task.

    Attributes
    ----------
    batch_size : images, patches or windows of one step.
    learning_rate : peak of the one-cycle schedule for the new layers.
    encoder_rate : the encoder's learning rate as a share of ``learning_rate``; 0 keeps the encoder as it came.
    weight_decay : of AdamW, on convolution and linear weights only.
    validation : share of the training patients held out to choose the best checkpoint, where the datalist
        names no validation patients; 0 trains for the whole budget and keeps the last weights.
    batchnorm : the encoder's BatchNorm statistics; ``train`` lets them follow the new images, in every arm
        alike (folded ones get the statistics of the first images, without changing the function), ``frozen``
        keeps those that came with the weights.
    augmentation : random changes of the training images.
    """

    batch_size: int = Field(16, ge=1)
    learning_rate: float = Field(1e-3, gt=0, le=1)
    encoder_rate: float = Field(0.3, ge=0, le=1)
    weight_decay: float = Field(1e-2, ge=0, le=1)
    validation: float = Field(0.2, ge=0, lt=1)
    batchnorm: Literal["frozen", "train"] = "train"
    augmentation: bool = True


class MammogramTraining(Training):
    """Budget in passes over the mammograms."""

    epochs: int = Field(30, ge=1)


class WindowTraining(Training):
    """Budget in steps: windows are drawn without end."""

    steps: int = Field(400, ge=1)
    batch_size: int = Field(4, ge=1)
    learning_rate: float = Field(3e-3, gt=0, le=1)


class PatchTraining(Training):
    """Budget in passes over the findings."""

    epochs: int = Field(30, ge=1)


class Initialisation(StrictModel):
    """Where the backbone's weights come from.

    Attributes
    ----------
    weights : path of a state dict with torchvision key names, ``imagenet`` (downloaded once, checked by
        SHA-256) or ``random``.
    sha256 : expected hash of the file.
    """

    kind: Literal["initialisation"]
    weights: str
    sha256: str | None = Field(None, pattern="^[0-9a-fA-F]{8,64}$")


class Intermediate(StrictModel):
    """A stage on mammograms: the 2D backbone with a classification head.

    Attributes
    ----------
    datalist : path of a datalist whose task is mammogram classification.
    image_size : pixels to which the longer side of the breast is brought.
    region : side in pixels of the square regions that the network sees: around marked abnormalities, and
        in normal breasts. null shows whole breasts.
    """

    kind: Literal["intermediate"]
    task: Literal["mammogram-classification"]
    datalist: str
    image_size: int = Field(256, ge=32, le=4096, multiple_of=32)
    region: int | None = Field(None, ge=32, multiple_of=32)
    dropout: float = Field(0.2, ge=0, lt=1)
    training: MammogramTraining = MammogramTraining()

    @field_validator("region")
    @classmethod
    def _region_fits(cls, region: int | None, info: ValidationInfo) -> int | None:
        size = info.data.get("image_size")
        if region is not None and size is not None and region > size:
            raise ValueError(f"a region of {region} pixels in an image of {size}")
        return region


class SegmentationTarget(StrictModel):
    """The stage that learns to segment lesions in volumes.

    Attributes
    ----------
    channels : the network's input channels in order.
    conversion : rule that makes the backbone volumetric.
    spacing_mm : working spacing along L, P, S; null keeps that of the images.
    window : voxels (K, J, I) of a training window, and of inference.
    threshold : probability from which a voxel is lesion; null chooses it on validation patients, and is 0.5
        where there are none.
    minimum_volume_mm3 : smaller lesions are left out of results.
    """

    kind: Literal["target"]
    task: Literal["segmentation"]
    datalist: str
    channels: Channels
    conversion: Literal["inflate"] = "inflate"
    spacing_mm: Millimetres | None = None
    window: Shape = (48, 48, 48)
    threshold: float | None = Field(None, gt=0, lt=1)
    minimum_volume_mm3: float = Field(3.0, ge=0)
    training: WindowTraining = WindowTraining()


class Patch(StrictModel):
    """The box of every channel around a finding.

    Attributes
    ----------
    shape : voxels (K, J, I), the same for every channel.
    size_mm : channel -> extents (x, y, z) along L, P, S.
    intensity : ``rank`` (share of the volume's voxels up to this value) or ``robust`` (foreground z-score).
    """

    shape: Shape = (1, 32, 32)
    size_mm: dict[str, Millimetres] = {}
    intensity: Literal["rank", "robust"] = "rank"


class ClassificationTarget(StrictModel):
    """The stage that learns to rate prostate findings from patches.

    Attributes
    ----------
    channels, conversion : as in SegmentationTarget.
    patch : the box around a finding; channels it does not name keep the default extents.
    """

    kind: Literal["target"]
    task: Literal["classification"]
    datalist: str
    channels: Channels
    conversion: Literal["inflate"] = "inflate"
    patch: Patch = Patch()
    dropout: float = Field(0.2, ge=0, lt=1)
    training: PatchTraining = PatchTraining()


Target = Annotated[SegmentationTarget | ClassificationTarget, Field(discriminator="task")]
Stage = Annotated[Initialisation | Intermediate | Target, Field(discriminator="kind")]
TrainedStage = Intermediate | SegmentationTarget | ClassificationTarget


class Chain(StrictModel):
    """Attributes: ``name``; ``seed`` of everything random; ``backbone``; ``stages`` in order."""

    name: str = Field(min_length=1, pattern=r"^[\w.-]+$")
    seed: int = Field(0, ge=0)
    backbone: BackboneName = "mobilenet_v2"
    stages: tuple[Stage, ...]

    @field_validator("stages")
    @classmethod
    def _check_order(cls, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        kinds = [stage.kind for stage in stages]
        middle = kinds[1:-1]
        if kinds[:1] != ["initialisation"] or kinds[-1:] != ["target"] or set(middle) - {"intermediate"}:
            raise ValueError(
                f"the stages are {', '.join(kinds) or 'none'}; a chain is one initialisation, "
                "any number of intermediate stages, then one target"
            )
        return stages

    @property
    def initialisation(self) -> Initialisation:
        return self.stages[0]

    @property
    def intermediates(self) -> tuple[Intermediate, ...]:
        return self.stages[1:-1]

    @property
    def target(self) -> SegmentationTarget | ClassificationTarget:
        return self.stages[-1]

    def without_intermediate(self) -> Chain:
        """The TL chain to this XTL chain: the same seed, initialisation and target, no mammograms."""
        name = self.name[1:] if self.name.lower().startswith("xtl") else f"{self.name}-tl"
        return self.model_copy(update={"name": name, "stages": (self.stages[0], self.stages[-1])})


def load_chain(path: str | os.PathLike) -> Chain:
    """Read a chain file. Paths in it are relative to it; ``~`` and environment variables are expanded.

    Raises InputError that names file, line and key.
    """
    return load_model(Path(path), Chain, _PATH_KEYS)


def chain_from_dict(values: Mapping[str, Any], source: str = "the chain") -> Chain:
    """A chain from a form or a program; its paths are taken as they are. Raises InputError naming the key."""
    return validate_model(values, Chain, source)
