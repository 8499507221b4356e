"""``xtl adapt`` as a child process: started, listened to and stopped without blocking the caller."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..child import python_command
from ..errors import Cancelled
from ..progress import ProgressEvent
from .adapt_outcome import AdaptationOutcome
from .command_process import CommandProcess

_LAST_LINES_S = 5.0  # after the end of the process


class AdaptProcess(CommandProcess):
    """An adaptation to one corrected case in a process of its own; one that is not finished leaves nothing.

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
        super().__init__(command, "the adaptation process", "xtl adapt", grace_s)
        self._outcome: AdaptationOutcome | None = None

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
        raise self._failure(code, "Put it right and start again")

    def _understand(self, message: Mapping[str, Any]) -> ProgressEvent | None:
        if message.get("type") == "result":
            self._outcome = AdaptationOutcome.from_dict(message)
        return super()._understand(message)


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
