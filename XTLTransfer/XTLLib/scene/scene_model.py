"""The model that a scene's result names, run again on the scene's images in the background."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..errors import InputError, XTLError
from ..progress import ProgressEvent
from .choices import bundle_for, missing_choice, volume_named_like
from .classify_run import OUTPUTS as RATING_OUTPUTS
from .classify_run import BackgroundRating
from .hierarchy import hierarchy_of
from .results_in_scene import SceneResult, classification_result, segmentation_result
from .worker_run import OUTPUTS, BackgroundSegmentation


class SceneModel:
    """Finds the model and its images, runs it, and puts what it finds into the nodes of the result.

    Parameters
    ----------
    scene : vtkMRMLScene.
    folder : where the scene file lies; models in its ``bundles`` come before those of the library.
    bundle : the folder of the model; None takes the one that the result names.

    Attributes
    ----------
    result : the one that is shown, or None; its owner keeps it up to date.

    Raises InputError for a bundle that cannot be read.
    """

    def __init__(self, scene: Any, folder: Path, bundle: str | os.PathLike | None = None) -> None:
        self._scene, self._folder = scene, Path(folder)
        self._given = None if bundle is None else _read(bundle)
        self._run: BackgroundSegmentation | BackgroundRating | None = None
        self.result: SceneResult | None = None

    def missing(self) -> str:
        """Why the model cannot be run; "" when it can."""
        try:
            bundle, volumes = self._model()
        except XTLError as error:
            return str(error)
        missing = missing_choice(bundle, volumes)
        if not missing and bundle.task == "classification" and self._points() is None:
            missing = "Mark the findings in Slicer first: the scene holds no point list."
        return missing

    @property
    def name(self) -> str:
        """Of the model that would be run; "" where there is none."""
        try:
            return self._model()[0].name
        except XTLError:
            return ""

    @property
    def is_running(self) -> bool:
        """Whether the model is at work."""
        return self._run is not None and self._run.is_running

    def run(self) -> None:
        """Start the model in the background, with its own threshold; call :meth:`poll` until it is done.

        Raises InputError when something is missing.
        """
        if missing := self.missing():
            raise InputError(missing.rstrip("."), "Then run again")
        bundle, volumes = self._model()
        result = self.result if self.result is not None and self.result.task == bundle.task else None
        kinds = {"segmentation": BackgroundSegmentation, "classification": BackgroundRating}
        if type(self._run) is not kinds[bundle.task]:
            self.close()
            self._run = kinds[bundle.task]()
        names = OUTPUTS if bundle.task == "segmentation" else RATING_OUTPUTS
        outputs = {} if result is None else {name: getattr(result.parameters, name, None) for name in names}
        if bundle.task == "segmentation":
            self._run.start(volumes, bundle.path, outputs)
        else:
            self._run.start(volumes, self._points(), bundle.path, outputs)

    def poll(self) -> list[ProgressEvent]:
        """What the worker reported since the last call."""
        return [] if self._run is None else self._run.poll()

    def cancel(self) -> None:
        """Stop the model; :meth:`poll` carries it through."""
        if self._run is not None:
            self._run.cancel()

    def finish(self) -> tuple[SceneResult, tuple[str, ...]]:
        """What the model found, in the scene, and its notes. Raises Cancelled, or XTLError for what failed."""
        finished = self._run.finish(self._scene)
        nodes = finished.nodes
        if isinstance(self._run, BackgroundSegmentation):
            new = segmentation_result(nodes.segmentation, nodes.label, nodes.probability, nodes.table)
        else:
            new = classification_result(nodes.table, nodes.label, nodes.findings)
        return new, finished.notes

    def close(self) -> None:
        """End the worker."""
        if self._run is not None:
            self._run.close()
            self._run = None

    def _model(self) -> tuple[Any, dict[str, Any]]:
        """The bundle and the volumes of its channels. Raises XTLError where there is no bundle."""
        if self._given is not None:
            bundle = self._given
        elif self.result is None:
            raise InputError("no model is chosen", "Start the page with --bundle")
        else:
            bundle = bundle_for(self.result.task, self._named_bundle(self.result.bundle_name))
        others = self._volumes_of_other_studies()
        return bundle, {channel: volume_named_like(channel, self._scene, others) for channel in bundle.channels}

    def _named_bundle(self, name: str) -> Path:
        from ..bundle.library import checked_name, find_model

        beside = self._folder / "bundles" / checked_name(name)
        return beside if beside.is_dir() else find_model(name)

    def _volumes_of_other_studies(self) -> list[Any]:
        """The volumes that do not stand beside the reference in the subject hierarchy."""
        if self.result is None or self.result.reference is None:
            return []
        hierarchy = hierarchy_of(self._scene)

        def parent(node: Any) -> int:
            return hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node))

        return [node for node in images_in(self._scene) if parent(node) != parent(self.result.reference)]

    def _points(self) -> Any:
        if self.result is not None and self.result.task == "classification":
            return self.result.parameters.findings
        return self._scene.GetFirstNodeByClass("vtkMRMLMarkupsFiducialNode")


def _read(path: str | os.PathLike) -> Any:
    from ..bundle.load import read_bundle

    return read_bundle(path)


def images_in(scene: Any) -> list[Any]:
    """The images of a scene: no label maps, and no maps that XTL made."""
    found = []
    for index in range(scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")):
        node = scene.GetNthNodeByClass(index, "vtkMRMLScalarVolumeNode")
        if node.GetClassName() == "vtkMRMLScalarVolumeNode" and not node.GetAttribute("XTL.Bundle"):
            found.append(node)
    return found
