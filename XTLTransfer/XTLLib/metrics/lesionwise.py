"""Lesion-wise detection figures: which lesions were found, which predicted ones are false.

With C(·) the connected components: LTPR = #{g in C(G): |g∩P| > 0} / #C(G),
LFPR = #{p in C(P): |p∩G| = 0} / #C(P), lesion F1 = harmonic mean of LTPR and 1 - LFPR
(the detection figures of the ISBI 2015 longitudinal MS challenge, Carass et al. 2017, NeuroImage 148:77).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .components import label_components
from .overlap import EmptyPolicy


@dataclass(frozen=True)
class LesionDetection:
    """Counts of lesions and the rates that follow from them.

    Attributes
    ----------
    reference_lesions : components of the reference mask. found : those touched by the prediction.
    predicted_lesions : components of the predicted mask. false_lesions : those that touch no reference.
    connectivity : 6, 18 or 26, of both masks' components.
    empty : what an undefined rate gives: "one" counts it as perfect when both masks are empty and as
        worst otherwise, "zero" as worst in both, "nan" as undefined.
    """

    reference_lesions: int
    found: int
    predicted_lesions: int
    false_lesions: int
    connectivity: int
    empty: EmptyPolicy = "one"

    @property
    def ltpr(self) -> float:
        """Found reference lesions / reference lesions."""
        return self.found / self.reference_lesions if self.reference_lesions else self._undefined()

    @property
    def lfpr(self) -> float:
        """False predicted lesions / predicted lesions."""
        return self.false_lesions / self.predicted_lesions if self.predicted_lesions else 1.0 - self._undefined()

    @property
    def f1(self) -> float:
        """Harmonic mean of LTPR and 1 - LFPR."""
        if not self.reference_lesions and not self.predicted_lesions:
            return self._undefined()
        if not self.reference_lesions or not self.predicted_lesions:
            return 0.0
        return harmonic_mean(self.ltpr, 1.0 - self.lfpr)

    def _undefined(self) -> float:
        if self.empty == "nan":
            return float("nan")
        both_empty = not self.reference_lesions and not self.predicted_lesions
        return 1.0 if self.empty == "one" and both_empty else 0.0


def harmonic_mean(a: float, b: float) -> float:
    """2ab / (a + b) of two rates; 0 when both are 0, NaN when one is NaN."""
    return 2.0 * a * b / (a + b) if a + b != 0 else 0.0


def detect_lesions(
    predicted: np.ndarray, reference: np.ndarray, connectivity: int = 26, empty: EmptyPolicy = "one"
) -> LesionDetection:
    """Compare two masks (K, J, I) lesion by lesion; one shared voxel makes a lesion found.

    Raises InputError when the shapes differ or the connectivity is none of 6, 18, 26.
    """
    predicted, reference = np.asarray(predicted) > 0, np.asarray(reference) > 0
    if predicted.shape != reference.shape:
        raise InputError(
            f"a predicted mask of shape {predicted.shape} cannot be compared with a reference of {reference.shape}",
            "Bring both onto one voxel grid first",
        )
    g_labels, g_count = label_components(reference, connectivity)
    p_labels, p_count = label_components(predicted, connectivity)
    found = np.unique(g_labels[predicted & reference]).size
    true = np.unique(p_labels[predicted & reference]).size
    return LesionDetection(g_count, int(found), p_count, int(p_count - true), connectivity, empty)
