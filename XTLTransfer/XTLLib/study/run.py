"""Runs a study: every arm on every fold with every seed, each run once, and tells what came out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.datalist import PARTS, Datalist
from ..errors import InputError, XTLError
from ..files import atomic_file
from ..progress import Progress
from ..transfer.provenance import today_utc, versions
from .board import Board, figure_of_run
from .check import require_runnable
from .config import Study
from .places import Resources
from .pool import RunReport
from .report import write_study_report
from .result import StudyResult
from .runs import Deals, PlannedRun, planned_runs
from .schedule import RunFailure, in_good_order, run_tasks
from .scores import Score, write_scores
from .task import RunOutcome, RunTask, read_outcome

_PATIENCE_S = 20.0  # for runs under way to leave a checkpoint
_RUNNING_SHARE = 0.98  # of a study's progress; the rest is the report

Watch = Callable[[Board], None]


def run_study(
    study: Study,
    out: Path,
    *,
    resume: bool = False,
    resources: Resources | None = None,
    progress: Progress | None = None,
    watch: Watch | None = None,
    facts: Mapping[str, Any] | None = None,
) -> StudyResult:
    """Do all runs of a study, and report.

    Runs are done in other processes, several at a time; what they give depends neither on how many there are nor
    on their order. A finished run is found again by the content of all that decides it, in ``out/runs``, and not
    repeated; stages that runs share (the mammogram stage of all XTL folds of one seed) are trained once, in
    ``out/cache``. A run that fails is named in the result; the others go on.

    Parameters
    ----------
    study : what to compare.
    out : folder; must be new or empty unless ``resume``.
    resources : processes, threads and devices, here or on a Ray cluster.
    progress : told about all runs together; a cancel leaves checkpoints, from which ``resume`` goes on.
    watch : called now and then with the state of all runs.
    facts : what the report is to say besides (see StudyResult).

    Returns
    -------
    StudyResult, also written to ``out``: ``scores.tsv`` and the report's files. ``facts["failures"]`` names the runs
    that failed.

    Raises
    ------
    InputError : the datalist does not fit the arms, or ``out`` is in use.
    XTLError : no run gave a score.
    """
    progress, resources = progress or Progress(), resources or Resources()
    out = Path(out).absolute()
    if out.exists() and (out.is_file() or any(out.iterdir())) and not resume:
        raise InputError(f"the output folder {out} is not empty", "Add --resume to continue it, or name a new folder")
    progress.report("Looking at the data", 0.0)
    datalist = Datalist.load(study.datalist)
    require_runnable(study, datalist)
    runs = planned_runs(study)
    deals = Deals(study, datalist)
    tasks = {run: task_of(study, run, deals, out) for run in runs}
    board = Board.of(runs, study.metric_of(datalist.task))
    failures = _do(tasks, board, resources, progress.part(0.0, _RUNNING_SHARE), watch)

    progress.report("Writing the report", _RUNNING_SHARE)
    outcomes = {run: outcome for run, task in tasks.items() if (outcome := read_outcome(task)) is not None}
    scores = tuple(score for run, outcome in outcomes.items() for score in _scores(run, outcome, datalist))
    if not scores:
        first = failures[0].message.rstrip(".")
        raise XTLError(f"no run of the study has given a score: {first}", "Try one arm's chain alone with xtl train")
    write_scores(scores, out / "scores.tsv")
    known = {**(facts or {}), **_facts(tasks, outcomes, failures, resources)}
    if study.transferability:
        from .transferability import transferability_columns

        known["transferability"] = transferability_columns(study, datalist, out, progress.part(_RUNNING_SHARE, 0.99))
    with atomic_file(out / "facts.json") as draft:
        draft.write_text(json.dumps(known, indent=2), encoding="utf-8")
    result = StudyResult(study, datalist.task, scores, known)
    write_study_report(result, out)
    progress.report("Study complete", 1.0)
    return result


def task_of(study: Study, run: PlannedRun, deals: Deals, out: Path) -> RunTask:
    """A planned run as a process takes it."""
    fold, chain = deals.fold(run), deals.chain(run)
    return RunTask(
        key=deals.key(run),
        name=run.name,
        seed=run.seed,
        # Which keys were written down decides, too, hence only those.
        arm=run.arm if chain is None else chain.model_dump(mode="json", exclude_unset=True),
        datalist=str(Path(study.datalist).absolute()),
        parts={part: tuple(entry.case for entry in getattr(fold, part)) for part in PARTS},
        out=str(out),
    )


def _do(
    tasks: Mapping[PlannedRun, RunTask],
    board: Board,
    resources: Resources,
    progress: Progress,
    watch: Watch | None,
) -> tuple[RunFailure, ...]:
    """Do the runs that have no outcome yet. Runs of one content are one task."""
    by_key: dict[str, RunTask] = {}
    for task in tasks.values():
        if read_outcome(task) is None:
            by_key.setdefault(task.key, task)
    desk = _Desk(tasks, board, progress, watch)
    for task in {task.key: task for task in tasks.values() if task.key not in by_key}.values():
        desk.finished(task.key)
    board.kept = board.finished
    if not by_key:
        return ()
    pool = resources.open_pool()
    board.places = pool.places
    try:
        failures = run_tasks(in_good_order(list(by_key.values())), pool, desk.tell)
    except BaseException:
        pool.close(_PATIENCE_S)
        raise
    pool.close(0.0)
    return failures


class _Desk:
    """Keeps the board and the progress up to date."""

    def __init__(
        self,
        tasks: Mapping[PlannedRun, RunTask],
        board: Board,
        progress: Progress,
        watch: Watch | None,
    ) -> None:
        self._runs: dict[str, list[PlannedRun]] = {}
        self._tasks = {task.key: task for task in tasks.values()}
        for run, task in tasks.items():
            self._runs.setdefault(task.key, []).append(run)
        self._board, self._progress, self._watch = board, progress, watch

    def tell(self, task: RunTask | None, report: RunReport | None) -> None:
        board = self._board
        if task is not None and report is not None:
            if report.state == "progress":
                board.running[task.name] = (report.fraction, report.stage)
            else:
                board.running.pop(task.name, None)
                if report.state == "done":
                    self.finished(task.key)
                else:
                    for run in self._runs[task.key]:
                        board.arms[run.arm].failed += 1
        if self._watch is not None:
            self._watch(board)
        self._progress.report(board.line, board.fraction, **board.means())

    def finished(self, key: str) -> None:
        """Count a run, and what its arm has reached so far."""
        outcome = read_outcome(self._tasks[key])
        for run in self._runs[key]:
            arm = self._board.arms[run.arm]
            arm.finished += 1
            if (figure := figure_of_run(outcome.values, self._board.metric)) is not None:
                arm.figures.append(figure)


def _scores(run: PlannedRun, outcome: RunOutcome, datalist: Datalist) -> Iterable[Score]:
    patients = {entry.case: entry.patient for entry in datalist.entries}
    for case in sorted(outcome.values):
        values = dict(outcome.values[case])
        yield Score(run.arm, run.seed, run.fold, patients[case], case, values, run.repeat, run.size)


def _facts(
    tasks: Mapping[PlannedRun, RunTask],
    outcomes: Mapping[PlannedRun, RunOutcome],
    failures: Sequence[RunFailure],
    resources: Resources,
) -> dict[str, Any]:
    errors = {failure.key: failure.message for failure in failures}
    seconds: dict[str, float] = {}
    for run, outcome in outcomes.items():
        seconds[run.arm] = seconds.get(run.arm, 0.0) + outcome.seconds
    return {
        "date": today_utc(),
        "versions": versions(),
        "device": resources.words,
        "runs": {
            run.name: {"key": task.key, "folder": f"runs/{task.folder.name}", "seconds": outcomes[run].seconds}
            for run, task in tasks.items()
            if run in outcomes
        },
        "failures": [{"run": run.name, "error": errors[t.key]} for run, t in tasks.items() if t.key in errors],
        "seconds": seconds,
    }
