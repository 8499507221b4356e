"""Augmentation of patches in patient space: what is sampled around a finding moves before it is resampled.

All channels move alike in mm, so that they go on showing the same anatomy, whatever their fields of view;
nothing is interpolated twice, and what comes into view at the border is image and not a repeated edge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError

_PURPOSE = 0x9A7C  # keeps these draws apart from others of the same seed and step


@dataclass(frozen=True, eq=False)
class PatchMotion:
    """A motion of the image around a finding, in the patch's axes x, y, z (nearest to L, P, S), mm.

    Attributes
    ----------
    matrix : (3, 3): the image at offset p from the finding goes to ``matrix @ p + shift_mm``.
    shift_mm : (3,).
    """

    matrix: np.ndarray
    shift_mm: np.ndarray

    def sources(self, offsets_mm: np.ndarray) -> np.ndarray:
        """Where the image at offsets (..., 3) of the moved patch comes from: offsets (..., 3) from the finding."""
        return (offsets_mm - self.shift_mm) @ np.linalg.inv(self.matrix).T


@dataclass(frozen=True)
class PatchJitter:
    """Random motions of patches; each is a function of the seed, the step and the example alone.

    Attributes
    ----------
    degrees : largest rotation in the plane of the slices.
    tilt_degrees : largest rotation about the two axes in that plane; needs patches of several slices.
    scale : smallest and largest factor of size.
    shift_mm : largest shift along x, y, z.
    mirror : left and right are exchanged half of the time (a prostate is about symmetric).
    """

    degrees: float = 0.0
    tilt_degrees: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    mirror: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", tuple(float(factor) for factor in self.scale))
        object.__setattr__(self, "shift_mm", tuple(float(mm) for mm in self.shift_mm))
        numbers = np.array([self.degrees, self.tilt_degrees, *self.scale, *self.shift_mm], dtype=float)
        if len(self.scale) != 2 or len(self.shift_mm) != 3 or not np.isfinite(numbers).all() or numbers.min() < 0:
            raise InputError(f"the jitter of patches is {self}", "Give largest values of 0 or more, and two factors")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise InputError(f"the jitter's scale is {self.scale}", "Give the smaller factor first, above 0")

    def reach_mm(self, size_mm: tuple[float, float, float]) -> np.ndarray:
        """(x, y, z): how far from the finding a moved patch of this extent may be sampled, along its axes, at most."""
        x, y, z = np.array(size_mm) / 2 + self.shift_mm
        in_plane = np.hypot(x, y)
        tilted = np.sin(np.deg2rad(min(self.tilt_degrees, 90.0)))
        across = np.hypot(in_plane, z) if tilted else in_plane
        return np.array([across, across, z + 2 * tilted * in_plane]) / self.scale[0]

    def motion(self, seed: int, step: int, example: int = 0) -> PatchMotion:
        """The motion of an example at a step: the same whatever was drawn before, so that training can be resumed."""
        rng = np.random.default_rng([abs(seed), step, example, _PURPOSE])
        turn, about_x, about_y = np.deg2rad(
            rng.uniform(-1, 1, 3) * (self.degrees, self.tilt_degrees, self.tilt_degrees)
        )
        matrix = _rotation(2, turn) @ _rotation(0, about_x) @ _rotation(1, about_y) * rng.uniform(*self.scale)
        shift = rng.uniform(-1, 1, 3) * self.shift_mm
        mirrored = bool(rng.random() < 0.5) and self.mirror
        return PatchMotion(matrix @ np.diag([-1.0 if mirrored else 1.0, 1.0, 1.0]), shift)


def _rotation(axis: int, radians: float) -> np.ndarray:
    """(3, 3): about x, y or z."""
    a, b = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[a, a] = matrix[b, b] = np.cos(radians)
    matrix[a, b], matrix[b, a] = -np.sin(radians), np.sin(radians)
    return matrix
