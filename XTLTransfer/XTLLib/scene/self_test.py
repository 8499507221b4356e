"""Small cases and untrained bundles, made on the spot, for the self tests of the modules.

The networks are real and their weights are random: results mean nothing, but every part of the way
from the scene to the scene is walked.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..bundle.write import write_bundle
from ..data.case import Case, Finding
from ..data.geometry import Grid
from ..data.patches import PatchSpec
from ..data.phantoms.brain import BrainPhantom
from ..data.phantoms.fields import box_grid
from ..data.prepare import Preparation
from ..data.volume import Volume
from ..networks.spec import NetworkSpec

BRAIN_CHANNELS = ("FLAIR", "T1", "T2")
PROSTATE_CHANNELS = ("T2W", "ADC", "HBV")
_BACKBONE = "squeezenet1_0"  # the quickest


def small_brain(channels: tuple[str, ...] = BRAIN_CHANNELS) -> Case:
    """A brain phantom of 4 mm voxels: FLAIR oblique and left-handed, the other channels on a grid of their own."""
    tilted = box_grid((1.0, -2.0, 3.0), (128.0, 160.0, 112.0), (4.0, 4.0, 4.0), "LAS", (11.0, 4.0, -6.0))
    straight = box_grid((0.0, 0.0, 0.0), (136.0, 168.0, 124.0), (4.0, 4.0, 5.0), "RAS")
    phantom, rng = BrainPhantom(3), np.random.default_rng(3)
    images = phantom.images(("FLAIR",), tilted, rng) | phantom.images(BRAIN_CHANNELS[1:], straight, rng)
    grids = {"FLAIR": tilted, "T1": straight, "T2": straight}
    return Case("phantom-003", {n: Volume(images[n], grids[n], n) for n in channels}, "FLAIR")


def small_prostate() -> Case:
    """Noise on two grids with two findings: enough for a network that knows nothing."""
    fine = box_grid((0.0, 0.0, 0.0), (64.0, 64.0, 36.0), (1.0, 1.0, 3.0), "LPS", (15.0, 0.0, 0.0))
    coarse = box_grid((1.0, 2.0, 0.0), (88.0, 88.0, 42.0), (2.0, 2.0, 3.0), "RAS", (15.0, 0.0, 0.0))
    rng = np.random.default_rng(5)

    def noise(grid: Grid) -> np.ndarray:
        return rng.uniform(100, 1000, grid.shape).astype(np.float32)

    channels = {name: Volume(noise(grid), grid, name) for name, grid in zip(PROSTATE_CHANNELS, (fine, coarse, coarse))}
    findings = (Finding("1", (8.0, -6.0, 3.0), "PZ"), Finding("2", (-7.0, 9.0, -4.0), "TZ"))
    return Case("phantom-005", channels, "T2W", findings=findings)


def write_segmentation_bundle(folder: Path, channels: tuple[str, ...] = BRAIN_CHANNELS) -> Path:
    """An untrained bundle whose threshold makes lesions of about 5 % of ``small_brain``'s head."""
    import torch

    spec = NetworkSpec(
        "segmentation", _BACKBONE, len(channels), "inflate", spacing_mm=(4.0, 4.0, 4.0), patch_shape=(32, 32, 32)
    )
    preparation, network = Preparation(channels, "FLAIR"), _untrained(spec)
    prepared = preparation(small_brain(channels))
    with torch.inference_mode():
        logits = network(torch.from_numpy(prepared.image)[None])[0, 0]
    threshold = float(np.quantile(torch.sigmoid(logits).numpy()[prepared.foreground], 0.95))
    return write_bundle(
        folder,
        network,
        spec,
        "segmentation",
        preparation=preparation,
        postprocessing={"threshold": threshold, "minimum_volume_mm3": 128.0},
        name="untrained-ms",
    )


def write_classification_bundle(folder: Path) -> Path:
    """An untrained bundle for ``small_prostate``."""
    spec = NetworkSpec(
        "classification", _BACKBONE, 3, "inflate", spacing_mm=(1.0, 1.0, 3.0), patch_shape=(1, 32, 32), input_scale=3.0
    )
    patches = PatchSpec(PROSTATE_CHANNELS, (1, 32, 32), dict.fromkeys(PROSTATE_CHANNELS, (24.0, 24.0, 3.0)))
    return write_bundle(folder, _untrained(spec), spec, "classification", patches=patches, name="untrained-prostate")


def write_small_chain(folder: Path) -> Path:
    """A chain that trains for a few steps on generated brains; returns the chain file."""
    from ..data.phantoms.write import Parts, write_brains

    write_brains(folder / "brains", Parts(training=2), seed=1)
    chain = folder / "chain.yaml"
    chain.write_text(
        f"""name: small
backbone: {_BACKBONE}
stages:
  - kind: initialisation
    weights: random
  - kind: target
    task: segmentation
    datalist: brains/datalist.json
    channels: [FLAIR]
    spacing_mm: [4, 4, 4]
    window: [32, 32, 32]
    training: {{steps: 4, batch_size: 2, augmentation: false}}
""",
        encoding="utf-8",
    )
    return chain


def _untrained(spec: NetworkSpec):
    import torch

    from ..networks.build import build_network

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_network(spec).eval()
