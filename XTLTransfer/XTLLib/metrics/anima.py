"""Lesion detection by the rules of the MSSEG 2016 challenge (Commowick et al. 2018, Sci Rep 8:13650, Anima).

Components of no more than 3 mm³ are removed from both masks first. A reference lesion counts as found when

1. more than 10 % of its voxels are predicted, and
2. of the predicted lesions that overlap it, taken by decreasing overlap until 65 % of what is predicted of it is
   covered, none has more than 70 % of its voxels outside all reference lesions.

SensL is the share of reference lesions that are found; PPVL is the same with the roles of both masks
exchanged; F1 is their harmonic mean. Components are 6-connected by default, as Anima's are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .components import label_components, overlap_table
from .lesionwise import harmonic_mean
from .overlap import EmptyPolicy, value_of_two_empty_masks


@dataclass(frozen=True)
class AnimaRules:
    """The thresholds of the rules above.

    Attributes
    ----------
    smallest_mm3 : components up to this volume are removed.
    overlap : a lesion's covered share has to exceed this.
    covered : share of the overlap at which the walk over the overlapping lesions ends.
    outside : an overlapping lesion may have at most this share outside.
    """

    smallest_mm3: float = 3.0
    overlap: float = 0.10
    covered: float = 0.65
    outside: float = 0.70


MSSEG = AnimaRules()


@dataclass(frozen=True)
class AnimaDetection:
    """Counts by the rules of MSSEG and the rates that follow.

    Attributes
    ----------
    reference_lesions, found : components of the reference, and those of them that were found.
    predicted_lesions, true_lesions : components of the prediction, and those of them that are true.
    connectivity : 6, 18 or 26, of both masks' components.
    empty : what a rate without any lesion to count is: "one" gives 1 when both masks are empty (after the removal of
        small components) and 0 when only one is, "zero" gives 0 in both, "nan" leaves it undefined in both.
    """

    reference_lesions: int
    found: int
    predicted_lesions: int
    true_lesions: int
    connectivity: int
    empty: EmptyPolicy = "one"

    @property
    def sensitivity(self) -> float:
        """SensL, found reference lesions / reference lesions."""
        return self.found / self.reference_lesions if self.reference_lesions else self._undefined()

    @property
    def ppv(self) -> float:
        """PPVL, true predicted lesions / predicted lesions."""
        return self.true_lesions / self.predicted_lesions if self.predicted_lesions else self._undefined()

    @property
    def f1(self) -> float:
        """Harmonic mean of SensL and PPVL; 0 when exactly one mask is empty."""
        if bool(self.reference_lesions) != bool(self.predicted_lesions):
            return 0.0
        return harmonic_mean(self.sensitivity, self.ppv)

    def _undefined(self) -> float:
        value = value_of_two_empty_masks(self.empty)
        one_empty = bool(self.reference_lesions) != bool(self.predicted_lesions)
        return 0.0 if one_empty and value == 1.0 else value


def anima_detection(
    predicted: np.ndarray,
    reference: np.ndarray,
    voxel_volume_mm3: float,
    connectivity: int = 6,
    empty: EmptyPolicy = "one",
    rules: AnimaRules = MSSEG,
) -> AnimaDetection:
    """Compare two masks (K, J, I) on one grid lesion by lesion; values above 0 are inside.

    Parameters
    ----------
    voxel_volume_mm3 : of the grid (``Grid.voxel_volume_mm3``).
    connectivity : 6 (as Anima), 18 or 26.

    Raises
    ------
    InputError : the shapes differ, or the voxel volume is not positive.
    """
    predicted, reference = np.asarray(predicted), np.asarray(reference)
    if predicted.shape != reference.shape:
        raise InputError(
            f"a predicted mask of shape {predicted.shape} cannot be compared with a reference of {reference.shape}",
            "Bring both onto one voxel grid first",
        )
    if not voxel_volume_mm3 > 0:
        raise InputError(f"a voxel volume of {voxel_volume_mm3} mm³", "Give the volume of the grid's voxels in mm³")
    g, n_g = _large_components(reference, connectivity, rules.smallest_mm3 / voxel_volume_mm3)
    p, n_p = _large_components(predicted, connectivity, rules.smallest_mm3 / voxel_volume_mm3)
    table = overlap_table(g, n_g, p, n_p)
    return AnimaDetection(n_g, _found(table, rules), n_p, _found(table.T, rules), connectivity, empty)


def _large_components(mask: np.ndarray, connectivity: int, voxels: float) -> tuple[np.ndarray, int]:
    """Labels of the components of more than ``voxels`` voxels, renumbered from 1, and their number."""
    labels, _ = label_components(mask, connectivity)
    sizes = np.bincount(labels.ravel())
    kept = sizes > voxels * (1.0 + 1e-9)  # a component of exactly the volume is removed, whatever the rounding
    kept[0] = False
    numbers = np.where(kept, np.cumsum(kept), 0)
    return numbers[labels], int(kept.sum())


def _found(table: np.ndarray, rules: AnimaRules) -> int:
    """How many of the lesions that are rows of ``table`` (row and column 0: background) are found by its columns."""
    outside = table[0] / np.maximum(table.sum(axis=0), 1)
    count = 0
    for row in table[1:]:
        overlap = row[1:].sum()
        if overlap / row.sum() <= rules.overlap:
            continue
        order = 1 + np.argsort(-row[1:], kind="stable")
        before = np.cumsum(row[order]) - row[order]  # covered when the walk arrives at each
        walked = order[(before < rules.covered * overlap) & (row[order] > 0)]
        count += bool((outside[walked] <= rules.outside).all())
    return count
