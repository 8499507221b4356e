"""A study in the scene: tables and charts say what results.json says, and survive an MRB."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scene_cases import node_ids
from study_scores import classification, segmentation, study_of
from XTLLib.errors import InputError
from XTLLib.scene.change import remove_node
from XTLLib.scene.export import save_scene
from XTLLib.scene.hierarchy import hierarchy_of
from XTLLib.scene.session import new_scene
from XTLLib.scene.study import add_study
from XTLLib.study.analysis import analyse
from XTLLib.study.report import write_study_report

slicer = pytest.importorskip("slicer")

SIZES = {"sizes": (20, "all"), "seeds": (0, 1), "draws": 200}


@pytest.fixture
def scene():
    with new_scene() as scene:
        yield scene


@pytest.fixture(scope="module")
def auc_study(tmp_path_factory):
    result = classification(study_of(**SIZES), {"TL": 2.0, "XTL": 0.8}, patients=30)
    folder = tmp_path_factory.mktemp("auc")
    write_study_report(result, folder)
    return result, folder


def column(table, name):
    return slicer.util.arrayFromTableColumn(table, name)


def texts(table, name):
    values = table.GetTable().GetColumnByName(name)
    return [values.GetValue(row) for row in range(values.GetNumberOfValues())]


def test_tables_hold_the_figures_of_the_analysis(scene, auc_study):
    result, folder = auc_study
    nodes, analysis = add_study(folder, scene), analyse(result)
    assert texts(nodes.results, "arm") == ["TL", "XTL"]
    four_digits = 5e-4  # relative, at most
    assert column(nodes.results, "value") == pytest.approx([a.estimate.value for a in analysis.arms], rel=four_digits)
    (one,) = analysis.comparisons
    for name, value in (("difference", one.difference), ("low", one.low), ("p", one.p_value), ("units", 30)):
        assert column(nodes.differences, name) == pytest.approx([value], rel=four_digits)
    assert texts(nodes.differences, "conclusion") == [one.verdict]
    assert nodes.scores.GetNumberOfRows() == len(result.scores)
    assert column(nodes.scores, "score")[3] == result.scores[3].values["score"]


def test_a_figure_that_is_missing_is_a_dash():
    from XTLLib.scene.table import figure_column

    assert figure_column("low", "Low", [0.123456, None], "", "Lower end").values.tolist() == ["0.1235", "–"]
    assert figure_column("p", "p", [1.23456e-7]).values.tolist() == [1.235e-7]


def test_charts_draw_arms_curves_and_sizes(scene, auc_study):
    result, folder = auc_study
    nodes, analysis = add_study(folder, scene), analyse(result)
    assert set(nodes.charts) == {"arms", "roc", "learning curve"}
    for key, chart in nodes.charts.items():
        for number in range(chart.GetNumberOfPlotSeriesNodes()):
            series = chart.GetNthPlotSeriesNode(number)
            assert series.GetTableNode() is nodes.points[key]
            for name in (series.GetXColumnName(), series.GetYColumnName()):
                assert nodes.points[key].GetTable().GetColumnByName(name) is not None
    assert nodes.charts["roc"].GetNumberOfPlotSeriesNodes() == 2
    band = analysis.arm("XTL").band
    assert column(nodes.points["roc"], "XTL") == pytest.approx(band.true_positive_rate)
    assert column(nodes.points["roc"], "XTL low") == pytest.approx(band.low)
    assert column(nodes.points["learning curve"], "training_cases").tolist() == [20.0, 48.0]
    assert column(nodes.points["learning curve"], "TL")[1] == pytest.approx(analysis.arm("TL").estimate.value)
    found = analysis.arm("TL").estimate
    assert column(nodes.points["arms"], "TL interval")[:3] == pytest.approx([found.low, found.value, found.high])
    assert np.nanmin(column(nodes.points["arms"], "XTL x")) >= 2.0


def test_a_segmentation_has_a_point_for_each_patient_and_no_roc(scene, tmp_path):
    write_study_report(segmentation(study_of(), {"TL": 0.0, "XTL": 0.1}), tmp_path)
    nodes = add_study(tmp_path, scene)
    assert set(nodes.charts) == {"arms"}
    assert np.isfinite(column(nodes.points["arms"], "TL")).sum() == 12


def test_everything_stands_under_one_folder_and_survives_an_mrb(scene, auc_study, tmp_path):
    nodes = add_study(auc_study[1], scene)
    hierarchy = hierarchy_of(scene)
    assert hierarchy.GetItemName(nodes.folder) == "Study planted"
    children = __import__("vtk").vtkIdList()
    hierarchy.GetItemChildren(nodes.folder, children)
    assert children.GetNumberOfIds() == 3 + 3 + 3 + 4 + 2 + 2  # tables, charts, points, series
    save_scene(scene, tmp_path / "study.mrb")
    import zipfile

    with new_scene() as other, zipfile.ZipFile(tmp_path / "study.mrb") as archive:
        archive.extractall(tmp_path)
        other.SetURL(str(next((tmp_path / "study").glob("*.mrml"))))
        other.Import()
        again = other.GetFirstNodeByName("planted results")
        assert column(again, "value") == pytest.approx(column(nodes.results, "value"))
        chart = other.GetFirstNodeByName("planted roc")
        assert chart.GetNumberOfPlotSeriesNodes() == 2
        table = chart.GetNthPlotSeriesNode(1).GetTableNode()
        assert column(table, "XTL") == pytest.approx(column(nodes.points["roc"], "XTL"))
        before = node_ids(other)
        assert add_study(auc_study[1], other).results is again
        assert node_ids(other) == before


def _changed(folder, into, **values):
    """A copy of a report with other values."""
    found = json.loads((folder / "results.json").read_text()) | values
    into.mkdir(exist_ok=True)
    (into / "results.json").write_text(json.dumps(found))
    if into != folder:
        (into / "scores.tsv").write_bytes((folder / "scores.tsv").read_bytes())
    return into


def _items(scene):
    items = __import__("vtk").vtkIdList()
    hierarchy_of(scene).GetItemChildren(hierarchy_of(scene).GetSceneItemID(), items, True)
    return items.GetNumberOfIds()


def test_shown_again_the_same_nodes_have_the_present_numbers(scene, auc_study, tmp_path):
    folder = _changed(auc_study[1], tmp_path / "study")
    first = add_study(folder, scene)
    before, items = node_ids(scene), _items(scene)
    first.charts["roc"].SetName("figure 2")
    series = first.charts["roc"].GetNthPlotSeriesNode(0)
    series.SetColor(0.1, 0.2, 0.3)
    arms = json.loads((folder / "results.json").read_text())["arms"]
    arms[0]["value"] = 0.125
    again = add_study(_changed(folder, folder, arms=arms), scene)
    assert node_ids(scene) == before
    assert _items(scene) == items
    assert again == first
    assert column(again.results, "value")[0] == 0.125
    assert first.charts["roc"].GetName() == "figure 2"
    assert series.GetColor() == (0.1, 0.2, 0.3)
    assert first.charts["roc"].GetNumberOfPlotSeriesNodes() == 2


def test_what_a_study_no_longer_has_goes_and_what_was_deleted_comes_back(scene, auc_study, tmp_path):
    folder = _changed(auc_study[1], tmp_path / "study")
    first = add_study(folder, scene)
    rows = first.scores.GetNumberOfRows()
    gone = [first.charts["learning curve"], first.points["learning curve"]]
    gone += [gone[0].GetNthPlotSeriesNode(number) for number in range(2)]
    before, items = node_ids(scene), _items(scene)
    remove_node(first.scores, scene)
    again = add_study(_changed(folder, folder, learning_curve=[]), scene)
    assert again.scores.GetNumberOfRows() == rows
    assert [node.GetScene() for node in gone] == [None] * 4
    assert len(node_ids(scene)) == len(before) - 4
    assert _items(scene) == items - 4


def test_two_folders_are_two_studies(scene, auc_study, tmp_path):
    first = add_study(auc_study[1], scene)
    other = add_study(_changed(auc_study[1], tmp_path / "other"), scene)
    assert other.results is not first.results
    assert other.folder != first.folder
    assert [first.results.GetScene(), other.results.GetScene()] == [scene, scene]


@pytest.mark.parametrize("text", [None, "{", "[]", '{"format": 1}', '{"format": 99}', '{"format": 1, "study": 3}'])
def test_what_is_no_report_is_refused_and_leaves_the_scene_as_it_was(scene, auc_study, tmp_path, text):
    if text is not None:
        (tmp_path / "results.json").write_text(text)
        (tmp_path / "scores.tsv").write_bytes((auc_study[1] / "scores.tsv").read_bytes())
    before = node_ids(scene)
    with pytest.raises(InputError, match=r"report|cannot be read"):
        add_study(tmp_path, scene)
    assert node_ids(scene) == before


def test_a_report_with_damaged_arms_is_refused(scene, auc_study, tmp_path):
    found = json.loads((auc_study[1] / "results.json").read_text())
    found["arms"][0]["value"] = "high"
    (tmp_path / "results.json").write_text(json.dumps(found))
    (tmp_path / "scores.tsv").write_bytes((auc_study[1] / "scores.tsv").read_bytes())
    with pytest.raises(InputError, match="lacks what a report has"):
        add_study(tmp_path, scene)
