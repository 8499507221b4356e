"""The study section of XTL Transfer: a study of four short runs, planned, cancelled, resumed and shown."""

from __future__ import annotations

from pathlib import Path

import pytest
import slicer
from transfer_steps import FakeWindow, wait, with_window


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    from XTLLib.data.phantoms.write import Parts, write_brains
    from XTLLib.scene.self_test import write_small_chain

    folder = tmp_path_factory.mktemp("study")
    write_small_chain(folder)
    write_brains(folder / "more", Parts(training=4), seed=2)
    file = folder / "study.yaml"
    arms = "  - {name: few, chain: chain.yaml}\n  - {name: other, chain: chain.yaml, conversion: centre-slice}\n"
    file.write_text(f"name: small\ndatalist: more/datalist.json\nfolds: 2\narms:\n{arms}comparisons: [[other, few]]\n")
    return file


@pytest.fixture
def panel(open_panel):
    return open_panel("XTLTransfer")


def _done(panel) -> str:
    wait(lambda: not panel.widget._panel.study.is_running)
    return panel.widget.ui.studyLabel.text


def test_what_is_missing_is_said(panel, study, tmp_path):
    ui = panel.widget.ui
    assert "study file" in ui.studyLabel.text
    ui.studyPathLineEdit.currentPath = str(tmp_path / "none.yaml")
    assert "none.yaml is not a file" in ui.runStudyButton.toolTip
    assert not ui.studyPlanButton.enabled
    ui.studyPathLineEdit.currentPath = str(study)
    assert "folder" in ui.studyLabel.text
    assert ui.studyPlanButton.enabled
    assert not ui.runStudyButton.enabled
    ui.studyFolderLineEdit.currentPath = str(tmp_path / "out")
    assert ui.runStudyButton.enabled
    for name in ("showStudy", "showStudyChart", "openReport"):
        assert not getattr(ui, f"{name}Button").enabled


def test_a_study_planned_run_and_shown(panel, study, tmp_path, scene, artifacts):
    ui, window = panel.widget.ui, with_window(panel, FakeWindow())
    ui.studyCollapsibleButton.collapsed = False
    ui.studyPathLineEdit.currentPath = str(study)
    ui.studyFolderLineEdit.currentPath = str(tmp_path / "out")
    ui.studyPlanButton.click()
    assert ui.studyPlanButton.text == "Cancel"
    assert not ui.runStudyButton.enabled
    text = _done(panel)
    assert "4 runs, 0 of them finished" in text
    assert "cannot" in text.partition("Power")[2], "four patients suffice for no test"

    ui.runStudyButton.click()
    wait(lambda: panel.widget.logic.getParameterNode().studyTable is not None)
    state = panel.widget.logic.getParameterNode().studyTable
    assert list(slicer.util.arrayFromTableColumn(state, "planned")) == [2, 2]
    wait(lambda: slicer.util.arrayFromTableColumn(state, "finished").sum() >= 1)
    ui.runStudyButton.click()
    _done(panel)
    assert ui.runStudyButton.text == "Resume"
    ui.runStudyButton.click()
    assert _done(panel) == "Study finished."
    assert window.errors == []

    parameters = panel.widget.logic.getParameterNode()
    assert parameters.studyTable.GetName() == "small results"
    assert parameters.studyTable.GetNumberOfRows() == 2
    assert ui.studyTableView.mrmlTableNode() is parameters.studyTable
    names = [scene.GetNthNode(n).GetName() for n in range(scene.GetNumberOfNodes())]
    assert "Study state" not in names, "the results take the place of the state of the runs"
    for _ in range(3):
        ui.showStudyButton.click()
    assert scene.GetNumberOfNodes() == len(names)
    ui.showStudyChartButton.click()
    assert window.charts == [parameters.studyChart]
    ui.openReportButton.click()
    assert window.opened == [tmp_path / "out" / "report.html"]
    panel.grab(artifacts / "XTLTransfer-study.png")


def test_a_study_that_cannot_be_run_is_one_message(panel, study, tmp_path):
    ui, window = panel.widget.ui, with_window(panel, FakeWindow())
    wrong = study.with_name("wrong.yaml")
    wrong.write_text(study.read_text().replace("folds: 2", "folds: 40"))
    ui.studyPathLineEdit.currentPath = str(wrong)
    ui.studyFolderLineEdit.currentPath = str(tmp_path / "out")
    ui.runStudyButton.click()
    assert "not finished" in _done(panel)
    ((_title, error),) = window.errors
    assert "fold" in str(error)


def test_the_results_of_a_folder_without_any_are_refused(panel, tmp_path):
    window = with_window(panel, FakeWindow())
    panel.widget.logic.getParameterNode().studyFolder = tmp_path
    panel.widget._panel.study.show_results()
    assert "holds no report" in str(window.errors[0][1])
