"""How near a GPU comes to its own bound."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from segmentation_data import trained_network
from segmentation_worker import Settings
from torch.utils.flop_counter import FlopCounterMode
from XTLLib.inference.engine import fast_network
from XTLLib.networks.layout import to_fast_layout

_BATCH, _SIDE, _ROUNDS = 4, 8192, 10


def bound_share(settings: Settings) -> float:
    """Operations a second of the network on a batch of windows, over those of a large matrix product; bfloat16."""
    fast = fast_network(trained_network(), 3, "cuda", "bfloat16")
    images = to_fast_layout(torch.randn(_BATCH, 3, *(settings.window,) * 3, device="cuda", dtype=fast.dtype))
    left, right = (torch.randn(_SIDE, _SIDE, device="cuda", dtype=fast.dtype) for _ in range(2))
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            fast.module(images)
        rate = counter.get_total_flops() / _seconds(lambda: fast.module(images))
        bound = 2 * _SIDE**3 / _seconds(lambda: left @ right)
    return rate / bound


def _seconds(work: Callable[[], object]) -> float:
    """Of one call, the best of some, each waited for."""
    taken = []
    for _ in range(_ROUNDS + 1):
        torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return min(taken[1:])
