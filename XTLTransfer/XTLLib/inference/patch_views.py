"""Test-time augmentation: the views of a finding over which its rating is averaged."""

from __future__ import annotations

import numpy as np

from ..data.patch_jitter import PatchMotion
from ..errors import InputError

MOST_VIEWS = 8
# (mirrored left to right, degrees in the plane of the slices, factor of size): fixed, within what training varies
_MOTIONS = (
    (False, 0.0, 1.0),
    (True, 0.0, 1.0),
    (False, 10.0, 1.0),
    (False, -10.0, 1.0),
    (True, 10.0, 1.0),
    (True, -10.0, 1.0),
    (False, 0.0, 1.1),
    (False, 0.0, 1 / 1.1),
)


def patch_views(count: int) -> tuple[PatchMotion | None, ...]:
    """The first ``count`` views: as it is (None), mirrored, turned by 10 degrees either way, and further ones.

    The image around the finding moves in patient space before it is sampled, all channels alike, the finding staying
    in the middle. Four is the number whose mean Romero et al. 2020 (arXiv 1912.06761) rate by; theirs are random.

    Raises InputError for a count below 1 or above ``MOST_VIEWS``.
    """
    if not 1 <= count <= MOST_VIEWS:
        raise InputError(f"{count} views of each finding", f"Give 1 to {MOST_VIEWS}")
    return (None, *(_motion(*values) for values in _MOTIONS[1:count]))


def _motion(is_mirrored: bool, degrees: float, scale: float) -> PatchMotion:
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    return PatchMotion(turn @ np.diag([-scale if is_mirrored else scale, scale, scale]), np.zeros(3))
