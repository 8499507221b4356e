"""From a network's description to the network."""

from __future__ import annotations

import copy
import dataclasses

from torch import nn

from ..errors import InputError
from .backbones import Backbone, build_backbone, initialise
from .classification import ClassificationNetwork
from .conversion import ConversionReport, inflate
from .depth_plan import DepthPlan
from .segmentation import SegmentationNetwork
from .spec import NetworkSpec

Network = SegmentationNetwork | ClassificationNetwork


def build_network(spec: NetworkSpec) -> Network:
    """The network of a spec with random weights (torch's global random state), to train or to load weights into."""
    backbone = build_backbone(spec.backbone)
    if spec.is_volumetric:
        backbone, _ = inflate(backbone, spec.in_channels, depth_plan(spec, backbone), self_test=False)
        initialise(backbone)  # inflated random kernels would be alike in all slices
    return _with_head(spec, backbone)


def convert_network(spec: NetworkSpec, source: Backbone) -> tuple[Network, ConversionReport]:
    """The transfer step: the network of a spec whose backbone holds the weights of ``source``.

    Parameters
    ----------
    spec : the network to make.
    source : a 2D backbone of the kind that the spec names; it is left as it is.

    Raises
    ------
    InputError : the source is another backbone than the spec's.
    XTLError : the conversion's self-test failed.
    """
    if source.name != spec.backbone or source.plan is not None:
        raise InputError(
            f"a network on {spec.backbone} cannot take the weights of "
            f"{'the volumetric' if source.plan is not None else 'the'} backbone {source.name}",
            f"Give a 2D {spec.backbone}",
        )
    if spec.is_volumetric:
        backbone, report = inflate(source, spec.in_channels, depth_plan(spec, source))
    else:
        backbone = copy.deepcopy(source)
        report = ConversionReport("none", spec.in_channels, (), (), 0.0, 0, 0.0)
    network = _with_head(spec, backbone)
    total, carried = (sum(p.numel() for p in module.parameters()) for module in (network, backbone))
    return network, dataclasses.replace(report, parameters=total, carried_share=carried / total)


def depth_plan(spec: NetworkSpec, backbone: Backbone) -> DepthPlan:
    """The depth plan of a spec, at the spacing that the backbone sees (after ``input_scale``)."""
    spacing = spec.spacing_mm
    if spec.input_scale != 1:
        x, y, z = spacing or (1.0, 1.0, 1.0)
        spacing = (x / spec.input_scale, y / spec.input_scale, z)
    return DepthPlan.from_spacing(spacing, spec.patch_shape, backbone)


def _with_head(spec: NetworkSpec, backbone: Backbone) -> Network:
    if spec.kind == "segmentation":
        return SegmentationNetwork(backbone, spec.out_channels, spec.decoder_channels, spec.dropout)
    _require_room(spec, backbone)
    return ClassificationNetwork(
        backbone, spec.out_channels, spec.dropout, spec.input_scale, spec.input_mean, spec.input_sd
    )


def _require_room(spec: NetworkSpec, backbone: nn.Module) -> None:
    if spec.patch_shape is None:
        return
    smallest, stride = min(spec.patch_shape[1:]) * spec.input_scale, backbone.stage_strides[-1][-1]
    if smallest < stride:
        raise InputError(
            f"patches of {spec.patch_shape[1]} x {spec.patch_shape[2]} enlarged {spec.input_scale:g} times are "
            f"smaller than the stride {stride} of {spec.backbone}",
            f"Raise input_scale to at least {stride / min(spec.patch_shape[1:]):g}",
        )
