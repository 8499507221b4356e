"""From a network's description to the network."""

from __future__ import annotations

import copy
import dataclasses

from torch import nn

from ..errors import InputError
from .backbones import Backbone, build_backbone, initialise
from .branches import Branches
from .classification import ClassificationNetwork
from .conversion import ConversionReport, convert, refit
from .depth_plan import DepthPlan
from .native import native_backbone
from .peft_adapters import add_adapters
from .projection import ProjectionNetwork
from .reconstruction import ReconstructionNetwork
from .segmentation import SegmentationNetwork
from .spec import NetworkSpec

Network = SegmentationNetwork | ClassificationNetwork | ReconstructionNetwork | ProjectionNetwork


def build_network(spec: NetworkSpec) -> Network:
    """The network of a spec with random weights (torch's global random state), to train or to load weights into."""
    if spec.fusion == "late":
        branches = [_random_backbone(spec, len(group)) for group in spec.groups]
        return _with_head(spec, Branches(branches, spec.groups))
    return _with_head(spec, _random_backbone(spec, spec.in_channels))


def convert_network(spec: NetworkSpec, source: Backbone) -> tuple[Network, ConversionReport]:
    """The transfer step: the network of a spec whose backbone holds the weights of ``source``.

    Parameters
    ----------
    spec : the network to make. Of late fusion, each branch gets weights of its own from the source.
    source : a backbone of the name that the spec gives; it is left as it is. A 2D one is converted, by
        ``convert``, where the spec is volumetric. A volumetric one, converted by the spec's rule at a stage
        before or volumetric from the start, gets the spec's depth plan and channels, by ``refit``.

    Raises
    ------
    InputError : the source is another backbone than the spec's, is volumetric where the spec is 2D, or became
        volumetric by another rule.
    XTLError : the conversion's self-test failed.
    """
    if source.name != spec.backbone:
        raise InputError(
            f"a network on {spec.backbone} cannot take the weights of the backbone {source.name}",
            f"Give a {spec.backbone}",
        )
    if spec.fusion == "late":
        backbone, report = _converted_branches(spec, source)
    else:
        backbone, report = _converted(spec, source, spec.in_channels)
    network = _with_head(spec, backbone)
    total = sum(parameter.numel() for parameter in network.parameters())
    carried = report.carried_share * report.parameters
    return network, dataclasses.replace(report, parameters=total, carried_share=carried / total)


def _random_backbone(spec: NetworkSpec, in_channels: int) -> Backbone:
    backbone = build_backbone(spec.backbone)
    if spec.conversion == "native":
        return native_backbone(spec.backbone, depth_plan(spec, backbone), in_channels)
    if spec.is_volumetric:
        plan = depth_plan(spec, backbone)
        backbone, _ = convert(backbone, spec.conversion, in_channels, plan, spec.input_channels, self_test=False)
        initialise(backbone)  # inflated random kernels would be alike in all slices
    return backbone


def _converted_branches(spec: NetworkSpec, source: Backbone) -> tuple[Branches, ConversionReport]:
    """A backbone of its own for each group of channels; the report is of all of them together."""
    made = [_converted(spec, source, len(group)) for group in spec.groups]
    reports = [report for _, report in made]
    parameters = sum(report.parameters for report in reports)
    whole = dataclasses.replace(
        reports[0],
        in_channels=spec.in_channels,
        max_relative_error=max(report.max_relative_error for report in reports),
        parameters=parameters,
        carried_share=sum(report.carried_share * report.parameters for report in reports) / parameters,
    )
    return Branches([backbone for backbone, _ in made], spec.groups), whole


def _converted(spec: NetworkSpec, source: Backbone, in_channels: int) -> tuple[Backbone, ConversionReport]:
    """A copy of the source as the spec wants it, for as many channels."""
    if not spec.is_volumetric:
        if source.plan is not None:
            raise InputError(
                f"a network of kind {spec.kind} cannot take the weights of the volumetric backbone {source.name}",
                "Put 2D stages before the conversion",
            )
        count = sum(parameter.numel() for parameter in source.parameters())
        return copy.deepcopy(source), ConversionReport("none", in_channels, (), (), 0.0, count, 1.0)
    if source.plan is None:
        return convert(source, spec.conversion, in_channels, depth_plan(spec, source), spec.input_channels)
    if source.rule == spec.conversion:
        return refit(source, in_channels, depth_plan(spec, source), spec.input_channels)
    raise InputError(
        f"a network converted by {spec.conversion} cannot take the weights of a {source.name} "
        f"that is volumetric by {source.rule}",
        f"Set the conversion to {source.rule}, or start from a 2D backbone",
    )


def depth_plan(spec: NetworkSpec, backbone: Backbone) -> DepthPlan:
    """The depth plan of a spec, at the spacing that the backbone sees (after ``input_scale``)."""
    spacing = spec.spacing_mm
    if spec.input_scale != 1:
        x, y, z = spacing or (1.0, 1.0, 1.0)
        spacing = (x / spec.input_scale, y / spec.input_scale, z)
    return DepthPlan.from_spacing(spacing, spec.patch_shape, backbone)


def _with_head(spec: NetworkSpec, backbone: Backbone | Branches) -> Network:
    if spec.adapters:
        add_adapters(backbone, spec.adapters)
    if spec.kind == "segmentation":
        return SegmentationNetwork(backbone, spec.out_channels, spec.decoder_channels, spec.dropout)
    if spec.kind == "reconstruction":
        return ReconstructionNetwork(backbone, spec.decoder_channels, spec.dropout)
    _require_room(spec, backbone)
    view = {"input_scale": spec.input_scale, "input_mean": spec.input_mean, "input_sd": spec.input_sd}
    if spec.kind == "projection":
        return ProjectionNetwork(backbone, spec.projection_channels, spec.dropout, **view)
    return ClassificationNetwork(
        backbone, spec.out_channels, spec.dropout, **view, slice_pooling=spec.slice_pooling, zones=spec.zones
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
