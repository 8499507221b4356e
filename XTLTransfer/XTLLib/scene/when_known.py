"""What a button does once it is known what the chosen chain is."""

from __future__ import annotations

from collections.abc import Callable

from .previewer import Previewer


class WhenKnown:
    """Holds an action back until the chosen chain was looked at; before, it is not known which choices it has room for.

    That is so where the packages that read a chain came only when the button was pressed.

    Parameters
    ----------
    update : of the panel; asks the previewer about what is chosen.
    """

    def __init__(self, previewer: Previewer, update: Callable[[], None]) -> None:
        self._previewer, self._update = previewer, update
        self._action: Callable[[], None] | None = None

    def do(self, action: Callable[[], None]) -> None:
        """Do it now, or at a later :meth:`go_on`."""
        self._action = action
        if self._previewer.answer is None:
            self._previewer.forget()
            self._update()
        self.go_on()

    def go_on(self) -> None:
        """Do what was held back, where that can be done now."""
        if self._action is not None and not self._previewer.is_waiting:
            action, self._action = self._action, None
            action()

    def forget(self) -> None:
        """Do nothing of it."""
        self._action = None
