"""What can be measured of a laid-out panel's looks: texts that are cut off, widgets that overlap, the way of Tab.

Run as a script it prints what is wrong with the three panels, a line each, at the scale of QT_SCALE_FACTOR.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import host.boot as boot
from PySide6 import QtCore, QtGui, QtWidgets

WIDTH = 460  # pixels; Slicer's module panel is 400 to 550 wide
NARROW = 400
_LIMIT_S = 120.0
_ROW = 12  # pixels: what is less apart stands in one row
_WITH_INNER_PARTS = (QtWidgets.QAbstractSpinBox, QtWidgets.QComboBox, QtWidgets.QAbstractScrollArea)


def unfold(panel: boot.Panel) -> None:
    """Open every section of a panel, and wait for what is looked at in the background then."""
    for section in root_of(panel).findChildren(QtWidgets.QWidget):
        if section.metaObject().className() == "ctkCollapsibleButton":
            section.setProperty("collapsed", False)
    parts = [
        part
        for whole in (panel.widget, *vars(panel.widget).values())
        for part in getattr(whole, "__dict__", {}).values()
    ]
    deadline = time.monotonic() + _LIMIT_S
    while any(
        getattr(part, "is_running", False) is True or getattr(part, "is_waiting", False) is True for part in parts
    ):
        QtWidgets.QApplication.processEvents()
        time.sleep(0.01)
        assert time.monotonic() < deadline, "it is still at work"


def show_everything(panel: boot.Panel, sentence: str = "") -> None:
    """Open every section, show what a panel shows at times only, and let empty labels say something."""
    unfold(panel)
    for widget in root_of(panel).findChildren(QtWidgets.QWidget):
        if widget.objectName() and not widget.objectName().startswith("qt_") and widget.parentWidget() is not None:
            if widget.isHidden() and not widget.isWindow() and not _is_inner(widget):
                widget.show()
            if sentence and isinstance(widget, QtWidgets.QLabel) and not widget.text():
                widget.setText(sentence)


def root_of(panel: boot.Panel) -> QtWidgets.QWidget:
    """The Qt widget that holds a panel."""
    return panel.parent._qobject


def problems_of(root: QtWidgets.QWidget) -> list[str]:
    """Everything that is wrong with the looks of a laid-out widget, a sentence each."""
    return [*cut_off(root), *overlapping(root), *sticking_out(root), *crooked(root)]


def cut_off(root: QtWidgets.QWidget) -> list[str]:
    """Texts that have less room than they ask for."""
    wrong = []
    for widget in _shown(root):
        needed, room = _needed(widget), widget.size()
        if needed is not None and (needed.width() > room.width() or needed.height() > room.height()):
            wrong.append(
                f"{_name(widget)} needs {needed.width()} x {needed.height()}, has {room.width()} x {room.height()}"
            )
        if isinstance(widget, QtWidgets.QTableView):
            wrong += _short_columns(widget)
    return wrong


def overlapping(root: QtWidgets.QWidget) -> list[str]:
    """Siblings of which one covers a part of the other."""
    wrong = []
    for parent in (root, *_shown(root)):
        children = [child for child in _children(parent) if child.isVisible() and not child.isWindow()]
        for one, other in combinations(children, 2):
            if one.geometry().intersects(other.geometry()):
                wrong.append(f"{_name(one)} overlaps {_name(other)}")
    return wrong


def sticking_out(root: QtWidgets.QWidget) -> list[str]:
    """Widgets of which a part lies outside of their parent, where it is not drawn."""
    return [
        f"{_name(child)} sticks out of {_name(parent)}"
        for parent in (root, *_shown(root))
        for child in _children(parent)
        if child.isVisible() and not child.isWindow() and not parent.rect().contains(child.geometry())
    ]


def crooked(root: QtWidgets.QWidget) -> list[str]:
    """Sections whose left or right edge is not that of the first one."""
    sections = [each for each in _shown(root) if each.metaObject().className() == "ctkCollapsibleButton"]
    edges = [(_place(each, root).x(), _place(each, root).x() + each.width()) for each in sections]
    return [
        f"{_name(each)} reaches from {edge[0]} to {edge[1]}, not from {edges[0][0]} to {edges[0][1]}"
        for each, edge in zip(sections, edges)
        if edge != edges[0]
    ]


def tab_way(root: QtWidgets.QWidget) -> list[tuple[int, int, str]]:
    """(y of the middle, x, name) of each widget that Tab reaches, in that order, in pixels of ``root``."""
    way = []
    for widget in _focus_chain(root):
        by_tab = widget.focusPolicy() & QtCore.Qt.TabFocus and widget.focusProxy() is None
        if by_tab and widget.isVisible() and widget.isEnabled():
            place = _place(widget, root)
            way.append((place.y() + widget.height() // 2, place.x(), _name(widget)))
    return way


def steps_back(way: list[tuple[int, int, str]]) -> list[str]:
    """Where Tab goes up, or to the left within a row."""
    wrong = []
    for (y, x, name), (next_y, next_x, next_name) in pairwise(way):
        is_same_row = abs(next_y - y) < _ROW
        if (is_same_row and next_x < x) or (not is_same_row and next_y < y):
            wrong.append(f"Tab goes from {name} back to {next_name}")
    return wrong


def _needed(widget: QtWidgets.QWidget) -> QtCore.QSize | None:
    """The room that a widget's own text asks for; None: it has none, or one that its user chose."""
    if isinstance(widget, QtWidgets.QLabel):
        least = widget.minimumSizeHint()
        if widget.wordWrap():
            least.setHeight(widget.heightForWidth(widget.width()))
        return least
    if isinstance(widget, (QtWidgets.QAbstractButton, QtWidgets.QAbstractSpinBox)):
        return widget.minimumSizeHint()
    if isinstance(widget, QtWidgets.QComboBox) and not widget.isEditable() and _is_list_of_words(widget):
        return _needed_by_items(widget)
    if isinstance(widget, QtWidgets.QLineEdit) and widget.placeholderText() and widget.isVisible():
        text = widget.fontMetrics().horizontalAdvance(widget.placeholderText())
        return QtCore.QSize(text + 8, 0)
    if widget.metaObject().className() == "ctkCollapsibleButton":
        return QtCore.QSize(widget.fontMetrics().horizontalAdvance(widget.property("text")) + 40, 0)
    return None


