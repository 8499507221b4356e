"""2D images for self-supervision: what films and slices share."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from torch import Tensor

from .augment import PlaneMotion, change_intensities


class FlatImages(ABC):
    """A self_supervised.ImageSource of grey 2D images, as inputs (N, 3, 1, side, side): volumes of one slice.

    Subclasses say which squares there are; what is drawn is a function of the generator that is handed in.

    Attributes
    ----------
    channels, shape : of an input. held_out_patients : the patient of each held-out image.
    motion : what a training image may go through. view_motion : what makes two views of an image differ.
    """

    channels = 3  # the grey image, as many times as the backbone has input channels
    motion: PlaneMotion
    view_motion: PlaneMotion
    held_out_patients: tuple[str, ...] = ()

    def __init__(self, side: int, augments: bool) -> None:
        self.shape = (1, side, side)
        self._augments = augments

    @abstractmethod
    def squares(self, number: int, rng: np.random.Generator) -> Tensor:
        """The squares of batch ``number``: float32 (N, 1, a, a), at least as large as an input."""

    @abstractmethod
    def held_out_squares(self) -> Tensor:
        """The held-out squares: float32 (N, 1, a, a), at least as large as an input."""

    def draw(self, number: int, rng: np.random.Generator) -> Tensor:
        """The inputs of batch ``number``."""
        squares = self.squares(number, rng)
        return self._changed(squares, self.motion, rng) if self._augments else self._as_input(squares)

    def views(self, number: int, rng: np.random.Generator) -> Tensor:
        """Two views of each image of batch ``number``, one after the other: (2 N, 3, 1, side, side)."""
        return self._changed(self.squares(number, rng).repeat_interleave(2, dim=0), self.view_motion, rng)

    def held_out(self) -> Tensor:
        """The held-out inputs, unchanged."""
        return self._as_input(self.held_out_squares())

    def held_out_views(self, rng: np.random.Generator) -> Tensor:
        """Two views of each held-out image, one after the other."""
        return self._changed(self.held_out_squares().repeat_interleave(2, dim=0), self.view_motion, rng)

    def _changed(self, squares: Tensor, motion: PlaneMotion, rng: np.random.Generator) -> Tensor:
        return self._as_input(change_intensities(self._middle(motion.apply(squares, rng)), rng))

    def _as_input(self, squares: Tensor) -> Tensor:
        return self._middle(squares).float().expand(-1, self.channels, -1, -1).unsqueeze(2)

    def _middle(self, squares: Tensor) -> Tensor:
        side = self.shape[-1]
        first = (squares.shape[-1] - side) // 2
        return squares[..., first : first + side, first : first + side].contiguous()
