"""Losses on logits. Targets are 0 or 1, of the logits' shape."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]

_LARGEST_WEIGHT = 10.0  # beyond it a handful of positives would steer every step


def segmentation_loss() -> Loss:
    """Dice + binary cross entropy in equal parts: MONAI's ``DiceCELoss`` on one sigmoid channel.

    Dice is taken over the whole batch rather than for each window: a window without any lesion has no
    Dice of its own, and would pull every probability in it to zero.
    """
    from monai.losses import DiceCELoss

    return DiceCELoss(sigmoid=True, batch=True)


def classification_loss(positives: int, negatives: int) -> Loss:
    """Binary cross entropy in which both classes weigh the same."""
    return torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(class_weight(positives, negatives)))


def class_weight(positives: int, negatives: int) -> float:
    """Weight of a positive relative to a negative."""
    return float(min(max(negatives / max(positives, 1), 1 / _LARGEST_WEIGHT), _LARGEST_WEIGHT))
