"""Gives the runs of a study to a pool, in an order in which little waits, and notes what becomes of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .pool import Pool, RunReport
from .runs import is_same_file
from .task import RunTask

_WAIT_S = 0.2
ATTEMPTS = 2  # a run whose process dies is tried once more


@dataclass(frozen=True)
class RunFailure:
    """A run that ended without an outcome. key, name : of the run. message : why, in a line."""

    key: str
    name: str
    message: str


def in_good_order(tasks: Sequence[RunTask]) -> list[RunTask]:
    """Shared stages come first: of the runs that share one, one opens and the others come last.

    So a process seldom has to wait for a stage that another one trains: it has other runs to do. Of stages that
    build on each other the longest series counts. What a run gives does not depend on its place.
    """
    opening, alone, following = [], [], []
    seen: set[str] = set()
    for task in tasks:
        shared = _shared_stages(task)
        if not shared:
            alone.append(task)
        elif shared in seen:
            following.append(task)
        else:
            seen.add(shared)
            opening.append(task)
    return [*opening, *alone, *following]


def run_tasks(
    tasks: Sequence[RunTask], pool: Pool, tell: Callable[[RunTask | None, RunReport | None], None]
) -> tuple[RunFailure, ...]:
    """Do all tasks, as many at a time as the pool takes.

    A run that tells why it failed has failed: it would again. One whose process dies, which may be for want of
    memory, is tried once more. The others go on in either case.

    Parameters
    ----------
    tell : called with every report and its task, and with (None, None) at least five times a second; what it
        raises ends the work. A run that died and is tried again is reported as "progress" at 0.
    """
    waiting, running = deque(tasks), {task.key: task for task in tasks}
    attempts = dict.fromkeys(running, 0)
    left = set(running)
    failures = []
    while left:
        while waiting and pool.is_free:
            task = waiting.popleft()
            attempts[task.key] += 1
            pool.submit(task)
            tell(task, RunReport(task.key, "progress", 0.0, "Starting"))
        for report in pool.poll(_WAIT_S):
            task = running[report.key]
            if report.state == "died" and attempts[task.key] < ATTEMPTS:
                waiting.appendleft(task)
                report = RunReport(task.key, "progress", 0.0, f"once more: {report.message}")
            elif report.state in ("failed", "died"):
                failures.append(RunFailure(task.key, task.name, report.message))
                left.discard(task.key)
            elif report.state == "done":
                left.discard(task.key)
            tell(task, report)
        tell(None, None)
    return tuple(failures)


def _shared_stages(task: RunTask) -> str:
    """What the intermediate stages of a run have in common with those of others; "" without any."""
    if isinstance(task.arm, str) or len(task.arm["stages"]) < 3:
        return ""
    stages = task.arm["stages"][:-1]
    learns_from_fold = any(is_same_file(stage["datalist"], task.datalist) for stage in stages[1:])
    return repr((task.arm["backbone"], task.seed, stages, task.parts["training"] if learns_from_fold else ()))
