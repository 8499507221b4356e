"""How good the ratings are where the truth is known: ROC and reliability as tables and plots of the scene."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError
from ..metrics.calibration import reliability_curve
from ..metrics.roc import auc
from ..metrics.roc_curve import roc_curve
from .change import one_change
from .classification import REFERENCE_ROLE
from .hierarchy import patient_of, place_beside
from .table import Column, fill_table

_ROLE = "XTL.Truth"  # of the lesion table: what was made of it, in the order of _PARTS
_PARTS = ("ROC table", "ROC curve", "ROC chance", "ROC", "reliability table", "reliability curve", "reliability")
_CLASSES = {"vtkMRMLTableNode": (0, 4), "vtkMRMLPlotSeriesNode": (1, 2, 5), "vtkMRMLPlotChartNode": (3, 6)}


@dataclass(frozen=True)
class TruthNodes:
    """What is shown where the truth is known.

    Attributes
    ----------
    roc_table : vtkMRMLTableNode with false and true positive rate and threshold. roc_chart : vtkMRMLPlotChartNode of
        it, beside the diagonal of chance.
    reliability_table : bins of findings: predicted and observed share, Wilson interval, count.
    reliability_chart : vtkMRMLPlotChartNode of it.
    auc : area under the curve. findings, positives : what it was computed on.
    """

    roc_table: Any
    roc_chart: Any
    reliability_table: Any
    reliability_chart: Any
    auc: float
    findings: int
    positives: int


def read_truth(source: str | os.PathLike | Mapping[str, bool | None], patient: str | None = None) -> dict[str, bool]:
    """Name of each finding -> whether it is clinically significant, of those where it is known.

    Parameters
    ----------
    source : such a mapping, or a table of findings with a column ClinSig or significant (see data.findings).
    patient : whose lines of a table of several patients are meant.

    Raises
    ------
    InputError : the file cannot be read, holds other patients only, or tells no truth.
    """
    if isinstance(source, Mapping):
        truth = dict(source)
    else:
        from ..data.findings import read_findings

        found = read_findings(source, patient)
        truth = {finding.identifier: finding.significant for finding in found}
    known = {str(name): bool(value) for name, value in truth.items() if value is not None}
    if not known:
        what = "the given truth" if isinstance(source, Mapping) else f"the table {source}"
        raise InputError(f"{what} says of no finding whether it is significant", "Fill its column ClinSig in")
    return known


def show_truth(table: Any, truth: Mapping[str, bool], reference: Any = None) -> TruthNodes:
    """Compare the probabilities of a lesion table with the truth; a second call fills the same nodes.

    Parameters
    ----------
    table : with the columns finding and probability. truth : of :func:`read_truth`; findings that it does not name,
        and those without a probability, are left out.
    reference : node beside which the results stand.

    Raises
    ------
    InputError : no finding is in both, or all of those are of one class; the scene is as it was.
    """
    names, probabilities = _columns_of(table)
    pairs = [(p, truth[name]) for name, p in zip(names, probabilities) if name in truth and not math.isnan(p)]
    if not pairs:
        named = ", ".join(sorted(truth)[:5])
        raise InputError(
            f"no rated finding of {table.GetName()} is among those with a known truth ({named})",
            "Give the findings the names that they have there",
        )
    values, is_significant = np.array([p for p, _ in pairs]), np.array([known for _, known in pairs])
    area = auc(values, is_significant)  # before the scene is touched: it needs both classes
    roc, reliability = roc_curve(values, is_significant), reliability_curve(values, is_significant)
    scene = table.GetScene()
    with one_change(scene):
        nodes = _nodes_of(table, scene)
        roc_table, curve, chance, roc_chart, bins, bin_series, bin_chart = nodes
        fill_table(
            roc_table,
            [
                Column("false_positive_rate", "False positive rate", roc.false_positive_rate),
                Column("true_positive_rate", "True positive rate", roc.true_positive_rate),
                Column("threshold", "Threshold", np.where(np.isinf(roc.thresholds), np.nan, roc.thresholds)),
                Column("chance", "Chance", roc.false_positive_rate),
            ],
        )
        fill_table(
            bins,
            [
                Column("predicted", "Predicted", reliability.predicted),
                Column("observed", "Observed", reliability.observed),
                Column("low", "Low (95 %)", reliability.low),
                Column("high", "High (95 %)", reliability.high),
                Column("count", "Findings", reliability.count.astype(np.int32)),
            ],
        )
        of = f"{len(values)} findings"
        _draw(curve, roc_table, "false_positive_rate", "true_positive_rate", f"AUC {area:.2f}")
        _draw(chance, roc_table, "false_positive_rate", "chance", "chance", dashed=True)
        _draw(bin_series, bins, "predicted", "observed", "findings", points=True)
        _frame(roc_chart, f"ROC, AUC {area:.2f}, {of}", "1 - specificity", "sensitivity", (curve, chance))
        _frame(bin_chart, f"Reliability, {of}", "predicted probability", "share significant", (bin_series,))
        place_beside(scene, (roc_table, roc_chart, bins, bin_chart), reference)
    return TruthNodes(roc_table, roc_chart, bins, bin_chart, area, len(values), int(is_significant.sum()))


def truth_of_table(table: Any, source: str | os.PathLike | Mapping[str, bool | None]) -> TruthNodes:
    """:func:`show_truth` of what :func:`read_truth` finds for the patient of a lesion table."""
    reference = table.GetNodeReference(REFERENCE_ROLE)
    try:
        truth = read_truth(source)
    except InputError:  # a table of several patients; else it says the same again
        truth = read_truth(source, patient_of(reference) or "patient")
    return show_truth(table, truth, reference)


def _columns_of(table: Any) -> tuple[list[str], list[float]]:
    found = table.GetTable()
    columns = [found.GetColumnByName(name) for name in ("finding", "probability")]
    if any(column is None for column in columns):
        raise InputError(f"{table.GetName()} has no columns finding and probability", "Choose a lesion table")
    rows = range(found.GetNumberOfRows())
    return [columns[0].GetValue(row) for row in rows], [columns[1].GetValue(row) for row in rows]


def _nodes_of(table: Any, scene: Any) -> list[Any]:
    """The nodes of an earlier call that are still there, and new ones for the others."""
    nodes: list[Any] = [None] * len(_PARTS)
    for class_name, places in _CLASSES.items():
        for place in places:
            role = f"{_ROLE}.{_PARTS[place].replace(' ', '')}"
            nodes[place] = table.GetNodeReference(role)
            if nodes[place] is None:
                nodes[place] = scene.AddNewNodeByClass(class_name, f"{table.GetName()} {_PARTS[place]}")
                table.SetNodeReferenceID(role, nodes[place].GetID())
    return nodes


def _draw(series: Any, table: Any, x: str, y: str, name: str, dashed: bool = False, points: bool = False) -> None:
    series.SetName(name)
    series.SetPlotType(series.PlotTypeScatter)
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetXColumnName(x)
    series.SetYColumnName(y)
    series.SetMarkerStyle(series.MarkerStyleCircle if points else series.MarkerStyleNone)
    series.SetLineStyle(series.LineStyleDash if dashed else series.LineStyleSolid)
    series.SetColor(*((0.6, 0.6, 0.6) if dashed else (0.20, 0.40, 0.85)))


def _frame(chart: Any, title: str, x: str, y: str, series: Sequence[Any]) -> None:
    chart.SetTitle(title)
    chart.SetXAxisTitle(x)
    chart.SetYAxisTitle(y)
    for setter in (chart.SetXAxisRange, chart.SetYAxisRange):
        setter(0.0, 1.0)
    chart.SetXAxisRangeAuto(False)
    chart.SetYAxisRangeAuto(False)
    chart.RemoveAllPlotSeriesNodeIDs()
    for one in series:
        chart.AddAndObservePlotSeriesNodeID(one.GetID())
