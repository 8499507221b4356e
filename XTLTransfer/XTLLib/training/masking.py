"""Hidden blocks of images, which a network learns to fill in."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def hidden_blocks(shape: tuple[int, int, int], size: int, share: float, rng: np.random.Generator) -> Tensor:
    """Which voxels of an image are hidden: bool ``shape``.

    The image is divided into blocks of ``size`` voxels a side, or less where an axis is shorter, from an origin
    that is drawn anew; ``share`` of the blocks is hidden, one at least, and one at least is shown.
    """
    sides = [min(size, n) for n in shape]
    origins = [int(rng.integers(side)) for side in sides]
    counts = [math.ceil((n + origin) / side) for n, origin, side in zip(shape, origins, sides)]
    total = math.prod(counts)
    chosen = np.zeros(total, dtype=bool)
    chosen[rng.permutation(total)[: min(max(1, round(share * total)), max(1, total - 1))]] = True
    blocks = chosen.reshape(counts)
    for axis, (n, origin, side) in enumerate(zip(shape, origins, sides)):
        blocks = blocks.take((np.arange(n) + origin) // side, axis=axis)
    return torch.from_numpy(np.ascontiguousarray(blocks))


def masked_example(images: Tensor, size: int, share: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Images with hidden blocks, and what ``losses.reconstruction_loss`` compares their reconstruction with.

    A hidden voxel is 0 in all channels: the mean of a standardised image. Background, which is 0 as well, does
    not count: to guess it is no merit.

    Parameters
    ----------
    images : float32 (N, C, D, H, W), standardised, 0 in the background.

    Returns
    -------
    (N, C, D, H, W) and (N, 2 C, D, H, W).
    """
    hidden = torch.stack([hidden_blocks(tuple(images.shape[2:]), size, share, rng) for _ in images])[:, None]
    counts = hidden & (images != 0)
    return images.masked_fill(hidden, 0), torch.cat([images, counts.float()], dim=1)
