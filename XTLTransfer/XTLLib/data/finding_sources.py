"""Findings from lesion masks: a connected region of a mask becomes a point that someone could have marked."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from .case import Finding
from .images import read_volume
from .volume import Volume

MASK_ENDINGS = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr", ".hdr", ".img")
MOST_REGIONS = 50  # a project choice: no prostate has more lesions; an image taken for a mask has thousands


@dataclass(frozen=True)
class RegionFinding:
    """A finding made of a region of a mask.

    Attributes
    ----------
    value : the highest label of the region's voxels (PI-CAI: its ISUP grade).
    volume_mm3 : of the region.
    """

    finding: Finding
    value: int
    volume_mm3: float


def regions_as_findings(
    mask: Volume, at_least: int = 1, significant: bool | None = None, prefix: str = ""
) -> tuple[RegionFinding, ...]:
    """One finding for each 26-connected region of a mask's voxels with labels of ``at_least``, the larger ones first.

    The position is the centre of the region's voxel nearest to the region's centroid in patient space, so that it
    lies within the lesion, whatever its shape. Where several are as near, and in the order of regions as large, the
    voxel counts that comes first from inferior to superior, anterior to posterior, right to left: the way
    in which the array is stored changes nothing. Findings are called 1, 2, ... after ``prefix``.

    Raises
    ------
    InputError : the mask holds NaN or values that are no labels, or more than MOST_REGIONS regions.
    """
    from scipy.ndimage import find_objects, label

    mask.require_finite()
    grid, values = mask.grid.along_lps(), mask.grid.to_along_lps(mask.array)
    if values.dtype.kind == "f" and not np.array_equal(values, np.round(values)):
        raise InputError(f"{mask.name} holds values between whole numbers: it is no lesion mask", "Give a label image")
    numbered, count = label(values >= at_least, structure=np.ones((3, 3, 3)))
    if count > MOST_REGIONS:
        raise InputError(
            f"{mask.name} holds {count} separate regions: it is no mask of prostate lesions",
            "Give a label image of the lesions",
        )
    regions = []
    for number, box in enumerate(find_objects(numbered), start=1):
        voxels = np.argwhere(numbered[box] == number) + [part.start for part in box]
        regions.append(voxels)
    regions.sort(key=lambda voxels: (-len(voxels), voxels[0].tolist()))
    found = []
    for place, voxels in enumerate(regions, start=1):
        ras = grid.index_to_ras(voxels[:, ::-1])
        # Rounded, so that voxels as near as each other are so whatever the last bits say.
        distances = np.round(np.linalg.norm(ras - ras.mean(axis=0), axis=1), 6)
        position = tuple(float(mm) for mm in ras[int(np.argmin(distances))])
        finding = Finding(f"{prefix}{place}", position, "", significant)
        value = int(values[tuple(voxels.T)].max())
        found.append(RegionFinding(finding, value, len(voxels) * grid.voxel_volume_mm3))
    return tuple(found)


def is_mask_file(path: str | os.PathLike) -> bool:
    """Whether a file is an image by its ending, and so a lesion mask where findings are asked for."""
    return Path(path).name.lower().endswith(MASK_ENDINGS)


def findings_of_mask_file(path: str | os.PathLike) -> tuple[Finding, ...]:
    """The findings of a mask file (every value above 0 is lesion). Raises InputError when it holds none."""
    found = regions_as_findings(read_volume(path))
    if not found:
        raise InputError(f"the mask {path} is empty", "Give a mask with at least one lesion, or another kind of file")
    return tuple(one.finding for one in found)
