"""The one training loop: steps, schedule, validation, best weights, checkpoints, progress, cancel."""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..errors import Cancelled, XTLError
from ..files import atomic_file
from ..networks.layout import to_fast_layout
from ..progress import Progress
from .checkpoint import Checkpoint
from .optimiser import make_optimiser
from .seeds import derive
from .statistics import refresh_statistics
from .task import Task

if TYPE_CHECKING:
    from ..transfer.training import Training

_GRADIENT_NORM = 1.0
_ROW_EVERY = 10  # steps; reading a loss makes a GPU wait, so it is not done at every step
_CHECKPOINT_EVERY_S = 60.0
_BATCHES_FOR_STATISTICS = 8


@dataclass(frozen=True)
class Fit:
    """How a training went.

    Attributes
    ----------
    steps, seconds : spent.
    first_loss, last_loss : mean over the first and the last tenth of the log.
    best_metric, best_step : of the weights kept; None where the last weights were kept.
    """

    steps: int
    seconds: float
    first_loss: float
    last_loss: float
    best_metric: float | None
    best_step: int | None


class Engine:
    """Trains one network on one task.

    Parameters
    ----------
    network : its weights become the best ones (the last ones without validation).
    task : data, loss and validation. training : rates. seed : of the stage.
    folder : gets ``checkpoint.pt`` and ``log.tsv``. key : identity of the stage.
    device : a torch device; on CUDA the forward pass runs in bfloat16. On CPU everything is float32:
        torch 2.13 computes wrong gradients for small bfloat16 3D convolutions there.
    progress, title : where to report, and under which name.
    """

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        training: Training,
        *,
        seed: int,
        folder: Path,
        key: str,
        device: torch.device,
        progress: Progress,
        title: str,
    ) -> None:
        self._network = to_fast_layout(network.to(device))
        self._task, self._seed, self._folder, self._key = task, seed, folder, key
        self._device, self._progress, self._title = device, progress, title
        # After the move: the optimiser has to hold the tensors that are trained.
        self._optimiser, self._schedule = make_optimiser(self._network, training, task.steps)
        self._trained = [p for group in self._optimiser.param_groups for p in group["params"]]
        count = task.validations
        self._validate_at = {round(task.steps * (n + 1) / count) for n in range(count)} if task.can_validate else set()
        self._losses: list[torch.Tensor] = []
        self._rate = 0.0
        self._state = Checkpoint(key, 0, {}, {}, {})

    def run(self, resume: bool) -> Fit:
        """Train to the end of the budget, from the checkpoint in the folder when ``resume``.

        Raises
        ------
        Cancelled : at the end of a step; the folder then holds a checkpoint of that step.
        XTLError : the loss is no longer a number.
        """
        if resume:
            self._restore()
        saved = time.monotonic()
        began = saved - self._state.seconds
        total, state = self._task.steps, self._state
        gpus = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(gpus), ThreadPoolExecutor(1, "xtl-batches") as ahead:
            _leave_cores_to_training(ahead)
            coming = ahead.submit(self._task.batch, state.step) if state.step < total else None
            while state.step < total:
                batch = coming.result()
                if state.step + 1 < total:
                    coming = ahead.submit(self._task.batch, state.step + 1)
                self._step(*batch)
                self._keep_books()
                state.seconds = time.monotonic() - began
                try:
                    self._report()
                except Cancelled:
                    self._save()
                    raise
                if time.monotonic() - saved > _CHECKPOINT_EVERY_S:
                    self._save()
                    saved = time.monotonic()
            self._save()
            if state.best_model is None:
                self._refresh_statistics()
            else:
                self._network.load_state_dict(state.best_model)
        self._network.eval()
        tenth = max(1, len(state.rows) // 10)
        losses = [row[1] for row in state.rows]
        return Fit(
            total,
            state.seconds,
            sum(losses[:tenth]) / tenth,
            sum(losses[-tenth:]) / tenth,
            state.best_metric,
            state.best_step,
        )

    def _step(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        self._network.train()
        torch.manual_seed(derive(self._seed, "step", self._state.step))  # dropout
        inputs = to_fast_layout(inputs.to(self._device, non_blocking=True))
        targets = targets.to(self._device, non_blocking=True)
        with self._autocast():
            logits = self._network(inputs)
        loss = self._task.loss(logits.float(), targets)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._trained, _GRADIENT_NORM)
        self._optimiser.step()
        self._rate = self._schedule.get_last_lr()[-1]
        self._schedule.step()
        self._losses.append(loss.detach())
        self._state.step += 1

    def _keep_books(self) -> None:
        """Log, validate and keep the best weights where it is time."""
        state = self._state
        validates = state.step in self._validate_at
        if not (validates or state.step % _ROW_EVERY == 0 or state.step in (1, self._task.steps)):
            return
        self._read_losses()
        loss, state.pending = sum(state.pending) / len(state.pending), []
        metric = self._validate() if validates else None
        state.rows.append([state.step, loss, self._rate, metric])
        self._write_log()

    def _validate(self) -> float:
        state = self._state
        self._refresh_statistics()
        self._network.eval()
        metric = self._task.validate(self._network).metric
        # Of equal figures the later one: it has seen more, at a smaller rate.
        if state.best_metric is None or metric >= state.best_metric:
            state.best_metric, state.best_step = metric, state.step
            state.best_model = {name: value.detach().clone() for name, value in self._network.state_dict().items()}
        return metric

    def _refresh_statistics(self) -> None:
        first = self._state.step
        torch.manual_seed(derive(self._seed, "statistics", first))  # dropout
        batches = (self._task.batch(first + n)[0] for n in range(_BATCHES_FOR_STATISTICS))
        with self._autocast():
            refresh_statistics(self._network, (to_fast_layout(batch.to(self._device)) for batch in batches))

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda")

    def _read_losses(self) -> None:
        if not self._losses:
            return
        values = torch.stack(self._losses).tolist()
        if not all(math.isfinite(value) for value in values):
            raise XTLError(
                f"{self._title}: the loss is no longer a number after {self._state.step} steps",
                "Lower learning_rate in the chain, and look for images with extreme values",
            )
        self._state.pending += values
        self._losses = []

    def _report(self) -> None:
        state, figures = self._state, {}
        if state.rows:
            figures["loss"] = state.rows[-1][1]
        if state.best_metric is not None:
            figures[self._task.metric] = state.best_metric
        self._progress.report(self._title, state.step / self._task.steps, **figures)

    def _save(self) -> None:
        self._read_losses()
        state = self._state
        state.model = self._network.state_dict()
        state.optimiser = self._optimiser.state_dict()
        state.schedule = self._schedule.state_dict()
        state.save(self._folder / "checkpoint.pt")

    def _restore(self) -> None:
        state = Checkpoint.load(self._folder / "checkpoint.pt", self._key)
        if state is None:
            return
        self._network.load_state_dict(state.model)
        self._optimiser.load_state_dict(state.optimiser)
        self._schedule.load_state_dict(state.schedule)
        self._state = state
        self._write_log()  # it may be ahead of the checkpoint

    def _write_log(self) -> None:
        with atomic_file(self._folder / "log.tsv") as draft, open(draft, "w", encoding="utf-8") as stream:
            stream.write(f"step\tloss\tlearning_rate\t{self._task.metric}\n")
            for row in self._state.rows:
                stream.write("\t".join("" if value is None else f"{value:.8g}" for value in row) + "\n")


def _leave_cores_to_training(ahead: ThreadPoolExecutor) -> None:
    """Let the thread that prepares batches compute on one core: two teams of threads would wait for each other."""
    threads = torch.get_num_threads()
    ahead.submit(torch.set_num_threads, 1).result()
    torch.set_num_threads(threads)  # the other thread's setting counted for this one too
