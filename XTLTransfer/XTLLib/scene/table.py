"""Table nodes with typed columns and units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arrays import mrml_array, vtk_column


@dataclass(frozen=True)
class Column:
    """One column of a table node.

    Attributes
    ----------
    name : the column's name, which code asks for.
    title : what the table's header shows, followed by the unit.
    values : 1D: whole numbers, floats or strings; the column takes their type.
    unit : "mm", "mm3"; "" for a pure number.
    description : one sentence for the tool tip.
    """

    name: str
    title: str
    values: Sequence[Any] | np.ndarray
    unit: str = ""
    description: str = ""


def fill_table(node: Any, columns: Sequence[Column]) -> None:
    """Replace everything in a vtkMRMLTableNode by these columns; whole columns at a time."""
    modifying = node.StartModify()
    node.RemoveAllColumns()
    node.SetUseColumnTitleAsColumnHeader(True)
    node.SetLocked(True)  # results are not typed over by accident
    for column in columns:
        node.AddColumn(_vtk_values(column))
        node.SetColumnTitle(column.name, column.title)
        node.SetColumnUnitLabel(column.name, column.unit)
        node.SetColumnDescription(column.name, column.description)
    node.EndModify(modifying)
    node.Modified()


def _vtk_values(column: Column) -> Any:
    import vtk

    values = np.asarray(column.values)
    if values.dtype.kind in "biuf" or (values.size == 0 and values.dtype.kind != "U"):
        return vtk_column(mrml_array(values, f"column {column.name}"), column.name)
    texts = vtk.vtkStringArray()
    texts.SetName(column.name)
    texts.SetNumberOfValues(values.size)
    for row, value in enumerate(values):
        texts.SetValue(row, str(value))
    return texts
