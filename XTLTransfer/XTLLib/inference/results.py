"""What inference gives back: everything the scene, the tables and the report are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..data.case import Case, Finding
from ..data.volume import Volume

RESEARCH_NOTE = "Research software, not a medical device"


@dataclass(frozen=True)
class Lesion:
    """A connected region of lesion voxels, one row of a lesion table.

    Attributes
    ----------
    identifier : 1 for the largest lesion, then by decreasing volume; the value in the label map.
    position_ras : (r, a, s) in mm, the mean of the voxel centres (not weighted by probability).
    volume_mm3 : voxel count times voxel volume.
    longest_diameter_mm : largest distance between two points of the lesion's voxels, corners included.
    mean_probability, maximum_probability : over the lesion's voxels, 0 to 1.
    uncertainty : mean over its voxels of the SD of the probability (mirrored views, or an ensemble); None without.
    location : where it lies in the brain, a value of inference/location.py; "" where nobody has looked.
    """

    identifier: int
    position_ras: tuple[float, float, float]
    volume_mm3: float
    longest_diameter_mm: float
    mean_probability: float
    maximum_probability: float
    uncertainty: float | None = None
    location: str = ""


@dataclass(frozen=True, eq=False)
class SegmentationResult:
    """The lesions of a case.

    Attributes
    ----------
    probability : float32 (K, J, I) on the reference grid, 0 to 1.
    label : int32 (K, J, I) on the same grid, 0 outside, a lesion's identifier inside.
    lesions : by decreasing volume; empty when nothing reached the threshold.
    threshold : smallest probability of a lesion voxel.
    minimum_volume_mm3 : smaller components were dropped.
    case : what it was computed from. bundle_name : what it was computed with.
    uncertainty : float32 on the same grid, the SD of the probability over mirrored views or over the bundles of
        an ensemble; None without them.
    precision : of the arithmetic. notes : what a user has to know of the computation.
    location_rule : what the locations mean, in a sentence; "" when the lesions have none.
    transforms : channel -> (4, 4), RAS mm, by which a channel was registered to the reference; its volume in
        ``case`` is as it was given.
    """

    probability: Volume
    label: Volume
    lesions: tuple[Lesion, ...]
    threshold: float
    case: Case
    bundle_name: str
    minimum_volume_mm3: float = 0.0
    uncertainty: Volume | None = None
    precision: str = "float32"
    notes: tuple[str, ...] = ()
    location_rule: str = ""
    transforms: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class RatedFinding:
    """A finding with the probability that it is clinically significant cancer, one row of a lesion table.

    Attributes
    ----------
    row : 1..n in the order given; the value of the finding's ball in the label map.
    finding : the point and its zone. probability : 0 to 1.
    """

    row: int
    finding: Finding
    probability: float


@dataclass(frozen=True, eq=False)
class ClassificationResult:
    """The rated findings of a case.

    Attributes
    ----------
    findings : in the order in which they were given.
    label : int32 (K, J, I) on the reference grid, a ball at each finding with its row as value.
    probability : float32 on the same grid, the same balls with the probability as value, 0 outside.
    case : what it was computed from. bundle_name : what it was computed with.
    """

    findings: tuple[RatedFinding, ...]
    label: Volume
    probability: Volume
    case: Case
    bundle_name: str
