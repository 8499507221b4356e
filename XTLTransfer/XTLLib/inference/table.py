"""The lesion table on disk: ``lesions.tsv`` for spreadsheets, ``lesions.json`` for programs."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import atomic_file
from .results import RESEARCH_NOTE, ClassificationResult, Lesion, RatedFinding, SegmentationResult


@dataclass(frozen=True)
class Column:
    """One column of a lesion table.

    Attributes
    ----------
    name : key in JSON. unit : "mm", "mm3" or "" for a pure number or a text.
    description : one sentence. value : takes it from a row, None where there is none.
    decimals : in the TSV, None for no rounding.
    """

    name: str
    unit: str
    description: str
    value: Callable[[Any], int | float | str | None]
    decimals: int | None = None

    @property
    def header(self) -> str:
        """Name and unit, as the TSV's first line has it."""
        return f"{self.name}_{self.unit}" if self.unit else self.name


def _position(name: str, axis: int, towards: str, of: Callable[[Any], Sequence[float]]) -> Column:
    return Column(name, "mm", f"position towards {towards} in patient space", lambda row: float(of(row)[axis]), 2)


def ras_columns(of: Callable[[Any], Sequence[float]]) -> tuple[Column, ...]:
    """R, A and S of the position that ``of`` takes from a row."""
    return tuple(_position(name, axis, towards, of) for axis, (name, towards) in enumerate(zip("RAS", _TOWARDS)))


_TOWARDS = ("the patient's right", "anterior", "superior")

LESION_COLUMNS: tuple[Column, ...] = (
    Column("id", "", "value in the label map, 1 for the largest lesion", lambda row: row.identifier),
    *ras_columns(lambda row: row.position_ras),
    Column("volume", "mm3", "voxel count times voxel volume", lambda row: row.volume_mm3, 2),
    Column(
        "longest_diameter",
        "mm",
        "largest distance between two points of the lesion's voxels",
        lambda row: row.longest_diameter_mm,
        2,
    ),
    Column("mean_probability", "", "mean over the lesion's voxels", lambda row: row.mean_probability, 4),
    Column("maximum_probability", "", "maximum over the lesion's voxels", lambda row: row.maximum_probability, 4),
)

UNCERTAINTY_COLUMN = Column(
    "uncertainty",
    "",
    "mean over the lesion's voxels of the SD of the probability over mirrored views or bundles",
    lambda row: row.uncertainty,
    4,
)
LOCATION_COLUMN = Column("location", "", "where in the brain the lesion lies", lambda row: row.location)

_CLASSES = {None: "", False: "not significant", True: "significant"}

FINDING_COLUMNS: tuple[Column, ...] = (
    Column("id", "", "value in the label map", lambda row: row.row),
    Column("finding", "", "name of the finding", lambda row: row.finding.identifier),
    Column("zone", "", "zone of the prostate (PZ, TZ, AS, SV), empty when unknown", lambda row: row.finding.zone),
    *ras_columns(lambda row: row.finding.position_ras),
    Column(
        "probability",
        "",
        "probability of clinically significant cancer; calibrated where the model has a calibration",
        lambda row: row.probability,
        4,
    ),
)
_INTERVAL = "probability that any member of the ensemble gives to any view of it; no bound of a confidence interval"
INTERVAL_COLUMNS: tuple[Column, ...] = (
    Column("probability_low", "", f"smallest {_INTERVAL}", lambda row: row.interval and row.interval[0], 4),
    Column("probability_high", "", f"largest {_INTERVAL}", lambda row: row.interval and row.interval[1], 4),
)
OPERATING_COLUMNS: tuple[Column, ...] = (
    Column("threshold", "", "probability from which on a finding is called significant", lambda row: row.threshold, 4),
    Column("class", "", "significant: the probability reaches the threshold", lambda row: _CLASSES[row.is_significant]),
    Column(
        "ppv",
        "",
        "share of the findings called significant that were, at this threshold in the data of calibration",
        lambda row: row.ppv,
        2,
    ),
    Column(
        "npv",
        "",
        "share of the findings not called significant that were not, at this threshold in the data of calibration",
        lambda row: row.npv,
        2,
    ),
)
WARNINGS_COLUMN = Column(
    "warnings", "", "what is to be known of this finding's rating", lambda row: "; ".join(row.warnings)
)

Rows = Sequence[Lesion] | Sequence[RatedFinding]


