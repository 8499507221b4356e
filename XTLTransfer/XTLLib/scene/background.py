"""One piece of work at a time in a worker process, for a panel that must not block."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from ..errors import Cancelled, XTLError
from ..progress import ProgressEvent


class JobLike(Protocol):
    """What is asked of a job of the worker; see inference.client.Job."""

    is_done: bool
    details: tuple[str, ...]

    def poll(self) -> list[ProgressEvent]: ...
    def cancel(self) -> None: ...
    def result(self) -> Any: ...


class WorkerLike(Protocol):
    """What is asked of a worker; see inference.client.InferenceWorker."""

    def warm(self, bundle: str | os.PathLike) -> JobLike: ...
    def segment(self, case: Any, bundle: str | os.PathLike, **options: Any) -> JobLike: ...
    def classify(self, case: Any, bundle: str | os.PathLike, **options: Any) -> JobLike: ...
    def close(self) -> None: ...


class BackgroundRun:
    """What every kind of work in the background has in common; nothing here blocks.

    The owner calls :meth:`poll` now and then while :attr:`is_active`, and asks for the result once when
    :attr:`is_running` has become False after a start.

    Parameters
    ----------
    worker : None takes a new InferenceWorker, whose process starts with the first job.
    """

    def __init__(self, worker: WorkerLike | None = None) -> None:
        if worker is None:
            from ..inference.client import InferenceWorker

            worker = InferenceWorker()
        self._worker = worker
        self._warming: JobLike | None = None
        self._warmed: Path | None = None
        self._to_warm: Path | None = None
        self._waiting: tuple[Callable[[WorkerLike], JobLike], Path] | None = None
        self._job: JobLike | None = None
        self._failure: XTLError | None = None
        self._is_cancelled = False

    @property
    def is_running(self) -> bool:
        """Whether work is under way."""
        return self._waiting is not None or (self._job is not None and not self._job.is_done)

    @property
    def is_active(self) -> bool:
        """Whether there is anything to poll for."""
        return self.is_running or self._warming is not None or self._to_warm is not None

    def warm(self, bundle: str | os.PathLike) -> None:
        """Let the worker load a bundle while the user still chooses; nothing is said when that fails."""
        path = Path(bundle)
        if path != self._warmed and find_spec("torch") is not None:
            self._warmed = self._to_warm = path

    def poll(self) -> list[ProgressEvent]:
        """What the worker reported since the last call; also carries everything else on."""
        if self._warming is not None:
            events = self._warming.poll()
            if not self._warming.is_done:
                return events if self._waiting is not None else []
            self._warming = None
        if self._waiting is not None:
            self._submit()
        elif self._job is not None and not self._job.is_done:
            return self._job.poll()
        elif self._to_warm is not None:
            path, self._to_warm = self._to_warm, None
            try:
                self._warming = self._worker.warm(path)
            except XTLError:  # Apply will say it
                self._warming = None
        return []

    def cancel(self) -> None:
        """Stop; :meth:`poll` finds it done within two seconds, and asking for the result raises Cancelled."""
        self._is_cancelled = True
        self._waiting = None
        if self._job is not None:
            self._job.cancel()

    @property
    def details(self) -> tuple[str, ...]:
        """The worker's last lines after a failure."""
        return () if self._job is None else tuple(self._job.details)

    def forget(self) -> None:
        """Let go of the last run."""
        self._job = None

    def close(self) -> None:
        """End the worker and remove its files, whatever it does."""
        self.cancel()
        self._to_warm = self._warming = None
        self._worker.close()
        self.forget()

    def _begin(self, submit: Callable[[WorkerLike], JobLike], bundle: str | os.PathLike) -> None:
        """Hand work to the worker, in place of what it does. Raises XTLError when that fails now.

        It waits for a bundle that is being loaded ahead, and for work that it takes the place of to stop.
        """
        if self._job is not None and not self._job.is_done:
            self._job.cancel()
            self._warming = self._job
        self._job, self._failure, self._is_cancelled = None, None, False
        self._to_warm = None
        self._waiting = (submit, Path(bundle))
        if self._warming is None:
            self._submit()
            if self._failure is not None:
                raise self._failure

    def _result(self) -> Any:
        """What the work gave. Raises Cancelled when it was stopped, also late; else what failed, as XTLError."""
        if self._is_cancelled:
            raise Cancelled("inference")
        if self._failure is not None:
            raise self._failure
        return self._job.result()

    def _submit(self) -> None:
        (submit, bundle), self._waiting = self._waiting, None
        try:
            self._job = submit(self._worker)
            self._warmed = bundle
        except XTLError as error:
            self._failure = error


def scene_notes(volumes_gone: list[str], outputs_gone: int) -> tuple[str, ...]:
    """Sentences for the user about nodes that were removed while the work ran."""
    from .words import tr as _

    notes = []
    if volumes_gone:
        notes.append(_("Removed from the scene meanwhile: {names}.").format(names=", ".join(volumes_gone)))
    if outputs_gone:
        notes.append(_("Outputs that were removed meanwhile were made anew."))
    return tuple(notes)
