"""The background worker: a process that stays warm and applies bundles to cases.

Protocol, one JSON object a line
--------------------------------
To the worker, on stdin::

    {"do": "segment", "id": 1, "bundle": path, "case": {...}, "options": {...}}   see exchange.pack_case; "tissue"
                                                                                  may be added: locations
    {"do": "classify", "id": 2, "bundle": [path, ...], "case": {...}, "case_key": null, "options": {...}}
    {"do": "compare", "id": 3, "time_points": [...], "options": {...}}            see exchange_history
    {"do": "warm", "id": 4, "bundle": path}         load a bundle ahead of its first case
    {"do": "cancel", "id": 1}                       stop that job at its next report
    {"do": "stop"}                                  end after the present job

From the worker, on stdout::

    {"type": "ready", "pid": 4711, "version": "0.1.0"}
    {"type": "heartbeat"}                           once a second, whatever it does
    {"type": "progress", "id": 1, "stage": ..., "fraction": ..., "elapsed_s": ..., "eta_s": ..., "figures": {}}
    {"type": "result", "id": 1, "result": {...}}    see exchange.pack_result; {} after "warm"; pack_history
    {"type": "error", "id": 1, "code": "input", "message": ..., "hint": ..., "anonymous": [...],
     "log": [...]}
    {"type": "cancelled", "id": 1}

A case that comes with a ``case_key`` is kept, prepared, until one of another key comes. ``"case": {"findings":
[...]}``, without channels, then stands for the kept case of that key with other findings.

``code`` is ``input`` (something the user can put right), ``missing-package``, ``memory``, ``disk``, ``permission``
or ``internal``; ``log`` is the tail of the traceback of the last kind, and ``anonymous`` says where it happened in
lines that name no file and no patient (failures.anonymous_lines). Arrays go through files of the exchange folder.
The worker ends when its stdin ends (the parent is gone), after an idle time, or when asked to; it then removes the
exchange folder.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import sys
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

from .. import __version__
from ..data.case import Case
from ..errors import Cancelled, InputError, MissingPackageError, XTLError
from ..failures import anonymous_lines, explain
from ..progress import Progress, ProgressEvent
from .device import pick_device
from .exchange import ExchangeFolder, pack_result, unpack_case, unpack_findings, unpack_volume
from .exchange_history import pack_history, unpack_time_points
from .patch_sources import PatchSources
from .results import SegmentationResult

HEARTBEAT_S = 1.0
IDLE_S = 900.0
_GRACE_S = 2.0  # for a job to stop once the parent is gone
_KEPT_BUNDLES = 2
_TRACEBACK_LINES = 12
_CODES = {"missing package": "missing-package", "memory": "memory", "disk full": "disk", "no permission": "permission"}


class Worker:
    """Reads jobs from ``incoming``, does one after the other, and answers on ``outgoing``."""

    def __init__(self, folder: ExchangeFolder, incoming: TextIO, outgoing: TextIO, idle_s: float = IDLE_S) -> None:
        self._folder, self._incoming, self._outgoing, self._idle_s = folder, incoming, outgoing, idle_s
        self._jobs: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._writing = threading.Lock()
        self._cancelled: set[int] = set()
        self._parent_is_gone = threading.Event()
        self._bundles: OrderedDict[tuple, Any] = OrderedDict()
        self._kept: tuple[str, Case, PatchSources] | None = None  # the latest case with a key

    def run(self) -> None:
        """Work until stdin ends, ``stop`` comes, or nothing has come for the idle time."""
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()
        # The slowest part of the first job: done while the user still chooses, or while its images are prepared.
        threading.Thread(target=import_module, args=("torch",)).start()
        self._say(type="ready", pid=os.getpid(), version=__version__)
        while True:
            try:
                job = self._jobs.get(timeout=self._idle_s)
            except queue.Empty:
                return
            if job is None:
                return
            self._do(job)

    def _do(self, job: dict[str, Any]) -> None:
        number = job.get("id", 0)
        try:
            result = self._result_of(job, Progress(self._sink(number), lambda: self._is_cancelled(number)))
        except Cancelled:
            self._say(type="cancelled", id=number)
        except MissingPackageError as error:
            self._fail(number, "missing-package", error.what, error.remedy, error)
        except XTLError as error:
            self._fail(number, "input", error.what, error.remedy, error)
        except Exception as error:
            failure = explain(error)
            what, hint, log = failure.what, failure.remedy, None
            if failure.kind == "unexpected":
                what, hint = f"unexpected {type(error).__name__}: {error}", "Report it with the details"
                log = traceback.format_exc().splitlines()[-_TRACEBACK_LINES:]
            self._fail(number, _CODES.get(failure.kind, "internal"), what, hint, error, log)
        else:
            self._say(type="result", id=number, result=result)
        self._cancelled.discard(number)

    def _result_of(self, job: dict[str, Any], progress: Progress) -> dict[str, Any]:
        from .classify import classify_case, ready_networks
        from .segment import ready_network, segment_case

        if job.get("do") == "compare":
            return self._comparison_of(job, progress)
        if job.get("do") not in ("segment", "classify", "warm"):
            raise XTLError(f"the worker does not know how to {job.get('do')!r}", "Update XTL on both sides")
        progress.report("Loading the bundle", 0.0)
        paths = job["bundle"] if isinstance(job["bundle"], list) else [job["bundle"]]
        bundles = [self._bundle(Path(path), len(paths)) for path in paths]
        if job["do"] == "warm":
            if bundles[0].task == "segmentation":
                ready_network(bundles[0])
            else:
                ready_networks(bundles[0], pick_device())
            return {}
        if job["do"] == "segment":
            case = unpack_case(job["case"], self._folder)
            result = segment_case(case, bundles[0], progress=progress, **job.get("options", {}))
            if "tissue" in job:
                result = self._located(result, job["tissue"])
        else:
            case, sources = self._case_of(job)
            result = classify_case(case, bundles, progress=progress, sources=sources, **job.get("options", {}))
        return pack_result(result, self._folder)

    def _located(self, result: SegmentationResult, tissue: dict[str, Any]) -> SegmentationResult:
        """With locations, where they can be had: the lesions are worth keeping without them."""
        from .location import with_locations

        try:
            return with_locations(result, unpack_volume(tissue, self._folder))
        except InputError as error:
            return replace(result, notes=(*result.notes, str(error)))

    def _case_of(self, job: dict[str, Any]) -> tuple[Case, PatchSources]:
        """The case of a classification, with what is prepared of it."""
        key, sent = job.get("case_key"), job["case"]
        if key is None:
            return unpack_case(sent, self._folder), PatchSources()
        if "channels" in sent:
            self._kept = key, unpack_case(sent, self._folder, take=True), PatchSources()
        if self._kept is None or self._kept[0] != key:
            raise XTLError("the worker does not have the images any more", "Try again")
        _, case, sources = self._kept
        return replace(case, findings=unpack_findings(sent["findings"])), sources

    def _comparison_of(self, job: dict[str, Any], progress: Progress) -> dict[str, Any]:
        from .longitudinal import ChangeRules, compare_over_time

        points, options = unpack_time_points(job["time_points"], self._folder), job.get("options", {})
        rules = ChangeRules(**options.get("rules", {}))
        result = compare_over_time(points, rules, register=options.get("register", True), progress=progress)
        return pack_history(result, self._folder)

    def _bundle(self, path: Path, together: int) -> Any:
        """A bundle, whose network is read when it is needed, kept until others take its place or its files change.

        ``together``: so many are used at a time.
        """
        from ..bundle.load import read_bundle

        files = sorted(file for file in path.rglob("*") if file.is_file())
        key = (path, *((file, file.stat().st_mtime_ns, file.stat().st_size) for file in files))
        if key not in self._bundles:
            self._bundles[key] = read_bundle(path)
        self._bundles.move_to_end(key)
        while len(self._bundles) > max(_KEPT_BUNDLES, together):
            self._bundles.popitem(last=False)
        return self._bundles[key]

    def _listen(self) -> None:
        with suppress(ValueError):
            for line in self._incoming:
                try:
                    message = json.loads(line)
                except ValueError:
                    continue
                if message.get("do") == "cancel":
                    self._cancelled.add(message.get("id", 0))
                elif message.get("do") == "stop":
                    self._jobs.put(None)
                else:
                    self._jobs.put(message)
        self._parent_is_gone.set()
        self._jobs.put(None)
        threading.Timer(_GRACE_S, self._leave).start()

    def _leave(self) -> None:
        """End in the midst of a computation that nobody waits for any more."""
        self._folder.remove()
        os._exit(0)

    def _beat(self) -> None:
        while not self._parent_is_gone.wait(HEARTBEAT_S):
            self._say(type="heartbeat")

    def _is_cancelled(self, number: int) -> bool:
        return number in self._cancelled or self._parent_is_gone.is_set()

    def _sink(self, number: int) -> Callable[[ProgressEvent], None]:
        return lambda event: self._say(type="progress", id=number, **asdict(event))

    def _fail(
        self, number: int, code: str, what: str, hint: str, error: BaseException, log: list[str] | None = None
    ) -> None:
        anonymous = anonymous_lines(error)
        self._say(type="error", id=number, code=code, message=what, hint=hint, anonymous=anonymous, log=log or [])

    def _say(self, **message: Any) -> None:
        with self._writing, suppress(OSError, ValueError):  # a parent that is gone is noticed on stdin
            self._outgoing.write(json.dumps(message) + "\n")
            self._outgoing.flush()


def main(argv: list[str] | None = None) -> int:
    """Run a worker on this process's stdin and stdout."""
    parser = argparse.ArgumentParser(prog="xtl-worker", description="The background worker of XTL's panels.")
    parser.add_argument("--folder", type=Path, required=True, help="exchange folder")
    parser.add_argument("--idle", type=float, default=IDLE_S, metavar="S", help="seconds without a job before it ends")
    arguments = parser.parse_args(argv)
    # Libraries that print must not get between the messages.
    outgoing = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    leave_a_core()
    folder = ExchangeFolder(arguments.folder)
    try:
        Worker(folder, sys.stdin, outgoing, arguments.idle).run()
    finally:
        folder.remove()
    return 0


def leave_a_core() -> None:
    """Keep the user's windows alive: one core stays free where there are more than two; all work is at low priority."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores > 2:
        os.environ.setdefault("OMP_NUM_THREADS", str(cores - 1))  # read when torch is imported
    if hasattr(os, "nice"):
        with suppress(OSError):
            os.nice(5)


if __name__ == "__main__":
    sys.exit(main())
