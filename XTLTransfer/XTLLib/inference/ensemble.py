"""Several bundles on one case: the mean of their probabilities, and how far they disagree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..bundle.load import Bundle
from ..bundle.postprocessing import check_postprocessing
from ..data.case import Case
from ..data.volume import Volume
from ..errors import InputError
from ..progress import Progress
from .lesions import find_lesions
from .measures import with_uncertainty
from .results import SegmentationResult
from .segment import segment_case


def segment_by(case: Case, bundles: Sequence[Bundle], **options: Any) -> SegmentationResult:
    """Find the lesions of a case by one bundle, or by several together; options and errors are those of either."""
    return (
        segment_case(case, bundles[0], **options)
        if len(bundles) == 1
        else segment_with_ensemble(case, bundles, **options)
    )


def segment_with_ensemble(
    case: Case,
    bundles: Sequence[Bundle],
    *,
    threshold: float | None = None,
    minimum_volume_mm3: float | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> SegmentationResult:
    """Find the lesions of a case by two or more bundles, for example those of a study's folds.

    The probability is the mean over the bundles, the uncertainty the SD over them; with mirrored views, the SD over
    all views of all bundles.

    Parameters
    ----------
    threshold, minimum_volume_mm3 : None takes the mean of the bundles'.
    options : further ones of :func:`~XTLLib.inference.segment.segment_case`, for each bundle.

    Raises
    ------
    InputError : fewer than two bundles; else as :func:`~XTLLib.inference.segment.segment_case`.
    Cancelled : at the request of ``progress``.
    """
    if len(bundles) < 2:
        raise InputError(f"an ensemble of {len(bundles)} bundle(s)", "Give two or more")
    if threshold is None:
        threshold = float(np.mean([bundle.threshold for bundle in bundles]))
    if minimum_volume_mm3 is None:
        minimum_volume_mm3 = float(np.mean([bundle.minimum_volume_mm3 for bundle in bundles]))
    check_postprocessing(threshold, minimum_volume_mm3)
    for bundle in bundles:
        bundle.require_task("segmentation")
    progress = progress or Progress()
    total = squares = first = None
    notes: dict[str, None] = {}
    for number, bundle in enumerate(bundles):
        part = progress.part(number / len(bundles), (number + 1) / len(bundles))
        one = segment_case(case, bundle, threshold=threshold, progress=part, **options)
        case = one.case  # a brain mask is made once
        view = one.probability.array.astype(np.float64)
        square = view**2
        if one.uncertainty is not None:
            square += one.uncertainty.array.astype(np.float64) ** 2
        total, squares = (view, square) if total is None else (total + view, squares + square)
        first = first or one
        notes.update(dict.fromkeys(one.notes))
    mean = total / len(bundles)
    deviation = np.sqrt(np.maximum(squares / len(bundles) - mean**2, 0))
    probability = Volume(mean.astype(np.float32), case.grid, "probability")
    uncertainty = Volume(deviation.astype(np.float32), case.grid, "uncertainty")
    label, lesions = find_lesions(probability, threshold, minimum_volume_mm3)
    return replace(
        first,
        probability=probability,
        label=label,
        lesions=with_uncertainty(lesions, label, uncertainty),
        bundle_name=f"ensemble of {', '.join(bundle.name for bundle in bundles)}",
        minimum_volume_mm3=minimum_volume_mm3,
        uncertainty=uncertainty,
        notes=tuple(notes),
    )
