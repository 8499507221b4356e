"""Tables that people type: CSV with a byte-order mark, semicolons, blanks and columns named almost right."""

from __future__ import annotations

import csv
import difflib
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes
    ----------
    where : "file, line 7", for messages.
    values : column -> text without blanks at the ends.
    """

    where: str
    values: dict[str, str]

    def __getitem__(self, column: str) -> str:
        return self.values[column]

    def get(self, column: str) -> str:
        """The text in a column, "" when the table does not have it."""
        return self.values.get(column, "")


def read_table(path: str | os.PathLike, required: Iterable[str] = ()) -> list[Row]:
    """Read a CSV or TSV file with a header line; the delimiter (comma, semicolon, tab) is told from the header.

    Empty lines are skipped; a UTF-8 byte-order mark is dropped; newlines inside quotes are kept.

    Raises
    ------
    InputError : the file is missing, empty, cut off within its last line, not text, lacks a required column
        (the nearest column that it has is named), names a column twice, or has a line with too many values.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"the table {path} does not exist", "Check the path")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"the table {path} is not UTF-8 text", "Save it as CSV in UTF-8") from error
    if "\0" in text:
        raise InputError(f"the table {path} is not UTF-8 text (it holds zero bytes)", "Save it as CSV in UTF-8")
    header = next((line for line in text.splitlines() if line.strip()), "")
    if not header:
        raise InputError(f"the table {path} is empty", "Give a table with a header line")
    delimiter = max(",;\t", key=header.count)
    # newline="": the ends of lines are left to csv, which also knows those of old Macintoshes (CR alone).
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    columns: list[str] = []
    rows = []
    lines, ends_within_line = len(text.splitlines()), not text.endswith(("\n", "\r"))
    for cells in _lines(path, reader):
        cells = [cell.strip() for cell in cells]
        if not any(cells):
            continue
        if not columns:
            columns = cells
            _refuse_doubles(path, columns)
            require_columns(path, columns, required)
            continue
        where = f"{path}, line {reader.line_num}"
        if len(cells) > len(columns) and any(cells[len(columns) :]):
            raise InputError(
                f"{where} has {len(cells)} values for {len(columns)} columns", "Quote values that hold the delimiter"
            )
        if len(cells) < len(columns) and ends_within_line and reader.line_num >= lines:
            raise InputError(f"{where} is cut off", "Complete the table; end its last line")
        cells += [""] * (len(columns) - len(cells))
        rows.append(Row(where, dict(zip(columns, cells))))
    return rows


def _lines(path: Path, reader) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num} is no line of a table ({error})", "Save it as CSV again"
        ) from error


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that looks most like ``name``, for "did you mean"; "" when none does."""
    by_lower = {one.lower(): one for one in known}
    lower = name.lower()
    found = difflib.get_close_matches(lower, by_lower, n=1, cutoff=0.6)
    # A longer or shorter form of the word ("pos" and "position") is nearer than the share of letters tells.
    found += [one for one in by_lower if min(len(one), len(lower)) >= 3 and (one in lower or lower in one)]
    return by_lower[found[0]] if found else ""


def unique_names(names: Sequence[str]) -> list[str]:
    """The names, with -2, -3 ... added to the later ones of a name that comes more than once."""
    given: dict[str, int] = {}
    result = []
    for name in names:
        given[name] = given.get(name, 0) + 1
        result.append(name if given[name] == 1 else f"{name}-{given[name]}")
    return result


def require_columns(path: str | os.PathLike, columns: Iterable[str], required: Iterable[str]) -> None:
    """Raise InputError when a required column is missing, naming the nearest one that the table has."""
    named = [column for column in columns if column]
    for column in required:
        if column not in named:
            close = nearest(column, named)
            raise InputError(
                f"the table {path} has no column {column} (it has: {', '.join(named)})",
                f"Rename the column {close} to {column}" if close else f"Add the column {column}",
            )


def _refuse_doubles(path: Path, columns: list[str]) -> None:
    twice = sorted({column for column in columns if column and columns.count(column) > 1})
    if twice:
        raise InputError(f"the table {path} has the column {twice[0]} twice", "Name every column once")
