"""The model library: bundles that this user has installed."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..networks.download import cache_folder
from ..transfer.summary import plain, summarise_chain
from . import layout
from .documents import sources_of
from .load import read_bundle
from .members import is_portable

_NAME = re.compile(r"[^\W_][\w .+-]{0,79}")
_LONGEST_LICENCE = 300


@dataclass(frozen=True)
class ModelSummary:
    """One line about a bundle of the library.

    Attributes
    ----------
    path : the bundle's folder. name : by which the library knows it, the folder's name.
    title : as the bundle calls itself. task : "segmentation" or "classification".
    channels : of the input, in order.
    chain : its stages in one line, "" when not recorded.
    licences : of weights and data that went into it, each with what it is of.
    problem : why it cannot be used, "" when it can.
    """

    path: Path
    name: str
    title: str
    task: str
    channels: tuple[str, ...]
    chain: str
    problem: str = ""
    licences: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able data."""
        return {**asdict(self), "path": str(self.path)}

    def __str__(self) -> str:
        if self.problem:
            return f"{self.name}: cannot be used: {self.problem}"
        return f"{self.name}  {self.task}  {self.chain or 'chain not recorded'}"


def xtl_home() -> Path:
    """Where models, caches and settings live: ``XTL_HOME``, by default ``XTL`` in the platform's user data folder."""
    return cache_folder().parent


def models_folder() -> Path:
    """Where the library's bundles lie, one folder each; need not exist."""
    return xtl_home() / "models"


def downloads_folder(name: str) -> Path:
    """Where the downloaded archives of a model are kept; need not exist."""
    return xtl_home() / "downloads" / checked_name(name)


def list_models() -> tuple[ModelSummary, ...]:
    """The bundles of the library by name; a damaged one is listed with its problem, its weights are not read."""
    folder = models_folder()
    if not folder.is_dir():
        return ()
    found = [summarise_model(path) for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return tuple(sorted(found, key=lambda model: (model.name.casefold(), model.name)))


def summarise_model(path: Path) -> ModelSummary:
    """One line about the bundle in a folder; what is wrong with it is its ``problem``."""
    try:
        bundle = read_bundle(path)
    except InputError as error:
        return ModelSummary(path, path.name, "", "", (), "", str(error))
    chain = summarise_chain(bundle.provenance)
    licences = tuple(plain(line, _LONGEST_LICENCE) for line in sources_of(bundle.provenance))
    return ModelSummary(path, path.name, plain(bundle.name), bundle.task, bundle.channels, chain, "", licences)


def find_model(name: str | os.PathLike) -> Path:
    """The folder of a model: of the library by name, or any bundle's folder by path.

    Raises InputError that names the models there are.
    """
    text = os.fspath(name)
    if _NAME.fullmatch(text) and (models_folder() / text).is_dir():
        return models_folder() / text
    if (Path(text) / layout.XTL).is_file():
        return Path(text)
    known = ", ".join(model.name for model in list_models())
    raise InputError(
        f"there is no model {plain(text)} in {models_folder()}",
        f"Name one of {known}" if known else "Import or train one first",
    )


def checked_name(name: str) -> str:
    """``name`` when it can be that of a model's folder on any system. Raises InputError otherwise."""
    if not (_NAME.fullmatch(name) and is_portable(name)):
        raise InputError(
            f"{plain(name)!r} cannot be the name of a model",
            "Use up to 80 letters, digits, blanks and . _ + -, a letter or digit first, no name that Windows reserves",
        )
    return name


def remove_model(name: str) -> Path:
    """Delete a model of the library with its downloaded archives; returns the folder that is gone.

    Raises InputError when the library has no such model, or its folder cannot be deleted.
    """
    path = models_folder() / checked_name(name)
    if not path.is_dir():
        find_model(path)  # says what there is
    try:
        if path.is_symlink():
            path.unlink()
        else:  # renamed first: what dies half-way leaves nothing that looks like a model
            grave = Path(tempfile.mkdtemp(prefix=".removed.", dir=path.parent))
            os.replace(path, grave / "model")
            shutil.rmtree(grave)
        shutil.rmtree(downloads_folder(name), ignore_errors=True)
    except OSError as error:
        raise InputError(f"{path} cannot be deleted ({error.strerror})", "Close what uses it, and try again") from error
    return path
