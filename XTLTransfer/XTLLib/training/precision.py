"""The number format in which a training's forward pass runs."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import InputError

_DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
_FIRST_WITH_BFLOAT16 = (8, 0)  # compute capability


class Precision:
    """Autocast, and for float16 the scaling of the loss that keeps small gradients from vanishing.

    Weights, gradients and the optimiser are float32 in any case. On a CPU everything is: torch 2.13 computes
    wrong gradients there for bfloat16 3D convolutions of small sizes.

    Parameters
    ----------
    name : ``auto`` is bfloat16 on a GPU that computes in it, float32 elsewhere.
    device : of the training.

    Attributes
    ----------
    name : what ``auto`` became.

    Raises
    ------
    InputError : the device does not compute in this format.
    """

    def __init__(self, name: Literal["auto", "float32", "bfloat16", "float16"], device: torch.device) -> None:
        has_bfloat16 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= _FIRST_WITH_BFLOAT16
        if name == "auto":
            name = "bfloat16" if has_bfloat16 else "float32"
        if name != "float32" and device.type != "cuda":
            raise InputError(
                f"the precision {name} on a {device.type.upper()}, where torch's gradients are right in float32 only",
                "Set precision to auto or float32, or train on a GPU",
            )
        if name == "bfloat16" and not has_bfloat16:
            raise InputError(
                "the precision bfloat16 on a GPU that does not have it", "Set precision to auto or float16"
            )
        self.name, self._device, self._dtype = name, device, _DTYPES[name]
        self._scaler = torch.amp.GradScaler(device.type, enabled=name == "float16")

    def autocast(self) -> torch.autocast:
        """The block in which the network runs."""
        return torch.autocast(self._device.type, self._dtype, enabled=self._dtype is not None)

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss to the parameters'."""
        self._scaler.scale(loss).backward()

    def clip(self, optimiser: torch.optim.Optimizer, parameters: list[Tensor], norm: float) -> None:
        """Shorten the gradient to ``norm`` where it is longer."""
        self._scaler.unscale_(optimiser)
        torch.nn.utils.clip_grad_norm_(parameters, norm)

    def step(self, optimiser: torch.optim.Optimizer) -> None:
        """A step of the optimiser; in float16 none where the gradient is no number, and a smaller scale."""
        self._scaler.step(optimiser)
        self._scaler.update()

    def state_dict(self) -> dict[str, Any]:
        return self._scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a scale again; that of another precision is left."""
        if state and self._scaler.is_enabled():
            self._scaler.load_state_dict(state)
