"""Many cases one after the other: a folder a case, a summary, and nothing lost on the way, whatever is computed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bundle.load import Bundle
from ..data.datalist import Datalist
from ..errors import Cancelled, InputError, MissingPackageError, XTLError
from ..files import file_names, remove_drafts
from ..progress import Progress
from .table import Column, write_table


@dataclass(frozen=True)
class Unit:
    """What is computed at once: a case.

    Attributes
    ----------
    case, patient : as the summary names them; ``case`` is unique.
    files : its results depend on. also : what else they depend on, as text.
    """

    case: str
    patient: str
    files: tuple[str, ...]
    also: str = ""

    def fingerprint(self) -> str:
        """Of the paths, sizes and times of the files; of a folder's files where one is a folder."""
        digest = hashlib.sha256(self.also.encode())
        for path in map(Path, self.files):
            for file in sorted(path.iterdir()) if path.is_dir() else [path]:
                state = (file.stat().st_size, file.stat().st_mtime_ns) if file.exists() else ()
                digest.update(repr((str(file), state)).encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class Summary:
    """The table of a batch, ``summary.tsv`` and ``summary.json``.

    Attributes
    ----------
    columns : of it. make : a row from values by the columns' names, those of an earlier run; called with ``case``,
        ``patient``, ``folder`` and ``error`` alone for a case that failed. Rows have these four as attributes.
    about : what the results were made with; a batch is continued only with the same.
    """

    columns: Sequence[Column]
    make: Callable[..., Any]
    about: Mapping[str, Any]


@dataclass(frozen=True)
class BatchResult:
    """A batch that has come to its end.

    Attributes
    ----------
    out : its folder. rows : of the summary, in the order of the cases.
    """

    out: Path
    rows: tuple[Any, ...]

    @property
    def failed(self) -> tuple[Any, ...]:
        """The rows of the cases without a result."""
        return tuple(row for row in self.rows if row.error)


def run_batch(
    units: Sequence[Unit],
    out: str | os.PathLike,
    summary: Summary,
    work: Callable[[Unit, Path, Progress], Any],
    *,
    resume: bool = False,
    progress: Progress | None = None,
    keep: Callable[[Any], bool] = lambda row: True,
    before_summary: Callable[[Sequence[Any]], None] = lambda rows: None,
) -> BatchResult:
    """Do ``work`` for every unit; one that fails gets a row that says why, and the others go on.

    Parameters
    ----------
    work : computes a unit and writes its results into the folder named (made whole or not at all); returns the row.
    resume : go on in ``out``: units whose results are there are passed over, those that failed or whose files have
        changed are done again.
    keep : whether a row of an earlier run may be passed over, asked after everything else.
    before_summary : called with the rows so far, each time before the summary is written.

    Raises
    ------
    InputError : ``out`` is not empty and ``resume`` is not asked for, or it holds a batch made otherwise.
    MissingPackageError : every unit would lack the package.
    Cancelled : at the request of ``progress``; what is finished stays.
    """
    progress = progress or Progress()
    folders = file_names([unit.case for unit in units], "case")
    prints = {unit.case: unit.fingerprint() for unit in units}
    out = Path(out)
    rows = {case: row for case, row in _begin(out, summary, prints, resume).items() if keep(row)}
    todo = [unit for unit in units if unit.case not in rows]
    for number, unit in enumerate(todo):
        label = f"Case {unit.case} ({number + 1} of {len(todo)})"
        part = progress.part(number / len(todo), (number + 1) / len(todo), label)
        rows[unit.case] = _row(unit, out / folders[unit.case], summary, work, part)
        done = [rows[one.case] for one in units if one.case in rows]
        before_summary(done)
        inputs = {row.case: prints[row.case] for row in done}
        write_table(summary.columns, done, {**summary.about, "inputs": inputs}, out / "summary")
    progress.report("All cases done", 1.0)
    return BatchResult(out, tuple(rows[unit.case] for unit in units))


def plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that change figures, as JSON has them."""
    return {
        name: value if isinstance(value, (bool, int, float, str)) else str(value)
        for name, value in sorted(options.items())
        if value is not None and name != "device"
    }


def require_channels(datalist: Datalist, bundle: Bundle, optional: Iterable[str] = ()) -> None:
    """Raise InputError unless a datalist is of volumes and has every channel that a bundle needs."""
    if datalist.has_mammograms:
        raise InputError(f"the datalist {datalist.name} is of mammograms", "Give one of MR volumes")
    missing = [name for name in bundle.channels if name not in datalist.channels and name not in optional]
    if missing:
        raise InputError(
            f"the datalist {datalist.name} has no channel {', '.join(missing)}, which the bundle {bundle.name} needs "
            f"(it has: {', '.join(datalist.channels)})",
            "Add the images, or choose another bundle",
        )


def _row(
    unit: Unit, folder: Path, summary: Summary, work: Callable[[Unit, Path, Progress], Any], progress: Progress
) -> Any:
    try:
        return work(unit, folder, progress)
    except (Cancelled, MissingPackageError):
        raise
    except XTLError as error:
        what = str(error)
    except MemoryError:
        what = "the memory of this machine does not suffice. Close other programs."
    except Exception as error:  # one case must not stop the others, whatever is wrong with it
        what = " ".join(f"unexpected {type(error).__name__}: {error}".split())
    return summary.make(case=unit.case, patient=unit.patient, folder=folder.name, error=what)


def _begin(out: Path, summary: Summary, prints: Mapping[str, str], resume: bool) -> dict[str, Any]:
    """Make the folder, or read from it the rows of the cases that need not be done again."""
    if out.is_file():
        raise InputError(f"the output folder {out} is a file", "Name a folder")
    file = out / "summary.json"
    if not (out.is_dir() and any(out.iterdir())):
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"the output folder {out} cannot be made ({error.strerror})", "Choose a place that can be written to"
            ) from error
        write_table(summary.columns, (), {**summary.about, "inputs": {}}, out / "summary")
        return {}
    if not resume:
        raise InputError(f"the output folder {out} is not empty", "Add --resume to continue it, or name a new folder")
    try:
        earlier = json.loads(file.read_text(encoding="utf-8"))
        same = all(earlier[key] == value for key, value in summary.about.items())
        rows = [summary.make(**{c.name: values[c.name] for c in summary.columns}) for values in earlier["rows"]]
        inputs = dict(earlier["inputs"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{file} is missing or broken, so that nothing can be continued ({type(error).__name__})",
            "Name a new folder",
        ) from error
    if not same:
        raise InputError(
            f"the batch in {out} was made with another bundle or with other options",
            "Give the same ones, or name a new folder",
        )
    remove_drafts(out)
    return {
        row.case: row
        for row in rows
        if not row.error and inputs.get(row.case) == prints.get(row.case) and (out / row.folder).is_dir()
    }
