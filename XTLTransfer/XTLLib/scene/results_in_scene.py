"""The results of XTL that a scene holds, as a panel's parameters would name them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from ..bundle.postprocessing import check_postprocessing
from ..errors import InputError
from .classification import FINDINGS_ROLE, REFERENCE_ROLE
from .rated_points import RATED
from .segmentation import MINIMUM_VOLUME, PROBABILITY_ROLE, THRESHOLD
from .session import import_slicer


@dataclass(frozen=True)
class SceneResult:
    """One result of an Apply.

    Attributes
    ----------
    task : "segmentation" or "classification".
    name : of its segmentation, or of its table.
    bundle_name : what it was computed with.
    reference : the volume node it lies over; None when that is gone.
    parameters : what the parameter node of XTLSegment or XTLClassify would hold: ``segmentation``, ``labelMap``,
        ``probability``, ``table``, ``threshold``, ``minimumVolume``, ``edits``, ``lesion``, ``tissue``,
        ``uncertainty``; or ``table``, ``labelMap``, ``findings``, ``finding``.
    """

    task: str
    name: str
    bundle_name: str
    reference: Any
    parameters: SimpleNamespace

    @property
    def is_shown(self) -> bool:
        """Whether the scene was saved with this result visible."""
        parameters = self.parameters
        node = parameters.segmentation if self.task == "segmentation" else parameters.findings
        display = node.GetDisplayNode()
        return display is not None and bool(display.GetVisibility())


def results_in(scene: Any) -> tuple[SceneResult, ...]:
    """The results in the scene, segmentations first; one that was taken apart is left out."""
    return (*_segmentations(scene), *_classifications(scene))


def segmentation_result(segmentation: Any, label: Any, probability: Any, table: Any) -> SceneResult:
    """The result of these nodes, with what they show as threshold and minimum volume."""
    role = import_slicer().vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    parameters = SimpleNamespace(
        segmentation=segmentation, labelMap=label, probability=probability, table=table,
        threshold=float(segmentation.GetAttribute(THRESHOLD)),
        minimumVolume=float(segmentation.GetAttribute(MINIMUM_VOLUME)),
        edits="", lesion=0, tissue=None, uncertainty=None,
    )  # fmt: skip
    reference = segmentation.GetNodeReference(role)
    return SceneResult("segmentation", segmentation.GetName(), _bundle_of(segmentation), reference, parameters)


def classification_result(table: Any, label: Any, findings: Any) -> SceneResult:
    """The result of these nodes."""
    parameters = SimpleNamespace(table=table, labelMap=label, findings=findings, finding="")
    reference = table.GetNodeReference(REFERENCE_ROLE)
    return SceneResult("classification", table.GetName(), _bundle_of(table), reference, parameters)


def _segmentations(scene: Any) -> Iterator[SceneResult]:
    for node in _nodes(scene, "vtkMRMLSegmentationNode"):
        probability = node.GetNodeReference(PROBABILITY_ROLE)
        if probability is None or not _has_settings(node):
            continue
        label = _same(scene, "vtkMRMLLabelMapVolumeNode", PROBABILITY_ROLE, probability)
        table = _same(scene, "vtkMRMLTableNode", PROBABILITY_ROLE, probability)
        if label is not None and table is not None and probability.GetImageData() is not None:
            yield segmentation_result(node, label, probability, table)


def _classifications(scene: Any) -> Iterator[SceneResult]:
    for table in _nodes(scene, "vtkMRMLTableNode"):
        findings = table.GetNodeReference(FINDINGS_ROLE)
        if findings is None or not table.GetAttribute(RATED):
            continue
        label = _same(scene, "vtkMRMLLabelMapVolumeNode", FINDINGS_ROLE, findings)
        if label is not None and label.GetImageData() is not None:
            yield classification_result(table, label, findings)


def _has_settings(node: Any) -> bool:
    try:
        threshold, minimum = (float(node.GetAttribute(name)) for name in (THRESHOLD, MINIMUM_VOLUME))
        check_postprocessing(threshold, minimum)
    except (TypeError, ValueError, InputError):  # none, or a stranger's
        return False
    return True


def _same(scene: Any, class_name: str, role: str, other: Any) -> Any:
    return next((node for node in _nodes(scene, class_name) if node.GetNodeReference(role) is other), None)


def _nodes(scene: Any, class_name: str) -> list[Any]:
    return [scene.GetNthNodeByClass(n, class_name) for n in range(scene.GetNumberOfNodesByClass(class_name))]


def _bundle_of(node: Any) -> str:
    return node.GetAttribute("XTL.Bundle") or ""
