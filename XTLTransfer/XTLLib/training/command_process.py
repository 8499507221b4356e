"""A command of ``xtl`` as a child process: started, listened to and stopped without blocking the caller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from ..child import Child
from ..errors import InputError, XTLError
from ..progress import ProgressEvent

_EVENT_FIELDS = {field.name for field in fields(ProgressEvent)}


class CommandProcess:
    """The part that all commands have in common; the subclasses say what their result is.

    The owner calls :meth:`poll` now and then (a timer in a panel, a loop in a script). Nothing here
    blocks, except :meth:`close`, which waits for the system to end the process.

    Parameters
    ----------
    command : what to run; it speaks the JSON lines of ``--progress json``.
    name : of the process in messages. terminal : the command that a user may run to see more.
    grace_s : seconds that the child has to end by itself after a cancel; then its process group is ended.
    """

    def __init__(self, command: Sequence[str], name: str, terminal: str, grace_s: float) -> None:
        self._child = Child(command, name)
        self._name, self._terminal, self._grace_s = name, terminal, grace_s
        self._error = ""

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

    def close(self, patience_s: float = 0.0) -> None:
        """End the child and what it started; for a parent that goes away.

        Parameters
        ----------
        patience_s : seconds that the child has to tidy up (a training leaves a checkpoint) and end by itself.
        """
        if patience_s > 0 and self._child.is_alive:
            self._child.cancel()
            self._child.wait(patience_s)
        self._child.close()

    def _understand(self, message: Mapping[str, Any]) -> ProgressEvent | None:
        if message.get("type") == "error":
            self._error = str(message.get("message", ""))
        if message.get("type") != "progress":
            return None
        return ProgressEvent(**{key: value for key, value in message.items() if key in _EVENT_FIELDS})

    def _failure(self, code: int | None, remedy: str) -> XTLError:
        """The child's own message "what. remedy." as an error; ``remedy`` where it gave none."""
        message = (self._error or self._last_words()).rstrip(". ")
        if not message:
            return XTLError(
                f"{self._name} ended with code {code} and no message", f"Run {self._terminal} on a terminal to see more"
            )
        kind = InputError if code == 2 else XTLError
        what, stop, own = message.rpartition(". ")
        return kind(what, own) if stop else kind(message, remedy)

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._child.log if line.strip()]
        return lines[-1].removeprefix("xtl: error: ") if lines else ""