def lesion_columns(table: SegmentationResult | Sequence[Lesion]) -> tuple[Column, ...]:
    """The columns of a lesion table: those of every result, then those that only some results have.

    A result with an uncertainty map or with locations has their columns also when no lesion was found.
    """
    of_result = isinstance(table, SegmentationResult)
    rows = table.lesions if of_result else table
    uncertain = table.uncertainty is not None if of_result else bool(rows)
    located = bool(table.location_rule) if of_result else any(row.location for row in rows)
    further = [UNCERTAINTY_COLUMN] if uncertain and all(row.uncertainty is not None for row in rows) else []
    return (*LESION_COLUMNS, *further, *([LOCATION_COLUMN] if located else []))


def finding_columns(
    table: ClassificationResult | Sequence[RatedFinding], patient: str | None = None
) -> tuple[Column, ...]:
    """The columns of a table of rated findings: those of every result, and those that only some results have.

    An interval, and what an operating point gives, have columns when any finding has them; warnings always have one,
    so that an empty one can be told from none.

    Parameters
    ----------
    patient : name or number for a column of its own; None names nobody.
    """
    rows = table.findings if isinstance(table, ClassificationResult) else table
    named = () if patient is None else (Column("patient", "", "whose findings these are", lambda row: patient),)
    interval = INTERVAL_COLUMNS if any(row.interval is not None for row in rows) else ()
    operating = OPERATING_COLUMNS if any(row.threshold is not None for row in rows) else ()
    return (FINDING_COLUMNS[0], *named, *FINDING_COLUMNS[1:], *interval, *operating, WARNINGS_COLUMN)


def write_lesion_table(
    table: SegmentationResult | ClassificationResult | Rows, out: str | os.PathLike, patient: str | None = None
) -> tuple[Path, Path]:
    """Write ``lesions.tsv`` and ``lesions.json`` into the folder ``out``; an empty table has a header only.

    Parameters
    ----------
    table : a result, whose threshold, bundle and kind go into the JSON, or bare rows.
    patient : of findings: see :func:`finding_columns`.

    Returns
    -------
    The two paths.
    """
    columns, rows, about = _parts(table, patient)
    return write_table(columns, rows, about, Path(out) / "lesions")


def write_table(columns: Sequence[Column], rows: Sequence[Any], about: dict[str, Any], stem: Path) -> tuple[Path, Path]:
    """Write ``stem``.tsv and ``stem``.json; ``about`` stands above the rows of the latter. Returns both paths."""
    tsv, as_json = stem.with_suffix(".tsv"), stem.with_suffix(".json")
    with atomic_file(tsv) as draft, open(draft, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow([column.header for column in columns])
        writer.writerows([_text(column, row) for column in columns] for row in rows)
    document = {
        "note": RESEARCH_NOTE,
        **about,
        "columns": [{"name": c.name, "unit": c.unit, "description": c.description} for c in columns],
        "rows": [{column.name: column.value(row) for column in columns} for row in rows],
    }
    with atomic_file(as_json) as draft:
        draft.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return tsv, as_json


def _parts(table, patient: str | None) -> tuple[tuple[Column, ...], Sequence, dict[str, Any]]:
    if isinstance(table, SegmentationResult):
        about = {
            "task": "segmentation",
            "bundle": table.bundle_name,
            "threshold": table.threshold,
            "minimum_volume_mm3": table.minimum_volume_mm3,
            "connectivity": 26,
            "coordinates": "RAS, mm",
            **({"location_rule": table.location_rule} if table.location_rule else {}),
            **({"notes": list(table.notes)} if table.notes else {}),
        }
        return lesion_columns(table), table.lesions, about
    if isinstance(table, ClassificationResult):
        about = {
            "task": "classification",
            "bundle": table.bundle_name,
            "coordinates": "RAS, mm",
            **({"operating_point": table.operating_point} if table.operating_point else {}),
            **({"notes": list(table.notes)} if table.notes else {}),
        }
        return finding_columns(table, patient), table.findings, about
    rows = tuple(table)
    of_findings = bool(rows) and isinstance(rows[0], RatedFinding)
    columns = finding_columns(rows, patient) if of_findings else lesion_columns(rows)
    return columns, rows, {"coordinates": "RAS, mm"}


def _text(column: Column, row) -> str:
    value = column.value(row)
    if value is None:
        return ""
    return f"{value:.{column.decimals}f}" if column.decimals is not None else str(value)
