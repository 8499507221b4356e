"""Ratings on nodes: what is kept with the table, evidence maps, zones of a mask, and the plots of the truth."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scene_cases import GRIDS, ball, node_ids
from sklearn.metrics import roc_auc_score, roc_curve
from XTLLib.data.case import Case, Finding
from XTLLib.data.volume import Volume
from XTLLib.errors import InputError
from XTLLib.inference.classify import ball_map
from XTLLib.inference.results import ClassificationResult, RatedFinding
from XTLLib.scene.classification import add_classification
from XTLLib.scene.evidence import evidence_of, keep_evidence
from XTLLib.scene.hierarchy import hierarchy_of
from XTLLib.scene.inputs import add_case
from XTLLib.scene.rated_points import RatedPoint, rated_from_json, rated_to_json, unrated
from XTLLib.scene.roc_plots import read_truth, show_truth
from XTLLib.scene.zone_nodes import zone_in_name

slicer = pytest.importorskip("slicer")

shares = st.floats(0, 1)
ratings = st.builds(
    RatedFinding,
    row=st.integers(1, 99),
    finding=st.builds(
        Finding,
        identifier=st.text(min_size=1, max_size=8),
        position_ras=st.tuples(*[st.floats(-500, 500)] * 3),
        zone=st.sampled_from(["", "PZ", "TZ"]),
        significant=st.sampled_from([None, True, False]),
    ),
    probability=shares,
    interval=st.none() | st.tuples(shares, shares),
    threshold=st.none() | shares,
    is_significant=st.sampled_from([None, True, False]),
    ppv=st.none() | shares,
    warnings=st.lists(st.text(max_size=20), max_size=3).map(tuple),
)


@given(st.lists(st.builds(RatedPoint, point=st.text(min_size=1, max_size=4), rated=ratings), max_size=4))
def test_ratings_come_back_from_their_text_to_the_last_digit(points):
    assert rated_from_json(rated_to_json(points)) == tuple(points)


def test_a_point_without_a_rating_comes_back_without_one():
    point = unrated("7", 2, Finding("a", (1.0, 2.0, 3.0)), "not rated yet")
    (again,) = rated_from_json(rated_to_json([point]))
    assert math.isnan(again.rated.probability)
    assert not again.is_rated
    assert again.rated.warnings == ("not rated yet",)


@pytest.mark.parametrize(
    "damage",
    [
        lambda row: row.pop("probability"),
        lambda row: row.update(probability="high"),
        lambda row: row["finding"].update(position_ras=[1.0, 2.0]),
        lambda row: row.update(finding=3),
        lambda row: row.update(interval=[0.1]),
        lambda row: row.update(point=7),
        lambda row: row.update(row="first"),
    ],
)
def test_a_text_of_a_stranger_is_one_clear_error(damage):
    rows = json.loads(rated_to_json([RatedPoint("1", RatedFinding(1, Finding("a", (1.0, 2.0, 3.0)), 0.5))]))
    damage(rows[0])
    with pytest.raises(InputError, match="ratings that the lesion table holds"):
        rated_from_json(json.dumps(rows))


def result_of(probabilities, grid_name="oblique", evidence=None) -> ClassificationResult:
    grid = GRIDS[grid_name]
    centre = grid.index_to_ras((np.array(grid.shape[::-1]) - 1) / 2)
    findings = tuple(
        Finding(str(n), tuple(centre + np.array([3.0 * (n % 5) - 6.0, 3.0 * (n // 5) - 3.0, 0.0])), "PZ")
        for n in range(1, len(probabilities) + 1)
    )
    case = Case("p", {"T2W": Volume(ball(grid), grid, "T2W")}, "T2W", findings=findings)
    rated = tuple(RatedFinding(n, f, float(p)) for n, (f, p) in enumerate(zip(findings, probabilities), start=1))
    label = Volume(ball_map(grid, findings), grid, "findings")
    return ClassificationResult(rated, label, Volume(ball(grid), grid, "p"), case, "a bundle", evidence or {})


@pytest.mark.parametrize("name", GRIDS)
def test_evidence_lies_where_the_map_says(scene, name):
    grid = GRIDS[name]
    array = np.zeros(grid.shape, np.float32)
    box = tuple(slice(n // 2, n // 2 + 2) for n in grid.shape)
    array[box] = np.linspace(-0.5, 1.0, 8).reshape(2, 2, 2)
    maps = {1: {"occlusion": Volume(array, grid, "occlusion")}}
    result = result_of([0.3, 0.8], name, maps)
    inputs = add_case(result.case, scene)
    nodes = add_classification(result, scene, inputs.reference)
    (node,) = evidence_of(nodes.table, nodes.findings.GetNthControlPointID(0))
    shown = slicer.util.arrayFromVolume(node)
    np.testing.assert_array_equal(shown, array[box])
    affine = slicer.util.arrayFromVTKMatrix(_ijk_to_ras(node))
    np.testing.assert_allclose(affine[:3, 3], grid.index_to_ras([part.start for part in box[::-1]]))
    display = node.GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (-1.0, 1.0), "0 is in the middle"
    color = [0.0] * 4
    display.GetColorNode().GetColor(0, color)
    assert np.argmax(color[:3]) == 2, "evidence against is blue"
    hierarchy = hierarchy_of(scene)
    study = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(inputs.reference))
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study
    keep_evidence(nodes.table, ())
    assert not scene.IsNodePresent(node)
    assert evidence_of(nodes.table, nodes.findings.GetNthControlPointID(0)) == []


def _ijk_to_ras(node):
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return matrix


def test_the_legend_names_the_findings(scene):
    nodes = add_classification(result_of([0.25, 0.75]), scene)
    assert nodes.legend.GetNumberOfLabels() == 2
    assert nodes.legend.GetUseColorNamesForLabels()
    assert nodes.legend.GetVisibility()
    assert nodes.legend.GetPrimaryDisplayNode() is nodes.label.GetDisplayNode()
    again = add_classification(result_of([0.25, 0.75, 0.5]), scene, label_node=nodes.label, table_node=nodes.table)
    assert again.legend is nodes.legend
    assert again.legend.GetNumberOfLabels() == 3


TRUTH = {str(n): n in (2, 5, 6, 8, 9) for n in range(1, 10)}
PROBABILITIES = [0.1, 0.7, 0.35, 0.2, 0.4, 0.9, 0.4, 0.8, 0.15]


def series_of(chart) -> list:
    return [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())]


def test_the_roc_curve_is_that_of_scikit_learn(scene):
    nodes = add_classification(result_of(PROBABILITIES), scene)
    truth = show_truth(nodes.table, TRUTH)
    known = [TRUTH[str(n)] for n in range(1, 10)]
    assert truth.auc == pytest.approx(roc_auc_score(known, PROBABILITIES))
    assert (truth.findings, truth.positives) == (9, 5)
    false, true, _ = roc_curve(known, PROBABILITIES, drop_intermediate=False)
    np.testing.assert_allclose(slicer.util.arrayFromTableColumn(truth.roc_table, "false_positive_rate"), false)
    np.testing.assert_allclose(slicer.util.arrayFromTableColumn(truth.roc_table, "true_positive_rate"), true)
    curve, chance = series_of(truth.roc_chart)
    assert (curve.GetXColumnName(), curve.GetYColumnName()) == ("false_positive_rate", "true_positive_rate")
    assert curve.GetTableNode() is truth.roc_table
    assert chance.GetYColumnName() == "chance"
    assert f"AUC {truth.auc:.2f}" in truth.roc_chart.GetTitle()
    count = slicer.util.arrayFromTableColumn(truth.reliability_table, "count")
    predicted = slicer.util.arrayFromTableColumn(truth.reliability_table, "predicted")
    observed = slicer.util.arrayFromTableColumn(truth.reliability_table, "observed")
    assert count.sum() == 9
    assert (count * predicted).sum() == pytest.approx(sum(PROBABILITIES))
    assert (count * observed).sum() == 5
    (bins,) = series_of(truth.reliability_chart)
    assert bins.GetTableNode() is truth.reliability_table


def test_a_second_truth_fills_the_same_nodes(scene):
    nodes = add_classification(result_of(PROBABILITIES), scene)
    first = show_truth(nodes.table, TRUTH)
    before = node_ids(scene)
    second = show_truth(nodes.table, {name: not value for name, value in TRUTH.items()})
    assert node_ids(scene) == before
    assert second.roc_chart is first.roc_chart
    assert second.auc == pytest.approx(1 - first.auc)


def test_what_cannot_be_compared_is_said_and_changes_nothing(scene):
    nodes = add_classification(result_of(PROBABILITIES), scene)
    before = node_ids(scene)
    for truth, why in (({"x": True}, "no rated finding"), (dict.fromkeys(TRUTH, True), "one class")):
        with pytest.raises(InputError, match=why):
            show_truth(nodes.table, truth)
    with pytest.raises(InputError, match="no finding whether"):
        read_truth({"1": None})
    assert node_ids(scene) == before


def test_truth_comes_from_a_table_of_findings(tmp_path):
    table = tmp_path / "ProstateX-Findings-Train.csv"
    table.write_text("ProxID,fid,pos,zone,ClinSig\nP1,1,1 2 3,PZ,TRUE\nP1,2,4 5 6,TZ,FALSE\nP2,1,7 8 9,PZ,FALSE\n")
    assert read_truth(table, "P1") == {"1": True, "2": False}
    with pytest.raises(InputError, match="2 patients"):
        read_truth(table)


@pytest.mark.parametrize(
    ("name", "zone"),
    [
        ("PZ", "PZ"),
        ("left peripheral zone", "PZ"),
        ("Transition zone", "TZ"),
        ("prostate_TZ", "TZ"),
        ("anterior fibromuscular stroma", "AS"),
        ("seminal vesicles", "SV"),
        ("lesion", ""),
    ],
)
def test_zones_are_known_by_their_names(name, zone):
    assert zone_in_name(name) == zone
