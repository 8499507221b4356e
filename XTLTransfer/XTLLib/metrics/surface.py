"""Distances between the surfaces of two masks, in mm, on any voxel grid.

Surface
-------
The surface of a mask are the centres of its voxels that have at least one of their six face neighbours
outside the mask; what lies beyond the array is outside. (This is the definition of MONAI's
``compute_hausdorff_distance``; others interpolate a triangle mesh and differ by up to a voxel.)
Distances are Euclidean between voxel centres in patient space, so that anisotropic, oblique and
sheared grids are all measured in true mm.

Empty masks
-----------
``empty`` says what a distance without a surface is: ``"one"`` (default) counts two empty masks as
perfect (0 mm) and exactly one empty mask as worst (infinite); ``"zero"`` counts both as worst;
``"nan"`` leaves both undefined. These are the policies of :func:`.overlap.avd`.

Source of the measures: Taha & Hanbury 2015, BMC Med Imaging 15:29.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..data.geometry import Grid
from ..errors import InputError
from .components import bounding_box
from .overlap import EmptyPolicy, value_of_two_empty_masks


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """How far each surface voxel of one mask lies from the nearest surface voxel of the other.

    Attributes
    ----------
    to_reference : (n,) mm, of the predicted surface. to_predicted : (m,) mm, of the reference surface.
        Both are empty when one of the masks is.
    predicted_voxels, reference_voxels : of the two surfaces, n and m.
    empty : the policy for empty masks.
    """

    to_reference: np.ndarray
    to_predicted: np.ndarray
    predicted_voxels: int
    reference_voxels: int
    empty: EmptyPolicy = "one"

    def hausdorff_mm(self, percentile: float = 100.0) -> float:
        """The larger of both directed percentiles (numpy's linear interpolation); 100 is the Hausdorff distance."""
        if not 0.0 <= percentile <= 100.0:
            raise InputError(f"a Hausdorff distance at percentile {percentile}", "Give a percentile between 0 and 100")
        if not self.to_reference.size:
            return self._undefined()
        return float(max(np.percentile(self.to_reference, percentile), np.percentile(self.to_predicted, percentile)))

    @property
    def assd_mm(self) -> float:
        """Average symmetric surface distance: the mean over the voxels of both surfaces together."""
        if not self.to_reference.size:
            return self._undefined()
        return float(
            (self.to_reference.sum() + self.to_predicted.sum()) / (self.predicted_voxels + self.reference_voxels)
        )

    def _undefined(self) -> float:
        perfect = value_of_two_empty_masks(self.empty)
        if np.isnan(perfect):
            return float("nan")
        both_empty = self.predicted_voxels == self.reference_voxels == 0
        return 0.0 if both_empty and perfect else float("inf")


def surface_distances(
    predicted: np.ndarray, reference: np.ndarray, grid: Grid, empty: EmptyPolicy = "one"
) -> SurfaceDistances:
    """Both directed sets of surface distances of two masks (K, J, I) on ``grid``; values above 0 are inside.

    Raises InputError when a mask does not have the grid's shape.
    """
    predicted, reference = np.asarray(predicted) > 0, np.asarray(reference) > 0
    for name, mask in (("predicted", predicted), ("reference", reference)):
        if mask.shape != grid.shape:
            raise InputError(
                f"a {name} mask of shape {mask.shape} on a grid of shape {grid.shape}", "Bring both onto one voxel grid"
            )
    ours, theirs = _surface_mm(predicted, grid), _surface_mm(reference, grid)
    if not len(ours) or not len(theirs):
        nothing = np.empty(0)
        return SurfaceDistances(nothing, nothing, len(ours), len(theirs), empty)
    from scipy.spatial import cKDTree

    # Points instead of a distance map: the cost follows the lesions and not the box around them, and a
    # distance map cannot measure on a sheared grid.
    to_reference, _ = cKDTree(theirs).query(ours)
    to_predicted, _ = cKDTree(ours).query(theirs)
    return SurfaceDistances(to_reference, to_predicted, len(ours), len(theirs), empty)


def hd95(predicted: np.ndarray, reference: np.ndarray, grid: Grid, empty: EmptyPolicy = "one") -> float:
    """95 % Hausdorff distance in mm: the larger of both directed 95th percentiles; 0 is perfect."""
    return surface_distances(predicted, reference, grid, empty).hausdorff_mm(95.0)


def assd(predicted: np.ndarray, reference: np.ndarray, grid: Grid, empty: EmptyPolicy = "one") -> float:
    """Average symmetric surface distance in mm; 0 is perfect."""
    return surface_distances(predicted, reference, grid, empty).assd_mm


def _surface_mm(mask: np.ndarray, grid: Grid) -> np.ndarray:
    """Centres (n, 3) of the mask's surface voxels, RAS mm."""
    box = bounding_box(mask)
    if box is None:
        return np.empty((0, 3))
    inside = np.pad(mask[box], 1)
    core = inside[1:-1, 1:-1, 1:-1]
    enclosed = core.copy()
    for axis in range(3):
        for side in (slice(None, -2), slice(2, None)):
            neighbour = [slice(1, -1)] * 3
            neighbour[axis] = side
            enclosed &= inside[tuple(neighbour)]
    kji = np.argwhere(core & ~enclosed) + [part.start for part in box]
    return grid.index_to_ras(kji[:, ::-1])
