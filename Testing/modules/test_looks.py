"""Nothing in a panel is cut off or lies over another part: narrow, at either scale, in large type, with long names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import host.boot as boot
import panel_looks
import pytest
from panel_looks import NARROW, WIDTH, problems_of, root_of, show_everything, steps_back, tab_way
from PySide6 import QtCore, QtGui, QtWidgets

SENTENCE = "A sentence that tells what is wrong, and what to do about it. "
FILE = Path(panel_looks.__file__)


@pytest.fixture
def large_type():
    """Every text at twice its size, as on a screen scaled by 200 % without more room."""
    application = QtWidgets.QApplication.instance()
    usual = application.font()
    large = QtGui.QFont(usual)
    large.setPointSizeF(2 * usual.pointSizeF())
    application.setFont(large)
    yield
    application.setFont(usual)


@pytest.mark.parametrize("width", [NARROW, WIDTH])
@pytest.mark.parametrize("name", boot.MODULES)
def test_nothing_is_cut_off_or_covered(name, width, open_panel):
    panel = open_panel(name)
    show_everything(panel, 2 * SENTENCE)
    panel.lay_out(width)
    assert problems_of(root_of(panel)) == []
    assert root_of(panel).minimumSizeHint().width() <= width, "it would have to be scrolled sideways"


def test_nothing_is_cut_off_or_covered_at_200_percent():
    """The scale is fixed when the application starts: a process of its own."""
    environment = os.environ | {"QT_SCALE_FACTOR": "2"}
    told = subprocess.run([sys.executable, FILE], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.splitlines() == ["scale 2"]


@pytest.mark.parametrize("name", boot.MODULES)
def test_nothing_is_cut_off_in_large_type(name, large_type, open_panel, artifacts):
    panel = open_panel(name)
    show_everything(panel, SENTENCE)
    panel.lay_out(2 * NARROW)
    assert problems_of(root_of(panel)) == []
    panel.grab(artifacts / f"{name}-large-type.png", width=2 * NARROW)


@pytest.mark.parametrize("name", boot.MODULES)
def test_long_texts_wrap_instead_of_widening_the_panel(name, open_panel, scene):
    scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "a volume with a name that is " + "very " * 30 + "long")
    panel = open_panel(name)
    show_everything(panel, 8 * SENTENCE)
    panel.lay_out(NARROW)
    assert root_of(panel).minimumSizeHint().width() <= NARROW
    assert problems_of(root_of(panel)) == []


@pytest.mark.parametrize("name", boot.MODULES)
def test_tab_goes_from_top_to_bottom_through_every_input(name, open_panel):
    panel = open_panel(name)
    show_everything(panel)
    root = root_of(panel)
    for widget in root.findChildren(QtWidgets.QWidget):
        widget.setEnabled(True)
    panel.lay_out(WIDTH)
    way = tab_way(root)
    assert steps_back(way) == []
    reached = " ".join(name for _, _, name in way)
    inputs = (QtWidgets.QPushButton, QtWidgets.QCheckBox, QtWidgets.QComboBox, QtWidgets.QAbstractSpinBox)
    for widget in root.findChildren(QtWidgets.QWidget):
        if isinstance(widget, inputs):
            assert (widget.objectName() or widget.parentWidget().objectName()) in reached


def _a_narrow_label(panel: boot.Panel) -> None:
    panel.widget.ui.flairSelectorLabel.maximumWidth = 10


def _a_narrow_button(panel: boot.Panel) -> None:
    panel.widget.ui.addLesionButton.maximumWidth = 60


def _a_narrow_list(panel: boot.Panel) -> None:
    panel.widget.ui.brainMethodComboBox.maximumWidth = 80


def _a_low_text(panel: boot.Panel) -> None:
    panel.widget.ui.statusLabel.maximumHeight = 8


def _a_widget_over_another(panel: boot.Panel) -> None:
    button = panel.widget.ui.applyButton._qobject
    button.move(button.x(), button.y() - 20)


def _a_widget_half_outside(panel: boot.Panel) -> None:
    box = panel.widget.ui.mirrorCheckBox._qobject
    box.move(-30, box.y())


def _a_section_out_of_line(panel: boot.Panel) -> None:
    section = panel.widget.ui.outputsCollapsibleButton._qobject
    section.setGeometry(section.x() + 9, section.y(), section.width() - 9, section.height())


def _a_narrow_column(panel: boot.Panel) -> None:
    model = QtGui.QStandardItemModel(1, 1, root_of(panel))
    model.setHorizontalHeaderLabels(["a rather long head"])
    panel.widget.ui.tableView._qobject.setModel(model)
    panel.widget.ui.tableView._qobject.setColumnWidth(0, 30)


DAMAGE = {
    _a_narrow_label: "flairSelectorLabel needs",
    _a_narrow_button: "addLesionButton needs",
    _a_narrow_list: "brainMethodComboBox needs",
    _a_low_text: "statusLabel needs",
    _a_widget_over_another: "outputsCollapsibleButton overlaps applyButton",
    _a_widget_half_outside: "mirrorCheckBox sticks out of advancedCollapsibleButton",
    _a_section_out_of_line: "outputsCollapsibleButton reaches",
    _a_narrow_column: "tableView cuts the head of column 'a rather long head' off",
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__.strip("_"))
def test_the_measures_notice_damage(damage, open_panel):
    panel = open_panel("XTLSegment")
    show_everything(panel, SENTENCE)
    before_layout = damage in (_a_narrow_label, _a_narrow_button, _a_narrow_list, _a_low_text)
    if before_layout:
        damage(panel)
    panel.lay_out(WIDTH)
    if not before_layout:  # the layout would put it right
        damage(panel)
    assert any(problem.startswith(DAMAGE[damage]) for problem in problems_of(root_of(panel)))


def test_a_way_of_tab_that_goes_back_is_noticed(open_panel):
    panel = open_panel("XTLSegment")
    ui = panel.widget.ui
    QtWidgets.QWidget.setTabOrder(ui.registerCheckBox._qobject, ui.bundleSettingsCheckBox._qobject)
    panel.lay_out(WIDTH)
    assert "Tab goes from registerCheckBox back to bundleSettingsCheckBox" in steps_back(tab_way(root_of(panel)))


@pytest.mark.parametrize("name", boot.MODULES)
def test_panels_set_only_properties_that_the_widgets_have(name, open_panel):
    """Qt turns a misspelt property of a .ui file silently into a dynamic one."""
    panel = open_panel(name)
    dynamic = {
        f"{widget.objectName()}.{bytes(key).decode()}"
        for widget in root_of(panel).findChildren(QtWidgets.QWidget)
        for key in widget.dynamicPropertyNames()
        if not bytes(key).startswith((b"_q_", b"_PySide"))
    }
    assert {key for key in dynamic if not key.endswith(".SlicerParameterName")} == set()


def test_a_collapsed_section_shows_later_what_was_shown_meanwhile():
    """The stand-in keeps the promise of CTK's own section, which pictures rest on."""
    from host.ctk_widgets import ctkCollapsibleButton

    section = ctkCollapsibleButton()
    first, second = QtWidgets.QLabel("1", section), QtWidgets.QLabel("2", section)
    section.show()
    first.hide()
    section.collapsed = True
    first.show()
    second.hide()
    QtCore.QCoreApplication.processEvents()
    assert not first.isVisible()
    section.collapsed = False
    assert (first.isVisible(), second.isVisible()) == (True, False)
    section.deleteLater()
