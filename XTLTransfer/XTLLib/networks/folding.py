"""BatchNorm folded into the convolution before it: the same function in fewer passes over memory."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

_TOLERANCE = 1e-3  # relative to the largest output; float32 stays well below
_SIDE = 32  # voxels of the input on which the folded network is compared


def folded(network: nn.Module, in_channels: int, dimensions: int = 3, shape: Sequence[int] | None = None) -> nn.Module:
    """A copy in evaluation mode whose BatchNorms are folded where they directly follow a convolution.

    Which convolution feeds which BatchNorm is observed on a small input, so it holds for any network. A
    BatchNorm whose input is used by another module too, or is not a convolution's output (DenseNet's first of
    a layer), stays as it is. The copy is compared with the network on that input; when they differ, as in a
    network that uses a convolution's output outside of modules, the copy is given back unfolded.

    Parameters
    ----------
    network : float32, any device. in_channels : of its input.
    dimensions : 3 for (N, C, D, H, W), 2 for (N, C, H, W).
    shape : of the small input, where the network is for one shape only; default 32 along each dimension.
    """
    shape = (_SIDE,) * dimensions if shape is None else tuple(shape)
    result = copy.deepcopy(network).eval()
    device = next(result.parameters()).device
    image = torch.rand(1, in_channels, *shape, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.inference_mode():
        expected, pairs = _observe(result, image)
    if not pairs:
        return result
    for convolution, norm in pairs:
        _set(result, convolution, fuse_conv_bn_eval(result.get_submodule(convolution), result.get_submodule(norm)))
        _set(result, norm, nn.Identity())
    with torch.inference_mode():
        same = (result(image) - expected).abs().max() <= _TOLERANCE * expected.abs().max().clamp(min=1e-6)
    return result if bool(same) else copy.deepcopy(network).eval()


def _observe(network: nn.Module, image: Tensor) -> tuple[Tensor, list[tuple[str, str]]]:
    """The network's output and the (convolution, BatchNorm) names that follow each other and nothing else."""
    produced: dict[int, tuple[str, Tensor]] = {}  # the tensor is kept, so that its id stays its own
    consumers: dict[int, list[str]] = {}
    calls: dict[str, int] = {}

    def observe(name: str):
        def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            calls[name] = calls.get(name, 0) + 1
            for tensor in inputs:
                if id(tensor) in produced:
                    consumers.setdefault(id(tensor), []).append(name)
            if isinstance(module, (nn.Conv2d, nn.Conv3d)):
                produced[id(output)] = (name, output)

        return hook

    leaves = [(name, part) for name, part in network.named_modules() if not list(part.children())]
    hooks = [part.register_forward_hook(observe(name)) for name, part in leaves]
    try:
        output = network(image)
    finally:
        for hook in hooks:
            hook.remove()
    norms = {name for name, part in leaves if isinstance(part, (nn.BatchNorm2d, nn.BatchNorm3d))}
    pairs = [
        (produced[tensor][0], names[0]) for tensor, names in consumers.items() if len(names) == 1 and names[0] in norms
    ]
    return output, [pair for pair in pairs if all(calls[name] == 1 for name in pair)]


def _set(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, module)


@torch.inference_mode()
def activation_values_per_voxel(network: nn.Module, in_channels: int) -> float:
    """Estimate of how many activation values a volumetric network holds at once, per voxel of its input.

    The largest sum, over the modules' calls, of a call's input and output, and of all outputs so far that
    a later skip connection may need (the backbone's stages).
    """
    side = max(_SIDE, *getattr(network, "size_multiple", (1,)))
    image = torch.zeros(1, in_channels, side, side, side, dtype=next(network.parameters()).dtype)
    image = image.to(next(network.parameters()).device)
    largest = 0

    def observe(_module: nn.Module, inputs: tuple, output: object) -> None:
        nonlocal largest
        tensors = [t for t in itertools.chain(inputs, [output]) if isinstance(t, Tensor)]
        largest = max(largest, sum(t.numel() for t in tensors))

    leaves = [part for part in network.modules() if not list(part.children())]
    hooks = [part.register_forward_hook(observe) for part in leaves]
    kept = 0

    def count_stages(_module: nn.Module, _inputs: tuple, output: object) -> None:
        nonlocal kept
        kept = sum(t.numel() for t in output) if isinstance(output, (list, tuple)) else 0

    backbone = getattr(network, "backbone", None)
    if backbone is not None:
        hooks.append(backbone.register_forward_hook(count_stages))
    modes = [(part, part.training) for part in network.modules()]
    try:
        network.eval()(image)
    finally:
        for hook in hooks:
            hook.remove()
        for part, training in modes:
            part.training = training
    return (largest + kept + image.numel()) / side**3
