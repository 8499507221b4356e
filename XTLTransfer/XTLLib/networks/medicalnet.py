"""3D-native ResNets in the layout of MedicalNet (Chen et al. 2019, arXiv 1904.00625).

Names and blocks are those of torchvision with kernels (k, k, k) and one input channel; stride on the 3x3x3
convolution. Two things differ: MedicalNet's third and fourth layers dilate by 2 and 4 instead of halving,
and its smaller networks have shortcuts without weights ("type A").
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import InputError
from .backbones import Backbone
from .native import native_backbone

MEDICALNET = "medicalnet"
MEDICALNET_BACKBONES = ("resnet18", "resnet50")
FIELD_OF_VIEW_NOTE = (
    "MedicalNet dilates its third and fourth layers by 2 and 4 where this network halves: the weights fit, "
    "the field of view differs"
)
SHORTCUT_NOTE = "the file's shortcuts have no weights (type A): they became identity kernels, exactly equal"


def medicalnet_backbone(name: str) -> Backbone:
    """The volumetric backbone for one channel that MedicalNet's weights fit, with random weights.

    Raises InputError for a backbone that MedicalNet does not have.
    """
    if name not in MEDICALNET_BACKBONES:
        raise InputError(
            f"the layout {MEDICALNET} for the backbone {name}", f"Choose {' or '.join(MEDICALNET_BACKBONES)}"
        )
    return native_backbone(name)


def fill_shortcuts(state: Mapping[str, Tensor], own: Mapping[str, Tensor], eps: float = 1e-5) -> dict[str, Tensor]:
    """Weights for the shortcuts of a file that has none: key -> tensor, empty when the file has shortcuts.

    A shortcut of type A takes every stride-th voxel and appends channels of zeros. That is a 1x1x1
    convolution with the identity in its first channels and a BatchNorm that does nothing.

    Parameters
    ----------
    state : the file's tensors, under whatever prefix.
    own : the state dict of the backbone that is to get them.
    eps : of its BatchNorm layers.
    """
    if any(".downsample." in name for name in state):
        return {}
    filled = {}
    for key, place in own.items():
        if ".downsample.0." in key:
            out_channels, in_channels = place.shape[:2]
            filled[key] = torch.eye(out_channels, in_channels).reshape(place.shape)
        elif ".downsample.1." in key and place.is_floating_point():
            # running_var 1 marks statistics that are not of data; the weight undoes the eps beside it
            value = {"weight": math.sqrt(1 + eps), "running_var": 1.0}.get(key.rpartition(".")[2], 0.0)
            filled[key] = torch.full(place.shape, value)
    return filled
