"""A case and a bundle -> lesions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..bundle.load import Bundle
from ..bundle.postprocessing import check_postprocessing
from ..data.case import Case
from ..data.prepare import PreparedCase
from ..data.volume import Volume, resample
from ..progress import Progress
from .engine import Precision, Prediction, predict_case
from .lesions import find_lesions
from .measures import with_uncertainty
from .results import SegmentationResult

if TYPE_CHECKING:
    import torch

MIRROR_AXES = (0, 1, 2)


def segment_case(
    case: Case,
    bundle: Bundle,
    *,
    threshold: float | None = None,
    minimum_volume_mm3: float | None = None,
    device: str | torch.device = "auto",
    precision: Precision = "auto",
    mirror: bool = False,
    progress: Progress | None = None,
) -> SegmentationResult:
    """Find the lesions of a case.

    The channels are brought onto the bundle's working grid in patient space, the network gives a
    probability there, and the result lies on the grid of the case's reference channel. Channels that the
    bundle does not take are left alone. No lesion is a result, not an error.

    Parameters
    ----------
    threshold : smallest probability of a lesion voxel; None takes the bundle's.
    minimum_volume_mm3 : smaller lesions are dropped; None takes the bundle's.
    device : "auto", "cpu", "cuda" or "cuda:N".
    precision : "auto" computes in bfloat16 where the device has it; "float32" gives the same figures anywhere.
    mirror : look at all eight mirrored views and take their mean; the result then has an uncertainty map.

    Raises
    ------
    InputError : the bundle is for another task, or the case lacks a channel, holds NaN, has channels that
        do not overlap in space, or no foreground.
    Cancelled : at the request of ``progress``.
    """
    bundle.require_task("segmentation")
    threshold = bundle.threshold if threshold is None else threshold
    minimum = bundle.minimum_volume_mm3 if minimum_volume_mm3 is None else minimum_volume_mm3
    check_postprocessing(threshold, minimum)
    progress = progress or Progress()

    progress.report("Preparing the images", 0.0)
    prepared = bundle.preparation(case)
    prediction = predict_case(
        bundle.network(),
        prepared.image,
        prepared.foreground,
        device=device,
        precision=precision,
        mirror_axes=MIRROR_AXES if mirror else (),
        progress=progress.part(0.15, 0.95),
    )
    progress.report("Measuring lesions", 0.95)
    result = result_from(case, prepared, prediction, threshold, minimum, bundle.name)
    progress.report("Lesions found", 1.0)
    return result


def result_from(
    case: Case,
    prepared: PreparedCase,
    prediction: Prediction,
    threshold: float,
    minimum_volume_mm3: float,
    bundle_name: str,
) -> SegmentationResult:
    """The lesions of what a network says on the working grid, on the case's reference grid."""
    volume = _on_reference_grid(prediction.probability, prepared, case, "probability")
    uncertainty = None
    if prediction.uncertainty is not None:
        uncertainty = _on_reference_grid(prediction.uncertainty, prepared, case, "uncertainty")
    label, lesions = find_lesions(volume, threshold, minimum_volume_mm3)
    lesions = with_uncertainty(lesions, label, uncertainty)
    return SegmentationResult(
        volume,
        label,
        lesions,
        threshold,
        case,
        bundle_name,
        minimum_volume_mm3,
        uncertainty,
        prediction.precision,
        prediction.notes,
    )


def _on_reference_grid(array: np.ndarray, prepared: PreparedCase, case: Case, name: str) -> Volume:
    moved = resample(Volume(array, prepared.grid, name), case.grid)
    return Volume(np.ascontiguousarray(moved.array, dtype=np.float32), case.grid, name)
