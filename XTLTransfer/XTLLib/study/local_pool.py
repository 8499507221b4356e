"""Runs of a study in child processes of this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from ..child import Child, python_command
from .pool import RunReport
from .task import RunTask

_LOOK_EVERY_S = 0.01


@dataclass
class _Place:
    """A device, the process that computes on it, and the run it is at."""

    device: str
    child: Child | None = None
    key: str | None = None


class LocalPool:
    """A pool.Pool of processes that live for many runs; one that dies is replaced at the next run.

    Parameters
    ----------
    devices : of each process: "cpu", "cuda:0" ...; a GPU may be named several times.
    threads : that each process computes in.
    """

    def __init__(self, devices: Sequence[str], threads: int) -> None:
        self._places_ = [_Place(device) for device in devices]
        self._threads = threads

    @property
    def places(self) -> int:
        return len(self._places_)

    @property
    def is_free(self) -> bool:
        return any(place.key is None for place in self._places_)

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the processes that are alive."""
        return tuple(place.child.pid for place in self._places_ if place.child is not None and place.child.is_alive)

    def submit(self, task: RunTask) -> None:
        # A process that is warm first.
        place = min((p for p in self._places_ if p.key is None), key=lambda p: p.child is None)
        if place.child is None or not place.child.is_alive:
            self._start(place)
        place.key = task.key
        place.child.send({"run": task.to_dict()})  # to a process that has just died: poll tells

    def poll(self, timeout_s: float) -> list[RunReport]:
        until = time.monotonic() + timeout_s
        while True:
            reports = [report for place in self._places_ for report in self._reports_of(place)]
            if reports or time.monotonic() >= until:
                return reports
            time.sleep(_LOOK_EVERY_S)

    def close(self, patience_s: float) -> None:
        children = [place.child for place in self._places_ if place.child is not None]
        for child in children:
            child.cancel()
        until = time.monotonic() + patience_s
        for child in children:
            child.wait(max(0.0, until - time.monotonic()))
            child.close()

    def _start(self, place: _Place) -> None:
        if place.child is not None:
            place.child.close()
        options = ["--device", place.device, "--threads", str(self._threads)]
        place.child = Child(python_command("XTLLib.study.run_process", options), "a process of the study")
        place.child.start()

    def _reports_of(self, place: _Place) -> list[RunReport]:
        if place.child is None or place.key is None:
            return []
        ended = not place.child.is_running  # asked first: what it said before comes with the messages
        reports = [RunReport(**message) for message in place.child.messages() if message.get("key") == place.key]
        if any(report.state in ("done", "failed") for report in reports):
            place.key = None
        elif ended:
            reports.append(RunReport(place.key, "died", message=_last_words(place.child)))
            place.key = None
        return reports


def _last_words(child: Child) -> str:
    code = child.wait(0.0)
    how = f"by signal {-code}" if code is not None and code < 0 else f"with code {code}"
    said = [line.strip() for line in child.log if line.strip()]
    memory = " (the system does so when memory runs out)" if code == -9 else ""
    return f"its process ended {how}{memory}{': ' + said[-1] if said else ''}"
