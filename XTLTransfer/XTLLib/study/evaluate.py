"""An arm or a baseline on held-out cases -> scores."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from ..data.case import Case
from ..data.datalist import Datalist, Entry
from ..data.load import load_case
from ..data.patches import PatchSpec, load_patch
from ..data.volume import Volume, resample
from ..data.zones import ZONE_INDEX
from ..errors import InputError, MissingPackageError
from ..metrics.detection import detection_by_conventions
from ..metrics.isbi import isbi_score
from ..metrics.lesionwise import detect_lesions
from ..metrics.overlap import avd, dice, iou, ppv, tpr
from ..metrics.surface import surface_distances
from .measures import RATES, detection_key


def segmentation_values(predicted: Volume, case: Case) -> dict[str, float]:
    """Every figure of a mask against the case's on the reference grid, by the names of :mod:`.measures`.

    Voxels: ``dice``, ``iou``, ``ppv``, ``tpr``, ``avd``; surfaces in mm: ``hd95``, ``assd``; lesions, 26-connected:
    ``ltpr``, ``lfpr``, ``lesion_f1``; ``isbi`` without correlation; ``reference_ml``, ``predicted_ml``; sensitivity,
    precision and F1 of detection by three conventions, ``anima_f1`` and so on. Empty masks: a figure of two empty
    masks is perfect (nothing to find, nothing found); a distance to one empty mask is infinite.
    """
    if case.mask is None:
        raise InputError(f"the test case of patient {case.patient} has no mask", "Give a mask, or leave the case out")
    truth = resample(case.mask, case.grid, "nearest").array > 0
    mask = predicted.array > 0
    lesions = detect_lesions(mask, truth, connectivity=26)
    surfaces = surface_distances(mask, truth, case.grid)
    millilitre = case.grid.voxel_volume_mm3 / 1000.0
    values = {
        "dice": dice(mask, truth),
        "iou": iou(mask, truth),
        "ppv": ppv(mask, truth),
        "tpr": tpr(mask, truth),
        "avd": avd(mask, truth),
        "hd95": surfaces.hausdorff_mm(95.0),
        "assd": surfaces.assd_mm,
        "ltpr": lesions.ltpr,
        "lfpr": lesions.lfpr,
        "lesion_f1": lesions.f1,
        "reference_ml": float(truth.sum()) * millilitre,
        "predicted_ml": float(mask.sum()) * millilitre,
    }
    values["isbi"] = isbi_score(*(values[name] for name in ("dice", "ppv", "ltpr", "lfpr")))
    for found in detection_by_conventions(mask, truth, case.grid):
        for rate in RATES:
            values[detection_key(found.convention, rate)] = getattr(found, rate)
    return values


def evaluate_segmentation(
    bundle_path: Path, fold: Datalist, device: str, pictures: Path | None = None
) -> list[dict[str, float]]:
    """Segment the fold's test cases with a bundle; ``pictures`` is a folder to leave one of each case in."""
    from ..bundle.load import load_bundle
    from ..inference.segment import segment_case
    from .report_examples import write_example

    bundle = load_bundle(bundle_path)
    values = []
    for entry in fold.test:
        case = load_case(entry, fold)
        result = segment_case(case, bundle, device=device, precision="float32")  # the same figures anywhere
        values.append(segmentation_values(result.label, case))
        if pictures is not None:
            with suppress(MissingPackageError):  # without matplotlib the report has no pictures
                write_example(pictures, case, result.label, entry.case)
    return values


def evaluate_classification(bundle_path: Path, fold: Datalist, device: str) -> list[dict[str, float]]:
    """Rate the fold's test findings with a bundle, which is told their zones if it takes them."""
    from ..bundle.load import load_bundle
    from ..inference.classify import rate_patches

    bundle = load_bundle(bundle_path)
    zones = np.array([ZONE_INDEX.get(zone, 0) for zone in _zones(fold.test)], dtype=np.int64)
    ratings = rate_patches(bundle, held_out_patches(fold, bundle.patch_spec), zones=zones, device=device)
    return _rated(fold, ratings)


