"""Images with their geometry, and resampling in patient space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import InputError
from .geometry import LPS_TO_RAS, Grid

Interpolation = Literal["linear", "nearest", "bspline"]


@dataclass(frozen=True, eq=False)
class Volume:
    """A scalar 3D image in patient space.

    Attributes
    ----------
    array : (K, J, I) values, indexed [k, j, i].
    grid : where the voxels lie.
    name : what to call it in messages: a file's path or a node's name.
    frame_of_reference : DICOM UID of the coordinate system in which the scanner placed the image; "" when
        nothing tells it. Two images of one UID lie as the scanner saw them.
    series : where its DICOM series lies, as FOLDER or FOLDER#4 (that of number 4), when ``name`` does not say so.
    """

    array: np.ndarray
    grid: Grid
    name: str = "volume"
    frame_of_reference: str = ""
    series: str = ""

    def __post_init__(self) -> None:
        if tuple(self.array.shape) != self.grid.shape:
            raise InputError(
                f"{self.name}: an array of shape {self.array.shape} on a grid of shape {self.grid.shape}",
                "Give the array the shape of its grid",
            )

    def require_finite(self) -> Volume:
        """This volume, or InputError when it holds NaN or infinite values."""
        if np.issubdtype(self.array.dtype, np.floating) and not np.isfinite(self.array).all():
            count = int((~np.isfinite(self.array)).sum())
            raise InputError(
                f"{self.name} has {count} voxels that are NaN or infinite",
                "Replace them (for example by 0 outside the head) and try again",
            )
        return self

    def require_right_angles(self) -> Volume:
        """This volume, or InputError when its axes are not at right angles (a sheared grid)."""
        directions = self.grid.ijk_to_ras[:3, :3] / np.array(self.grid.spacing_mm)
        if np.abs(directions.T @ directions - np.eye(3)).max() > 1e-3:
            raise InputError(
                f"{self.name} has axes that are not at right angles", "Resample it onto a rectangular grid first"
            )
        return self


def to_sitk(volume: Volume):
    """The volume as a ``SimpleITK.Image`` (LPS). Raises InputError for a sheared grid."""
    import SimpleITK

    array = volume.array
    if array.dtype == bool:
        array = array.astype(np.uint8)
    elif array.dtype == np.float16:
        array = array.astype(np.float32)
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array))
    ijk_to_lps = LPS_TO_RAS @ volume.grid.ijk_to_ras
    spacing = volume.grid.spacing_mm
    direction = ijk_to_lps[:3, :3] / np.array(spacing)
    volume.require_right_angles()
    image.SetOrigin(ijk_to_lps[:3, 3].tolist())
    image.SetSpacing(spacing)
    image.SetDirection(direction.ravel().tolist())
    return image


def from_sitk(image, name: str = "volume") -> Volume:
    """A 3D ``SimpleITK.Image`` as a Volume (RAS)."""
    import SimpleITK

    array = SimpleITK.GetArrayFromImage(image)
    return from_geometry(array, image.GetOrigin(), image.GetSpacing(), np.reshape(image.GetDirection(), (3, 3)), name)


def from_geometry(
    array: np.ndarray,
    origin_lps: tuple[float, float, float],
    spacing_mm: tuple[float, float, float],
    direction_lps: np.ndarray,
    name: str = "volume",
) -> Volume:
    """A Volume (RAS) from an array (K, J, I) and ITK's geometry: LPS mm, columns of ``direction_lps`` for i, j, k."""
    lengths = np.linalg.norm(np.asarray(direction_lps, dtype=float), axis=0)
    if not np.abs(lengths - 1).max() < 1e-2:  # also NaN
        raise InputError(
            f"{name} has directions that are not of length 1", "Repair the image's orientation, or export it again"
        )
    ijk_to_lps = np.eye(4)
    ijk_to_lps[:3, :3] = np.asarray(direction_lps) * np.asarray(spacing_mm)
    ijk_to_lps[:3, 3] = origin_lps
    return Volume(array, Grid(array.shape, LPS_TO_RAS @ ijk_to_lps), name)


def resample(volume: Volume, grid: Grid, interpolation: Interpolation = "linear", outside: float = 0.0) -> Volume:
    """The volume's values at the voxel centres of ``grid``, in patient space.

    A grid equal within 1e-3 mm, or equal up to an exchange and flip of axes, costs no interpolation.

    Parameters
    ----------
    volume : source, any orientation, also left-handed.
    grid : target grid.
    interpolation : "linear" or "bspline" for images, "nearest" for label maps.
    outside : the value of voxels outside the source.
    """
    if volume.grid.matches(grid):
        return Volume(volume.array, grid, volume.name)
    if volume.grid.along_lps().matches(grid.along_lps()):
        array = grid.from_along_lps(volume.grid.to_along_lps(volume.array))
        return Volume(np.ascontiguousarray(array), grid, volume.name)
    import SimpleITK

    method = {
        "linear": SimpleITK.sitkLinear,
        "nearest": SimpleITK.sitkNearestNeighbor,
        "bspline": SimpleITK.sitkBSpline,
    }[interpolation]
    source = to_sitk(volume)
    if interpolation != "nearest":
        source = SimpleITK.Cast(source, SimpleITK.sitkFloat32)
    target = to_sitk(Volume(np.broadcast_to(np.uint8(0), grid.shape), grid, "the target grid"))
    moved = SimpleITK.Resample(source, target, SimpleITK.Transform(), method, float(outside), source.GetPixelID())
    return Volume(SimpleITK.GetArrayFromImage(moved), grid, volume.name)
