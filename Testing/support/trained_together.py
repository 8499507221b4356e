"""Trainings that one process and several must end alike; run by torchrun it trains them with several.

``torchrun --nproc_per_node 2 trained_together.py OUT`` leaves ``OUT/<case>/weights.pt`` and a file for every
process that met a cancel.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from XTLLib.errors import Cancelled
from XTLLib.networks.backbones import build_backbone
from XTLLib.networks.build import convert_network
from XTLLib.networks.spec import NetworkSpec
from XTLLib.progress import Progress
from XTLLib.training.distributed import ALONE, Processes, joined
from XTLLib.training.engine import Engine, Fit
from XTLLib.training.losses import segmentation_loss
from XTLLib.training.seeds import generator
from XTLLib.training.task import Validation
from XTLLib.transfer.training import WindowTraining

# Plain gradient descent: Adam's first steps follow the sign of a gradient, which rounding decides near zero.
_COMMON = {"optimiser": "sgd", "learning_rate": 0.05, "steps": 4, "validations": 2, "encoder_rate": 1.0}
CANCELLED = "cancelled"
_BATCH, _SHAPE = 5, (8, 16, 16)


class SpotTask:
    """Noise with a bright spot, to be segmented, in batches that two processes cannot halve."""

    metric, validations, can_validate, steps = "minus loss", 2, True, _COMMON["steps"]

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        rng = generator(3, "spots", number)
        images = torch.from_numpy(rng.standard_normal((_BATCH, 2, *_SHAPE)))
        spots = torch.zeros(_BATCH, 1, *_SHAPE)
        for spot in spots:
            corner = [int(rng.integers(0, n - n // 4)) for n in _SHAPE]
            spot[(0, *(slice(c, c + n // 4) for c, n in zip(corner, _SHAPE)))] = 1
        return images + 2 * spots, spots

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return segmentation_loss(logits, targets)

    @torch.no_grad()
    def validate(self, network: nn.Module) -> Validation:
        images, spots = self.batch(10**6)
        loss = float(segmentation_loss(network(images).float(), spots))
        return Validation(-loss, loss)


CASES = {
    "plain": {},
    "all that changes the weights": {
        "batchnorm": "frozen",
        "accumulate": 2,
        "ema": 0.9,
        "unfreeze": (0.25, 0.5),
        "l2sp": 0.1,
        "keep": "loss",
    },
    CANCELLED: {},
}


def train(
    case: str, folder: Path, *, processes: Processes = ALONE, resume: bool = False, progress: Progress | None = None
) -> tuple[Fit, dict[str, Tensor]]:
    """Train a case -> fit and weights."""
    network = new_network()
    folder.mkdir(parents=True, exist_ok=True)
    engine = Engine(
        network,
        SpotTask(),
        WindowTraining(**{**_COMMON, **CASES[case]}),
        seed=5,
        folder=folder,
        key=case,
        device=torch.device("cpu"),
        progress=progress or Progress(),
        title=case,
        processes=processes,
    )
    return engine.run(resume), network.state_dict()


def new_network() -> nn.Module:
    """The network with which every case begins.

    In float32 a deep network answers the rounding of batch statistics with gradients that differ in the third
    digit, whoever computes them; float64 tells that from an error.
    """
    spec = NetworkSpec("segmentation", "squeezenet1_0", 2, "inflate", (1.0, 1.0, 1.0), _SHAPE)
    torch.manual_seed(0)
    return convert_network(spec, build_backbone("squeezenet1_0"))[0].double()


def _main(out: Path) -> None:
    torch.set_num_threads(1)
    with joined("cpu") as (_, processes):
        for case in CASES:
            reports = iter(range(10**6))
            asks = case == CANCELLED and processes.is_first
            progress = Progress(None, lambda reports=reports: next(reports) >= 1) if asks else Progress()
            try:
                weights = train(case, out / case, processes=processes, progress=progress)[1]
            except Cancelled:
                (out / f"cancelled-{processes.rank}").touch()
                continue
            if processes.is_first:
                torch.save(weights, out / case / "weights.pt")


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
