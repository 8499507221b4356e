"""XTLTransfer: trains transfer chains, from natural images over mammograms to MRI."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import qt
import slicer
from slicer import vtkMRMLPlotChartNode, vtkMRMLTableNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

# XTLLib is imported inside functions: Slicer starts no slower.

POLL_MS = 200
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

    chain - chain file. outputFolder - where checkpoints and the bundle are written.
    resume - continue an earlier run in that folder.
    trainingLog, trainingCurve - outputs; None makes new nodes.
    """

    chain: Path
    outputFolder: Path
    resume: bool = False
    trainingLog: vtkMRMLTableNode
    trainingCurve: vtkMRMLPlotChartNode


class XTLTransferWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: wires the .ui file to the parameter node and Apply to the logic."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._message = ""

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        from XTLLib.scene.panel import PanelRun, ParameterLink

        uiWidget = slicer.util.loadUI(self.resourcePath("UI/XTLTransfer.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = XTLTransferLogic()
        sections = ("inputsCollapsibleButton", "outputsCollapsibleButton")
        self._run = PanelRun(self.ui, sections, slicer.app.processEvents, self.updateGui)
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MS)
        self._timer.connect("timeout()", self.onTimer)
        self._link = ParameterLink(self, self.updateGui)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndImport)
        self.ui.applyButton.connect("clicked(bool)", self.onApplyButton)
        self.ui.showCurveButton.connect("clicked(bool)", self.onShowCurveButton)
        self.initializeParameterNode()

    def cleanup(self) -> None:
        self._timer.stop()
        self.logic.close()
        self._link.close()
        self.removeObservers()

    def enter(self) -> None:
        self.initializeParameterNode()

    def exit(self) -> None:
        if not self._run.is_running:
            self._link.close()

    def onSceneStartClose(self, caller, event) -> None:
        self._link.close()  # a training goes on: it does not live in the scene

    def onSceneEndClose(self, caller, event) -> None:
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onSceneEndImport(self, caller, event) -> None:
        if self.parent.isEntered:  # the saved choices refer to nodes that came after them
            self.initializeParameterNode()

    def initializeParameterNode(self) -> None:
        self._link.open()

    def updateGui(self, caller=None, event=None) -> None:
        """What the parameters mean for the panel, and whether Apply can run."""
        parameters = self._link.node
        if self._run.is_running or not parameters:
            return
        if caller is not None:  # the user chose something: what was said of the last run is out of date
            self._message = ""
        description, missing = self.logic.check(parameters)
        self.ui.chainLabel.text = description
        self.ui.chainLabel.visible = bool(description)
        self.ui.showCurveButton.enabled = parameters.trainingCurve is not None
        self.ui.applyButton.enabled = not missing
        self.ui.applyButton.toolTip = missing or _("Train the chain")
        self.ui.statusLabel.text = self._message or missing

    def onApplyButton(self) -> None:
        """Start; while it runs, cancel."""
        from XTLLib.scene.packages import ensure_packages

        if self._run.is_running:
            self._run.cancel()
            self.logic.cancel()
            return
        parameters = self._link.node
        with slicer.util.tryWithErrorDisplay(_("The training was not started.")):
            ensure_packages("XTL Transfer", training=True)
            self.logic.start(parameters.chain, parameters.outputFolder, parameters.resume)
        for line in (self.ui.chainPathLineEdit, self.ui.outputPathLineEdit):
            line.addCurrentPathToHistory()
        self.ui.resultLineEdit.text = ""
        self._run.begin()
        self.ui.statusLabel.text = _("Starting ...")
        self._timer.start()

    def onTimer(self) -> None:
        """Take in what the training reported, and notice its end."""
        isRunning = self.logic.isRunning
        for event in self.logic.poll():
            self._run.show(event)
        if self._link.node:
            self.logic.showTraining(self._link.node)
        if not isRunning:
            self._timer.stop()
            self.finish()

    def finish(self) -> None:
        """Tell how the training ended."""
        from XTLLib.errors import Cancelled

        self._message = _("Not trained to the end. Tick Resume and press Apply to go on from there.")
        try:
            with slicer.util.tryWithErrorDisplay(_("The chain was not trained.")):
                try:
                    self.ui.resultLineEdit.text = str(self.logic.result())
                    self._message = _("Trained. The bundle is ready for XTL Segment or XTL Classify.")
                except Cancelled:
                    self._message = _("Cancelled. Tick Resume and press Apply to go on from there.")
        finally:
            self._run.end()
            self.logic.close()

    def onShowCurveButton(self) -> None:
        slicer.modules.plots.logic().ShowChartInLayout(self._link.node.trainingCurve)


class XTLTransferLogic(ScriptedLoadableModuleLogic):
    """The module without its panel."""

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        self._process = None
        self._shown = 0

    def getParameterNode(self) -> XTLTransferParameterNode:
        return XTLTransferParameterNode(super().getParameterNode())

    def check(self, parameters: XTLTransferParameterNode) -> tuple[str, str]:
        """A description of the chosen chain ("" for none), and what the user has to do before it can be trained."""
        from XTLLib.scene.choices import chosen_chain

        chain, problem = chosen_chain(parameters.chain)
        stages = [stage.kind for stage in chain.stages] if chain else []
        description = f"{chain.name}: {chain.backbone}, {' → '.join(stages)}" if chain else ""
        if parameters.chain == Path():
            return description, _("Choose a chain file.")
        out = parameters.outputFolder
        if problem or out == Path():
            return description, problem or _("Choose an output folder.")
        if not parameters.resume and out.is_dir() and any(out.iterdir()):
            return description, _("The output folder is not empty: choose another, or tick Resume.")
        return description, ""

    def start(self, chain: str | Path, outputFolder: str | Path, resume: bool = False) -> None:
        """Start ``xtl train`` in a process of its own; call ``poll`` until ``isRunning`` is False, then ``result``."""
        from XTLLib.training.process import ChainProcess

        self.close()
        self._shown = 0
        self._process = ChainProcess(chain, outputFolder, resume=resume)
        self._process.start()

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
        from XTLLib.scene.training import training_table
        from XTLLib.training.logs import logs_changed_ns, read_logs

        changed = logs_changed_ns(parameters.outputFolder)
        rows = read_logs(parameters.outputFolder) if changed != self._shown else []
        self._shown = changed
        if not rows:
            return
        curves = {name for row in rows for name in row} - {"step", "stage", "learning_rate"}
        nodes = training_table(
            rows,
            slicer.mrmlScene,
            x="step",
            curves=sorted(curves),
            table_node=parameters.trainingLog,
            chart_node=parameters.trainingCurve,
        )
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
