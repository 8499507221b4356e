"""Asks a child process what a chosen chain is, so that the window never waits; see training.preview."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

from ..child import Child, python_command
from ..errors import XTLError

_LONGEST = 160  # of the last words of a process that died


@dataclass(frozen=True)
class ChainChoice:
    """What is asked about.

    Attributes
    ----------
    path : of the chain file. base, changes : words KEY=VALUE, as of training.preview.preview_chain.
    out : output folder, "" for none.
    """

    path: str
    base: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    out: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """All changes together, as ``xtl train --set`` takes them."""
        return (*self.base, *self.changes)


class Previewer:
    """Keeps the answer to the latest question; older ones are not waited for.

    Attributes
    ----------
    choice : what was asked last, None for nothing.
    answer : fields of training.preview.ChainPreview, of ``choice`` unless ``is_waiting``, then of one before.
    """

    def __init__(self) -> None:
        self._child: Child | None = None
        self._number = 0
        self.choice: ChainChoice | None = None
        self.answer: Mapping[str, Any] | None = None
        self.is_waiting = False

    @property
    def can_answer(self) -> bool:
        """Whether the packages that read a chain are installed yet."""
        return find_spec("pydantic") is not None and find_spec("yaml") is not None

    def ask(self, choice: ChainChoice | None) -> None:
        """Ask, unless that was asked already. None takes the answer away."""
        if choice == self.choice:
            return
        if choice is None or (self.choice is not None and choice.path != self.choice.path):
            self.answer = None
        self.choice, self.is_waiting = choice, False
        if choice is None or not self.can_answer:
            return
        self._number += 1
        try:
            if self._child is None or not self._child.is_alive:
                self._start()
        except XTLError as error:
            self.answer = {"problem": str(error)}
            return
        self.is_waiting = self._child.send({"number": self._number, **asdict(choice)})

    def forget(self) -> None:
        """Ask anew next time: files may be other ones by now."""
        self.choice, self.is_waiting = None, False

    def poll(self) -> bool:
        """Whether the answer has come since the last call."""
        if not self.is_waiting:
            return False
        for message in self._child.messages():
            if message.get("number") == self._number:
                self.answer, self.is_waiting = message, False
        if self.is_waiting and not self._child.is_running:
            last = (self._child.log or ("it gave no reason",))[-1]
            last = last if len(last) <= _LONGEST else f"{last[:_LONGEST]}…"
            self.answer, self.is_waiting = {"problem": f"The chain cannot be looked at: {last}"}, False
        return not self.is_waiting

    def close(self) -> None:
        """End the process; the answer stays."""
        if self._child is not None:
            self._child.close()
            self._child = None
        self.is_waiting = False

    def _start(self) -> None:
        self.close()
        self._child = Child(python_command("XTLLib.training.preview", []), "the process that looks at chains")
        self._child.start()
