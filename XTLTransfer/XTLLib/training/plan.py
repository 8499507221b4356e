"""What a chain would do, told before anything runs: ``xtl train --dry-run``. Nothing is written."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from ..errors import InputError
from ..inference.device import pick_device
from ..inference.memory import free_memory
from ..networks.initialisation import initialise_backbone
from ..networks.sources import locate
from ..progress import Progress
from ..transfer.provenance import device_words
from ..transfer.stages import IMAGENET, RANDOM
from .folds import fold_datalists
from .memory import MIB, Memory, bytes_held, estimate_memory
from .seeds import derive
from .stages import hold_out
from .travelling import Travelling
from .trial import Timing, Trial, time_stage, try_stage

if TYPE_CHECKING:
    from ..data.datalist import Datalist, Entry
    from ..transfer.chain import Chain
    from ..transfer.stages import TrainedStage

MEMORY_ACCURACY, TIME_ACCURACY = 0.25, 0.3  # of the estimates, as shares
_STATISTICS_STEPS = 8 / 3  # BatchNorm's statistics are refreshed on eight forward passes: a third of a step each


@dataclass(frozen=True)
class StagePlan:
    """One trained stage.

    Attributes
    ----------
    number : in the chain, the initialisation being 0. kind, task : of the stage. data : the datalist's name.
    title : what it does, in words.
    parameters, carried_share : of the network, and the share of them that the stage before hands over.
    patients, entries : (training, validation). shape : of a batch, as the network takes it.
    steps : of the optimiser, at most. batches : that they take. epochs : where the budget is counted so.
    validations : how often the validation part is looked at.
    memory : bytes at the peak.
    timing : what was measured here; None where the memory that is free now does not suffice.
    reading_s, training_s, validation_s : estimates, seconds.
    notes : what else there is to know.
    """

    number: int
    kind: str
    task: str
    data: str
    title: str
    parameters: int
    carried_share: float
    patients: tuple[int, int]
    entries: tuple[int, int]
    shape: tuple[int, ...]
    steps: int
    batches: int
    epochs: int | None
    validations: int
    memory: Memory
    timing: Timing | None
    reading_s: float
    training_s: float | None
    validation_s: float | None
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float | None:
        """All of the stage; None where it could not be timed."""
        return None if self.timing is None else self.reading_s + self.training_s + self.validation_s


@dataclass(frozen=True)
class ChainPlan:
    """A chain before it runs.

    Attributes
    ----------
    name, line : of the chain; all its stages in one line. device : in words.
    initialisation : where the weights come from. stages : the trained ones, in order.
    """

    name: str
    line: str
    device: str
    initialisation: str
    stages: tuple[StagePlan, ...]

    @property
    def memory_mib(self) -> float:
        """The peak of the whole chain: of its largest stage."""
        return max(stage.memory.total for stage in self.stages) / MIB

    @property
    def seconds(self) -> float | None:
        """Of the whole chain; None where a stage could not be timed."""
        times = [stage.seconds for stage in self.stages]
        return None if None in times else sum(times)

    def to_dict(self) -> dict[str, Any]:
        """What a window shows of the plan, as JSON-able data: of each stage what a line of the table says."""
        keys = ("number", "task", "title", "parameters", "carried_share", "patients", "entries", "steps", "epochs")
        stages = [
            {key: getattr(stage, key) for key in (*keys, "seconds", "notes")} | {"memory_mib": stage.memory.total / MIB}
            for stage in self.stages
        ]
        whole = {key: getattr(self, key) for key in ("name", "line", "device", "initialisation")}
        return {**whole, "seconds": self.seconds, "memory_mib": self.memory_mib, "stages": stages}

    def to_text(self) -> str:
        """The plan as a table for a terminal."""
        from .plan_text import text_of

        return text_of(self)


def plan_chain(
    chain: Chain,
    datalists: list[Datalist],
    *,
    device: str = "auto",
    progress: Progress | None = None,
) -> ChainPlan:
    """What ``run_chain`` would do, and what it needs of memory and time on this machine.

    Every stage is prepared and trained for three steps on a sample of its data, by the functions that a run
    uses, so that what they refuse is refused here. Takes seconds for each stage, and as much memory as a run.

    Parameters
    ----------
    chain : the stages. datalists : from ``run_folder.load_datalists``, whose checks a run begins with.
    device : as of ``run_chain``. progress : told about every stage.

    Raises
    ------
    InputError : as ``run_chain``, as far as the sample of the data shows it.
    """
    progress, place = progress or Progress(), pick_device(device)
    progress.report("Initialisation", 0.0)
    travelling, words = _initialise(chain)
    plans = []
    for number, (stage, datalist) in enumerate(zip(chain.trained, datalists), 1):
        progress.report(f"Trying stage {number}: {stage.task}", number / (len(datalists) + 1))
        try:
            plan, travelling = _plan_stage(chain, number, stage, datalist, travelling, place)
        except InputError as error:
            raise InputError(f"stage {number} ({stage.task}): {error.what}", error.remedy) from error
        plans.append(plan)
    progress.report("Done", 1.0)
    return ChainPlan(chain.name, _line_of(chain, datalists), device_words(place), words, tuple(plans))


def _initialise(chain: Chain) -> tuple[Travelling, str]:
    """The backbone that the chain begins with, and where its weights come from; nothing is downloaded."""
    first = chain.initialisation
    weights, words = first.weights, ""
    if weights == IMAGENET or first.is_address:
        try:
            locate(weights, chain.backbone, first.sha256, allow_download=False)
        except InputError:  # not here yet
            weights, words = RANDOM, f"{weights} weights, which a run downloads first"
    backbone, report = initialise_backbone(
        chain.backbone,
        weights=weights,
        sha256=None if words else first.sha256,
        layout="torchvision" if words else first.layout,
        keys=None if words else first.keys,
        minimum_match=first.minimum_match,
        licence=first.licence,
        seed=derive(chain.seed, "initialisation"),
    )
    return Travelling(backbone, first.is_learned), words or str(report)


def _plan_stage(
    chain: Chain, number: int, stage: TrainedStage, datalist: Datalist, incoming: Travelling, device: torch.device
) -> tuple[StagePlan, Travelling]:
    """The plan of one stage, and what it hands on."""
    seed = derive(chain.seed, f"intermediate-{number}" if stage.kind == "intermediate" else stage.kind)  # as a run's
    networks = getattr(stage, "folds", None) or 1
    whole = datalist if networks == 1 else replace(fold_datalists(datalist, networks, seed)[0], test=())
    used, note = hold_out(whole, stage.training.validation, seed)
    trial = try_stage(chain, stage, used, incoming, seed)
    network, task = trial.prepared.network, trial.prepared.task
    outgoing = Travelling.after(stage, copy.deepcopy(network))  # the trial trains the network itself
    shape = tuple(task.batch(0)[0].shape)
    entries = (_usable(stage, used.training), len(used.validation))
    share = sum(entries) / trial.entries
    steps, epochs = _budget(stage, entries[0])
    looks = (stage.training.validations or task.validations) if task.can_validate else 0
    data = bytes_held(task) * share
    memory = estimate_memory(network, shape, trial.prepared.training, validates=looks > 0, data=data, device=device)
    notes = [note] if note else []
    if networks > 1:
        notes.append(f"{networks} networks, one for each fold: the times are of all, the other figures of one")
    fits = memory.total - memory.program <= free_memory(device)
    timing = time_stage(trial, device, seed) if fits else None
    if not fits:
        notes.append(f"not timed: {free_memory(device) / MIB:.0f} MiB are free. Take smaller batches or windows")
    if stage.training.learning_rate == "find":
        notes.append("the search for the learning rate comes on top")
    if stage.training.schedule == "plateau" or stage.training.early_stopping:
        notes.append("may end before its budget is spent")
    report = trial.prepared.conversion
    plan = StagePlan(
        number=number,
        kind=stage.kind,
        task=stage.task,
        data=datalist.name,
        title=_title_of(stage, chain, trial),
        parameters=sum(p.numel() for p in network.parameters()),
        carried_share=report.carried_share,
        patients=(_patients(used.training), _patients(used.validation)),
        entries=entries,
        shape=shape,
        steps=steps,
        batches=steps * stage.training.accumulate,
        epochs=epochs,
        validations=looks,
        memory=memory,
        timing=timing,
        reading_s=networks * trial.reading_s * share,
        training_s=timing and networks * timing.step_s * (steps + _STATISTICS_STEPS * max(1, looks)),
        validation_s=timing and networks * timing.validation_s * looks * entries[1],
        notes=tuple(notes),
    )
    return plan, outgoing


def _usable(stage: TrainedStage, entries: tuple[Entry, ...]) -> int:
    """How many entries are trained on: regions need a mark on an abnormal film."""
    if getattr(stage, "region", None) is None:
        return len(entries)
    return sum(not entry.label or "circles_px" in entry.attributes or isinstance(entry.label, str) for entry in entries)


def _budget(stage: TrainedStage, count: int) -> tuple[int, int | None]:
    """Steps of a stage with ``count`` training entries, and its passes over them where it counts these."""
    training = stage.training
    if hasattr(training, "steps"):
        return training.steps, None
    batches = max(1, count // min(training.batch_size, max(count, 1)))
    return max(1, training.epochs * batches // training.accumulate), training.epochs


def _title_of(stage: TrainedStage, chain: Chain, trial: Trial) -> str:
    words = stage.task.replace("mammogram-", "mammogram ")
    if stage.task == "self-supervised":
        words = f"{words} ({stage.method}) on {stage.images}"
    kind = f"{chain.backbone}, {trial.prepared.conversion.rule}" if stage.is_volumetric else f"{chain.backbone}, 2D"
    return f"{words} with {kind}"


def _line_of(chain: Chain, datalists: list[Datalist]) -> str:
    """``imagenet -> mammogram-classification (mias) => inflate => segmentation (open-ms)``."""
    start = chain.initialisation.weights
    parts = [start.replace("\\", "/").rpartition("/")[2]]
    is_volumetric = chain.initialisation.layout == "medicalnet"
    for stage, datalist in zip(chain.trained, datalists):
        arrow = " -> "
        if stage.is_volumetric and not is_volumetric:
            arrow, is_volumetric = f" => {chain.conversion} => ", True
        parts += [arrow, f"{stage.task} ({datalist.name})"]
    return f"{chain.name}: {''.join(parts)}"


def _patients(entries: tuple[Entry, ...]) -> int:
    return len({entry.patient for entry in entries})
