"""Backbones that are volumetric from the start, for weights that were trained on volumes."""

from __future__ import annotations

from .backbones import Backbone, build_backbone, initialise
from .conversion import volumetric_copy
from .depth_plan import DepthPlan


def native_backbone(name: str, plan: DepthPlan | None = None, in_channels: int = 1) -> Backbone:
    """A volumetric backbone with cubic kernels (7 x 7 x 7 first, where the 2D one has 7 x 7) and random weights.

    Its ``rule`` is "native"; parameter names are those of the 2D backbone. Weights come from torch's global
    random state.

    Parameters
    ----------
    name : one of ``BACKBONES``.
    plan : depth strides, and levels whose kernels have one plane (kernel 1); None takes cubic kernels and
        halves depth wherever the plane is halved, as checkpoints are made. ``refit`` brings such a backbone
        to another plan.
    in_channels : channels of the input.
    """
    flat = build_backbone(name)
    plan = plan or DepthPlan.from_spacing(None, None, flat)
    backbone, _ = volumetric_copy(flat, "native", in_channels, plan, "mean", self_test=False)
    initialise(backbone)
    return backbone
