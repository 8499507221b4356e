"""Edits laid over the lesions of a threshold: grown from a click, taken away by a click, drawn by hand.

How a missed lesion grows from the clicked voxel
------------------------------------------------
The region is the part of ``probability >= level`` that is connected (26) with the voxel and no lesion yet.
``level`` starts at the voxel's own probability and is lowered towards half of the highest probability of
the region found there (the contour at half maximum). It stops before the region becomes larger than
``LARGEST_MM3``. Where the region is larger from the beginning, it is cut to a ball of that volume.

How a false lesion goes
-----------------------
The whole component goes. Where a lower threshold has since joined it with others, the voxels go that are
nearer to it, as it was, than to those.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..data.geometry import Grid
from ..errors import InputError
from .edits import Edit, ijk_of, voxel_at
from .lesions import CONNECTIVITY, LesionFinder, Regions
from .runs import components_of, runs_of

LARGEST_MM3 = 4000.0  # of a lesion grown from a click
LOWEST_PROBABILITY = 0.01  # of a voxel that a lesion can be grown from
_REACH_MM = 2.0  # how far a click may be beside what is meant
_BISECTIONS = 10  # levels are found to 1/1000 of the way
_BOX_RADII = 2  # a grown lesion reaches no farther than this many radii of the largest ball


def lesion_to_add(finder: LesionFinder, regions: Regions, ras: Sequence[float]) -> Edit:
    """The edit that grows a lesion at a click: from the most probable voxel within 2 mm that is no lesion yet.

    Parameters
    ----------
    regions : what is lesion now. ras : the click, RAS mm in the coordinates of the finder's map.

    Raises
    ------
    InputError : the click is outside of the map, in a lesion, or where the probability is next to nothing.
    """
    near = _voxels_near(finder.probability.grid, ras)
    clicked = voxel_at(np.asarray(ras), finder.probability.grid)
    if clicked in regions.voxels:
        raise InputError("there is a lesion at this place already", "Click on one that was missed")
    taken = regions.voxels[np.isin(regions.voxels, near, kind="table")]  # the other way round sorts all of them
    near = near[~np.isin(near, taken)]
    likeliest = near[finder.values[near] == finder.values[near].max(initial=0)]
    voxel = int(likeliest[np.argmin(_distance_mm(finder.probability.grid, likeliest, ras))])
    if finder.values[voxel] < LOWEST_PROBABILITY:
        raise InputError(
            f"the probability of lesion is only {finder.values[voxel]:.1%} at this place",
            "Draw the lesion in the Segment Editor",
        )
    return Edit("add", voxel)


def lesion_to_remove(finder: LesionFinder, regions: Regions, threshold: float, ras: Sequence[float]) -> Edit:
    """The edit that removes the lesion at, or within 2 mm of, a click. InputError where there is none."""
    near = _voxels_near(finder.probability.grid, ras)
    hits = np.flatnonzero(np.isin(regions.voxels, near, kind="table"))
    if hits.size == 0:
        raise InputError("there is no lesion at this place", "Click on a lesion")
    distance = _distance_mm(finder.probability.grid, regions.voxels[hits], ras)
    voxels = regions.of(int(regions.identifier[hits[np.argmin(distance)]]))
    values = finder.values[voxels]
    peak = int(np.argmax(values))  # of all its voxels the last one that a higher threshold leaves
    return Edit("remove", int(voxels[peak]), min(float(threshold), float(values[peak])))


def apply_edits(finder: LesionFinder, regions: Regions, edits: Sequence[Edit]) -> Regions:
    """The lesions after the edits. What a user added is kept whatever its volume.

    Parameters
    ----------
    regions : the lesions of the threshold and the minimum volume, without edits.
    """
    if not edits:
        return regions
    drawing = _Drawing(finder, regions)
    for edit in edits:
        drawing.apply(edit)
    return finder.measure(np.flatnonzero(drawing.mask))


class _Drawing:
    """A mask under change; its components are found when they are needed, and again only after they changed."""

    def __init__(self, finder: LesionFinder, regions: Regions) -> None:
        self._finder, self._grid = finder, finder.probability.grid
        self.mask = np.zeros(finder.values.size, dtype=bool)
        self.mask[regions.voxels] = True
        self._voxels: np.ndarray | None = None
        self._component: np.ndarray | None = None

    def apply(self, edit: Edit) -> None:
        if edit.kind == "remove":
            self._remove(edit)
            return
        if edit.kind == "paint":
            self.mask[edit.added], self.mask[edit.removed] = True, False
        elif not self.mask[edit.voxel]:
            self.mask[_grown(self._finder, self.mask, edit.voxel)] = True
        self._voxels = None

    def _remove(self, edit: Edit) -> None:
        if not self.mask[edit.voxel]:
            return
        if self._voxels is None:
            self._voxels = np.flatnonzero(self.mask)
            self._component = _components(self._voxels, self._grid)
        place = np.searchsorted(self._voxels, edit.voxel)
        lesion = self._voxels[self._component == self._component[place]]
        gone = _share(self._finder, lesion, edit)
        self.mask[gone] = False
        if gone.size < lesion.size:  # what is left may have come apart
            self._voxels = None


def _share(finder: LesionFinder, lesion: np.ndarray, edit: Edit) -> np.ndarray:
    """The voxels of a lesion that belong to the one that was removed at ``edit.level``."""
    high = lesion[finder.values[lesion] >= edit.level]
    component = _components(high, finder.probability.grid)
    place = np.searchsorted(high, edit.voxel)
    if place == high.size or high[place] != edit.voxel or component.max() == 0:
        return lesion
    from scipy.ndimage import distance_transform_edt

    grid = finder.probability.grid
    kji = np.stack(np.unravel_index(lesion, grid.shape))
    first = kji.min(axis=1)
    shape = kji.max(axis=1) - first + 1
    inside = tuple(kji - first[:, None])
    distances = []
    for part in (high[component == component[place]], high[component != component[place]]):
        away = np.ones(shape, dtype=bool)
        away[tuple(np.stack(np.unravel_index(part, grid.shape)) - first[:, None])] = False
        distances.append(distance_transform_edt(away, sampling=grid.spacing_mm[::-1])[inside])
    return lesion[distances[0] <= distances[1]]


def _grown(finder: LesionFinder, mask: np.ndarray, voxel: int) -> np.ndarray:
    """The voxels of a lesion grown from a voxel; see the module's text. Empty where the map is too low."""
    from scipy.ndimage import label

    grid = finder.probability.grid
    largest = max(1, int(LARGEST_MM3 / grid.voxel_volume_mm3))
    radius = (3 * LARGEST_MM3 / (4 * np.pi)) ** (1 / 3)
    box = _box_around(grid, voxel, _BOX_RADII * radius)
    shape = tuple(part.stop - part.start for part in box)
    values = finder.values.reshape(grid.shape)[box]
    free = ~mask.reshape(grid.shape)[box]
    seed = tuple(index - part.start for index, part in zip(np.unravel_index(voxel, grid.shape), box))

    def region(level: float, within: np.ndarray) -> np.ndarray:
        components, _ = label((values >= level) & within, np.ones((3, 3, 3)))
        return components == components[seed]

    top = values[seed]
    if top < LOWEST_PROBABILITY:
        return _none()
    found = region(top, free)
    if np.count_nonzero(found) > largest:
        everywhere = np.arange(values.size).reshape(shape)
        kji = np.stack(np.unravel_index(everywhere, shape), axis=-1) - np.array(seed)
        near = np.linalg.norm(kji[..., ::-1] @ grid.ijk_to_ras[:3, :3].T, axis=-1) <= radius
        found = region(top, free & near)
    else:
        low, high = min(float(top), float(values[found].max()) / 2), float(top)
        widest = region(low, free)
        if np.count_nonzero(widest) <= largest:
            found = widest
        else:
            for _ in range(_BISECTIONS):
                middle = (low + high) / 2
                tried = region(middle, free)
                if np.count_nonzero(tried) <= largest:
                    found, high = tried, middle
                else:
                    low = middle
    kji = np.stack(np.nonzero(found)) + np.array([[part.start] for part in box])
    return np.ravel_multi_index(tuple(kji), grid.shape)


