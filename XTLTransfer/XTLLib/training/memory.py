"""What a training needs of memory, told before it runs."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

if TYPE_CHECKING:
    from ..transfer.training import Training

MIB = 2**20
# Of input and output of the widest layer, what a convolution's backward pass holds besides them: its gradients
# and the processor's own copies in another layout. Measured (see the tests): the sum is within a fifth.
_WORKSPACE = 3.0
_PROGRAM = {"cpu": 450 * MIB, "cuda": 600 * MIB}  # the interpreter with its libraries, or CUDA's context
_MOMENTS = {"adamw": 2, "adam": 2, "sgd": 1}


@dataclass(frozen=True)
class Memory:
    """Bytes that a training holds at its peak.

    Attributes
    ----------
    program : interpreter and libraries. weights : parameters and buffers, with their copies (best, average).
    gradients, optimiser : of what is trained. activations : kept for the backward pass.
    workspace : of the widest layer. data : the prepared images.
    """

    program: float
    weights: float
    gradients: float
    optimiser: float
    activations: float
    workspace: float
    data: float

    @property
    def total(self) -> float:
        return sum(vars(self).values())


def estimate_memory(
    network: nn.Module,
    shape: tuple[int, ...],
    training: Training,
    *,
    validates: bool,
    data: float,
    device: torch.device,
) -> Memory:
    """The peak of training ``network`` on inputs of ``shape`` (N, C, ...), all its layers learning.

    The forward pass is run on tensors without values, so that neither time nor memory is needed. The estimate
    is for the steps; whole volumes are validated in what memory is free.
    """
    activations, widest = count_activations(network, shape)
    if device.type == "cuda" and training.precision != "float32":
        activations, widest = activations / 2, widest / 2
    weights = sum(t.nbytes for t in [*network.parameters(), *network.buffers()])
    trained = sum(p.nbytes for p in network.parameters())
    copies = 1 + validates + (training.ema is not None) + (training.l2sp > 0)
    on_gpu = device.type == "cuda"
    return Memory(
        program=_PROGRAM[device.type],
        weights=copies * weights,
        gradients=trained,
        optimiser=_MOMENTS[training.optimiser] * trained,
        activations=activations,
        workspace=_WORKSPACE * widest,
        data=0.0 if on_gpu else data,  # images wait in the machine's own memory
    )


def count_activations(network: nn.Module, shape: tuple[int, ...]) -> tuple[float, float]:
    """(bytes that a float32 forward pass keeps for the backward pass, bytes of the widest layer's input and output)."""
    phantom = copy.deepcopy(network).to("meta").train()
    own = {t.untyped_storage()._cdata for t in [*phantom.parameters(), *phantom.buffers()]}
    kept: dict[int, int] = {}
    widest = 0

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
        return tensor  # held by the graph, so that no other storage gets its address

    def measure(_: nn.Module, inputs: Any, outputs: Any) -> None:
        nonlocal widest
        widest = max(widest, sum(t.nbytes for t in (*inputs, outputs) if isinstance(t, Tensor)))

    for module in phantom.modules():
        if not any(True for _ in module.children()):
            module.register_forward_hook(measure)
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        output = phantom(torch.empty(shape, device="meta"))
    del output
    return float(sum(kept.values())), float(widest)


def bytes_held(thing: Any) -> int:
    """Bytes of all arrays and tensors that an object holds, in containers and in objects of this package, too."""
    counted: dict[Any, int] = {}
    _count(thing, counted, set())
    return sum(counted.values())


def _count(thing: Any, counted: dict[Any, int], seen: set[int]) -> None:
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, Tensor):
        counted[thing.untyped_storage()._cdata] = thing.untyped_storage().nbytes()
    elif isinstance(thing, np.ndarray):
        base = thing.base if isinstance(thing.base, np.ndarray) else thing
        counted[id(base)] = base.nbytes
    elif isinstance(thing, dict):
        for value in thing.values():
            _count(value, counted, seen)
    elif isinstance(thing, (list, tuple)):
        for value in thing:
            _count(value, counted, seen)
    elif type(thing).__module__.startswith(__package__.partition(".")[0] + "."):
        for value in getattr(thing, "__dict__", {}).values():
            _count(value, counted, seen)
