"""Every case of a datalist through one bundle: a folder a case, a summary, and nothing lost on the way."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..bundle.load import Bundle
from ..data.case import Case
from ..data.datalist import Datalist, Entry
from ..data.load import load_case
from ..data.volume import Volume, resample
from ..errors import Cancelled, InputError, MissingPackageError, XTLError
from ..files import remove_drafts
from ..metrics.overlap import dice
from ..progress import Progress
from .results import SegmentationResult
from .segment import segment_case
from .table import Column, write_table

WriteResult = Callable[[SegmentationResult, Path], Any]


@dataclass(frozen=True)
class BatchRow:
    """What became of one case, one row of the summary.

    Attributes
    ----------
    case, patient : as in the datalist. folder : of its results, below the batch's.
    lesions : their number. volume_mm3 : their sum. seconds : reading, segmenting and writing.
    dice : against the datalist's mask, on the reference grid; None where it has none.
    notes : of the result. error : what went wrong, one line; "" when nothing did, and the figures are None else.
    """

    case: str
    patient: str
    folder: str
    lesions: int | None = None
    volume_mm3: float | None = None
    seconds: float | None = None
    dice: float | None = None
    notes: str = ""
    error: str = ""


@dataclass(frozen=True)
class BatchResult:
    """A batch that has come to its end.

    Attributes
    ----------
    out : its folder. rows : in the datalist's order.
    """

    out: Path
    rows: tuple[BatchRow, ...]

    @property
    def failed(self) -> tuple[BatchRow, ...]:
        """The cases without a result."""
        return tuple(row for row in self.rows if row.error)


_COLUMNS = (
    Column("case", "", "name in the datalist", lambda row: row.case),
    Column("patient", "", "name in the datalist", lambda row: row.patient),
    Column("folder", "", "folder of the results", lambda row: row.folder),
    Column("lesions", "", "number of lesions", lambda row: row.lesions),
    Column("volume", "mm3", "sum of the lesions' volumes", lambda row: row.volume_mm3, 2),
    Column("time", "s", "reading, segmenting and writing", lambda row: row.seconds, 2),
    Column("dice", "", "overlap with the datalist's mask on the reference grid", lambda row: row.dice, 4),
    Column("notes", "", "what a reader of the result has to know", lambda row: row.notes),
    Column("error", "", "what went wrong", lambda row: row.error),
)


def segment_cases(
    datalist: Datalist,
    bundle: Bundle,
    out: str | os.PathLike,
    write: WriteResult,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> BatchResult:
    """Find the lesions of every case of a datalist, whatever part it stands in.

    Each case gets a folder of its own below ``out``; ``summary.tsv`` and ``summary.json`` there have a row for each
    case and are rewritten after each. A case that fails gets a row that says why, and the others go on.

    As in a console::

        from XTLLib.bundle.load import load_bundle
        from XTLLib.data.datalist import Datalist
        from XTLLib.inference.batch import segment_cases
        from XTLLib.scene.folder import write_result_folder

        cases = Datalist.load("cases.json", check_files=False)  # a missing file then fails its case only
        batch = segment_cases(cases, load_bundle("ms-bundle"), "results", write_result_folder, resume=True)
        for row in batch.rows:
            print(row.case, row.error or f"{row.lesions} lesions, {row.volume_mm3 / 1000:.1f} ml")

    Parameters
    ----------
    write : puts a result into a folder that it makes, whole or not at all, as ``scene.folder.write_result_folder``.
    resume : go on in ``out``: cases whose results are there are passed over, those that failed or whose files
        have changed are done again. The bundle and the options have to be the same.
    options : of :func:`~XTLLib.inference.segment.segment_case`, the same for all.

    Raises
    ------
    InputError : the datalist is not of volumes or lacks a channel that the bundle needs; ``out`` is not empty and
        ``resume`` is not asked for, or it holds a batch of another bundle or of other options.
    MissingPackageError : every case would lack the package.
    Cancelled : at the request of ``progress``; finished cases stay.
    """
    bundle.require_task("segmentation")
    _require_channels(datalist, bundle)
    progress = progress or Progress()
    about = {"bundle": bundle.name, "weights_sha256": bundle.weights_sha256, "options": _plain(options)}
    folders = _folders(datalist.entries)
    prints = {entry.case: _fingerprint(entry) for entry in datalist.entries}
    out = Path(out)
    rows = _begin(out, about, prints, resume)
    todo = [entry for entry in datalist.entries if entry.case not in rows]
    for number, entry in enumerate(todo):
        label = f"Case {entry.case} ({number + 1} of {len(todo)})"
        part = progress.part(number / len(todo), (number + 1) / len(todo), label)
        rows[entry.case] = _row(entry, datalist, bundle, out / folders[entry.case], write, options, part)
        _write_summary(out, datalist, rows, about, prints)
    progress.report("All cases done", 1.0)
    return BatchResult(out, tuple(rows[entry.case] for entry in datalist.entries))


def _row(
    entry: Entry,
    datalist: Datalist,
    bundle: Bundle,
    folder: Path,
    write: WriteResult,
    options: Mapping[str, Any],
    progress: Progress,
) -> BatchRow:
    row = BatchRow(entry.case, entry.patient, folder.name)
    began = time.monotonic()
    try:
        progress.report("Reading", 0.0)
        case = replace(load_case(entry, datalist, bundle.channels), reference=bundle.reference)
        result = segment_case(case, bundle, **options, progress=progress.part(0.05, 0.9))
        progress.report("Writing results", 0.9)
        write(result, folder)
    except (Cancelled, MissingPackageError):
        raise
    except XTLError as error:
        return replace(row, error=str(error))
    except MemoryError:
        return replace(row, error="the memory of this machine does not suffice. Close other programs.")
    except Exception as error:  # one case must not stop the others, whatever is wrong with it
        return replace(row, error=" ".join(f"unexpected {type(error).__name__}: {error}".split()))
    return replace(
        row,
        lesions=len(result.lesions),
        volume_mm3=float(sum(lesion.volume_mm3 for lesion in result.lesions)),
        seconds=time.monotonic() - began,
        dice=_dice(case, result),
        notes=". ".join(result.notes),
    )


def _dice(case: Case, result: SegmentationResult) -> float | None:
    if case.mask is None:
        return None
    truth = resample(Volume(case.mask.array.astype(np.float32), case.mask.grid), result.label.grid).array >= 0.5
    return float(dice(result.label.array > 0, truth))


def _require_channels(datalist: Datalist, bundle: Bundle) -> None:
    if datalist.has_mammograms:
        raise InputError(f"the datalist {datalist.name} is of mammograms", "Give one of brain volumes")
    missing = [
        name for name in bundle.channels if name not in datalist.channels and name not in bundle.preparation.optional
    ]
    if missing:
        raise InputError(
            f"the datalist {datalist.name} has no channel {', '.join(missing)}, which the bundle {bundle.name} needs "
            f"(it has: {', '.join(datalist.channels)})",
            "Add the images, or choose another bundle",
        )


def _folders(entries: tuple[Entry, ...]) -> dict[str, str]:
    """case -> a folder's name of its own, also where file systems do not tell large from small letters."""
    folders: dict[str, str] = {}
    taken: set[str] = set()
    for entry in entries:
        plain = name = re.sub(r"[^\w.+-]", "_", entry.case).lstrip(".") or "case"
        number = 1
        while name.lower() in taken:
            number += 1
            name = f"{plain}-{number}"
        taken.add(name.lower())
        folders[entry.case] = name
    return folders


