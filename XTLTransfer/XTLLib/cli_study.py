"""The command ``xtl study``: arms on the same folds, here or on a cluster, and what came of it."""

from __future__ import annotations

import argparse
import importlib.util
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .cli_arguments import tell_result
from .errors import InputError

if TYPE_CHECKING:
    from .progress import Progress
    from .study.config import Study
    from .study.result import StudyResult


def add_study_options(study: argparse.ArgumentParser) -> None:
    """Give the parser of ``xtl study`` its options."""
    study.add_argument("study", type=Path, metavar="STUDY.yaml")
    study.add_argument("--out", type=Path, help="the study's folder; needed unless --plan")
    study.add_argument("--resume", action="store_true", help="go on with what is in --out; finished runs are kept")
    study.add_argument(
        "--plan", action="store_true", help="print the runs, the time they take and what they can show, and end"
    )
    study.add_argument("--processes", type=int, metavar="N", help="runs at a time (default: as cores and memory allow)")
    study.add_argument(
        "--threads",
        type=int,
        default=1,
        metavar="N",
        help="that each run computes in; keep it for all of a study, its figures depend on it in their last digits "
        "(default: 1)",
    )
    study.add_argument("--memory", type=float, metavar="GIB", help="that a run needs (default: 1.5 on CPU, 8 on a GPU)")
    study.add_argument(
        "--ray", metavar="ADDRESS", help="do the runs on a Ray cluster; local begins one on this machine"
    )
    study.add_argument(
        "--gpus", type=float, default=0.0, metavar="SHARE", help="of a GPU that a run takes with --ray (default: 0)"
    )


def run_study_command(
    arguments: argparse.Namespace,
    progress_of: Callable[[argparse.Namespace], AbstractContextManager[Progress]],
    say: Callable[[argparse.Namespace, str], None],
    fail: Callable[[argparse.Namespace, str, int], int],
) -> int:
    """Run the study, or plan it -> exit code: 1 when runs failed, though all others are reported."""
    from .study.config import load_study

    study = load_study(arguments.study)
    if arguments.plan:
        from .study.plan import plan_study

        with progress_of(arguments) as progress:
            plan = plan_study(study, out=arguments.out, device=arguments.device, progress=progress)
        say(arguments, plan.text)
        tell_result(arguments, plan=plan.to_dict())
        return 0
    if arguments.out is None:
        raise InputError("--out is missing", "Name the folder of the study, or ask for --plan")
    with _ended_by_sigterm():
        result = _run(arguments, study, progress_of)
    say(arguments, result.table_text)
    failures = result.facts["failures"]
    tell_result(arguments, failures=failures)
    for failure in failures:
        fail(arguments, f"the run {failure['run']} failed: {failure['error']}", 1)
    if failures:
        fail(arguments, f"{len(failures)} runs failed; --resume tries them again", 1)
    return 1 if failures else 0


def _run(
    arguments: argparse.Namespace,
    study: Study,
    progress_of: Callable[[argparse.Namespace], AbstractContextManager[Progress]],
) -> StudyResult:
    from .study.places import Resources
    from .study.run import run_study

    resources = Resources(
        arguments.device, arguments.processes, arguments.threads, arguments.memory, arguments.ray, arguments.gpus
    )
    draws = arguments.progress == "terminal" and sys.stderr.isatty() and importlib.util.find_spec("rich") is not None
    if not draws:
        from .study.board import board_teller

        watch = board_teller() if arguments.progress == "json" else None
        with progress_of(arguments) as progress:
            return run_study(
                study, arguments.out, resume=arguments.resume, resources=resources, progress=progress, watch=watch
            )
    from .study.table import LiveTable

    with LiveTable(study.name) as table:
        return run_study(study, arguments.out, resume=arguments.resume, resources=resources, watch=table)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let a request to end be what Ctrl-C is: the processes of the study get the time to leave checkpoints."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
