"""The segmentation stage's data: windows of volumes with a lesion mask."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ..data.datalist import Entry
from ..data.load import load_case
from ..data.prepare import Preparation, PreparedCase
from ..errors import InputError
from ..inference.sliding_window import predict
from ..metrics.overlap import dice
from ..progress import Progress
from .augment import change_intensities
from .channel_dropout import without_some_channels
from .figures import mean_figure
from .losses import segmentation_loss
from .seeds import generator
from .task import Validation
from .windows import WindowSource

if TYPE_CHECKING:
    from ..data.datalist import Datalist
    from ..transfer.figure import Figure
    from ..transfer.stages import IntermediateSegmentation, SegmentationTarget

_THRESHOLDS = tuple(round(0.1 * n, 1) for n in range(1, 10))
_THRESHOLD = 0.5
_SMALLEST_PROBABILITY = 1e-7  # the logarithm of 0 is no number


class VolumeTask:
    """A training.task.Task on windows: every other one lies on a lesion.

    Attributes
    ----------
    spacing_mm : working spacing (x, y, z) of the first training case, which stands for all;
        ``spacings_differ`` says whether that is so by more than a tenth.
    window : voxels (K, J, I): the stage's, cut to the largest case.

    Raises
    ------
    InputError : no training case has a lesion, or a case cannot be prepared.
    """

    metric = "validation Dice"
    validations = 4  # whole volumes are dear

    def __init__(
        self,
        stage: SegmentationTarget | IntermediateSegmentation,
        preparation: Preparation,
        datalist: Datalist,
        seed: int,
        progress: Progress,
    ) -> None:
        self._seed, self._augments = seed, stage.training.augmentation
        self._batch_size = stage.training.batch_size
        self.steps = stage.training.steps
        self.can_validate = bool(datalist.validation)
        self._preparation = preparation
        self._channel_dropout = stage.training.channel_dropout
        self._reference = preparation.channels.index(preparation.reference)
        count = len(datalist.training) + len(datalist.validation)
        shares = [n / count for n in range(count + 1)]
        sources = []
        for number, entry in enumerate(datalist.training):
            progress.report("Preparing volumes", shares[number])
            sources.append(WindowSource.of(*self._prepared(entry, datalist)))
        self._held_out = []
        for number, entry in enumerate(datalist.validation, len(sources)):
            progress.report("Preparing volumes", shares[number])
            self._held_out.append(self._prepared(entry, datalist))
        self._held_out_patients = [entry.patient for entry in datalist.validation]
        self.spacing_mm = sources[0].spacing_mm
        self.spacings_differ = any(not np.allclose(s.spacing_mm, self.spacing_mm, rtol=0.1) for s in sources)
        largest = np.max([source.shape for source in sources], axis=0)
        self.window = tuple(min(w, int(n)) for w, n in zip(stage.window, largest))
        self._sources = [source.at_least(self.window) for source in sources]
        self._with_lesions = [source for source in self._sources if source.lesions]
        if not self._with_lesions:
            raise InputError(
                f"no training case of the datalist {datalist.name} has a lesion in its mask",
                "Give at least one case with lesions",
            )

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        rng = generator(self._seed, "windows", number)
        images, masks = [], []
        for place in range(self._batch_size):
            on_lesion = (number * self._batch_size + place) % 2 == 0
            sources = self._with_lesions if on_lesion else self._sources
            source = sources[rng.integers(len(sources))]
            image, mask = source.draw(rng, self.window, on_lesion, self._augments)
            images.append(image)
            masks.append(mask)
        images = torch.stack(images)
        if self._augments:
            images = change_intensities(images, rng)
        if self._channel_dropout:  # draws of its own: without it, the windows are the same
            rng = generator(self._seed, "channel dropout", number)
            images = without_some_channels(images, self._channel_dropout, self._reference, rng)
        return images, torch.stack(masks)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return segmentation_loss(logits, targets)

    def validate(self, network: nn.Module) -> Validation:
        """Mean Dice of the validation cases on the working grid, at threshold 0.5, and mean loss."""
        figures = [(dice(p >= _THRESHOLD, mask), _loss_of(p, mask)) for p, mask in self._predicted(network)]
        return Validation(*np.mean(figures, axis=0).tolist())

    def figure(self, network: nn.Module) -> Figure:
        """The mean Dice with its interval over the validation patients."""
        scores = [dice(p >= _THRESHOLD, mask) for p, mask in self._predicted(network)]
        return mean_figure(scores, self._held_out_patients)

    def best_threshold(self, network: nn.Module) -> float:
        """The threshold of the highest mean Dice on the validation cases; the one nearest 0.5 among equals."""
        scores = np.mean([[dice(p >= t, mask) for t in _THRESHOLDS] for p, mask in self._predicted(network)], axis=0)
        best = [t for t, score in zip(_THRESHOLDS, scores) if score >= scores.max() - 1e-9]
        return min(best, key=lambda t: abs(t - _THRESHOLD))

    def _predicted(self, network: nn.Module) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Probability and mask of each validation case."""
        for prepared, mask in self._held_out:
            yield predict(network, prepared.image, prepared.foreground), mask

    def _prepared(self, entry: Entry, datalist: Datalist) -> tuple[PreparedCase, np.ndarray]:
        case = load_case(entry, datalist)
        prepared = self._preparation(case)
        return prepared, prepared.mask_on_working_grid(case.mask)


def _loss_of(probability: np.ndarray, mask: np.ndarray) -> float:
    """The training's loss of a whole case. A probability of 0, as outside the foreground, costs nothing there."""
    logits = torch.logit(torch.from_numpy(probability), eps=_SMALLEST_PROBABILITY)
    return float(segmentation_loss(logits, torch.from_numpy(mask).float()))


def preparation_of(
    channels: tuple[str, ...],
    spacing_mm: tuple[float, float, float] | None,
    datalist: Datalist,
    *,
    channel_dropout: float = 0.0,
    bias_correction: bool = False,
) -> Preparation:
    """How cases become input. The datalist's reference, where it is among the channels.

    With channel dropout all channels but the reference are optional.
    """
    reference = datalist.reference if datalist.reference in channels else channels[0]
    optional = tuple(name for name in channels if name != reference) if channel_dropout else ()
    return Preparation(channels, reference, spacing_mm, optional, bias_correction)


def require_values_for_batchnorm(window: tuple[int, int, int], multiple: tuple[int, int, int], batch_size: int) -> None:
    """Raise InputError when the network's deepest level would have one value a channel: no statistics."""
    if batch_size * math.prod(math.ceil(n / m) for n, m in zip(window, multiple)) < 2:
        raise InputError(
            f"a window of {' x '.join(map(str, window))} voxels with batch_size {batch_size}",
            f"Take at least 2 a batch, or one larger than {' x '.join(map(str, multiple))}",
        )
