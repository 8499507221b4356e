"""Table nodes with typed columns and units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..inference.table import Column as FileColumn
from .arrays import mrml_array, vtk_column

_TITLES = {"id": "ID"}  # where the name with blanks for underscores does not do


@dataclass(frozen=True)
class Column:
    """One column of a table node.

    Attributes
    ----------
    name : the column's name, which code asks for.
    title : what the table's header shows, followed by the unit.
    values : (rows,) whole numbers, floats or strings; the column takes their type.
    unit : "mm", "mm3" (shown as mm³); "" for a pure number.
    description : one sentence for the tool tip.
    """

    name: str
    title: str
    values: np.ndarray
    unit: str = ""
    description: str = ""


def table_columns(columns: Sequence[FileColumn], rows: Sequence[Any]) -> list[Column]:
    """The columns of ``lesions.tsv`` for a table node: same names, units and order; at full precision."""
    return [
        Column(
            column.name,
            _TITLES.get(column.name) or column.name.replace("_", " ").capitalize(),
            _typed(column.name, [column.value(row) for row in rows]),
            column.unit,
            column.description,
        )
        for column in columns
    ]


def fill_table(node: Any, columns: Sequence[Column]) -> None:
    """Replace everything in a vtkMRMLTableNode by these columns; whole columns at a time."""
    modifying = node.StartModify()
    node.RemoveAllColumns()
    node.SetUseColumnTitleAsColumnHeader(True)
    node.SetLocked(True)  # results are not typed over by accident
    for column in columns:
        node.AddColumn(_vtk_values(column))
        node.SetColumnTitle(column.name, column.title)
        node.SetColumnUnitLabel(column.name, column.unit.replace("mm3", "mm³"))
        node.SetColumnDescription(column.name, column.description)
    node.EndModify(modifying)
    node.Modified()


def figure_column(name: str, title: str, values: Sequence[float | None], unit: str = "", tip: str = "") -> Column:
    """Figures to be read, of four digits; where one is missing they are texts with "–" for it, not "nan"."""
    texts = ["–" if value is None or np.isnan(value) else f"{value:.4g}" for value in values]
    if "–" in texts:
        return Column(name, title, np.array(texts), unit, f"{tip}; – where there is none".removeprefix("; "))
    return Column(name, title, np.array([float(text) for text in texts]), unit, tip)


def _typed(name: str, values: list[Any]) -> np.ndarray:
    """Text, int32 or float64; a column without a value, which cannot tell, is whole numbers for the identifier only.

    None is "" among texts, else NaN.
    """
    if any(isinstance(value, str) for value in values):
        return np.array(["" if value is None else value for value in values], dtype=str)
    values = [np.nan if value is None else value for value in values]
    whole = all(isinstance(value, int) for value in values) if values else name == "id"
    return np.array(values, dtype=np.int32 if whole else np.float64)


def _vtk_values(column: Column) -> Any:
    import vtk

    values = column.values
    if values.dtype.kind in "biuf":
        return vtk_column(mrml_array(values, f"column {column.name}"), column.name)
    texts = vtk.vtkStringArray()
    texts.SetName(column.name)
    texts.SetNumberOfValues(values.size)
    for row, value in enumerate(values):
        texts.SetValue(row, str(value))
    return texts
