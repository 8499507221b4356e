"""XTLSegment: multiple-sclerosis lesions in brain MR, segmented with a bundle."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated

import slicer
from slicer import (
    vtkMRMLLabelMapVolumeNode,
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

CHANNELS = {"FLAIR": "flair", "T1": "t1", "T2": "t2", "PD": "pd"}
"""Channel -> the parameter that holds its volume."""
LOWEST_THRESHOLD = 0.01
LARGEST_MINIMUM = 1000.0  # mm3


class XTLSegment(ScriptedLoadableModule):
    """The module's description."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("XTL Segment")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = ["XTLTransfer"]  # whose folder holds XTLLib
        self.parent.contributors = ["XTL contributors"]
        self.parent.helpText = _(
            "Segments multiple-sclerosis lesions in brain MR with a bundle that was trained by a transfer chain. "
            "Research software, not a medical device."
        )
        self.parent.acknowledgementText = _("The method follows Lee and Nishikawa, IEEE Access 8:210194 (2020).")
        slicer.app.connect("startupCompleted()", loadTerminology)


def loadTerminology() -> None:
    """Make the terms of the lesion segments known to Slicer's terminology selector."""
    for folder in Path(__file__).resolve().parents[:2]:  # installed beside this file, or run from source
        for path in (folder / "Resources" / "Terminologies").glob("XTL-*.term.json"):
            slicer.modules.terminologies.logic().LoadTerminologyFromFile(str(path))


@parameterNodeWrapper
class XTLSegmentParameterNode:
    """Everything the user chose; saved with the scene.

    bundle - folder of the trained model.
    flair, t1, t2, pd - the case's channels; those that the bundle does not use are left alone.
    useBundleSettings - threshold and minimumVolume show those of the bundle.
    threshold - probability from which a voxel counts as lesion.
    minimumVolume - smallest lesion kept, mm3.
    segmentation, labelMap, probability, table - outputs; None makes new nodes.
    """

    bundle: Path
    flair: vtkMRMLScalarVolumeNode
    t1: vtkMRMLScalarVolumeNode
    t2: vtkMRMLScalarVolumeNode
    pd: vtkMRMLScalarVolumeNode
    useBundleSettings: bool = True
    threshold: Annotated[float, WithinRange(LOWEST_THRESHOLD, 1.0)] = 0.5
    minimumVolume: Annotated[float, WithinRange(0.0, LARGEST_MINIMUM)] = 0.0
    segmentation: vtkMRMLSegmentationNode
    labelMap: vtkMRMLLabelMapVolumeNode
    probability: vtkMRMLScalarVolumeNode
    table: vtkMRMLTableNode


class XTLSegmentWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: wires the .ui file to the parameter node and Apply to the logic."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._message = ""

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        from XTLLib.scene.choices import BundleReader
        from XTLLib.scene.panel import PanelRun, ParameterLink

        uiWidget = slicer.util.loadUI(self.resourcePath("UI/XTLSegment.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = XTLSegmentLogic()
        self._bundles = BundleReader("segmentation")
        sections = ("inputsCollapsibleButton", "settingsCollapsibleButton", "outputsCollapsibleButton")
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

    def updateGui(self, caller=None, event=None) -> None:
        """What the parameters mean for the panel: what can be chosen, and whether Apply can run."""
        from XTLLib.scene.choices import describe_bundle, missing_choice

        parameters = self._link.node
        if self._run.is_running or not parameters:
            return
        if caller is not None:  # the user chose something: what was said of the last run is out of date
            self._message = ""
        bundle, problem = self._bundles.read(parameters.bundle)
        if bundle and parameters.useBundleSettings:
            parameters.threshold = max(LOWEST_THRESHOLD, bundle.threshold)
            parameters.minimumVolume = min(LARGEST_MINIMUM, bundle.minimum_volume_mm3)
        volumes = {channel: getattr(parameters, name) for channel, name in CHANNELS.items()}
        missing = problem or missing_choice(bundle, volumes)
        self.ui.bundleLabel.text = describe_bundle(bundle)
        self.ui.bundleLabel.visible = bundle is not None
        for channel, name in CHANNELS.items():
            getattr(self.ui, f"{name}Selector").enabled = bundle is None or channel in bundle.channels
        self.ui.thresholdSlider.enabled = not parameters.useBundleSettings
        self.ui.minimumVolumeSpinBox.enabled = not parameters.useBundleSettings
        self.ui.tableView.setMRMLTableNode(parameters.table)
        self.ui.tableView.resizeColumnsToContents()
        self.ui.resultsCollapsibleButton.visible = parameters.table is not None
        self.ui.applyButton.enabled = not missing
        self.ui.applyButton.toolTip = missing or _("Segment the lesions")
        self.ui.statusLabel.text = self._message or missing

    def onApplyButton(self) -> None:
        """Run; while it runs, cancel."""
        if self._run.is_running:
            self._run.cancel()
            return
        self._message = _("Nothing was segmented; the scene is as it was.")
        with slicer.util.tryWithErrorDisplay(_("The lesions were not segmented.")), self._run as progress:
            self._message = self.apply(self._link.node, progress)

    def apply(self, parameters: XTLSegmentParameterNode, progress) -> str:
        """Segment with the chosen parameters and return a sentence about the result."""
        from XTLLib.scene.packages import ensure_packages

        ensure_packages("XTL Segment")
        began = time.monotonic()
        nodes = self.logic.process(
            {channel: getattr(parameters, name) for channel, name in CHANNELS.items()},
            parameters.bundle,
            threshold=None if parameters.useBundleSettings else parameters.threshold,
            minimumVolume=None if parameters.useBundleSettings else parameters.minimumVolume,
            segmentation=parameters.segmentation,
            labelMap=parameters.labelMap,
            probability=parameters.probability,
            table=parameters.table,
            progress=progress,
        )
        parameters.segmentation, parameters.labelMap = nodes.segmentation, nodes.label
        parameters.probability, parameters.table = nodes.probability, nodes.table
        self.ui.bundlePathLineEdit.addCurrentPathToHistory()
        volumes = slicer.util.arrayFromTableColumn(nodes.table, "volume")
        return _("{count} lesions, {volume:.2f} ml together, in {seconds:.1f} s.").format(
            count=len(volumes), volume=volumes.sum() / 1000, seconds=time.monotonic() - began
        )


class XTLSegmentLogic(ScriptedLoadableModuleLogic):
    """The module without its panel."""

    def getParameterNode(self) -> XTLSegmentParameterNode:
        return XTLSegmentParameterNode(super().getParameterNode())

    def process(
        self,
        channels: dict[str, vtkMRMLScalarVolumeNode],
        bundle: str | Path,
        threshold: float | None = None,
        minimumVolume: float | None = None,
        segmentation: vtkMRMLSegmentationNode | None = None,
        labelMap: vtkMRMLLabelMapVolumeNode | None = None,
        probability: vtkMRMLScalarVolumeNode | None = None,
        table: vtkMRMLTableNode | None = None,
        progress=None,
    ):
        """Segment the lesions of one case and put them into the scene; needs no panel.

        :param channels: channel name -> volume node; channels that the bundle does not use are left alone.
        :param bundle: folder of the trained model.
        :param threshold: probability from which a voxel is lesion; None takes the bundle's.
        :param minimumVolume: smallest lesion kept, mm3; None takes the bundle's.
        :param segmentation, labelMap, probability, table: output nodes; None makes new ones.
        :param progress: XTLLib.progress.Progress, told how far the work is.
        :return: XTLLib.scene.segmentation.SegmentationNodes
        :raises XTLLib.errors.InputError: names the node or file that is wrong; the scene is as it was.
        """
        from XTLLib.inference.segment import segment_case
        from XTLLib.progress import Progress
        from XTLLib.scene.choices import bundle_for
        from XTLLib.scene.nodes import case_from_nodes
        from XTLLib.scene.segmentation import add_segmentation

        progress = progress or Progress()
        model = bundle_for("segmentation", bundle)
        used = {name: channels.get(name) for name in model.channels}
        case = case_from_nodes(used, model.reference)
        # The seam for a background worker: from here to ``result`` nothing touches the scene.
        result = segment_case(
            case,
            model,
            threshold=threshold,
            minimum_volume_mm3=minimumVolume,
            progress=progress.part(0.0, 0.95),
        )
        progress.report(_("Adding the results to the scene"), 0.95)
        reference = used[model.reference]
        return add_segmentation(result, slicer.mrmlScene, reference, labelMap, segmentation, probability, table)


class XTLSegmentTest(ScriptedLoadableModuleTest):
    """Segments a small phantom with an untrained bundle and checks what lands in the scene."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def test_segmentation_lands_in_the_scene(self) -> None:
        from XTLLib.bundle.load import load_bundle
        from XTLLib.inference.segment import segment_case
        from XTLLib.scene.inputs import add_case
        from XTLLib.scene.self_test import small_brain, write_segmentation_bundle

        case = small_brain()
        with tempfile.TemporaryDirectory() as folder:
            bundle = write_segmentation_bundle(Path(folder) / "bundle")
            nodes = XTLSegmentLogic().process(add_case(case, slicer.mrmlScene).channels, bundle)
            expected = segment_case(case, load_bundle(bundle))

        label = slicer.util.arrayFromVolume(nodes.label)
        self.assertGreater(len(expected.lesions), 0)
        self.assertTrue((label == expected.label.array).all())
        self.assertEqual(nodes.table.GetNumberOfRows(), len(expected.lesions))
        self.assertEqual(nodes.segmentation.GetSegmentation().GetNumberOfSegments(), 1)
        volume = slicer.util.arrayFromTableColumn(nodes.table, "volume").sum()
        self.assertAlmostEqual(volume, 64.0 * (label > 0).sum(), places=3)  # voxels of 4 mm
