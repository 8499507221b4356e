"""Which processor runs a network, and in which precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    import torch


def pick_device(name: str | torch.device = "auto") -> torch.device:
    """The torch device of a name: "auto" (a CUDA GPU where there is one, else the CPU), "cpu", "cuda", "cuda:1".

    Raises InputError for another name, or for a GPU that is not there.
    """
    import torch

    if isinstance(name, torch.device):
        return name
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError(f"the device {name!r} is unknown", "Choose auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"the device {name} is not there ({torch.cuda.device_count()} CUDA GPUs found)", "Choose auto or cpu"
        )
    return device


def inference_precision(device: torch.device) -> AbstractContextManager:
    """bfloat16 autocast on a GPU that computes in it, float32 elsewhere."""
    import torch

    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()
