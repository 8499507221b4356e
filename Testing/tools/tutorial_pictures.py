"""The pictures of the tutorials, made by doing what they say, and the figures that they quote, printed.

Run by ``take_screenshots.py --tutorials``. Panels and views are drawn off screen: slices and surfaces by Slicer's own
displayable managers, widgets by the headless host.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import host.boot as boot

_VIEW_PIXELS = 380
_QUALITY = 82
_GAP = 4  # pixels between views
_ZOOM = 0.45  # of the whole image's width
_COLOURS = 48
_FILM_EPOCHS, _STEPS = 2, 60  # of 10 and 150: the tutorial is to take ten minutes
_EDGE = 8  # pixels around what is cut out
_SIDE = 14  # pixels of the panel's empty margin that are cut off
_SECTIONS = "CollapsibleButton"
RUN = Path("/tmp/xtl-run")
"""Where the pictures' chain is trained: a whole path, short, that tells nothing of a computer."""


def make_tutorial_pictures(demo: Path, out: Path, only: str = "") -> None:
    """Walk through the three tutorials with what ``make demo`` left in ``demo``; pictures go to ``out``.

    ``only`` names one of them: "segment", "classify" or "transfer".
    """
    from XTLLib.scene.offscreen_views import draw_off_screen

    draw_off_screen()
    boot.start()
    for steps in (segment, classify, transfer):
        if only not in ("", steps.__name__):
            continue
        print(f"--- {steps.__name__}")
        steps(demo, out)


def segment(demo: Path, out: Path) -> None:
    """XTL Segment on the brain phantom: Apply, a row of the table, other thresholds."""
    import slicer

    sample = load_sample("brain")
    sample.truth.GetDisplayNode().SetVisibility(False)
    panel = boot.open_panel("XTLSegment")
    ui = panel.widget.ui
    ui.bundlePathLineEdit.currentPath = str(demo / "bundles" / "xtl-ms")
    _keep(panel, out / "tutorial-segment-inputs.png", ["inputs", "settings"])
    _apply(panel)
    print("after Apply:", ui.statusLabel.text)
    _choose_row(panel, 0)
    ui.show3dCheckBox.checked = True
    settle()
    _keep(panel, out / "tutorial-segment-lesions.png", ["results"])
    _keep_sheet(views_sheet(sample.channels["FLAIR"]), out / "tutorial-segment-views.jpg")
    true = slicer.util.arrayFromVolume(sample.truth) > 0
    print(f"true: {_components(true)} lesions, {_millilitres(true, sample.truth):.2f} ml")
    for threshold in (0.5, 0.3, 0.7):
        ui.thresholdSlider.value = threshold
        settle()
        nodes = panel.widget.logic.getParameterNode()
        found = slicer.util.arrayFromVolume(nodes.labelMap) > 0
        dice = 2 * (found & true).sum() / (found.sum() + true.sum())
        lesions, volume = nodes.table.GetNumberOfRows(), _millilitres(found, nodes.labelMap)
        print(f"threshold {threshold}: {lesions} lesions, {volume:.2f} ml, Dice {dice:.2f}")
    panel.close()


def classify(demo: Path, out: Path) -> None:
    """XTL Classify on the prostate phantom: Apply with evidence, the row of the highest probability."""
    import slicer

    sample = load_sample("prostate")
    panel = boot.open_panel("XTLClassify")
    ui = panel.widget.ui
    ui.bundlePathLineEdit.currentPath = str(demo / "bundles" / "xtl-prostate")
    ui.findingsSelector.setCurrentNode(sample.findings)
    _keep(panel, out / "tutorial-classify-inputs.png", ["inputs"])
    ui.evidenceComboBox.currentIndex = 1
    _apply(panel)
    print("after Apply:", ui.statusLabel.text)
    table = panel.widget.logic.getParameterNode().table
    probabilities = slicer.util.arrayFromTableColumn(table, "probability")
    for (name, significant), probability in zip(sample.outcomes.items(), probabilities):
        print(f"finding {name}: {probability:.2f}, truly {'' if significant else 'not '}significant")
    _choose_row(panel, int(probabilities.argmax()))
    _keep(panel, out / "tutorial-classify-ratings.png", ["results"])
    _keep_sheet(channels_sheet(list(sample.channels.values())), out / "tutorial-classify-views.jpg")
    panel.close()


def transfer(demo: Path, out: Path) -> None:
    """XTL Transfer with the demonstration's chain, on a smaller budget: look, plan, train."""
    import shutil

    import slicer

    shutil.rmtree(RUN, ignore_errors=True)
    slicer.mrmlScene.Clear()
    panel = boot.open_panel("XTLTransfer")
    ui, own = panel.widget.ui, panel.widget._panel
    ui.chainPathLineEdit.currentPath = str(demo / "chains" / "xtl-ms.yaml")
    ui.outputPathLineEdit.currentPath = str(RUN)
    ui.advancedCollapsibleButton.collapsed = False
    settle(lambda: not own.is_waiting)
    ui.useChainSettingsCheckBox.checked = False
    ui.sourceBudgetSpinBox.value, ui.targetBudgetSpinBox.value = _FILM_EPOCHS, _STEPS
    settle(lambda: not own.is_waiting)
    _keep(panel, out / "tutorial-transfer-inputs.png", ["inputs", "advanced"])
    ui.planButton.click()
    settle(lambda: ui.planButton.text == "Plan", 3.0)
    print("plan:", ui.planLabel.text)
    ui.advancedCollapsibleButton.collapsed = True
    settle()
    _keep(panel, out / "tutorial-transfer-plan.png", ["outputs"], ui.planLabel)
    ui.applyButton.click()
    settle(lambda: not own.is_running)
    print("after Apply:", ui.statusLabel.text)
    _keep(panel, out / "tutorial-transfer-result.png", ["results"])
    table = panel.widget.logic.getParameterNode().trainingLog
    for row in (0, table.GetNumberOfRows() - 1):
        print([f"{table.GetColumnName(n)} {table.GetCellText(row, n)}" for n in range(table.GetNumberOfColumns())])
    panel.close()
    shutil.rmtree(RUN)


