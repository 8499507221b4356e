"""The log of a training in the scene: a table and the plot of its curves."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from ..errors import InputError
from ..training.logs import logs_changed_ns, read_logs
from .change import check_output, one_change, output_node
from .table import Column, fill_table


@dataclass(frozen=True)
class TrainingNodes:
    """The nodes of a training log.

    Attributes
    ----------
    table : vtkMRMLTableNode, one row a step of the log.
    chart : vtkMRMLPlotChartNode over ``series``.
    series : column name -> vtkMRMLPlotSeriesNode.
    """

    table: Any
    chart: Any
    series: dict[str, Any]


def training_table(
    rows: Sequence[Mapping[str, Any]],
    scene: Any,
    name: str = "Training",
    x: str = "epoch",
    curves: Sequence[str] | None = None,
    table_node: Any = None,
    chart_node: Any = None,
) -> TrainingNodes:
    """Put a training log into the scene as a table and a chart of its curves.

    Parameters
    ----------
    rows : the log's rows; a column that a row lacks is NaN there.
    x : the column of the horizontal axis.
    curves : columns to draw; None draws every other column of numbers. Other curves of a given chart go.
    table_node, chart_node : filled anew when given (while a training runs, call again with both).

    Raises
    ------
    InputError : no rows, or no column ``x``.
    """
    check_output(table_node, "vtkMRMLTableNode")
    check_output(chart_node, "vtkMRMLPlotChartNode")
    names = list(dict.fromkeys(key for row in rows for key in row))
    if x not in names:
        raise InputError(f"the training log {name} has no column {x}", "Give the log of a training that has begun")
    columns = [_column(key, [row.get(key) for row in rows]) for key in names]
    drawn = [c.name for c in columns if c.name != x and c.values.dtype.kind in "iuf"]
    drawn = [key for key in drawn if curves is None or key in curves]

    with one_change(scene):
        table_node = output_node(table_node, "vtkMRMLTableNode", f"{name} log", scene)
        fill_table(table_node, columns)
        chart_node = output_node(chart_node, "vtkMRMLPlotChartNode", f"{name} curve", scene)
        _remove_series_beyond(drawn, chart_node, scene)
        series = {key: _series(chart_node, table_node, x, key, scene) for key in drawn}
        chart_node.SetTitle(name)
        chart_node.SetXAxisTitle(_title(x))
    return TrainingNodes(table_node, chart_node, series)


def show_logs(
    out: str | os.PathLike, scene: Any, table_node: Any, chart_node: Any, shown_ns: int = 0
) -> tuple[TrainingNodes | None, int]:
    """Bring the logs of a run's folder into the scene, where they have grown.

    The loss of every stage is a curve of its own, beside the validation figures.

    Parameters
    ----------
    shown_ns : what the last call gave.

    Returns
    -------
    The nodes, None where there is nothing new, and when the logs were last written, for the next call.
    """
    changed = logs_changed_ns(out)
    rows = read_logs(out) if changed != shown_ns else []
    if not rows:
        return None, changed
    rows = [{(f"loss {row['stage']}" if key == "loss" else key): value for key, value in row.items()} for row in rows]
    curves = {name for row in rows for name in row} - {"step", "stage", "learning_rate"}
    nodes = training_table(rows, scene, x="step", curves=sorted(curves), table_node=table_node, chart_node=chart_node)
    return nodes, changed


def _title(name: str) -> str:
    """A column's name in words: "Loss, stage 1: target" of ``loss 01-target``."""
    of_stage = re.fullmatch(r"loss 0*(\d+)-(.+)", name)
    words = "loss, stage {}: {}".format(*of_stage.groups()) if of_stage else name.replace("_", " ")
    return words[:1].upper() + words[1:]


def _column(name: str, values: list[Any]) -> Column:
    title = _title(name)
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return Column(name, title, np.array(values, dtype=np.int32))
    if all(value is None or isinstance(value, Real) for value in values):
        return Column(name, title, np.array([np.nan if value is None else value for value in values], dtype=np.float64))
    return Column(name, title, np.array(["" if value is None else str(value) for value in values]))


def _series_of(chart: Any) -> list[Any]:
    return [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())]


def _remove_series_beyond(names: Sequence[str], chart: Any, scene: Any) -> None:
    """Curves of an earlier training whose columns the table no longer has."""
    for series in _series_of(chart):
        if series.GetYColumnName() not in names:
            chart.RemovePlotSeriesNodeID(series.GetID())
            scene.RemoveNode(series)


def _series(chart: Any, table: Any, x: str, y: str, scene: Any) -> Any:
    """The chart's series of a column, made when it is not there yet."""
    series = next((series for series in _series_of(chart) if series.GetYColumnName() == y), None)
    if series is None:
        series = scene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", _title(y))
        series.SetPlotType(series.PlotTypeScatter)
        series.SetMarkerStyle(series.MarkerStyleNone)
        series.SetUniqueColor()
        series.SetYColumnName(y)
        chart.AddAndObservePlotSeriesNodeID(series.GetID())
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetXColumnName(x)
    return series
