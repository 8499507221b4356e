"""What the runs of a study cost: from runs that are finished, else from some steps tried here."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.datalist import Datalist
from ..errors import InputError
from ..progress import Progress
from ..transfer.provenance import hash_of
from .config import Study
from .runs import Deals, PlannedRun, fold_datalist, is_same_file, planned_runs, stage_datalists

if TYPE_CHECKING:
    from ..training.plan import ChainPlan, StagePlan
    from ..transfer.chain import Chain

Chains = Mapping[PlannedRun, "Chain"]


def seconds_of_finished(study: Study, datalist: Datalist, out: Path | None) -> dict[PlannedRun, float]:
    """Seconds that the runs took whose outcome lies in ``out``."""
    from .run import task_of
    from .task import read_outcome

    if out is None or not (Path(out) / "runs").is_dir():
        return {}
    deals, out = Deals(study, datalist), Path(out).absolute()
    found = {run: read_outcome(task_of(study, run, deals, out)) for run in planned_runs(study)}
    return {run: outcome.seconds for run, outcome in found.items() if outcome is not None}


def shared_stages(study: Study, chains: Chains) -> list[tuple[PlannedRun, int]]:
    """(a run that needs it, its number in the chain) of every training before a target, each once.

    Runs of one seed share such a stage, whatever their fold and size, unless it or one before it learns from the
    study's own datalist.
    """
    found: dict[str, tuple[PlannedRun, int]] = {}
    for run, chain in chains.items():
        for number, stage in enumerate(chain.intermediates, 1):
            before = chain.stages[: number + 1]
            is_own = any(is_same_file(s.datalist, study.datalist) for s in before[1:])
            how = (
                {"backbone", "seed"} if not stage.is_volumetric else set(type(chain).model_fields) - {"name", "stages"}
            )
            decides = [
                chain.model_dump(mode="json", include=how),
                [s.model_dump(mode="json") for s in before],
                [run.repeat, run.fold, run.size] if is_own else None,
            ]
            found.setdefault(hash_of(decides), (run, number))
    return list(found.values())


def try_arms(
    study: Study, datalist: Datalist, chains: Chains, names: Sequence[str], device: str, progress: Progress
) -> dict[str, ChainPlan]:
    """Arm -> its chain's plan on the first fold, from some steps of each of its stages.

    Raises InputError, naming the arm, when a training cannot be prepared.
    """
    from ..training.plan import plan_chain
    from ..training.run_folder import load_datalists

    plans: dict[str, ChainPlan] = {}
    first = {run.arm: run for run in reversed(chains)}
    for number, name in enumerate(names):
        chain, fold = chains[first[name]], fold_datalist(study, datalist, replace(first[name], size=None))
        part = progress.part(number / len(names), (number + 1) / len(names))
        part.report(f"Trying the arm {name}", 0.0)
        try:
            lists = load_datalists(chain, fold, stage_datalists(study.datalist, chain, fold))
            plans[name] = plan_chain(chain, lists, device=device, progress=part)
        except InputError as error:
            raise InputError(f"the arm {name}: {error.what}", error.remedy) from error
    return plans


def seconds_of_run(
    run: PlannedRun, training_cases: int, done: Mapping[PlannedRun, float], trials: Mapping[str, ChainPlan]
) -> float | None:
    """Of one run without the stages that runs share; None where nothing tells.

    Parameters
    ----------
    training_cases : of a whole fold.
    """
    alike = [seconds for other, seconds in done.items() if (other.arm, other.size) == (run.arm, run.size)]
    if alike:
        return statistics.median(alike)
    if run.arm not in trials:
        return None
    return seconds_of_stage(trials[run.arm].stages[-1], 1.0 if run.size is None else run.size / training_cases)


def seconds_of_stage(stage: StagePlan, share: float = 1.0) -> float | None:
    """Of a stage on a share of the data that it was planned with; a budget in steps does not shrink with the data."""
    if stage.timing is None:
        return None
    training = stage.training_s * (share if stage.epochs is not None else 1.0)
    return training + (stage.reading_s + (stage.validation_s or 0.0)) * share
