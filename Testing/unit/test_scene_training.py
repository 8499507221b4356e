"""The log of a training in the scene."""

from __future__ import annotations

import numpy as np
import pytest
from scene_cases import node_ids
from XTLLib.errors import InputError
from XTLLib.scene.session import new_scene
from XTLLib.scene.training import training_table

slicer = pytest.importorskip("slicer")

ROWS = [
    {"epoch": 1, "stage": "MS segmentation", "loss": 0.9},
    {"epoch": 2, "stage": "MS segmentation", "loss": 0.5, "validation_dice": 0.61},
]


@pytest.fixture
def scene():
    with new_scene() as scene:
        yield scene


def test_columns_are_typed_and_numbers_are_drawn(scene):
    import vtk

    nodes = training_table(ROWS, scene, "XTL")
    kinds = [nodes.table.GetTable().GetColumn(n).GetDataType() for n in range(nodes.table.GetNumberOfColumns())]
    assert kinds == [vtk.VTK_INT, vtk.VTK_STRING, vtk.VTK_DOUBLE, vtk.VTK_DOUBLE]
    np.testing.assert_array_equal(slicer.util.arrayFromTableColumn(nodes.table, "validation_dice"), [np.nan, 0.61])
    assert sorted(nodes.series) == ["loss", "validation_dice"]
    for name, series in nodes.series.items():
        assert (series.GetXColumnName(), series.GetYColumnName()) == ("epoch", name)
        assert series.GetTableNode() is nodes.table
    assert nodes.chart.GetNumberOfPlotSeriesNodes() == 2 and nodes.chart.GetTitle() == "XTL"
    assert (
        nodes.series["validation_dice"].GetName() == nodes.table.GetColumnTitle("validation_dice") == "Validation dice"
    )


def test_the_loss_of_a_stage_is_told_in_words(scene):
    nodes = training_table([{"step": 1, "loss 01-intermediate": 0.9}], scene, x="step")
    assert nodes.series["loss 01-intermediate"].GetName() == "Loss, stage 1: intermediate"
    assert nodes.chart.GetXAxisTitle() == "Step"


def test_a_running_training_fills_the_same_nodes(scene):
    nodes = training_table(ROWS[:1], scene, curves=["loss"])
    before = node_ids(scene)
    again = training_table(ROWS, scene, curves=["loss"], table_node=nodes.table, chart_node=nodes.chart)
    assert node_ids(scene) == before and again == nodes
    assert nodes.table.GetNumberOfRows() == 2


def test_another_training_in_the_same_chart_leaves_no_old_curve(scene):
    nodes = training_table(ROWS, scene)
    before = node_ids(scene)
    again = training_table([{"epoch": 1, "loss": 0.3}], scene, table_node=nodes.table, chart_node=nodes.chart)
    assert list(again.series) == ["loss"] and nodes.chart.GetNumberOfPlotSeriesNodes() == 1
    assert len(node_ids(scene)) == len(before) - 1


def test_a_log_that_has_not_begun_is_refused(scene):
    before = node_ids(scene)
    with pytest.raises(InputError, match="no column epoch"):
        training_table([], scene)
    assert node_ids(scene) == before
