"""A child process that does runs of a study, one after the other, and lives for many.

Protocol, one JSON object a line
--------------------------------
To the process, on stdin: ``{"run": {...}}``, a task.RunTask; the bare word ``cancel`` ends it.
From it, on stdout: ``{"state": "progress", "key": ..., "fraction": 0.4, "stage": ...}``, then one of
``{"state": "done", "key": ...}`` and ``{"state": "failed", "key": ..., "message": ...}``.

It ends when its stdin ends, too: the parent is gone. A run under way then leaves a checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any, TextIO

from ..errors import Cancelled, XTLError
from ..progress import Progress, ProgressEvent
from .task import RunTask

_REPORT_EVERY_S = 0.5
_GRACE_S = 10.0  # for a run to leave a checkpoint once it is to end


class RunProcess:
    """Reads runs from ``incoming`` and answers on ``outgoing``."""

    def __init__(self, device: str, incoming: TextIO, outgoing: TextIO) -> None:
        self._device, self._incoming, self._outgoing = device, incoming, outgoing
        self._tasks: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._ends = threading.Event()
        self._is_done = threading.Event()

    def run(self) -> None:
        """Work until told to end."""
        threading.Thread(target=self._listen, daemon=True).start()
        while (task := self._tasks.get()) is not None and not self._ends.is_set():
            self._do(RunTask.from_dict(task))
        self._is_done.set()

    def _do(self, task: RunTask) -> None:
        try:
            from .execute import execute_run

            execute_run(task, self._device, Progress(self._sink(task.key), self._ends.is_set))
        except Cancelled:
            return
        except Exception as error:
            self._say(state="failed", key=task.key, message=words_of(error))
        else:
            self._say(state="done", key=task.key)

    def _listen(self) -> None:
        for line in self._incoming:
            if line.strip() == "cancel":
                break
            self._tasks.put(json.loads(line)["run"])
        self._ends.set()
        self._tasks.put(None)
        if not self._is_done.wait(_GRACE_S):
            os._exit(1)  # every file that is being written is a draft

    def _sink(self, key: str):
        said = -_REPORT_EVERY_S

        def sink(event: ProgressEvent) -> None:
            nonlocal said
            if time.monotonic() - said >= _REPORT_EVERY_S:
                said = time.monotonic()
                self._say(state="progress", key=key, fraction=event.fraction, stage=event.stage)

        return sink

    def _say(self, **message: Any) -> None:
        try:
            self._outgoing.write(json.dumps(message) + "\n")
            self._outgoing.flush()
        except (OSError, ValueError):  # the parent is gone
            self._ends.set()


def words_of(error: BaseException) -> str:
    """An error in one line."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "the memory does not suffice. Let fewer processes share it, or take smaller windows."
    return str(error) if isinstance(error, XTLError) else f"unexpected {type(error).__name__}: {error}"


def use_threads(threads: int) -> None:
    """Let this process compute in so many threads; to be called before anything that computes is imported."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(threads)


def main(argv: Sequence[str] | None = None) -> int:
    """``--device cuda:0 --threads 1``; stdout belongs to the protocol, what libraries print goes to stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", required=True)
    parser.add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args(argv)
    use_threads(arguments.threads)
    outgoing, sys.stdout = sys.stdout, sys.stderr
    RunProcess(arguments.device, sys.stdin, outgoing).run()
    return 0
