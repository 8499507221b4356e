"""Slices of volumes for self-supervision: each channel a grey image of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..data.prepare import Preparation, PreparedCase
from ..metrics.components import bounding_box
from ..progress import Progress
from .augment import PlaneMotion
from .flat_images import FlatImages
from .unlabelled_cases import cases_of_a_batch, prepared_cases

if TYPE_CHECKING:
    from ..data.datalist import Datalist
    from ..transfer.stages import SelfSupervised

_MARGIN = 1.5  # side of what is cut out, to be moved, over the side of what is shown
_SMALLEST_SHARE = 0.1  # of the fullest slice's foreground: slices with less show little
_HELD_OUT_SLICES = 4  # of a channel of a validation case


class SliceImages(FlatImages):
    """Squares of axial slices (rows A to P, columns R to L) of the working grid.

    A batch takes its slices from as many cases as there are, then from other places of them.

    ``preparation`` names the channels that are drawn from.
    """

    motion = PlaneMotion(degrees=15, scale=(0.85, 1.2), shift=0.05, flips_columns=True)
    view_motion = PlaneMotion(degrees=25, scale=(0.7, 1.4), shift=0.08, flips_columns=True)

    def __init__(
        self, stage: SelfSupervised, preparation: Preparation, datalist: Datalist, seed: int, progress: Progress
    ) -> None:
        side = stage.image_size
        super().__init__(side, stage.training.augmentation)
        self._batch_size = stage.training.batch_size
        training, held_out = prepared_cases(datalist, preparation, progress)
        self._stacks = [_Stack.of(case) for _, case in training]
        squares, patients = [], []
        for patient, case in held_out:
            stack = _Stack.of(case)
            for channel in range(len(stack.image)):
                places = np.linspace(0, len(stack.slices) - 1, min(_HELD_OUT_SLICES, len(stack.slices))).round()
                for place in places.astype(int):
                    index = stack.slices[place]
                    middle = np.argwhere(stack.foreground[index]).mean(axis=0)
                    squares.append(stack.square(channel, index, middle, self._cut_side))
                    patients.append(patient)
        self._held_out = torch.stack(squares) if squares else torch.zeros(0, 1, side, side)
        self.held_out_patients = tuple(patients)

    @property
    def _cut_side(self) -> int:
        return math.ceil(self.shape[-1] * _MARGIN)

    def squares(self, number: int, rng: np.random.Generator) -> Tensor:
        squares = []
        for case in cases_of_a_batch(len(self._stacks), self._batch_size, rng):
            stack = self._stacks[case]
            channel, index = rng.integers(len(stack.image)), stack.slices[rng.integers(len(stack.slices))]
            pixels = np.argwhere(stack.foreground[index])
            # The square lies on the slice's foreground, rarely at its very edge.
            place = (pixels[rng.integers(len(pixels))] + pixels.mean(axis=0)) / 2
            squares.append(stack.square(channel, index, place, self._cut_side))
        return torch.stack(squares).float()

    def held_out_squares(self) -> Tensor:
        return self._held_out.float()


@dataclass(frozen=True, eq=False)
class _Stack:
    """A case's volumes, cropped to the foreground.

    Attributes
    ----------
    image : float16 (C, K, J, I). foreground : bool (K, J, I).
    slices : indices along K of the slices that show enough.
    """

    image: Tensor
    foreground: np.ndarray
    slices: np.ndarray

    @classmethod
    def of(cls, case: PreparedCase) -> _Stack:
        box = bounding_box(case.foreground)
        foreground = case.foreground[box].copy()
        shown = foreground.sum(axis=(1, 2))
        slices = np.flatnonzero(shown >= _SMALLEST_SHARE * shown.max())
        return cls(torch.from_numpy(case.image[(slice(None), *box)].astype(np.float16)), foreground, slices)

    def square(self, channel: int, index: int, place: np.ndarray, side: int) -> Tensor:
        """float16 (1, side, side) around ``place`` [j, i] of a slice, 0 beyond its border."""
        plane = self.image[channel, index][None]
        first = np.round(np.asarray(place) - side / 2).astype(int)
        row, column = np.clip(first + side, 0, np.array(plane.shape[1:]) + side)
        padded = functional.pad(plane, (side, side, side, side))
        return padded[:, row : row + side, column : column + side].clone()
