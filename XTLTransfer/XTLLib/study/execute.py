"""One run from its description to its outcome, in this process."""

from __future__ import annotations

import functools
import json
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.datalist import PARTS, Datalist
from ..data.stored_patches import state_of
from ..errors import InputError, XTLError
from ..progress import Progress
from .task import RunOutcome, RunTask, begin_run, read_outcome, write_outcome

if TYPE_CHECKING:
    from ..transfer.provenance import ChainRecord

_TRAINING_SHARE = 0.9  # of a run's progress
_NUMBERS = ("truth", "score", "dice")  # other figures may have no value, for example the distance to an empty mask


def execute_run(task: RunTask, device: str, progress: Progress | None = None) -> None:
    """Train and test, unless that is done already; the outcome is in the run's folder afterwards.

    A run that was begun before goes on from its checkpoints. Intermediate stages come from, and go to,
    ``out/cache``: of processes that want the same stage at the same time one trains it.

    Parameters
    ----------
    device : "cpu", "cuda" or "cuda:N".

    Raises
    ------
    XTLError : the data do not fit, or a figure of a test case is not a number.
    Cancelled : as the progress says; the folder then holds a checkpoint.
    """
    progress = progress or Progress()
    if read_outcome(task) is not None:
        return
    began = time.monotonic()
    fold = fold_of(task)
    begin_run(task)
    if isinstance(task.arm, str):
        from .evaluate import evaluate_baseline

        values, training = evaluate_baseline(task.arm, fold, task.seed), {}
    else:
        values, training = _train_and_test(task, fold, device, progress)
    by_case = {entry.case: figures for entry, figures in zip(fold.test, values, strict=True)}
    _require_numbers(task, by_case)
    write_outcome(task, RunOutcome(by_case, time.monotonic() - began, training))
    _remove_what_only_training_needs(task.folder)
    progress.report("Done", 1.0)


def fold_of(task: RunTask) -> Datalist:
    """The run's fold as a datalist."""
    whole, by_case = _datalist(task.datalist, state_of(task.datalist))
    missing = [case for part in PARTS for case in task.parts.get(part, ()) if case not in by_case]
    if missing:
        raise InputError(
            f"the datalist {task.datalist} no longer has the case {missing[0]}", "Put it back, or begin the study anew"
        )
    return replace(whole, **{part: tuple(by_case[case] for case in task.parts.get(part, ())) for part in PARTS})


@functools.lru_cache(maxsize=2)
def _datalist(path: str, state: int) -> tuple[Datalist, Mapping]:
    """All runs of a study read the same one."""
    datalist = Datalist.load(path)
    return datalist, {entry.case: entry for entry in datalist.entries}


def _train_and_test(
    task: RunTask, fold: Datalist, device: str, progress: Progress
) -> tuple[list[dict[str, float]], dict[str, float]]:
    """Figures of the test cases, and the seconds of training by stage."""
    from ..training.run import run_chain
    from ..transfer.chain import Chain
    from .evaluate import evaluate_classification, evaluate_segmentation
    from .runs import stage_datalists

    folder, chain = task.folder / "chain", Chain.model_validate(task.arm)
    if _name_in(folder) != chain.name:  # begun under another name: the bundle would have that
        shutil.rmtree(folder, ignore_errors=True)
    result = run_chain(
        chain,
        folder,
        resume=folder.exists(),
        progress=progress.part(0.0, _TRAINING_SHARE),
        device=device,
        stage_cache=Path(task.out) / "cache",
        target_datalist=fold,
        stage_datalists=stage_datalists(task.datalist, chain, fold),
    )
    progress.report("Testing", _TRAINING_SHARE)
    if fold.task == "segmentation":
        values = evaluate_segmentation(result.bundle, fold, device, pictures=task.folder)
    else:
        values = evaluate_classification(result.bundle, fold, device)
    return values, _training_seconds(result.record)


def _name_in(folder: Path) -> str | None:
    """The name of the chain that was begun in a folder."""
    try:
        return json.loads((folder / "chain.json").read_text(encoding="utf-8"))["name"]
    except (OSError, ValueError, KeyError):  # nothing was begun, or it died at once
        return None


def _training_seconds(record: ChainRecord) -> dict[str, float]:
    return {stage.key: stage.seconds for stage in record.stages if stage.task is not None}


def _require_numbers(task: RunTask, values: Mapping[str, Mapping[str, float]]) -> None:
    for case, figures in values.items():
        for name in _NUMBERS:
            if math.isnan(figures.get(name, 0.0)):
                raise XTLError(
                    f"the {name} of the case {case} is not a number",
                    f"Look at that case, and at the log of the training in {task.folder}",
                )


def _remove_what_only_training_needs(folder: Path) -> None:
    """Checkpoints and weights of stages: the bundle has the last ones, the cache the shared ones."""
    for name in ("checkpoint.pt", "weights.pt"):
        for path in folder.glob(f"chain/stages/**/{name}"):
            path.unlink(missing_ok=True)
