"""Pictures of the panels for Resources/Screenshots, taken with what ``make demo`` left.

    make demo
    QT_QPA_PLATFORM=offscreen .venv/bin/python Testing/tools/take_screenshots.py build/demo
    QT_QPA_PLATFORM=offscreen .venv/bin/python Testing/tools/take_screenshots.py --tutorials

With ``--tutorials`` the steps of the tutorials are done, their pictures made, and the figures that they quote printed.
Each panel is filled with an unseen phantom and a trained bundle, and applied. The pictures have two
pixels a point. They are drawn by the headless host: Slicer's own widgets look somewhat different.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT / "Testing"))

import host.boot as boot  # noqa: E402

SCREENSHOTS = PROJECT / "Resources" / "Screenshots"


def segment(cohort: Path) -> None:
    """XTLSegment on the last case of the brain cohort."""
    panel = _open("XTLSegment", cohort)
    panel.widget.ui.bundlePathLineEdit.currentPath = "bundles/xtl-ms"
    _apply_and_keep(panel)


def classify(cohort: Path) -> None:
    """XTLClassify on the last case of the prostate cohort."""
    import slicer
    from XTLLib.scene.findings import findings_to_node

    panel = _open("XTLClassify", cohort)
    findings = findings_to_node(_last_case(cohort).findings, "findings", slicer.mrmlScene)
    panel.widget.ui.bundlePathLineEdit.currentPath = "bundles/xtl-prostate"
    panel.widget.ui.findingsSelector.setCurrentNode(findings)
    panel.widget.ui.evidenceComboBox.currentIndex = 1
    panel.widget.ui.advancedCollapsibleButton.collapsed = False
    _apply_and_keep(panel)


def transfer() -> None:
    """XTLTransfer with the chain of the demonstration, ready to start."""
    panel = boot.open_panel("XTLTransfer")
    panel.widget.ui.chainPathLineEdit.currentPath = "chains/xtl-ms.yaml"
    panel.widget.ui.outputPathLineEdit.currentPath = "new-run"
    _wait(lambda: not panel.widget._panel.is_waiting)  # until it has looked at the chain and its data
    _keep(panel)


def _open(name: str, cohort: Path) -> boot.Panel:
    boot.start()
    import slicer
    from XTLLib.scene.inputs import add_case

    slicer.mrmlScene.Clear()
    add_case(_last_case(cohort), slicer.mrmlScene)
    return boot.open_panel(name)


def _last_case(cohort: Path):
    from XTLLib.data.datalist import Datalist
    from XTLLib.data.load import load_case

    datalist = Datalist.load(cohort / "datalist.json")
    patient = datalist.test[-1].patient
    entries = [entry for entry in datalist.test if entry.patient == patient]
    case = load_case(entries[0], datalist)
    findings = tuple(entry.finding for entry in entries if entry.finding is not None)
    return case if not findings else type(case)(case.patient, case.channels, case.reference, None, findings)


def _wait(done: Callable[[], bool]) -> None:
    import slicer

    while not done():
        slicer.app.processEvents()
        time.sleep(0.02)


def _apply_and_keep(panel: boot.Panel) -> None:
    ui = panel.widget.ui
    assert ui.applyButton.enabled, ui.statusLabel.text
    ui.applyButton.click()
    _wait(lambda: not ui.progressBar.visible)  # the panels go on working after the click
    ui.outputsCollapsibleButton.collapsed = False
    _keep(panel)


def _keep(panel: boot.Panel) -> None:
    from PIL import Image
    from PySide6 import QtWidgets

    panel.lay_out()
    if QtWidgets.QApplication.focusWidget() is not None:
        QtWidgets.QApplication.focusWidget().clearFocus()
    path = SCREENSHOTS / f"{panel.widget.moduleName}.png"
    panel.grab(path, scale=2)
    Image.open(path).convert("RGB").quantize(64).save(path, optimize=True)
    panel.close()


def main() -> None:
    """Take the pictures of the panels, or of the tutorials."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demo", type=Path, nargs="?", default=PROJECT / "build" / "demo", help="what make demo left")
    parser.add_argument(
        "--tutorials", nargs="?", const="", metavar="NAME", help="of segment, classify, transfer, or all"
    )
    arguments = parser.parse_args()
    os.chdir(arguments.demo)  # so that the panels show short paths
    if arguments.tutorials is not None:
        from tutorial_pictures import make_tutorial_pictures

        make_tutorial_pictures(Path(), SCREENSHOTS, arguments.tutorials)
        return
    segment(Path("data/brain"))
    classify(Path("data/prostate"))
    transfer()


if __name__ == "__main__":
    main()
