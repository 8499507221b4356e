"""Connected components with a stated connectivity."""

from __future__ import annotations

import numpy as np

from ..errors import InputError

CONNECTIVITIES = (6, 18, 26)


def label_components(mask: np.ndarray, connectivity: int) -> tuple[np.ndarray, int]:
    """Number the connected components of a 3D mask.

    Parameters
    ----------
    mask : (K, J, I) bool.
    connectivity : 6 (shared faces), 18 (faces and edges) or 26 (faces, edges and corners).

    Returns
    -------
    int32 array (K, J, I) with 0 outside and 1..n inside, and n.
    """
    if connectivity not in CONNECTIVITIES:
        raise InputError(f"a connectivity of {connectivity}", "Choose 6, 18 or 26")
    mask = np.asarray(mask)
    if mask.dtype != bool:
        mask = mask > 0
    box = bounding_box(mask)
    labels = np.zeros(mask.shape, dtype=np.int32)
    if box is None:
        return labels, 0
    from scipy.ndimage import generate_binary_structure, label

    structure = generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[connectivity])
    count = label(mask[box], structure, output=labels[box])
    return labels, int(count)


def overlap_table(first: np.ndarray, first_count: int, second: np.ndarray, second_count: int) -> np.ndarray:
    """How many voxels each label of one map shares with each of another -> (first_count + 1, second_count + 1).

    Row and column 0 are the backgrounds; both maps are of one shape, with labels 0 .. count.
    """
    cells = (first_count + 1) * (second_count + 1)
    joint = first.ravel().astype(np.int64) * (second_count + 1) + second.ravel()
    return np.bincount(joint, minlength=cells).reshape(first_count + 1, second_count + 1)


def component_ious(
    first: np.ndarray, first_count: int, second: np.ndarray, second_count: int, smoothing: float = 0.0
) -> np.ndarray:
    """IoU of each component of one map with each of another -> (first_count, second_count).

    ``smoothing`` is added to intersection and union, for agreement with programs that do so.
    """
    table = overlap_table(first, first_count, second, second_count)
    both = table[1:, 1:]
    union = table[1:].sum(axis=1)[:, None] + table[:, 1:].sum(axis=0) - both
    return (both + smoothing) / (union + smoothing)


def bounding_box(mask: np.ndarray) -> tuple[slice, ...] | None:
    """The smallest box of slices that holds every True voxel of a mask with any number of axes; None when empty."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        inside = np.flatnonzero(mask.any(axis=others))
        if inside.size == 0:
            return None
        box.append(slice(int(inside[0]), int(inside[-1]) + 1))
    return tuple(box)
