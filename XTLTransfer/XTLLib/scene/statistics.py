"""Segment statistics as a table node, with the columns that Slicer's module Segment Statistics writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..data.volume import Volume
from ..inference.segment_statistics import MEASURES, statistics_of
from .change import check_output, one_change, output_node
from .session import import_slicer


def add_statistics(
    label: Volume,
    scene: Any,
    names: Mapping[int, str] | None = None,
    table_node: Any = None,
    name: str = "MS lesion statistics",
) -> Any:
    """Measure the labels of a map into a vtkMRMLTableNode, which is returned.

    The columns have the names, types and components of the module's own export ("Segment", "Volume mm3",
    "Centroid" with r, a, s, ...), so that what reads the one reads the other.

    Parameters
    ----------
    names : label value -> name of the segment. table_node : filled anew when given.

    Raises
    ------
    InputError : the table node is none.
    """
    import vtk

    check_output(table_node, "vtkMRMLTableNode")
    import_slicer()
    rows = statistics_of(label, names)
    with one_change(scene):
        table_node = output_node(table_node, "vtkMRMLTableNode", name, scene)
        modifying = table_node.StartModify()
        table_node.RemoveAllColumns()
        table_node.SetUseColumnTitleAsColumnHeader(False)
        segments = vtk.vtkStringArray()
        segments.SetName("Segment")
        for row in rows:
            segments.InsertNextValue(row.segment)
        table_node.AddColumn(segments)
        for measure in MEASURES:
            values = [getattr(row, measure.key) for row in rows]
            column = vtk.vtkLongArray() if measure.key == "voxel_count" else vtk.vtkDoubleArray()
            column.SetName(measure.name)
            column.SetNumberOfComponents(max(1, len(measure.components)))
            for place, component in enumerate(measure.components):
                column.SetComponentName(place, component)
            for value in values:
                column.InsertNextTuple(value if measure.components else (value,))
            table_node.AddColumn(column)
            table_node.SetColumnUnitLabel(measure.name, measure.unit)
        table_node.EndModify(modifying)
    return table_node
