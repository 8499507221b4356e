"""A case: one patient at one time point with its named channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import InputError
from .geometry import Grid
from .volume import Volume

MINIMUM_OVERLAP = 0.5


@dataclass(frozen=True)
class Finding:
    """A point that someone marked as a suspected prostate lesion.

    Attributes
    ----------
    identifier : unique within the case, for example "1".
    position_ras : (r, a, s) in mm.
    zone : PZ, TZ, AS, SV, or "" when unknown.
    significant : truth, when known.
    """

    identifier: str
    position_ras: tuple[float, float, float]
    zone: str = ""
    significant: bool | None = None


@dataclass(frozen=True, eq=False)
class Case:
    """One patient at one time point.

    Attributes
    ----------
    patient : patient identifier; splits never part the cases of one patient.
    channels : channel name (FLAIR, T1, T2, PD; T2W, ADC, HBV, KTRANS) -> volume on its own grid.
    reference : the channel whose grid carries the results.
    mask : lesion mask, when known, on its own grid.
    findings : marked points, for classification.
    brain : brain mask, when given, on its own grid: lesions are reported within it only.
    """

    patient: str
    channels: Mapping[str, Volume]
    reference: str
    mask: Volume | None = None
    findings: tuple[Finding, ...] = field(default=())
    brain: Volume | None = None

    def __post_init__(self) -> None:
        if self.reference not in self.channels:
            raise InputError(
                f"the reference channel {self.reference} is missing (given: {', '.join(self.channels)})",
                f"Give a volume for {self.reference}",
            )

    @property
    def grid(self) -> Grid:
        """The grid of the reference channel, on which results are given."""
        return self.channels[self.reference].grid

    def require_channels(self, names: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
        """Raise InputError unless every channel is there, finite, and overlaps the reference in space.

        Those of ``optional`` may be missing.
        """
        missing = [name for name in names if name not in self.channels and name not in optional]
        if missing:
            raise InputError(
                f"channel {', '.join(missing)} is missing (given: {', '.join(self.channels)}; "
                f"needed: {', '.join(name for name in names if name not in optional)})",
                f"Add a volume for {', '.join(missing)}",
            )
        for name in (name for name in names if name in self.channels):
            volume = self.channels[name].require_finite()
            overlap = self.grid.overlap_with(volume.grid)
            if overlap < MINIMUM_OVERLAP:
                raise InputError(
                    f"{volume.name} ({name}) covers only {overlap:.0%} of the reference "
                    f"{self.channels[self.reference].name} ({self.reference}) in patient space",
                    "Check that both belong to one examination; register them if they do (--register)",
                )
