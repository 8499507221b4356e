"""How one stage is trained, as a chain file describes it. Every default is a project choice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from .presets import PRESETS
from .yaml_model import StrictModel


class Training(StrictModel):
    """How a stage is trained; the subclasses add the budget and set the defaults of their task.

    Attributes
    ----------
    preset : a ready-made recipe (``presets.PRESETS``); what is written beside it takes its place.
    batch_size : images, patches or windows of one step. With several processes it is their sum.
    accumulate : batches whose gradients are added up before a step of the optimiser.
    optimiser : ``adamw``, ``adam`` or ``sgd`` (Nesterov momentum 0.9).
    learning_rate : the schedule's peak for the new layers; ``find`` takes it from a learning-rate range test
        (Smith 2017, arXiv 1506.01186), whose table and plot stay in the stage's folder.
    encoder_rate : the encoder's learning rate as a share of ``learning_rate``; 0 keeps the encoder as it came.
    discriminative : factor from each layer group to the one before it (Howard & Ruder 2018, arXiv 1801.06146):
        the head learns at ``learning_rate``, the group before it at this share of it, and so on. Takes the
        place of ``encoder_rate``.
    layer_groups : ``levels``, a group for each level of the backbone, or ``three``: early, late, head.
    frozen : names of layer groups that never learn.
    unfreeze : shares of the budget at which one more layer group begins to learn, from the head backwards;
        the last share frees all that remain. Empty: all learn from the beginning.
    weight_decay : of the optimiser, on convolution and linear weights only.
    l2sp : strength of the pull towards the incoming encoder weights (L2-SP, Li et al. 2018, arXiv 1802.01483).
    l2sp_head : whether the head, too, is pulled towards what it came with: right where it is not new.
    peft : parameter-efficient fine-tuning of the encoder: ``ssf`` (scale and shift features), ``bias``, ``norm``
        (BatchNorm only), ``adapters``, ``lora`` or ``linear-probe``; ``none`` trains all its weights.
    peft_rank : of LoRA and of the adapters' bottleneck.
    schedule : ``one-cycle``, ``cosine``, ``constant``, or ``plateau``: a tenth of the rate when the validation
        loss rises, and the end below 1e-6.
    batchnorm : the encoder's BatchNorm statistics; ``train`` lets them follow the new images, in every arm
        alike (folded ones get the statistics of the first images, without changing the function), ``frozen``
        keeps those that came with the weights. A frozen layer group keeps its statistics in any case.
    clip_norm : largest norm of the gradient; null leaves it as it is.
    ema : decay of the exponential moving average of the weights that is validated and kept; null keeps the
        weights themselves.
    validation : share of the training patients held out to choose the best checkpoint, where the datalist
        names no validation patients; 0 trains for the whole budget and keeps the last weights.
    validations : how often the validation patients are looked at; null leaves it to the task.
    keep : the weights that are kept: of the best validation ``metric``, of the lowest validation ``loss``, or
        the ``last`` ones.
    early_stopping : end after this many validations without gain; null uses the whole budget.
    mixup : classification only: parameter of the Beta distribution (Zhang et al. 2018, arXiv 1710.09412).
    class_balance : classification only: ``weight`` of the classes in the loss, ``sample`` them equally, or
        ``none``.
    precision : ``auto`` is bfloat16 on a GPU that has it and float32 on a CPU, where nothing else is allowed.
    augmentation : random changes of the training images.
    """

    preset: Literal["romero2020", "regular"] | None = None
    batch_size: int = Field(16, ge=1)
    accumulate: int = Field(1, ge=1)
    optimiser: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: float | Literal["find"] = 1e-3
    encoder_rate: float = Field(0.3, ge=0, le=1)
    discriminative: float | None = Field(None, gt=0, le=1)
    layer_groups: Literal["levels", "three"] = "levels"
    frozen: tuple[str, ...] = ()
    unfreeze: tuple[float, ...] = ()
    weight_decay: float = Field(1e-2, ge=0, le=1)
    l2sp: float = Field(0.0, ge=0)
    l2sp_head: bool = False
    peft: Literal["none", "ssf", "bias", "norm", "adapters", "lora", "linear-probe"] = "none"
    peft_rank: int = Field(4, ge=1, le=64)
    schedule: Literal["one-cycle", "cosine", "plateau", "constant"] = "one-cycle"
    batchnorm: Literal["frozen", "train"] = "train"
    clip_norm: float | None = Field(1.0, gt=0)
    ema: float | None = Field(None, gt=0, lt=1)
    validation: float = Field(0.2, ge=0, lt=1)
    validations: int | None = Field(None, ge=1)
    keep: Literal["metric", "loss", "last"] = "metric"
    early_stopping: int | None = Field(None, ge=1)
    mixup: float | None = Field(None, gt=0)
    class_balance: Literal["weight", "sample", "none"] = "weight"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    augmentation: bool = True

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, values: Any) -> Any:
        """The preset's values, under those that are written out."""
        if isinstance(values, Mapping) and values.get("preset") in PRESETS:
            return {**PRESETS[values["preset"]], **values}
        return values

    @field_validator("learning_rate")
    @classmethod
    def _rate_is_sensible(cls, rate: float | str) -> float | str:
        if not (rate == "find" or 0 < rate <= 1):
            raise ValueError(f"a learning rate of {rate}; it lies above 0 and up to 1, or is the word find")
        return rate

    @field_validator("unfreeze")
    @classmethod
    def _fractions_rise(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        if list(shares) != sorted(set(shares)) or any(not 0 <= share < 1 for share in shares):
            raise ValueError(f"unfreeze {list(shares)}; give rising shares of the budget, from 0 to below 1")
        return shares

    @model_validator(mode="after")
    def _fits_together(self) -> Training:
        written = self.model_fields_set
        if self.discriminative is not None and "encoder_rate" in written:
            raise ValueError("discriminative and encoder_rate both say how fast the encoder learns; keep one")
        if self.peft != "none" and (self.unfreeze or self.frozen):
            raise ValueError(f"peft {self.peft} decides what of the encoder learns; take out unfreeze and frozen")
        if self.mixup is not None and self.class_balance == "weight":
            raise ValueError(
                "mixup blends classes, so their weight in the loss is no longer one number; "
                "set class_balance to sample or none"
            )
        return self


class MammogramTraining(Training):
    """Budget in passes over the mammograms."""

    epochs: int = Field(30, ge=1)


class PatchTraining(Training):
    """Budget in passes over the findings."""

    epochs: int = Field(30, ge=1)


class StepTraining(Training):
    """Budget in steps: images without labels are drawn without end."""

    steps: int = Field(400, ge=1)


class WindowTraining(Training):
    """Budget in steps: windows are drawn without end.

    Attributes
    ----------
    channel_dropout : probability with which each channel other than the reference is left out of a window. Above 0
        the bundle can be used on cases that lack such channels.
    """

    steps: int = Field(400, ge=1)
    channel_dropout: float = Field(0.0, ge=0, lt=1)
    batch_size: int = Field(4, ge=1)
    learning_rate: float | Literal["find"] = 3e-3