def _is_list_of_words(box: QtWidgets.QComboBox) -> bool:
    """Whether the items are the panel's own, not nodes or files with names that somebody gave them."""
    return box.parentWidget().metaObject().className() not in ("qMRMLNodeComboBox", "ctkPathLineEdit")


def _needed_by_items(box: QtWidgets.QComboBox) -> QtCore.QSize:
    option = QtWidgets.QStyleOptionComboBox()
    box.initStyleOption(option)
    style = box.style()
    field = style.subControlRect(QtWidgets.QStyle.CC_ComboBox, option, QtWidgets.QStyle.SC_ComboBoxEditField, box)
    texts = [box.fontMetrics().horizontalAdvance(box.itemText(index)) for index in range(box.count())]
    return QtCore.QSize(box.width() - field.width() + max(texts, default=0), 0)


def _short_columns(view: QtWidgets.QTableView) -> list[str]:
    header, model = view.horizontalHeader(), view.model()
    return [
        f"{_name(view)} cuts the head of column {model.headerData(index, QtCore.Qt.Horizontal)!r} off"
        for index in range(model.columnCount() if model is not None else 0)
        if header.sectionSizeHint(index) > header.sectionSize(index)
    ]


def _shown(root: QtWidgets.QWidget) -> Iterator[QtWidgets.QWidget]:
    for widget in root.findChildren(QtWidgets.QWidget):
        if widget.isVisible() and not widget.isWindow() and not _is_inner(widget):
            yield widget


def _is_inner(widget: QtWidgets.QWidget) -> bool:
    """Whether a widget is a part of one of Qt's own compound widgets."""
    parent = widget.parentWidget()
    while parent is not None:
        if isinstance(parent, _WITH_INNER_PARTS):
            return True
        parent = parent.parentWidget()
    return False


def _children(parent: QtWidgets.QWidget) -> list[QtWidgets.QWidget]:
    if isinstance(parent, _WITH_INNER_PARTS):
        return []
    return parent.findChildren(QtWidgets.QWidget, options=QtCore.Qt.FindDirectChildrenOnly)


def _focus_chain(root: QtWidgets.QWidget) -> Iterator[QtWidgets.QWidget]:
    current = root.nextInFocusChain()
    while current is not root:
        if root.isAncestorOf(current):
            yield current
        current = current.nextInFocusChain()


def _place(widget: QtWidgets.QWidget, root: QtWidgets.QWidget) -> QtCore.QPoint:
    return widget.mapTo(root, QtCore.QPoint(0, 0))


def _name(widget: QtWidgets.QWidget) -> str:
    own = widget.objectName()
    if own and not own.startswith("qt_"):
        return own
    text: Any = widget.property("text")
    parent = widget.parentWidget()
    of = f" of {_name(parent)}" if parent is not None else ""
    return f"{type(widget).__name__}{f' {text[:40]!r}' if isinstance(text, str) and text else ''}{of}"


def main() -> None:
    """Print what is wrong with the panels, everything shown, narrow and of the usual width."""
    boot.start()
    print(f"scale {QtGui.QGuiApplication.primaryScreen().devicePixelRatio():g}")
    for name in boot.MODULES:
        panel = boot.open_panel(name)
        show_everything(panel, "A sentence that says how things are, and what to do about them. " * 2)
        for width in (NARROW, WIDTH):
            panel.lay_out(width)
            for problem in problems_of(root_of(panel)):
                print(f"{name} {width}: {re.sub(chr(10), ' ', problem)}")
            if root_of(panel).minimumSizeHint().width() > width:
                print(f"{name} {width}: wants to be {root_of(panel).minimumSizeHint().width()} wide")
        panel.close()


if __name__ == "__main__":
    main()
