"""Anybody's own images, listed in a table (CSV or TSV with a header line; comma, semicolon or tab).

One line an entry. Columns:

==========  ==================================================================================
patient     identifier; all lines of a patient stay in one part of a split
case        optional; unique; else made from the patient
<channel>   path of the image, relative to the table's folder or absolute; the columns FLAIR, T1, T2,
            PD, T2W, ADC, HBV, KTRANS, MG, or those that the option ``channels`` names. A volume file, a
            folder with one DICOM series, or (MG) a mammogram film
label       path of the lesion mask, or 0 / 1 (of films 0 to n-1 where the option ``classes`` names n); empty
            for a case of the test part; not needed for ``task=unlabelled``
r, a, s     position of a finding, RAS mm: needed for volumes labelled 0 / 1
finding     optional; the finding's number
zone        optional; PZ, TZ, AS or SV
part        optional; training, validation or test
==========  ==================================================================================

Any other column is kept as an attribute. What the datalist is for follows from the table: masks,
segmentation (of MG, mammogram-segmentation); 0 / 1 with MG, mammogram-classification; 0 / 1 with
positions, classification.
"""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import InputError
from ..case import Finding
from ..datalist import MAMMOGRAM_CHANNEL, PARTS, Datalist, Entry
from ..findings import position_ras, zone_of
from ..tables import Row, nearest, read_table, unique_names
from .common import UNLABELLED, choose, require_entries

KNOWN_CHANNELS = ("FLAIR", "T1", "T2", "PD", "T2W", "ADC", "HBV", "KTRANS", "MG")
_RESERVED = ("patient", "case", "label", "part", "finding", "r", "a", "s", "zone")
_IMAGE_ENDINGS = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr", ".png", ".pgm", ".tif", ".tiff", ".dcm")
_LABELS = {
    "segmentation": {"0": "background", "1": "lesion"},
    "classification": {"0": "not significant", "1": "clinically significant"},
    "mammogram-classification": {"0": "normal", "1": "abnormal"},
    "mammogram-segmentation": {"0": "background", "1": "abnormality"},
    UNLABELLED: {},
}


def read(
    source: Path, channels: str = "", reference: str = "", name: str = "", task: str = "", classes: str = ""
) -> Datalist:
    """Read a table of cases; see this file's docstring for its columns.

    Parameters
    ----------
    source : the table.
    channels : names of the image columns, separated by commas, where they are not the known ones.
    reference : the channel on whose grid results are given; the first one of the table when empty.
    name : of the datalist; the table's file name when empty.
    task : "unlabelled" reads the images alone, also of lines that have a label; empty: as the labels say.
    classes : of mammogram classification, what the labels 0, 1, ... mean, separated by commas.
    """
    is_labelled = choose("csv", "task", task, ("", UNLABELLED)) != UNLABELLED
    rows = read_table(source, ("patient", "label") if is_labelled else ("patient",))
    if not rows:
        raise InputError(f"the table {source} has a header and no lines", "Add a line for each case")
    columns = list(rows[0].values)
    names = _channel_columns(source, columns, channels)
    _refuse_forgotten_images(source, rows, [c for c in columns if c not in names and c not in _RESERVED])
    meanings = [text.strip() for text in classes.split(",") if text.strip()]
    task = _task_of(source, rows, names, len(meanings) or 2) if is_labelled else UNLABELLED
    if meanings and task != "mammogram-classification":
        raise InputError(f"the option classes of the layout csv is {classes}, and the table is for {task}", "Leave it")
    cases = [row.get("case") for row in rows]
    made = unique_names([row["patient"] for row in rows])
    parts: dict[str, list[Entry]] = {part: [] for part in PARTS}
    for row, case in zip(rows, [given or own for given, own in zip(cases, made)]):
        parts[_part_of(row, is_labelled)].append(_entry(row, case, names, task, source.parent))
    require_entries([entry for entries in parts.values() for entry in entries], source, "cases")
    return Datalist(
        name=name or source.stem,
        layout="csv",
        task=task,
        channels=tuple(names),
        reference=reference or names[0],
        labels={str(number): text for number, text in enumerate(meanings)} or _LABELS[task],
        description=f"{len(rows)} lines of {source.name}",
        **parts,
    )


