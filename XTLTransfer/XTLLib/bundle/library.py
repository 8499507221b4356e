"""The model library: bundles that this user has installed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..networks.download import cache_folder
from .documents import chain_line
from .load import read_bundle


@dataclass(frozen=True)
class ModelSummary:
    """One line about a bundle of the library.

    Attributes
    ----------
    path : the bundle's folder. name, task : as the bundle says.
    chain : its stages in one line, "" when not recorded.
    problem : why it cannot be used, "" when it can.
    """

    path: Path
    name: str
    task: str
    chain: str
    problem: str = ""

    def __str__(self) -> str:
        if self.problem:
            return f"{self.name}: cannot be used: {self.problem}"
        return f"{self.name}  {self.task}  {self.chain or 'chain not recorded'}  {self.path}"


def xtl_home() -> Path:
    """Where models, caches and settings live: ``XTL_HOME``, by default ``XTL`` in the platform's user data folder."""
    return cache_folder().parent


def models_folder() -> Path:
    """Where the library's bundles lie, one folder each; need not exist."""
    return xtl_home() / "models"


def list_models() -> tuple[ModelSummary, ...]:
    """The bundles of the library by name; a damaged one is listed with its problem, its weights are not read."""
    folder = models_folder()
    if not folder.is_dir():
        return ()
    found = [_summary(path) for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    return tuple(sorted(found, key=lambda model: (model.name.casefold(), str(model.path))))


def _summary(path: Path) -> ModelSummary:
    try:
        bundle = read_bundle(path)
    except InputError as error:
        return ModelSummary(path, path.name, "", "", str(error))
    return ModelSummary(path, bundle.name, bundle.task, chain_line(bundle.provenance))
