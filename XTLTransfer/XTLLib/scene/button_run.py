"""A button that starts a command in a process of its own and reads Cancel while it runs.

Widgets are known by their properties only, so that no GUI library is needed here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Protocol

from ..errors import Cancelled
from ..progress import ProgressEvent
from .panel import PanelRun

_PATIENCE_S = 2.0  # for the process to end by itself when the panel goes


class ProcessLike(Protocol):
    """What is asked of a process; see training.result_process.ResultProcess."""

    @property
    def is_running(self) -> bool: ...
    def start(self) -> None: ...
    def poll(self) -> list[ProgressEvent]: ...
    def cancel(self) -> None: ...
    def result(self) -> Any: ...
    def close(self, patience_s: float = 0.0) -> None: ...


class ButtonRun:
    """The button, its progress bar, and the sentence beside it.

    Parameters
    ----------
    button, bar, label : widgets. text : of the button while nothing runs.
    failed : what did not come about, a sentence. show_error : shows a failure to the user: that sentence and the error.
    on_end : called when nothing runs any more.
    sections : widgets that are greyed meanwhile. cancelled : what is said after a cancel; default: Cancelled.
    """

    def __init__(
        self,
        button: Any,
        bar: Any,
        label: Any,
        text: str,
        failed: str,
        show_error: Callable[[str, BaseException], None],
        on_end: Callable[[], None],
        sections: Mapping[str, Any] | None = None,
        cancelled: str = "",
    ) -> None:
        from slicer.i18n import tr

        self._failed, self._show_error, self._tr = failed, show_error, tr
        self._cancelled = cancelled or tr("Cancelled.")
        parts = SimpleNamespace(applyButton=button, progressBar=bar, statusLabel=label, **(sections or {}))
        self._run = PanelRun(parts, tuple(sections or ()), lambda: None, on_end, text)
        self._label = label
        self._process: ProcessLike | None = None
        self._take: Callable[[Any], None] | None = None
        self.message = ""

    @property
    def is_running(self) -> bool:
        """Whether the command is at work."""
        return self._run.is_running

    def start(self, make: Callable[[], ProcessLike], take: Callable[[Any], None]) -> bool:
        """Start a command; ``take`` gets its result. False when that failed, which was shown then.

        Parameters
        ----------
        make : gives the command, and sees to what it needs before.
        """
        try:
            process = make()
            process.start()
        except Exception as error:
            self._show_error(self._failed, error)
            return False
        self._process, self._take, self.message = process, take, ""
        self._run.begin()
        self._label.visible = True
        self._label.text = self._tr("Starting ...")
        return True

    def cancel(self) -> None:
        """Stop it; :meth:`tick` finds its end."""
        if self._process is not None:
            self._run.cancel()
            self._process.cancel()

    def tick(self) -> None:
        """Take in what the process reported, and notice its end."""
        if self._process is None:
            return
        is_running = self._process.is_running
        for event in self._process.poll():
            self._run.show(event)
        if not is_running:
            self._finish()

    def close(self, patience_s: float = _PATIENCE_S) -> None:
        """The panel goes: end the process."""
        if self._process is not None:
            self._process.close(patience_s)
            self._process = None

    def _finish(self) -> None:
        process, self._process = self._process, None
        try:
            self._take(process.result())
        except Cancelled:
            self.message = self._cancelled
        except Exception as error:
            self.message = self._failed
            self._show_error(self._failed, error)
        finally:
            process.close()
            self._run.end()
