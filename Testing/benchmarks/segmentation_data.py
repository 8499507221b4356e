"""A head to segment and a network that can, made once and kept: so that Dice beside a time means something."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from XTLLib.bundle.write import write_bundle
from XTLLib.data.case import Case
from XTLLib.data.phantoms.brain import CHANNELS, BrainPhantom
from XTLLib.data.phantoms.fields import box_grid
from XTLLib.data.prepare import Preparation, PreparedCase
from XTLLib.data.volume import Volume
from XTLLib.files import atomic_file
from XTLLib.networks.build import build_network
from XTLLib.networks.layout import to_fast_layout
from XTLLib.networks.spec import NetworkSpec
from XTLLib.training.losses import segmentation_loss

KEPT = Path(__file__).resolve().parents[2] / "build" / "bench"
SPEC = NetworkSpec("segmentation", "resnet18", 3, "inflate", patch_shape=(96, 96, 96))
PREPARATION = Preparation(CHANNELS, "FLAIR")
HEAD = (181, 217, 181)  # (K, J, I), 1 mm: the grid of the MNI templates
SEEN_SEED, TRAINING_SEEDS = 5, tuple(range(21, 31))
_CENTRE_RAS = (0.0, -2.0, -8.0)
_STEPS, _BATCH, _SIDE, _RATE = 320, 1, 96, 1e-3


def head_case(seed: int = SEEN_SEED, shape: tuple[int, int, int] = HEAD, spacing_mm: float = 1.0) -> Case:
    """A phantom's FLAIR, T1 and T2 with the true mask, 0 outside of the head as after taking the background out.

    ``shape`` (K, J, I). The head is 136 x 164 x 152 mm, somewhat smaller than an adult's.
    """
    extent = tuple(n * spacing_mm for n in shape[::-1])
    grid = box_grid(np.array(_CENTRE_RAS), extent, (spacing_mm,) * 3)
    phantom = BrainPhantom(seed)
    images = phantom.images(CHANNELS, grid, np.random.default_rng([11, seed]))
    head = _head(images["T1"])
    channels = {name: Volume(images[name] * head, grid, name) for name in CHANNELS}
    return Case(f"phantom {seed}", channels, "FLAIR", Volume(phantom.truth(grid), grid, "truth"))


@dataclass(frozen=True, eq=False)
class Head:
    """A prepared head: ``image`` float32 (C, D, H, W), ``foreground`` and ``truth`` bool (D, H, W)."""

    image: np.ndarray
    foreground: np.ndarray
    truth: np.ndarray


def prepared_head(shape: tuple[int, int, int] = HEAD, spacing_mm: float = 1.0) -> Head:
    """The prepared :func:`head_case`; kept, so that the memory of making it is not taken for that of using it."""
    file = KEPT / f"head-{'x'.join(map(str, shape))}.npz"
    if not file.is_file():
        case = head_case(shape=shape, spacing_mm=spacing_mm)
        prepared = PREPARATION(case)
        with atomic_file(file) as draft, open(draft, "wb") as stream:
            truth = prepared.mask_on_working_grid(case.mask)
            np.savez(stream, image=prepared.image, foreground=prepared.foreground, truth=truth)
    with np.load(file) as kept:
        return Head(**{name: kept[name] for name in ("image", "foreground", "truth")})


def enlarged(head: Head, shape: tuple[int, int, int]) -> Head:
    """The head stretched to a shape, by the nearest voxel."""
    k, j, i = (np.arange(n) * old // n for n, old in zip(shape, head.truth.shape))
    where = (k[:, None, None], j[:, None], i)
    return Head(head.image[(slice(None), *where)], head.foreground[where], head.truth[where])


def trained_network(steps: int = _STEPS) -> nn.Module:
    """The network of ``SPEC``, trained on ten phantoms for some minutes; the weights are kept. 0 steps: untrained."""
    torch.manual_seed(0)
    network = to_fast_layout(build_network(SPEC)).eval()
    if steps == 0:
        return network
    file = KEPT / f"resnet18-inflate-{_SIDE}-{steps}.pt"
    if file.is_file():
        network.load_state_dict(torch.load(file, weights_only=True))
        return network
    print(f"training a network once, kept in {file} ...", file=sys.stderr)
    _train(network, [(case, PREPARATION(case)) for case in map(head_case, TRAINING_SEEDS)], steps)
    with atomic_file(file) as draft:
        torch.save(network.state_dict(), draft)
    return network


def trained_bundle(steps: int = _STEPS) -> Path:
    """The folder of a bundle with :func:`trained_network`."""
    folder = KEPT / f"bundle-{steps}"
    if not folder.is_dir():
        provenance = {"format": "xtl", "note": "trained on phantoms, for benchmarks only"}
        write_bundle(folder, trained_network(steps), SPEC, "segmentation", PREPARATION, provenance=provenance)
    return folder


def dice(probability: np.ndarray, truth: np.ndarray, threshold: float = 0.5) -> float:
    """Overlap of the voxels from ``threshold`` on with a mask."""
    found = probability >= threshold
    return float(2 * np.count_nonzero(found & truth) / max(1, np.count_nonzero(found) + np.count_nonzero(truth)))


def _head(t1: np.ndarray) -> np.ndarray:
    """Head against background, from a T1 image on which the scalp is a bright shell: bool (K, J, I)."""
    from scipy.ndimage import binary_fill_holes, uniform_filter

    smooth = uniform_filter(t1.astype(np.float32), 3)
    return binary_fill_holes(smooth > 0.2 * np.percentile(smooth, 99))


def _train(network: nn.Module, heads: list[tuple[Case, PreparedCase]], steps: int) -> None:
    """Dice and cross-entropy on crops around lesions and anywhere."""
    rng = np.random.default_rng(0)
    lesions = [np.argwhere(case.mask.array) for case, _ in heads]
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=steps)
    network.train()
    for step in range(steps):
        if step == steps // 2:  # from here on it learns with the statistics that it will be used with
            for module in network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        images, masks = [], []
        for _ in range(_BATCH):
            which = rng.integers(len(heads))
            case, prepared = heads[which]
            limit = np.array(prepared.image.shape[1:]) - _SIDE
            centre = (
                lesions[which][rng.integers(len(lesions[which]))]
                if rng.random() < 0.7
                else rng.uniform(0.2, 0.8, 3) * HEAD
            )
            corner = np.clip(centre - rng.integers(_SIDE // 4, 3 * _SIDE // 4, 3), 0, limit).astype(int)
            box = tuple(slice(first, first + _SIDE) for first in corner)
            images.append(prepared.image[(slice(None), *box)])
            masks.append(case.mask.array[box][None])
        inputs = to_fast_layout(torch.from_numpy(np.stack(images)))
        targets = torch.from_numpy(np.stack(masks).astype(np.float32))
        loss = segmentation_loss(network(inputs), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 20 == 0:
            print(step, loss.item(), file=sys.stderr)
    network.eval()
