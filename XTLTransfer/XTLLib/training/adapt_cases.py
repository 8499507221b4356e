"""Corrected cases as an adaptation uses them: prepared, their masks checked and on the working grid."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..data.case import Case
from ..data.prepare import Preparation, PreparedCase
from ..errors import InputError
from ..progress import Progress
from .windows import WindowSource

Box = tuple[slice, slice, slice]

_LARGEST_LESION_SHARE = 0.5  # of the head; an inverted mask, or one that fills its grid, is beyond it
_INSIDE_SHARE = 0.5  # of the mask's voxels that have to lie in the image


@dataclass(frozen=True, eq=False)
class CorrectedCase:
    """A prepared case with its mask.

    Attributes
    ----------
    patient : identifier; never recorded. prepared : the network's input. mask : bool (K, J, I), working grid.
    """

    patient: str
    prepared: PreparedCase
    mask: np.ndarray

    @property
    def whole(self) -> Box:
        """The box of the whole case."""
        return tuple(slice(0, n) for n in self.mask.shape)

    def source(self, box: Box) -> WindowSource:
        """Training windows of a box; nothing outside of it can reach them."""
        prepared = self.prepared
        image = prepared.image[(slice(None), *box)]
        part = PreparedCase(image, prepared.foreground[box], prepared.grid.crop(box), prepared.reference_grid)
        return WindowSource.of(part, self.mask[box])


def prepare_corrected(cases: Sequence[Case], preparation: Preparation, progress: Progress) -> list[CorrectedCase]:
    """Bring corrected cases onto the working grid.

    Raises
    ------
    InputError : there are none, a mask is missing, empty, fills the head or lies elsewhere in patient space, no
        mask has a lesion, or a case does not fit the preparation.
    """
    if not cases:
        raise InputError("no corrected case was given", "Give at least one case with its mask")
    prepared = []
    for number, case in enumerate(cases):
        progress.report("Preparing the corrected cases", number / len(cases))
        prepared.append(prepare_case(case, preparation))
    if not any(case.mask.any() for case in prepared):
        names = ", ".join(case.mask.name for case in cases[:3])
        raise InputError(
            f"no corrected lesion: there is nothing to learn from ({names})",
            "Mark at least one lesion that is larger than a voxel",
        )
    return prepared


def prepare_case(case: Case, preparation: Preparation) -> CorrectedCase:
    """One case on the working grid, its mask checked; it may be empty. Raises InputError, see prepare_corrected."""
    if case.mask is None:
        name = case.channels[case.reference].name
        raise InputError(f"the corrected case of {name} has no mask", "Give its corrected mask")
    case.mask.require_finite()
    prepared = preparation(case)  # says what is wrong with the channels
    _require_place(case, preparation)
    mask = prepared.mask_on_working_grid(case.mask)
    share = (mask & prepared.foreground).sum() / prepared.foreground.sum()
    if share > _LARGEST_LESION_SHARE:
        raise InputError(
            f"the mask {case.mask.name} marks {share:.0%} of the head as lesion", "Mark the lesions, and nothing else"
        )
    return CorrectedCase(case.patient, prepared, mask)


def content_hash(cases: Sequence[Case], channels: Sequence[str]) -> str:
    """SHA-256 of the voxels and grids of the cases' channels and masks; names do not matter."""
    digest = hashlib.sha256()
    for case in cases:
        for volume in (*(case.channels[name] for name in channels if name in case.channels), case.mask):
            digest.update(f"{volume.array.dtype} {volume.grid.shape}".encode())
            digest.update(np.ascontiguousarray(volume.grid.ijk_to_ras).tobytes())
            digest.update(np.ascontiguousarray(volume.array).tobytes())
    return digest.hexdigest()


def _require_place(case: Case, preparation: Preparation) -> None:
    """Raise InputError unless most of what is marked lies in the image."""
    mask, image = case.mask, case.channels[preparation.reference]
    marked = np.argwhere(mask.array > 0)[:, ::-1]
    if not len(marked):
        return
    inside = float(image.grid.contains(mask.grid.index_to_ras(marked)).mean())
    if inside < _INSIDE_SHARE:
        raise InputError(
            f"only {inside:.0%} of what {mask.name} marks lies in {image.name} ({preparation.reference}) in patient "
            "space",
            "Check that both belong to one examination",
        )
