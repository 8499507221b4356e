"""A list of words of which a text parameter holds one.

Widgets are known by their properties only, so that no GUI library is needed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class ChoiceBox:
    """Fills a list and keeps it and a parameter equal.

    Parameters
    ----------
    box : QComboBox. name : of the parameter. choices : its values in order.
    texts : value -> what the list shows; the value itself where it is missing.
    """

    def __init__(self, box: Any, name: str, choices: Sequence[str], texts: Mapping[str, str] | None = None) -> None:
        self._box, self._name, self._texts = box, name, dict(texts or {})
        self._usual = tuple(choices)
        self._choices: tuple[str, ...] = ()
        self._parameters: Any = None

    def update(self, parameters: Any) -> None:
        """Show what a parameter node says, also when that is none of the choices (a scene from elsewhere)."""
        self._parameters = None  # what is set here was not chosen by the user
        chosen = getattr(parameters, self._name)
        choices = self._usual if chosen in self._usual else (*self._usual, chosen)
        if choices != self._choices:
            self._choices = choices
            self._box.clear()
            for choice in choices:
                self._box.addItem(self._texts.get(choice, choice))
        if self._box.currentIndex != choices.index(chosen):
            self._box.currentIndex = choices.index(chosen)
        self._parameters = parameters

    def release(self) -> None:
        """Let go of the scene."""
        self._parameters = None

    def chosen(self, index: int) -> None:
        """An entry of the list was chosen."""
        if self._parameters is not None and 0 <= index < len(self._choices):
            setattr(self._parameters, self._name, self._choices[index])
