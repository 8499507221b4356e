"""Random changes of training images. Which, how often and how strong are project choices.

All draws come from the NumPy generator that is handed in, so that a step's images depend on the step.
Intensities are in units of the prepared images: about zero mean and unit SD in the foreground.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Range = tuple[float, float]

_INTENSITY_SHARE = 0.5  # of examples that get each of the intensity changes
_SCALE, _SHIFT, _NOISE = (0.8, 1.2), (-0.2, 0.2), (0.0, 0.15)
_LOG_GAMMA = (-0.35, 0.35)


def change_intensities(images: Tensor, rng: np.random.Generator, unit: float = 1.0) -> Tensor:
    """Contrast, brightness, gamma and Gaussian noise, drawn for each example and channel by itself.

    Values that are exactly 0 are background and stay; so does a channel of one value, which stands for
    one that is missing.

    Parameters
    ----------
    images : float32 (N, C, ...).
    unit : SD of the foreground's intensities.
    """
    drawn_for = images.shape[:2]

    def draw(limits: Range, neutral: float) -> np.ndarray:
        return np.where(rng.random(drawn_for) < _INTENSITY_SHARE, rng.uniform(*limits, drawn_for), neutral)

    log_gamma, scale, shift, noise = draw(_LOG_GAMMA, 0.0), draw(_SCALE, 1.0), draw(_SHIFT, 0.0), draw(_NOISE, 0.0)
    # Torch draws normal numbers three times as fast as NumPy.
    noise_source = torch.Generator().manual_seed(int(rng.integers(2**63)))
    # One channel at a time: it stays in the processor's cache, and only what was drawn for it is computed.
    changed = images.clone(memory_format=torch.contiguous_format)
    for place in np.ndindex(*drawn_for):
        channel = changed[place]
        low, high = channel.aminmax()
        if low == high:
            continue
        background = channel == 0
        if log_gamma[place]:
            spread = (high - low).clamp(min=1e-6)
            channel.sub_(low).div_(spread).clamp_(0, 1).pow_(math.exp(log_gamma[place])).mul_(spread).add_(low)
        if scale[place] != 1 or shift[place]:
            channel.mul_(scale[place]).add_(shift[place] * unit)
        if noise[place]:
            drawn = torch.empty_like(channel).normal_(generator=noise_source)
            channel.add_(drawn, alpha=noise[place] * unit)
        channel.masked_fill_(background, 0)
    return changed


@dataclass(frozen=True)
class PlaneMotion:
    """Random motions of images in their plane.

    Attributes
    ----------
    degrees : largest rotation. scale : factors. shift : largest shift as a share of the image's side.
    flips_rows, flips_columns : whether rows (up-down), columns (left-right) are mirrored half of the time.
    """

    degrees: float
    scale: Range
    shift: float
    flips_rows: bool = False
    flips_columns: bool = False

    def apply(self, images: Tensor, rng: np.random.Generator, outside: str = "zeros") -> Tensor:
        """Move each example (N, ..., H, W) by its own draw, the same for all its channels and slices.

        ``outside`` says what comes in at the border: "zeros", or "border" to repeat the edge.
        """
        count = len(images)
        angle = np.deg2rad(rng.uniform(-self.degrees, self.degrees, count))
        scale = rng.uniform(*self.scale, count)
        mirror = np.ones((count, 2))
        for column, flips in enumerate((self.flips_columns, self.flips_rows)):
            if flips:
                mirror[:, column] = rng.choice([-1.0, 1.0], count)
        matrix = np.empty((count, 2, 3), dtype=np.float32)
        matrix[:, 0, 0], matrix[:, 0, 1] = np.cos(angle) / scale * mirror[:, 0], -np.sin(angle) / scale * mirror[:, 1]
        matrix[:, 1, 0], matrix[:, 1, 1] = np.sin(angle) / scale * mirror[:, 0], np.cos(angle) / scale * mirror[:, 1]
        matrix[:, :, 2] = rng.uniform(-2 * self.shift, 2 * self.shift, (count, 2))
        flat = images.reshape(count, -1, *images.shape[-2:])
        grid = F.affine_grid(torch.from_numpy(matrix), list(flat.shape), align_corners=False)
        return F.grid_sample(flat, grid, padding_mode=outside, align_corners=False).reshape(images.shape)


@dataclass(frozen=True)
class SpaceMotion:
    """A rotation and a scaling of a window in space.

    Attributes
    ----------
    degrees : largest rotation about each axis. scale : factors.
    """

    degrees: float = 12.0
    scale: Range = (0.85, 1.2)

    def draw(self, rng: np.random.Generator, spacing_mm: tuple[float, float, float]) -> np.ndarray:
        """(3, 3): an offset (k, j, i) in the window -> the offset in the image, for voxels of ``spacing_mm`` (x, y, z).

        Rotations are rotations in mm, whatever the voxels' shape.
        """
        rotation = np.eye(3)
        for axis, angle in enumerate(np.deg2rad(rng.uniform(-self.degrees, self.degrees, 3))):
            a, b = (other for other in range(3) if other != axis)
            turn = np.eye(3)
            turn[a, a] = turn[b, b] = math.cos(angle)
            turn[a, b], turn[b, a] = -math.sin(angle), math.sin(angle)
            rotation = turn @ rotation
        spacing = np.array(spacing_mm[::-1])
        return (rotation / rng.uniform(*self.scale)) * spacing[None, :] / spacing[:, None]
