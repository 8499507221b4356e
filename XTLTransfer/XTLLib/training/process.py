"""``xtl train`` as a child process: started, listened to and stopped without blocking the caller."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..child import python_command
from ..errors import Cancelled
from .command_process import CommandProcess


class ChainProcess(CommandProcess):
    """A transfer chain that trains in a process of its own.

    Parameters
    ----------
    chain : the chain file. out : the output folder.
    resume : continue an earlier run in ``out``.
    changes : KEY=VALUE words that take the place of what the chain file says.
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
        changes: Sequence[str] = (),
        device: str = "auto",
        grace_s: float = 20.0,
        command: Sequence[str] | None = None,
    ) -> None:
        self.out = Path(out)
        command = list(command) if command else train_command(chain, out, resume=resume, changes=changes, device=device)
        super().__init__(command, "the training process", "xtl train", grace_s)

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
        raise self._failure(code, "Put it right and start again with Resume")


def train_command(
    chain: str | os.PathLike,
    out: str | os.PathLike,
    *,
    resume: bool,
    device: str,
    changes: Sequence[str] = (),
) -> list[str]:
    """The command line of ``xtl train`` with JSON progress, run by this Python."""
    options = ["--resume"] if resume else []
    options += [word for change in changes for word in ("--set", change)]
    arguments = ["train", str(chain), "--out", str(out), "--device", device, "--progress", "json", *options]
    return python_command("XTLLib.cli", arguments)
