"""``xtl adapt`` as a child process: started, listened to and stopped without blocking the caller."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from ..child import Child, python_command
from ..errors import Cancelled, XTLError
from ..progress import ProgressEvent
from .adapt_outcome import AdaptationOutcome

_LAST_LINES_S = 5.0  # after the end of the process
_EVENT_FIELDS = {field.name for field in fields(ProgressEvent)}


class AdaptProcess:
    """An adaptation to one corrected case in a process of its own.

    The owner calls :meth:`poll` now and then (a timer in a panel, a loop in a script). Nothing here
    blocks, except :meth:`close`, which waits for the system to end the process.

    Parameters
    ----------
    bundle : folder of the model. volumes : channel -> image file. mask : the corrected mask.
    out : folder of the adapted model.
    options : further words of the command line, for example ``("--steps", "50", "--force")``.
    device : "auto", "cpu", "cuda" or "cuda:N".
    grace_s : seconds that the child has to end by itself after a cancel; then its process group is ended.
    command : what to run instead of ``xtl adapt ...``; it has to speak the same JSON lines.
    """

    def __init__(
        self,
        bundle: str | os.PathLike,
        volumes: Mapping[str, str | os.PathLike],
        mask: str | os.PathLike,
        out: str | os.PathLike,
        *,
        options: Sequence[str] = (),
        device: str = "auto",
        grace_s: float = 20.0,
        command: Sequence[str] | None = None,
    ) -> None:
        command = list(command) if command else adapt_command(bundle, volumes, mask, out, options, device)
        self._child = Child(command, "the adaptation process")
        self._grace_s = grace_s
        self._error = ""
        self._outcome: AdaptationOutcome | None = None

    def start(self) -> None:
        """Start the child. Raises XTLError when the system refuses."""
        self._child.start()

    @property
    def is_running(self) -> bool:
        """Whether the child is at work, or has ended with lines still to be polled."""
        return self._child.is_running

    @property
    def is_cancelling(self) -> bool:
        """Whether a cancel was asked for."""
        return self._child.is_cancelling

    def poll(self) -> list[ProgressEvent]:
        """What the child reported since the last call, in order; also carries a cancel through."""
        events = [event for message in self._child.messages() if (event := self._understand(message))]
        self._child.press_cancel(self._grace_s)
        return events

    def cancel(self) -> None:
        """Ask the child to stop at its next report; :meth:`poll` ends its process group when it does not."""
        self._child.cancel()

    def result(self) -> AdaptationOutcome:
        """What came of an ended run; look at ``refused``: an adaptation that is no better writes no bundle.

        Raises
        ------
        Cancelled : the run was stopped.
        XTLError : it failed; the message is the child's own.
        """
        code = self._child.wait()
        deadline = time.monotonic() + _LAST_LINES_S
        while self._child.is_running and time.monotonic() < deadline:  # the last lines may still be on their way
            self.poll()
            time.sleep(0.01)
        # A cancel that comes too late does not undo what was written.
        if self._outcome is not None and (code == 0 or self._outcome.refused):
            return self._outcome
        if self._child.is_cancelling and code != 0:
            raise Cancelled("adaptation")
        what, remedy = _split_message(self._error or self._last_words(), code)
        raise XTLError(what, remedy)

    def close(self) -> None:
        """End the child and what it started; an adaptation that was not finished leaves nothing."""
        self._child.close()

    def _understand(self, message: Mapping[str, Any]) -> ProgressEvent | None:
        if message.get("type") == "error":
            self._error = str(message.get("message", ""))
        elif message.get("type") == "result":
            self._outcome = AdaptationOutcome.from_dict(message)
        if message.get("type") != "progress":
            return None
        return ProgressEvent(**{key: value for key, value in message.items() if key in _EVENT_FIELDS})

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._child.log if line.strip()]
        return lines[-1].removeprefix("xtl: error: ") if lines else ""


def adapt_command(
    bundle: str | os.PathLike,
    volumes: Mapping[str, str | os.PathLike],
    mask: str | os.PathLike,
    out: str | os.PathLike,
    options: Sequence[str] = (),
    device: str = "auto",
) -> list[str]:
    """The command line of ``xtl adapt`` with JSON progress, run by this Python."""
    channels = [word for name, path in volumes.items() for word in ("--volume", f"{name}={os.fspath(path)}")]
    case = ["--bundle", os.fspath(bundle), *channels, "--mask", os.fspath(mask), "--out", os.fspath(out)]
    return python_command("XTLLib.cli", ["adapt", *case, "--device", device, "--progress", "json", *options])


def _split_message(message: str, code: int | None) -> tuple[str, str]:
    """An error's text "what. remedy." as the two parts of an XTLError."""
    message = message.rstrip(". ")
    if not message:
        return f"the adaptation process ended with code {code} and no message", "Run xtl adapt on a terminal"
    what, stop, remedy = message.rpartition(". ")
    return (what, remedy) if stop else (message, "Put it right and start again")
