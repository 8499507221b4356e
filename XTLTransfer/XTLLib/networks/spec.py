"""What a network is, as plain data: enough to build it again before its weights are loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from ..errors import InputError

BACKBONES = ("mobilenet_v2", "squeezenet1_0", "resnet18", "resnet50", "densenet121", "vgg16_bn")

NetworkKind = Literal["mammogram-classification", "segmentation", "classification"]
KINDS = ("mammogram-classification", "segmentation", "classification")


@dataclass(frozen=True)
class NetworkSpec:
    """A network without its weights; JSON-able, travels in the bundle. Every default is a project choice.

    Attributes
    ----------
    kind : "mammogram-classification" is 2D; "segmentation" and "classification" are volumetric.
    backbone : one of ``BACKBONES``.
    in_channels : channels of the input; 3 for mammograms (the grey image repeated).
    conversion : the rule that makes the backbone volumetric: "inflate" for volumes, None for mammograms.
    spacing_mm : spacing along (x, y, z), the axes (i, j, k) of the input, z being depth; decides with
        ``patch_shape`` where depth is pooled. None means equal spacing along all axes.
    patch_shape : (K, J, I) of the input in training; None means large along every axis.
    out_channels : number of logits a voxel or an image.
    dropout : probability of dropping a feature before the last layer.
    input_scale : classification only: factor by which the input is enlarged in plane, so that a small
        patch feeds a backbone of stride 32.
    input_mean, input_sd : classification only: the input is centred and scaled by these, so that
        intensities of any range (ranks from 0 to 1) reach the backbone with zero mean and unit SD.
    decoder_channels : segmentation only: channels of the decoder from full resolution to the deepest
        level; None takes ``segmentation.DECODER_CHANNELS``.
    """

    kind: NetworkKind
    backbone: str
    in_channels: int = 3
    conversion: Literal["inflate"] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    patch_shape: tuple[int, int, int] | None = None
    out_channels: int = 1
    dropout: float = 0.0
    input_scale: float = 1.0
    input_mean: float = 0.0
    input_sd: float = 1.0
    decoder_channels: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        _require(self.kind in KINDS, f"the network kind {self.kind!r}", f"Choose one of {', '.join(KINDS)}")
        _require(self.backbone in BACKBONES, f"the backbone {self.backbone!r}", f"Choose one of {', '.join(BACKBONES)}")
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
        for name in ("in_channels", "out_channels"):
            _require(getattr(self, name) >= 1, f"{name} {getattr(self, name)} of a network", "Give 1 or more")
        _require(0 <= self.dropout < 1, f"the dropout {self.dropout} of a network", "Give a number from 0 to below 1")
        _require(self.input_scale > 0, f"the input_scale {self.input_scale} of a network", "Give a positive number")
        _require(self.input_sd > 0, f"the input_sd {self.input_sd} of a network", "Give a positive number")
        expected = "inflate" if self.is_volumetric else None
        _require(
            self.conversion == expected,
            f"the conversion {self.conversion!r} of a network of kind {self.kind}",
            f"Give {expected!r}",
        )
        _require(
            self.is_volumetric or self.in_channels == 3,
            f"in_channels {self.in_channels} of a mammogram network",
            "Give 3, and repeat the grey image",
        )

    @property
    def is_volumetric(self) -> bool:
        return self.kind != "mammogram-classification"

    def to_dict(self) -> dict[str, Any]:
        """The spec as JSON-able data."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

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


def _require(good: bool, what: str, remedy: str) -> None:
    if not good:
        raise InputError(what, remedy)
