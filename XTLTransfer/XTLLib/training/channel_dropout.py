"""Whole channels left out of some training windows, so that a network learns to do without them."""

from __future__ import annotations

import numpy as np
from torch import Tensor


def without_some_channels(images: Tensor, share: float, kept: int, rng: np.random.Generator) -> Tensor:
    """A batch in which channels are 0 throughout, as ``data.prepare`` fills a channel that a case lacks.

    In each window each channel but one is left out with the probability ``share``, one independently of the other.

    Parameters
    ----------
    images : (N, C, D, H, W), normalised: 0 is a channel's mean.
    kept : the channel that is never left out, the reference.
    rng : decides; the same state gives the same windows.
    """
    there = rng.random(images.shape[:2]) >= share
    there[:, kept] = True
    return images * images.new_tensor(there.astype(np.float32))[..., None, None, None]
