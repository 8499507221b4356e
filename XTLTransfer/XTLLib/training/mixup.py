"""Blended examples as a regulariser of classifications."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def mix(images: Tensor, targets: Tensor, alpha: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """MixUp (Zhang et al. 2018, arXiv 1710.09412): every example blended with another one of its batch.

    Parameters
    ----------
    images : (N, C, ...). targets : float (N, K): probabilities of the classes (one-hot for K > 1).
    alpha : the share that an example keeps is drawn from Beta(alpha, alpha), once a batch.

    Returns
    -------
    Blended images and soft targets of the same shapes. As cross entropy is linear in its targets, its value
    on them is the blend of its values on both targets.
    """
    share = float(rng.beta(alpha, alpha))
    other = torch.from_numpy(rng.permutation(len(images)))
    return torch.lerp(images[other], images, share), torch.lerp(targets[other], targets, share)
