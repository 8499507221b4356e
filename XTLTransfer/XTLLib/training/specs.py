"""The network of every kind of stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import InputError
from ..networks.spec import ConversionRule, NetworkKind, NetworkSpec
from ..transfer.chain import Chain
from ..transfer.stages import (
    ClassificationTarget,
    IntermediateClassification,
    IntermediateSegmentation,
    MammogramClassification,
    SegmentationTarget,
    SelfSupervised,
)
from .patches import INTENSITY_STATISTICS

if TYPE_CHECKING:
    from ..data.patches import PatchSpec

_SMALLEST_VIEW = 96  # pixels in plane to which a patch is enlarged: three positions of a stride-32 stage
_SMALLEST_WINDOW = 32  # pixels in plane to which a window is enlarged for a vector of its own: one such position
_COLOURS = 3

Triple = tuple[float, float, float]
Shape = tuple[int, int, int]


def conversion_of(chain: Chain) -> ConversionRule:
    """The rule by which the backbones of a chain are volumetric."""
    return "native" if chain.initialisation.layout == "medicalnet" else chain.conversion


def mammogram_spec(stage: MammogramClassification, backbone: str, out_channels: int = 1) -> NetworkSpec:
    """The 2D network that tells mammograms apart: one logit for two classes, else one for each."""
    return NetworkSpec("mammogram-classification", backbone, out_channels=out_channels, dropout=stage.dropout)


def flat_spec(kind: NetworkKind, backbone: str, side: int, dropout: float = 0.0) -> NetworkSpec:
    """The network of a 2D stage that is no classification: a volumetric one that sees images as single slices.

    Its kernels have one plane and the RGB kernels of the backbone stay as they are, so that its backbone is a 2D
    one again afterwards (``networks.flatten``).
    """
    return NetworkSpec(
        kind,
        backbone,
        in_channels=_COLOURS,
        conversion="inflate",
        input_channels="repeat",
        patch_shape=(1, side, side),
        out_channels=_COLOURS if kind == "reconstruction" else 1,
        dropout=dropout,
    )


def window_spec(
    chain: Chain,
    stage: SegmentationTarget | IntermediateSegmentation | SelfSupervised,
    channels: int,
    spacing_mm: Triple,
    window: Shape,
) -> NetworkSpec:
    """The network of a stage on windows of volumes."""
    kind: NetworkKind = "segmentation"
    if isinstance(stage, SelfSupervised):
        kind = "reconstruction" if stage.method == "masked" else "projection"
    return NetworkSpec(
        kind,
        chain.backbone,
        in_channels=channels,
        conversion=conversion_of(chain),
        input_channels=chain.input_channels,
        spacing_mm=spacing_mm,
        patch_shape=window,
        out_channels=channels if kind == "reconstruction" else 1,
        input_scale=max(1.0, _SMALLEST_WINDOW / min(window[1:])) if kind == "projection" else 1.0,
    )


def patch_network_spec(
    chain: Chain, stage: ClassificationTarget | IntermediateClassification, patches: PatchSpec
) -> NetworkSpec:
    """The network of a stage that rates findings."""
    mean, deviation = INTENSITY_STATISTICS[patches.intensity]
    # Channels may have different extents: depth is planned for the one that shows most detail.
    x, y, z = min(patches.size_mm[name] for name in patches.channels)
    k, j, i = patches.shape
    fusion = getattr(stage, "fusion", "early")
    if fusion == "late" and len(patches.groups) < 2:
        raise InputError(
            "late fusion of channels that all show the same extent, which would be one group",
            "Give channels another extent with patch: {size_mm: ...}, or set fusion to early",
        )
    groups = [[patches.channels.index(name) for name in group] for group in patches.groups]
    return NetworkSpec(
        "classification",
        chain.backbone,
        in_channels=len(patches.channels),
        conversion=conversion_of(chain),
        input_channels=chain.input_channels,
        slice_pooling=chain.slice_pooling if chain.conversion == "slice-encoder" else "mean",
        spacing_mm=(x / i, y / j, z / k),
        patch_shape=patches.shape,
        dropout=stage.dropout,
        input_scale=max(1.0, _SMALLEST_VIEW / min(j, i)),
        input_mean=mean,
        input_sd=deviation,
        fusion=fusion,
        groups=groups if fusion == "late" else (),
        zones=getattr(stage, "zones", False),
    )
