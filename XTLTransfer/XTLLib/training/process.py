"""``xtl train`` as a child process: started, listened to and stopped without blocking the caller."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..child import Child, python_command
from ..errors import Cancelled, XTLError
from ..progress import ProgressEvent

_EVENT_FIELDS = {field.name for field in fields(ProgressEvent)}


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
        command = list(command) if command else train_command(chain, out, resume=resume, device=device)
        self._child = Child(command, "the training process")
        self._grace_s = grace_s
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

    def result(self) -> Path:
        """The bundle of an ended run.

        Raises
        ------
        Cancelled : the run was stopped.
        XTLError : it failed; the message is the child's own.
        """
        code = self._child.wait()
        bundle = self.out / "bundle"
        if code == 0 and bundle.is_dir():
            return bundle
        if self._child.is_cancelling and code != 0:
            raise Cancelled("training")
        what, remedy = _split_message(self._error or self._last_words(), code)
        raise XTLError(what, remedy)

    def close(self, patience_s: float = 0.0) -> None:
        """End the child and what it started; for a parent that goes away.

        Parameters
        ----------
        patience_s : seconds that the child has to leave a checkpoint and end by itself.
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

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._child.log if line.strip()]
        return lines[-1].removeprefix("xtl: error: ") if lines else ""


def train_command(chain: str | os.PathLike, out: str | os.PathLike, *, resume: bool, device: str) -> list[str]:
    """The command line of ``xtl train`` with JSON progress, run by this Python."""
    options = ["--resume"] if resume else []
    arguments = ["train", str(chain), "--out", str(out), "--device", device, "--progress", "json", *options]
    return python_command("XTLLib.cli", arguments)


def _split_message(message: str, code: int | None) -> tuple[str, str]:
    """An error's text "what. remedy." as the two parts of an XTLError."""
    message = message.rstrip(". ")
    if not message:
        return f"the training process ended with code {code} and no message", "Run xtl train on a terminal to see more"
    what, stop, remedy = message.rpartition(". ")
    return (what, remedy) if stop else (message, "Put it right and start again with Resume")
