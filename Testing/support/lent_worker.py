"""A worker process for many panels, which would each start one of their own."""

from __future__ import annotations

import time
from collections.abc import Callable

import slicer


def wait(done: Callable[[], bool], limit_s: float = 90.0) -> None:
    """Let the application work until something is done; fails after the limit."""
    deadline = time.monotonic() + limit_s
    while not done():
        slicer.app.processEvents()
        time.sleep(0.01)
        assert time.monotonic() < deadline, "it took too long"


class Lent:
    """An inference.client.InferenceWorker that outlives the panels."""

    def __init__(self, worker) -> None:
        self._worker = worker

    def __getattr__(self, name: str):
        return getattr(self._worker, name)

    def close(self) -> None:
        """The panel lets go of it: what it does is stopped, the process stays."""
        job = self._worker._job
        if job is not None:
            job.cancel()
            wait(lambda: job.poll() is None or job.is_done)
