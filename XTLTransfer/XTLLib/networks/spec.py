"""What a network is, as plain data: enough to build it again before its weights are loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from ..errors import InputError

BACKBONES = ("mobilenet_v2", "squeezenet1_0", "resnet18", "resnet50", "densenet121", "vgg16_bn")

NetworkKind = Literal["mammogram-classification", "segmentation", "classification", "reconstruction", "projection"]
KINDS = get_args(NetworkKind)

ConversionRule = Literal[
    "inflate", "centre-slice", "acs", "soft-acs", "mean-acs", "slice-stack", "slice-encoder", "native"
]
CONVERSIONS = get_args(ConversionRule)

InputChannels = Literal["mean", "sum", "repeat"]
INPUT_CHANNELS = get_args(InputChannels)

SlicePooling = Literal["mean", "max", "attention"]
SLICE_POOLINGS = get_args(SlicePooling)

Fusion = Literal["early", "late"]
FUSIONS = get_args(Fusion)
_MOST_BRANCHES = 16


@dataclass(frozen=True)
class NetworkSpec:
    """A network without its weights; JSON-able, travels in the bundle. Every default is a project choice.

    Attributes
    ----------
    kind : "mammogram-classification" is 2D; the others are volumetric, and take a 2D image as one slice:
        "segmentation", "classification", "reconstruction" (gives back its input, masked self-supervision)
        and "projection" (a vector per image, contrastive self-supervision).
    backbone : one of ``BACKBONES``.
    in_channels : channels of the input; 3 for mammograms (the grey image repeated).
    conversion : the rule that makes the backbone volumetric, one of ``CONVERSIONS`` ("native": it was
        volumetric when it was loaded); None for mammogram classification.
    input_channels : how the first kernels of RGB, or of the channels of a stage before, become those of
        ``in_channels``; see ``kernels.adapt_input_channels``.
    spacing_mm : spacing along (x, y, z), the axes (i, j, k) of the input, z being depth; decides with
        ``patch_shape`` where depth is pooled. None means equal spacing along all axes.
    patch_shape : (K, J, I) of the input in training; None means large along every axis.
    out_channels : number of logits a voxel or an image; ``in_channels`` for a reconstruction.
    dropout : probability of dropping a feature before the last layer.
    input_scale : classification only: factor by which the input is enlarged in plane, so that a small
        patch feeds a backbone of stride 32.
    input_mean, input_sd : classification only: the input is centred and scaled by these, so that
        intensities of any range (ranks from 0 to 1) reach the backbone with zero mean and unit SD.
    decoder_channels : segmentation and reconstruction only: channels of the decoder from full resolution
        to the deepest level; None takes ``segmentation.DECODER_CHANNELS``.
    slice_pooling : classification only: how the slices of the deepest stage become one vector: "mean",
        "max" or "attention" (a learned weight for each slice).
    projection_channels : projection only: length of the vector.
    adapters : rank of the adapters that a fine-tuning left in the backbone (``peft_adapters``); 0 for none.
    fusion : classification only: "early", one backbone sees all channels; "late", one backbone for each of
        ``groups``, whose pooled features are put side by side.
    groups : of late fusion: indices of the channels that each backbone sees; every channel is in one group.
    zones : classification only: whether the network can be told the zone of a finding.
    """

    kind: NetworkKind
    backbone: str
    in_channels: int = 3
    conversion: ConversionRule | None = None
    spacing_mm: tuple[float, float, float] | None = None
    patch_shape: tuple[int, int, int] | None = None
    out_channels: int = 1
    dropout: float = 0.0
    input_scale: float = 1.0
    input_mean: float = 0.0
    input_sd: float = 1.0
    decoder_channels: tuple[int, ...] | None = None
    input_channels: InputChannels = "mean"
    slice_pooling: SlicePooling = "mean"
    projection_channels: int = 128
    adapters: int = 0
    fusion: Fusion = "early"
    groups: tuple[tuple[int, ...], ...] = ()
    zones: bool = False

    def __post_init__(self) -> None:
        for name, choices, label in (
            ("kind", KINDS, "network kind"),
            ("backbone", BACKBONES, "backbone"),
            ("input_channels", INPUT_CHANNELS, "input_channels"),
            ("slice_pooling", SLICE_POOLINGS, "slice_pooling"),
            ("fusion", FUSIONS, "fusion"),
        ):
            _require(
                getattr(self, name) in choices,
                f"the {label} {getattr(self, name)!r}",
                f"Choose one of {', '.join(choices)}",
            )
        for name, kind, count in (
            ("spacing_mm", float, 3),
            ("patch_shape", int, 3),
            ("decoder_channels", int, None),
        ):
            values = getattr(self, name)
            if values is not None:
                values = tuple(kind(value) for value in values)
                good = len(values) == (count or len(values)) and len(values) > 0 and min(values) > 0
                _require(good, f"{name} {list(values)} of a network", f"Give {count or 'some'} positive numbers")
                object.__setattr__(self, name, values)
        for name in ("in_channels", "out_channels", "projection_channels"):
            _require(getattr(self, name) >= 1, f"{name} {getattr(self, name)} of a network", "Give 1 or more")
        _require(self.adapters >= 0, f"adapters {self.adapters} of a network", "Give a rank, or 0 for none")
        _require(0 <= self.dropout < 1, f"the dropout {self.dropout} of a network", "Give a number from 0 to below 1")
        _require(self.input_scale > 0, f"the input_scale {self.input_scale} of a network", "Give a positive number")
        _require(self.input_sd > 0, f"the input_sd {self.input_sd} of a network", "Give a positive number")
        rules = CONVERSIONS if self.is_volumetric else (None,)
        _require(
            self.conversion in rules,
            f"the conversion {self.conversion!r} of a network of kind {self.kind}",
            f"Give one of {', '.join(map(repr, rules))}" if self.is_volumetric else "Give None",
        )
        _require(
            self.is_volumetric or self.in_channels == 3,
            f"in_channels {self.in_channels} of a mammogram network",
            "Give 3, and repeat the grey image",
        )
        _require(
            self.kind != "reconstruction" or self.out_channels == self.in_channels,
            f"out_channels {self.out_channels} of a reconstruction of {self.in_channels} channels",
            f"Give {self.in_channels}",
        )
        _require(
            self.kind == "classification" or self.slice_pooling == "mean",
            f"slice_pooling {self.slice_pooling} of a network of kind {self.kind}",
            "Give mean; only a classification of volumes pools its slices otherwise",
        )
        _require(
            self.kind == "classification" or (self.fusion == "early" and self.zones is False),
            f"fusion or zones of a network of kind {self.kind}",
            "Leave them out; only a classification of volumes has them",
        )
        _require(isinstance(self.zones, bool), f"zones {self.zones!r} of a network", "Give true or false")
        self._check_groups()

    def _check_groups(self) -> None:
        groups = tuple(tuple(int(index) for index in group) for group in self.groups)
        object.__setattr__(self, "groups", groups)
        if self.fusion == "early":
            _require(not groups, f"groups {_lists(groups)} of a network of early fusion", "Leave them out")
            return
        covered = sorted(index for group in groups for index in group)
        _require(
            2 <= len(groups) <= _MOST_BRANCHES and all(groups) and covered == list(range(self.in_channels)),
            f"groups {str(_lists(groups))[:80]} of the {self.in_channels} channels of a network of late fusion",
            f"Give 2 to {_MOST_BRANCHES} groups, with every channel in one of them",
        )

    @property
    def is_volumetric(self) -> bool:
        return self.kind != "mammogram-classification"

    def to_dict(self) -> dict[str, Any]:
        """The spec as JSON-able data."""
        return {name: _lists(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> NetworkSpec:
        """The spec that :meth:`to_dict` gave. Raises InputError for unknown or missing keys and bad values."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(data) - known)
        _require(
            not unknown,
            f"unknown key {', '.join(map(repr, unknown))} in a network description",
            f"Use only {', '.join(sorted(known))}",
        )
        missing = [name for name in ("kind", "backbone") if name not in data]
        _require(not missing, f"{', '.join(missing)} is missing in a network description", "Add it")
        try:
            return cls(**data)
        except (TypeError, ValueError) as error:
            raise InputError(f"a network description with a bad value ({error})", "Repair the value") from error


def _lists(value: Any) -> Any:
    return [_lists(item) for item in value] if isinstance(value, tuple) else value


def _require(good: bool, what: str, remedy: str) -> None:
    if not good:
        raise InputError(what, remedy)
