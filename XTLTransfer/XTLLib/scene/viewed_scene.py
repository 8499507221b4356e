"""What the web page shows and does with an opened scene, whoever draws the page.

The lesions follow threshold, table and clicks by the classes that the panels of XTLSegment and XTLClassify use.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from .bundle_settings import LARGEST_MINIMUM_MM3, LOWEST_THRESHOLD
from .interactive import InteractiveLesions
from .live_findings import LiveFindings
from .offscreen_views import VIEWS, Contrast, SliceView, SurfaceView
from .results_in_scene import SceneResult, results_in
from .scene_model import SceneModel, images_in
from .session import Session, import_slicer
from .surfaces import hide_in_3d, show_in_3d
from .table_text import TableText, text_of_table
from .views import add_slice_views, show_in_slice_views

_SURFACES = "XTL.PageSurfaces"


class ViewedScene:
    """A scene with its views; nothing here blocks for longer than a picture takes.

    Parameters
    ----------
    session : of open_scene. folder : where the scene file lies; models in its ``bundles`` are found.
    bundle : the folder of the model to run; None takes the one that a result names, where it can be found.

    Raises InputError for a scene without any volume, or a bundle that cannot be read.
    """

    def __init__(self, session: Session, folder: Path, bundle: str | os.PathLike | None = None) -> None:
        self._scene = session.scene
        self.model = SceneModel(self._scene, folder, bundle)
        self.results = list(results_in(self._scene))
        reference = self._first_volume()
        if self._scene.GetNumberOfNodesByClass("vtkMRMLSliceNode") < len(VIEWS):
            add_slice_views(self._scene, reference)
        self.slices = {name: SliceView(session, name) for name in VIEWS}
        self.surfaces = SurfaceView(session)
        self._lesions, self._findings = InteractiveLesions(lambda: None), LiveFindings(lambda: None)
        self._contrast: Contrast | None = None
        self.position_ras = self.slices["Red"].ras_at(0.5, 0.5)
        self.chosen = -1
        shown = [index for index, one in enumerate(self.results) if one.is_shown]
        if self.results:
            self.choose_result(shown[0] if shown else 0, stay=True)
        else:
            self.surfaces.show_around(self._show_volume(reference))

    # --- the result -------------------------------------------------------------------------------

    @property
    def result(self) -> SceneResult | None:
        """The one that is shown."""
        return self.results[self.chosen] if 0 <= self.chosen < len(self.results) else None

    @property
    def is_segmentation(self) -> bool:
        """Whether lesions are shown that follow a threshold."""
        return self.result is not None and self.result.task == "segmentation"

    def choose_result(self, index: int, stay: bool = False) -> None:
        """Show a result, and hide the others; ``stay`` leaves the slices where they are.

        Raises InputError for one of a stranger's scene that cannot be read; what was shown before is shown then.
        """
        before = self.chosen
        try:
            self._choose_result(index, stay)
        except InputError:
            if before not in (-1, index):
                self._choose_result(before, True)
            raise

    def _choose_result(self, index: int, stay: bool) -> None:
        self.chosen = index
        for number, one in enumerate(self.results):
            _set_visible(one, number == index)
        result, parameters = self.result, self.result.parameters
        self.model.result = result
        self._lesions.release()
        self._findings.release()
        label = None
        if self.is_segmentation:
            self._lesions.attach(parameters)
        else:
            self._findings.attach(parameters)
            label = parameters.labelMap
        volume = self._show_volume(result.reference, label)
        if not stay:
            for view in self.slices.values():
                view.node.RotateToVolumePlane(volume)
                view.show_whole()
            if self.table().rows:
                self.choose_row(self.table().rows[0][0])
        self.make_surfaces()
        self.surfaces.show_around(volume if self.is_segmentation else None)

    @property
    def settings(self) -> tuple[float, float]:
        """Threshold and minimum volume (mm³)."""
        parameters = self.result.parameters
        return parameters.threshold, parameters.minimumVolume

    def set_settings(self, threshold: float, minimum_volume_mm3: float) -> bool:
        """Find the lesions anew; False when that changes nothing. The surfaces wait for :meth:`make_surfaces`.

        Raises InputError for a number outside of the sliders, or edits of a stranger's scene that cannot be read.
        """
        if not (LOWEST_THRESHOLD <= threshold <= 1 and 0 <= minimum_volume_mm3 <= LARGEST_MINIMUM_MM3):
            raise InputError("threshold or minimum volume is out of range", "Move the slider")
        parameters = self.result.parameters
        parameters.threshold, parameters.minimumVolume = threshold, minimum_volume_mm3
        hide_in_3d(parameters.segmentation)  # else the slider would wait for it
        return self._lesions.refresh()

    def table(self) -> TableText:
        """The lesion table, without its empty columns."""
        if self.result is None:
            return TableText((), ())
        return text_of_table(self.result.parameters.table)

    @property
    def summary(self) -> str:
        """One line about the table."""
        if self.result is None:
            return "The scene holds no result of XTL."
        if not self.is_segmentation:
            rated = [one.rated.probability for one in self._findings.points if one.is_rated]
            return f"{len(rated)} findings rated" + (f", highest probability {max(rated):.2f}" if rated else "")
        lesions = self._lesions.lesions
        volume_ml = sum(lesion.volume_mm3 for lesion in lesions) / 1000
        return f"{len(lesions)} {'lesion' if len(lesions) == 1 else 'lesions'}, {volume_ml:.2f} ml together"

    @property
    def row(self) -> int:
        """The identifier of the row that is chosen; 0 for none."""
        if self.result is None:
            return 0
        if self.is_segmentation:
            return self.result.parameters.lesion
        point = self.result.parameters.finding
        return next((one.rated.row for one in self._findings.points if one.point == point), 0)

    def choose_row(self, identifier: int) -> None:
        """Centre the views on a row's lesion and outline it; an identifier that there is not does nothing."""
        if self.is_segmentation:
            position = {one.identifier: one.position_ras for one in self._lesions.lesions}.get(identifier)
            if position is not None:
                self._lesions.choose(identifier)
        else:
            found = {one.rated.row: one for one in self._findings.points}.get(identifier)
            position = None if found is None else found.rated.finding.position_ras
            if found is not None:
                self._findings.choose(found.point)
        if position is not None:
            self.position_ras = position

    # --- the views --------------------------------------------------------------------------------

    def go_to(self, ras: Sequence[float]) -> None:
        """Bring the slices of all views to a point (RAS mm), without moving what they show aside."""
        self.position_ras = tuple(ras)
        for view in self.slices.values():
            view.node.JumpSliceByOffsetting(*ras)

    def change_contrast(self, right: float, up: float) -> None:
        """See offscreen_views.Contrast.drag."""
        self._contrast.drag(right, up)

    @property
    def contrast(self) -> str:
        """Window and level of the image that is shown, as radiologists write them."""
        window, level = self._contrast.window_level
        return f"W {window:.4g}  L {level:.4g}"

    def reset_views(self) -> None:
        """Contrast as the scene had it, whole images, and the 3D view from the front."""
        self._contrast.reset()
        for view in self.slices.values():
            view.show_whole()
        self.surfaces.look_at_all()

    def make_surfaces(self) -> None:
        """Make the 3D surfaces of what is shown."""
        if self.result is None:
            return
        if self.is_segmentation:
            show_in_3d(self.result.parameters.segmentation)
        else:
            show_in_3d(_surfaces_of_labels(self.result.parameters.labelMap))

    def finish(self) -> tuple[str, ...]:
        """Show what the model found; returns its notes. Raises Cancelled, or XTLError for what failed."""
        new, notes = self.model.finish()
        places = [n for n, one in enumerate(self.results) if one.parameters.table is new.parameters.table]
        if places:
            self.results[places[0]] = new
        else:
            self.results.append(new)
        self.choose_result(places[0] if places else len(self.results) - 1, stay=True)
        return notes

    def close(self) -> None:
        """End the worker and let go of the scene."""
        self.model.close()
        self._lesions.release()
        self._findings.release()
        for view in (*self.slices.values(), self.surfaces):
            view.close()

    def _first_volume(self) -> Any:
        references = [one.reference for one in self.results if one.reference is not None]
        volumes = [node for node in (*references, *images_in(self._scene)) if node.GetImageData() is not None]
        if not volumes:
            raise InputError("the scene holds no volume to be shown", "Save a scene with its images")
        return volumes[0]

    def _show_volume(self, volume: Any, label: Any = None) -> Any:
        volume = volume or self._first_volume()
        show_in_slice_views(self._scene, volume, label)
        for index in range(self._scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")):
            layers = self._scene.GetNthNodeByClass(index, "vtkMRMLSliceCompositeNode")
            layers.SetForegroundVolumeID(None)
            if label is None:
                layers.SetLabelVolumeID(None)
        self._contrast = Contrast(volume)
        return volume


def _set_visible(result: SceneResult, is_visible: bool) -> None:
    parameters = result.parameters
    node = parameters.segmentation if result.task == "segmentation" else parameters.findings
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetVisibility(is_visible)
    if result.task == "classification":
        behind = node.GetDisplayNode().GetTextProperty()  # names lie over balls of nearly their colour
        behind.SetBackgroundColor(0.0, 0.0, 0.0)
        behind.SetBackgroundOpacity(0.6)


def _surfaces_of_labels(label_node: Any) -> Any:
    """A segmentation of the labels of a map, in their colours, for the 3D view only; no file keeps it."""
    slicer, scene = import_slicer(), label_node.GetScene()
    node = label_node.GetNodeReference(_SURFACES)
    if node is None:
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "surfaces of labels")
        node.SetHideFromEditors(True)
        node.SetSaveWithScene(False)
        node.CreateDefaultDisplayNodes()
        label_node.SetNodeReferenceID(_SURFACES, node.GetID())
    node.GetSegmentation().RemoveAllSegments()
    slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(label_node, node)
    for name in ("SetVisibility2DFill", "SetVisibility2DOutline"):
        getattr(node.GetDisplayNode(), name)(False)
    return node
