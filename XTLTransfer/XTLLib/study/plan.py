"""What a study would do, need and be able to show, told before anything runs: ``xtl study --plan``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.datalist import Datalist
from ..progress import Progress
from .check import require_runnable
from .config import ALL, Study
from .plan_costs import seconds_of_finished, seconds_of_run, seconds_of_stage, shared_stages, try_arms
from .power import DesignPower, design_power
from .runs import PlannedRun, chain_of, fold_datalist, is_same_file, planned_runs

if TYPE_CHECKING:
    from ..training.plan import ChainPlan
    from ..transfer.chain import Chain


@dataclass(frozen=True)
class ArmPlan:
    """One arm or baseline.

    Attributes
    ----------
    name : of the arm. line : its chain in one line, "" where it was not tried. runs : how many.
    finished : how many of them are there already.
    seconds : of a run of the largest size, without stages that runs share; None where it is not known.
    memory_mib : at the peak of a run; None where it is not known.
    """

    name: str
    line: str
    runs: int
    finished: int
    seconds: float | None = None
    memory_mib: float | None = None


@dataclass(frozen=True)
class StudyPlan:
    """A study before it runs.

    Attributes
    ----------
    study : what is planned. task : of its datalist.
    patients, cases, positives : in the datalist; positives None in segmentation.
    arms : arms, then baselines.
    trainings : of target stages. shared : of stages before them, each once however many runs use it.
    seconds : estimate of what is left to do, one run after another; None where it is not known.
    power : what the design can show. notes : what else there is to know. device : in words.
    """

    study: Study
    task: str
    patients: int
    cases: int
    positives: int | None
    arms: tuple[ArmPlan, ...]
    trainings: int
    shared: int
    seconds: float | None
    power: DesignPower
    notes: tuple[str, ...]
    device: str

    @property
    def runs(self) -> int:
        """All of them, also those that are finished."""
        return sum(arm.runs for arm in self.arms)

    @property
    def finished(self) -> int:
        """How many runs need not be done again."""
        return sum(arm.finished for arm in self.arms)

    @property
    def memory_mib(self) -> float | None:
        """Peak of the largest run; so many runs at a time need so many times as much."""
        return max((arm.memory_mib for arm in self.arms if arm.memory_mib is not None), default=None)

    def to_dict(self) -> dict[str, Any]:
        """What a window shows of the plan, as JSON-able data."""
        whole = ("runs", "finished", "patients", "cases", "trainings", "seconds", "memory_mib", "notes", "device")
        arms = [
            {key: getattr(arm, key) for key in ("name", "runs", "finished", "seconds", "memory_mib")}
            for arm in self.arms
        ]
        return {key: getattr(self, key) for key in whole} | {
            "name": self.study.name,
            "question": self.study.question,
            "power": self.power.text,
            "arms": arms,
        }

    @property
    def text(self) -> str:
        """The plan for a terminal."""
        from .plan_text import text_of

        return text_of(self)


def plan_study(
    study: Study,
    *,
    out: Path | None = None,
    device: str = "auto",
    timed: bool = True,
    progress: Progress | None = None,
) -> StudyPlan:
    """What ``run_study`` would do, what it needs on this machine, and what its design can show.

    Checks what can be checked before a run. Of every kind of arm three steps are tried for each stage, which takes
    seconds each, unless runs of it are finished in ``out``: then their time counts. Nothing is written.

    Parameters
    ----------
    study : what to compare. out : folder of the study, where it was begun. device : as of a run.
    timed : false leaves out time and memory, and takes no time itself.

    Raises
    ------
    InputError : as :func:`.check.require_runnable`, and when a training cannot be prepared.
    """
    progress = progress or Progress()
    progress.report("Looking at the data", 0.0)
    datalist = Datalist.load(study.datalist)
    require_runnable(study, datalist)
    runs = planned_runs(study)
    chains = {run: chain for run in runs if (chain := chain_of(study, run)) is not None}
    done = seconds_of_finished(study, datalist, out)
    shared = shared_stages(study, chains)
    trials: dict[str, ChainPlan] = {}
    if timed:
        measured = {(run.arm, run.size) for run in done}
        names = [arm.name for arm in study.arms if any((arm.name, s) not in measured for s in study.training_sizes)]
        trials = try_arms(study, datalist, chains, names, device, progress)
    whole = len(fold_datalist(study, datalist, PlannedRun(study.names[0], study.seeds[0], 0, 0)).training)
    costs = {run: seconds_of_run(run, whole, done, trials) for run in runs}
    progress.report("Done", 1.0)
    return StudyPlan(
        study,
        datalist.task,
        len(datalist.patients()),
        len(datalist.entries),
        sum(bool(entry.label) for entry in datalist.entries) if datalist.classes else None,
        tuple(_arm_plan(name, costs, done, trials) for name in study.names),
        len(chains),
        len(shared),
        _seconds_left(chains, shared, costs, done, trials),
        design_power(study, datalist),
        tuple(_notes(study)),
        next((plan.device for plan in trials.values()), device),
    )


def _arm_plan(
    name: str,
    costs: Mapping[PlannedRun, float | None],
    done: Mapping[PlannedRun, float],
    trials: Mapping[str, ChainPlan],
) -> ArmPlan:
    own, trial = [run for run in costs if run.arm == name], trials.get(name)
    return ArmPlan(
        name,
        trial.line if trial else "",
        len(own),
        sum(run in done for run in own),
        costs[own[0]],  # runs begin with the largest size
        trial.memory_mib if trial else None,
    )


def _seconds_left(
    chains: Mapping[PlannedRun, Chain],
    shared: list[tuple[PlannedRun, int]],
    costs: Mapping[PlannedRun, float | None],
    done: Mapping[PlannedRun, float],
    trials: Mapping[str, ChainPlan],
) -> float | None:
    """Of the runs that are not finished, with the shared stages of arms that have not begun; without baselines."""
    parts = [costs[run] for run in chains if run not in done]
    begun = {(run.arm, run.seed) for run in done}
    parts += [
        seconds_of_stage(trials[run.arm].stages[number - 1])
        for run, number in shared
        if (run.arm, run.seed) not in begun and run.arm in trials
    ]
    return None if None in parts else sum(parts)


def _notes(study: Study) -> list[str]:
    notes = []
    for arm in study.arms:
        chain = arm.load()
        notes += [
            f"the stage {stage.task} of the arm {arm.name} learns from the study's own datalist: in every run from "
            "the training part of its fold only, so that it is trained for every fold"
            for stage in chain.intermediates
            if is_same_file(stage.datalist, study.datalist)
        ]
        if chain.target.training.schedule == "plateau" or chain.target.training.early_stopping:
            notes.append(f"trainings of the arm {arm.name} may end before their budget is spent")
    if study.allow_different_budgets:
        notes.append(
            "the arms may differ in how much they learn: a difference between them is not that of chains alone"
        )
    if len(study.sizes) > 1 and ALL in study.sizes:
        notes.append("comparisons are made at the largest size; the others make the learning curve")
    if not study.comparisons:
        notes.append("no comparisons are asked for: the arms are described, no difference is tested")
    return notes
