"""Untrained bundles whose records are as those of trained ones."""

from __future__ import annotations

from pathlib import Path

import torch
from XTLLib.bundle.write import write_bundle
from XTLLib.data.patches import PatchSpec
from XTLLib.data.prepare import Preparation
from XTLLib.networks.build import build_network
from XTLLib.networks.spec import NetworkSpec
from XTLLib.transfer.figure import Figure
from XTLLib.transfer.provenance import ChainRecord, DatalistRecord, StageRecord, hash_of_weights

CHANNELS = ("FLAIR", "T1")
SEGMENTATION = NetworkSpec("segmentation", "squeezenet1_0", 2, "inflate", patch_shape=(32, 32, 32))
CLASSIFICATION = NetworkSpec("classification", "squeezenet1_0", 2, "inflate", patch_shape=(1, 32, 32), input_scale=2.0)
PATCHES = PatchSpec(("T2W", "ADC"), (1, 32, 32), {"T2W": (16, 16, 3), "ADC": (64, 64, 3)}, "rank", "T2W")


def write_toy_bundle(out: Path, spec: NetworkSpec = SEGMENTATION, name: str = "toy", seed: int = 3) -> Path:
    """A bundle of a random network with a chain of three stages whose hashes are right."""
    torch.manual_seed(seed)
    network = build_network(spec)
    parts = {"preparation": Preparation(CHANNELS, "FLAIR")} if spec.kind == "segmentation" else {"patches": PATCHES}
    record = chain_record(hash_of_weights(network.state_dict()), spec.kind)
    return write_bundle(out, network, spec, spec.kind, **parts, provenance=record.to_dict(), name=name)


def chain_record(weights_out: str, task: str) -> ChainRecord:
    """ImageNet, then films of 132 patients, then the target on 2."""
    films = DatalistRecord(
        "mias",
        "MIAS",
        "research only",
        264,
        132,
        200,
        64,
        "c" * 64,
        "mammogram-classification",
        {"0": "no", "1": "cancer"},
    )
    scans = DatalistRecord("open-ms", "Open MS", "CC BY 4.0", 2, 2, 1, 1, "d" * 64, task)
    stages = (
        StageRecord("initialisation", None, "k0", {"weights": "imagenet"}, None, "w0", source={"licence": "BSD"}),
        StageRecord(
            "intermediate",
            "mammogram-classification",
            "k1",
            {},
            "w0",
            "w1",
            films,
            metrics={"validation AUC": Figure(0.71, 0.62, 0.79, resampled="patient", count=32)},
        ),
        StageRecord("target", task, "k2", {}, "w1", weights_out, scans, metrics={"validation Dice": 0.64}),
    )
    return ChainRecord("xtl", 1, "squeezenet1_0", stages)
