"""XTLTransfer: trains transfer chains, from natural images over mammograms to MRI."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated

import qt
import slicer
from slicer import vtkMRMLPlotChartNode, vtkMRMLTableNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

# XTLLib is imported inside functions: Slicer starts no slower.

LARGEST_BUDGET = 1000000  # epochs or steps
LARGEST_SEED = 999999
POLL_MS = 100
PATIENCE_S = 5.0


class XTLTransfer(ScriptedLoadableModule):
    """The module's description."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("XTL Transfer")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Machine Learning")]
        self.parent.dependencies = []
        self.parent.contributors = ["XTL contributors"]
        self.parent.helpText = _(
            "Trains a transfer chain: weights learned on natural images and mammograms are carried over to MRI. "
            "The trained model is a bundle for XTL Segment or XTL Classify. Research software, not a medical device."
        )
        self.parent.acknowledgementText = _("The method follows Lee and Nishikawa, IEEE Access 8:210194 (2020).")


@parameterNodeWrapper
class XTLTransferParameterNode:
    """Everything the user chose; saved with the scene.

    chainPreset - name of a chain that comes with XTL; "" takes the file chain.
    sourceData, targetData - datalists of the intermediate and of the target stage; empty as the chain has them.
    outputFolder - where checkpoints and the bundle are written; what was begun there is gone on with.
    weights - "imagenet" or "random"; "" begins as the chain does. device - "auto", "cpu" or "cuda".
    useChainSettings - the following show those of the chain: backbone, conversion, seed, sourceBudget and targetBudget
        (epochs or steps, as the stages count), learningRate (of the target; 0 for a range test).
    trainingLog, trainingCurve - outputs; None makes new nodes.
    study, studyFolder - study file and folder. studyTable, studyChart - state of its runs, then its results.
    """

    chainPreset: str = ""
    chain: Path
    sourceData: Path
    targetData: Path
    outputFolder: Path
    weights: str = ""
    device: str = "auto"
    useChainSettings: bool = True
    backbone: str = "mobilenet_v2"
    conversion: str = "inflate"
    sourceBudget: Annotated[int, WithinRange(0, LARGEST_BUDGET)] = 0
    targetBudget: Annotated[int, WithinRange(0, LARGEST_BUDGET)] = 0
    learningRate: Annotated[float, WithinRange(0.0, 1.0)] = 0.0
    seed: Annotated[int, WithinRange(0, LARGEST_SEED)] = 0
    trainingLog: vtkMRMLTableNode
    trainingCurve: vtkMRMLPlotChartNode
    study: Path
    studyFolder: Path
    studyTable: vtkMRMLTableNode
    studyChart: vtkMRMLPlotChartNode


class XTLTransferWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: wires the .ui file to the parameter node and to XTLLib.scene.transfer_panel."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        from XTLLib.scene.about_section import AboutSection
        from XTLLib.scene.error_display import shown
        from XTLLib.scene.panel import ParameterLink
        from XTLLib.scene.transfer_panel import TransferPanel
        from XTLLib.scene.window import SlicerWindow

        uiWidget = slicer.util.loadUI(self.resourcePath("UI/XTLTransfer.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self._about = AboutSection(self.layout, qt.QTimer())
        self.logic = XTLTransferLogic()
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MS)
        window = SlicerWindow(qt.QFileDialog, qt.QDesktopServices, qt.QUrl)
        self._panel = TransferPanel(self.ui, slicer.mrmlScene, self.logic, self._timer, window)
        self._link = ParameterLink(self, self.updateGui)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndImport)
        self._timer.connect("timeout()", self._panel.tick)
        panel, study, library, ui = self._panel, self._panel.study, self._panel.library, self.ui
        clicks = {"apply": panel.apply, "plan": panel.plan, "showCurve": panel.show_curve}
        clicks |= {"addToLibrary": panel.add_to_library, "studyPlan": study.plan, "runStudy": study.run}
        clicks |= {"showStudy": study.show_results, "showStudyChart": study.show_chart}
        clicks |= {"openReport": study.open_report, "importFile": library.import_file}
        clicks |= {"importFolder": library.import_folder, "exportModel": library.export}
        clicks |= {"verifyModel": library.verify, "removeModel": library.remove, "useModel": library.use}
        clicks |= {"libraryCancel": library.cancel, "refreshLibrary": library.refresh}
        for name, action in clicks.items():
            getattr(ui, f"{name}Button").connect("clicked(bool)", shown(action))
        for name, box in panel.boxes.items():
            getattr(ui, f"{name}ComboBox").connect("currentIndexChanged(int)", box.chosen)
        ui.modelsList.connect("currentRowChanged(int)", library.chosen)
        ui.studyCollapsibleButton.connect("contentsCollapsed(bool)", study.opened)
        ui.libraryCollapsibleButton.connect("contentsCollapsed(bool)", library.opened)
        self.initializeParameterNode()

    def cleanup(self) -> None:
        self._about.close()
        self._panel.close()
        self._link.close()
        self.removeObservers()

    def enter(self) -> None:
        self.initializeParameterNode()

    def exit(self) -> None:
        self._panel.leave()
        if not self._panel.is_running:
            self._link.close()

    def onSceneStartClose(self, caller, event) -> None:
        self._panel.release()  # a training goes on: it does not live in the scene
        self._link.close()

    def onSceneEndClose(self, caller, event) -> None:
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onSceneEndImport(self, caller, event) -> None:
        if self.parent.isEntered:  # the saved choices refer to nodes that came after them
            self.initializeParameterNode()

    def initializeParameterNode(self) -> None:
        self._panel.attach(self.logic.getParameterNode())
        self._link.open()

    def updateGui(self, caller=None, event=None) -> None:
        if self._link.node:
            self._panel.update(by_user=caller is not None)


