"""The other end of the background worker: what a panel or a script holds."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ..child import Child, python_command
from ..data.case import Case
from ..data.volume import Volume
from ..errors import Cancelled, InputError, MissingPackageError, XTLError
from ..progress import Progress, ProgressEvent
from .exchange import ExchangeFolder, Result, pack_case, pack_findings, pack_volume, unpack_result
from .exchange_history import pack_time_points, unpack_history
from .longitudinal import ChangeRules, LongitudinalResult, TimePoint
from .worker import IDLE_S

_EVENT_FIELDS = {field.name for field in fields(ProgressEvent)}
_CANCEL_GRACE_S = 1.5  # then the process is ended; the next job starts a new one
_SILENCE_S = 30.0  # without a heartbeat, after which the worker is taken for dead
_POLL_S = 0.01
_Pack = Callable[[ExchangeFolder], dict[str, Any]]  # what goes to the worker beside the request
_Unpack = Callable[[dict[str, Any], ExchangeFolder], Any]
_ERRORS = {"input": InputError, "missing-package": MissingPackageError}


class Job:
    """One piece of work on its way through the worker. The owner calls :meth:`poll` now and then."""

    def __init__(self, worker: InferenceWorker, request: dict[str, Any], pack: _Pack, unpack: _Unpack) -> None:
        self._worker, self._request, self._pack, self._unpack = worker, request, pack, unpack
        self._is_heard = False
        self._result: Any = None
        self._error: BaseException | None = None
        self._cancelled_at: float | None = None
        self.is_done = False
        self.details: tuple[str, ...] = ()

    def poll(self) -> list[ProgressEvent]:
        """What the worker reported since the last call; also carries a cancel, and a worker's death, through."""
        if self.is_done:
            return []
        events = []
        try:
            self._worker._hand_over()
        except XTLError as error:
            self._error = error
            self._end()
            return []
        for message in self._worker._messages():
            if message.get("id") == self._request["id"]:
                self._is_heard = True
                events += self._understand(message)
        if not self.is_done:
            self._watch()
        return events

    def cancel(self) -> None:
        """Stop the job; within two seconds :meth:`poll` finds it done, if need be with the worker ended."""
        if self._cancelled_at is not None or self.is_done:
            return
        self._cancelled_at = time.monotonic()
        if self._worker._is_handing_over:
            self._error = Cancelled("inference")
            self._end()
        else:
            self._worker._send({"do": "cancel", "id": self._request["id"]})

    def result(self) -> Result | LongitudinalResult | None:
        """The result of a job that is done; None after ``warm``.

        Raises
        ------
        Cancelled : it was stopped.
        InputError, MissingPackageError : as the same call in this process would.
        XTLError : the worker ended or failed; ``details`` then has its last lines.
        """
        if self._error is not None:
            raise self._error
        return self._result

    def wait(self, progress: Progress | None = None) -> Result | LongitudinalResult | None:
        """Block until the job is done, passing on its reports and a cancel; then :meth:`result`."""
        progress = progress or Progress()
        stage, fraction = "Starting the worker", 0.0
        while not self.is_done:
            for event in self.poll():
                stage, fraction = event.stage, event.fraction
            try:
                progress.report(stage, fraction)
            except Cancelled:
                self.cancel()
            time.sleep(_POLL_S)
        return self.result()

    def _understand(self, message: dict[str, Any]) -> list[ProgressEvent]:
        kind = message.get("type")
        if kind == "progress":
            return [ProgressEvent(**{key: value for key, value in message.items() if key in _EVENT_FIELDS})]
        if kind == "result" and self._cancelled_at is None:
            data = message["result"]
            try:
                self._result = self._unpack(data, self._worker._folder) if data else None
            except (OSError, ValueError, KeyError) as error:
                self._error = XTLError(f"the worker's result cannot be read ({error})", "Try again")
            self._end()
        elif kind in ("result", "cancelled"):
            self._error = Cancelled("inference")
            self._end()
        elif kind == "error":
            self.details = tuple(message.get("log", ()))
            self._error = _ERRORS.get(message.get("code"), XTLError)(message["message"], message["hint"])
            self._error.code = message.get("code", "")
            self._error.anonymous = tuple(message.get("anonymous", ()))
            self._end()
        return []

    def _watch(self) -> None:
        """End what does not answer, and notice what has ended."""
        now = time.monotonic()
        if self._cancelled_at is not None and now - self._cancelled_at > _CANCEL_GRACE_S:
            self._worker._abandon()
            self._error = Cancelled("inference")
            self._end()
        elif not self._worker._is_there(with_messages=True):
            if self._worker._ended_idle() and not self._is_heard and self._cancelled_at is None:
                self._worker._post(self._request, self._pack)  # it ended just as the job was on its way
                return
            self.details = self._worker._last_words()
            self._worker._abandon()
            self._error = Cancelled("inference") if self._cancelled_at is not None else _worker_died()
            self._end()

    def _end(self) -> None:
        self.is_done = True
        self._worker._finished(self)


