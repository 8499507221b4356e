"""What the classification stages share: passes over images with one label each, balance, AUC."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ..data.datalist import Entry
from ..errors import InputError
from ..inference.device import inference_precision
from ..metrics.roc import auc, macro_auc
from ..networks.layout import to_fast_layout
from ..progress import Progress
from .figures import auc_figure
from .losses import class_weight, classification_loss, many_classes_loss
from .mixup import mix
from .order import BalancedPasses, ShuffledPasses
from .seeds import generator
from .task import Validation

if TYPE_CHECKING:
    from ..data.datalist import Datalist
    from ..transfer.figure import Figure
    from ..transfer.training import MammogramTraining, PatchTraining

_SMALLEST_CLASS = 3  # validation images of a class from which an AUC says something


class ClassTask(ABC):
    """A training.task.Task on images held in memory; subclasses load, change and shape them.

    Attributes
    ----------
    out_channels : logits of an image: 1 of two classes, else one for each class.
    class_weight : of two classes, what a positive counts relative to a negative in training, by its weight in
        the loss or by being drawn more often; 1 where the classes are not balanced.

    The metric is the AUC, of more than two classes the mean over each class against all others.

    Raises InputError when the training part lacks one of the classes.
    """

    metric = "validation AUC"
    validations = 10

    def __init__(
        self, training: MammogramTraining | PatchTraining, datalist: Datalist, seed: int, progress: Progress
    ) -> None:
        self._seed, self._augments = seed, training.augmentation
        self._truth = np.array([entry.label for entry in datalist.training])
        names = datalist.classes
        counts = np.bincount(self._truth, minlength=len(names))
        if not counts.all():
            there = ", ".join(f"{count} of {name}" for name, count in zip(names, counts))
            raise InputError(
                f"the training part of the datalist {datalist.name} lacks a class ({there})",
                "Give entries of every class",
            )
        self.out_channels = 1 if len(names) == 2 else len(names)
        self._held_out_truth = np.array([entry.label for entry in datalist.validation], dtype=int)
        self._held_out_patients = [entry.patient for entry in datalist.validation]
        # An AUC of several classes is the mean over those that the validation part has.
        held_out_counts = np.bincount(self._held_out_truth, minlength=len(names))
        self.can_validate = np.count_nonzero(held_out_counts >= _SMALLEST_CLASS) >= 2
        self._mixup = training.mixup
        positives, negatives = int(counts[1]), int(counts[0])
        self.class_weight = {
            "weight": class_weight(positives, negatives),
            "sample": negatives / positives,
            "none": 1.0,
        }[training.class_balance]
        weighs = training.class_balance == "weight"
        if self.out_channels == 1:
            self._loss = classification_loss(*((positives, negatives) if weighs else (1, 1)))
        else:
            self._loss = many_classes_loss(counts.tolist(), weighs)
        part = len(datalist.training) / max(1, len(datalist.training) + len(datalist.validation))
        self._images = self.load(datalist.training, datalist, progress.part(0, part))
        if self.can_validate:
            self._held_out = self.load_held_out(datalist, progress.part(part, 1))
        if training.class_balance == "sample":
            self._passes = BalancedPasses(self._truth, training.batch_size, seed)
        else:
            self._passes = ShuffledPasses(len(self._images), training.batch_size, seed)
        self._batch_size = training.batch_size
        self.steps = max(1, training.epochs * self._passes.steps_per_pass // training.accumulate)

    @abstractmethod
    def load(self, entries: Sequence[Entry], datalist: Datalist, progress: Progress) -> Tensor:
        """The images of entries: float16 (N, C, ...)."""

    def load_held_out(self, datalist: Datalist, progress: Progress) -> Tensor:
        """The images of the validation part, in its order."""
        return self.load(datalist.validation, datalist, progress)

    def drawn(self, chosen: np.ndarray, rng: np.random.Generator) -> Tensor:
        """The float32 images of the training entries ``chosen``, changed at random when asked for."""
        images = self._images[torch.from_numpy(chosen)].float()
        return self.augmented(images, rng) if self._augments else images

    @abstractmethod
    def augmented(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        """Random changes of float32 images (N, C, ...)."""

    def as_input(self, images: Tensor) -> Tensor:
        """What the network sees of float32 images (N, C, ...)."""
        return images

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        chosen = self._passes.examples(number)
        images = self.drawn(chosen, generator(self._seed, "images", number))
        targets = self._targets(self._truth[chosen])
        if self._mixup is not None:
            images, targets = mix(images, targets, self._mixup, generator(self._seed, "mixup", number))
        return self.as_input(images), targets

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self._loss.to(logits.device)(logits, targets)

    def validate(self, network: nn.Module) -> Validation:
        """AUC and loss on the validation patients."""
        logits = self._rate(network, self._held_out)
        loss = self._loss.cpu()(torch.from_numpy(logits), self._targets(self._held_out_truth))
        truth = self._held_out_truth
        metric = auc(logits[:, 0], truth) if self.out_channels == 1 else macro_auc(logits, truth)
        return Validation(metric, float(loss))

    def held_out_logits(self, network: nn.Module) -> np.ndarray:
        """Logits (n, K) of the validation part, in its order."""
        return self._rate(network, self._held_out)

    def figure(self, network: nn.Module) -> Figure:
        """The AUC with its interval over the validation patients."""
        return auc_figure(self._rate(network, self._held_out), self._held_out_truth, self._held_out_patients)

    def _targets(self, labels: np.ndarray) -> Tensor:
        """float32 (n, 1) of 0 and 1, or one-hot (n, K)."""
        if self.out_channels == 1:
            return torch.from_numpy(labels.astype(np.float32))[:, None]
        return torch.from_numpy(np.eye(self.out_channels, dtype=np.float32)[labels])

    def _rate(self, network: nn.Module, images: Tensor) -> np.ndarray:
        """Logits (n, K) of images in the order in which they are held."""
        device = next(network.parameters()).device
        with torch.inference_mode(), inference_precision(device):
            logits = [
                network(to_fast_layout(self.as_input(part.float()).to(device))).float().cpu()
                for part in images.split(self._batch_size)
            ]
        return torch.cat(logits).numpy()