def _channel_columns(source: Path, columns: list[str], channels: str) -> list[str]:
    if not channels:
        names = [column for column in columns if column in KNOWN_CHANNELS]
        if not names:
            raise InputError(
                f"the table {source} has no image column (it has: {', '.join(columns)}; "
                f"known: {', '.join(KNOWN_CHANNELS)})",
                "Rename the columns, or name them with the option channels",
            )
        return names
    names = [name.strip() for name in channels.split(",") if name.strip()]
    for name in names:
        if name not in columns or name in _RESERVED:
            close = nearest(name, [column for column in columns if column not in _RESERVED])
            raise InputError(
                f"the table {source} has no image column {name} (it has: {', '.join(columns)})",
                f"Did you mean {close}" if close else "Correct the option channels",
            )
    return names


def _refuse_forgotten_images(source: Path, rows: list[Row], others: list[str]) -> None:
    for column in others:
        if any(row[column].lower().endswith(_IMAGE_ENDINGS) for row in rows):
            close = nearest(column, KNOWN_CHANNELS)
            raise InputError(
                f"the table {source} has images in the column {column}, which is not a known channel",
                (f"Rename it to {close}, or name" if close else "Name") + " all image columns with the option channels",
            )


def _task_of(source: Path, rows: list[Row], names: list[str], classes: int) -> str:
    labels = {row["label"] for row in rows} - {""}
    if not labels:
        raise InputError(
            f"the table {source} has no label in any line", "Give masks, or 0 and 1, or the option task=unlabelled"
        )
    are_films = names == [MAMMOGRAM_CHANNEL]
    numbers = [str(number) for number in range(classes if are_films else 2)]
    if not any(label.isdigit() for label in labels):
        return "mammogram-segmentation" if are_films else "segmentation"
    if labels - set(numbers):
        wrong = next(row for row in rows if row["label"] not in (*numbers, ""))
        known = ", ".join(numbers[:-1]) + f" and {numbers[-1]}"
        raise InputError(
            f"{wrong.where} has the label '{wrong['label']}' among labels of {known}",
            "Use one kind" + (", or name more with the option classes" if are_films else ""),
        )
    if are_films:
        return "mammogram-classification"
    missing = [column for column in "ras" if column not in rows[0].values]
    if missing:
        raise InputError(
            f"the table {source} labels volumes with 0 and 1 and has no column {', '.join(missing)}",
            "Add the position of each finding as r, a, s in mm",
        )
    return "classification"


def _part_of(row: Row, is_labelled: bool) -> str:
    part = row.get("part").lower() or ("training" if row.get("label") or not is_labelled else "test")
    if part not in PARTS:
        raise InputError(f"{row.where} has the part '{row.get('part')}'", f"Use one of: {', '.join(PARTS)}")
    return part


def _entry(row: Row, case: str, names: list[str], task: str, folder: Path) -> Entry:
    empty = [column for column in ("patient", *names) if not row[column]]
    if empty:
        raise InputError(f"{row.where} has nothing in {', '.join(empty)}", "Fill it in, or take the line out")
    label: str | int | None = None
    if row.get("label") and task != UNLABELLED:
        label = _path(row["label"], folder) if task.endswith("segmentation") else int(row["label"])
    finding = None
    if task == "classification":
        truth = None if label is None else bool(label)
        finding = Finding(row.get("finding") or "1", position_ras(row), zone_of(row), truth)
    taken = {*names, *_RESERVED} - {"zone"}
    return Entry(
        patient=row["patient"],
        case=case,
        images={name: _path(row[name], folder) for name in names},
        label=label,
        finding=finding,
        attributes={column: value for column, value in row.values.items() if column not in taken and value},
    )


def _path(text: str, folder: Path) -> str:
    return os.path.normpath(os.path.join(folder, os.path.expanduser(text)))
