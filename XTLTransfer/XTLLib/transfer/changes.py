"""Choices that take the place of those in a chain file: ``xtl train --set stages.target.training.steps=100``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InputError

_PATHS = ("datalist", "weights")  # keys whose text may be a path


def read_change(text: str) -> tuple[str, Any]:
    """``KEY=VALUE`` as a key and a value of YAML; a path is relative to the working folder.

    A key is one of a chain file, its parts joined by points; a stage is named by its kind (the first one of it) or by
    its number, counted from 0.
    Raises InputError when the text is not of that form.
    """
    import yaml

    key, equals, written = text.partition("=")
    try:
        value = yaml.safe_load(written)
    except yaml.YAMLError:
        equals, value = "", None
    if not (key and equals):
        raise InputError(f"the change {text} is not of the form KEY=VALUE", "Write for example seed=3")
    name = key.rpartition(".")[2]
    if name in _PATHS and isinstance(value, str) and (name == "datalist" or os.sep in value):
        value = os.path.abspath(os.path.expanduser(value))
    return key, value


def with_changes(values: Any, changes: Mapping[str, Any], source: str) -> Any:
    """A copy of a chain file's content with ``changes``. Raises InputError when a key leads nowhere."""
    for key, value in changes.items():
        values = _changed(values, key.split("."), value, f"{source} with {key}")
    return values


def _changed(values: Any, key: Sequence[str], new: Any, where: str) -> Any:
    if not key:
        return new
    first, rest = key[0], key[1:]
    if isinstance(values, list):
        number = next((n for n, item in enumerate(values) if first in (str(n), _kind_of(item))), None)
        if number is None:
            raise InputError(f"{where}: there is no stage {first}", "Name a kind of stage, or count from 0")
        return [_changed(item, rest, new, where) if n == number else item for n, item in enumerate(values)]
    if values is None or isinstance(values, dict):  # the model says which keys there may be
        values = values or {}
        return {**values, first: _changed(values.get(first), rest, new, where)}
    raise InputError(f"{where}: {first} is below a value that has no keys", "Name a key of a chain file")


def _kind_of(item: Any) -> Any:
    return item.get("kind") if isinstance(item, dict) else None
