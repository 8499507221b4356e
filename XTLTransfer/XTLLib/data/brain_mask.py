"""A brain mask without a trained network: a surface that is blown up inside the head until it meets the skull.

The method of Smith 2002 (BET, doi 10.1002/hbm.10062), written from the paper: a sphere of triangles starts
within the brain; at every step its points move towards even spacing and a smooth curvature, and outwards where
the image below them is bright enough, inwards where it is dark.

It is a fallback. Where a mask of a better method is at hand (HD-BET, SynthStrip, a manual one), give that.
It fails, in the order of how often this is to be expected, where
- the skull base is bright (eyes, muscles, sinuses): the mask bulges out there, most of all on T2, where fluid
  is as bright as what lies outside;
- the field of view cuts the brain: the mask ends at the edge of the image, and near it is worse;
- a strong bias field makes one side dark: it is left out (correct the bias first);
- a large bright lesion or a resection lies at the surface, or the ventricles are very wide.
A mask of an impossible volume is refused; all others have to be looked at. Images that show a brain without a
skull, or a head of less than 1.9 litres (an infant's), are taken as they are: the mask is their foreground.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .case import Case
from .prepare import find_foreground
from .volume import Volume, resample

BRAIN_MASK_NOTE = (
    "Lesions are reported within a brain mask of the built-in method, which may bulge out at the skull base and "
    "leave out dark regions: look at it, or give a mask"
)
_BEST_CHANNELS = ("FLAIR", "T1", "PD", "T2")  # in this order, as measured on real heads
_WORKING_MM = 2.0
_THRESHOLDS = (0.6, 0.5, 0.4, 0.3)  # fractional intensity; the next one where the surface fell in. 0.5 in the paper
_STEPS = 500
_SUBDIVISIONS = 4  # of an icosahedron: 2562 points
_LOOK_MM = 20.0  # inwards, for the darkest value; half of it for the brightest
_SMALLEST_RADIUS_MM, _LARGEST_RADIUS_MM = 3.33, 10.0  # of curvature: smoothed away, and left
_POSSIBLE_ML = (600.0, 2200.0)
_SMALLEST_HEAD_ML = 1900.0


@dataclass(frozen=True)
class _Levels:
    """Intensities: darkest and brightest that count, between air and head, and the brain's median."""

    dark: float
    air: float
    brain: float


def brain_of(case: Case) -> Volume:
    """The brain of a case, from the channel on which it is found best; bool on that channel's grid.

    Raises InputError when no brain is found.
    """
    name = next((name for name in _BEST_CHANNELS if name in case.channels), case.reference)
    return find_brain(case.channels[name])


def find_brain(volume: Volume) -> Volume:
    """The brain in an MR image of a head, T1, FLAIR, PD or T2: bool (K, J, I) on its grid.

    Cerebrum, cerebellum and brainstem with the fluid among them. See the module's text for what goes wrong.

    Raises InputError when the image is empty or holds NaN, or what is found has not the size of a brain.
    """
    grid = volume.require_finite().grid.along_lps().with_spacing((_WORKING_MM,) * 3)
    image = resample(volume, grid).array.astype(np.float32)
    inside = find_foreground(image[None])
    if _millilitres(inside) >= _SMALLEST_HEAD_ML:
        inside = _within_skull(image, volume.name)
    if not _POSSIBLE_ML[0] <= _millilitres(inside) <= _POSSIBLE_ML[1]:
        raise InputError(
            f"no brain was found in {volume.name} (the built-in method found {_millilitres(inside):.0f} ml)",
            "Give a brain mask, or go on without one",
        )
    back = resample(Volume(inside.astype(np.float32), grid), volume.grid)
    return Volume(back.array >= 0.5, volume.grid, f"brain mask of {volume.name}")


def _within_skull(image: np.ndarray, name: str) -> np.ndarray:
    """The brain in an image (K, J, I) of a head with its skull, at the working spacing.

    The voxels that the surface passes through are part of it: rather a little too much than a lesion in the cortex
    lost.
    """
    levels, centre, radius = _start(image, name)
    # Beyond the image is air: a surface that reaches its edge stops there.
    image = np.pad(image, 1, constant_values=levels.dark)
    sphere, triangles = _sphere()
    for threshold in _THRESHOLDS:
        points = _grown(centre + 1 + 0.5 * radius * sphere, triangles, image, levels, threshold)
        inside = _filled(points, triangles, image.shape)[1:-1, 1:-1, 1:-1]
        if _millilitres(inside) >= _POSSIBLE_ML[0]:
            break
    return inside


def _millilitres(inside: np.ndarray) -> float:
    return float(inside.sum()) * _WORKING_MM**3 / 1000.0


def _start(image: np.ndarray, name: str) -> tuple[_Levels, np.ndarray, float]:
    """Levels, the head's centre of mass [k, j, i] and the radius of a sphere of its volume, in voxels."""
    values = image[image > image.min()]
    if values.size == 0:
        raise InputError(f"{name} holds no foreground: all its voxels are alike", "Choose the right image")
    dark, bright = (float(value) for value in np.percentile(values, (2, 98)))
    air = dark + 0.1 * (bright - dark)
    where = np.argwhere(image > air)
    if where.size == 0:
        raise InputError(f"{name} holds no foreground: all its voxels are alike", "Choose the right image")
    weight = np.minimum(image[image > air], bright) - dark
    centre = (where * weight[:, None]).sum(axis=0) / weight.sum()
    radius = float((3 * len(where) / (4 * np.pi)) ** (1 / 3))
    near = np.linalg.norm(where - centre, axis=1) < radius
    middle = image[image > air][near]
    middle = middle[middle < bright]
    return _Levels(dark, air, float(np.median(middle)) if middle.size else bright), centre, radius


