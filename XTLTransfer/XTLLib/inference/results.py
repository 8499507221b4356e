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
    finding : the point and its zone.
    probability : 0 to 1, calibrated where the bundle holds a calibration.
    raw_probability : the networks' own, before any calibration: the mean over members and views.
    interval : the smallest and the largest probability that any one member gives to any one view of the finding, each
        calibrated by itself. It shows how far the members and the views disagree, and is no confidence interval;
        None when there is but one of them.
    threshold : the probability from which on the operating point calls a finding significant; None without one.
    is_significant : whether ``probability`` reaches it; None without one.
    ppv, npv : share of the findings called significant that were (of those not called that were not), at that
        threshold in the data of calibration, whose share of significant findings they hold for; None without one.
    warnings : what a reader has to know of this finding's rating, in words, without the patient's name.
    """

    row: int
    finding: Finding
    probability: float
    raw_probability: float | None = None
    interval: tuple[float, float] | None = None
    threshold: float | None = None
    is_significant: bool | None = None
    ppv: float | None = None
    npv: float | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class ClassificationResult:
    """The rated findings of a case.

    Attributes
    ----------
    findings : in the order in which they were given.
    label : int32 (K, J, I) on the reference grid, a ball at each finding with its row as value.
    probability : float32 on the same grid, the same balls with the probability as value, 0 outside.
    case : what it was computed from. bundle_name : what it was computed with.
    evidence : row -> "grad-cam" or "occlusion" -> float32 on the reference grid, 0 outside of the finding's patch;
        see inference/evidence.py. Empty unless asked for.
    operating_point : name of the rule that chose the threshold; "" when the bundle has none.
    notes : what a user has to know of the computation.
    """

    findings: tuple[RatedFinding, ...]
    label: Volume
    probability: Volume
    case: Case
    bundle_name: str
    evidence: Mapping[int, Mapping[str, Volume]] = field(default_factory=dict)
    operating_point: str = ""
    notes: tuple[str, ...] = ()
