"""The states that ``look.py`` takes pictures of: a function for each of its topics walks from one to the next."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import host.boot as boot
import slicer
from lent_worker import wait
from panel_looks import unfold

_LONG = "MR FLAIR 3D sagittal 1 mm isotropic, motion corrected, series 12"


@contextmanager
def _opened(name: str, clear: bool = True) -> Iterator[boot.Panel]:
    if clear:
        slicer.mrmlScene.Clear()
    panel = boot.open_panel(name)
    try:
        yield panel
    finally:
        panel.close()
        slicer.mrmlScene.Clear()


def transfer(album: Any, folder: Path) -> None:
    """XTL Transfer: from an empty panel to a trained chain."""
    from XTLLib.scene.self_test import write_small_chain

    folder = folder / "data of the hospital"
    folder.mkdir()
    chain, wrong = write_small_chain(folder), folder / "wrong.yaml"
    wrong.write_text("name: wrong\nbackbon: resnet18\nstages: []\n")
    with _opened("XTLTransfer") as panel:
        ui, own = panel.widget.ui, panel.widget._panel

        def look(state: str) -> None:
            wait(lambda: not own.is_waiting)
            album.keep_panel(panel, state)

        look("01-fresh")
        unfold(panel)
        look("02-fresh-unfolded")
        for section in ("study", "library"):
            getattr(ui, f"{section}CollapsibleButton").collapsed = True
        ui.chainPathLineEdit.currentPath = str(wrong)
        look("03-wrong-chain")
        for index in (1, 2):
            ui.chainPresetComboBox.currentIndex = index
            look(f"04-preset-{index}")
        ui.chainPresetComboBox.currentIndex = 0
        ui.chainPathLineEdit.currentPath = str(chain)
        look("05-no-output")
        ui.outputPathLineEdit.currentPath = str(folder)
        look("06-output-not-empty")
        ui.outputPathLineEdit.currentPath = str(folder / "run")
        look("07-ready")
        ui.planButton.click()
        album.keep_panel(panel, "08-planning")
        wait(lambda: not own._plan.is_running)
        look("09-planned")
        ui.applyButton.click()
        album.keep_panel(panel, "10-starting")
        wait(lambda: ui.progressBar.value > 0)
        album.keep_panel(panel, "11-running")
        ui.applyButton.click()
        album.keep_panel(panel, "12-cancelling")
        wait(lambda: not own.is_running)
        look("13-cancelled")
        if ui.applyButton.enabled:
            ui.applyButton.click()
            wait(lambda: not own.is_running)
        look("14-trained")


def study(album: Any, folder: Path) -> None:
    """The section Study: two arms on four phantoms."""
    from XTLLib.data.phantoms.write import Parts, write_brains
    from XTLLib.scene.self_test import write_small_chain

    write_small_chain(folder)
    write_brains(folder / "more", Parts(training=4), seed=2)
    file = folder / "study.yaml"
    arms = "  - {name: few, chain: chain.yaml}\n  - {name: other, chain: chain.yaml, conversion: centre-slice}\n"
    file.write_text(f"name: small\ndatalist: more/datalist.json\nfolds: 2\narms:\n{arms}comparisons: [[other, few]]\n")
    with _opened("XTLTransfer") as panel:
        ui, own = panel.widget.ui, panel.widget._panel.study
        ui.studyCollapsibleButton.collapsed = False

        def look(state: str) -> None:
            album.keep_panel(panel, state)
            album.note(state, ui.studyLabel.text)

        ui.studyPathLineEdit.currentPath = str(folder / "none.yaml")
        look("21-no-study-file")
        ui.studyPathLineEdit.currentPath = str(file)
        look("22-no-study-folder")
        ui.studyFolderLineEdit.currentPath = str(folder / "out")
        ui.studyPlanButton.click()
        look("23-study-planning")
        wait(lambda: not own.is_running)
        look("24-study-planned")
        ui.runStudyButton.click()
        wait(lambda: panel.widget.logic.getParameterNode().studyTable is not None)
        look("25-study-running")
        ui.runStudyButton.click()
        wait(lambda: not own.is_running)
        look("26-study-cancelled")
        ui.runStudyButton.click()
        wait(lambda: not own.is_running)
        look("27-study-results")


def library(album: Any, folder: Path) -> None:
    """The section Model library: empty, filled, verified, damaged."""
    from look_messages import keep_import_questions
    from toy_bundles import write_toy_bundle
    from XTLLib.bundle.library import models_folder

    with _opened("XTLTransfer") as panel:
        ui, own = panel.widget.ui, panel.widget._panel.library

        def look(state: str) -> None:
            wait(lambda: not own.is_running)
            album.keep_panel(panel, state)
            album.note(state, f"{ui.libraryDetailsLabel.text} | {ui.libraryLabel.text}")

        ui.libraryCollapsibleButton.collapsed = False
        album.keep_panel(panel, "31-library-reading")
        look("32-library-empty")
        for name in ("ms-lesions-of-the-first-scanner-2026", "other"):
            write_toy_bundle(models_folder() / name, name=name)
        ui.refreshLibraryButton.click()
        look("33-library")
        ui.verifyModelButton.click()
        album.keep_panel(panel, "34-library-verifying")
        look("35-library-verified")
        weights = next(models_folder().glob("ms-*/models/*"))
        weights.write_bytes(weights.read_bytes()[:-1] + b"?")
        ui.verifyModelButton.click()
        look("36-library-damaged")
        own._window._file_dialog = type("Files", (), {"getExistingDirectory": lambda *_: str(folder)})
        ui.importFolderButton.click()
        look("37-library-refused")
        keep_import_questions(album, panel, write_toy_bundle(folder / "from elsewhere", name="other"))


def segment(album: Any, folder: Path) -> None:
    """XTL Segment: from an empty panel to lesions."""
    from XTLLib.scene.inputs import add_case
    from XTLLib.scene.self_test import small_brain, write_classification_bundle, write_segmentation_bundle

    bundle, other = write_segmentation_bundle(folder / "ms"), write_classification_bundle(folder / "prostate")
    with _opened("XTLSegment") as panel:
        ui = panel.widget.ui
        album.keep_panel(panel, "01-fresh")
        unfold(panel)
        album.keep_panel(panel, "02-fresh-unfolded")
        ui.bundlePathLineEdit.currentPath = str(folder / "nothing")
        album.keep_panel(panel, "03-no-bundle")
        ui.bundlePathLineEdit.currentPath = str(other)
        album.keep_panel(panel, "04-other-bundle")
        ui.bundlePathLineEdit.currentPath = str(bundle)
        album.keep_panel(panel, "05-no-volumes")
    inputs = add_case(small_brain(), slicer.mrmlScene)
    inputs.channels["FLAIR"].SetName(_LONG)
    with _opened("XTLSegment", clear=False) as panel:
        ui, own = panel.widget.ui, panel.widget._panel
        ui.flairSelector.setCurrentNode(inputs.channels["FLAIR"])
        ui.bundlePathLineEdit.currentPath = str(bundle)
        album.keep_panel(panel, "06-ready")
        ui.t1Selector.setCurrentNode(inputs.channels["FLAIR"])
        album.keep_panel(panel, "07-one-volume-twice")
        ui.t1Selector.setCurrentNode(inputs.channels["T1"])
        for box in ("register", "mirror"):
            getattr(ui, f"{box}CheckBox").checked = True
        ui.brainMethodComboBox.currentIndex = 1
        ui.advancedCollapsibleButton.collapsed = False
        ui.applyButton.click()
        wait(lambda: ui.progressBar.value > 20)
        album.keep_panel(panel, "08-running")
        ui.applyButton.click()
        album.keep_panel(panel, "09-cancelling")
        wait(lambda: not own.run.is_running)
        album.keep_panel(panel, "10-cancelled")
        ui.applyButton.click()
        wait(lambda: not own.run.is_running)
        ui.outputsCollapsibleButton.collapsed = False
        ui.tableView._qobject.selectRow(0)
        album.keep_panel(panel, "11-lesions")


def corrections(album: Any, folder: Path) -> None:
    """XTL Segment: lesions clicked away, and the adaptation to them."""
    import numpy as np
    from XTLLib.scene.inputs import add_case
    from XTLLib.scene.self_test import small_brain, write_segmentation_bundle

    bundle, made = write_segmentation_bundle(folder / "ms"), []

    def make(*arguments: Any) -> _Adaptation:
        made.append(_Adaptation())
        return made[-1]

    slicer.mrmlScene.Clear()
    add_case(small_brain(), slicer.mrmlScene)
    with _opened("XTLSegment", clear=False) as panel:
        ui, own = panel.widget.ui, panel.widget._panel
        ui.bundlePathLineEdit.currentPath = str(bundle)
        ui.applyButton.click()
        wait(lambda: not own.run.is_running)
        ui.inputsCollapsibleButton.collapsed = ui.settingsCollapsibleButton.collapsed = True
        ui.addLesionButton.checked = True
        album.keep_panel(panel, "21-adding")
        ui.addLesionButton.checked = False
        lesions = own.section.lesions
        voxel = lesions._shown().of(lesions.lesions[0].identifier)[0]
        grid = lesions._finder().probability.grid
        lesions.remove_at(grid.index_to_ras(np.array(np.unravel_index(voxel, grid.shape))[::-1]))
        album.keep_panel(panel, "22-removed")
        own._adapt._make_process = make
        for state, refused in {"24-adapted": False, "25-no-better": True}.items():
            ui.adaptButton.click()
            wait(lambda: ui.adaptProgressBar.value == 40)
            album.keep_panel(panel, "23-adapting")
            made[-1].end(bundle, refused)
            wait(lambda: not own._adapt.is_running)
            album.keep_panel(panel, state)


class _Adaptation:
    """An adaptation that does nothing until it is told what came of it."""

    def __init__(self) -> None:
        self.is_running, self._outcome, self.latest = False, None, {}

    def start(self) -> None:
        self.is_running = True

    def poll(self) -> list:
        from XTLLib.progress import ProgressEvent

        return [ProgressEvent("Adapting", 0.4, 70.0, 105.0)]

    def cancel(self) -> None:
        self.is_running = False

    def end(self, bundle: Path, refused: bool) -> None:
        self._outcome, self.is_running = _Outcome(bundle, refused), False

    def result(self) -> Any:
        return self._outcome

    def close(self, patience_s: float = 0.0) -> None:
        """Nothing to close."""


class _Outcome:
    """What an adaptation came to; of the length that training.adapt.AdaptationOutcome has."""

    def __init__(self, bundle: Path, refused: bool) -> None:
        self.bundle, self.refused = bundle, refused

    def __str__(self) -> str:
        return "Dice 0.71 before and 0.78 after, on the part of the case that it did not see"


def over_time(album: Any, folder: Path) -> None:
    """XTL Segment: lesions of two time points compared."""
    import numpy as np
    from XTLLib.data.phantoms.brain import BrainPhantom
    from XTLLib.data.phantoms.fields import box_grid
    from XTLLib.data.volume import Volume
    from XTLLib.scene.nodes import label_to_node, volume_to_node

    grid = box_grid((0.0, 0.0, 0.0), (160.0, 190.0, 150.0), (4.0, 4.0, 4.0), "RAS")
    phantom = BrainPhantom(3)
    image = Volume(phantom.images(("FLAIR",), grid, np.random.default_rng(0))["FLAIR"], grid, "flair")
    truth = phantom.truth(grid).astype(np.uint8)
    later = truth.copy()
    later[5:7, 5:7, 5:7] = 1
    for name, mask in (("2024", truth), ("2025", later)):
        volume_to_node(image, f"MR FLAIR {name}", slicer.mrmlScene)
        label_to_node(Volume(mask, grid, "mask"), f"lesions {name}", slicer.mrmlScene)
    with _opened("XTLSegment", clear=False) as panel:
        ui, own = panel.widget.ui, panel.widget._panel.over_time
        ui.inputsCollapsibleButton.collapsed = ui.settingsCollapsibleButton.collapsed = True
        ui.overTimeCollapsibleButton.collapsed = False
        album.keep_panel(panel, "31-no-points")
        for name in ("2024", "2025"):
            ui.pointLesionsSelector.setCurrentNode(slicer.util.getNode(f"lesions {name}"))
            ui.pointImageSelector.setCurrentNode(slicer.util.getNode(f"MR FLAIR {name}"))
            ui.addPointButton.click()
        ui.timePointsList.currentRow = 1
        album.keep_panel(panel, "32-points")
        ui.compareButton.click()
        wait(lambda: ui.compareProgressBar.value > 0 or not own.is_running)
        album.keep_panel(panel, "33-comparing")
        wait(lambda: not own.is_running)
        album.keep_panel(panel, "34-compared")


def classify(album: Any, folder: Path) -> None:
    """XTL Classify: from an empty panel to rated findings."""
    from XTLLib.scene.findings import findings_to_node
    from XTLLib.scene.inputs import add_case
    from XTLLib.scene.self_test import small_prostate, write_classification_bundle

    bundle, case = write_classification_bundle(folder / "prostate"), small_prostate()
    with _opened("XTLClassify") as panel:
        album.keep_panel(panel, "01-fresh")
        unfold(panel)
        album.keep_panel(panel, "02-fresh-unfolded")
    add_case(case, slicer.mrmlScene)
    with _opened("XTLClassify", clear=False) as panel:
        ui, own = panel.widget.ui, panel.widget._panel
        ui.advancedCollapsibleButton.collapsed = False
        ui.bundlePathLineEdit.currentPath = str(bundle)
        album.keep_panel(panel, "03-no-findings")
        ui.placeButton.checked = True
        album.keep_panel(panel, "04-placing")
        ui.placeButton.checked = False
        ui.findingsSelector.setCurrentNode(findings_to_node(case.findings, "findings", slicer.mrmlScene))
        ui.evidenceComboBox.currentIndex = 2
        ui.viewsSpinBox.value = 8
        album.keep_panel(panel, "05-ready")
        ui.applyButton.click()
        wait(lambda: ui.progressBar.value > 5 or not own.run.is_running)
        album.keep_panel(panel, "06-running")
        wait(lambda: not own.run.is_running)
        ui.outputsCollapsibleButton.collapsed = False
        ui.tableView._qobject.selectRow(1)
        album.keep_panel(panel, "07-rated")
        point = panel.widget.logic.getParameterNode().findings
        point.SetNthControlPointPositionWorld(0, 3.0, 2.0, 1.0)
        wait(lambda: not panel.widget._movedTimer.active and own._due is None)
        album.keep_panel(panel, "08-rated-again")
        ui.advancedCollapsibleButton.collapsed = False
        ui.bundlePathLineEdit.currentPath = str(_calibrated(bundle, folder / "calibrated"))
        ui.operatingPointComboBox.currentIndex = 1
        album.keep_panel(panel, "11-calibrated")
        ui.applyButton.click()
        wait(lambda: not own.run.is_running)
        album.keep_panel(panel, "12-rated-with-classes")
        album.note("12-rated-with-classes", ui.operatingPointLabel.text)
        table = folder / "truth.csv"
        table.write_text("finding,r,a,s,significant\n1,3,2,1,TRUE\n2,-7,9,-4,FALSE\n")
        ui.truthPathLineEdit.currentPath = str(table)
        album.keep_panel(panel, "13-truth")
        ui.truthButton.click()
        album.keep_panel(panel, "14-truth-shown")
        about = panel.widget._about
        about.ui.aboutCollapsibleButton.collapsed = False
        about.ui.selfCheckButton.click()
        album.keep_panel(panel, "09-checking")
        wait(lambda: about.ui.selfCheckText.visible)
        album.keep_panel(panel, "10-self-check")


def _calibrated(bundle: Path, path: Path) -> Path:
    """A copy of a bundle with a calibration and its operating points, on made up scores."""
    import numpy as np
    from XTLLib.bundle.calibration import fit_calibration

    shutil.copytree(bundle, path)
    truth = np.arange(60) % 2
    scores = np.clip(np.random.default_rng(2).normal(0.45 + 0.1 * truth, 0.1), 0.01, 0.99)
    calibration = fit_calibration("none", scores, truth, list(range(60)), "sixty made up scores")
    config = path / "configs" / "xtl.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "calibration": calibration.to_dict()}))
    return path


def messages(album: Any, folder: Path) -> None:
    """Every kind of message box, and the window that shows an installation."""
    from look_messages import keep_messages

    keep_messages(album, folder)
