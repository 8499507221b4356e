"""What a chosen chain is, what its data hold, and whether it may be run in a folder: answers for a window.

Run as a process (``main``) it answers questions, one JSON object a line, in a fraction of a second each: the packages
that are needed are imported once, and the window never waits for a large datalist.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, XTLError

if TYPE_CHECKING:
    from ..data.datalist import Datalist, Entry
    from ..transfer.chain import Chain

FEW = 5  # cases that are shown of a datalist
_PARTS = ("training", "validation", "test")


@dataclass(frozen=True)
class StagePreview:
    """A stage. ``kind``, ``task`` : as in the chain. ``budget``, ``unit`` : of its training. ``datalist`` : its path.

    ``learning_rate`` : None where a range test finds it.
    """

    kind: str
    task: str
    datalist: str = ""
    budget: int = 0
    unit: str = ""
    learning_rate: float | None = None


@dataclass(frozen=True)
class DataPreview:
    """A datalist.

    Attributes
    ----------
    path : of the file. line : what it holds, in words; "" where it cannot be read.
    rows : (case, patient, part, label) of its first cases. problem : the first one found, "" for none.
    """

    path: str
    line: str
    rows: tuple[tuple[str, str, str, str], ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class ChainPreview:
    """A chain.

    Attributes
    ----------
    name, backbone, conversion, seed : as it will be run. stages : all, the initialisation first.
    own : the same values and stages with ``base`` only, None when they cannot be read.
    data : of every stage after the initialisation. problem : what keeps it from running, "" for nothing.
    folder : "new" when it may be begun in the output folder, "begun" when it may be gone on with there, "finished"
        when it is trained there; "" when neither.
    """

    name: str = ""
    backbone: str = ""
    conversion: str = ""
    seed: int = 0
    stages: tuple[StagePreview, ...] = ()
    own: Mapping[str, Any] | None = None
    data: tuple[DataPreview, ...] = ()
    problem: str = ""
    folder: str = ""


def preview_chain(path: str, base: Sequence[str] = (), changes: Sequence[str] = (), out: str = "") -> ChainPreview:
    """Look at a chain file, at its datalists and at a folder.

    Parameters
    ----------
    base, changes : words KEY=VALUE: what completes the file, and what is changed beyond that.
    out : the output folder, "" for none.
    """
    from ..transfer.chain import load_chain
    from ..transfer.changes import read_change

    own = None
    try:
        own = _values(load_chain(path, dict(map(read_change, base))))
        chain = load_chain(path, dict(map(read_change, [*base, *changes])))
    except XTLError as error:
        return ChainPreview(own=own, problem=str(error))
    lists = [_read(stage.datalist) for stage in chain.trained]
    data = tuple(_described(stage.datalist, *found) for stage, found in zip(chain.trained, lists))
    problem = next((each.problem for each in data if each.problem), "") or _unfit(chain, [found for found, _ in lists])
    folder = ""
    if not problem and out:
        folder, problem = _folder(chain, Path(out))
    return ChainPreview(**_values(chain), own=own, data=data, problem=problem, folder=folder)


def main() -> int:
    """Answer every question on stdin until it ends: a number, and the arguments of preview_chain by their names."""
    for line in sys.stdin:
        try:
            asked = json.loads(line)
        except ValueError:
            continue  # the word cancel: what is asked takes no time that could be saved
        found = preview_chain(asked["path"], asked["base"], asked["changes"], asked["out"])
        print(json.dumps({"type": "preview", "number": asked["number"], **asdict(found)}), flush=True)
    return 0


def _values(chain: Chain) -> dict[str, Any]:
    stages = tuple(_stage(stage) for stage in chain.stages)
    return {key: getattr(chain, key) for key in ("name", "backbone", "conversion", "seed")} | {"stages": stages}


def _stage(stage: Any) -> StagePreview:
    if stage.kind == "initialisation":
        return StagePreview(stage.kind, str(stage.weights).replace("\\", "/").rpartition("/")[2])
    unit = "steps" if hasattr(stage.training, "steps") else "epochs"
    rate = stage.training.learning_rate
    budget = getattr(stage.training, unit)
    return StagePreview(stage.kind, stage.task, stage.datalist, budget, unit, None if rate == "find" else rate)


def _read(path: str) -> tuple[Datalist | None, str]:
    from ..data.datalist import Datalist

    try:
        return Datalist.load(path), ""
    except XTLError as error:
        problem = str(error)
    try:
        return Datalist.load(path, check_files=False), problem
    except XTLError:
        return None, problem


def _described(path: str, datalist: Datalist | None, problem: str) -> DataPreview:
    if datalist is None:
        return DataPreview(path, "", (), problem)
    parts = [(part, entry) for part in _PARTS for entry in getattr(datalist, part)]
    counts = ", ".join(f"{len(getattr(datalist, part))} {part}" for part in _PARTS if getattr(datalist, part))
    line = f"{datalist.name}: {_count(len(parts), 'case')} of {_count(len(datalist.patients()), 'patient')} ({counts})"
    kinds = [
        f"{sum(entry.label == number for _, entry in parts)} {name}" for number, name in enumerate(datalist.classes)
    ]
    line += f"; {', '.join(kinds)}" if kinds else f"; {', '.join(datalist.channels)}"
    rows = tuple((entry.case, entry.patient, part, _label(entry, datalist)) for part, entry in parts[:FEW])
    return DataPreview(path, line, rows, problem)


def _label(entry: Entry, datalist: Datalist) -> str:
    if entry.label is None:
        return ""
    if isinstance(entry.label, str):
        return Path(entry.label).name
    return datalist.classes[entry.label] if datalist.classes else str(entry.label)


def _unfit(chain: Chain, datalists: Sequence[Datalist | None]) -> str:
    """Why the data do not fit the stages; "" when they do, or where PyTorch, which tells, is not installed yet."""
    try:
        from .fitness import require_fit
    except ImportError:
        return ""
    try:
        require_fit(chain, datalists)
    except InputError as error:
        return str(error)
    return ""


def _folder(chain: Chain, out: Path) -> tuple[str, str]:
    """What an output folder is to the chain, and why it cannot be used."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return "new", ""
    if not (out / "chain.json").is_file():
        return "", f"The output folder {out} is not empty. Choose a new or an empty one."
    from .run_folder import RunFolder

    folder = RunFolder(out)
    try:
        folder.require_begun(chain)
    except InputError as error:
        return "", str(error)
    return ("finished" if folder.bundle.is_dir() else "begun"), ""


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
