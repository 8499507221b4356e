"""The one training loop: steps, validation, best weights, checkpoints, progress, cancel."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..errors import Cancelled, XTLError
from ..files import remove_drafts
from ..networks.layout import to_fast_layout
from ..networks.peft import apply_peft, merge_peft
from ..progress import Progress
from .ahead import drawn_ahead, threads_beside
from .checkpoint import Checkpoint
from .distributed import ALONE, Processes, Replica
from .ema import MovingAverage
from .events import Events
from .logs import VALIDATION_LOSS, write_log
from .lr_finder import find_learning_rate
from .policy import make_policy
from .precision import Precision
from .seeds import derive
from .shared_batchnorm import shared_batchnorm
from .statistics import refresh_statistics
from .task import Task, Validation

if TYPE_CHECKING:
    from ..transfer.training import Training

CHECKPOINT_EVERY_S = 60.0
_LOG_EVERY_S = 2.0
_ROW_EVERY = 10  # steps; reading a loss makes a GPU wait, so it is not done at every step
_BATCHES_FOR_STATISTICS = 8


@dataclass(frozen=True)
class Fit:
    """How a training went.

    Attributes
    ----------
    steps, seconds : spent; fewer steps than the budget where it ended early.
    first_loss, last_loss : mean over the first and the last tenth of the log.
    best_metric, best_loss, best_step : validation of the weights kept; None where there was none.
    """

    steps: int
    seconds: float
    first_loss: float
    last_loss: float
    best_metric: float | None
    best_step: int | None
    best_loss: float | None = None


@dataclass(frozen=True)
class _Batch:
    """This process's inputs, and the targets of the whole batch."""

    inputs: Tensor
    targets: Tensor


