"""From an entry of a datalist to a case: the one place where training and studies read images."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from ..errors import InputError
from .case import Case
from .datalist import Datalist, Entry
from .geometry import Grid
from .images import read_image, read_mask
from .volume import Volume, resample

RATER_POLICIES = ("union", "intersection", "staple")
_DIRECTION_TOLERANCE = 1e-3
_ORIGIN_TOLERANCE_VOXELS = 0.1


def load_case(entry: Entry, datalist: Datalist, names: Collection[str] | None = None) -> Case:
    """Read the volumes, the mask and the finding of an entry.

    Of the volumes those that ``names`` has, and the reference; all where it is None.

    The mask is bool. Where its grid differs from the reference's by no more than the rounding that
    some exports do (directions within 1e-3, origin within a tenth of a voxel), the reference's grid is taken.

    Raises
    ------
    InputError : a file is missing, unreadable or truncated; or the entry is a mammogram or a stored
        patch, which are no volumes.
    """
    if datalist.has_mammograms or entry.row is not None:
        raise InputError(
            f"the case {entry.case} of the datalist {datalist.name} is not a volume",
            "Use it for the stage that its task names",
        )
    wanted = set(datalist.channels) if names is None else {*names, datalist.reference}
    channels = {name: read_image(entry.images[name]) for name in datalist.channels if name in wanted}
    mask = None
    if isinstance(entry.label, str):
        mask = _combined_mask(entry, channels[datalist.reference].grid)
    findings = (entry.finding,) if entry.finding is not None else ()
    return Case(entry.patient, channels, datalist.reference, mask, findings)


def settle_on(volume: Volume, grid: Grid) -> Volume:
    """The volume on ``grid`` when its own grid is the same but for rounding, else unchanged."""
    own = volume.grid
    if own.shape != grid.shape or not np.allclose(own.spacing_mm, grid.spacing_mm, rtol=_DIRECTION_TOLERANCE):
        return volume
    directions = [g.ijk_to_ras[:3, :3] / np.array(g.spacing_mm) for g in (own, grid)]
    if np.abs(directions[0] - directions[1]).max() > _DIRECTION_TOLERANCE:
        return volume
    shift = np.abs(grid.ras_to_index(own.ijk_to_ras[:3, 3])).max()
    return Volume(volume.array, grid, volume.name) if shift <= _ORIGIN_TOLERANCE_VOXELS else volume


def _combined_mask(entry: Entry, reference: Grid) -> Volume:
    first = settle_on(read_mask(entry.label), reference)
    others = [settle_on(read_mask(path), reference) for path in entry.further_masks]
    if not others:
        return first
    policy = entry.attributes.get("raters", "")
    if policy not in RATER_POLICIES:
        raise InputError(
            f"the case {entry.case} has several masks and the rater policy '{policy}'",
            f"Use one of: {', '.join(RATER_POLICIES)}",
        )
    masks = [first.array] + [resample(other, first.grid, "nearest").array > 0 for other in others]
    if policy == "union":
        joined = np.logical_or.reduce(masks)
    elif policy == "intersection":
        joined = np.logical_and.reduce(masks)
    else:
        joined = _staple(masks)
    return Volume(joined, first.grid, f"{first.name} ({policy} of {len(masks)} raters)")


def _staple(masks: list[np.ndarray]) -> np.ndarray:
    """STAPLE (Warfield 2004, doi 10.1109/TMI.2004.828354) at probability > 0.5, on the box of the union."""
    import SimpleITK

    union = np.logical_or.reduce(masks)
    joined = np.zeros_like(union)
    if not union.any():
        return joined
    # The prior of STAPLE is the foreground's share of the field; a tight box keeps it from depending on the margin.
    box = tuple(slice(int(where.min()), int(where.max()) + 1) for where in np.nonzero(union))
    images = [SimpleITK.GetImageFromArray(mask[box].astype(np.uint8)) for mask in masks]
    joined[box] = SimpleITK.GetArrayFromImage(SimpleITK.STAPLE(images, 1.0)) > 0.5
    return joined
