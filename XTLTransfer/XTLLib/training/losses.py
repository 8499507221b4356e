"""Losses on logits. Targets are 0 or 1, of the logits' shape."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Loss = Callable[[Tensor, Tensor], Tensor]

_SMOOTH = 1e-5
_LARGEST_WEIGHT = 10.0  # beyond it a handful of positives would steer every step


def segmentation_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Soft Dice (Milletari 2016, arXiv 1606.04797, without squares) + binary cross entropy, in equal parts.

    Dice is taken over the whole batch rather than for each window: a window without any lesion has no
    Dice of its own, and would pull every probability in it to zero. Equal to MONAI's
    ``DiceCELoss(sigmoid=True, batch=True)``, which a test holds it to; MONAI's import costs seconds.
    """
    probabilities = torch.sigmoid(logits)
    shared = (probabilities * targets).sum()
    dice = (2 * shared + _SMOOTH) / (probabilities.sum() + targets.sum() + _SMOOTH)
    return 1 - dice + functional.binary_cross_entropy_with_logits(logits, targets)


def classification_loss(positives: int, negatives: int) -> Loss:
    """Binary cross entropy in which both classes weigh the same."""
    return torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(class_weight(positives, negatives)))


def class_weight(positives: int, negatives: int) -> float:
    """Weight of a positive relative to a negative."""
    return float(min(max(negatives / max(positives, 1), 1 / _LARGEST_WEIGHT), _LARGEST_WEIGHT))
