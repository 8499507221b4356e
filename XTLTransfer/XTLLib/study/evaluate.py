"""An arm or a baseline on held-out cases -> scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..data.case import Case
from ..data.datalist import Datalist
from ..data.load import load_case
from ..data.patches import PatchSpec, load_patch
from ..data.volume import Volume, resample
from ..errors import InputError
from ..metrics.lesionwise import detect_lesions
from ..metrics.overlap import dice, ppv, tpr


def segmentation_values(predicted: Volume, case: Case) -> dict[str, float]:
    """Overlap and lesion-wise figures (26-connected) of a mask against the case's, on the reference grid.

    Empty masks: a figure of two empty masks is 1 (nothing to find, nothing found).
    """
    if case.mask is None:
        raise InputError(f"the test case of patient {case.patient} has no mask", "Give a mask, or leave the case out")
    truth = resample(case.mask, case.grid, "nearest").array > 0
    mask = predicted.array > 0
    detection = detect_lesions(mask, truth, connectivity=26)
    millilitre = case.grid.voxel_volume_mm3 / 1000.0
    return {
        "dice": dice(mask, truth),
        "ppv": ppv(mask, truth),
        "tpr": tpr(mask, truth),
        "ltpr": detection.ltpr,
        "lfpr": detection.lfpr,
        "reference_ml": float(truth.sum()) * millilitre,
        "predicted_ml": float(mask.sum()) * millilitre,
    }


def evaluate_segmentation(bundle_path: Path, fold: Datalist, device: str) -> list[dict[str, float]]:
    """Segment the fold's test cases with a bundle."""
    from ..bundle.load import load_bundle
    from ..inference.segment import segment_case

    bundle = load_bundle(bundle_path)
    values = []
    for entry in fold.test:
        case = load_case(entry, fold)
        result = segment_case(case, bundle, device=device, precision="float32")  # the same figures anywhere
        values.append(segmentation_values(result.label, case))
    return values


def evaluate_classification(bundle_path: Path, fold: Datalist, device: str) -> list[dict[str, float]]:
    """Rate the fold's test findings with a bundle."""
    from ..bundle.load import load_bundle
    from ..inference.classify import rate_patches

    bundle = load_bundle(bundle_path)
    ratings = rate_patches(bundle, held_out_patches(fold, bundle.patch_spec), device=device)
    return [{"truth": float(entry.label), "score": float(p)} for entry, p in zip(fold.test, ratings)]


def evaluate_flair_threshold(fold: Datalist) -> list[dict[str, float]]:
    """The threshold that fits the fold's training cases best, on its test cases."""
    from .baselines import FlairThreshold

    baseline = FlairThreshold().fit([load_case(entry, fold) for entry in fold.training])
    values = []
    for entry in fold.test:
        case = load_case(entry, fold)
        values.append(segmentation_values(baseline.predict(case), case))
    return values


def evaluate_adc_contrast(fold: Datalist, spec: PatchSpec) -> list[dict[str, float]]:
    """The ADC contrast of the fold's test findings."""
    from .baselines import adc_contrast

    scores = adc_contrast(held_out_patches(fold, spec), spec)
    return [{"truth": float(entry.label), "score": float(score)} for entry, score in zip(fold.test, scores)]


def held_out_patches(fold: Datalist, spec: PatchSpec) -> np.ndarray:
    """Patches (N, C, K, J, I) of the fold's test findings."""
    return np.stack([load_patch(entry, fold, spec) for entry in fold.test])


def require_truth(datalist: Datalist) -> None:
    """Raise InputError when an entry has no label to be tested against."""
    unlabelled = [entry.case for entry in datalist.entries if entry.label is None]
    if unlabelled:
        raise InputError(
            f"the datalist {datalist.name} has {len(unlabelled)} cases without a label ({unlabelled[0]}, ...)",
            "Label them or leave them out of the study",
        )
