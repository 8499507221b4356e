"""A chain: the ordered stages that a set of weights goes through, as one YAML file describes them.

One *initialisation* stage, any number of *intermediate* stages, one *target* stage. 2D stages come first;
at the first volumetric stage the backbone is converted, once for the whole chain. XTL is a chain with a
mammogram stage, TL is the same chain without its intermediate stages. Every default here is a project
choice: the papers that compare TL with XTL do not publish theirs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from .stages import (
    FROZEN_RANDOM,
    IMAGENET,
    RANDOM,
    ClassificationTarget,
    Initialisation,
    IntermediateStage,
    SegmentationTarget,
    Stage,
    TrainedStage,
)
from .yaml_model import StrictModel, load_model, validate_model

BackboneName = Literal["mobilenet_v2", "squeezenet1_0", "resnet18", "resnet50", "densenet121", "vgg16_bn"]
ConversionRule = Literal["inflate", "centre-slice", "acs", "soft-acs", "mean-acs", "slice-stack", "slice-encoder"]

_PATH_KEYS: Mapping[str, tuple[str, ...]] = {"datalist": (), "weights": (IMAGENET, RANDOM, FROZEN_RANDOM)}


class Chain(StrictModel):
    """A chain of stages.

    Attributes
    ----------
    name : of the chain and of its bundle. seed : of everything random. backbone : the network that travels.
    conversion : the rule that makes the backbone volumetric, at the first volumetric stage: ``inflate``,
        ``centre-slice``, ``acs``, ``soft-acs``, ``mean-acs``, ``slice-stack`` (2.5D: the first convolution sees
        neighbouring slices) or ``slice-encoder`` (every convolution sees one slice).
    input_channels : how the kernels of RGB become those of the target's channels. ``mean``: equal channels
        together give the response to the grey image; ``sum``: each channel alone gives it; ``repeat``: R, G, B,
        R, ... rescaled by 3 over the number of channels.
    slice_pooling : how a classification with ``slice-encoder`` pools over slices.
    stages : in order.
    """

    name: str = Field(min_length=1, pattern=r"^[\w.-]+$")
    seed: int = Field(0, ge=0)
    backbone: BackboneName = "mobilenet_v2"
    conversion: ConversionRule = "inflate"
    input_channels: Literal["mean", "sum", "repeat"] = "mean"
    slice_pooling: Literal["mean", "max", "attention"] = "mean"
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
        first = next(number for number, stage in enumerate(stages) if number and stage.is_volumetric)
        for number, stage in enumerate(stages[1:-1], 1):
            if number > first and not stage.is_volumetric:
                raise ValueError(
                    f"stage {number} ({stage.task}) is 2D, but the backbone became volumetric in stage {first} "
                    f"({stages[first].task}); put 2D stages before volumetric ones"
                )
        for number, stage in enumerate(stages):
            carries = getattr(stage, "decoder", "new") == "carried"
            if carries and getattr(stages[number - 1], "task", None) != "segmentation":
                raise ValueError(
                    f"stage {number} takes its decoder from the stage before, which is no segmentation of volumes; "
                    "set decoder to new"
                )
        return stages

    @model_validator(mode="after")
    def _fits_together(self) -> Chain:
        if self.initialisation.layout == "medicalnet":
            if self.backbone not in ("resnet18", "resnet50"):
                raise ValueError(f"weights of the layout medicalnet are of a ResNet; the backbone is {self.backbone}")
            flat = [stage.task for stage in self.intermediates if not stage.is_volumetric]
            if flat:
                raise ValueError(f"weights of the layout medicalnet are volumetric; the stage {flat[0]} is 2D")
            if "conversion" in self.model_fields_set:
                raise ValueError("weights of the layout medicalnet are volumetric already; take out conversion")
        if self.initialisation.weights == FROZEN_RANDOM and self.intermediates:
            raise ValueError("weights that no stage trains need no intermediate stage; take the stages out")
        return self

    @property
    def initialisation(self) -> Initialisation:
        return self.stages[0]

    @property
    def intermediates(self) -> tuple[IntermediateStage, ...]:
        return self.stages[1:-1]

    @property
    def target(self) -> SegmentationTarget | ClassificationTarget:
        return self.stages[-1]

    @property
    def trained(self) -> tuple[TrainedStage, ...]:
        """The stages that train: all but the initialisation."""
        return self.stages[1:]

    def without_intermediate(self) -> Chain:
        """The TL chain to this XTL chain: the same seed, initialisation and target, no stage between."""
        name = self.name[1:] if self.name.lower().startswith("xtl") else f"{self.name}-tl"
        target = self.target
        if getattr(target, "decoder", "new") == "carried":
            target = target.model_copy(update={"decoder": "new"})
        return self.model_copy(update={"name": name, "stages": (self.stages[0], target)})


def load_chain(path: str | os.PathLike, changes: Mapping[str, Any] | None = None) -> Chain:
    """Read a chain file. Paths in it are relative to it; ``~`` and environment variables are expanded.

    ``changes`` take the place of what the file says, see ``changes.read_change``.

    Raises InputError that names file, line and key.
    """
    return load_model(Path(path), Chain, _PATH_KEYS, changes)


def chain_from_dict(values: Mapping[str, Any], source: str = "the chain") -> Chain:
    """A chain from a form or a program; its paths are taken as they are. Raises InputError naming the key."""
    return validate_model(values, Chain, source)
