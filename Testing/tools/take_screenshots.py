"""Pictures of the modules for Resources/Screenshots, taken with what ``make demo`` left: a panel beside what it made.

    make demo
    QT_QPA_PLATFORM=offscreen .venv/bin/python Testing/tools/take_screenshots.py build/demo
    QT_QPA_PLATFORM=offscreen .venv/bin/python Testing/tools/take_screenshots.py --tutorials

With ``--tutorials`` the steps of the tutorials are done, their pictures made, and the figures that they quote printed.
Panels are filled with an unseen phantom and a trained bundle, and applied; XTL Transfer trains the demonstration's
chain on a smaller budget. Panels are drawn by the headless host: Slicer's own widgets look somewhat different.
Slices and surfaces come from Slicer's own displayable managers, the plot from the charts of VTK that Slicer has too.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT / "Testing"))

import host.boot as boot  # noqa: E402
from tutorial_pictures import (  # noqa: E402
    RUN,
    channels_sheet,
    load_sample,
    make_tutorial_pictures,
    settle,
    views_sheet,
)

SCREENSHOTS = PROJECT / "Resources" / "Screenshots"
_MODULES = ("segment", "classify", "transfer")
_SCALE = 1.25  # pixels a point of the panel
_GAP = 12  # pixels
_FILM_EPOCHS, _STEPS = 3, 60  # of 10 and 150: some seconds of training


def segment() -> None:
    """XTLSegment on the last case of the demonstration's brain cohort, which no arm was trained on."""
    import slicer
    from XTLLib.data.datalist import Datalist
    from XTLLib.data.load import load_case
    from XTLLib.scene.inputs import add_case
    from XTLLib.scene.views import add_slice_views

    datalist = Datalist.load(Path("data/brain/datalist.json"))
    slicer.mrmlScene.Clear()
    inputs = add_case(load_case(datalist.test[-1], datalist), slicer.mrmlScene)
    add_slice_views(slicer.mrmlScene, inputs.reference)
    panel = boot.open_panel("XTLSegment")
    ui = panel.widget.ui
    ui.bundlePathLineEdit.currentPath = "bundles/xtl-ms"
    _apply(panel)
    ui.show3dCheckBox.checked = True
    ui.tableView._qobject.selectRow(0)
    _keep(panel, lambda height: views_sheet(inputs.reference, height // 2))


def classify() -> None:
    """XTLClassify on the prostate phantom of the sample data: the finding of the highest probability, and why."""
    import slicer

    sample = load_sample("prostate")
    panel = boot.open_panel("XTLClassify")
    ui = panel.widget.ui
    ui.bundlePathLineEdit.currentPath = "bundles/xtl-prostate"
    ui.findingsSelector.setCurrentNode(sample.findings)
    ui.evidenceComboBox.currentIndex = 1
    ui.advancedCollapsibleButton.collapsed = False
    _apply(panel)
    probabilities = slicer.util.arrayFromTableColumn(panel.widget.logic.getParameterNode().table, "probability")
    ui.tableView._qobject.selectRow(int(probabilities.argmax()))
    _keep(panel, lambda height: channels_sheet(list(sample.channels.values()), height // 3, columns=1))


def transfer() -> None:
    """XTLTransfer with the chain of the demonstration, planned and trained on a smaller budget."""
    import slicer
    from chart_picture import chart_picture

    shutil.rmtree(RUN, ignore_errors=True)
    slicer.mrmlScene.Clear()
    panel = boot.open_panel("XTLTransfer")
    ui, own = panel.widget.ui, panel.widget._panel
    ui.chainPathLineEdit.currentPath = "chains/xtl-ms.yaml"
    ui.outputPathLineEdit.currentPath = str(RUN)
    settle(lambda: not own.is_waiting)  # until it has looked at the chain and its data
    ui.useChainSettingsCheckBox.checked = False
    ui.sourceBudgetSpinBox.value, ui.targetBudgetSpinBox.value = _FILM_EPOCHS, _STEPS
    settle(lambda: not own.is_waiting)
    ui.planButton.click()
    settle(lambda: ui.planButton.text == "Plan")
    ui.applyButton.click()
    settle(lambda: not own.is_running and not own.is_waiting)
    chart = panel.widget.logic.getParameterNode().trainingCurve
    _keep(panel, lambda height: chart_picture(chart, height, height))
    shutil.rmtree(RUN)


def _apply(panel: boot.Panel) -> None:
    ui = panel.widget.ui
    assert ui.applyButton.enabled, ui.statusLabel.text
    ui.applyButton.click()
    settle(lambda: not ui.progressBar.visible)  # the panels go on working after the click


def _keep(panel: boot.Panel, beside: Callable[[int], Any]) -> None:
    """The panel and, to its right, the picture that ``beside`` makes for its height."""
    from PIL import Image
    from PySide6 import QtWidgets

    settle()
    panel.lay_out()
    if QtWidgets.QApplication.focusWidget() is not None:
        QtWidgets.QApplication.focusWidget().clearFocus()
    path = SCREENSHOTS / f"{panel.widget.moduleName}.png"
    panel.grab(path, scale=_SCALE)
    left = Image.open(path).convert("RGB")
    right = beside(left.height)
    sheet = Image.new("RGB", (left.width + _GAP + right.width, left.height), (60, 60, 60))
    sheet.paste(left, (0, 0))
    sheet.paste(right, (left.width + _GAP, 0))
    sheet.save(path, optimize=True)
    panel.close()


def main() -> None:
    """Take the pictures of the panels, or of the tutorials."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demo", type=Path, nargs="?", default=PROJECT / "build" / "demo", help="what make demo left")
    parser.add_argument(
        "--tutorials", nargs="?", const="", metavar="NAME", help="of segment, classify, transfer, or all"
    )
    parser.add_argument("--only", nargs="+", choices=_MODULES, default=_MODULES, help="of the panels")
    arguments = parser.parse_args()
    os.chdir(arguments.demo)  # so that the panels show short paths
    from XTLLib.scene.offscreen_views import draw_off_screen

    draw_off_screen()
    boot.start()
    if arguments.tutorials is not None:
        make_tutorial_pictures(Path(), SCREENSHOTS, arguments.tutorials)
        return
    for step in (segment, classify, transfer):
        if step.__name__ in arguments.only:
            step()


if __name__ == "__main__":
    main()
