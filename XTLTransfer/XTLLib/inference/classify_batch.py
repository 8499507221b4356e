"""Every finding of a datalist rated: a folder a study, tables of studies and of findings, nothing lost on the way."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..bundle.load import Bundle
from ..data.case import Case
from ..data.datalist import Datalist, Entry
from ..data.load import load_case
from ..data.tables import unique_names
from ..errors import InputError
from ..progress import Progress
from .accuracy import Accuracy, accuracy_of
from .batch_run import BatchResult, Summary, Unit, plain_options, require_channels, run_batch
from .classify import classify_case
from .results import ClassificationResult
from .submission import write_submission
from .table import FINDING_COLUMNS, INTERVAL_COLUMNS, OPERATING_COLUMNS, WARNINGS_COLUMN, Column, write_table

WriteResult = Callable[[ClassificationResult, Path], Any]


@dataclass(frozen=True)
class StudyRow:
    """What became of one study, one row of the summary.

    Attributes
    ----------
    case : name of the study. patient : as in the datalist. folder : of its results, below the batch's.
    findings : their number. significant : how many the operating point calls so, None without one.
    highest_probability : of its findings. seconds : reading, rating and writing.
    notes : of the result. error : what went wrong, one line; "" when nothing did, and the figures are None else.
    """

    case: str
    patient: str
    folder: str
    findings: int | None = None
    significant: int | None = None
    highest_probability: float | None = None
    seconds: float | None = None
    notes: str = ""
    error: str = ""


@dataclass(frozen=True)
class CohortResult(BatchResult):
    """A cohort that was rated.

    Attributes
    ----------
    out : its folder. rows : a StudyRow for each study, in the order of the datalist.
    findings : a row of ``findings.json`` for each rated finding, in the order of the datalist.
    accuracy : of the findings whose truth the datalist tells; None where it does not tell both kinds.
    """

    findings: tuple[Mapping[str, Any], ...] = ()
    accuracy: Accuracy | None = None


_COLUMNS = (
    Column("case", "", "name of the study: its patient's, numbered where there are several", lambda row: row.case),
    Column("patient", "", "name in the datalist", lambda row: row.patient),
    Column("folder", "", "folder of the results", lambda row: row.folder),
    Column("findings", "", "number of findings", lambda row: row.findings),
    Column("significant", "", "findings that the operating point calls significant", lambda row: row.significant),
    Column("highest_probability", "", "of its findings", lambda row: row.highest_probability, 4),
    Column("time", "s", "reading, rating and writing", lambda row: row.seconds, 2),
    Column("notes", "", "what a reader of the result has to know", lambda row: row.notes),
    Column("error", "", "what went wrong", lambda row: row.error),
)
_RATED = (*FINDING_COLUMNS, *INTERVAL_COLUMNS, *OPERATING_COLUMNS, WARNINGS_COLUMN)
# The rows of findings.json, as they are read back when a batch is continued.
_FINDINGS = tuple(
    replace(column, value=lambda row, name=column.name: row[name])
    for column in (
        Column("entry", "", "name in the datalist", str),
        Column("case", "", "name of the study", str),
        Column("patient", "", "name in the datalist", str),
        *_RATED,
        Column("truth", "", "1: clinically significant, as the datalist says; empty when unknown", str),
    )
)


def classify_cases(
    datalist: Datalist,
    bundles: Bundle | Sequence[Bundle],
    out: str | os.PathLike,
    write: WriteResult,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> CohortResult:
    """Rate every finding of a datalist, whatever part it stands in.

    Findings of one patient on the same images are one study, rated together. Each study gets a folder of its own below
    ``out``; there are ``summary.tsv`` and ``.json`` with a row for each study, ``findings.tsv`` and ``.json`` with a
    row for each finding, and ``submission.csv`` (proxid, clinsig) in the datalist's order, all rewritten after each
    study. A study that fails gets a row that says why, and the others go on. Where the datalist tells the truth of
    findings of both kinds, ``report.png`` shows how good the probabilities are.

    As in a console::

        from XTLLib.bundle.load import load_bundle
        from XTLLib.data.datalist import Datalist
        from XTLLib.inference.classify_batch import classify_cases
        from XTLLib.scene.folder import write_result_folder

        cases = Datalist.load("cases.json", check_files=False)  # a missing file then fails its study only
        cohort = classify_cases(cases, load_bundle("prostate-bundle"), "results", write_result_folder, resume=True)
        for row in cohort.findings:
            print(row["patient"], row["finding"], row["probability"], row["class"])
        if cohort.accuracy is not None:
            print(cohort.accuracy.auc)

    Parameters
    ----------
    bundles : one, or the members of an ensemble.
    write : puts a result into a folder that it makes, whole or not at all, as ``scene.folder.write_result_folder``.
    resume : go on in ``out``: studies whose results are there are passed over, those that failed or whose files or
        findings have changed are done again. The bundles and the options have to be the same.
    options : of :func:`~XTLLib.inference.classify.classify_case`, the same for all.

    Raises
    ------
    InputError : the datalist is not of findings in volumes or lacks a channel that a bundle needs; ``out`` is not
        empty and ``resume`` is not asked for, or it holds a batch of another bundle or of other options.
    MissingPackageError : every study would lack the package.
    Cancelled : at the request of ``progress``; finished studies stay.
    """
    bundles = (bundles,) if isinstance(bundles, Bundle) else tuple(bundles)
    for bundle in bundles:
        bundle.require_task("classification")
        optional = bundle.patch_spec.channels if bundle.patch_spec.missing == "neutral" else ()
        require_channels(datalist, bundle, set(optional) - {bundle.patch_spec.reference})
    _require_findings(datalist)
    studies = _studies(datalist)
    units = [
        Unit(name, entries[0].patient, tuple(entries[0].files()), repr([(e.finding, e.label) for e in entries]))
        for name, entries in studies.items()
    ]
    about = {
        "task": "classification",
        "bundle": " + ".join(bundle.name for bundle in bundles),
        "weights_sha256": [bundle.weights_sha256 for bundle in bundles],
        "options": plain_options(options),
    }
    out = Path(out)
    rated = _earlier(out / "findings.json") if resume else {}
    channels = {name for bundle in bundles for name in bundle.channels}
    order = {entry.case: place for place, entry in enumerate(datalist.entries)}

    def work(unit: Unit, folder: Path, progress: Progress) -> StudyRow:
        began = time.monotonic()
        progress.report("Reading", 0.0)
        entries = studies[unit.case]
        case = _case(entries, datalist, channels, bundles[0].patch_spec.reference)
        ensemble = bundles[0] if len(bundles) == 1 else bundles
        result = classify_case(case, ensemble, **options, progress=progress.part(0.05, 0.9))
        progress.report("Writing results", 0.9)
        write(result, folder)
        rated[unit.case] = [_finding_row(unit, entry, one) for entry, one in zip(entries, result.findings)]
        called = [one.is_significant for one in result.findings if one.is_significant is not None]
        return StudyRow(
            unit.case,
            unit.patient,
            folder.name,
            findings=len(result.findings),
            significant=sum(called) if called else None,
            highest_probability=max(one.probability for one in result.findings),
            seconds=time.monotonic() - began,
            notes=". ".join(result.notes),
        )

    def findings_of(rows: Sequence[StudyRow]) -> list[dict[str, Any]]:
        found = [one for row in rows if not row.error for one in rated[row.case]]
        return sorted(found, key=lambda one: order[one["entry"]])

    def write_findings(rows: Sequence[StudyRow]) -> None:
        found = findings_of(rows)
        write_table(_FINDINGS, found, about, out / "findings")
        write_submission([(one["patient"], one["probability"]) for one in found], out / "submission.csv")

    batch = run_batch(
        units,
        out,
        Summary(_COLUMNS, _row, about),
        work,
        resume=resume,
        progress=progress,
        keep=lambda row: [one["entry"] for one in rated.get(row.case, ())] == [e.case for e in studies[row.case]],
        before_summary=write_findings,
    )
    found = findings_of(batch.rows)
    accuracy = accuracy_of(found)
    if accuracy is not None:
        from .accuracy_report import write_accuracy_report

        write_table(_FINDINGS, found, {**about, "accuracy": accuracy.to_dict()}, out / "findings")
        write_accuracy_report(accuracy, found, out / "report.png", about["bundle"])
    return CohortResult(batch.out, batch.rows, tuple(found), accuracy)


def _row(time: float | None = None, **values: Any) -> StudyRow:
    """A row from the names of the columns."""
    return StudyRow(seconds=time, **values)


def _require_findings(datalist: Datalist) -> None:
    without = next((entry for entry in datalist.entries if entry.finding is None or entry.row is not None), None)
    if without is not None:
        what = "no finding" if without.finding is None else "a stored patch instead of volumes"
        raise InputError(
            f"the case {without.case} of the datalist {datalist.name} has {what}",
            "Write the datalist with task=classification from a layout of volumes (prostatex, picai, csv)",
        )


def _studies(datalist: Datalist) -> dict[str, list[Entry]]:
    """Name -> the entries of one patient on the same images, in the datalist's order."""
    groups: dict[tuple, list[Entry]] = {}
    for entry in datalist.entries:
        groups.setdefault((entry.patient, tuple(sorted(entry.images.items()))), []).append(entry)
    return dict(zip(unique_names([patient for patient, _ in groups]), groups.values()))


def _case(entries: Sequence[Entry], datalist: Datalist, channels: set[str], reference: str) -> Case:
    case = load_case(entries[0], datalist, channels)
    names = unique_names([entry.finding.identifier for entry in entries])
    findings = [
        replace(entry.finding, identifier=name, significant=None if entry.label is None else bool(entry.label))
        for entry, name in zip(entries, names)
    ]
    return replace(case, reference=reference, findings=tuple(findings))


def _finding_row(unit: Unit, entry: Entry, one: Any) -> dict[str, Any]:
    values = {column.name: column.value(one) for column in _RATED}
    return {"entry": entry.case, "case": unit.case, "patient": unit.patient, **values, "truth": entry.label}


def _earlier(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Study -> the rows of its findings in an earlier run; those of a file that is missing or broken are done again."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        found: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            found.setdefault(row["case"], []).append({column.name: row[column.name] for column in _FINDINGS})
        return found
    except (OSError, ValueError, KeyError, TypeError):
        return {}
