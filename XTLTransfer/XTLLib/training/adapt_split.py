"""What an adaptation holds out to measure itself by: patients where there are several, else a part of the head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..data.splits import draw_patients
from ..metrics.components import bounding_box, label_components
from ..transfer.adaptation import Adaptation
from .adapt_cases import Box, CorrectedCase

_CONNECTIVITY = 26
_SIDES = (("lower", "upper"), ("front", "back"), ("right", "left"))  # of the working grid's axes k, j, i
_SHARES = tuple(n / 24 for n in range(6, 19))  # of the head's extent, where a plane may lie


@dataclass(frozen=True, eq=False)
class Part:
    """A box of a case."""

    case: CorrectedCase
    box: Box

    @property
    def lesions(self) -> int:
        """Lesions of which some voxels lie in the box."""
        return label_components(self.case.mask[self.box], _CONNECTIVITY)[1]


@dataclass(frozen=True, eq=False)
class Split:
    """Two parts of the corrected cases that have no voxel in common.

    Attributes
    ----------
    learned, held_out : what is learned from, and what is measured by; both hold lesions.
    words : what is held out.
    of_patients : whether whole patients are held out, rather than a part of each head.
    """

    learned: tuple[Part, ...]
    held_out: tuple[Part, ...]
    words: str
    of_patients: bool


def split_cases(cases: Sequence[CorrectedCase], settings: Adaptation) -> Split | None:
    """The split of the corrected cases; None where every split leaves a side without a lesion.

    Of several patients whole patients are held out. Of one patient it is a side of the head beyond a plane, in
    all of its cases the same: hemispheres, front and back, or a block of slices, whichever has most of the
    lesions on both sides. A slab of ``margin_mm`` around the plane belongs to neither side, so that a lesion
    on one side is no neighbour of the other.
    """
    return _by_patient(cases, settings) or _by_plane(cases, settings)


def _by_patient(cases: Sequence[CorrectedCase], settings: Adaptation) -> Split | None:
    with_lesions = {case.patient: int(case.mask.any()) for case in cases if case.mask.any()}
    if len(with_lesions) < 2:
        return None
    count = min(max(1, round(settings.held_out * len(with_lesions))), len(with_lesions) - 1)
    held = draw_patients(with_lesions, count, settings.seed, "held out of the adaptation")
    sides = ([], [])
    for case in cases:
        sides[case.patient in held].append(Part(case, case.whole))
    words = f"{count} of {len({case.patient for case in cases})} corrected patients"
    return Split(tuple(sides[0]), tuple(sides[1]), words, of_patients=True)


@dataclass(frozen=True)
class _Plane:
    """A plane across one axis of the heads, at a share of their extent."""

    axis: int
    share: float

    def boxes(self, case: CorrectedCase, margin_mm: float) -> tuple[Box, Box]:
        """The box before and the box behind the plane, the slab between them left out."""
        head = bounding_box(case.prepared.foreground)[self.axis]
        at = head.start + self.share * (head.stop - head.start)
        half = margin_mm / 2 / case.prepared.grid.spacing_mm[2 - self.axis]
        before, behind = list(case.whole), list(case.whole)
        before[self.axis] = slice(0, max(0, math.floor(at - half)))
        behind[self.axis] = slice(min(case.mask.shape[self.axis], math.ceil(at + half)), case.mask.shape[self.axis])
        return tuple(before), tuple(behind)


def _by_plane(cases: Sequence[CorrectedCase], settings: Adaptation) -> Split | None:
    lesions = [_Lesions.of(case) for case in cases]
    planes = [_Plane(axis, share) for axis in (2, 1, 0) for share in _SHARES]  # of equal ones hemispheres first
    weights = {plane: _weights(plane, cases, lesions, settings.margin_mm) for plane in planes}
    best = max(planes, key=lambda plane: min(weights[plane]))
    if min(weights[best]) <= 0:
        return None
    parts = list(zip(*([Part(case, box) for box in best.boxes(case, settings.margin_mm)] for case in cases)))
    held = int(weights[best][1] < weights[best][0])  # what is learned from is the side with more to learn
    held_out = tuple(part for part in parts[held] if part.lesions)
    words = f"the {_SIDES[best.axis][held]} part of the head"
    return Split(tuple(part for part in parts[1 - held] if part.lesions), held_out, words, of_patients=False)


@dataclass(frozen=True, eq=False)
class _Lesions:
    """The lesions of a case: first and last voxel along each axis (n, 3), and their shares of the volume (n,)."""

    first: np.ndarray
    last: np.ndarray
    shares: np.ndarray

    @classmethod
    def of(cls, case: CorrectedCase) -> _Lesions:
        from scipy.ndimage import find_objects

        labels, count = label_components(case.mask, _CONNECTIVITY)
        boxes = find_objects(labels)
        bounds = np.array([[(part.start, part.stop - 1) for part in box] for box in boxes]).reshape(count, 3, 2)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        return cls(bounds[..., 0], bounds[..., 1], sizes / max(1, sizes.sum()))


def _weights(
    plane: _Plane, cases: Sequence[CorrectedCase], lesions: Sequence[_Lesions], margin_mm: float
) -> tuple[float, float]:
    """What lies wholly on either side: the mean of the share of lesions and the share of their volume."""
    totals = [0.0, 0.0]
    for case, found in zip(cases, lesions):
        for side, box in enumerate(plane.boxes(case, margin_mm)):
            part = box[plane.axis]
            whole = (found.first[:, plane.axis] >= part.start) & (found.last[:, plane.axis] < part.stop)
            if whole.any():
                totals[side] += 0.5 * (whole.mean() + found.shares[whole].sum())
    return totals[0], totals[1]
