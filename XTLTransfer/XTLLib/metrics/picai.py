"""Detection of prostate lesions by the rules of PI-CAI (Saha et al. 2024, Lancet Oncol 25:879; package picai_eval).

A detection map holds one confidence per lesion candidate and 0 elsewhere; candidates and reference lesions are
26-connected components. Candidates and lesions whose IoU is at least 0.10 may be paired; the pairing is the one
with the largest sum of 1 + IoU over its pairs (Hungarian method), in practice the one with most pairs. A paired
lesion is a hit with its candidate's confidence, an unpaired one a miss. A candidate that reaches the IoU with
some lesion but was not paired is left out; every other unpaired candidate is a false positive.

The AUROC is of cases, a case's confidence being the highest of its candidates (0 without any), a case positive
when it has a lesion. AP is of lesions and candidates of all patients together; misses count as lesions
that no threshold reaches. Score = (AUROC + AP) / 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .bootstrap import INTERVAL_DRAWS, patient_draws, percentile_interval
from .components import component_ious, label_components
from .precision_recall import weighted_average_precision
from .roc import weighted_auc

CONNECTIVITY = 26
SMALLEST_IOU = 0.10
_SMOOTHING = 1e-8  # the package's; it decides between pairings that are otherwise equally good


@dataclass(frozen=True)
class PicaiCase:
    """What was detected in one case.

    Attributes
    ----------
    hits : (confidence, IoU) of each found reference lesion. misses : reference lesions not found.
    false_positives : confidence of each.
    confidence : of the case, the highest of its candidates; 0 without candidates.
    patient : whose case it is; "" when every case is a patient of its own.
    """

    hits: tuple[tuple[float, float], ...]
    misses: int
    false_positives: tuple[float, ...]
    confidence: float
    patient: str = ""

    @property
    def lesions(self) -> int:
        """Reference lesions."""
        return len(self.hits) + self.misses


@dataclass(frozen=True)
class PicaiScore:
    """The ranking figures of PI-CAI with percentile intervals of a bootstrap over patients.

    Attributes
    ----------
    score, auroc, average_precision : estimates, 0 to 1. score_interval, ... : their bounds at ``level``; draws
        without a case of each kind are drawn again.
    cases, lesions, patients : what they were computed on. draws : bootstrap draws.
    """

    score: float
    auroc: float
    average_precision: float
    score_interval: tuple[float, float]
    auroc_interval: tuple[float, float]
    average_precision_interval: tuple[float, float]
    level: float
    draws: int
    cases: int
    lesions: int
    patients: int


def match_case(
    detection_map: np.ndarray, reference: np.ndarray, patient: str = "", smallest_iou: float = SMALLEST_IOU
) -> PicaiCase:
    """Pair the candidates of one detection map with the reference lesions.

    Parameters
    ----------
    detection_map : (K, J, I) confidences >= 0, the same throughout a candidate (its highest value counts); empty when 0
        everywhere, which is no error.
    reference : (K, J, I) mask, values above 0 are lesion; may be empty.

    Raises
    ------
    InputError : shapes differ, confidences are negative or not finite, or the map has more values than components,
        which a softmax has and a detection map has not.
    """
    detection_map, reference = np.asarray(detection_map, dtype=np.float32), np.asarray(reference) > 0
    if detection_map.shape != reference.shape:
        raise InputError(
            f"a detection map of shape {detection_map.shape} cannot be compared with a reference of {reference.shape}",
            "Bring both onto one voxel grid first",
        )
    if not np.isfinite(detection_map).all() or (detection_map < 0).any():
        raise InputError("a detection map with negative or infinite confidences or NaN", "Give confidences from 0 up")
    p, n_p = label_components(detection_map > 0, CONNECTIVITY)
    g, n_g = label_components(reference, CONNECTIVITY)
    inside = p > 0
    if np.unique(detection_map[inside]).size > n_p:
        raise InputError(
            f"a detection map with {n_p} candidates and more confidences than that",
            "Give each candidate one confidence, for example the highest probability in it",
        )
    confidences = np.zeros(n_p + 1, dtype=np.float32)
    np.maximum.at(confidences, p[inside], detection_map[inside])
    confidences = confidences[1:]

    ious = component_ious(g, n_g, p, n_p, _SMOOTHING)
    rows, columns = pair(ious, smallest_iou)
    reaches = (ious >= smallest_iou).any(axis=0) if n_g else np.zeros(n_p, dtype=bool)
    return PicaiCase(
        hits=tuple((float(confidences[c]), float(ious[r, c])) for r, c in zip(rows, columns)),
        misses=n_g - len(rows),
        false_positives=tuple(float(value) for value in confidences[~reaches]),
        confidence=float(confidences.max(initial=0.0)),
        patient=patient,
    )


def pair(ious: np.ndarray, smallest_iou: float = SMALLEST_IOU) -> tuple[np.ndarray, np.ndarray]:
    """One-to-one pairs of lesions and candidates with the largest sum of 1 + IoU.

    Parameters
    ----------
    ious : (lesions, candidates), 0 to 1; pairs below ``smallest_iou`` are impossible.

    Returns
    -------
    Lesion and candidate indices of the pairs, each (pairs,).
    """
    from scipy.optimize import linear_sum_assignment

    # 1 + IoU and no larger bonus for a pair: the weights of the package, with which scores have to agree.
    value = np.where(ious >= smallest_iou, 1.0 + ious, 0.0)
    rows, columns = linear_sum_assignment(value, maximize=True)
    possible = value[rows, columns] > 0
    return rows[possible], columns[possible]


def picai_score(
    cases: Sequence[PicaiCase], draws: int = INTERVAL_DRAWS, level: float = 0.95, seed: int = 0
) -> PicaiScore:
    """AUROC, AP and their mean over cases, with intervals.

    Raises InputError when no case, or every case, has a lesion: the AUROC is then undefined.
    """
    names = [case.patient or f"case {number}" for number, case in enumerate(cases)]
    positive = np.array([case.lesions > 0 for case in cases], dtype=bool)
    if positive.all() or not positive.any():
        raise InputError("a PI-CAI score of cases that are all of one kind", "Give cases with and without lesions")
    confidence = np.array([case.confidence for case in cases])
    owner, scores, truth = _all_lesions(cases)

    def figures(weights: np.ndarray) -> np.ndarray:
        auroc = weighted_auc(confidence, positive, weights)
        precision = weighted_average_precision(scores, truth, weights[:, owner], never=0.0)
        return np.stack([(auroc + precision) / 2, auroc, precision])

    estimate = figures(np.ones((1, len(cases))))[:, 0]
    drawn = np.concatenate([figures(w) for w in patient_draws(names, draws, seed, [positive])], axis=1)
    return PicaiScore(
        *(float(value) for value in estimate),
        *(percentile_interval(values, level) for values in drawn),
        level=level,
        draws=draws,
        cases=len(cases),
        lesions=sum(case.lesions for case in cases),
        patients=len(set(names)),
    )


def _all_lesions(cases: Sequence[PicaiCase]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(index of the case, confidence, truth), each (n,), of all hits, misses (confidence 0) and false positives."""
    rows = []
    for index, case in enumerate(cases):
        rows += [(index, confidence, True) for confidence, _ in case.hits]
        rows += [(index, 0.0, True)] * case.misses
        rows += [(index, confidence, False) for confidence in case.false_positives]
    owner, scores, truth = zip(*rows)
    return np.array(owner), np.array(scores, dtype=np.float64), np.array(truth, dtype=bool)
