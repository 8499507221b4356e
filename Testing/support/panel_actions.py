"""What a user can do in a panel, found by looking at its widgets: each thing as an action with a name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from host.boot import Panel
from host.pythonqt import QtObject
from PySide6 import QtCore, QtWidgets


@dataclass(frozen=True)
class Action:
    """One thing that a user can do.

    Attributes
    ----------
    name : the widget, and what is done with it. widget : that is operated, None for what is no widget.
    run : takes a number from 0 to 1 that says which of the possible values is chosen.
    """

    name: str
    widget: Any
    run: Callable[[float], None]


def actions_of(panel: Panel, paths: Sequence[str] = ("",), without: Sequence[str] = ()) -> list[Action]:
    """The actions of all widgets that can be operated now: those that are enabled.

    Parameters
    ----------
    paths : that may be typed into path lines, good and bad ones. without : names of widgets that are left alone.
    """
    actions = []
    for qwidget in panel.parent._qobject.findChildren(QtWidgets.QWidget):
        name = qwidget.objectName()
        if name and name not in without and not name.startswith("qt_") and qwidget.isEnabled():
            kind = qwidget.metaObject().className()
            actions += [Action(f"{name}: {what}", qwidget, run) for what, run in _of_widget(kind, qwidget, paths)]
    return actions


def timers_of(panel: Panel) -> list[QtCore.QTimer]:
    """The timers of a panel."""
    return [value._qobject for value in vars(panel.widget).values() if _is_timer(value)]


def _is_timer(value: Any) -> bool:
    return isinstance(value, QtObject) and isinstance(value._qobject, QtCore.QTimer)


def _of_widget(kind: str, widget: Any, paths: Sequence[str]) -> Iterator[tuple[str, Callable[[float], None]]]:
    """What can be done with a widget, by its class; what a .ui file made is a bare QWidget in Python."""
    if widget.inherits("QAbstractButton"):
        yield "click", lambda share: QtCore.QMetaObject.invokeMethod(widget, "click")
    elif kind == "ctkSliderWidget" or widget.inherits("QSpinBox") or widget.inherits("QDoubleSpinBox"):
        yield "move", lambda share: _move(widget, share)
    elif kind == "qMRMLNodeComboBox":
        yield "choose", lambda share: _choose_node(widget, share)
    elif kind == "ctkPathLineEdit":
        yield "type", lambda share: widget.setProperty("currentPath", _pick(paths, share))
    elif widget.inherits("QComboBox"):
        yield "choose", lambda share: widget.setProperty("currentIndex", _index(widget.property("count"), share))
    elif widget.inherits("QLineEdit"):
        if not widget.property("readOnly"):
            yield "type", lambda share: widget.setProperty("text", _pick(("", "a b", "ö/../x"), share))
    elif widget.inherits("QListWidget"):
        yield "choose", lambda share: widget.setProperty("currentRow", _index(widget.property("count"), share))
    elif widget.inherits("QAbstractItemView"):
        yield "choose", lambda share: _choose_row(widget, share)
    elif kind == "ctkCollapsibleButton":
        yield "fold", lambda share: widget.setProperty("collapsed", not widget.property("collapsed"))


def _index(count: int, share: float) -> int:
    return min(int(share * count), count - 1)


def _pick(values: Sequence[str], share: float) -> str:
    return values[_index(len(values), share)]


def _move(widget: Any, share: float) -> None:
    low, high = widget.property("minimum"), widget.property("maximum")
    value = low + share * (high - low)
    widget.setProperty("value", round(value) if widget.inherits("QSpinBox") else value)


def _choose_node(selector: Any, share: float) -> None:
    first = -1 if selector.property("noneEnabled") else 0
    index = first + _index(selector.nodeCount() - first, share)
    selector.setCurrentNode(selector.nodeFromIndex(index))


def _choose_row(view: Any, share: float) -> None:
    rows = view.model().rowCount() if view.model() is not None else 0
    if rows:
        view.setCurrentIndex(view.model().index(_index(rows, share), 0))
