"""The prostate stage's data: patches around findings, one probability each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..data.datalist import Entry
from ..data.patches import PatchSpec, load_patch
from ..data.stored_patches import STORED_SIZE_MM
from ..errors import InputError
from ..progress import Progress
from .augment import PlaneMotion, change_intensities
from .classes import ClassTask

if TYPE_CHECKING:
    from ..data.datalist import Datalist
    from ..transfer.stages import ClassificationTarget

# A prostate is about symmetric; front and back differ.
_MOTION = PlaneMotion(degrees=15, scale=(0.85, 1.15), shift=0.06, flips_columns=True)

# intensity of a patch -> mean and SD of its values
INTENSITY_STATISTICS = {"rank": (0.5, 12**-0.5), "robust": (0.0, 1.0)}


class PatchTask(ClassTask):
    """Patches held in memory (float16), as inputs (N, C, K, J, I)."""

    def __init__(
        self, stage: ClassificationTarget, spec: PatchSpec, datalist: Datalist, seed: int, progress: Progress
    ) -> None:
        self._spec = spec
        super().__init__(stage.training, datalist, seed, progress)

    def load(self, entries: Sequence[Entry], datalist: Datalist, progress: Progress) -> Tensor:
        patches = np.empty((len(entries), len(self._spec.channels), *self._spec.shape), dtype=np.float16)
        for number, entry in enumerate(entries):
            progress.report("Preparing patches", number / len(entries))
            patches[number] = load_patch(entry, datalist, self._spec)
        return torch.from_numpy(patches)

    def augmented(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        moved = _MOTION.apply(images, rng, outside="border")
        return change_intensities(moved, rng, unit=INTENSITY_STATISTICS[self._spec.intensity][1])


def patch_spec_of(stage: ClassificationTarget, datalist: Datalist) -> PatchSpec:
    """The patches of a stage; channels without a size of their own take the usual one of their name.

    Raises InputError when a channel has neither.
    """
    sizes = {name: stage.patch.size_mm.get(name, STORED_SIZE_MM.get(name)) for name in stage.channels}
    unknown = [name for name, size in sizes.items() if size is None]
    if unknown:
        raise InputError(
            f"the patch of the target stage has no size_mm for {', '.join(unknown)}",
            f"Add patch: {{size_mm: {{{unknown[0]}: [x, y, z]}}}} in mm",
        )
    reference = datalist.reference if datalist.reference in stage.channels else stage.channels[0]
    return PatchSpec(stage.channels, stage.patch.shape, sizes, stage.patch.intensity, reference)
