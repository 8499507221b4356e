"""How a trained model is adapted to a few corrected cases. Every default is a project choice."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from .stages import Shape
from .training import WindowTraining
from .yaml_model import StrictModel


class AdaptationTraining(WindowTraining):
    """A short training of the decoder and of the encoder's BatchNorm, held near the weights that come in.

    ``peft: none`` trains all weights; the other kinds of fine-tuning are those of any stage.
    """

    steps: int = Field(100, ge=1)
    batch_size: int = Field(2, ge=1)
    learning_rate: float | Literal["find"] = 5e-3
    encoder_rate: float = Field(1.0, ge=0, le=1)
    peft: Literal["none", "ssf", "bias", "norm", "adapters", "lora", "linear-probe"] = "norm"
    l2sp: float = Field(1e-2, ge=0)
    l2sp_head: bool = True
    keep: Literal["last"] = "last"

    @model_validator(mode="after")
    def _validates_nothing(self) -> AdaptationTraining:
        # A checkpoint chosen on the held-out part would make the figure on it too good.
        if self.early_stopping is not None or self.schedule == "plateau":
            raise ValueError(
                "early_stopping and the schedule plateau look at validation patients during the training; an "
                "adaptation looks at its held-out part once, afterwards"
            )
        return self


class Adaptation(StrictModel):
    """The stage that an adaptation adds to a chain.

    Attributes
    ----------
    seed : of everything random.
    held_out : share of the patients that are held out, where there are several; at least one is.
    margin_mm : of one patient a part of the head is held out: width of the slab between it and what is learned
        from, whose voxels are neither.
    refit : whether the model that is written learns from everything, after the figures were taken of one that
        did not see the held-out part.
    replay : windows of the source data for each corrected one, where they are at hand; they come on top of
        ``training.batch_size``, at least one a batch. 0 measures on the source data and learns nothing from them.
    replay_cases : cases of the source data that are read at most, to learn from and again to measure by.
    window : voxels (K, J, I) of a training window; null takes the bundle's.
    training : how.
    """

    kind: Literal["adaptation"] = "adaptation"
    seed: int = Field(0, ge=0)
    held_out: float = Field(1 / 3, gt=0, lt=1)
    margin_mm: float = Field(8.0, ge=0)
    refit: bool = True
    replay: float = Field(0.5, ge=0, le=4)
    replay_cases: int = Field(6, ge=1)
    window: Shape | None = None
    training: AdaptationTraining = AdaptationTraining()
