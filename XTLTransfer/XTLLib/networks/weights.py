"""Loading the weights of a file into a backbone, and the report of what fitted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..files import sha256_of
from ..progress import Progress
from .backbones import BACKBONES, Backbone, build_backbone
from .download import require_checksum
from .key_map import KeyMatch, beginnings, match_keys
from .medicalnet import (
    FIELD_OF_VIEW_NOTE,
    MEDICALNET,
    MEDICALNET_BACKBONES,
    SHORTCUT_NOTE,
    fill_shortcuts,
    medicalnet_backbone,
)
from .normalisation import is_folded
from .sources import IMAGENET, IMAGENET_URL, licence_of, locate
from .state_files import StateFile, read_state_file

__all__ = ["IMAGENET", "WeightsLayout", "WeightsReport", "load_weights"]

WeightsLayout = Literal["torchvision", "medicalnet"]
_SHOWN = 3


@dataclass(frozen=True)
class WeightsReport:
    """Where a backbone's weights came from and what fitted; part of a chain's record.

    Attributes
    ----------
    source : the file's path, or the address it was fetched from (without its query); "random" or
        "frozen-random" for weights without a file.
    sha256 : of the file, None without one.
    matched, needed : number of the backbone's tensors that were loaded, and of all. BatchNorm's batch
        counters do not count.
    missing : the backbone's keys that the file lacks; they stayed random.
    mismatched : keys that have another shape in the file, with both shapes; they stayed random.
    unexpected : names in the file that were left out (the classifier, a decoder).
    licence : the weights' licence as far as it is known.
    folded_batchnorm : BatchNorm was folded into the convolutions: freeze or recalibrate it before training.
    frozen : no stage is to train the backbone.
    notes : what else was done to make the file fit, in sentences.
    """

    source: str
    sha256: str | None
    matched: int
    needed: int
    missing: tuple[str, ...]
    mismatched: tuple[str, ...]
    unexpected: tuple[str, ...]
    licence: str
    folded_batchnorm: bool
    frozen: bool = False
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        """One line for a terminal or a dialog."""
        if self.sha256 is None:
            return f"{self.source} weights"
        counts = [
            f"{len(names)} {label}"
            for names, label in (
                (self.missing, "missing"),
                (self.mismatched, "of another shape"),
                (self.unexpected, "left out"),
            )
            if names
        ]
        return ", ".join([f"{self.source}: {self.matched} of {self.needed} tensors", *counts, *self.notes])


def load_weights(
    backbone: Backbone,
    source: str | Path,
    sha256: str | None = None,
    allow_download: bool = False,
    *,
    layout: WeightsLayout = "torchvision",
    keys: Mapping[str, str] | None = None,
    minimum_match: float = 1.0,
    licence: str | None = None,
    base_url: str = IMAGENET_URL,
    progress: Progress | None = None,
) -> WeightsReport:
    """Load weights into a backbone, as float32.

    Parameters
    ----------
    backbone : changed only when enough of its tensors are found; 2D, or for the layout "medicalnet" that
        of ``medicalnet_backbone``.
    source : a file (.pth, .safetensors, .npz), an https address, or "imagenet" for torchvision's ImageNet
        weights. What is fetched is kept under ``XTL_HOME/weights``.
    sha256 : the expected checksum or its beginning (8 digits or more); an address needs all 64 digits.
    allow_download : fetch what is not kept yet.
    layout : how the file names its tensors.
    keys : for names that are neither: beginning in the file -> what takes its place (``key_map.match_keys``).
    minimum_match : share of the backbone's tensors that the file has to hold. 1 also refuses a file of a
        larger network of the same family.
    licence : of the weights, for the record; None takes what is known of the file.
    base_url : where torchvision's files lie; a mirror may be named.

    Raises
    ------
    InputError : the file is missing, is no state dict, holds code, has another checksum or does not fit; or
        it is not on this computer and may not be, or cannot be, fetched.
    MissingPackageError : a .safetensors file, and the package safetensors is not installed.
    """
    located = locate(str(source), backbone.name, sha256, allow_download, base_url, progress)
    digest = sha256_of(located.path)
    if sha256 is not None:
        require_checksum(located.path, digest, sha256)
    file = read_state_file(located.path)
    own, notes = backbone.state_dict(), []
    if file.container:
        notes.append(f"the state dict was under {file.container!r}")
    match = match_keys(file.tensors, own, first_convolution(backbone), keys)
    if layout == MEDICALNET:
        notes.append(FIELD_OF_VIEW_NOTE)
        if shortcuts := fill_shortcuts(file.tensors, own):
            match = match.with_tensors(shortcuts)
            notes.append(SHORTCUT_NOTE)
    if match.share < minimum_match or (minimum_match == 1 and match.deeper):
        raise _misfit(located.origin, backbone, layout, file, match, keys)
    if match.prefix:
        notes.append(f"{match.prefix!r} was taken off the names")
    if match.grey:
        notes.append("the first convolution was for grey images: repeated for RGB and divided by 3")
    backbone.load_state_dict(match.tensors, strict=False)
    return WeightsReport(
        located.origin,
        digest,
        match.matched,
        match.needed,
        match.missing,
        match.mismatched,
        match.unexpected,
        licence or licence_of(digest, layout),
        is_folded(backbone),
        notes=tuple(notes),
    )


def first_convolution(backbone: Backbone) -> str:
    """Key of the kernels that meet the image."""
    kinds = (nn.Conv2d, nn.Conv3d)
    return next(f"{name}.weight" for name, part in backbone.named_modules() if isinstance(part, kinds))


def _misfit(
    origin: str,
    backbone: Backbone,
    layout: WeightsLayout,
    file: StateFile,
    match: KeyMatch,
    keys: Mapping[str, str] | None,
) -> InputError:
    found = [f"{match.matched} of {match.needed} tensors match"]
    for label, names in (
        ("missing", match.missing),
        ("of another shape", match.mismatched),
        ("unknown", match.unexpected),
    ):
        if names:
            examples = ", ".join(name[:90] for name in names[:_SHOWN])
            found.append(f"{len(names)} are {label} ({examples}{', ...' if len(names) > _SHOWN else ''})")
    taken_off = f"with {match.prefix!r} taken off the names, " if match.prefix else ""
    what = f"the weights file {origin} does not fit {backbone.name}: {taken_off}{'; '.join(found)}"
    return InputError(what, _remedy(backbone, layout, file.tensors, match, keys))


def _remedy(
    backbone: Backbone,
    layout: WeightsLayout,
    state: Mapping[str, Tensor],
    match: KeyMatch,
    keys: Mapping[str, str] | None,
) -> str:
    """The nearest thing to do about weights that do not fit."""
    if (fitting := _fitting(state, keys)) is not None:
        name, fitting_layout = fitting
        if fitting_layout != layout:
            return f"It fits {name} with layout: {fitting_layout}; name these"
        return f"It fits {name}; name that backbone"
    shapes = Counter(tuple(value.shape) for value in state.values())
    needed = Counter(tuple(value.shape) for key, value in backbone.state_dict().items() if value.ndim)
    if needed <= shapes and not match.deeper:
        return (
            "The shapes are there under other names: give a key map from the beginnings of its names "
            f"({beginnings(state)}) to those of {backbone.name} "
            f"({beginnings(backbone.state_dict())})"
        )
    if match.share >= 0.5:
        return (
            f"Give the file that belongs, or set minimum_match to {int(100 * match.share) / 100:.2f} to let the rest "
            "start at random"
        )
    return f"Give a file of weights for {backbone.name}"


def _fitting(state: Mapping[str, Tensor], keys: Mapping[str, str] | None) -> tuple[str, WeightsLayout] | None:
    """Backbone and layout that a file fits completely."""
    for layout, names, build in (
        ("torchvision", BACKBONES, build_backbone),
        (MEDICALNET, MEDICALNET_BACKBONES, medicalnet_backbone),
    ):
        for name in names:
            with torch.device("meta"):
                backbone = build(name)
            own = backbone.state_dict()
            match = match_keys(state, own, first_convolution(backbone), keys)
            if layout == MEDICALNET:
                match = match.with_tensors(fill_shortcuts(state, own))
            if match.is_complete:
                return name, layout
    return None
