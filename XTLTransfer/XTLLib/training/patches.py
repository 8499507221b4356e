"""The prostate stage's data: patches around findings, one probability each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ..data.datalist import Entry
from ..data.patch_jitter import PatchJitter
from ..data.patches import PatchSource, PatchSpec, load_patch, source_of
from ..data.stored_patches import STORED_SIZE_MM
from ..data.zones import ZONE_INDEX
from ..errors import InputError
from ..progress import Progress
from .augment import PlaneMotion, change_intensities
from .classes import ClassTask

if TYPE_CHECKING:
    from ..data.datalist import Datalist
    from ..transfer.stages import ClassificationTarget, IntermediateClassification

# A prostate is about symmetric; front and back differ.
_DEGREES, _TILT_DEGREES, _SCALE, _SHIFT = 15, 10, (0.85, 1.15), 0.06
_MOTION = PlaneMotion(_DEGREES, _SCALE, _SHIFT, flips_columns=True)
_ZONE_UNTOLD = 0.25  # share of the examples whose zone the network is not told: it has to do without, too

# intensity of a patch -> mean and SD of its values
INTENSITY_STATISTICS = {"rank": (0.5, 12**-0.5), "robust": (0.0, 1.0)}


class PatchTask(ClassTask):
    """Patches held in memory (float16), as inputs (N, C, K, J, I).

    Where the datalist has images, so much of them is held as a moved patch may show (float32): patches then move in
    patient space, all channels alike in mm, before they are sampled. Ready-made patches move in their plane.
    With the stage's ``zones`` the inputs have one more channel, everywhere the zone's number, which
    ``ClassificationNetwork`` takes off again.
    """

    def __init__(
        self,
        stage: ClassificationTarget | IntermediateClassification,
        spec: PatchSpec,
        datalist: Datalist,
        seed: int,
        progress: Progress,
    ) -> None:
        self._spec, self._zones = spec, getattr(stage, "zones", False)
        self._jitter = jitter_of(spec)
        self._surroundings: list[PatchSource] = []
        self._findings = [entry.finding for entry in datalist.training]
        super().__init__(stage.training, datalist, seed, progress)

    def load(self, entries: Sequence[Entry], datalist: Datalist, progress: Progress) -> Tensor:
        moves = self._augments and all(entry.row is None for entry in entries)
        return self._load(entries, datalist, progress, self._surroundings if moves else None)

    def load_held_out(self, datalist: Datalist, progress: Progress) -> Tensor:
        return self._load(datalist.validation, datalist, progress)

    def rate(self, network: nn.Module, entries: Sequence[Entry], datalist: Datalist, progress: Progress) -> np.ndarray:
        """Probabilities float64 (n,) of entries of a datalist, in their order, by a network of one logit."""
        logits = self._rate(network, self._load(entries, datalist, progress))
        return probabilities_of(logits)

    def drawn(self, chosen: np.ndarray, rng: np.random.Generator) -> Tensor:
        stored = self._images[torch.from_numpy(chosen)].float()
        count = len(self._spec.channels)
        images, zones = stored[:, :count], stored[:, count:]
        if self._surroundings:
            images = self._changed(self._moved(images, chosen, rng), rng)
        elif self._augments:
            images = self.augmented(images, rng)
        if self._zones:
            told = torch.from_numpy(rng.random(len(chosen)) >= _ZONE_UNTOLD)
            images = torch.cat([images, zones * told.reshape(-1, 1, 1, 1, 1)], dim=1)
        return images

    def augmented(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        return self._changed(_MOTION.apply(images, rng, outside="border"), rng)

    def _changed(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        return change_intensities(images, rng, unit=INTENSITY_STATISTICS[self._spec.intensity][1])

    def _moved(self, images: Tensor, chosen: np.ndarray, rng: np.random.Generator) -> Tensor:
        """The patches of examples, each moved in patient space by its own draw."""
        seed, moved = int(rng.integers(2**62)), images.clone()
        for place, example in enumerate(chosen):
            motion = self._jitter.motion(seed, place)
            try:
                patch = self._surroundings[example].patch(self._findings[example], motion)
            except InputError:  # moved to where the image is constant, beyond its border: the patch stays
                continue
            moved[place] = torch.from_numpy(patch)
        return moved

    def _load(
        self,
        entries: Sequence[Entry],
        datalist: Datalist,
        progress: Progress,
        surroundings: list[PatchSource] | None = None,
    ) -> Tensor:
        """float16 (N, C, K, J, I), with a channel more for zones; what lies around the findings goes to a list."""
        count = len(self._spec.channels)
        patches = np.empty((len(entries), count + self._zones, *self._spec.shape), dtype=np.float16)
        for number, entry in enumerate(entries):
            progress.report("Preparing patches", number / len(entries))
            patches[number, :count] = load_patch(entry, datalist, self._spec)
            patches[number, count:] = ZONE_INDEX.get(zone_of_entry(entry), 0)
            if surroundings is not None:
                source = source_of(entry, datalist, self._spec)
                surroundings.append(source.around(entry.finding, self._jitter))
        return torch.from_numpy(patches)


def probabilities_of(logits: np.ndarray) -> np.ndarray:
    """float64 (n,) of logits (n, 1) of two classes."""
    return 0.5 + 0.5 * np.tanh(logits[:, 0].astype(np.float64) / 2)  # the sigmoid, without overflow


def zone_of_entry(entry: Entry) -> str:
    """PZ, TZ, AS, SV, or "" where a datalist does not tell it."""
    return (entry.finding.zone if entry.finding is not None else "") or entry.attributes.get("zone", "")


def jitter_of(spec: PatchSpec) -> PatchJitter:
    """How the patches of a training move: as much as the smallest extent of a channel bears (a project choice)."""
    x, y, z = (_SHIFT * min(spec.size_mm[name][axis] for name in spec.channels) for axis in range(3))
    is_flat = spec.shape[0] == 1
    return PatchJitter(_DEGREES, 0 if is_flat else _TILT_DEGREES, _SCALE, (x, y, 0 if is_flat else z), mirror=True)


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
