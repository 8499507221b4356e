"""The mammogram stage's data: whole breasts, one probability each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..data.datalist import Entry
from ..data.mammogram import prepare_mammogram, read_mammogram
from ..progress import Progress
from .augment import PlaneMotion, change_intensities
from .classes import ClassTask

if TYPE_CHECKING:
    from ..data.datalist import Datalist
    from ..transfer.chain import Intermediate

# The chest wall stays at the left; a breast of the other side is its mirror image already.
_MOTION = PlaneMotion(degrees=12, scale=(0.9, 1.1), shift=0.05, flips_rows=True)


class MammogramTask(ClassTask):
    """Prepared mammograms held in memory (float16), as inputs (N, 3, size, size)."""

    def __init__(self, stage: Intermediate, datalist: Datalist, seed: int, progress: Progress) -> None:
        self._size = stage.image_size
        super().__init__(stage.training, datalist, seed, progress)

    def load(self, entries: Sequence[Entry], datalist: Datalist, progress: Progress) -> Tensor:
        images = np.empty((len(entries), 1, self._size, self._size), dtype=np.float16)
        for number, entry in enumerate(entries):
            progress.report("Preparing mammograms", number / len(entries))
            path = next(iter(entry.images.values()))
            images[number, 0] = prepare_mammogram(read_mammogram(path), self._size)
        return torch.from_numpy(images)

    def augmented(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        return change_intensities(_MOTION.apply(images, rng), rng)

    def as_input(self, images: Tensor) -> Tensor:
        return images.expand(-1, 3, -1, -1)
