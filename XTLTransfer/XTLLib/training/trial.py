"""A stage tried on a few of its images: whether it can be prepared, and how long its parts take here."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from ..errors import Cancelled
from ..networks.build import convert_network
from ..progress import Progress
from .engine import Engine
from .stages import PreparedStage, prepare_stage

if TYPE_CHECKING:
    import torch

    from ..data.datalist import Datalist, Entry
    from ..transfer.chain import Chain
    from ..transfer.stages import TrainedStage
    from .travelling import Travelling

_STEPS = 2  # that are timed, after one that is not
_HELD_OUT_OF_A_CLASS = 3  # what an AUC needs
_ANY_NUMBER = 1000  # of steps, so that none of those that are timed is the last one


@dataclass(frozen=True, eq=False)
class Trial:
    """A stage on a sample of its data.

    Attributes
    ----------
    prepared : the stage on the sample. sample : its datalist. entries : in the sample, both parts.
    reading_s : for reading and preparing the sample.
    """

    prepared: PreparedStage
    sample: Datalist
    entries: int
    reading_s: float


@dataclass(frozen=True)
class Timing:
    """Wall seconds on this machine.

    Attributes
    ----------
    step_s : of a step. batch_s : CPU seconds of making one batch, which is done beside the steps.
    validation_s : of one look at one validation entry, on average; 0 where there is none.
    """

    step_s: float
    batch_s: float
    validation_s: float


def try_stage(chain_: Chain, stage: TrainedStage, datalist: Datalist, incoming: Travelling, seed: int) -> Trial:
    """Prepare a stage on a sample of its data, as ``prepare_stage`` prepares it on all of them.

    Raises whatever that raises: what a run would refuse is refused here, as far as the sample shows it.
    """
    sample = sample_of(stage, datalist)
    training = stage.training.model_copy(update={"validation": 0.0})
    began = time.perf_counter()
    prepared = prepare_stage(
        chain_,
        stage.model_copy(update={"training": training}),
        sample,
        incoming.backbone,
        is_learned=False,  # folded BatchNorm is seen to in a real run only
        seed=seed,
        progress=Progress(),
        decoder=incoming.decoder,
    )
    both = time.perf_counter() - began
    began = time.perf_counter()
    convert_network(prepared.spec, incoming.backbone)
    reading = max(0.0, both - (time.perf_counter() - began))
    return Trial(prepared, sample, len(sample.training) + len(sample.validation), reading)


def time_stage(trial: Trial, device: torch.device, seed: int) -> Timing:
    """Time some steps of the trial's stage with the real engine, in a folder that goes away.

    The network is trained by it, and worthless afterwards. All layers learn that ever will, as they do for
    most of a run.
    """
    task, can_validate = trial.prepared.task, trial.prepared.task.can_validate
    given = trial.prepared.training
    rate = 1e-3 if given.learning_rate == "find" else given.learning_rate
    training = given.model_copy(update={"unfreeze": (), "learning_rate": rate, "validation": 0.0})
    task.steps, task.can_validate = _ANY_NUMBER, False
    batches: list[float] = []
    make = task.batch

    def timed(number: int) -> tuple[torch.Tensor, torch.Tensor]:
        began = time.thread_time()
        batch = make(number)
        batches.append(time.thread_time() - began)
        return batch

    task.batch = timed
    ends: list[float] = []

    def is_enough() -> bool:
        ends.append(time.perf_counter())
        return len(ends) > _STEPS

    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(
            trial.prepared.network,
            task,
            training,
            seed=seed,
            folder=Path(folder),
            key="trial",
            device=device,
            progress=Progress(is_cancelled=is_enough),
            title="Trial",
        )
        with suppress(Cancelled):
            engine.run(False)
    validation = 0.0
    if can_validate:
        network = trial.prepared.network.eval()
        began = time.perf_counter()
        task.validate(network)
        validation = (time.perf_counter() - began) / len(trial.sample.validation)
    return Timing(float(np.mean(np.diff(ends))), median(batches), validation)


def sample_of(stage: TrainedStage, datalist: Datalist) -> Datalist:
    """A few entries of both parts: enough for a batch, with every class, marked abnormalities and a lesion."""
    if datalist.has_mammograms or isinstance(datalist.training[0].label, int):
        count = max(stage.training.batch_size, 2 * _HELD_OUT_OF_A_CLASS)
        training = _of_every_class(datalist.training, count)
        held_out = _of_every_class(datalist.validation, _HELD_OUT_OF_A_CLASS * max(2, len(datalist.classes)))
    else:
        training, held_out = _with_a_lesion(datalist.training), datalist.validation[:1]
    return replace(datalist, training=tuple(training), validation=tuple(held_out), test=())


def _of_every_class(entries: Sequence[Entry], count: int) -> list[Entry]:
    """``count`` entries, the classes taking turns; of each, the marked ones first."""
    classes: dict[int | str | None, list[Entry]] = defaultdict(list)
    for entry in sorted(entries, key=lambda entry: "circles_px" not in entry.attributes):
        classes["mask" if isinstance(entry.label, str) else entry.label].append(entry)
    in_turn = chain.from_iterable(zip_longest(*classes.values()))
    return [entry for entry in in_turn if entry is not None][:count]


def _with_a_lesion(entries: Sequence[Entry]) -> list[Entry]:
    """The first entry whose mask is not empty; the first one where none is, or where there are no masks."""
    from ..data.images import read_image

    for entry in entries:
        if not isinstance(entry.label, str) or read_image(entry.label).array.any():
            return [entry]
    return [entries[0]]
