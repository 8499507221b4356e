"""A network and a task so small that every step of their training is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from XTLLib.progress import Progress
from XTLLib.training.engine import Engine
from XTLLib.training.seeds import generator, torch_seeded
from XTLLib.training.task import Validation
from XTLLib.transfer.training import WindowTraining

STEPS = 40


class ToyNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(4, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x).mean((2, 3)))


class ToyTask:
    """Images with or without a bright row; validation returns the metrics, or (metric, loss), it is given."""

    metric, validations = "validation AUC", 4

    def __init__(
        self, figures: Sequence[float | tuple[float, float]] = (), loss_scale: float = 1.0, steps: int = STEPS
    ) -> None:
        self.figures, self.can_validate = list(figures), bool(figures)
        self.steps, self._scale = steps, loss_scale
        self.seen: list[Tensor] = []

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        rng = generator(0, "toy", number)
        images = torch.from_numpy(rng.standard_normal((8, 1, 6, 6)).astype("float32"))
        images[::2, :, 2] += 6
        return images, torch.tensor([[1.0], [0.0]] * 4)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self._scale * nn.functional.binary_cross_entropy_with_logits(logits, targets)

    def validate(self, network: nn.Module) -> Validation:
        assert not network.training
        self.seen.append(network.head[1].weight.detach().clone())
        figure = self.figures[len(self.seen) - 1]
        return Validation(*figure) if isinstance(figure, tuple) else Validation(figure, 1 - figure)


def toy_engine(
    folder: Path,
    task: ToyTask,
    progress: Progress | None = None,
    key: str = "toy",
    network: nn.Module | None = None,
    device: str = "cpu",
    **training: object,
) -> Engine:
    """An engine on a new toy network, always with the same weights."""
    folder.mkdir(exist_ok=True)
    if network is None:
        with torch_seeded(0, "toy"):
            network = ToyNetwork()
    settings = WindowTraining(**{"learning_rate": 0.05, "encoder_rate": 0.5, **training})
    return Engine(
        network,
        task,
        settings,
        seed=0,
        folder=folder,
        key=key,
        device=torch.device(device),
        progress=progress or Progress(),
        title="toy",
    )


def stop_after(reports: int) -> Progress:
    """Progress that is cancelled at a report."""
    count = iter(range(10**6))
    return Progress(None, lambda: next(count) >= reports)
