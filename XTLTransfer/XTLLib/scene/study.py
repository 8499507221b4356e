"""A finished study in the scene: its tables, and charts of its arms, ROC curves and learning curves."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..study.measures import COLOURS
from ..study.result import FORMAT
from ..study.scores import read_scores
from .change import one_change
from .hierarchy import place_under
from .study_parts import StudyParts
from .table import Column, figure_column, fill_table

_POINTS_ABREAST = 0.3  # of the distance between two arms


@dataclass(frozen=True)
class StudyNodes:
    """The nodes of a study.

    Attributes
    ----------
    results, differences, scores : vtkMRMLTableNode; differences is None when the study compares nothing.
    charts : "arms", "roc" and "learning curve", those that the study has -> vtkMRMLPlotChartNode. MRML has no box
        plot: "arms" shows a point for each unit (classification: for each seed and repetition) beside the estimate
        with both ends of its interval.
    points : chart -> vtkMRMLTableNode that its series take their numbers from.
    folder : subject hierarchy item above them all.
    """

    results: Any
    differences: Any
    scores: Any
    charts: Mapping[str, Any]
    points: Mapping[str, Any]
    folder: int


@dataclass(frozen=True)
class _Series:
    """A series of a chart: what the legend says, its columns, colour number, and whether points are joined."""

    name: str
    x: str
    y: str
    colour: int
    is_line: bool


@dataclass(frozen=True)
class _Chart:
    """A chart that is ready to become nodes."""

    key: str
    title: str
    x: str
    y: str
    columns: tuple[Column, ...]
    series: tuple[_Series, ...]


def add_study(folder: str | os.PathLike, scene: Any) -> StudyNodes:
    """Put a study's results into the scene, under a folder of its own.

    Where that was done before, the same nodes get the present numbers; names, colours and places that the user gave
    them stay, and what the study no longer has goes. The figures of results and differences have four digits, to be
    read; those of scores and charts, and of ``results.json``, have all.

    Parameters
    ----------
    folder : of a study that has come to its end (``results.json`` and ``scores.tsv``).

    Raises
    ------
    InputError : the folder has no report, or one that cannot be read; the scene is as it was.
    """
    folder = Path(folder)
    found = _read(folder)
    scores = read_scores(folder / "scores.tsv")
    try:
        name = str(found["study"]["name"])
        results, differences = _results(found), _differences(found)
        charts = [chart for chart in (_arms(found), _roc(found), _learning(found)) if chart is not None]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise InputError(
            f"{folder / 'results.json'} lacks what a report has ({type(error).__name__}: {error})",
            "Write the report again: xtl study --resume",
        ) from error
    with one_change(scene):
        parts = StudyParts(scene, folder, name)
        shown = _table(parts, "results", results)
        shown.SetDescription(str(found.get("incomplete") or ""))
        second = _table(parts, "differences", differences) if differences else None
        third = _table(parts, "scores", _scores(scores))
        chart_nodes, point_nodes, series = {}, {}, []
        for chart in charts:
            point_nodes[chart.key] = _table(parts, f"{chart.key} points", chart.columns)
            chart_nodes[chart.key], own = _add_chart(parts, chart, point_nodes[chart.key])
            series += own
        parts.remove_rest()
        item = parts.item(f"Study {name}")
        nodes = [shown, second, third, *chart_nodes.values(), *point_nodes.values(), *series]
        place_under(scene, [node for node in nodes if node is not None], item)
    return StudyNodes(shown, second, third, chart_nodes, point_nodes, item)


def _read(folder: Path) -> dict[str, Any]:
    path = folder / "results.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{folder} holds no report of a study", "Choose the output folder of xtl study") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error})", "Write the report again: xtl study --resume") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise InputError(f"{path} is no report of a study of this version", "Write it again: xtl study --resume")
    return found


def _results(found: Mapping[str, Any]) -> list[Column]:
    measure, arms = found["measure"], found["arms"]
    return [
        _texts("arm", "Arm", [arm["name"] for arm in arms]),
        _texts("training_cases", "Training cases", [_size(arm["size"]) for arm in arms]),
        figure_column(
            "value", measure["title"], [arm["value"] for arm in arms], measure["unit"], measure["definition"]
        ),
        figure_column("low", "Low", [arm["low"] for arm in arms], measure["unit"], "Lower end of the interval"),
        figure_column("high", "High", [arm["high"] for arm in arms], measure["unit"], "Upper end of the interval"),
        _whole("cases", "Cases", [len(arm["case_values"]) for arm in arms]),
        _whole("patients", "Patients", [arm["patients"] for arm in arms]),
        _whole("left_out", "Left out", [len(arm["left_out"]) for arm in arms], "Cases without all planned runs"),
    ]


def _differences(found: Mapping[str, Any]) -> list[Column]:
    pairs, unit = found["comparisons"], found["measure"]["unit"]
    if not pairs:
        return []
    return [
        _texts("comparison", "Comparison", [f"{pair['a']} - {pair['b']}" for pair in pairs]),
        figure_column("difference", "Difference", [pair["difference"] for pair in pairs], unit, "First minus second"),
        figure_column("low", "Low", [pair["low"] for pair in pairs], unit, "Lower end of the interval"),
        figure_column("high", "High", [pair["high"] for pair in pairs], unit, "Upper end of the interval"),
        figure_column("p", "p", [pair["p_value"] for pair in pairs], "", "Two-sided, unadjusted"),
        figure_column(
            "p_holm", "p, Holm", [pair["adjusted_p"] for pair in pairs], "", "Over all comparisons of the study"
        ),
        _whole("units", "Units", [pair["units"] for pair in pairs]),
        _texts(
            "conclusion", "Conclusion", [pair["verdict"] for pair in pairs], "First against second, by the interval"
        ),
    ]


def _scores(scores: Sequence[Any]) -> list[Column]:
    columns = [
        _texts("arm", "Arm", [score.arm for score in scores]),
        *(
            _whole(key, key.capitalize(), [getattr(score, key) for score in scores])
            for key in ("seed", "repeat", "fold")
        ),
        _texts("training_cases", "Training cases", [_size(score.size) for score in scores]),
        _texts("patient", "Patient", [score.patient for score in scores]),
        _texts("case", "Case", [score.case for score in scores]),
    ]
    names = dict.fromkeys(name for score in scores for name in score.values)
    return columns + [_numbers(name, name, [score.values.get(name) for score in scores]) for name in names]


def _arms(found: Mapping[str, Any]) -> _Chart:
    """Points of every arm around its number, and its estimate with the ends of the interval at its left."""
    measure, columns, series = found["measure"], [], []
    for number, arm in enumerate(found["arms"]):
        values = sorted(value for value in _behind(found, arm) if value is not None)
        estimate = [value for value in (arm["low"], arm["value"], arm["high"]) if value is not None]
        spread = np.random.default_rng(0).uniform(0, _POINTS_ABREAST, len(values))
        name = str(arm["name"])
        columns += [
            _numbers(f"{name} x", f"{name} x", (number + 1 + spread).tolist()),
            _numbers(name, name, values, measure["unit"]),
            _numbers(f"{name} interval x", f"{name} interval x", [number + 0.85] * len(estimate)),
            _numbers(f"{name} interval", f"{name} interval", estimate, measure["unit"]),
        ]
        series.append(_Series(f"{number + 1}: {name}", f"{name} x", name, number, False))
        series.append(_Series(f"{name} interval", f"{name} interval x", f"{name} interval", number, True))
    title = f"{found['study']['name']}: {measure['title']}"
    return _Chart("arms", title, "arm", _axis(measure), tuple(_padded(columns)), tuple(series))


def _behind(found: Mapping[str, Any], arm: Mapping[str, Any]) -> list[float | None]:
    if found["task"] == "classification":
        return [run["value"] for run in arm["by_run"]]
    units: dict[str, list[float]] = {}
    for case in arm["case_values"]:
        units.setdefault(case["unit"], []).append(case["value"])
    return [float(np.mean(values)) for values in units.values()]


def _roc(found: Mapping[str, Any]) -> _Chart | None:
    arms = [(number, arm) for number, arm in enumerate(found["arms"]) if arm["roc"] is not None]
    if not arms:
        return None
    rate = "false_positive_rate"
    columns = [_numbers(rate, "1 - specificity", arms[0][1]["roc"][rate])]
    for _, arm in arms:
        band = arm["roc"]
        columns += [
            _numbers(arm["name"], arm["name"], band["true_positive_rate"], "", "Sensitivity"),
            _numbers(f"{arm['name']} low", f"{arm['name']} low", band["low"], "", "Lower end of the pointwise band"),
            _numbers(f"{arm['name']} high", f"{arm['name']} high", band["high"], "", "Upper end of the pointwise band"),
        ]
    series = tuple(_Series(arm["name"], rate, arm["name"], number, True) for number, arm in arms)
    title = f"{found['study']['name']}: ROC"
    return _Chart("roc", title, "1 - specificity", "sensitivity", tuple(columns), series)


def _learning(found: Mapping[str, Any]) -> _Chart | None:
    points = found["learning_curve"]
    if not points:
        return None
    names = [str(arm["name"]) for arm in found["arms"]]
    cases = sorted({point["training_cases"] for point in points})
    columns = [_numbers("training_cases", "Training cases", cases)]
    for name in names:
        own = {point["training_cases"]: point for point in points if point["arm"] == name}
        for key in ("value", "low", "high"):
            label = name if key == "value" else f"{name} {key}"
            columns.append(_numbers(label, label, [own[n][key] if n in own else None for n in cases]))
    series = tuple(_Series(name, "training_cases", name, number, True) for number, name in enumerate(names))
    title = f"{found['study']['name']}: learning curve"
    return _Chart("learning curve", title, "training cases", _axis(found["measure"]), tuple(columns), series)


def _add_chart(parts: StudyParts, chart: _Chart, table: Any) -> tuple[Any, list[Any]]:
    node, is_new = parts.node(chart.key, "vtkMRMLPlotChartNode")
    if is_new:
        node.SetLegendVisibility(True)
    node.SetTitle(chart.title)
    node.SetXAxisTitle(chart.x)
    node.SetYAxisTitle(chart.y)
    series = [_add_series(parts, chart, one, table) for one in chart.series]
    for each in series:
        if not node.HasPlotSeriesNodeID(each.GetID()):
            node.AddAndObservePlotSeriesNodeID(each.GetID())
    return node, series


def _add_series(parts: StudyParts, chart: _Chart, one: _Series, table: Any) -> Any:
    node, is_new = parts.node(f"{chart.key} series {one.y}", "vtkMRMLPlotSeriesNode", one.name)
    if is_new:
        node.SetPlotType(node.PlotTypeScatter)
        node.SetLineStyle(node.LineStyleSolid if one.is_line else node.LineStyleNone)
        node.SetMarkerStyle(node.MarkerStyleNone if chart.key == "roc" else node.MarkerStyleCircle)
        node.SetColor(*_rgb(COLOURS[one.colour % len(COLOURS)]))
    node.SetAndObserveTableNodeID(table.GetID())
    node.SetXColumnName(one.x)
    node.SetYColumnName(one.y)
    return node


def _rgb(colour: str) -> tuple[float, float, float]:
    return tuple(int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))


def _table(parts: StudyParts, key: str, columns: Sequence[Column]) -> Any:
    node, _ = parts.node(key, "vtkMRMLTableNode")
    fill_table(node, columns)
    return node


def _padded(columns: Sequence[Column]) -> list[Column]:
    """Columns of one length; what is missing at the end is NaN, which is not drawn."""
    longest = max(column.values.size for column in columns)
    return [
        Column(c.name, c.title, np.r_[c.values, np.full(longest - c.values.size, np.nan)], c.unit, c.description)
        for c in columns
    ]


def _numbers(name: str, title: str, values: Sequence[float | None], unit: str = "", description: str = "") -> Column:
    floats = np.array([np.nan if value is None else float(value) for value in values], dtype=np.float64)
    return Column(name, title, floats, unit, description)


def _whole(name: str, title: str, values: Sequence[int], description: str = "") -> Column:
    return Column(name, title, np.array(values, dtype=np.int32), "", description)


def _texts(name: str, title: str, values: Sequence[str], description: str = "") -> Column:
    return Column(name, title, np.array([str(value) for value in values], dtype=str), "", description)


def _size(size: int | None) -> str:
    return "all" if size is None else str(size)


def _axis(measure: Mapping[str, Any]) -> str:
    unit = f" ({measure['unit']})" if measure["unit"] else ""
    return f"{measure['title']}{unit}"
