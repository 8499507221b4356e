"""The same generated brains as another scanner would show them: what a trained network has to be adapted to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..case import Case
from ..geometry import Grid
from ..volume import Volume
from .brain import CHANNELS, BrainPhantom
from .fields import SmoothField, box_grid, points_of, rician

_WHITE_PERCENTILE = 90  # of the head: about the brightest tissue that is not rare
_FIELD_HALF_MM, _RIM_MM = 130.0, 90.0
_EXTENT_MM = (144.0, 172.0, 129.0)


@dataclass(frozen=True)
class Scanner:
    """How a scanner differs from the one of ``brain.brain_case``.

    Attributes
    ----------
    spacing_mm : along i, j, k of all channels.
    axes : patient directions of increasing i, j, k, three letters.
    gamma : channel -> exponent of the signal relative to bright tissue; below 1 compresses what is bright.
        Channels that are not named keep their contrast.
    noise : SD of the noise in units of the signal of bright tissue.
    grain_mm : about the width of a grain of the noise, which is smooth as that of interpolated images; 0 for
        white noise. Its SD doubles from the rim of the field to its middle, as under parallel imaging.
    shading : SD of the logarithm of the receive coil's sensitivity.
    """

    spacing_mm: tuple[float, float, float] = (1.2, 1.2, 3.0)
    axes: str = "LAS"
    gamma: Mapping[str, float] = field(default_factory=lambda: {"FLAIR": 0.45, "T1": 2.2, "T2": 0.5})
    noise: float = 0.04
    grain_mm: float = 1.5
    shading: float = 0.25

    def images(
        self, phantom: BrainPhantom, grid: Grid, rng: np.random.Generator, channels: tuple[str, ...] = CHANNELS
    ) -> dict[str, np.ndarray]:
        """Channels on one grid: name -> uint16 (K, J, I)."""
        points = points_of(grid)
        images = {}
        for name, image in phantom.images(channels, grid, rng).items():
            head = image > 0.1 * image.max()
            relative = image / np.float32(np.percentile(image[head], _WHITE_PERCENTILE))
            signal = relative ** np.float32(self.gamma.get(name, 1.0))
            signal *= np.exp(self.shading * SmoothField(rng, 50.0, _FIELD_HALF_MM)(points))
            images[name] = np.round(rng.uniform(150, 400) * self._noisy(signal, points, rng)).astype(np.uint16)
        return images

    def _noisy(self, signal: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if self.grain_mm <= 0:
            return rician(signal, self.noise, rng)
        from scipy.ndimage import gaussian_filter

        radius = np.sqrt((points**2).sum(axis=0)) / np.float32(_RIM_MM)
        sigma = self.noise * (2 - np.clip(radius, 0, 1))
        widths = [self.grain_mm / 2 / spacing for spacing in self.spacing_mm[::-1]]
        parts = []
        for _ in range(2):
            part = gaussian_filter(rng.standard_normal(signal.shape, dtype=np.float32), widths, mode="wrap")
            parts.append(part / part.std())
        return np.hypot(signal + sigma * parts[0], sigma * parts[1])


def scanned_case(seed: int, patient: str, scanner: Scanner | None = None) -> Case:
    """A patient with FLAIR, T1, T2 of a scanner (default: a new one) and the true lesion mask on the same grid.

    The anatomy is that of ``brain.brain_case`` with the same seed; the same arguments give the same voxels.
    """
    scanner = scanner or Scanner()
    phantom, rng = BrainPhantom(seed), np.random.default_rng([13, seed])
    centre = np.array([0.0, 0.0, 2.0]) + rng.uniform(-3, 3, 3)
    grid = box_grid(centre, _EXTENT_MM, scanner.spacing_mm, scanner.axes, rng.uniform(-8, 8, 3))
    images = scanner.images(phantom, grid, rng)
    channels = {name: Volume(images[name], grid, f"{patient} {name}") for name in CHANNELS}
    return Case(patient, channels, "FLAIR", Volume(phantom.truth(grid), grid, f"{patient} lesion mask"))