def evaluate_baseline(name: str, fold: Datalist, seed: int = 0) -> list[dict[str, float]]:
    """Fit a baseline to what a fold has for training, and rate its held-out cases.

    Training and validation part are both fitted to: what a baseline has to choose it chooses by inner folds of its
    own, which keep patients together. Nothing of the test part is seen before the last step.

    Parameters
    ----------
    name : ``radiomics-lr``, ``svm`` or ``adc-contrast`` (classification), ``flair-threshold`` (segmentation).
    seed : of the inner folds; the two that are not learned do without.

    Returns
    -------
    For each case of the test part, in its order, ``{"truth": 0 or 1, "score": larger where cancer is likelier}``, of
    a segmentation the figures of :func:`segmentation_values`. Scores are no probabilities.

    Raises
    ------
    InputError : the baseline is not for this task, a part is empty or lacks labels, the training findings are too few
        to choose by, or images cannot be used; it names the baseline and the datalist.
    MissingPackageError : scikit-image is not installed, for ``radiomics-lr``.
    """
    from .config import BASELINE_TASKS

    try:
        if BASELINE_TASKS.get(name) != fold.task:
            fitting = ", ".join(known for known, task in BASELINE_TASKS.items() if task == fold.task)
            raise InputError(f"it does not serve {fold.task}", f"Use one of: {fitting or 'none for this task'}")
        if not fold.test or not fold.training:
            raise InputError("the fold lacks a training or a test part", "Divide the datalist into folds")
        require_truth(fold)
        if name == "flair-threshold":
            return _evaluate_flair_threshold(fold)
        if name == "adc-contrast":
            return _evaluate_adc_contrast(fold)
        return _evaluate_learned(name, fold, seed)
    except InputError as error:
        raise InputError(f"the baseline {name} on the datalist {fold.name}: {error.what}", error.remedy) from error


def _evaluate_flair_threshold(fold: Datalist) -> list[dict[str, float]]:
    """The threshold that fits the fold's training cases best, on its test cases."""
    from .baselines import FlairThreshold

    baseline = FlairThreshold().fit([load_case(entry, fold) for entry in fold.training + fold.validation])
    values = []
    for entry in fold.test:
        case = load_case(entry, fold)
        values.append(segmentation_values(baseline.predict(case), case))
    return values


def _evaluate_adc_contrast(fold: Datalist) -> list[dict[str, float]]:
    """The ADC contrast of the fold's test findings."""
    from .baselines import adc_contrast, baseline_patches

    spec = baseline_patches("adc-contrast", fold)
    return _rated(fold, adc_contrast(held_out_patches(fold, spec), spec))


def _evaluate_learned(name: str, fold: Datalist, seed: int) -> list[dict[str, float]]:
    """A classifier fitted to features of the training findings, on the test findings."""
    from .baselines import baseline_patches
    from .radiomics import fit_radiomics, patch_features
    from .svm_baseline import fit_svm, neighbourhoods

    spec = baseline_patches(name, fold)
    known = fold.training + fold.validation
    patches = [np.stack([load_patch(entry, fold, spec) for entry in part]) for part in (known, fold.test)]
    if name == "svm":
        fit, features = fit_svm, [neighbourhoods(p, _zones(part)) for p, part in zip(patches, (known, fold.test))]
    else:
        fit, features = fit_radiomics, [patch_features(part) for part in patches]
    truth = np.array([entry.label for entry in known])
    model = fit(features[0], truth, [entry.patient for entry in known], seed)
    return _rated(fold, model.decision_function(features[1]))


def _zones(entries: Sequence[Entry]) -> list[str]:
    from ..training.patches import zone_of_entry

    return [zone_of_entry(entry) for entry in entries]


def _rated(fold: Datalist, scores: np.ndarray) -> list[dict[str, float]]:
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
