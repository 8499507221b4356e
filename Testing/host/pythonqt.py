"""PySide6 objects with the manners of PythonQt, the binding that Slicer uses.

In PythonQt a Qt property is an attribute (``label.text = "a"``), ``connect`` takes a signature
(``button.connect("clicked(bool)", f)``), a slot is called with as many arguments as it takes, and an
attribute that the C++ class lacks cannot be created.
"""

from __future__ import annotations

import inspect
import traceback
import types
from collections.abc import Callable
from typing import Any

import shiboken6
from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

_MODULES = (QtCore, QtGui, QtWidgets, QtUiTools)

slot_errors: list[BaseException] = []
"""Exceptions that left a slot, in order. Slicer prints them; a test looks at them."""


class QtObject:
    """A QObject as PythonQt shows it."""

    def __init__(self, qobject: QtCore.QObject) -> None:
        object.__setattr__(self, "_qobject", qobject)

    def __getattr__(self, name: str) -> Any:
        qobject = self._qobject
        name = {"name": "objectName", "exec_": "exec"}.get(name, name)
        if qobject.metaObject().indexOfProperty(name) >= 0:
            return wrap(qobject.property(name))
        value = getattr(qobject, name)
        if isinstance(value, QtCore.SignalInstance):
            return Signal(qobject, name)
        if callable(value):
            return lambda *arguments, **named: wrap(
                value(*map(unwrap, arguments), **{key: unwrap(each) for key, each in named.items()})
            )
        return wrap(value)

    def __setattr__(self, name: str, value: Any) -> None:
        qobject = self._qobject
        name = "objectName" if name == "name" else name
        index = qobject.metaObject().indexOfProperty(name)
        if index < 0:
            raise AttributeError(f"{qobject.metaObject().className()} has no property '{name}'")
        if not qobject.setProperty(name, unwrap(value)):
            raise ValueError(f"{qobject.metaObject().className()}.{name} cannot be set to {value!r}")

    def connect(self, signature: str, slot: Callable) -> bool:
        """Connect a signal of this object, named with its C++ signature, to a Python callable."""
        return self._signal(signature).connect(slot)

    def disconnect(self, signature: str, slot: Callable) -> bool:
        return self._signal(signature).disconnect(slot)

    def className(self) -> str:
        return self._qobject.metaObject().className()

    def isWidgetType(self) -> bool:
        return self._qobject.isWidgetType()

    def _signal(self, signature: str) -> Signal:
        qobject, name = self._qobject, signature.partition("(")[0]
        normal = bytes(QtCore.QMetaObject.normalizedSignature(signature).data()).decode()
        known = normal in getattr(type(qobject), "SIGNATURES", ())
        if not known and qobject.metaObject().indexOfSignal(normal) < 0:
            raise ValueError(f"{qobject.metaObject().className()} has no signal {signature}")
        return Signal(qobject, name, 0 if normal.endswith("()") else normal.count(",") + 1)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QtObject) and _pointer(self) == _pointer(other)

    def __hash__(self) -> int:
        return hash(_pointer(self))

    def __repr__(self) -> str:
        return f"<{self.className()} {self._qobject.objectName()!r}>"


class Signal:
    """A signal to which Python callables are connected; extra arguments are dropped as PythonQt does.

    Parameters
    ----------
    emitter, name : the object and its signal. count : arguments to take; None takes the longest form.
    """

    def __init__(self, emitter: QtCore.QObject, name: str, count: int | None = None) -> None:
        self._signal = getattr(emitter, name)
        self._key = (shiboken6.getCppPointer(emitter)[0], name)
        self._count = _argument_count(emitter, name) if count is None else count

    def connect(self, slot: Callable) -> bool:
        relay = _relay(slot, self._count)
        self._signal.connect(relay)
        _relays.setdefault((*self._key, slot), []).append(relay)
        return True

    def disconnect(self, slot: Callable) -> bool:
        relays = _relays.get((*self._key, slot))
        return bool(relays) and bool(self._signal.disconnect(relays.pop()))

    def emit(self, *arguments: Any) -> None:
        self._signal.emit(*map(unwrap, arguments))


_relays: dict[tuple, list[Callable]] = {}


def _argument_count(emitter: QtCore.QObject, name: str) -> int:
    meta = emitter.metaObject()
    methods = (meta.method(index) for index in range(meta.methodCount()))
    signals = [m for m in methods if m.methodType() == QtCore.QMetaMethod.Signal and bytes(m.name()).decode() == name]
    return max((signal.parameterCount() for signal in signals), default=0)


def _relay(slot: Callable, count: int) -> Callable:
    """A function of ``count`` arguments (PySide chooses the form of a signal by it) that calls the slot."""
    try:
        parameters = inspect.signature(slot).parameters.values()
        variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        taken = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    except (TypeError, ValueError):  # a function written in C
        variadic, taken = True, count

    def call(*arguments: Any) -> None:
        try:
            slot(*map(wrap, arguments if variadic else arguments[:taken]))
        except Exception as error:
            slot_errors.append(error)
            traceback.print_exc()

    return (lambda: call(), lambda a: call(a), lambda a, b: call(a, b))[count]


def wrap(value: Any) -> Any:
    """A QObject, or a list of them, as PythonQt would hand it out; everything else unchanged."""
    if isinstance(value, QtCore.QObject):
        return QtObject(value)
    if isinstance(value, (list, tuple)):
        return type(value)(map(wrap, value))
    return value


def unwrap(value: Any) -> Any:
    """The PySide6 object behind a PythonQt-like one."""
    if isinstance(value, QtObject):
        return value._qobject
    if isinstance(value, (list, tuple)):
        return type(value)(map(unwrap, value))
    return value


def _pointer(value: QtObject) -> int:
    return shiboken6.getCppPointer(value._qobject)[0]


class _QtClass:
    """A QObject class: calling it gives a PythonQt-like object; enumerations and static methods pass through."""

    def __init__(self, qt_class: type) -> None:
        self._qt_class = qt_class

    def __call__(self, *arguments: Any, **properties: Any) -> QtObject:
        return QtObject(self._qt_class(*map(unwrap, arguments), **properties))

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._qt_class, name)
        if inspect.isbuiltin(value) or inspect.ismethod(value):
            return lambda *arguments: wrap(value(*map(unwrap, arguments)))
        return value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _QtClass) and self._qt_class is other._qt_class

    def __hash__(self) -> int:
        return hash(self._qt_class)


class QtModule(types.ModuleType):
    """The module ``qt`` (or ``ctk``): given classes first, then those of PySide6."""

    def __init__(self, name: str, classes: dict[str, Any], with_pyside: bool = True) -> None:
        super().__init__(name)
        self.__dict__.update({key: as_class(value) for key, value in classes.items()})
        self._with_pyside = with_pyside

    def __getattr__(self, name: str) -> Any:
        if self.__dict__.get("_with_pyside") and not name.startswith("_"):
            for module in _MODULES:
                if hasattr(module, name):
                    value = as_class(getattr(module, name))
                    setattr(self, name, value)
                    return value
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


def as_class(value: Any) -> Any:
    """A QObject class made callable in the manner of PythonQt; anything else unchanged."""
    if isinstance(value, type) and issubclass(value, QtCore.QObject):
        return _QtClass(value)
    return value
