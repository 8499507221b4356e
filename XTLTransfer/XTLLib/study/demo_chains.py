"""What ``xtl demo`` trains: phantom cohorts of a chosen size, and the four chains as files a user can read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.phantoms.write import Parts, write_brains, write_mammograms, write_prostates
from ..files import atomic_file
from ..progress import Progress

ARMS = ("TL", "XTL")
TARGETS = ("ms", "prostate")
BACKBONE = "mobilenet_v2"
_RANDOM = "random"
_PATCH_MM = (24.0, 24.0, 3.0)  # of every channel


@dataclass(frozen=True)
class DemoSize:
    """How much is generated and trained.

    Attributes
    ----------
    mammograms, brains, prostates : patients by part.
    image_size : longer side of a breast, pixels. region : side of what the network sees of it, pixels.
    mammogram_epochs : passes over the films.
    window : side of a segmentation window, voxels of 2 mm. segmentation_steps : of batches of 2 windows.
    prostate_epochs : passes over the findings.
    """

    mammograms: Parts
    brains: Parts
    prostates: Parts
    image_size: int
    region: int
    mammogram_epochs: int
    window: int
    segmentation_steps: int
    prostate_epochs: int


FULL = DemoSize(
    mammograms=Parts(120, 20),
    brains=Parts(21, 0, 3),
    prostates=Parts(90, 0, 30),
    image_size=224,
    region=96,
    mammogram_epochs=10,
    window=48,
    segmentation_steps=150,
    prostate_epochs=12,
)
# Learns next to nothing; for tests of everything around the learning.
SMALL = DemoSize(
    mammograms=Parts(6, 2),
    brains=Parts(3, 0, 1),
    prostates=Parts(6, 0, 8),
    image_size=128,
    region=64,
    mammogram_epochs=1,
    window=32,
    segmentation_steps=4,
    prostate_epochs=1,
)


def write_cohorts(folder: Path, size: DemoSize, seed: int, progress: Progress) -> None:
    """Write ``folder/{mammograms,brain,prostate}`` with images and ``datalist.json``."""
    write_mammograms(folder / "mammograms", size.mammograms, seed, progress.part(0.0, 0.35))
    write_brains(folder / "brain", size.brains, seed, progress.part(0.35, 0.6))
    write_prostates(folder / "prostate", size.prostates, seed, progress.part(0.6, 1.0))


def write_chains(folder: Path, size: DemoSize, seed: int, weights: Path | None) -> dict[tuple[str, str], Path]:
    """Write ``folder/{tl,xtl}-{ms,prostate}.yaml``, which name the datalists of ``../data``.

    The two arms of a target differ in one thing: XTL has the mammogram stage.

    Parameters
    ----------
    weights : ImageNet state dict; None starts both arms at random.

    Returns
    -------
    (arm, target) -> path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for target in TARGETS:
        for arm in ARMS:
            stages = [_initialisation(weights), _target(target, size, weights)]
            if arm == "XTL":
                stages.insert(1, _mammograms(size, weights))
            name = f"{arm.lower()}-{target}"
            paths[arm, target] = folder / f"{name}.yaml"
            _write_yaml(paths[arm, target], {"name": name, "seed": seed, "backbone": BACKBONE, "stages": stages})
    return paths


def _initialisation(weights: Path | None) -> dict[str, Any]:
    return {"kind": "initialisation", "weights": _RANDOM if weights is None else str(Path(weights).absolute())}


def _mammograms(size: DemoSize, weights: Path | None) -> dict[str, Any]:
    return {
        "kind": "intermediate",
        "task": "mammogram-classification",
        "datalist": "../data/mammograms/datalist.json",
        "image_size": size.image_size,
        "region": size.region,
        "training": _training(weights, epochs=size.mammogram_epochs, batch_size=16),
    }


def _target(target: str, size: DemoSize, weights: Path | None) -> dict[str, Any]:
    """Without validation: a checkpoint chosen on one brain or a handful of findings is chosen by chance."""
    if target == "ms":
        return {
            "kind": "target",
            "task": "segmentation",
            "datalist": "../data/brain/datalist.json",
            "channels": ["FLAIR", "T1", "T2"],
            "spacing_mm": [2.0, 2.0, 2.0],
            "window": [size.window] * 3,
            "threshold": 0.5,
            "minimum_volume_mm3": 20.0,
            "training": _training(
                weights, steps=size.segmentation_steps, batch_size=2, learning_rate=6e-3, validation=0.0
            ),
        }
    channels = ["T2W", "ADC", "HBV"]
    return {
        "kind": "target",
        "task": "classification",
        "datalist": "../data/prostate/datalist.json",
        "channels": channels,
        "patch": {
            "shape": [1, 24, 24],
            "size_mm": {name: list(_PATCH_MM) for name in channels},
            "intensity": "robust",
        },
        "training": _training(weights, epochs=size.prostate_epochs, batch_size=16, validation=0.0),
    }


def _training(weights: Path | None, **budget: Any) -> dict[str, Any]:
    """Random weights have all to learn, learned ones have something to lose. BatchNorm alike in both arms."""
    encoder_rate = 1.0 if weights is None else 0.3
    return {"learning_rate": 3e-3, "encoder_rate": encoder_rate, "batchnorm": "train", **budget}


def _write_yaml(path: Path, values: Mapping[str, Any]) -> None:
    import yaml

    with atomic_file(path) as draft:
        text = yaml.safe_dump(dict(values), sort_keys=False, default_flow_style=None, width=110)
        draft.write_text(text, encoding="utf-8")
