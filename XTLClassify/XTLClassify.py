"""XTLClassify: how likely each prostate finding in multi-parametric MR is to be clinically significant cancer."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Union

import qt
import slicer
from slicer import (
    vtkMRMLLabelMapVolumeNode,
    vtkMRMLMarkupsFiducialNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLTableNode,
)
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

# XTLLib is imported inside functions: Slicer starts no slower, and when the modules run from source the
# library's folder is found only after all of them are loaded.

CHANNELS = {"T2W": "t2w", "ADC": "adc", "HBV": "hbv", "KTRANS": "ktrans"}
"""Channel -> the parameter that holds its volume."""
MOST_VIEWS = 8
POLL_MS = 30
MOVED_MS = 250  # of quiet after a point was moved, before it is rated again


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
            "cancer, with a bundle: a model that XTL Transfer trained. XTL comes without one. "
            "Research software, not a medical device."
        )
        self.parent.acknowledgementText = _("The method follows Lee and Nishikawa, IEEE Access 8:210194 (2020).")
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData() -> None:
    """Offer the images for all three modules, which come together, in the Sample Data module."""
    from XTLLib.scene.sample_data import register_sample_data

    register_sample_data()


@parameterNodeWrapper
class XTLClassifyParameterNode:
    """Everything the user chose; saved with the scene.

    bundle - folder of the trained model.
    t2w, adc, hbv, ktrans - the case's channels; those that the bundle does not use are left alone.
    findings - one point at each suspected lesion.
    lesions - segmentation or label map whose lesions become findings. zones - of the prostate, to guess zones from.
    views - turned and shifted views of each finding. evidence - the maps that are made, and device - where to
        compute: values of XTLLib.scene.classify_options.
    operatingPoint - name of the rule that says which findings are significant; "" is the bundle's own.
    table, labelMap - outputs; None makes new nodes. The table holds the ratings themselves, and refers to the evidence.
    finding - ID of the control point that was chosen in the table. truth - table of findings with a known outcome.
    """

    bundle: Path
    t2w: vtkMRMLScalarVolumeNode
    adc: vtkMRMLScalarVolumeNode
    hbv: vtkMRMLScalarVolumeNode
    ktrans: vtkMRMLScalarVolumeNode
    findings: vtkMRMLMarkupsFiducialNode
    lesions: Union[vtkMRMLSegmentationNode, vtkMRMLLabelMapVolumeNode, None]  # noqa: UP007 - Slicer knows no A | B
    zones: Union[vtkMRMLSegmentationNode, vtkMRMLScalarVolumeNode, None]  # noqa: UP007
    views: Annotated[int, WithinRange(1, MOST_VIEWS)] = 1
    evidence: str = "none"
    operatingPoint: str = ""
    device: str = "auto"
    table: vtkMRMLTableNode
    labelMap: vtkMRMLLabelMapVolumeNode
    finding: str = ""
    truth: Path


class XTLClassifyWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: wires the .ui file to the parameter node and to XTLLib.scene.classify_panel."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        from XTLLib.scene.about_section import AboutSection
        from XTLLib.scene.classify_panel import ClassifyPanel
        from XTLLib.scene.error_display import show_failure, shown
        from XTLLib.scene.panel import ParameterLink

        uiWidget = slicer.util.loadUI(self.resourcePath("UI/XTLClassify.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self._about = AboutSection(self.layout, qt.QTimer())
        self.logic = XTLClassifyLogic()
        self._runTimer, self._movedTimer = qt.QTimer(), qt.QTimer()
        self._runTimer.setInterval(POLL_MS)
        self._movedTimer.setInterval(MOVED_MS)
        self._movedTimer.setSingleShot(True)
        scene, timers = slicer.mrmlScene, (self._runTimer, self._movedTimer)
        self._panel = ClassifyPanel(self.ui, scene, CHANNELS, *timers, show_failure)
        self._link = ParameterLink(self, self.updateGui)
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndImport)
        self._runTimer.connect("timeout()", self._panel.tick)
        self._movedTimer.connect("timeout()", self._panel.take_in)
        panel, section, ui = self._panel, self._panel.section, self.ui
        clicks = {"apply": panel.apply, "fromLesions": section.take_lesions, "guessZones": panel.guess_zones}
        clicks |= {"remove": section.remove_chosen, "truth": section.show_truth}
        for name, action in clicks.items():
            getattr(ui, f"{name}Button").connect("clicked(bool)", shown(action))
        ui.placeButton.connect("toggled(bool)", section.wait_for_clicks)
        ui.zoneComboBox.connect("currentIndexChanged(int)", section.zone_chosen)
        for name in ("evidence", "operatingPoint", "device"):
            chosen = lambda index, name=name: panel.options.chosen(name, index)  # noqa: E731
            getattr(ui, f"{name}ComboBox").connect("currentIndexChanged(int)", chosen)
        ui.tableView.selectionModel().connect("currentRowChanged(QModelIndex,QModelIndex)", section.row_chosen)
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
        self._link.close()

    def onSceneStartClose(self, caller, event) -> None:
        self._panel.release()
        self._link.close()

    def onSceneEndClose(self, caller, event) -> None:
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onSceneEndImport(self, caller, event) -> None:
        if self.parent.isEntered:  # the saved choices refer to nodes that came after them
            self.initializeParameterNode()

    def initializeParameterNode(self) -> None:
        from XTLLib.scene.choices import guess_volumes

        self._panel.attach(self.logic.getParameterNode())
        self._link.open()
        guess_volumes(self._link.node, CHANNELS, slicer.mrmlScene)

    def updateGui(self, caller=None, event=None) -> None:
        if self._link.node:
            self._panel.update(by_user=caller is not None)


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
        views: int = 1,
        evidence: tuple[str, ...] = (),
        operatingPoint: str | None = None,
        device: str = "auto",
        progress=None,
    ):
        """Rate the findings of one case and put the results into the scene; needs no panel.

        It computes here and now, and gives what Apply and ``xtl classify`` give::

            names = {"T2W": "t2w.nii.gz", "ADC": "adc.nii.gz", "HBV": "hbv.nii.gz"}
            volumes = {channel: slicer.util.loadVolume(f"/data/patient07/{file}") for channel, file in names.items()}
            findings = slicer.util.loadMarkups("/data/patient07/findings.mrk.json")
            nodes = slicer.util.getModuleLogic("XTLClassify").process(volumes, findings, "/models/prostate")
            print(slicer.util.arrayFromTableColumn(nodes.table, "probability"))

        :param channels: channel name -> volume node; channels that the bundle does not use are left alone.
        :param findings: one placed point at each finding, named by its label, with its zone in its description; the
            labels are given the probabilities.
        :param bundle: folder of the trained model.
        :param table, labelMap: output nodes; None makes new ones.
        :param views: turned and shifted views of each finding whose mean is taken.
        :param evidence: "grad-cam", "occlusion" or both: volumes over the T2W, XTLLib.scene.evidence.evidence_of.
        :param operatingPoint: rule that says which findings are significant; None takes the usual one.
        :param device: "auto", "cpu", "cuda" or "cuda:N".
        :param progress: XTLLib.progress.Progress, told how far the work is.
        :return: XTLLib.scene.classification.ClassificationNodes
        :raises XTLLib.errors.InputError: names the node or file that is wrong; the scene is as it was.
        """
        from XTLLib.scene.classify_options import asked_for
        from XTLLib.scene.classify_run import classify_now

        options = asked_for(views, evidence, operatingPoint, device)
        outputs = {"table": table, "labelMap": labelMap}
        return classify_now(channels, findings, bundle, slicer.mrmlScene, outputs, progress, **options)

    def showTruth(self, table: vtkMRMLTableNode, truth):
        """Compare a lesion table with the truth: ROC and reliability curve, as tables and plots of the scene.

        :param table: of process(). truth: finding -> significant or not; or a table of findings (CSV) that says so.
        :return: XTLLib.scene.roc_plots.TruthNodes
        :raises XTLLib.errors.InputError: no finding with a known truth, or all of one class; the scene is as it was.
        """
        from XTLLib.scene.roc_plots import truth_of_table

        return truth_of_table(table, truth)


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
