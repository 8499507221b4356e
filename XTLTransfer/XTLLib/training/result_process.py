"""A command of ``xtl`` as a child process, for what it finds: a line ``{"type": "result", ...}``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..child import python_command
from ..errors import Cancelled
from ..progress import ProgressEvent
from .command_process import CommandProcess

_LAST_LINES_S = 5.0  # after the end of the process


class ResultProcess(CommandProcess):
    """A command in a process of its own.

    Parameters
    ----------
    words : of the command line, without ``xtl`` and ``--progress json``.
    grace_s : seconds that the child has to end by itself after a cancel; then its process group is ended.
    command : what to run instead; it has to speak the same JSON lines.
    """

    def __init__(self, words: Sequence[str], *, grace_s: float = 20.0, command: Sequence[str] | None = None) -> None:
        command = list(command) if command else python_command("XTLLib.cli", [*words, "--progress", "json"])
        super().__init__(command, f"the process of xtl {words[0]}", f"xtl {words[0]}", grace_s)
        self.latest: dict[str, Mapping[str, Any]] = {}
        """Type of a line -> the latest one of it; "board" for the state of a study."""

    def result(self) -> Mapping[str, Any]:
        """What an ended command found; also where its exit code says that something failed beside it.

        Raises
        ------
        Cancelled : it was stopped.
        XTLError : it failed; the message is the child's own.
        """
        code = self._child.wait()
        deadline = time.monotonic() + _LAST_LINES_S
        while self._child.is_running and time.monotonic() < deadline:  # the last lines may still be on their way
            self.poll()
            time.sleep(0.01)
        if "result" in self.latest:
            return self.latest["result"]
        if self._child.is_cancelling and code != 0:
            raise Cancelled(self._terminal)
        raise self._failure(code, "Put it right and try again")

    def _understand(self, message: Mapping[str, Any]) -> ProgressEvent | None:
        self.latest[str(message.get("type"))] = message
        return super()._understand(message)
