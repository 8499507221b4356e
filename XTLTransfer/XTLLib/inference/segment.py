"""A case and a bundle -> lesions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..bundle.load import Bundle
from ..bundle.postprocessing import check_postprocessing
from ..data.alignment import align_channels
from ..data.brain_mask import BRAIN_MASK_NOTE, brain_of
from ..data.case import Case
from ..data.geometry import Grid
from ..data.prepare import PreparedCase
from ..data.volume import Volume, resample
from ..errors import InputError
from ..progress import Progress
from .engine import Engine, Precision, Prediction, fast_network, predict_case
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
    engine: Engine = "auto",
    mirror: bool = False,
    register: bool = False,
    bias_correction: bool | None = None,
    brain_mask: Literal["given", "auto"] = "given",
    progress: Progress | None = None,
) -> SegmentationResult:
    """Find the lesions of a case.

    The channels are brought onto the bundle's working grid in patient space, the network gives a
    probability there, and the result lies on the grid of the case's reference channel. Channels that the
    bundle does not take are left alone. No lesion is a result, not an error. Channels that seem to lie elsewhere
    than the reference, or that are missing where the bundle can do without, are said in the result's notes.

    Parameters
    ----------
    threshold : smallest probability of a lesion voxel; None takes the bundle's.
    minimum_volume_mm3 : smaller lesions are dropped; None takes the bundle's.
    device : "auto", "cpu", "cuda" or "cuda:N".
    precision : "auto" computes in bfloat16 where the device has it; "float32" gives the same figures anywhere.
    engine : "openvino" computes by OpenVINO where it is installed and agrees with torch; "auto" is torch.
    mirror : look at all eight mirrored views and take their mean; the result then has an uncertainty map.
    register : bring every channel onto the reference by a rigid registration first; the transforms are in the
        result, whose case is as it was given.
    bias_correction : N4 before normalisation; None does as in the bundle's training.
    brain_mask : lesions are reported within ``case.brain``, where there is one; with "auto" one is made by the
        built-in method (data.brain_mask) where there is none, and is then part of the result's case.

    Raises
    ------
    InputError : the bundle is for another task, or the case lacks a channel, holds NaN, has channels that
        do not overlap in space, or no foreground; a brain mask is empty, or none is found.
    Cancelled : at the request of ``progress``.
    """
    bundle.require_task("segmentation")
    threshold = bundle.threshold if threshold is None else threshold
    minimum = bundle.minimum_volume_mm3 if minimum_volume_mm3 is None else minimum_volume_mm3
    check_postprocessing(threshold, minimum)
    progress = progress or Progress()

    preparation, notes = bundle.preparation, ()
    if bias_correction is not None and bias_correction != preparation.bias_correction:
        notes = (_mismatch(bias_correction),)
        preparation = replace(preparation, bias_correction=bias_correction)
    progress.report("Preparing the images", 0.0)
    if case.brain is None and brain_mask == "auto":
        case = replace(case, brain=brain_of(case))
        notes += (BRAIN_MASK_NOTE,)
    if case.brain is not None:
        _brain_on(case.grid, case.brain)  # a mask that does not fit is told before the network is asked
    with ThreadPoolExecutor(1) as pool:  # a bundle that has not been used yet is read in the meantime
        loading = pool.submit(ready_network, bundle, device, precision)
        aligned = align_channels(case, preparation.channels, register=register, progress=progress.part(0.02, 0.08))
        prepared = preparation(aligned.case, progress.part(0.08, 0.15))
        if not loading.done():
            progress.report("Loading the network", 0.15)
        network = loading.result()
    prepared = replace(prepared, notes=(*aligned.notes, *notes, *prepared.notes))
    prediction = predict_case(
        network,
        prepared.image,
        prepared.foreground,
        device=device,
        precision=precision,
        engine=engine,
        mirror_axes=MIRROR_AXES if mirror else (),
        progress=progress.part(0.15, 0.95),
    )
    progress.report("Measuring lesions", 0.95)
    result = result_from(case, prepared, prediction, threshold, minimum, bundle.name)
    progress.report("Lesions found", 1.0)
    return replace(result, transforms=aligned.transforms)


def ready_network(
    bundle: Bundle, device: str | torch.device = "auto", precision: Precision = "auto"
) -> torch.nn.Module:
    """The bundle's network, with its copy for inference on a device made; at once when that was done before.

    Raises InputError when the weights are damaged, or the device is not there.
    """
    network = bundle.network()
    fast_network(network, len(bundle.channels), device, precision)
    return network


def result_from(
    case: Case,
    prepared: PreparedCase,
    prediction: Prediction,
    threshold: float,
    minimum_volume_mm3: float,
    bundle_name: str,
) -> SegmentationResult:
    """The lesions of what a network says on the working grid, on the case's reference grid, within its brain mask."""
    volume = _on_reference_grid(prediction.probability, prepared, case, "probability")
    if case.brain is not None:
        within = np.where(_brain_on(case.grid, case.brain), volume.array, np.float32(0))
        volume = Volume(within, case.grid, volume.name)
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
        (*prepared.notes, *prediction.notes),
    )


def _mismatch(corrected: bool) -> str:
    if corrected:
        return "The bias field was corrected, and the model was trained without: it may find less"
    return "The bias field was not corrected, and the model was trained with a correction: it may find less"


def _brain_on(grid: Grid, brain: Volume) -> np.ndarray:
    """Bool (K, J, I): where at least half of a voxel is brain."""
    binary = Volume((brain.require_finite().array > 0).astype(np.float32), brain.grid, brain.name)
    inside = resample(binary, grid).array >= 0.5
    if not inside.any():
        raise InputError(
            f"the brain mask {brain.name} is empty, or lies outside of the reference image",
            "Give a mask of the same head, or none",
        )
    return inside


def _on_reference_grid(array: np.ndarray, prepared: PreparedCase, case: Case, name: str) -> Volume:
    moved = resample(Volume(array, prepared.grid, name), case.grid)
    return Volume(np.ascontiguousarray(moved.array, dtype=np.float32), case.grid, name)
