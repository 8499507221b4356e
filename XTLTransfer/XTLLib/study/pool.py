"""What a study asks of the processes that do its runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .task import RunTask


@dataclass(frozen=True)
class RunReport:
    """Word of a run from where it is done.

    Attributes
    ----------
    key : of the run. state : "progress", "done", "failed" (it told why), or "died" (its process is gone).
    fraction, stage : how far it is, and at what. message : why it failed.
    """

    key: str
    state: str
    fraction: float = 0.0
    stage: str = ""
    message: str = ""


class Pool(Protocol):
    """Takes runs while a place is free, and tells what becomes of them."""

    @property
    def places(self) -> int:
        """How many runs it does at the same time."""

    @property
    def is_free(self) -> bool:
        """Whether it takes another run now."""

    def submit(self, task: RunTask) -> None:
        """Begin a run."""

    def poll(self, timeout_s: float) -> list[RunReport]:
        """What has been reported, waiting for a report for at most so long."""

    def close(self, patience_s: float) -> None:
        """End all processes; runs under way have so many seconds to leave a checkpoint."""
