"""A lesion table as text, for a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_PLACES = ("R", "A", "S")  # columns that are looked at last


@dataclass(frozen=True)
class TableText:
    """A lesion table as text.

    Attributes
    ----------
    headers : column titles with units. rows : (identifier, cells) from the top; identifiers count from 1.
    """

    headers: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]


def text_of_table(node: Any) -> TableText:
    """A vtkMRMLTableNode with a column ``id`` as text, places last; empty columns are left out."""
    table = node.GetTable()
    count = table.GetNumberOfRows()
    headers, columns = [], []
    names = [node.GetColumnName(index) for index in range(table.GetNumberOfColumns())]
    for name in sorted(names, key=lambda name: name in _PLACES):
        index = names.index(name)
        cells = [_cell(table.GetValue(row, index)) for row in range(count)]
        if name != "id" and not any(cells):
            continue
        unit = node.GetColumnUnitLabel(name)
        title = node.GetColumnTitle(name) or name
        headers.append(f"{title} [{unit}]" if unit else title)
        columns.append(cells)
    identifiers = [int(table.GetValueByName(row, "id").ToInt()) for row in range(count)]
    return TableText(tuple(headers), tuple((one, cells) for one, cells in zip(identifiers, zip(*columns))))


def _cell(value: Any) -> str:
    """Up to four figures, which is more than a lesion's measures are worth."""
    if value.IsString():
        return value.ToString()
    number = value.ToDouble()
    if number != number:
        return ""
    return f"{number:.0f}" if value.IsInt() or abs(number) >= 1000 else f"{number:.4g}"
