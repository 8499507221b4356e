"""A YAML file -> a validated pydantic model, with errors that name file, line and key."""

from __future__ import annotations

import difflib
import os
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import InputError
from .changes import with_changes

_Where = tuple[str | int, ...]


class StrictModel(BaseModel):
    """A model that refuses keys it does not know and cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Model = TypeVar("Model", bound=BaseModel)


def load_model(
    path: str | os.PathLike,
    model: type[Model],
    path_keys: Mapping[str, tuple[str, ...]],
    changes: Mapping[str, Any] | None = None,
) -> Model:
    """Read a YAML file into ``model``.

    Parameters
    ----------
    path : the file.
    model : what it has to hold.
    path_keys : keys whose text is a path, each with the words that are not paths (``{"weights": ("imagenet",)}``).
        Such a path is relative to the file's folder; ``~`` and environment variables in it are expanded.
        An address stays as it is.
    changes : values that take the place of the file's, see ``changes.read_change``.

    Raises
    ------
    InputError : naming file, line and key, and the nearest known key where one is misspelt.
    """
    path = Path(path)
    data, lines = _read(path)
    if not isinstance(data, dict):
        raise InputError(f"{path} does not hold keys and values", "Begin it with a line such as 'name: xtl-ms'")
    data = with_changes(data, changes or {}, str(path))  # before paths: what is changed need not be there
    data = _with_paths(data, (), path, lines, path_keys)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _explained(error, model, str(path), lines) from error


def validate_model(data: Mapping[str, Any], model: type[Model], source: str) -> Model:
    """Values from a program or a form -> ``model``; InputError names ``source`` and the key."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _explained(error, model, source, {}) from error


def _read(path: Path) -> tuple[Any, dict[_Where, int]]:
    """The file's content and the line number of every key and list item."""
    import yaml

    if not path.is_file():
        raise InputError(f"the file {path} does not exist", "Check the path")
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or "it is no YAML"
        raise InputError(
            f"{path}{place}: {reason}", "Mend the line: indentation by blanks, 'key: value', lists by '- '"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text ({error})", "Save it as UTF-8") from error
    lines: dict[_Where, int] = {}
    if root is not None:
        _number_lines(root, (), path, lines)
    return data, lines


def _number_lines(node: Any, where: _Where, path: Path, lines: dict[_Where, int]) -> None:
    import yaml

    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            place = (*where, key.value)
            if place in lines:
                raise InputError(
                    f"{path}, line {key.start_mark.line + 1}: the key {key.value} stands here a second time "
                    f"(first in line {lines[place]})",
                    "Keep one of the two",
                )
            lines[place] = key.start_mark.line + 1
            _number_lines(value, place, path, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*where, index)] = value.start_mark.line + 1
            _number_lines(value, (*where, index), path, lines)


def _with_paths(
    value: Any, where: _Where, file: Path, lines: Mapping[_Where, int], keys: Mapping[str, tuple[str, ...]]
) -> Any:
    """``value`` with every path made absolute."""
    if isinstance(value, dict):
        return {key: _with_paths(item, (*where, key), file, lines, keys) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_paths(item, (*where, index), file, lines, keys) for index, item in enumerate(value)]
    if not (isinstance(value, str) and where and where[-1] in keys) or value in keys[where[-1]]:
        return value
    if value.startswith(("https://", "http://")):
        return value
    expanded = os.path.expanduser(os.path.expandvars(value))
    if "$" in expanded:
        raise InputError(
            f"{_place(str(file), where, lines)}: an environment variable in {value} is not set",
            "Set it, or write the path itself (relative to the file's folder, or absolute)",
        )
    return os.path.normpath(file.absolute().parent / expanded)


def _explained(error: ValidationError, model: type[BaseModel], source: str, lines: Mapping[_Where, int]) -> InputError:
    """The first fault in the file, in one line."""
    faults = error.errors(include_url=False)
    # A misspelt key is also a missing one: the misspelling comes first.
    first = min(faults, key=lambda fault: (fault["type"] == "missing", lines.get(_known_part(fault["loc"], lines), 0)))
    message, remedy = _fault_in_words(first, model)
    loc = first["loc"]
    if first["type"] == "missing":  # the key is nowhere: point at what it is missing from
        loc = loc[:-1]
    elif first["type"] == "union_tag_invalid":
        loc = (*loc, first["ctx"]["discriminator"].strip("'"))
    return InputError(f"{_place(source, loc, lines)}: {message}", remedy)


def _fault_in_words(fault: Mapping[str, Any], model: type[BaseModel]) -> tuple[str, str]:
    """What is wrong and the remedy, without the place."""
    kind, loc, context = fault["type"], fault["loc"], fault.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key {loc[-1]}", _nearest(str(loc[-1]), _known_keys(model, loc[:-1]))
    if kind == "missing":
        return f"the key {loc[-1]} is missing", f"Add {loc[-1]}"
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        key = context["discriminator"].strip("'")
        if kind == "union_tag_not_found":
            return f"the key {key} is missing", f"Add {key}"
        choices = context["expected_tags"].replace("'", "").split(", ")
        return f"{key} {context['tag']} is not known", _nearest(str(context["tag"]), choices)
    if kind == "literal_error":
        choices = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        return f"{fault['input']} is not known", _nearest(str(fault["input"]), choices)
    if kind == "value_error":
        return str(context["error"]), "Correct the value"
    message, value = fault["msg"], textwrap.shorten(repr(fault["input"]), 60)
    return f"{value} does not fit: {message[:1].lower()}{message[1:]}", "Correct the value"


def _nearest(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"Perhaps {near[0]} is meant" if near else f"Choose among {', '.join(known)}"


def _known_keys(model: type[BaseModel], loc: _Where) -> list[str]:
    """The keys that the model at ``loc`` has."""
    models = [model]
    for step in loc:
        if isinstance(step, int):
            continue
        inner = [m for holder in models if step in holder.model_fields for m in _models_in(holder, step)]
        # A step that is no field is the tag that chose among several models.
        models = inner or [m for m in models if step in _tags(m)] or models
    return sorted({key for m in models for key in m.model_fields})


def _models_in(holder: type[BaseModel], field: str) -> list[type[BaseModel]]:
    found, open_types = [], [holder.model_fields[field].annotation]
    while open_types:
        part = open_types.pop()
        if isinstance(part, type) and get_origin(part) is None and issubclass(part, BaseModel):
            found.append(part)
        open_types.extend(part for part in get_args(part) if not isinstance(part, str))
    return found


def _tags(model: type[BaseModel]) -> set[str]:
    annotations = [field.annotation for field in model.model_fields.values()]
    return {value for part in annotations if get_origin(part) is Literal for value in get_args(part)}


def _known_part(loc: _Where, lines: Mapping[_Where, int]) -> _Where:
    """``loc`` without the tags that pydantic puts between keys."""
    where: _Where = ()
    for step in loc:
        if (*where, step) in lines:
            where = (*where, step)
    return where


def _place(source: str, loc: _Where, lines: Mapping[_Where, int]) -> str:
    where = _known_part(loc, lines) if lines else loc
    words = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in where).lstrip(".")
    line = f", line {lines[where]}" if where in lines else ""
    return f"{source}{line}{f', {words}' if words else ''}"
