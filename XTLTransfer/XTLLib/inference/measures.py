"""What is measured of lesions that are found already, apart from finding them: a slider's lesions do without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..data.volume import Volume, resample
from .lesions import Regions
from .results import Lesion


def with_uncertainty(lesions: Sequence[Lesion], label: Volume, uncertainty: Volume | None) -> tuple[Lesion, ...]:
    """The lesions with their mean uncertainty.

    Parameters
    ----------
    label : 0 outside, a lesion's identifier inside. uncertainty : SD of the probability on any grid; None
        leaves the lesions as they are.
    """
    if uncertainty is None or not lesions:
        return tuple(lesions)
    flat = label.array.reshape(-1)
    voxels = np.flatnonzero(flat)
    return _with_means(lesions, voxels, flat[voxels], resample(uncertainty, label.grid).array)


def regions_with_uncertainty(regions: Regions, uncertainty: Volume | None) -> Regions:
    """The same for the regions of a LesionFinder, at a cost of the lesions alone; ``uncertainty`` on the map's grid."""
    if uncertainty is None or not regions.lesions:
        return regions
    lesions = _with_means(regions.lesions, regions.voxels, regions.identifier, uncertainty.array)
    return replace(regions, lesions=lesions)


def _with_means(lesions, voxels: np.ndarray, identifier: np.ndarray, deviation: np.ndarray) -> tuple[Lesion, ...]:
    count = max(lesion.identifier for lesion in lesions) + 1
    sums = np.bincount(identifier, weights=deviation.reshape(-1)[voxels], minlength=count)
    means = (sums / np.maximum(np.bincount(identifier, minlength=count), 1)).tolist()
    return tuple(replace(lesion, uncertainty=means[lesion.identifier]) for lesion in lesions)
