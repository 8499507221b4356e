"""A child process that speaks JSON lines: started, listened to and stopped without blocking the caller."""

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
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from .errors import XTLError

_LINES_OF_STDERR = 40
# The child takes the library from where this one lies: in Slicer no installed package called XTLLib exists.
_LAUNCH = "import sys; sys.path.insert(0, {folder!r}); from {module} import main; sys.exit(main())"
# glibc keeps freed pages: a CPU then computes up to twice as fast; without effect elsewhere.
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "1000000000000"}


class Child:
    """A process in a group of its own, with JSON objects, one a line, on its stdin and stdout.

    Nothing here blocks, except :meth:`close`, which waits for the system to end the process.

    Parameters
    ----------
    command : what to run. name : what to call it in messages.
    """

    def __init__(self, command: Sequence[str], name: str) -> None:
        self._command, self._name = list(command), name
        self._process: subprocess.Popen | None = None
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._stderr: deque[str] = deque(maxlen=_LINES_OF_STDERR)
        self._readers: list[threading.Thread] = []
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
                env={**ALLOCATOR, **os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"},
                **group,
            )
        except OSError as error:
            raise XTLError(
                f"{self._name} cannot be started ({error.strerror}: {self._command[0]})",
                "Check that this Python installation is complete",
            ) from error
        self._readers = [
            threading.Thread(target=_read_lines, args=(self._process.stdout, self._lines.put), daemon=True),
            threading.Thread(target=_read_lines, args=(self._process.stderr, self._stderr.append), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int | None:
        """Of the process, and of its group."""
        return None if self._process is None else self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def is_running(self) -> bool:
        """Whether the child is at work, or has ended with messages still to be read."""
        if self._process is None:
            return False
        ended = not self.is_alive and not any(reader.is_alive() for reader in self._readers)
        return not (ended and self._lines.empty())

    @property
    def is_cancelling(self) -> bool:
        """Whether a cancel was asked for."""
        return self._cancelled_at is not None

    @property
    def log(self) -> tuple[str, ...]:
        """The last lines that the child wrote beside its messages."""
        return tuple(self._stderr)

    def send(self, message: Mapping[str, Any] | str) -> bool:
        """Write an object, or a bare word, as a line; False when nobody reads any more."""
        text = message if isinstance(message, str) else json.dumps(message)
        try:
            self._process.stdin.write(text + "\n")
            self._process.stdin.flush()
        except (OSError, ValueError, AttributeError):  # gone, closed, or never started
            return False
        return True

    def messages(self) -> list[dict[str, Any]]:
        """The objects that came since the last call; other lines, of a library that prints, go to the log."""
        found = []
        while True:
            try:
                line = self._lines.get_nowait()
            except queue.Empty:
                return found
            try:
                message = json.loads(line)
            except ValueError:
                message = None
            if isinstance(message, dict):
                found.append(message)
            else:
                self._stderr.append(line)

    def cancel(self) -> None:
        """Send the word ``cancel``; :meth:`press_cancel` ends the group when that is not heard."""
        if self._process is None or self._cancelled_at is not None:
            return
        self._cancelled_at = time.monotonic()
        self.send("cancel")

    def press_cancel(self, grace_s: float) -> None:
        """End the group politely ``grace_s`` seconds after a cancel, and forcibly a quarter of that later."""
        if self._cancelled_at is None or not self.is_alive:
            return
        now = time.monotonic()
        if self._terminated_at is None and now - self._cancelled_at > grace_s:
            self._terminated_at = now
            self.end(forcibly=False)
        elif self._terminated_at is not None and now - self._terminated_at > grace_s / 4:
            self.end(forcibly=True)

    def wait(self, timeout_s: float | None = None) -> int | None:
        """The exit code; None when the process was never started or is still at work after ``timeout_s``."""
        if self._process is None:
            return None
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout_s)
        return None

    def end(self, forcibly: bool) -> None:
        """Ask the system to end the process and what it started."""
        # On Slicer the child is a launcher: ending it alone would leave the Python below it at work.
        if os.name == "nt":
            command = ["taskkill", "/T", "/PID", str(self._process.pid), *(["/F"] if forcibly else [])]
            subprocess.run(command, capture_output=True, check=False)
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL if forcibly else signal.SIGTERM)

    def close(self) -> None:
        """End the child and what it started, now."""
        if self._process is None:
            return
        if self.is_alive:
            self.end(forcibly=True)
            self._process.wait()
        for reader in self._readers:
            reader.join(timeout=2.0)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            with suppress(OSError):  # a message that the child did not live to read
                stream.close()


def python_command(module: str, arguments: Sequence[str]) -> list[str]:
    """The command line that runs ``main`` of a module of this library with this Python."""
    library = Path(__file__).resolve().parents[1]
    return [sys.executable, "-c", _LAUNCH.format(folder=str(library), module=module), *arguments]


def _read_lines(stream: IO[str], take) -> None:
    try:
        for line in stream:
            take(line.rstrip("\n"))
    except ValueError:  # closed by close()
        return
