"""``xtl train`` as a child process: started, listened to and stopped without blocking the caller."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import IO

from ..errors import Cancelled, XTLError
from ..progress import ProgressEvent

_EVENT_FIELDS = {field.name for field in fields(ProgressEvent)}
_LINES_OF_STDERR = 40
# The child takes the library from where this one lies: in Slicer no installed package called XTLLib exists.
_LAUNCH = "import sys; sys.path.insert(0, {folder!r}); from XTLLib.cli import main; sys.exit(main())"
# glibc keeps freed pages: 1.6 times the speed of a training step on CPU; without effect elsewhere.
_ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "1000000000000"}


class ChainProcess:
    """A transfer chain that trains in a process of its own.

    The owner calls :meth:`poll` now and then (a timer in a panel, a loop in a script). Nothing here
    blocks, except :meth:`close`, which waits for the system to end the process.

    Parameters
    ----------
    chain : the chain file. out : the output folder.
    resume : continue an earlier run in ``out``.
    device : "auto", "cpu", "cuda" or "cuda:N".
    grace_s : seconds that the child has to end by itself after a cancel; then its process group is ended.
    command : what to run instead of ``xtl train ...``; it has to speak the same JSON lines.
    """

    def __init__(
        self,
        chain: str | os.PathLike,
        out: str | os.PathLike,
        *,
        resume: bool = False,
        device: str = "auto",
        grace_s: float = 20.0,
        command: Sequence[str] | None = None,
    ) -> None:
        self.out = Path(out)
        self._command = list(command) if command else train_command(chain, out, resume=resume, device=device)
        self._grace_s = grace_s
        self._process: subprocess.Popen | None = None
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._stderr: deque[str] = deque(maxlen=_LINES_OF_STDERR)
        self._readers: list[threading.Thread] = []
        self._error = ""
        self._cancelled_at: float | None = None
        self._terminated_at: float | None = None

    def start(self) -> None:
        """Start the child. Raises XTLError when the system refuses."""
        group = (
            {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if os.name == "nt" else {"start_new_session": True}
        )
        try:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                env={**_ALLOCATOR, **os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"},
                **group,
            )
        except OSError as error:
            raise XTLError(
                f"the training process cannot be started ({error.strerror}: {self._command[0]})",
                "Check that this Python installation is complete",
            ) from error
        self._readers = [
            threading.Thread(target=_read_lines, args=(self._process.stdout, self._lines.put), daemon=True),
            threading.Thread(target=_read_lines, args=(self._process.stderr, self._stderr.append), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def is_running(self) -> bool:
        """Whether the child is at work, or has ended with lines still to be polled."""
        if self._process is None:
            return False
        ended = self._process.poll() is not None and not any(reader.is_alive() for reader in self._readers)
        return not (ended and self._lines.empty())

    @property
    def is_cancelling(self) -> bool:
        """Whether a cancel was asked for."""
        return self._cancelled_at is not None

    def poll(self) -> list[ProgressEvent]:
        """What the child reported since the last call, in order; also carries a cancel through."""
        events = []
        while True:
            try:
                line = self._lines.get_nowait()
            except queue.Empty:
                break
            event = self._understand(line)
            if event is not None:
                events.append(event)
        self._press_cancel()
        return events

    def cancel(self) -> None:
        """Ask the child to stop at its next report; :meth:`poll` ends its process group when it does not."""
        if self._process is None or self._cancelled_at is not None:
            return
        self._cancelled_at = time.monotonic()
        try:
            self._process.stdin.write("cancel\n")
            self._process.stdin.flush()
        except (OSError, ValueError):  # already gone
            return

    def result(self) -> Path:
        """The bundle of an ended run.

        Raises
        ------
        Cancelled : the run was stopped.
        XTLError : it failed; the message is the child's own.
        """
        code = self._process.wait() if self._process else None
        bundle = self.out / "bundle"
        if code == 0 and bundle.is_dir():
            return bundle
        if self._cancelled_at is not None and code != 0:
            raise Cancelled("training")
        what, remedy = _split_message(self._error or self._last_words(), code)
        raise XTLError(what, remedy)

    def close(self, patience_s: float = 0.0) -> None:
        """End the child and what it started; for a parent that goes away.

        Parameters
        ----------
        patience_s : seconds that the child has to leave a checkpoint and end by itself.
        """
        if self._process is None:
            return
        if patience_s > 0 and self._process.poll() is None:
            self.cancel()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(patience_s)
        if self._process.poll() is None:
            self._end_group(forcibly=True)
            self._process.wait()
        for reader in self._readers:
            reader.join(timeout=2.0)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            with suppress(OSError):  # a message that the child did not live to read
                stream.close()

    def _understand(self, line: str) -> ProgressEvent | None:
        try:
            message = json.loads(line)
        except ValueError:
            self._stderr.append(line)  # a library that prints
            return None
        if not isinstance(message, dict):
            return None
        if message.get("type") == "error":
            self._error = str(message.get("message", ""))
        if message.get("type") != "progress":
            return None
        return ProgressEvent(**{key: value for key, value in message.items() if key in _EVENT_FIELDS})

    def _press_cancel(self) -> None:
        if self._cancelled_at is None or self._process.poll() is not None:
            return
        now = time.monotonic()
        if self._terminated_at is None and now - self._cancelled_at > self._grace_s:
            self._terminated_at = now
            self._end_group(forcibly=False)
        elif self._terminated_at is not None and now - self._terminated_at > self._grace_s / 4:
            self._end_group(forcibly=True)

    def _end_group(self, forcibly: bool) -> None:
        # On Slicer the child is a launcher: ending it alone would leave the Python below it at work.
        if os.name == "nt":
            command = ["taskkill", "/T", "/PID", str(self._process.pid), *(["/F"] if forcibly else [])]
            subprocess.run(command, capture_output=True, check=False)
            return
        try:
            os.killpg(self._process.pid, signal.SIGKILL if forcibly else signal.SIGTERM)
        except ProcessLookupError:
            return

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._stderr if line.strip()]
        return lines[-1].removeprefix("xtl: error: ") if lines else ""


def train_command(chain: str | os.PathLike, out: str | os.PathLike, *, resume: bool, device: str) -> list[str]:
    """The command line of ``xtl train`` with JSON progress, run by this Python."""
    library = Path(__file__).resolve().parents[2]
    options = ["--resume"] if resume else []
    launch = _LAUNCH.format(folder=str(library))
    arguments = ["train", str(chain), "--out", str(out), "--device", device, "--progress", "json", *options]
    return [sys.executable, "-c", launch, *arguments]


def _read_lines(stream: IO[str], take) -> None:
    try:
        for line in stream:
            take(line.rstrip("\n"))
    except ValueError:  # closed by close()
        return


def _split_message(message: str, code: int | None) -> tuple[str, str]:
    """An error's text "what. remedy." as the two parts of an XTLError."""
    message = message.rstrip(". ")
    if not message:
        return f"the training process ended with code {code} and no message", "Run xtl train on a terminal to see more"
    what, stop, remedy = message.rpartition(". ")
    return (what, remedy) if stop else (message, "Put it right and start again with Resume")