def _sphere() -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 3) of the unit sphere and triangles (m, 3) of their numbers, from a subdivided icosahedron."""
    golden = (1 + 5**0.5) / 2
    corners = [(a, b, 0.0) for a in (-1, 1) for b in (-golden, golden)]
    points = np.array([np.roll(corner, turn) for turn in range(3) for corner in corners])
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    joined = np.isclose(distance, 2.0)  # the edges of an icosahedron with these corners
    triangles = np.array(
        [
            (a, b, c)
            for a in range(12)
            for b in range(a)
            for c in range(b)
            if joined[a, b] and joined[b, c] and joined[a, c]
        ]
    )
    centres = points[triangles].mean(axis=1)
    normals = np.cross(
        points[triangles[:, 1]] - points[triangles[:, 0]], points[triangles[:, 2]] - points[triangles[:, 0]]
    )
    inwards = (normals * centres).sum(axis=1) < 0
    triangles[inwards] = triangles[inwards][:, ::-1]
    for _ in range(_SUBDIVISIONS):
        points, triangles = _subdivided(points, triangles)
    return points / np.linalg.norm(points, axis=1, keepdims=True), triangles


def _subdivided(points: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every triangle in four; new points in the middle of the edges."""
    edges = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    unique, number = np.unique(edges, axis=0, return_inverse=True)
    ab, bc, ca = (len(points) + number.reshape(-1, 3)).T
    a, b, c = triangles.T
    middles = points[unique].mean(axis=1)
    middles *= np.linalg.norm(points[0]) / np.linalg.norm(middles, axis=1, keepdims=True)
    parts = [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
    return np.concatenate([points, middles]), np.concatenate([np.stack(part, axis=1) for part in parts])


def _grown(
    points: np.ndarray, triangles: np.ndarray, image: np.ndarray, levels: _Levels, threshold: float
) -> np.ndarray:
    """The surface's points [k, j, i] after all steps."""
    neighbours = _mean_of_neighbours(len(points), triangles)
    edges = triangles[:, :2]
    depths = np.arange(0.0, _LOOK_MM / _WORKING_MM + 1e-6)
    near = depths <= _LOOK_MM / _WORKING_MM / 2
    middle = (1 / _SMALLEST_RADIUS_MM + 1 / _LARGEST_RADIUS_MM) / 2 * _WORKING_MM
    sharpness = 6 / ((1 / _SMALLEST_RADIUS_MM - 1 / _LARGEST_RADIUS_MM) * _WORKING_MM)
    last = np.array(image.shape) - 1
    for step in range(_STEPS):
        if step % 50 == 0:
            length = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1).mean()
        normals = _normals(points, triangles)
        towards = neighbours @ points - points
        along = (towards * normals).sum(axis=1, keepdims=True)
        curvature = 2 * np.abs(along) / length**2  # one over the radius
        smoothing = (1 + np.tanh(sharpness * (curvature - middle))) / 2
        below = np.rint(points[:, None] - depths[:, None] * normals[:, None]).astype(int)
        below = np.clip(below, 0, last)
        seen = image[below[..., 0], below[..., 1], below[..., 2]]
        darkest = np.clip(seen.min(axis=1), levels.dark, levels.brain)
        brightest = np.minimum(levels.brain, np.maximum(levels.air, seen[:, near].max(axis=1)))
        span = np.maximum(brightest - levels.dark, 1e-6)
        outwards = 2 * ((darkest - levels.dark) / span - threshold)
        sideways = towards - along * normals
        points = points + 0.5 * sideways + (smoothing * along + 0.05 * length * outwards[:, None]) * normals
    return points


def _normals(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Unit normals (n, 3) at the points, outwards."""
    a, b, c = (points[corner] for corner in triangles.T)
    of_triangles = np.repeat(np.cross(b - a, c - a), 3, axis=0)
    flat = triangles.ravel()
    summed = np.stack([np.bincount(flat, of_triangles[:, axis], len(points)) for axis in range(3)], axis=1)
    return summed / np.maximum(np.linalg.norm(summed, axis=1, keepdims=True), 1e-9)


def _mean_of_neighbours(count: int, triangles: np.ndarray):
    """A sparse matrix (count, count) that takes the mean over a point's neighbours."""
    from scipy.sparse import coo_matrix, diags

    edges = triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)  # each in both directions, by its two triangles
    joined = coo_matrix((np.ones(len(edges)), edges.T), shape=(count, count)).tocsr()
    return diags(1 / np.asarray(joined.sum(axis=1)).ravel()) @ joined


def _filled(points: np.ndarray, triangles: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Voxels within the closed surface and on it: bool of ``shape``."""
    from scipy.ndimage import binary_fill_holes

    corners = points[triangles]
    longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max()
    shares = np.linspace(0, 1, 2 * int(np.ceil(longest)) + 1)  # a sample every half voxel
    u, v = (part[np.add.outer(shares, shares) <= 1 + 1e-9] for part in np.meshgrid(shares, shares, indexing="ij"))
    a, b, c = (corners[:, None, n] for n in range(3))
    surface = a + u[:, None] * (b - a) + v[:, None] * (c - a)
    voxels = np.clip(np.rint(surface.reshape(-1, 3)).astype(int), 0, np.array(shape) - 1)
    shell = np.zeros(shape, dtype=bool)
    shell[tuple(voxels.T)] = True
    return binary_fill_holes(shell)