class Engine:
    """Trains one network on one task.

    Parameters
    ----------
    network : its weights become those that ``training.keep`` says; what ``training.peft`` adds to it for the
        training is merged into them, but for adapters, which stay.
    task : data, loss and validation. training : how to train. seed : of the stage.
    folder : gets ``checkpoint.pt``, ``log.tsv`` and, where TensorBoard is installed, ``events``; also the range
        test of a rate that is to be found.
    key : identity of the stage.
    device : a torch device; see ``precision.Precision`` for what runs in which format there.
    progress, title : where to report, and under which name.
    checkpoint_every_s : seconds between checkpoints.
    processes : that train together; the first one writes, reports and validates.

    Raises
    ------
    InputError : the device does not compute in the precision asked for, or a policy does not fit the network.
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
        checkpoint_every_s: float = CHECKPOINT_EVERY_S,
        processes: Processes = ALONE,
    ) -> None:
        self._task, self._training, self._seed, self._folder, self._key = task, training, seed, folder, key
        self._device, self._progress, self._title = device, progress, title
        self._checkpoint_every_s, self._processes = checkpoint_every_s, processes
        self._precision = Precision(training.precision, device)
        if training.peft != "none":
            apply_peft(network, training.peft, training.peft_rank, derive(seed, "peft"))
        self._network = to_fast_layout(network.to(device))
        # After the move: optimiser and average have to hold the tensors that are trained.
        self._policy = make_policy(self._network, training, task.steps, seed=seed)
        self._average = None if training.ema is None else MovingAverage(self._network, training.ema)
        self._replica = Replica(self._network, processes)
        count = training.validations or task.validations
        self._validate_at = {round(task.steps * (n + 1) / count) for n in range(count)} if task.can_validate else set()
        self._losses: list[Tensor] = []
        self._state = Checkpoint(key)
        self._logged = -math.inf

    def run(self, resume: bool) -> Fit:
        """Train to the end of the budget, from the checkpoint in the folder when ``resume``.

        Raises
        ------
        Cancelled : at the end of a step; the folder then holds a checkpoint of that step.
        InputError : the checkpoint is of another stage, or a batch has fewer examples than there are processes.
        XTLError : the loss is no longer a number, or a file cannot be written.
        """
        if self._processes.is_first:
            remove_drafts(self._folder)
        if resume:
            self._restore()
        if self._policy.wants_rate:
            self._policy.take_rate(self._processes.from_first(self._found_rate))
        state, each = self._state, self._training.accumulate
        gpus = [self._device] if self._device.type == "cuda" else []
        numbers = range(state.step * each, self._task.steps * each)
        with (
            torch.random.fork_rng(gpus),
            shared_batchnorm(self._network, self._processes),
            closing(self._open_events()) as events,
            drawn_ahead(self._draw, numbers, threads_beside(self._device)) as batches,
        ):
            self._train(batches, events)
            self._settle()
        tenth = max(1, len(state.rows) // 10)
        losses = [row[1] for row in state.rows]
        return Fit(
            state.step,
            state.seconds,
            sum(losses[:tenth]) / tenth,
            sum(losses[-tenth:]) / tenth,
            state.best_metric,
            state.best_step,
            state.best_loss,
        )

    def _train(self, batches: Iterator[_Batch], events: Events) -> None:
        state, saved = self._state, time.monotonic()
        began = saved - state.seconds
        while state.step < self._task.steps and not self._ends_early():
            self._step(batches)
            self._keep_books(events)
            state.seconds = time.monotonic() - began
            if self._processes.any(self._is_cancelled()):
                self._save()
                raise Cancelled(self._title)
            if time.monotonic() - saved > self._checkpoint_every_s:
                self._save()
                saved = time.monotonic()
        self._save()

    def _open_events(self) -> Events:
        return Events(self._folder / "events" if self._processes.is_first else None, self._state.step)

    def _draw(self, number: int) -> _Batch:
        """A batch of the task, ready for the network."""
        inputs, targets = self._task.batch(number)
        inputs = to_fast_layout(self._processes.share(inputs))
        if self._device.type == "cuda":  # from pinned memory it is copied while the GPU computes
            inputs, targets = inputs.pin_memory(), targets.pin_memory()
        return _Batch(inputs, targets)

    def _found_rate(self) -> float:
        return find_learning_rate(self._network, self._training, self._loss_of, seed=self._seed, folder=self._folder)

    def _loss_of(self, network: nn.Module, number: int) -> Tensor:
        """The loss of a network on a whole batch, for the range test."""
        inputs, targets = self._task.batch(number)
        with self._precision.autocast():
            logits = network(to_fast_layout(inputs).to(self._device))
        return self._task.loss(logits.float(), targets.to(self._device))

    def _step(self, batches: Iterator[_Batch]) -> None:
        """One step of the optimiser, over ``training.accumulate`` batches."""
        state, policy, each = self._state, self._policy, self._training.accumulate
        policy.before_step(state.step)
        self._network.train()
        self._seed_dropout("step")
        policy.optimiser.zero_grad(set_to_none=True)
        losses = []
        for place in range(each):
            batch = next(batches)
            inputs = batch.inputs.to(self._device, non_blocking=True)
            targets = batch.targets.to(self._device, non_blocking=True)
            is_last = place == each - 1
            with self._replica.accumulating(is_last):
                with self._precision.autocast():
                    logits = self._replica(inputs)
                loss = self._task.loss(self._processes.whole(logits.float(), len(targets)), targets) / each
                losses.append(loss.detach())
                total = loss * self._replica.loss_factor
                penalty = policy.penalty() if is_last else None
                self._precision.backward(total if penalty is None else total + penalty)
        if self._training.clip_norm is not None:
            self._precision.clip(policy.optimiser, policy.trained, self._training.clip_norm)
        self._precision.step(policy.optimiser)
        policy.after_step()
        state.step += 1
        self._losses.append(sum(losses))
        if self._average is not None:
            self._average.update(state.step)

    def _keep_books(self, events: Events) -> None:
        """Log, validate and keep the best weights where it is time."""
        state = self._state
        validates = state.step in self._validate_at
        if not (validates or state.step % _ROW_EVERY == 0 or state.step in (1, self._task.steps)):
            return
        rate = self._policy.rate
        self._read_losses()
        loss, state.pending = sum(state.pending) / len(state.pending), []
        validation = self._validate() if validates else None
        figures = (None, None) if validation is None else (validation.metric, validation.loss)
        state.rows.append([state.step, loss, rate, *figures])
        names = ("loss", "learning_rate", self._task.metric, VALIDATION_LOSS)
        events.write(state.step, dict(zip(names, state.rows[-1][1:])))
        if validates or time.monotonic() - self._logged > _LOG_EVERY_S:
            self._write_log()

    def _validate(self) -> Validation:
        """Look at the validation patients; keep these weights where they are the best so far."""
        state, keep = self._state, self._training.keep
        with nullcontext() if self._average is None else self._average.in_place():
            self._refresh_statistics()
            self._network.eval()
            validation = self._processes.from_first(lambda: self._task.validate(self._network))
            figure = -validation.loss if keep == "loss" else validation.metric
            figure = -math.inf if math.isnan(figure) else figure
            # Of equal figures the later one: it has seen more, at a smaller rate.
            if keep == "last" or state.record is None or figure >= state.record:
                state.best_metric, state.best_loss, state.best_step = validation.metric, validation.loss, state.step
                state.best_model = {name: value.detach().clone() for name, value in self._network.state_dict().items()}
        state.idle = 0 if state.record is None or figure > state.record else state.idle + 1
        state.record = figure if state.record is None else max(figure, state.record)
        self._policy.after_validation(validation.metric, validation.loss)
        return validation

    def _ends_early(self) -> bool:
        patience = self._training.early_stopping
        return self._policy.finished or (patience is not None and self._state.idle >= patience)

    def _settle(self) -> None:
        """Give the network the weights that are kept."""
        if self._state.best_model is not None:
            self._network.load_state_dict(self._state.best_model)
        else:
            if self._average is not None:
                self._network.load_state_dict(self._average.state_dict(), strict=False)
            self._refresh_statistics()
        if self._training.peft != "none":
            merge_peft(self._network)
        self._network.eval()

    def _refresh_statistics(self) -> None:
        first = self._state.step * self._training.accumulate
        self._seed_dropout("statistics")
        batches = (self._draw(first + n).inputs.to(self._device) for n in range(_BATCHES_FOR_STATISTICS))
        with self._precision.autocast():
            refresh_statistics(self._network, batches)

    def _seed_dropout(self, purpose: str) -> None:
        process = [] if self._processes.is_first else ["process", self._processes.rank]
        torch.manual_seed(derive(self._seed, purpose, self._state.step, *process))

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

    def _is_cancelled(self) -> bool:
        """Report; say whether that is answered with a cancel."""
        state, figures = self._state, {}
        if state.rows:
            figures["loss"] = state.rows[-1][1]
        if state.best_metric is not None:
            figures[self._task.metric] = state.best_metric
        try:
            self._progress.report(self._title, state.step / self._task.steps, **figures)
        except Cancelled:
            return True
        return False

    def _save(self) -> None:
        self._read_losses()
        if not self._processes.is_first:
            return
        state = self._state
        state.model = self._network.state_dict()
        state.policy = self._policy.state_dict()
        state.scaler = self._precision.state_dict()
        state.average = None if self._average is None else self._average.state_dict()
        state.save(self._folder / "checkpoint.pt")
        self._write_log()

    def _restore(self) -> None:
        path = self._folder / "checkpoint.pt"
        state = self._processes.from_first(lambda: Checkpoint.load(path, self._key))
        if state is None:
            return
        self._network.load_state_dict(state.model)
        self._policy.load_state_dict(state.policy)
        self._precision.load_state_dict(state.scaler)
        if self._average is not None:
            self._average.load_state_dict(state.average)
        self._state = state
        self._write_log()  # it may be ahead of the checkpoint

    def _write_log(self) -> None:
        if self._processes.is_first:
            write_log(self._folder / "log.tsv", self._task.metric, self._state.rows)
            self._logged = time.monotonic()
