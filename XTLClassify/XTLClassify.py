"""XTLClassify: how likely each prostate finding in multi-parametric MR is to be clinically significant cancer."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import slicer
from slicer import (
    vtkMRMLLabelMapVolumeNode,
    vtkMRMLMarkupsFiducialNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLTableNode,
)
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

# XTLLib is imported inside functions: Slicer starts no slower, and when the modules run from source the
# library's folder is found only after all of them are loaded.

CHANNELS = {"T2W": "t2w", "ADC": "adc", "HBV": "hbv", "KTRANS": "ktrans"}
"""Channel -> the parameter that holds its volume."""


class XTLClassify(ScriptedLoadableModule):
    """The module's description."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("XTL Classify")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Quantification")]
        self.parent.dependencies = ["XTLTransfer"]  # whose folder holds XTLLib
        self.parent.contributors = ["XTL contributors"]
        self.parent.helpText = _(
            "Rates how likely each marked prostate finding in multi-parametric MR is to be clinically significant "
            "cancer, with a bundle that was trained by a transfer chain. Research software, not a medical device."
        )
        self.parent.acknowledgementText = _("The method follows Lee and Nishikawa, IEEE Access 8:210194 (2020).")


@parameterNodeWrapper
class XTLClassifyParameterNode:
    """Everything the user chose; saved with the scene.

    bundle - folder of the trained model.
    t2w, adc, hbv, ktrans - the case's channels; those that the bundle does not use are left alone.
    findings - one point at each suspected lesion.
    table, labelMap - outputs; None makes new nodes.
    """

    bundle: Path
    t2w: vtkMRMLScalarVolumeNode
    adc: vtkMRMLScalarVolumeNode
    hbv: vtkMRMLScalarVolumeNode
    ktrans: vtkMRMLScalarVolumeNode
    findings: vtkMRMLMarkupsFiducialNode
    table: vtkMRMLTableNode
    labelMap: vtkMRMLLabelMapVolumeNode


class XTLClassifyWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: wires the .ui file to the parameter node and Apply to the logic."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._findings = None
        self._message = ""

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        from XTLLib.scene.choices import BundleReader
        from XTLLib.scene.panel import PanelRun, ParameterLink

        uiWidget = slicer.util.loadUI(self.resourcePath("UI/XTLClassify.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = XTLClassifyLogic()
        self._bundles = BundleReader("classification")
        sections = ("inputsCollapsibleButton", "outputsCollapsibleButton")
        self._run = PanelRun(self.ui, sections, slicer.app.processEvents, self.updateGui)
        self._link = ParameterLink(self, self.updateGui)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndImport)
        self.ui.applyButton.connect("clicked(bool)", self.onApplyButton)
        self.initializeParameterNode()

    def cleanup(self) -> None:
        self._run.cancel()
        self._link.close()
        self.removeObservers()

    def enter(self) -> None:
        self._bundles.forget()  # the folder may have changed while another module was shown
        self.initializeParameterNode()

    def exit(self) -> None:
        if not self._run.is_running:
            self._link.close()

    def onSceneStartClose(self, caller, event) -> None:
        self._run.cancel()
        self._message = ""
        self._link.close()

    def onSceneEndClose(self, caller, event) -> None:
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onSceneEndImport(self, caller, event) -> None:
        if self.parent.isEntered:  # the saved choices refer to nodes that came after them
            self.initializeParameterNode()

    def initializeParameterNode(self) -> None:
        from XTLLib.scene.choices import guess_volumes

        self._link.open()
        guess_volumes(self._link.node, CHANNELS, slicer.mrmlScene)

    def observeFindings(self, findings: vtkMRMLMarkupsFiducialNode | None) -> None:
        """Notice points that are placed or removed in the chosen list."""
        if findings is self._findings:
            return
        for node, change in ((self._findings, self.removeObserver), (findings, self.addObserver)):
            if node is not None:
                change(node, node.PointPositionDefinedEvent, self.updateGui)
                change(node, node.PointRemovedEvent, self.updateGui)
        self._findings = findings

    def updateGui(self, caller=None, event=None) -> None:
        """What the parameters mean for the panel: what can be chosen, and whether Apply can run."""
        from XTLLib.scene.choices import describe_bundle, missing_choice

        parameters = self._link.node
        self.observeFindings(parameters.findings if parameters else None)
        if self._run.is_running or not parameters:
            return
        if caller is not None:  # the user chose something: what was said of the last run is out of date
            self._message = ""
        bundle, problem = self._bundles.read(parameters.bundle)
        volumes = {channel: getattr(parameters, name) for channel, name in CHANNELS.items()}
        missing = problem or missing_choice(bundle, volumes) or self.missingFindings(parameters.findings)
        self.ui.bundleLabel.text = describe_bundle(bundle)
        self.ui.bundleLabel.visible = bundle is not None
        for channel, name in CHANNELS.items():
            getattr(self.ui, f"{name}Selector").enabled = bundle is None or channel in bundle.channels
        self.ui.tableView.setMRMLTableNode(parameters.table)
        self.ui.tableView.resizeColumnsToContents()
        self.ui.resultsCollapsibleButton.visible = parameters.table is not None
        self.ui.applyButton.enabled = not missing
        self.ui.applyButton.toolTip = missing or _("Rate the findings")
        self.ui.statusLabel.text = self._message or missing

    def missingFindings(self, findings: vtkMRMLMarkupsFiducialNode | None) -> str:
        if findings is None:
            return _("Choose the point list of the findings, or make a new one.")
        if findings.GetNumberOfDefinedControlPoints() == 0:
            return _("Place a point at each finding in {name}.").format(name=findings.GetName())
        return ""

    def onApplyButton(self) -> None:
        """Run; while it runs, cancel."""
        if self._run.is_running:
            self._run.cancel()
            return
        self._message = _("Nothing was rated; the scene is as it was.")
        with slicer.util.tryWithErrorDisplay(_("The findings were not rated.")), self._run as progress:
            self._message = self.apply(self._link.node, progress)

    def apply(self, parameters: XTLClassifyParameterNode, progress) -> str:
        """Rate the chosen findings and return a sentence about the result."""
        from XTLLib.scene.packages import ensure_packages

        ensure_packages("XTL Classify")
        began = time.monotonic()
        nodes = self.logic.process(
            {channel: getattr(parameters, name) for channel, name in CHANNELS.items()},
            parameters.findings,
            parameters.bundle,
            table=parameters.table,
            labelMap=parameters.labelMap,
            progress=progress,
        )
        parameters.table, parameters.labelMap = nodes.table, nodes.label
        self.ui.bundlePathLineEdit.addCurrentPathToHistory()
        probabilities = slicer.util.arrayFromTableColumn(nodes.table, "probability")
        return _("{count} findings rated, highest probability {highest:.2f}, in {seconds:.1f} s.").format(
            count=len(probabilities), highest=probabilities.max(), seconds=time.monotonic() - began
        )


class XTLClassifyLogic(ScriptedLoadableModuleLogic):
    """The module without its panel."""

    def getParameterNode(self) -> XTLClassifyParameterNode:
        return XTLClassifyParameterNode(super().getParameterNode())

    def process(
        self,
        channels: dict[str, vtkMRMLScalarVolumeNode],
        findings: vtkMRMLMarkupsFiducialNode,
        bundle: str | Path,
        table: vtkMRMLTableNode | None = None,
        labelMap: vtkMRMLLabelMapVolumeNode | None = None,
        progress=None,
    ):
        """Rate the findings of one case and put the results into the scene; needs no panel.

        :param channels: channel name -> volume node; channels that the bundle does not use are left alone.
        :param findings: one placed point at each finding; its points are labelled with the probabilities.
        :param bundle: folder of the trained model.
        :param table, labelMap: output nodes; None makes new ones.
        :param progress: XTLLib.progress.Progress, told how far the work is.
        :return: XTLLib.scene.classification.ClassificationNodes
        :raises XTLLib.errors.InputError: names the node or file that is wrong; the scene is as it was.
        """
        from XTLLib.inference.classify import classify_case
        from XTLLib.progress import Progress
        from XTLLib.scene.choices import bundle_for
        from XTLLib.scene.classification import add_classification
        from XTLLib.scene.nodes import case_from_nodes

        progress = progress or Progress()
        model = bundle_for("classification", bundle)
        used = {name: channels.get(name) for name in model.channels}
        case = case_from_nodes(used, model.reference, findings_node=findings)
        # The seam for a background worker: from here to ``result`` nothing touches the scene.
        result = classify_case(case, model, progress=progress.part(0.0, 0.95))
        progress.report(_("Adding the results to the scene"), 0.95)
        return add_classification(result, slicer.mrmlScene, used[model.reference], findings, labelMap, table)


class XTLClassifyTest(ScriptedLoadableModuleTest):
    """Rates the findings of a small case with an untrained bundle and checks what lands in the scene."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def test_ratings_land_in_the_scene(self) -> None:
        from XTLLib.bundle.load import load_bundle
        from XTLLib.inference.classify import classify_case
        from XTLLib.scene.findings import findings_to_node
        from XTLLib.scene.inputs import add_case
        from XTLLib.scene.self_test import small_prostate, write_classification_bundle

        case = small_prostate()
        findings = findings_to_node(case.findings, "findings", slicer.mrmlScene)
        with tempfile.TemporaryDirectory() as folder:
            bundle = write_classification_bundle(Path(folder) / "bundle")
            nodes = XTLClassifyLogic().process(add_case(case, slicer.mrmlScene).channels, findings, bundle)
            expected = [rated.probability for rated in classify_case(case, load_bundle(bundle)).findings]

        shown = slicer.util.arrayFromTableColumn(nodes.table, "probability")
        self.assertEqual(len(shown), len(case.findings))
        self.assertNotAlmostEqual(shown[0], shown[1], places=6)
        for one, other in zip(shown, expected):
            self.assertAlmostEqual(one, other, places=5)
        for row, finding in enumerate(case.findings, start=1):
            ijk = [round(index) for index in case.grid.ras_to_index(finding.position_ras)]
            self.assertEqual(nodes.label.GetImageData().GetScalarComponentAsDouble(*ijk, 0), row)
