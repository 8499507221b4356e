"""Training windows from prepared volumes, balanced between lesions and the rest of the foreground."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.prepare import PreparedCase
from ..metrics.components import bounding_box, label_components
from .augment import SpaceMotion

Shape = tuple[int, int, int]

_CONNECTIVITY = 26
_MOTION = SpaceMotion()
_MOVED_SHARE = 0.3  # of windows that are rotated and scaled: this is what costs time


@dataclass(frozen=True, eq=False)
class WindowSource:
    """A prepared case held in memory, cropped to its foreground.

    Attributes
    ----------
    image : float16 (C, K, J, I), zero outside the foreground: half the memory, and 3 digits are plenty.
    lesion : bool (K, J, I).
    foreground : bool (K, J, I).
    lesions : voxels (n, 3) of each lesion, [k, j, i], 26-connected.
    spacing_mm : along (i, j, k).
    """

    image: Tensor
    lesion: Tensor
    foreground: np.ndarray
    lesions: tuple[np.ndarray, ...]
    spacing_mm: tuple[float, float, float]

    @classmethod
    def of(cls, prepared: PreparedCase, mask: np.ndarray) -> WindowSource:
        """From a prepared case and its mask (K, J, I) on the working grid."""
        box = bounding_box(prepared.foreground | mask)
        mask = mask[box]
        components, count = label_components(mask, _CONNECTIVITY)
        voxels = np.argwhere(components)
        owner = components[tuple(voxels.T)]
        return cls(
            torch.from_numpy(prepared.image[(slice(None), *box)].astype(np.float16)),
            torch.from_numpy(mask.copy()),
            prepared.foreground[box].copy(),
            tuple(voxels[owner == number] for number in range(1, count + 1)),
            prepared.grid.spacing_mm,
        )

    @property
    def shape(self) -> Shape:
        return self.foreground.shape

    def at_least(self, window: Shape) -> WindowSource:
        """This case with background around it where it is smaller than the window."""
        missing = [max(0, w - n) for w, n in zip(window, self.shape)]
        if not any(missing):
            return self
        before = [n // 2 for n in missing]
        margins = [(b, n - b) for b, n in zip(before, missing)]
        flat = [n for pair in reversed(margins) for n in pair]
        return WindowSource(
            F.pad(self.image, flat),
            F.pad(self.lesion, flat),
            np.pad(self.foreground, margins),
            tuple(voxels + before for voxels in self.lesions),
            self.spacing_mm,
        )

    def draw(self, rng: np.random.Generator, window: Shape, on_lesion: bool, augment: bool) -> tuple[Tensor, Tensor]:
        """A window: image float32 (C, *window), mask float32 (1, *window).

        With ``on_lesion`` a lesion is drawn first and then one of its voxels, so that a small lesion is
        seen as often as a large one; else any foreground voxel. The voxel lies near the window's centre.
        With ``augment`` the window is mirrored left-right and front-back, and now and then turned and scaled.
        """
        size = np.array(window)
        centre = self._lesion_voxel(rng) if on_lesion and self.lesions else self._foreground_voxel(rng)
        centre = centre + np.round(rng.uniform(-0.25, 0.25, 3) * size).astype(int)
        start = np.clip(centre - size // 2, 0, np.array(self.shape) - size)
        if augment and rng.random() < _MOVED_SHARE:
            image, mask = self.moved(start + (size - 1) / 2, window, _MOTION.draw(rng, self.spacing_mm))
        else:
            box = tuple(slice(a, a + n) for a, n in zip(start, window))
            image, mask = self.image[(slice(None), *box)].float(), self.lesion[box].float()[None]
        if augment:
            mirrored = [axis for axis in (2, 3) if rng.random() < 0.5]
            image, mask = image.flip(mirrored), mask.flip(mirrored)
        return image, mask

    def moved(self, centre: np.ndarray, window: Shape, matrix: np.ndarray) -> tuple[Tensor, Tensor]:
        """A window around ``centre`` [k, j, i] whose offsets are mapped by ``matrix`` (3, 3), sampled linearly."""
        half = (np.array(window) - 1) / 2
        reach = np.ceil(np.abs(matrix) @ half).astype(int) + 1
        middle = np.round(centre).astype(int)
        crop, mask = (
            _box_or_zero(array, middle - reach, middle + reach + 1) for array in (self.image, self.lesion[None])
        )
        # Channels innermost, as sampling visits all channels of a voxel at once.
        both = torch.empty((*crop.shape[1:], len(crop) + 1))
        for number, values in enumerate((*crop, mask[0])):
            both[..., number] = values
        both = both.permute(3, 0, 1, 2)[None]
        # From units of half the window to units of half the crop (1 is the last voxel's centre).
        linear = matrix * half[None, :] / reach[:, None]
        shift = (centre - middle) / reach
        theta = np.concatenate([linear[::-1, ::-1], shift[::-1, None]], axis=1)  # torch's order is x, y, z
        grid = F.affine_grid(torch.from_numpy(theta[None].astype(np.float32)), [1, 1, *window], align_corners=True)
        moved = F.grid_sample(both, grid, align_corners=True)[0]
        return moved[:-1], (moved[-1:] > 0.5).float()

    def _lesion_voxel(self, rng: np.random.Generator) -> np.ndarray:
        voxels = self.lesions[rng.integers(len(self.lesions))]
        return voxels[rng.integers(len(voxels))]

    def _foreground_voxel(self, rng: np.random.Generator) -> np.ndarray:
        for _ in range(100):  # the foreground fills much of its box
            voxel = rng.integers(0, self.shape)
            if self.foreground[tuple(voxel)]:
                return voxel
        return voxel


def _box_or_zero(array: Tensor, first: np.ndarray, last: np.ndarray) -> Tensor:
    """``array[:, first:last]`` along (k, j, i), zero where that lies outside."""
    shape = np.array(array.shape[1:])
    inside = [slice(max(0, a), min(n, b)) for a, b, n in zip(first, last, shape)]
    margins = [(part.start - a, b - part.stop) for part, a, b in zip(inside, first, last)]
    return F.pad(array[(slice(None), *inside)], [int(n) for pair in reversed(margins) for n in pair])
