"""The catalogue of published models: ``Resources/Models.json``, or one that a user names."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..networks.download import is_address
from ..networks.read_address import read_address
from .layout import TASKS
from .library import checked_name

FORMAT = 1
_FILE = "Models.json"
_HERE = Path(__file__).resolve().parents[1]
# From source beside the modules; in an installed extension beside the library; in a wheel inside the library.
_PLACES = (_HERE.parents[1] / "Resources" / _FILE, _HERE.parent / "Resources" / _FILE, _HERE / _FILE)
_URL = re.compile(r"https?://\S+")
_SHA256 = re.compile("[0-9a-f]{64}")
_LARGEST_CATALOGUE_BYTES = 4 << 20


@dataclass(frozen=True)
class CatalogueEntry:
    """A model that can be downloaded.

    Attributes
    ----------
    name : by which the library will know it. version : of the model. description : for people.
    task : "segmentation" or "classification". channels : of the input, in order.
    licence : terms of the weights. chain : what the weights went through, in one line.
    url : address of the bundle's zip archive. sha256, size : hash and length in bytes of that archive.
    """

    name: str
    version: str
    description: str
    task: str
    channels: tuple[str, ...]
    licence: str
    chain: str
    url: str
    sha256: str
    size: int


def read_catalogue(source: str | os.PathLike | None = None) -> tuple[CatalogueEntry, ...]:
    """The models that a catalogue offers, by name.

    Parameters
    ----------
    source : a file, or the https address of one; None takes the catalogue that comes with XTL.

    Raises
    ------
    InputError : names the catalogue, the entry and the key that is wrong.
    """
    if source is None:
        source = next((path for path in _PLACES if path.is_file()), _PLACES[0])
    text = _text_of(source)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the catalogue {source} is broken JSON ({error})", "Repair it, or name another") from error
    good = isinstance(values, dict) and values.get("format") == FORMAT and isinstance(values.get("models"), list)
    if not good or set(values) - {"$schema", "format", "models"}:
        raise InputError(
            f"the catalogue {source} is not of the format {FORMAT}",
            "Name a file that follows Models.schema.json, or update XTL",
        )
    entries = [_entry(item, f"the catalogue {source}, models[{n}]") for n, item in enumerate(values["models"])]
    names = [entry.name.casefold() for entry in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"the catalogue {source} holds {', '.join(twice)} twice", "Give each model its own name")
    return tuple(sorted(entries, key=lambda entry: entry.name.casefold()))


def find_entry(name: str, catalogue: tuple[CatalogueEntry, ...]) -> CatalogueEntry:
    """The entry of that name. Raises InputError that names those there are."""
    for entry in catalogue:
        if entry.name == name:
            return entry
    known = ", ".join(entry.name for entry in catalogue)
    raise InputError(
        f"the catalogue has no model {name!r}",
        f"Choose one of {known}" if known else "It offers none yet: train one, or name a catalogue with --catalogue",
    )


def _entry(values: Any, where: str) -> CatalogueEntry:
    known = {field.name for field in fields(CatalogueEntry)}
    if not isinstance(values, Mapping) or set(values) != known:
        wrong = sorted(set(values) ^ known) if isinstance(values, Mapping) else ["no object"]
        raise InputError(f"{where} has a key too many or too few: {', '.join(map(str, wrong))}", "Repair the catalogue")
    for key in known - {"channels", "size"}:
        _require(isinstance(values[key], str) and values[key].strip() and values[key].isprintable(), where, key, "text")
    channels, size = values["channels"], values["size"]
    good = isinstance(channels, list) and channels and all(isinstance(c, str) and c for c in channels)
    _require(good and len(set(channels)) == len(channels), where, "channels", "a list of different names")
    _require(isinstance(size, int) and not isinstance(size, bool) and size > 0, where, "size", "a number of bytes")
    _require(values["task"] in TASKS, where, "task", f"one of {', '.join(TASKS)}")
    _require(_SHA256.fullmatch(values["sha256"]), where, "sha256", "64 hexadecimal digits in small letters")
    _require(_URL.fullmatch(values["url"]), where, "url", "a web address")
    checked_name(values["name"])
    return CatalogueEntry(**{**values, "channels": tuple(channels)})


def _require(good: Any, where: str, key: str, wanted: str) -> None:
    if not good:
        raise InputError(f"{where}.{key} is not {wanted}", "Repair the catalogue")


def _text_of(source: str | os.PathLike) -> str:
    if is_address(str(source)):
        return read_address(str(source), _LARGEST_CATALOGUE_BYTES)
    path = Path(source)
    try:
        if path.stat().st_size > _LARGEST_CATALOGUE_BYTES:
            raise InputError(f"the catalogue {path} is larger than 4 MB", "Name a catalogue of models")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise InputError(f"the catalogue {path} cannot be read ({reason})", "Name one with --catalogue") from error
