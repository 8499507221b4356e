"""The data of an adaptation: windows of the corrected cases, and of the source data that are not to be forgotten."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ..transfer.adaptation import Adaptation
from .augment import change_intensities
from .losses import segmentation_loss
from .seeds import generator
from .task import Validation
from .windows import Shape, WindowSource


class AdaptTask:
    """A training.task.Task on windows, every other one on a lesion. It validates nothing: see ``Adaptation``.

    Attributes
    ----------
    window : voxels (K, J, I), cut to the largest corrected part.

    Parameters
    ----------
    corrected : parts that are learned from; at least one has a lesion.
    replay : of the source data; may be empty.
    """

    metric, validations, can_validate = "held-out Dice", 1, False

    def __init__(
        self,
        corrected: Sequence[WindowSource],
        replay: Sequence[WindowSource],
        window: Shape,
        settings: Adaptation,
        seed: int,
    ) -> None:
        training = settings.training
        self.steps, self._augments, self._seed = training.steps, training.augmentation, seed
        largest = np.max([source.shape for source in corrected], axis=0)
        self.window = tuple(min(w, int(n)) for w, n in zip(window, largest))
        self._draws = [(_Windows(corrected, self.window), training.batch_size)]
        if replay and settings.replay > 0:  # beside the corrected ones, which are few enough
            self._draws.append((_Windows(replay, self.window), max(1, round(settings.replay * training.batch_size))))

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        rng = generator(self._seed, "windows", number)
        drawn = [
            windows.draw(rng, (number * count + place) % 2 == 0, self._augments)
            for windows, count in self._draws
            for place in range(count)
        ]
        images, masks = (torch.stack(side) for side in zip(*drawn))
        return change_intensities(images, rng) if self._augments else images, masks

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return segmentation_loss(logits, targets)

    def validate(self, network: nn.Module) -> Validation:
        raise NotImplementedError("an adaptation looks at its held-out part once, after the training")


class _Windows:
    def __init__(self, sources: Sequence[WindowSource], window: Shape) -> None:
        self._window = window
        self._sources = [source.at_least(window) for source in sources]
        self._with_lesions = [source for source in self._sources if source.lesions] or self._sources

    def draw(self, rng: np.random.Generator, on_lesion: bool, augment: bool) -> tuple[Tensor, Tensor]:
        sources = self._with_lesions if on_lesion else self._sources
        return sources[rng.integers(len(sources))].draw(rng, self._window, on_lesion, augment)
