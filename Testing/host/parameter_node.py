"""``slicer.parameterNodeWrapper``: typed parameters kept in a real vtkMRMLScriptedModuleNode.

Values are stored as Slicer stores them (numbers and paths as text, booleans as True/False, enumerations
by name, nodes as node references), so that a scene saved here opens in Slicer with its parameters.
"""

from __future__ import annotations

import enum
import pathlib
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import slicer
import vtk

from .gui_connectors import connector_for

PARAMETER_NAME = "SlicerParameterName"


class Default:
    """Annotation: the default value of a parameter."""

    def __init__(self, value: Any = None, *, generator: Callable | None = None) -> None:
        self._value, self._generator = value, generator

    @property
    def value(self) -> Any:
        return self._generator() if self._generator else self._value


@dataclass
class Decimals:
    """Annotation: digits after the point in spin boxes and sliders."""

    value: int


@dataclass
class SingleStep:
    """Annotation: step of spin boxes and sliders."""

    value: float


@dataclass
class WithinRange:
    """Annotation: a number from minimum to maximum, both included."""

    minimum: float
    maximum: float

    def validate(self, value: float) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{value} is not within [{self.minimum}, {self.maximum}]")


@dataclass
class Minimum:
    """Annotation: a number not below minimum."""

    minimum: float

    def validate(self, value: float) -> None:
        if value < self.minimum:
            raise ValueError(f"{value} is below {self.minimum}")


@dataclass
class Maximum:
    """Annotation: a number not above maximum."""

    maximum: float

    def validate(self, value: float) -> None:
        if value > self.maximum:
            raise ValueError(f"{value} is above {self.maximum}")


@dataclass
class Choice:
    """Annotation: one of the given values."""

    choices: list

    def validate(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"{value} is not one of {self.choices}")


@dataclass(frozen=True)
class Parameter:
    """One parameter: its name, bare type, annotations and default."""

    name: str
    type: Any
    annotations: tuple
    default: Any

    @property
    def node_classes(self) -> tuple[type, ...]:
        members = typing.get_args(self.type) if _is_union(self.type) else (self.type,)
        members = tuple(member for member in members if member is not type(None))
        return members if all(isinstance(m, type) and issubclass(m, slicer.vtkMRMLNode) for m in members) else ()

    def write(self, node: Any, value: Any) -> None:
        self.check(value)
        if self.node_classes:
            node.SetParameter(self.name, "")
            node.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)
        elif isinstance(value, enum.Enum):
            node.SetParameter(self.name, value.name)
        else:
            node.SetParameter(self.name, str(value))

    def read(self, node: Any) -> Any:
        if not node.HasParameter(self.name):
            self.write(node, self.default)
        if self.node_classes:
            return node.GetNodeReference(self.name)
        text = node.GetParameter(self.name)
        if self.type is bool:
            return text == "True"
        return self.type[text] if issubclass(self.type, enum.Enum) else self.type(text)

    def check(self, value: Any) -> None:
        if self.node_classes:
            allowed = (*self.node_classes, type(None))
        else:
            allowed = (int, float) if self.type is float else self.type
        if not isinstance(value, allowed):
            raise TypeError(f"{self.name} takes {self.type}, not {value!r}")
        for annotation in self.annotations:
            if hasattr(annotation, "validate"):
                annotation.validate(value)


class _Wrapper:
    """What the decorator adds to a class."""

    allParameters: dict[str, Parameter]

    def __init__(self, parameterNode: Any) -> None:
        self.parameterNode = parameterNode
        self._connections: dict[int, tuple[dict, int]] = {}
        self._next_tag = 0
        self._writing_to_gui = False
        for parameter in self.allParameters.values():
            parameter.read(parameterNode)  # stores the default where there is no value yet

    def getValue(self, name: str) -> Any:
        return self.allParameters[name].read(self.parameterNode)

    def setValue(self, name: str, value: Any) -> None:
        self.allParameters[name].write(self.parameterNode, value)

    def dataType(self, name: str) -> Any:
        return self.allParameters[name].type

    def StartModify(self) -> int:
        return self.parameterNode.StartModify()

    def EndModify(self, was_modifying: int) -> int:
        return self.parameterNode.EndModify(was_modifying)

    def AddObserver(self, event: Any, callback: Callable, priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def Modified(self) -> None:
        self.parameterNode.Modified()

    def connectGui(self, gui: Any) -> int:
        """Connect every widget of ``gui`` (as childWidgetVariables gives them) that names a parameter."""
        widgets = {w.property(PARAMETER_NAME): w for w in vars(gui).values() if w.property(PARAMETER_NAME)}
        connectors = {name: connector_for(widget, self._known(name)) for name, widget in widgets.items()}
        for name, connector in connectors.items():
            connector.write(self.getValue(name))
            connector.connect(lambda name=name, connector=connector: self._from_gui(name, connector))
        observer = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._to_gui())
        self._next_tag += 1
        self._connections[self._next_tag] = (connectors, observer)
        return self._next_tag

    def disconnectGui(self, tag: int | None) -> None:
        connectors, observer = self._connections.pop(tag, ({}, None))
        for connector in connectors.values():
            connector.disconnect()
        if observer is not None:
            self.RemoveObserver(observer)

    def _known(self, name: str) -> Parameter:
        if name not in self.allParameters:
            raise ValueError(f"no parameter is called {name}; there are {', '.join(self.allParameters)}")
        return self.allParameters[name]

    def _from_gui(self, name: str, connector: Any) -> None:
        if not self._writing_to_gui:
            with slicer.util.NodeModify(self):
                self.setValue(name, connector.read())

    def _to_gui(self) -> None:
        if self._writing_to_gui:
            return
        self._writing_to_gui = True
        try:
            for connectors, _ in list(self._connections.values()):
                for name, connector in connectors.items():
                    connector.write(self.getValue(name))
        finally:
            self._writing_to_gui = False


def parameterNodeWrapper(cls: type) -> type:
    """Class decorator: turn the annotated names of ``cls`` into parameters."""
    parameters = {}
    for name, annotated in typing.get_type_hints(cls, include_extras=True).items():
        kind, annotations = _split(annotated)
        default = getattr(cls, name, None)
        if default is None:
            default = next((a.value for a in annotations if isinstance(a, Default)), None)
        if hasattr(_Wrapper, name):
            raise ValueError(f"{name} is a reserved name")
        parameter = Parameter(name, kind, annotations, default)
        if default is None and not parameter.node_classes:
            default = next(iter(kind)) if issubclass(kind, enum.Enum) else kind()
            parameter = Parameter(name, kind, annotations, default)
        if not parameter.node_classes and kind not in (int, float, bool, str, pathlib.Path):
            assert issubclass(kind, enum.Enum), f"{name}: the host knows no parameters of type {kind}"
        parameters[name] = parameter
    namespace = {name: _property(name) for name in parameters}
    namespace.update(allParameters=parameters, __doc__=cls.__doc__, __module__=cls.__module__)
    return type(cls.__name__, (_Wrapper,), namespace)


def _property(name: str) -> property:
    return property(lambda self: self.getValue(name), lambda self, value: self.setValue(name, value))


def _split(annotated: Any) -> tuple[Any, tuple]:
    if typing.get_origin(annotated) is typing.Annotated:
        kind, *annotations = typing.get_args(annotated)
        return kind, tuple(annotations)
    return annotated, ()


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (typing.Union, types.UnionType)
