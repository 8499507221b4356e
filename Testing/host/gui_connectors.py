"""Which widget shows which type of parameter, as in Slicer's own GUI connectors."""

from __future__ import annotations

import enum
import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .pythonqt import QtObject


@dataclass(frozen=True)
class Kind:
    """How a widget class holds a value: the signal that tells of a change, and reading and writing it."""

    types: tuple
    signal: str
    read: Callable[[QtObject, Any], Any]
    write: Callable[[QtObject, Any], None]


def _attribute(name: str) -> tuple[Callable, Callable]:
    return (lambda widget, parameter: getattr(widget, name)), (lambda widget, value: setattr(widget, name, value))


def _enum_members(parameter: Any) -> list:
    return list(parameter.type)


KINDS: dict[str, Kind] = {
    "QCheckBox": Kind((bool,), "stateChanged", *_attribute("checked")),
    "QSpinBox": Kind((int,), "valueChanged", *_attribute("value")),
    "QDoubleSpinBox": Kind((float, int), "valueChanged", *_attribute("value")),
    "ctkSliderWidget": Kind((float, int), "valueChanged", *_attribute("value")),
    "QLineEdit": Kind((str,), "textChanged", *_attribute("text")),
    "QComboBox": Kind(
        (enum.Enum,),
        "currentIndexChanged",
        lambda widget, parameter: _enum_members(parameter)[widget.currentIndex],
        lambda widget, value: setattr(widget, "currentIndex", list(type(value)).index(value)),
    ),
    "ctkPathLineEdit": Kind(
        (pathlib.Path,),
        "currentPathChanged",
        lambda widget, parameter: pathlib.Path(widget.currentPath),
        lambda widget, value: setattr(widget, "currentPath", str(value)),
    ),
    "qMRMLNodeComboBox": Kind(
        ("node",),
        "currentNodeChanged",
        lambda widget, parameter: widget.currentNode(),
        lambda widget, value: widget.setCurrentNode(value),
    ),
}


def supports(class_name: str, parameter: Any) -> bool:
    """Whether a widget of this class can show this parameter."""
    if class_name not in KINDS:
        return False
    types = KINDS[class_name].types
    if parameter.node_classes:
        return "node" in types
    if isinstance(parameter.type, type) and issubclass(parameter.type, enum.Enum):
        return enum.Enum in types
    return parameter.type in types


class Connector:
    """A widget and the parameter it shows."""

    def __init__(self, widget: QtObject, parameter: Any, kind: Kind) -> None:
        self._widget, self._parameter, self._kind = widget, parameter, kind
        self._slot: Callable | None = None

    def read(self) -> Any:
        return self._kind.read(self._widget, self._parameter)

    def write(self, value: Any) -> None:
        self._kind.write(self._widget, value)

    def connect(self, callback: Callable[[], None]) -> None:
        self._slot = lambda: callback()
        getattr(self._widget, self._kind.signal).connect(self._slot)

    def disconnect(self) -> None:
        getattr(self._widget, self._kind.signal).disconnect(self._slot)


def connector_for(widget: QtObject, parameter: Any) -> Connector:
    """Connect ``widget`` and ``parameter``; RuntimeError where Slicer has no connector for the pair."""
    name = widget.className()
    if not supports(name, parameter):
        raise RuntimeError(f"a {name} cannot show the parameter {parameter.name} of type {parameter.type}")
    if parameter.node_classes:
        widget.nodeTypes = [node_class.__name__ for node_class in parameter.node_classes]
    elif parameter.type in (int, float) and parameter.type is not bool:
        _limit(widget, name, parameter)
    elif KINDS[name].types == (enum.Enum,):
        widget.clear()
        for member in parameter.type:
            widget.addItem(member.label() if hasattr(member, "label") else member.name)
    return Connector(widget, parameter, KINDS[name])


def _limit(widget: QtObject, name: str, parameter: Any) -> None:
    marks = {type(annotation).__name__: annotation for annotation in parameter.annotations}
    bounded = "WithinRange" in marks or {"Minimum", "Maximum"} <= set(marks)
    if name == "ctkSliderWidget" and not bounded:
        raise RuntimeError(f"a slider needs a range for the parameter {parameter.name}")
    if "Decimals" in marks:
        widget.decimals = marks["Decimals"].value
    if "SingleStep" in marks:
        widget.singleStep = marks["SingleStep"].value
    lower = marks.get("WithinRange") or marks.get("Minimum")
    upper = marks.get("WithinRange") or marks.get("Maximum")
    widget.minimum = lower.minimum if lower else -1e300
    widget.maximum = upper.maximum if upper else 1e300
