"""Detection accuracy for lesions by three conventions side by side; papers differ in which they mean.

| convention | reference lesion found | predicted lesion true | components | smallest |
|---|---|---|---|---|
| any-overlap (ISBI) | one voxel is predicted | one voxel is in a reference lesion | 26 | none |
| anima (MSSEG) | rules of :mod:`.anima` | the same, roles exchanged | 6 | above 3 mm³ |
| iou-0.10 (PI-CAI) | paired one to one at IoU >= 0.10 | paired | 26 | none |

Under the third, a predicted lesion that reaches the IoU but was not paired is neither true nor false in PI-CAI; here,
where predictions have no confidence and rates are over all predicted lesions, it counts as not true.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..data.geometry import Grid
from .anima import anima_detection
from .components import component_ious, label_components
from .lesionwise import detect_lesions, harmonic_mean
from .overlap import EmptyPolicy, value_of_two_empty_masks
from .picai import CONNECTIVITY, SMALLEST_IOU, pair


@dataclass(frozen=True)
class Detection:
    """Lesions counted under one convention.

    Attributes
    ----------
    convention : its name. connectivity : of the components.
    reference_lesions, found, predicted_lesions, true_lesions : counts.
    empty : policy for rates without lesions, as in :class:`.anima.AnimaDetection`.
    """

    convention: str
    connectivity: int
    reference_lesions: int
    found: int
    predicted_lesions: int
    true_lesions: int
    empty: EmptyPolicy = "one"

    @property
    def sensitivity(self) -> float:
        """Found / reference lesions."""
        return self.found / self.reference_lesions if self.reference_lesions else self._undefined()

    @property
    def precision(self) -> float:
        """True / predicted lesions."""
        return self.true_lesions / self.predicted_lesions if self.predicted_lesions else self._undefined()

    @property
    def f1(self) -> float:
        """Harmonic mean of both; 0 when exactly one mask is empty."""
        if bool(self.reference_lesions) != bool(self.predicted_lesions):
            return 0.0
        return harmonic_mean(self.sensitivity, self.precision)

    def _undefined(self) -> float:
        value = value_of_two_empty_masks(self.empty)
        one_empty = bool(self.reference_lesions) != bool(self.predicted_lesions)
        return 0.0 if one_empty and value == 1.0 else value


def detection_by_conventions(
    predicted: np.ndarray, reference: np.ndarray, grid: Grid, empty: EmptyPolicy = "one"
) -> tuple[Detection, ...]:
    """The three rows of the table above for two masks (K, J, I) on ``grid``; values above 0 are inside.

    Raises InputError when the shapes differ.
    """
    predicted, reference = np.asarray(predicted) > 0, np.asarray(reference) > 0
    touched = detect_lesions(predicted, reference, CONNECTIVITY, empty)
    anima = anima_detection(predicted, reference, grid.voxel_volume_mm3, empty=empty)
    pairs = _pairs(predicted, reference)
    return (
        Detection(
            "any-overlap",
            touched.connectivity,
            touched.reference_lesions,
            touched.found,
            touched.predicted_lesions,
            touched.predicted_lesions - touched.false_lesions,
            empty,
        ),
        Detection(
            "anima",
            anima.connectivity,
            anima.reference_lesions,
            anima.found,
            anima.predicted_lesions,
            anima.true_lesions,
            empty,
        ),
        Detection(
            f"iou-{SMALLEST_IOU:.2f}",
            CONNECTIVITY,
            touched.reference_lesions,
            pairs,
            touched.predicted_lesions,
            pairs,
            empty,
        ),
    )


def _pairs(predicted: np.ndarray, reference: np.ndarray) -> int:
    """How many predicted and reference lesions are paired at IoU >= 0.10."""
    p, n_p = label_components(predicted, CONNECTIVITY)
    g, n_g = label_components(reference, CONNECTIVITY)
    return len(pair(component_ious(g, n_g, p, n_p))[0])
