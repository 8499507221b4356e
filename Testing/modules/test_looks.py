"""Nothing in a panel is cut off: at the usual width, in large type, and with long names."""

from __future__ import annotations

import host.boot as boot
import pytest
from PySide6 import QtCore, QtGui, QtWidgets

WIDTH = 460  # pixels; Slicer's module panel is 400 to 550 wide


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


@pytest.fixture
def sections_open():
    def open_(panel: boot.Panel) -> None:
        for section in panel.parent._qobject.findChildren(QtWidgets.QWidget):
            if section.metaObject().className() == "ctkCollapsibleButton":
                section.setProperty("collapsed", False)

    return open_


@pytest.mark.parametrize("name", boot.MODULES)
def test_no_text_is_cut_off(name, open_panel, sections_open):
    panel = open_panel(name)
    sections_open(panel)
    panel.lay_out(WIDTH)
    assert _cut_off(panel) == []


@pytest.mark.parametrize("name", boot.MODULES)
def test_no_text_is_cut_off_in_large_type(name, large_type, open_panel, sections_open, artifacts):
    panel = open_panel(name)
    sections_open(panel)
    panel.lay_out(2 * WIDTH)
    assert _cut_off(panel) == []
    panel.grab(artifacts / f"{name}-large-type.png", width=2 * WIDTH)


@pytest.mark.parametrize("name", boot.MODULES)
def test_long_texts_wrap_instead_of_widening_the_panel(name, open_panel, scene, sections_open):
    scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "a volume with a name that is " + "very " * 30 + "long")
    panel = open_panel(name)
    sections_open(panel)
    panel.widget.ui.statusLabel.text = "A sentence that tells what is wrong, and what to do about it. " * 8
    panel.lay_out(WIDTH)
    assert panel.parent._qobject.minimumSizeHint().width() <= WIDTH
    assert _cut_off(panel) == []


@pytest.mark.parametrize("name", boot.MODULES)
def test_keyboard_reaches_every_input_from_top_to_bottom(name, open_panel, sections_open):
    panel = open_panel(name)
    sections_open(panel)
    panel.lay_out(WIDTH)
    places = []
    for widget in _tab_order(panel.parent._qobject):
        if widget.isVisible() and widget.isEnabled() and widget.focusPolicy() & QtCore.Qt.TabFocus:
            places.append(widget.mapTo(panel.parent._qobject, QtCore.QPoint(0, 0)).y() // 12)
    assert len(places) > 5
    assert places == sorted(places)


def _cut_off(panel: boot.Panel) -> list[str]:
    """Texts that have less room than they ask for."""
    wrong = []
    for widget in panel.parent._qobject.findChildren(QtWidgets.QWidget):
        if not widget.isVisible():
            continue
        if isinstance(widget, QtWidgets.QLabel) and widget.wordWrap():
            short = widget.heightForWidth(widget.width()) > widget.height()
        elif isinstance(widget, (QtWidgets.QLabel, QtWidgets.QAbstractButton, QtWidgets.QAbstractSpinBox)):
            needed, room = widget.minimumSizeHint(), widget.size()
            short = needed.width() > room.width() or needed.height() > room.height()
        else:
            continue
        if short:
            wrong.append(f"{widget.objectName() or type(widget).__name__} {widget.size()}")
    return wrong


def _tab_order(widget: QtWidgets.QWidget) -> list[QtWidgets.QWidget]:
    order, current = [], widget.nextInFocusChain()
    while current is not widget:
        if widget.isAncestorOf(current):
            order.append(current)
        current = current.nextInFocusChain()
    return order


def test_the_measure_notices_a_text_that_is_cut_off(open_panel):
    panel = open_panel("XTLSegment")
    panel.widget.ui.flairSelectorLabel.maximumWidth = 10
    panel.lay_out(WIDTH)
    assert [text.split()[0] for text in _cut_off(panel)] == ["flairSelectorLabel"]


@pytest.mark.parametrize("name", boot.MODULES)
def test_panels_set_only_properties_that_the_widgets_have(name, open_panel):
    """Qt turns a misspelt property of a .ui file silently into a dynamic one."""
    panel = open_panel(name)
    dynamic = {
        f"{widget.objectName()}.{bytes(key).decode()}"
        for widget in panel.parent._qobject.findChildren(QtWidgets.QWidget)
        for key in widget.dynamicPropertyNames()
        if not bytes(key).startswith((b"_q_", b"_PySide"))
    }
    assert {key for key in dynamic if not key.endswith(".SlicerParameterName")} == set()
