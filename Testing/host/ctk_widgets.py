"""Stand-ins for the CTK widgets that the panels use: same properties, same signals, plain looks."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal


class ctkCollapsibleButton(QtWidgets.QWidget):
    """A titled section whose content is hidden when collapsed.

    What is shown or hidden while it is collapsed comes true when it is opened, as with CTK's own.
    """

    contentsCollapsed = Signal(bool)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._text = ""
        self._collapsed = self._is_forcing = False
        self._wanted: dict[QtWidgets.QWidget, bool] = {}
        self.setContentsMargins(0, self._header(), 0, 0)

    def _header(self) -> int:
        return self.fontMetrics().height() + 12

    def _set_text(self, text: str) -> None:
        self._text = text
        self.update()

    def _set_collapsed(self, collapsed: bool) -> None:
        if collapsed == self._collapsed:
            return
        self._collapsed = collapsed
        for child in self.findChildren(QtWidgets.QWidget, options=QtCore.Qt.FindDirectChildrenOnly):
            if collapsed:
                self._wanted[child] = not child.isHidden()
            self._force(child)
        self.setMaximumHeight(self._header() if collapsed else 16777215)
        self.contentsCollapsed.emit(collapsed)

    def _force(self, child: QtWidgets.QWidget) -> None:
        self._is_forcing = True
        child.setVisible(not self._collapsed and self._wanted.get(child, True))
        if self._collapsed:  # else Qt takes hiding it once more for nothing new, and tells nobody
            child.setAttribute(QtCore.Qt.WA_WState_ExplicitShowHide, False)
        self._is_forcing = False

    def childEvent(self, event: QtCore.QChildEvent) -> None:
        super().childEvent(event)
        if event.added() and isinstance(event.child(), QtWidgets.QWidget):
            event.child().installEventFilter(self)
            if self._collapsed:
                self._force(event.child())

    def eventFilter(self, child: QtCore.QObject, event: QtCore.QEvent) -> bool:
        shown = event.type() == QtCore.QEvent.ShowToParent
        if not self._is_forcing and (shown or event.type() == QtCore.QEvent.HideToParent):
            self._wanted[child] = shown
            if shown and self._collapsed:
                self._force(child)
        return False

    def mousePressEvent(self, event: QtGui.QMouseEvent) -> None:
        if event.position().y() < self._header():
            self._set_collapsed(not self._collapsed)

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter = QtWidgets.QStylePainter(self)
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = QtCore.QRect(0, 0, self.width(), self._header() - 2)
        painter.drawPrimitive(QtWidgets.QStyle.PE_PanelButtonCommand, option)
        arrow = QtWidgets.QStyleOption()
        arrow.initFrom(self)
        side = self.fontMetrics().height() // 2
        arrow.rect = QtCore.QRect(6, (self._header() - side) // 2, side, side)
        shape = QtWidgets.QStyle.PE_IndicatorArrowRight if self._collapsed else QtWidgets.QStyle.PE_IndicatorArrowDown
        painter.drawPrimitive(shape, arrow)
        painter.drawText(option.rect.adjusted(14 + side, 0, -4, 0), QtCore.Qt.AlignVCenter, self._text)

    text = Property(str, lambda self: self._text, _set_text)
    collapsed = Property(bool, lambda self: self._collapsed, _set_collapsed)


class ctkSliderWidget(QtWidgets.QWidget):
    """A slider of floating-point values with a spin box beside it."""

    valueChanged = Signal(float)
    _STEPS = 10000

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Horizontal, self)
        self._slider.setRange(0, self._STEPS)
        self._box = QtWidgets.QDoubleSpinBox(self)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider)
        layout.addWidget(self._box)
        self._slider.valueChanged.connect(self._slid)
        self._box.valueChanged.connect(self._typed)

    def _slid(self, step: int) -> None:
        low, high = self._box.minimum(), self._box.maximum()
        self._box.setValue(low + (high - low) * step / self._STEPS)

    def _typed(self, value: float) -> None:
        self._show_on_slider()
        self.valueChanged.emit(value)

    def _show_on_slider(self) -> None:
        low, high = self._box.minimum(), self._box.maximum()
        share = (self._box.value() - low) / (high - low) if high > low else 0
        blocked = self._slider.blockSignals(True)
        self._slider.setValue(round(share * self._STEPS))
        self._slider.blockSignals(blocked)

    def _set_bound(self, setter: str, bound: float) -> None:
        getattr(self._box, setter)(bound)
        self._show_on_slider()

    def event(self, event: QtCore.QEvent) -> bool:
        if event.type() == QtCore.QEvent.ToolTipChange:
            self._slider.setToolTip(self.toolTip())
            self._box.setToolTip(self.toolTip())
        return super().event(event)

    value = Property(float, lambda self: self._box.value(), lambda self, v: self._box.setValue(v))
    minimum = Property(float, lambda self: self._box.minimum(), lambda self, v: self._set_bound("setMinimum", v))
    maximum = Property(float, lambda self: self._box.maximum(), lambda self, v: self._set_bound("setMaximum", v))
    singleStep = Property(float, lambda self: self._box.singleStep(), lambda self, v: self._box.setSingleStep(v))
    decimals = Property(int, lambda self: self._box.decimals(), lambda self, v: self._box.setDecimals(v))
    suffix = Property(str, lambda self: self._box.suffix(), lambda self, v: self._box.setSuffix(v))


class ctkPathLineEdit(QtWidgets.QWidget):
    """A line for a file or folder with a browse button; the user's typing changes the path at once."""

    currentPathChanged = Signal(str)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._filters = "ctkPathLineEdit::AllEntries"
        self._name_filters: list[str] = []
        self._setting_key = ""
        self._box = QtWidgets.QComboBox(self)
        self._box.setEditable(True)
        self._box.setSizePolicy(QtWidgets.QSizePolicy.Expanding, QtWidgets.QSizePolicy.Fixed)
        self._box.setMinimumContentsLength(8)
        self._box.setSizeAdjustPolicy(QtWidgets.QComboBox.AdjustToMinimumContentsLengthWithIcon)
        button = QtWidgets.QToolButton(self)
        button.setText("...")
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)
        layout.addWidget(button)
        self._box.editTextChanged.connect(self.currentPathChanged)

    def addCurrentPathToHistory(self) -> None:
        """Keep the path in the drop-down list."""
        if self._box.findText(self._box.currentText()) < 0:
            self._box.addItem(self._box.currentText())

    def setFilters(self, filters: str) -> None:
        """The ``set`` of the .ui file, for example ``ctkPathLineEdit::Dirs|ctkPathLineEdit::Readable``."""
        self._filters = filters

    def filters(self) -> str:
        return self._filters

    currentPath = Property(str, lambda self: self._box.currentText(), lambda self, v: self._box.setEditText(v))
    nameFilters = Property(
        "QStringList", lambda self: self._name_filters, lambda self, v: setattr(self, "_name_filters", v)
    )
    settingKey = Property(str, lambda self: self._setting_key, lambda self, v: setattr(self, "_setting_key", v))


class ctkMessageBox:
    """A message box that nobody has to click: it is kept in ``shown`` and answered with OK."""

    shown: list[ctkMessageBox] = []

    def __init__(self, parent: Any = None) -> None:
        self.text = ""
        self.windowTitle = ""
        self.detailedText = ""
        self.icon = self.standardButtons = None

    def deleteLater(self) -> None:
        """Nothing to delete."""

    def exec_(self) -> Any:
        ctkMessageBox.shown.append(self)
        return QtWidgets.QMessageBox.Ok


WIDGETS = {"ctkCollapsibleButton": ctkCollapsibleButton, "ctkPathLineEdit": ctkPathLineEdit}
WIDGETS |= {"ctkSliderWidget": ctkSliderWidget}
