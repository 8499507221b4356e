"""Windows of volumes for self-supervision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..data.prepare import Preparation, PreparedCase
from ..progress import Progress
from .augment import SpaceMotion, change_intensities
from .seeds import generator
from .unlabelled_cases import cases_of_a_batch, prepared_cases
from .windows import WindowSource

if TYPE_CHECKING:
    from ..data.datalist import Datalist
    from ..transfer.stages import SelfSupervised

Shape = tuple[int, int, int]

_VIEW_MOTION = SpaceMotion(degrees=15, scale=(0.8, 1.25))
_VIEW_SHIFT = 0.12  # of the window's sides, by which a view is off the image's middle at most
_HELD_OUT_WINDOWS = 4  # of a validation case


class WindowImages:
    """A self_supervised.ImageSource of windows (N, C, *window) that lie on the foreground.

    A batch takes its windows from as many cases as there are, then from other places of them.

    Attributes
    ----------
    spacing_mm : working spacing (x, y, z) of the first training case, which stands for all;
        ``spacings_differ`` says whether that is so by more than a tenth.
    shape : voxels (K, J, I) of a window: what was asked for, cut to the largest training case.
    """

    def __init__(
        self, stage: SelfSupervised, preparation: Preparation, datalist: Datalist, seed: int, progress: Progress
    ) -> None:
        self.channels, window = len(preparation.channels), stage.window
        self._batch_size, self._augments = stage.training.batch_size, stage.training.augmentation
        training, held_out = prepared_cases(datalist, preparation, progress)
        sources = [_source_of(case) for _, case in training]
        self.spacing_mm = sources[0].spacing_mm
        self.spacings_differ = any(not np.allclose(s.spacing_mm, self.spacing_mm, rtol=0.1) for s in sources)
        largest = np.max([source.shape for source in sources], axis=0)
        self.shape = tuple(min(w, int(n)) for w, n in zip(window, largest))
        self._sources = [_Windows(source.at_least(self.shape)) for source in sources]
        self._places: list[tuple[_Windows, np.ndarray]] = []
        for number, (_, case) in enumerate(held_out):
            windows, rng = _Windows(_source_of(case).at_least(self.shape)), generator(seed, "held-out windows", number)
            self._places += [(windows, windows.place(rng)) for _ in range(_HELD_OUT_WINDOWS)]
        self.held_out_patients = tuple(patient for patient, _ in held_out for _ in range(_HELD_OUT_WINDOWS))

    def draw(self, number: int, rng: np.random.Generator) -> Tensor:
        cases = cases_of_a_batch(len(self._sources), self._batch_size, rng)
        images = torch.stack([self._sources[n].source.draw(rng, self.shape, False, self._augments)[0] for n in cases])
        return change_intensities(images, rng) if self._augments else images

    def views(self, number: int, rng: np.random.Generator) -> Tensor:
        sources = [self._sources[n] for n in cases_of_a_batch(len(self._sources), self._batch_size, rng)]
        return self._views_at([(source, source.place(rng)) for source in sources], rng)

    def held_out(self) -> Tensor:
        return torch.stack([source.window(place, self.shape, np.eye(3)) for source, place in self._places])

    def held_out_views(self, rng: np.random.Generator) -> Tensor:
        return self._views_at(self._places, rng)

    def _views_at(self, places: list[tuple[_Windows, np.ndarray]], rng: np.random.Generator) -> Tensor:
        views = []
        for source, place in places:
            for _ in range(2):
                shift = rng.uniform(-_VIEW_SHIFT, _VIEW_SHIFT, 3) * self.shape
                view = source.window(place + shift, self.shape, _VIEW_MOTION.draw(rng, source.source.spacing_mm))
                views.append(view.flip([axis for axis in (2, 3) if rng.random() < 0.5]))
        return change_intensities(torch.stack(views), rng)


class _Windows:
    """Places and windows of one case."""

    def __init__(self, source: WindowSource) -> None:
        self.source = source
        self._foreground = np.flatnonzero(source.foreground)

    def place(self, rng: np.random.Generator) -> np.ndarray:
        """A voxel [k, j, i] of the foreground."""
        flat = self._foreground[rng.integers(len(self._foreground))]
        return np.array(np.unravel_index(flat, self.source.shape), dtype=float)

    def window(self, place: np.ndarray, shape: Shape, matrix: np.ndarray) -> Tensor:
        """The window around a place, moved inside the case; offsets mapped by ``matrix`` (3, 3)."""
        first = np.clip(np.round(place - np.array(shape) / 2), 0, np.array(self.source.shape) - shape)
        return self.source.moved(first + (np.array(shape) - 1) / 2, shape, matrix)[0]


def _source_of(case: PreparedCase) -> WindowSource:
    return WindowSource.of(case, np.zeros(case.foreground.shape, dtype=bool))
