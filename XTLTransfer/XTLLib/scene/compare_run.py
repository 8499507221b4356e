"""From a click on Compare to the nodes: read time points, compare in the background, change the scene at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import Cancelled
from ..inference.longitudinal import STATUSES, LongitudinalResult, TimePoint
from ..progress import ProgressEvent
from .arrays import vtk_matrix
from .background import JobLike
from .change import check_apart, one_change
from .longitudinal import LongitudinalNodes, add_longitudinal
from .nodes import grid_of_node
from .session import import_slicer
from .time_points import TimePointNodes, read_time_points

HISTORY_OUTPUTS = ("segmentation", "status", "table")
SUMMARY = "XTL.Summary"  # attribute of the table: the comparison in a sentence
_COPY_OF = "XTL.CopyOf"  # of a registered view of an image: the image


class ComparesLike(Protocol):
    """What is asked of a worker; see inference.client.InferenceWorker."""

    def compare(self, points: Sequence[TimePoint], register: bool = True) -> JobLike: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Compared:
    """What a comparison has brought: the nodes, and sentences for the user."""

    nodes: LongitudinalNodes
    notes: tuple[str, ...]


class BackgroundComparison:
    """One comparison at a time, in a worker process of its own that the first one starts; nothing here blocks.

    Parameters
    ----------
    worker : None takes a new InferenceWorker.
    """

    def __init__(self, worker: ComparesLike | None = None) -> None:
        self._worker = worker
        self._job: JobLike | None = None
        self._is_cancelled = False
        self._points: tuple[TimePointNodes, ...] = ()
        self._outputs: dict[str, Any] = {}

    @property
    def is_running(self) -> bool:
        """Whether a comparison is under way."""
        return self._job is not None and not self._job.is_done

    @property
    def details(self) -> tuple[str, ...]:
        """The worker's last lines after a failure."""
        return () if self._job is None else tuple(self._job.details)

    def start(self, points: Sequence[TimePointNodes], outputs: Mapping[str, Any], register: bool) -> None:
        """Read the time points from the scene and send them to the worker. Raises XTLError as reading them does."""
        check_apart(outputs, [node for point in points for node in (point.lesions, point.image)])
        read = read_time_points(points)
        if self._worker is None:
            from ..inference.client import InferenceWorker

            self._worker = InferenceWorker()
        self._is_cancelled = False
        self._points = tuple(points)
        self._outputs = {role: node for role, node in outputs.items() if node is not None}
        self._job = self._worker.compare(read, register=register)

    def poll(self) -> list[ProgressEvent]:
        """What the worker reported since the last call."""
        return self._job.poll() if self.is_running else []

    def cancel(self) -> None:
        """Stop; :meth:`poll` finds it done within two seconds, and :meth:`finish` raises Cancelled."""
        self._is_cancelled = True
        if self._job is not None:
            self._job.cancel()

    def finish(self, scene: Any) -> Compared:
        """Put the result into the scene: into the outputs of :meth:`start` that are still there, else into new nodes.

        Raises
        ------
        Cancelled : it was stopped, also when the result was there already.
        XTLError : it failed; the scene is as it was.
        """
        from slicer.i18n import tr as _

        if self._is_cancelled:
            raise Cancelled("comparison")
        result = self._job.result()
        outputs = {role: node for role, node in self._outputs.items() if node.GetScene() is scene}
        images = [point.image if point.image.GetScene() is scene else None for point in self._points]
        gone = [point.name for point, image in zip(self._points, images) if image is None]
        notes = result.notes
        if gone:
            notes += (_("Removed from the scene meanwhile: {names}.").format(names=", ".join(gone)),)
        return Compared(add_comparison(result, scene, images, outputs), notes)

    def forget(self) -> None:
        """Let go of the nodes of the last run."""
        self._job, self._points, self._outputs = None, (), {}

    def close(self) -> None:
        """End the worker and remove its files, whatever it does."""
        self.cancel()
        if self._worker is not None:
            self._worker.close()
        self.forget()


def add_comparison(
    result: LongitudinalResult, scene: Any, images: Sequence[Any], outputs: Mapping[str, Any]
) -> LongitudinalNodes:
    """Put a comparison into the scene; every node of the user stays where it is.

    Later images that were registered are shown on the first as further volume nodes, which share the voxels of the
    images and stand under the transforms. A second comparison uses them again.

    Parameters
    ----------
    images : of the time points, None for one that is gone.
    outputs : segmentation, status, table -> node; None or absent makes a new one.
    """
    if not images or images[0] is None:  # the space of the result is gone
        shown: list[Any] = []
    else:
        shown = list(images[:1])
    with one_change(scene):
        before = []
        for image, registration in zip(images[1:] if shown else (), result.registrations):
            view = None if image is None or registration is None else _view_of(image, images[0], scene)
            before.append(None if view is None else view.GetParentTransformNode())
            shown.append(view)
        nodes = add_longitudinal(result, scene, shown, *(outputs.get(role) for role in HISTORY_OUTPUTS))
        for transform in before:  # of the comparison before
            if transform is not None and transform.GetScene() is scene and transform not in nodes.transforms:
                scene.RemoveNode(transform)
        nodes.table.SetAttribute(SUMMARY, summary_of(result))
    return nodes


def summary_of(result: LongitudinalResult) -> str:
    """Counts and volumes in a sentence."""
    from slicer.i18n import tr as _

    counts = ", ".join(f"{result.count(status)} {status}" for status in STATUSES)
    volumes = [volume / 1000 for volume in result.total_volumes_mm3]
    return _("{counts}; {first:.2f} ml at {first_name}, {last:.2f} ml at {last_name}.").format(
        counts=counts, first=volumes[0], first_name=result.names[0], last=volumes[-1], last_name=result.names[-1]
    )


def _view_of(image: Any, first: Any, scene: Any) -> Any:
    """A volume node that shows the voxels of ``image`` where it lies in the world, not copied."""

    slicer = import_slicer()
    view = None
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode", scene):
        if node.GetNodeReference(_COPY_OF) is image:
            view = node
    if view is None:
        view = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", f"{image.GetName()} on {first.GetName()}")
        view.SetNodeReferenceID(_COPY_OF, image.GetID())
        view.SetAttribute("XTL.Bundle", "none")  # as on every result: it is not guessed for a channel
    view.SetIJKToRASMatrix(vtk_matrix(grid_of_node(image).ijk_to_ras))
    view.SetAndObserveImageData(image.GetImageData())
    if view.GetDisplayNode() is None:
        view.CreateDefaultDisplayNodes()
    return view
