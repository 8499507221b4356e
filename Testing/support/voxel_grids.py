"""Random voxel grids for property tests: oblique, left-handed, any axis order, anisotropic."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from XTLLib.data.geometry import Grid


def rotation(seed: int) -> np.ndarray:
    """A random proper rotation (3, 3), uniform over all."""
    w, x, y, z = (q := np.random.default_rng(seed).standard_normal(4)) / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


@st.composite
def grids(draw: st.DrawFn, smallest: int = 1, largest: int = 7) -> Grid:
    """Any rectangular grid: rotated, with axes exchanged and flipped, spacing 0.3 to 5 mm."""
    shape = tuple(draw(st.integers(smallest, largest)) for _ in range(3))
    spacing = np.array([draw(st.floats(0.3, 5)) for _ in range(3)])
    signs = np.diag([draw(st.sampled_from([-1.0, 1.0])) for _ in range(3)])
    axes = np.eye(3)[draw(st.permutations([0, 1, 2]))] @ signs
    turned = rotation(draw(st.integers(0, 10**6))) if draw(st.booleans()) else np.eye(3)
    affine = np.eye(4)
    affine[:3, :3] = turned @ axes * spacing
    affine[:3, 3] = [draw(st.floats(-200, 200)) for _ in range(3)]
    return Grid(shape, affine)
