"""Every case of a datalist through one bundle or several: a folder a case, a summary, and nothing lost on the way."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..bundle.load import Bundle
from ..data.case import Case
from ..data.datalist import Datalist
from ..data.load import load_case
from ..data.volume import Volume, resample
from ..metrics.overlap import dice
from ..progress import Progress
from .batch_run import BatchResult, Summary, Unit, plain_options, require_channels, run_batch
from .ensemble import segment_by
from .results import SegmentationResult
from .table import Column

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
    bundles: Bundle | Sequence[Bundle],
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
    bundles : one, or several whose probabilities are averaged (inference.ensemble); the first one's reference counts.
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
    bundles = (bundles,) if isinstance(bundles, Bundle) else tuple(bundles)
    for bundle in bundles:
        bundle.require_task("segmentation")
        require_channels(datalist, bundle, bundle.preparation.optional)
    channels = tuple(dict.fromkeys(channel for bundle in bundles for channel in bundle.channels))
    entries = {entry.case: entry for entry in datalist.entries}

    def work(unit: Unit, folder: Path, progress: Progress) -> BatchRow:
        began = time.monotonic()
        progress.report("Reading", 0.0)
        read = load_case(entries[unit.case], datalist, channels)
        case = replace(read, reference=bundles[0].reference)
        result = segment_by(case, bundles, **options, progress=progress.part(0.05, 0.9))
        progress.report("Writing results", 0.9)
        write(result, folder)
        return BatchRow(
            unit.case,
            unit.patient,
            folder.name,
            lesions=len(result.lesions),
            volume_mm3=float(sum(lesion.volume_mm3 for lesion in result.lesions)),
            seconds=time.monotonic() - began,
            dice=_dice(case, result),
            notes=". ".join(result.notes),
        )

    about = {
        "bundle": ", ".join(bundle.name for bundle in bundles),
        "weights_sha256": ", ".join(bundle.weights_sha256 for bundle in bundles),
        "options": plain_options(options),
    }
    units = [Unit(entry.case, entry.patient, tuple(entry.files())) for entry in datalist.entries]
    return run_batch(units, out, Summary(_COLUMNS, _row, about), work, resume=resume, progress=progress)


def _row(volume: float | None = None, time: float | None = None, **values: Any) -> BatchRow:
    """A row from the names of the columns."""
    return BatchRow(volume_mm3=volume, seconds=time, **values)


def _dice(case: Case, result: SegmentationResult) -> float | None:
    if case.mask is None:
        return None
    truth = resample(Volume(case.mask.array.astype(np.float32), case.mask.grid), result.label.grid).array >= 0.5
    return float(dice(result.label.array > 0, truth))
