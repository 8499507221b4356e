"""The stage that marks abnormalities on mammograms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ..data.mammogram_entries import lesion_mask
from ..errors import InputError
from ..inference.device import inference_precision
from ..metrics.overlap import dice
from ..networks.layout import to_fast_layout
from ..progress import Progress
from .augment import change_intensities
from .figures import mean_figure
from .losses import segmentation_loss
from .mammograms import FILM_MOTION, REGION_MARGIN, REGION_MOTION, load_films, square_at
from .order import ShuffledPasses
from .seeds import generator
from .task import Validation

if TYPE_CHECKING:
    from ..data.datalist import Datalist
    from ..transfer.figure import Figure
    from ..transfer.stages import MammogramSegmentation

_CHANNELS = 3
_JITTER = 0.35  # of the region's side, by which a marked pixel is off its middle at most
_MARKED_SHARE = 0.5  # of the regions of a film with a mark that lie on it


class MammogramSegmentationTask:
    """A training.task.Task on prepared films, or regions of them: inputs (N, 3, 1, H, W), targets (N, 1, 1, H, W).

    Half of the regions of a film with a mark lie on it; all others lie anywhere in the breast. All films are
    seen once a pass. Metric: mean Dice of the validation films with a mark, whole, at threshold 0.5; films
    without one have no Dice.

    Raises
    ------
    InputError : nothing is marked on the training films, or a mask cannot be read.
    """

    metric = "validation Dice"
    validations = 10

    def __init__(self, stage: MammogramSegmentation, datalist: Datalist, seed: int, progress: Progress) -> None:
        self._seed, self._augments = seed, stage.training.augmentation
        self._size, self._region = stage.image_size, stage.region
        self.shape = (1, *(2 * [stage.region or stage.image_size]))
        self._films, self._masks = self._load(datalist.training, progress.part(0, 0.8))
        if not self._masks.any():
            raise InputError(
                f"nothing is marked on the training films of the datalist {datalist.name}",
                "Give films with masks or with circles_px",
            )
        films, masks = self._load(datalist.validation, progress.part(0.8, 1))
        marked = masks.flatten(1).any(dim=1)
        self._held_out = list(zip(films[marked], masks[marked]))
        self._held_out_patients = [entry.patient for entry, has in zip(datalist.validation, marked) if has]
        self.can_validate = bool(self._held_out)
        self._passes = ShuffledPasses(len(self._films), stage.training.batch_size, seed)
        self.steps = max(1, stage.training.epochs * self._passes.steps_per_pass // stage.training.accumulate)

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        rng = generator(self._seed, "images", number)
        pairs = [self._drawn(film, rng) for film in self._passes.examples(number)]
        both = torch.stack(pairs)
        if not self._augments:
            return _as_input(both[:, :1]), both[:, 1:].unsqueeze(2)
        moved = (FILM_MOTION if self._region is None else REGION_MOTION).apply(both, rng)
        first = (moved.shape[-1] - self.shape[-1]) // 2
        middle = slice(first, first + self.shape[-1])
        moved = moved[..., middle, middle]
        images = change_intensities(moved[:, :1].contiguous(), rng)
        return _as_input(images), (moved[:, 1:] >= 0.5).float().unsqueeze(2)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return segmentation_loss(logits, targets)

    def validate(self, network: nn.Module) -> Validation:
        """Mean Dice and mean loss of the validation films with a mark."""
        figures = []
        for logits, mask in self._predicted(network):
            score = dice((logits >= 0).numpy(), mask.numpy())
            figures.append((score, float(segmentation_loss(logits, mask.float()))))
        return Validation(*np.mean(figures, axis=0).tolist())

    def figure(self, network: nn.Module) -> Figure:
        """The mean Dice with its interval over the validation patients."""
        scores = [dice((logits >= 0).numpy(), mask.numpy()) for logits, mask in self._predicted(network)]
        return mean_figure(scores, self._held_out_patients)

    def _predicted(self, network: nn.Module):
        """(logits, mask), each (size, size), of every validation film with a mark."""
        device = next(network.parameters()).device
        with torch.inference_mode(), inference_precision(device):
            for film, mask in self._held_out:
                images = to_fast_layout(_as_input(film[None].float()).to(device))
                yield network(images)[0, 0, 0].float().cpu(), mask[0]

    def _load(self, entries, progress: Progress) -> tuple[Tensor, Tensor]:
        """Prepared films, float16, and their masks, bool: (N, 1, size, size) each."""
        films = load_films(entries, self._size, progress)
        masks = np.array([lesion_mask(entry, self._size) for entry in entries], dtype=bool)
        return films, torch.from_numpy(masks.reshape(films.shape))

    def _drawn(self, number: int, rng: np.random.Generator) -> Tensor:
        """A film and its mask, or a region of them: float32 (2, side, side)."""
        both = torch.cat([self._films[number].float(), self._masks[number].float()])
        if self._region is None:
            return both
        side = round(self._region * REGION_MARGIN) if self._augments else self._region
        shown = both[1] if rng.random() < _MARKED_SHARE and both[1].any() else both[0]
        pixels = np.argwhere(shown.numpy() != 0)
        place = pixels[rng.integers(len(pixels))] + rng.uniform(-_JITTER, _JITTER, 2) * self._region
        return square_at(both, place, side)


def _as_input(images: Tensor) -> Tensor:
    """Grey images (N, 1, H, W) as single slices of as many channels as the backbone has: (N, 3, 1, H, W)."""
    return images.expand(-1, _CHANNELS, -1, -1).unsqueeze(2)