def _fingerprint(entry: Entry) -> str:
    """Of the paths, sizes and times of an entry's files; of a folder's files where it names a folder."""
    digest = hashlib.sha256()
    for path in map(Path, entry.files()):
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            state = (file.stat().st_size, file.stat().st_mtime_ns) if file.exists() else ()
            digest.update(repr((str(file), state)).encode())
    return digest.hexdigest()


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that change figures, as JSON has them."""
    return {
        name: value if isinstance(value, (bool, int, float, str)) else str(value)
        for name, value in sorted(options.items())
        if value is not None and name != "device"
    }


def _begin(out: Path, about: dict[str, Any], prints: Mapping[str, str], resume: bool) -> dict[str, BatchRow]:
    """Make the folder, or read from it the rows of the cases that need not be done again."""
    if out.is_file():
        raise InputError(f"the output folder {out} is a file", "Name a folder")
    summary = out / "summary.json"
    if not (out.is_dir() and any(out.iterdir())):
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"the output folder {out} cannot be made ({error.strerror})", "Choose a place that can be written to"
            ) from error
        write_table(_COLUMNS, (), {**about, "inputs": {}}, out / "summary")
        return {}
    if not resume:
        raise InputError(f"the output folder {out} is not empty", "Add --resume to continue it, or name a new folder")
    try:
        earlier = json.loads(summary.read_text(encoding="utf-8"))
        same = all(earlier[key] == value for key, value in about.items())
        rows = [_row_from(values) for values in earlier["rows"]]
        inputs = dict(earlier["inputs"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{summary} is missing or broken, so that nothing can be continued ({type(error).__name__})",
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


def _row_from(values: Mapping[str, Any]) -> BatchRow:
    names = {"volume": "volume_mm3", "time": "seconds"}
    return BatchRow(**{names.get(column.name, column.name): values[column.name] for column in _COLUMNS})


def _write_summary(
    out: Path, datalist: Datalist, rows: Mapping[str, BatchRow], about: dict[str, Any], prints: Mapping[str, str]
) -> None:
    done = [rows[entry.case] for entry in datalist.entries if entry.case in rows]
    inputs = {row.case: prints[row.case] for row in done}
    write_table(_COLUMNS, done, {**about, "inputs": inputs}, out / "summary")