def _components(voxels: np.ndarray, grid: Grid) -> np.ndarray:
    """The component 0..n-1 of each of the sorted voxels."""
    runs = runs_of(voxels, grid.shape)
    return np.repeat(components_of(runs, CONNECTIVITY)[0], runs.lengths)


def _voxels_near(grid: Grid, ras: Sequence[float]) -> np.ndarray:
    """The voxels within reach of a click, in array order, at least the one that holds it. InputError outside."""
    voxel = voxel_at(np.asarray(ras), grid)
    if voxel is None:
        raise InputError("this place lies outside of the probability map", "Click inside the image")
    box = _box_around(grid, voxel, _REACH_MM + max(grid.spacing_mm))
    lines = np.meshgrid(*(np.arange(part.start, part.stop) for part in box), indexing="ij")
    voxels = np.ravel_multi_index([line.ravel() for line in lines], grid.shape)
    return np.union1d(voxels[_distance_mm(grid, voxels, ras) <= _REACH_MM], [voxel])


def _distance_mm(grid: Grid, voxels: np.ndarray, ras: Sequence[float]) -> np.ndarray:
    return np.linalg.norm(grid.index_to_ras(ijk_of(voxels, grid)) - np.asarray(ras), axis=-1)


def _box_around(grid: Grid, voxel: int, reach_mm: float) -> tuple[slice, ...]:
    """The part (k, j, i) of the grid that holds everything within ``reach_mm`` of a voxel."""
    per_mm = np.linalg.norm(np.linalg.inv(grid.ijk_to_ras[:3, :3]), axis=1)[::-1]  # voxels a mm along k, j, i
    reach = np.ceil(reach_mm * per_mm).astype(int)
    centre = np.unravel_index(voxel, grid.shape)
    return tuple(
        slice(max(0, int(middle) - r), min(count, int(middle) + r + 1))
        for middle, r, count in zip(centre, reach, grid.shape)
    )


def _none() -> np.ndarray:
    return np.zeros(0, np.int64)
