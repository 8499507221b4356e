"""A study of seconds: two arms on toy patches, one of which shares a mammogram stage between its runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from toys import write_toy_mammograms, write_toy_patches

CHAIN = {
    "name": "toy",
    "seed": 0,
    "backbone": "squeezenet1_0",
    "stages": [
        {"kind": "initialisation", "weights": "random"},
        {
            "kind": "intermediate",
            "task": "mammogram-classification",
            "datalist": "mammograms.json",
            "image_size": 64,
            "training": {"epochs": 1, "batch_size": 4, "validation": 0},
        },
        {
            "kind": "target",
            "task": "classification",
            "datalist": "patches.json",
            "channels": ["T2W", "ADC"],
            "training": {"epochs": 1, "batch_size": 4, "validation": 0},
        },
    ],
}
STUDY = {
    "name": "toy study",
    "datalist": "patches.json",
    "folds": 2,
    "seeds": [0, 1],
    "draws": 200,
    "arms": [{"name": "TL", "chain": "chain.yaml", "intermediate": False}, {"name": "XTL", "chain": "chain.yaml"}],
    "baselines": ["adc-contrast"],
    "comparisons": [["XTL", "TL"]],
}
RUNS = 10  # two arms x two seeds x two folds, and two of the baseline, which draws nothing


def write_toy_study(folder: Path, epochs: int = 1, **changes: Any) -> Path:
    """Data, chain and study file in ``folder`` -> path of the study file, with ``changes`` of its keys."""
    if not (folder / "patches.json").exists():
        write_toy_patches(folder)
        write_toy_mammograms(folder)
    *before, target = CHAIN["stages"]
    target = {**target, "training": {**target["training"], "epochs": epochs}}
    (folder / "chain.yaml").write_text(yaml.safe_dump({**CHAIN, "stages": [*before, target]}))
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**STUDY, **changes}))
    return path
