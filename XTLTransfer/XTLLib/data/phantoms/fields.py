"""What all phantoms are made of: random fields in patient space, soft shapes, noise, and grids."""

from __future__ import annotations

import numpy as np

from ..geometry import Grid

_AXES = {
    "L": (-1, 0, 0),
    "R": (1, 0, 0),
    "P": (0, -1, 0),
    "A": (0, 1, 0),
    "S": (0, 0, 1),
    "I": (0, 0, -1),
}


class SmoothField:
    """A random field over patient space with about zero mean and unit SD, smooth on a chosen scale.

    Parameters
    ----------
    rng : source of randomness.
    scale_mm : about the width of one bump (a quarter of the dominant wavelength).
    half_extent_mm : the field is defined in a cube of this half width around the origin; constant further out.
    band_pass : removes what is broader than the bumps, so that zero crossings are evenly spread.
    """

    def __init__(self, rng: np.random.Generator, scale_mm: float, half_extent_mm: float, band_pass: bool = False):
        from scipy.ndimage import gaussian_filter

        self._step = scale_mm / 2
        self._half = half_extent_mm
        count = max(8, int(np.ceil(2 * half_extent_mm / self._step)))
        white = rng.standard_normal((count,) * 3, dtype=np.float32)
        field = gaussian_filter(white, 2.0, mode="wrap")
        if band_pass:
            field -= gaussian_filter(white, 3.2, mode="wrap")
        self.lattice = (field - field.mean()) / field.std()

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """RAS mm (3, ...) -> value (...)."""
        return self._interpolate(self.lattice, points)

    def distance_to_zero_mm(self, points: np.ndarray) -> np.ndarray:
        """About how far RAS points (3, ...) lie from the field's nearest zero crossing, in mm (first order)."""
        slope = np.sqrt(sum(g * g for g in np.gradient(self.lattice, self._step)))
        return np.abs(self(points)) / np.maximum(self._interpolate(slope, points), 0.3 * slope.mean())

    def _interpolate(self, lattice: np.ndarray, points: np.ndarray) -> np.ndarray:
        from scipy.ndimage import map_coordinates

        where = (points + np.float32(self._half)) / np.float32(self._step)
        return map_coordinates(lattice, where, order=1, mode="nearest", output=np.float32)


def ellipsoid_distance(points: np.ndarray, centre, semi_axes, rotation: np.ndarray | None = None) -> np.ndarray:
    """About the signed distance (mm, negative inside) of points (3, ...) from an ellipsoid's surface.

    ``rotation`` (3, 3) turns the ellipsoid: its columns are the directions of the semi-axes.
    The approximation is exact to first order at the surface.
    """
    x, y, z = (points[axis] - points.dtype.type(centre[axis]) for axis in range(3))
    if rotation is not None:
        columns = np.asarray(rotation, dtype=points.dtype).T
        x, y, z = (column[0] * x + column[1] * y + column[2] * z for column in columns)
    a, b, c = (points.dtype.type(1 / axis) for axis in semi_axes)
    x, y, z = (x * a) ** 2, (y * b) ** 2, (z * c) ** 2
    radius = np.sqrt(x + y + z)
    slope = np.sqrt(x * a**2 + y * b**2 + z * c**2)
    return radius * (radius - 1) / np.maximum(slope, 1e-6)


def inside(distance: np.ndarray, edge_mm: float) -> np.ndarray:
    """Fraction (0..1) of a voxel that lies inside a surface ``distance`` mm away; ``edge_mm`` = width of the rise."""
    return np.clip(0.5 - distance / np.float32(edge_mm), 0, 1)


def paint(image: np.ndarray, fraction: np.ndarray, value: float) -> None:
    """In place: cover ``fraction`` (0..1) of every voxel with a tissue of the given signal."""
    image += fraction * (np.float32(value) - image)


def rician(signal: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Magnitude of the signal with Gaussian noise of SD ``sigma`` in its real and its imaginary part."""
    real = signal + sigma * rng.standard_normal(signal.shape, dtype=np.float32)
    imaginary = sigma * rng.standard_normal(signal.shape, dtype=np.float32)
    return np.hypot(real, imaginary)


def rotation_from_degrees(about_r: float, about_a: float, about_s: float) -> np.ndarray:
    """A rotation matrix in RAS: first about the R axis, then A, then S."""
    (cr, ca, cs), (sr, sa, ss) = (f(np.radians([about_r, about_a, about_s])) for f in (np.cos, np.sin))
    turn_r = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    turn_a = np.array([[ca, 0, sa], [0, 1, 0], [-sa, 0, ca]])
    turn_s = np.array([[cs, -ss, 0], [ss, cs, 0], [0, 0, 1]])
    return turn_s @ turn_a @ turn_r


def box_grid(centre_ras, extent_mm, spacing_mm, axes: str = "LPS", tilt_deg=(0.0, 0.0, 0.0)) -> Grid:
    """A grid around a point.

    Parameters
    ----------
    centre_ras : centre of the box, mm.
    extent_mm : widths along i, j, k.
    spacing_mm : voxel spacing along i, j, k.
    axes : patient directions of increasing i, j, k, three letters such as "LPS", "RAS", "PSL".
    tilt_deg : rotation of the box about R, A and S.
    """
    spacing = np.asarray(spacing_mm, dtype=float)
    counts = np.maximum(1, np.round(np.asarray(extent_mm) / spacing)).astype(int)
    directions = rotation_from_degrees(*tilt_deg) @ np.array([_AXES[letter] for letter in axes], dtype=float).T
    affine = np.eye(4)
    affine[:3, :3] = directions * spacing
    affine[:3, 3] = np.asarray(centre_ras) - affine[:3, :3] @ ((counts - 1) / 2)
    return Grid(tuple(counts[::-1]), affine)


def points_of(grid: Grid) -> np.ndarray:
    """RAS mm of every voxel centre, float32 (3, K, J, I)."""
    k, j, i = (np.arange(n, dtype=np.float32) for n in grid.shape)
    affine = grid.ijk_to_ras.astype(np.float32)
    return np.stack([row[2] * k[:, None, None] + row[1] * j[:, None] + row[0] * i + row[3] for row in affine[:3]])