class XTLTransferLogic(ScriptedLoadableModuleLogic):
    """The module without its panel."""

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        self._process = None
        self._shown = 0

    def getParameterNode(self) -> XTLTransferParameterNode:
        return XTLTransferParameterNode(super().getParameterNode())

    def start(
        self, chain: str | Path, outputFolder: str | Path, resume: bool = False, changes=(), device: str = "auto"
    ) -> None:
        """Start ``xtl train`` in a process of its own; call ``poll`` until ``isRunning`` is False, then ``result``.

        :param changes: words KEY=VALUE that take the place of what the chain file says, for example "seed=3" or
            "stages.target.datalist=/data/ms.json".
        """
        from XTLLib.training.process import ChainProcess

        self.close()
        self._shown = 0
        self._process = ChainProcess(chain, outputFolder, resume=resume, changes=changes, device=device)
        self._process.start()

    @property
    def outputFolder(self) -> Path | None:
        """Of the training that was started last, while it is not closed."""
        return self._process.out if self._process else None

    @property
    def isRunning(self) -> bool:
        return self._process is not None and self._process.is_running

    def poll(self) -> list:
        """XTLLib.progress.ProgressEvent for each report since the last call."""
        return self._process.poll() if self._process else []

    def cancel(self) -> None:
        """Stop at the next step; a checkpoint is kept."""
        if self._process:
            self._process.cancel()

    def result(self) -> Path:
        """The bundle. Raises XTLLib.errors.Cancelled, or XTLError with what the training said."""
        return self._process.result()

    def close(self) -> None:
        """End a training that runs; it has some seconds to leave a checkpoint."""
        if self._process:
            self._process.close(PATIENCE_S)
            self._process = None

    def showTraining(self, parameters: XTLTransferParameterNode) -> None:
        """Bring the log of the run into the scene as a table and a chart, where it has grown."""
        from XTLLib.scene.training import show_logs

        table, chart = parameters.trainingLog, parameters.trainingCurve
        shown = 0 if table is None or chart is None else self._shown  # one that was deleted is made anew
        nodes, self._shown = show_logs(self.outputFolder, slicer.mrmlScene, table, chart, shown)
        if nodes is not None:
            parameters.trainingLog, parameters.trainingCurve = nodes.table, nodes.chart


class XTLTransferTest(ScriptedLoadableModuleTest):
    """Trains a small chain on generated brains in a child process and checks what it leaves."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def test_a_chain_leaves_a_bundle_and_a_curve(self) -> None:
        from XTLLib.scene.self_test import write_small_chain

        with tempfile.TemporaryDirectory() as folder:
            self.train(write_small_chain(Path(folder)), Path(folder) / "run")

    def train(self, chain: Path, out: Path) -> None:
        from XTLLib.bundle.load import load_bundle

        logic = XTLTransferLogic()
        parameters = logic.getParameterNode()
        parameters.chain, parameters.outputFolder = chain, out
        logic.start(chain, out)
        fractions = []
        while logic.isRunning:
            fractions += [event.fraction for event in logic.poll()]
            time.sleep(0.1)
        logic.showTraining(parameters)

        self.assertEqual(load_bundle(logic.result()).channels, ("FLAIR",))
        self.assertEqual(fractions, sorted(fractions))
        self.assertEqual(fractions[-1], 1.0)
        steps = slicer.util.arrayFromTableColumn(parameters.trainingLog, "step")
        self.assertEqual(steps[-1], 4)
        self.assertGreater(parameters.trainingCurve.GetNumberOfPlotSeriesNodes(), 0)
