"""The first stage of a chain: a backbone and the weights it begins with."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ..errors import InputError
from ..progress import Progress
from .backbones import Backbone, build_backbone
from .key_map import COUNTER
from .medicalnet import MEDICALNET, medicalnet_backbone
from .weights import IMAGENET, WeightsLayout, WeightsReport, load_weights

RANDOM = "random"
FROZEN_RANDOM = "frozen-random"


def initialise_backbone(
    name: str,
    *,
    weights: str,
    sha256: str | None = None,
    layout: WeightsLayout = "torchvision",
    keys: Mapping[str, str] | None = None,
    minimum_match: float = 1.0,
    licence: str | None = None,
    seed: int,
    allow_download: bool = False,
    progress: Progress | None = None,
) -> tuple[Backbone, WeightsReport]:
    """A backbone with the weights that a chain begins with; float32, on the CPU.

    Parameters
    ----------
    name : one of ``BACKBONES``.
    weights : a file, an https address or "imagenet" (see ``load_weights``); "random" (He et al. 2015); or
        "frozen-random": random weights that no stage is to train, the control of Karimi et al. 2021
        (PMC8164174). Training alone can give its BatchNorm the statistics of real images.
    sha256, keys, minimum_match, licence, allow_download, progress : as in ``load_weights``.
    layout : "torchvision" gives a 2D backbone for RGB; "medicalnet" a volumetric one for one channel.
    seed : of what is random: all weights, or those that the file lacks. Torch's global random state is left
        as it was.

    Raises
    ------
    InputError : an unknown backbone or layout, a ``minimum_match`` that is no share, or as in ``load_weights``.
    MissingPackageError : a .safetensors file, and the package safetensors is not installed.
    """
    if layout not in ("torchvision", MEDICALNET):
        raise InputError(f"the weights layout {layout!r}", f"Choose torchvision or {MEDICALNET}")
    if not 0 < minimum_match <= 1:
        raise InputError(f"minimum_match {minimum_match}", "Give a share above 0, at most 1")
    if weights in (RANDOM, FROZEN_RANDOM, IMAGENET) and (keys or layout != "torchvision"):
        raise InputError(f"weights {weights} come without a file of their own", "Take out keys and layout")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = medicalnet_backbone(name) if layout == MEDICALNET else build_backbone(name)
    if weights in (RANDOM, FROZEN_RANDOM):
        return backbone, _random_report(backbone, weights)
    report = load_weights(
        backbone,
        weights,
        sha256,
        allow_download,
        layout=layout,
        keys=keys,
        minimum_match=minimum_match,
        licence=licence,
        progress=progress,
    )
    return backbone, report


def _random_report(backbone: Backbone, weights: str) -> WeightsReport:
    needed = sum(not key.endswith(COUNTER) for key in backbone.state_dict())
    return WeightsReport(
        weights,
        None,
        matched=0,
        needed=needed,
        missing=(),
        mismatched=(),
        unexpected=(),
        licence="none: random numbers",
        folded_batchnorm=False,
        frozen=weights == FROZEN_RANDOM,
    )
