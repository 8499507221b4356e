"""XTLSegment: multiple-sclerosis lesions in brain MR, segmented with a bundle."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import qt
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
POLL_MS = 50
DRAWN_MS = 300  # of quiet after a stroke, before the table follows it


class XTLSegment(ScriptedLoadableModule):
    """The module's description."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("XTL Segment")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = ["XTLTransfer"]  # whose folder holds XTLLib
        self.parent.contributors = ["XTL contributors"]
        self.parent.helpText = _(
            "Segments multiple-sclerosis lesions in brain MR with a bundle: a model that XTL Transfer trained. "
            "XTL comes without one. Research software, not a medical device."
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
    register - each channel is registered to the reference first.
    mirror - all mirrored views are looked at. biasCorrection - N4 first, also where the bundle was trained without.
    brainMask - lesions are reported within it. brainMethod - how a mask is made where there is none: "", "built-in"
        or the name of a module. tissue - tissue segmentation, for locations.
    useBundleSettings - threshold and minimumVolume show those of the bundle.
    threshold - probability from which a voxel counts as lesion.
    minimumVolume - smallest lesion kept, mm3.
    segmentation, labelMap, probability, uncertainty, table - outputs; None makes new nodes.
    edits - what was added, removed and drawn, as XTLLib.inference.edits writes it.
    lesion - the one that was chosen in the table; 0 for none. show3d - the lesions are shown in the 3D views.
    registerTimePoints - for lesions over time, whose time points are references of the node itself.
    """

    bundle: Path
    flair: vtkMRMLScalarVolumeNode
    t1: vtkMRMLScalarVolumeNode
    t2: vtkMRMLScalarVolumeNode
    pd: vtkMRMLScalarVolumeNode
    register: bool = False
    mirror: bool = False
    biasCorrection: bool = False
    brainMask: vtkMRMLScalarVolumeNode
    brainMethod: str = ""
    tissue: vtkMRMLScalarVolumeNode
    useBundleSettings: bool = True
    threshold: Annotated[float, WithinRange(LOWEST_THRESHOLD, 1.0)] = 0.5
    minimumVolume: Annotated[float, WithinRange(0.0, LARGEST_MINIMUM)] = 0.0
    segmentation: vtkMRMLSegmentationNode
    labelMap: vtkMRMLLabelMapVolumeNode
    probability: vtkMRMLScalarVolumeNode
    uncertainty: vtkMRMLScalarVolumeNode
    table: vtkMRMLTableNode
    edits: str = ""
    lesion: int = 0
    show3d: bool = False
    registerTimePoints: bool = True


class XTLSegmentWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: wires the .ui file to the parameter node and to XTLLib.scene.segment_panel."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        from XTLLib.scene.about_section import AboutSection
        from XTLLib.scene.error_display import show_failure, shown
        from XTLLib.scene.panel import ParameterLink
        from XTLLib.scene.segment_panel import SegmentPanel

        uiWidget = slicer.util.loadUI(self.resourcePath("UI/XTLSegment.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self._about = AboutSection(self.layout, qt.QTimer())
        self.logic = XTLSegmentLogic()
        self._runTimer, self._drawnTimer = qt.QTimer(), qt.QTimer()
        self._runTimer.setInterval(POLL_MS)
        self._drawnTimer.setInterval(DRAWN_MS)
        self._drawnTimer.setSingleShot(True)
        scene, timers = slicer.mrmlScene, (self._runTimer, self._drawnTimer)
        self._panel = SegmentPanel(self.ui, scene, CHANNELS, *timers, show_failure)
        self._link = ParameterLink(self, self.updateGui)
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndImport)
        self._runTimer.connect("timeout()", self._panel.tick)
        self._drawnTimer.connect("timeout()", self._panel.take_in)
        panel, section, overTime, ui = self._panel, self._panel.section, self._panel.over_time, self.ui
        clicks = {"apply": panel.apply, "undo": section.undo, "redo": section.redo, "adapt": panel.adapt}
        clicks |= {"useAdapted": panel.use_adapted, "compare": panel.compare, "addPoint": overTime.add}
        clicks |= {"removePoint": overTime.remove, "earlierPoint": overTime.move_up}
        for name, action in clicks.items():
            getattr(ui, f"{name}Button").connect("clicked(bool)", shown(action))
        ui.addLesionButton.connect("toggled(bool)", lambda on: section.wait_for_clicks("add", on))
        ui.removeLesionButton.connect("toggled(bool)", lambda on: section.wait_for_clicks("remove", on))
        ui.brainMethodComboBox.connect("currentIndexChanged(int)", panel.advanced.method_chosen)
        ui.pointLesionsSelector.connect("currentNodeChanged(vtkMRMLNode*)", overTime.lesions_chosen)
        ui.pointImageSelector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: overTime.update())
        for view, chosen in ((ui.tableView, section.row_chosen), (ui.historyTableView, overTime.row_chosen)):
            view.selectionModel().connect("currentRowChanged(QModelIndex,QModelIndex)", chosen)
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
        register: bool = False,
        mirror: bool = False,
        biasCorrection: bool | None = None,
        brainMask: vtkMRMLScalarVolumeNode | None = None,
        brainMethod: str = "",
        tissue: vtkMRMLScalarVolumeNode | None = None,
        uncertainty: vtkMRMLScalarVolumeNode | None = None,
        progress=None,
    ):
        """Segment the lesions of one case and put them into the scene; needs no panel.

        It computes here and now, and gives what Apply gives::

            flair = slicer.util.loadVolume("/data/patient07/FLAIR.nii.gz")
            t1 = slicer.util.loadVolume("/data/patient07/T1.nii.gz")
            nodes = slicer.util.getModuleLogic("XTLSegment").process(
                {"FLAIR": flair, "T1": t1}, "/models/ms", threshold=0.4
            )
            print(slicer.util.arrayFromTableColumn(nodes.table, "volume").sum() / 1000, "ml")
            slicer.util.saveNode(nodes.segmentation, "/results/patient07.seg.nrrd")

        :param channels: channel name -> volume node; channels that the bundle does not use are left alone, and
            those that it can do without may be missing.
        :param bundle: folder of the trained model.
        :param threshold, minimumVolume: probability from which a voxel is lesion, and smallest lesion kept, mm3; None
            takes the bundle's.
        :param segmentation, labelMap, probability, table, uncertainty: output nodes; None makes new ones.
        :param register: bring each channel onto the reference by a rigid registration first; it stands under a
            new transform then, not hardened.
        :param mirror: take the mean of all eight mirrored views: eight times the time, and an uncertainty a lesion.
        :param biasCorrection: N4 first; None does as in the bundle's training.
        :param brainMask: above 0 in the brain; lesions are reported within it only.
        :param brainMethod: without a mask: "" does without, "built-in" makes one, as does a module by its name
            (XTLLib.scene.brain_extraction.brain_modules()); it is put into the scene, to be looked at.
        :param tissue: tissue segmentation with FreeSurfer's labels: each lesion gets its location.
        :param progress: XTLLib.progress.Progress, told how far the work is.
        :return: XTLLib.scene.segmentation.SegmentationNodes
        :raises XTLLib.errors.InputError: names the node or file that is wrong; the scene is as it was.
        """
        from XTLLib.scene.console import segment_now
        from XTLLib.scene.worker_run import Around

        outputs = {"segmentation": segmentation, "labelMap": labelMap, "probability": probability, "table": table}
        outputs["uncertainty"] = uncertainty
        options = {"threshold": threshold, "minimum_volume_mm3": minimumVolume, "register": register, "mirror": mirror}
        options["bias_correction"] = biasCorrection
        around = Around(brainMask, brainMethod, tissue)
        return segment_now(channels, bundle, slicer.mrmlScene, outputs, around, progress, **options)

    def compare(self, timePoints: list[tuple], register: bool = True, rules=None, progress=None):
        """Follow lesions over time and put what became of them into the scene; needs no panel, computes here and now.

        ::

            logic = slicer.util.getModuleLogic("XTLSegment")
            nodes = logic.compare([(lesions2024, flair2024), (lesions2025, flair2025)])
            print(slicer.util.arrayFromTableColumn(nodes.table, "change"))

        :param timePoints: in order of time: segmentation or label map, and FLAIR volume node (None: not registered).
        :param register: bring each later FLAIR, with its lesions, onto the first by a rigid registration.
        :param rules: XTLLib.inference.longitudinal.ChangeRules: what counts as a change; None takes the usual ones.
        :return: XTLLib.scene.longitudinal.LongitudinalNodes
        :raises XTLLib.errors.InputError: names the node that is wrong; the scene is as it was.
        """
        from XTLLib.scene.console import compare_now

        return compare_now(timePoints, slicer.mrmlScene, register, rules, progress)


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
