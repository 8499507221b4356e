"""Corrected cases of bright cubes, and settings under which an adaptation to them takes no time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from XTLLib.data.case import Case
from XTLLib.data.geometry import Grid
from XTLLib.data.prepare import Preparation
from XTLLib.data.volume import Volume
from XTLLib.progress import Progress
from XTLLib.training.adapt import AdaptationResult, adapt_bundle
from XTLLib.training.adapt_cases import CorrectedCase, prepare_corrected
from XTLLib.transfer.adaptation import Adaptation, AdaptationTraining

GRID = Grid((24, 24, 32), np.diag([-1.0, -1.0, 1.0, 1.0]))
PREPARATION = Preparation(("FLAIR", "T1"), "FLAIR")
# Corner and side (k, j, i) of cubes: two right of the middle (low i), three left of it.
LESIONS = ((4, 4, 4, 4), (14, 12, 6, 5), (4, 6, 22, 4), (12, 14, 24, 5), (16, 4, 21, 3))
QUICK = {"steps": 2, "batch_size": 2}


def case(lesions=LESIONS, patient: str = "p", seed: int = 0, contrast: float = 6.0) -> Case:
    """A head of noise with bright cubes."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(GRID.shape, bool)
    for k, j, i, side in lesions:
        mask[k : k + side, j : j + side, i : i + side] = True
    channels = {}
    for name, sign in (("FLAIR", 1.0), ("T1", -0.5)):
        array = (10 + rng.standard_normal(GRID.shape) + sign * contrast * mask).astype(np.float32)
        channels[name] = Volume(array, GRID, name)
    return Case(patient, channels, "FLAIR", Volume(mask, GRID, "corrected.nii"))


def settings(**values) -> Adaptation:
    """Two steps and no refit, but for what is given; ``training`` is a dict."""
    training = AdaptationTraining(**{**QUICK, **values.pop("training", {})})
    return Adaptation(**{"window": (16, 16, 16), "margin_mm": 6, "refit": False, "training": training, **values})


def adapt(bundle, cases, out, *, force=True, **values) -> AdaptationResult:
    """adapt_bundle on the CPU, quick by default."""
    return adapt_bundle(
        bundle, cases, out, device="cpu", settings=values.pop("settings", settings()), force=force, **values
    )


def prepared(*cases: Case) -> list[CorrectedCase]:
    """Cases on the working grid."""
    return prepare_corrected(cases, PREPARATION, Progress())


def require_nothing(folder: Path) -> None:
    """Neither the folder nor a draft of it is there."""
    assert not folder.exists()
    assert not list(folder.parent.glob(f".{folder.name}*")), "a draft was left behind"
