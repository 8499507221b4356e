"""Names that look like mark-up are shown as they were written, wherever a panel shows a name."""

from __future__ import annotations

import pytest
from panel_looks import root_of
from PySide6 import QtCore, QtGui, QtWidgets
from XTLLib.errors import InputError
from XTLLib.scene.error_display import show_failure
from XTLLib.scene.words import in_sentences

NAME = "<b>x</b><img src='http://example.org/a.png'>"
MODULES = ("XTLTransfer", "XTLSegment", "XTLClassify")
# Whose texts are put together as mark-up, of escaped names.
RICH = {"dataLabel", "chainLabel", "planLabel", "studyLabel", "libraryDetailsLabel"}


def texts_taken_for_markup(panel) -> list[str]:
    """Of labels and tool tips, those that Qt would read the name's tags in."""
    found = []
    for widget in root_of(panel).findChildren(QtWidgets.QWidget):
        texts = [widget.toolTip()]
        if isinstance(widget, QtWidgets.QLabel) and widget.textFormat() != QtCore.Qt.PlainText:
            texts.append(widget.text())
        found += [f"{widget.objectName()}: {text}" for text in texts if "<img" in text]
    return found


@pytest.mark.parametrize("name", MODULES)
def test_a_label_whose_text_changes_reads_no_markup(name, open_panel):
    panel = open_panel(name)
    labels = [label for label in root_of(panel).findChildren(QtWidgets.QLabel) if not label.text()]
    auto = {label.objectName() for label in labels if label.textFormat() != QtCore.Qt.PlainText}
    assert {each for each in auto if each.endswith("Label")} <= RICH


def test_a_list_of_points_that_is_named_like_markup(open_panel, scene):
    panel = open_panel("XTLClassify")
    ui = panel.widget.ui
    points = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", NAME)
    panel.widget._panel.say(in_sentences(f"{NAME} is gone"))
    assert ui.statusLabel.text == f"{NAME} is gone."
    ui.findingsSelector.setCurrentNode(points)
    assert texts_taken_for_markup(panel) == []


@pytest.mark.parametrize("name", ["XTLSegment", "XTLClassify"])
def test_a_bundle_in_a_folder_that_is_named_like_markup(name, open_panel, tmp_path):
    panel = open_panel(name)
    folder = tmp_path / "<b>x" / "<img src=a>"
    panel.widget.ui.bundlePathLineEdit.currentPath = str(folder)
    assert str(folder) in panel.widget.ui.statusLabel.text
    assert texts_taken_for_markup(panel) == []
    assert "‹img src=a>" in panel.widget.ui.applyButton.toolTip


def test_a_study_and_a_chain_that_are_named_like_markup(open_panel, tmp_path):
    panel = open_panel("XTLTransfer")
    ui = panel.widget.ui
    ui.studyPathLineEdit.currentPath = str(tmp_path / "<img src=a>.yaml")
    assert "‹img src=a>.yaml is not a file" in ui.studyLabel.text
    ui.outputPathLineEdit.currentPath = "<img src=a>"
    assert texts_taken_for_markup(panel) == []


def test_message_boxes_read_no_markup(open_panel, messages):
    window = open_panel("XTLTransfer").widget._panel._window
    show_failure("Nothing was done.", InputError(f"the volume {NAME} is empty", "Choose another one"))
    window.confirm(f"Delete {NAME}?")
    assert len(messages) == 2
    assert [box.text for box in messages if QtGui.Qt.mightBeRichText(box.text)] == []
    assert NAME in messages[0].text
    assert "‹b>x‹/b>" in messages[1].text


def test_the_name_is_found_where_it_is_read(open_panel, scene):
    """What the tests above look for would be seen."""
    panel = open_panel("XTLClassify")
    panel.widget.ui.applyButton.toolTip = NAME
    assert len(texts_taken_for_markup(panel)) == 1