def _worker_died() -> XTLError:
    error = XTLError(
        "the background worker ended unexpectedly; the scene is as it was",
        "Press Apply again; if it happens again, close other programs, as memory may have run out",
    )
    error.code = "died"
    return error


class InferenceWorker:
    """Starts the worker process when it is first needed, and again when it has ended.

    Parameters
    ----------
    idle_s : seconds without a job after which the process ends by itself.
    """

    def __init__(self, idle_s: float = IDLE_S) -> None:
        self._idle_s = idle_s
        self._child: Child | None = None
        self._folder: ExchangeFolder | None = None
        self._job: Job | None = None
        self._count = 0
        self._heard = 0.0
        self._held: str | None = None  # key of the case that the process keeps
        self._unsent: dict[str, Any] | None = None  # a request whose arrays are being written

    @property
    def pid(self) -> int | None:
        """Of the worker process; None when there is none."""
        return self._child.pid if self._child is not None and self._child.is_alive else None

    @property
    def is_busy(self) -> bool:
        """Whether a job is under way."""
        return self._job is not None

    def warm(self, bundle: str | os.PathLike) -> Job:
        """Start the process and load a bundle ahead of its first case."""
        return self._submit("warm", lambda folder: {}, lambda data, folder: None, bundle=_absolute(bundle))

    def segment(self, case: Case, bundle: str | os.PathLike, *, tissue: Volume | None = None, **options: Any) -> Job:
        """``inference.segment.segment_case`` with a bundle's folder, in the background; its options are passed on.

        Parameters
        ----------
        tissue : a tissue segmentation with FreeSurfer's labels: lesions get locations. One that cannot be used costs
            no more than those; a note of the result then says so.
        """

        def pack(folder: ExchangeFolder) -> dict[str, Any]:
            packed = {"case": pack_case(case, folder)}
            return packed if tissue is None else {**packed, "tissue": pack_volume(tissue, folder)}

        return self._submit(
            "segment",
            pack,
            lambda data, folder: unpack_result(data, folder, case),
            bundle=_absolute(bundle),
            options=options,
        )

    def classify(
        self,
        case: Case,
        bundle: str | os.PathLike | Sequence[str | os.PathLike],
        *,
        case_key: str | None = None,
        **options: Any,
    ) -> Job:
        """``inference.classify.classify_case`` with one bundle's folder or several, in the background.

        Parameters
        ----------
        case_key : names one state of the case's images. Another call with this key, and with images of the same names
            and grids, sends the findings only: the worker has the images, prepared. None: they are sent every time.
        options : of ``classify_case``, passed on.
        """
        paths = [bundle] if isinstance(bundle, (str, os.PathLike)) else bundle
        key = None if case_key is None else _key_of(case_key, case)

        def pack(folder: ExchangeFolder) -> dict[str, Any]:
            is_there, self._held = key is not None and self._held == key, None
            return {"case": pack_findings(case) if is_there else pack_case(case, folder)}

        def unpack(data: dict[str, Any], folder: ExchangeFolder) -> Result:
            self._held = key  # only a job that went well says for sure what the worker holds
            return unpack_result(data, folder, case)

        folders = [_absolute(path) for path in paths]
        return self._submit("classify", pack, unpack, bundle=folders, case_key=key, options=options)

    def compare(self, points: Sequence[TimePoint], rules: ChangeRules | None = None, register: bool = True) -> Job:
        """``inference.longitudinal.compare_over_time`` in the background."""
        names = tuple(point.name for point in points)
        return self._submit(
            "compare",
            lambda folder: {"time_points": pack_time_points(points, folder)},
            lambda data, folder: unpack_history(data, folder, names),
            options={"register": register, "rules": asdict(rules or ChangeRules())},
        )

    def close(self) -> None:
        """End the process and remove its files, whatever it does."""
        if self._job is not None:
            self._job.cancel()
        self._abandon()

    def _submit(self, kind: str, pack: _Pack, unpack: _Unpack, **content: Any) -> Job:
        if self._job is not None:
            raise XTLError("the background worker is busy", "Wait for the present work, or cancel it")
        self._count += 1
        request = {"do": kind, "id": self._count, **content}
        self._post(request, pack)
        self._job = Job(self, request, pack, unpack)
        return self._job

    def _post(self, request: dict[str, Any], pack: _Pack) -> None:
        self._messages()  # heartbeats of the time between two jobs
        if not self._is_there():
            self._start()
        self._folder.clear()
        self._unsent = {**request, **pack(self._folder)}
        if self._folder.is_written:
            self._hand_over()

    @property
    def _is_handing_over(self) -> bool:
        return self._unsent is not None

    def _hand_over(self) -> None:
        """Write some of the arrays of a request, and after the last one send it. Raises XTLError for lack of room."""
        if self._unsent is None:
            return
        self._folder.write_some()
        if self._folder.is_written:
            message, self._unsent = self._unsent, None
            self._send(message)  # a worker that is gone is noticed by the job's next look

    def _start(self) -> None:
        self._abandon()
        self._folder = ExchangeFolder(in_pieces=True)
        arguments = ["--folder", str(self._folder.path), "--idle", str(self._idle_s)]
        self._child = Child(python_command("XTLLib.inference.worker", arguments), "the background worker")
        try:
            self._child.start()
        except XTLError:
            self._abandon()
            raise
        self._heard = time.monotonic()

    def _is_there(self, with_messages: bool = False) -> bool:
        """Whether the process is at work; or, ``with_messages``, has at least something left to say."""
        if self._child is None or time.monotonic() - self._heard > _SILENCE_S:
            return False
        if with_messages:
            return self._child.is_running
        return self._child.is_alive and self._folder.path.is_dir()

    def _ended_idle(self) -> bool:
        return self._child is not None and self._child.wait(0) == 0

    def _messages(self) -> list[dict[str, Any]]:
        found = self._child.messages() if self._child is not None else []
        if found:
            self._heard = time.monotonic()
        return found

    def _send(self, message: dict[str, Any]) -> None:
        if self._child is not None:
            self._child.send(message)

    def _last_words(self) -> tuple[str, ...]:
        return self._child.log if self._child is not None else ()

    def _finished(self, job: Job) -> None:
        if self._job is job:
            self._job = self._unsent = None
        if self._folder is not None:
            self._folder.clear()

    def _abandon(self) -> None:
        """End the process, if any, and remove its files."""
        self._held = self._unsent = None
        child, self._child = self._child, None
        if child is not None:
            child.close()
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.remove()


def _key_of(case_key: str, case: Case) -> str:
    """The caller's key with what the images are called and where they lie, so that a wrong one is found out early."""
    grids = [(name, v.array.dtype.str, v.grid.shape, v.grid.ijk_to_ras.tolist()) for name, v in case.channels.items()]
    return json.dumps([case_key, case.reference, grids])


def _absolute(path: str | os.PathLike) -> str:
    return str(Path(path).absolute())
