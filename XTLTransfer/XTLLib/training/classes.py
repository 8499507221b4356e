"""What the two classification stages share: passes over images with one label each, balance, AUC."""

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
from ..metrics.roc import auc
from ..networks.layout import to_fast_layout
from ..progress import Progress
from .losses import class_weight, classification_loss
from .mixup import mix
from .order import BalancedPasses, ShuffledPasses
from .seeds import generator
from .task import Validation

if TYPE_CHECKING:
    from ..data.datalist import Datalist
    from ..transfer.training import MammogramTraining, PatchTraining

_SMALLEST_CLASS = 3  # validation images of a class from which an AUC says something


class ClassTask(ABC):
    """A training.task.Task on images held in memory; subclasses load, change and shape them.

    Attributes
    ----------
    class_weight : what a positive counts relative to a negative in training, by its weight in the loss or
        by being drawn more often; 1 where the classes are not balanced.

    Raises InputError when the training part lacks one of the two classes.
    """

    metric = "validation AUC"
    validations = 10

    def __init__(
        self, training: MammogramTraining | PatchTraining, datalist: Datalist, seed: int, progress: Progress
    ) -> None:
        self._seed, self._augments = seed, training.augmentation
        self._truth = np.array([entry.label for entry in datalist.training])
        self.positives, negatives = int(self._truth.sum()), int((self._truth == 0).sum())
        if not (self.positives and negatives):
            raise InputError(
                f"the training part of the datalist {datalist.name} has {self.positives} positive and {negatives} "
                "negative entries",
                "Give entries of both classes",
            )
        self._held_out_truth = np.array([entry.label for entry in datalist.validation])
        counts = np.bincount(self._held_out_truth.astype(int), minlength=2)
        self.can_validate = min(counts) >= _SMALLEST_CLASS
        self._mixup = training.mixup
        self.class_weight = {
            "weight": class_weight(self.positives, negatives),
            "sample": negatives / self.positives,
            "none": 1.0,
        }[training.class_balance]
        balance = (self.positives, negatives) if training.class_balance == "weight" else (1, 1)
        self._loss = classification_loss(*balance)
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
        targets = torch.from_numpy(self._truth[chosen].astype(np.float32))[:, None]
        if self._mixup is not None:
            images, targets = mix(images, targets, self._mixup, generator(self._seed, "mixup", number))
        return self.as_input(images), targets

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self._loss.to(logits.device)(logits, targets)

    def validate(self, network: nn.Module) -> Validation:
        """AUC and loss on the validation patients."""
        logits = self._rate(network, self._held_out)
        truth = self._held_out_truth.astype(np.float32)
        loss = self._loss.cpu()(torch.from_numpy(logits), torch.from_numpy(truth))
        return Validation(auc(logits, self._held_out_truth), float(loss))

    def _rate(self, network: nn.Module, images: Tensor) -> np.ndarray:
        device = next(network.parameters()).device
        with torch.inference_mode(), inference_precision(device):
            logits = [
                network(to_fast_layout(self.as_input(part.float()).to(device))).float().cpu()
                for part in images.split(self._batch_size)
            ]
        return torch.cat(logits)[:, 0].numpy()