def load_sample(name: str) -> Any:
    """A phantom of the sample data in an emptied scene, with the three slice views on its reference."""
    import slicer
    from XTLLib.scene.sample_data import load
    from XTLLib.scene.views import add_slice_views

    slicer.mrmlScene.Clear()
    sample = load(name, slicer.mrmlScene)
    add_slice_views(slicer.mrmlScene, next(iter(sample.channels.values())))
    return sample


def _apply(panel: boot.Panel) -> None:
    ui = panel.widget.ui
    assert ui.applyButton.enabled, ui.statusLabel.text
    ui.applyButton.click()
    settle(lambda: not ui.progressBar.visible)


def settle(done: Callable[[], bool] = lambda: True, quiet_s: float = 1.0) -> None:
    """Let the panel work until it is done, and a little longer for what it does after pauses."""
    import slicer

    until = time.monotonic() + quiet_s
    while time.monotonic() < until:
        slicer.app.processEvents()
        time.sleep(0.01)
        if not done():
            until = time.monotonic() + quiet_s


def _choose_row(panel: boot.Panel, row: int) -> None:
    """Click into a row of the panel's table."""
    panel.widget.ui.tableView._qobject.selectRow(row)
    settle()


def _components(mask: Any) -> int:
    from XTLLib.metrics.components import label_components

    return label_components(mask, 26)[1]


def _millilitres(mask: Any, node: Any) -> float:
    spacing = node.GetSpacing()
    return float(mask.sum()) * spacing[0] * spacing[1] * spacing[2] / 1000


def _keep(panel: boot.Panel, path: Path, sections: Sequence[str], last: Any = None) -> None:
    """The picture of sections of a panel, and what stands between them and ``last``, two pixels a point."""
    from PIL import Image
    from PySide6 import QtCore, QtWidgets

    panel.lay_out()
    if QtWidgets.QApplication.focusWidget() is not None:
        QtWidgets.QApplication.focusWidget().clearFocus()
    host = panel.parent._qobject
    panel.grab(path, scale=2)
    boxes = []
    widgets = [getattr(panel.widget.ui, f"{name}{_SECTIONS}") for name in sections]
    for widget in (each._qobject for each in [*widgets, *([last] if last is not None else [])]):
        corner = widget.mapTo(host, QtCore.QPoint(0, 0))
        boxes.append((corner.y(), corner.y() + widget.height()))
    top, bottom = min(box[0] for box in boxes), max(box[1] for box in boxes)
    image = Image.open(path).convert("RGB")
    image = image.crop((_SIDE, max(2 * top - _EDGE, 0), image.width - _SIDE, min(2 * bottom + _EDGE, image.height)))
    image.quantize(_COLOURS).save(path, optimize=True)


def views_sheet(reference: Any, pixels: int = _VIEW_PIXELS) -> Any:
    """Axial, sagittal and coronal slices where the views are now, and the surfaces, as a PIL image; views square."""
    from XTLLib.scene.offscreen_views import VIEWS, SliceView, SurfaceView

    session = _session()
    views = [_fitted(SliceView(session, name), pixels) for name in VIEWS]
    surfaces = SurfaceView(session)
    surfaces.show_around(reference)
    return _sheet([*views, surfaces], columns=2, pixels=pixels)


def channels_sheet(channels: Sequence[Any], pixels: int = _VIEW_PIXELS, columns: int = 3) -> Any:
    """The axial slice where the views are now, once for each of three channels, enlarged, as a PIL image."""
    import slicer
    from XTLLib.scene.offscreen_views import VIEWS, SliceView

    session, views = _session(), []
    for name, channel in zip(VIEWS, channels):
        view = SliceView(session, name)
        slicer.mrmlScene.GetNodeByID(f"vtkMRMLSliceCompositeNode{name}").SetBackgroundVolumeID(channel.GetID())
        centre = view.node.GetSliceToRAS().MultiplyPoint((0.0, 0.0, 0.0, 1.0))[:3]
        view.node.SetOrientation("Axial")
        view.node.RotateToVolumePlane(channels[0])
        view.picture(pixels, pixels)  # makes its size known
        view.zoom(_ZOOM)
        if views:
            view.node.SetFieldOfView(*views[0].node.GetFieldOfView())
        view.node.JumpSliceByCentering(*centre)
        views.append(view)
    return _sheet(views, columns, pixels)


def _session() -> Any:
    import slicer
    from XTLLib.scene.session import Session

    return Session(slicer.mrmlScene, slicer.app.applicationLogic())


def _fitted(view: Any, pixels: int) -> Any:
    """The view with the whole image in it, in the slice where it was."""
    offset = view.node.GetSliceOffset()
    view.picture(pixels, pixels)
    view.move_to(offset)
    return view


def _sheet(views: Sequence[Any], columns: int, pixels: int) -> Any:
    from PIL import Image

    step = pixels + _GAP
    sheet = Image.new("RGB", (columns * step - _GAP, -(-len(views) // columns) * step - _GAP), (60, 60, 60))
    for number, view in enumerate(views):
        picture = Image.open(io.BytesIO(view.picture(pixels, pixels)))
        sheet.paste(picture, ((number % columns) * step, (number // columns) * step))
        view.close()
    return sheet


def _keep_sheet(sheet: Any, path: Path) -> None:
    sheet.save(path, quality=_QUALITY, optimize=True)
