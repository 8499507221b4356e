"""One run of a study as plain values: any process on any machine that sees the same files can do it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import atomic_file

_VALUES, _FACTS = "values.json", "run.json"
_KEY_LENGTH = 16  # of the hexadecimal digits of a key, in the name of a folder


@dataclass(frozen=True)
class RunTask:
    """What one process does at a time.

    Attributes
    ----------
    key : content hash of all that decides the values (see runs.run_key).
    name : of the run, in messages.
    seed : of the run. arm : a chain as ``Chain.model_dump(mode="json")`` gives it, or the name of a baseline.
    datalist : path of the study's datalist.
    parts : training, validation and test -> names of cases: the run's fold of the datalist.
    out : folder of the study; the run's own is ``out/runs/<key>``, that of shared stages ``out/cache``.
    """

    key: str
    name: str
    seed: int
    arm: Mapping[str, Any] | str
    datalist: str
    parts: Mapping[str, tuple[str, ...]]
    out: str

    @property
    def folder(self) -> Path:
        """Where the run leaves its files; named by content, so that another study file finds it again."""
        return Path(self.out) / "runs" / self.key[:_KEY_LENGTH]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunTask:
        """The inverse of ``to_dict``."""
        parts = {part: tuple(cases) for part, cases in values["parts"].items()}
        return cls(**{**values, "parts": parts})


@dataclass(frozen=True)
class RunOutcome:
    """What a finished run left in its folder.

    Attributes
    ----------
    values : test case -> its figures.
    seconds : of the whole run, over all the processes that had a part in it.
    training : key of each trained stage -> its seconds of training; runs that share a stage name the same key.
    """

    values: Mapping[str, Mapping[str, float]]
    seconds: float
    training: Mapping[str, float]


def begin_run(task: RunTask) -> None:
    """Write down, for a reader of the folder, which run this is."""
    facts = {"name": task.name, "key": task.key, "seed": task.seed}
    with atomic_file(task.folder / _FACTS) as draft:
        draft.write_text(json.dumps(facts, indent=2), encoding="utf-8")


def write_outcome(task: RunTask, outcome: RunOutcome) -> None:
    """Write a run's outcome, whole or not at all; from then on the run is finished."""
    with atomic_file(task.folder / _VALUES) as draft:
        draft.write_text(json.dumps({"key": task.key, **asdict(outcome)}), encoding="utf-8")


def read_outcome(task: RunTask) -> RunOutcome | None:
    """The outcome of a run when it is finished. Raises InputError for a file that cannot be read."""
    path = task.folder / _VALUES
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return RunOutcome(found["values"], found["seconds"], found["training"]) if found["key"] == task.key else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"the outcome {path} cannot be read ({error})", "Delete the run's folder") from error
