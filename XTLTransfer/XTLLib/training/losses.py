"""Losses of the stages. Targets of classifications and segmentations are 0 to 1, of the logits' shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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


def many_classes_loss(counts: Sequence[int], balanced: bool) -> Loss:
    """Cross entropy on logits (N, K) and targets (N, K), one-hot or blended; balanced, all K classes weigh the same.

    Parameters
    ----------
    counts : training entries of each class, none of them 0.
    """
    numbers = torch.tensor(counts, dtype=torch.float32)
    weights = (numbers.mean() / numbers).clamp(1 / _LARGEST_WEIGHT, _LARGEST_WEIGHT)
    return torch.nn.CrossEntropyLoss(weight=weights if balanced else None)


def reconstruction_loss(output: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error over the hidden part of the images.

    Parameters
    ----------
    output : (N, C, D, H, W). targets : (N, 2 C, D, H, W), the true images, then 1 where a value counts, else 0.
    """
    truth, counts = targets.chunk(2, dim=1)
    return ((output - truth).square() * counts).sum() / counts.sum().clamp(min=1)


def contrastive_loss(vectors: Tensor, images: Tensor, temperature: float) -> Tensor:
    """NT-Xent (Chen et al. 2020, arXiv 2002.05709): each view is told from all views of other images.

    Parameters
    ----------
    vectors : (N, P), two views of each image. images : (N,) the number of each view's image.
    """
    unit = functional.normalize(vectors, dim=1)
    similarity = (unit @ unit.T) / temperature
    similarity = similarity.masked_fill(torch.eye(len(unit), dtype=torch.bool, device=unit.device), -torch.inf)
    same = images[:, None] == images[None, :]
    partners = same.float().fill_diagonal_(0).argmax(dim=1)
    return functional.cross_entropy(similarity, partners)


def class_weight(positives: int, negatives: int) -> float:
    """Weight of a positive relative to a negative."""
    return float(min(max(negatives / max(positives, 1), 1 / _LARGEST_WEIGHT), _LARGEST_WEIGHT))


def l2sp(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Half the squared distance of (weights, where they started from): L2-SP (Li et al. 2018, arXiv 1802.01483)."""
    return 0.5 * torch.stack([(now - start).square().sum() for now, start in pairs]).sum()
