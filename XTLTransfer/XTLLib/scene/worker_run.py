"""From a click on Apply to the nodes: read the scene, compute in the background, change the scene at the end."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from ..data.case import Case
from ..errors import Cancelled, InputError, XTLError
from ..inference.location import with_locations
from ..inference.results import SegmentationResult
from ..progress import ProgressEvent
from .brain_extraction import extract_brain
from .change import check_output, one_change
from .choices import bundle_for
from .hierarchy import place_beside
from .nodes import case_from_nodes, label_to_node, volume_from_node, volume_to_node
from .segmentation import PROBABILITY_ROLE, SegmentationNodes, add_segmentation, describe
from .transforms import add_transforms

OUTPUTS = ("segmentation", "labelMap", "probability", "table", "uncertainty")
BUILT_IN = "built-in"  # brain method
_BRAIN_ROLE = "XTL.Brain"  # of a probability map: the brain mask that was made for it
_ON_T1 = "SwissSkullStripper"  # wants T1; other modules take the reference


@dataclass(frozen=True)
class Around:
    """What is known, or to be found out, around the lesions.

    Attributes
    ----------
    brain : volume or label map node of a brain mask, above 0 inside: lesions are reported within it only.
    brain_method : without a mask: "" does without, "built-in" makes one by data.brain_mask, and the name of an
        installed module (brain_extraction.brain_modules) by that, here and now.
    tissue : volume or label map node of a tissue segmentation with FreeSurfer's labels: lesions get locations.
    """

    brain: Any = None
    brain_method: str = ""
    tissue: Any = None

    @property
    def options(self) -> dict[str, Any]:
        """Those of inference.segment.segment_case."""
        return {"brain_mask": "auto" if self.brain is None and self.brain_method == BUILT_IN else "given"}


def case_for(bundle: Any, channels: Mapping[str, Any], around: Around | None = None) -> tuple[Case, dict[str, Any]]:
    """The case that a bundle takes, and the volume nodes that it is made of, by channel.

    Parameters
    ----------
    bundle : bundle.load.Bundle. channels : channel -> volume node; those that the bundle does not use are left
        alone, and those that it can do without may be missing or None.

    Raises
    ------
    InputError : names the node that is missing or cannot be used.
    MissingPackageError, XTLError : the module for the brain mask is missing or failed.
    """
    around = around or Around()
    optional = bundle.preparation.optional
    used = {name: channels.get(name) for name in bundle.channels}
    case = case_from_nodes(used, bundle.reference, optional=optional, brain_node=around.brain)
    used = {name: node for name, node in used.items() if node is not None}
    if around.brain is None and around.brain_method not in ("", BUILT_IN):
        on = "T1" if around.brain_method == _ON_T1 and "T1" in used else bundle.reference
        case = replace(case, brain=extract_brain(used[on], around.brain_method))
    return case, used


def located(result: SegmentationResult, tissue: Any) -> SegmentationResult:
    """The result with a location for each lesion. Raises InputError for a tissue segmentation that cannot be used."""
    return with_locations(result, volume_from_node(tissue, "the tissue segmentation"))


def add_result(
    result: SegmentationResult,
    scene: Any,
    channels: Mapping[str, Any],
    outputs: Mapping[str, Any],
    around: Around | None = None,
) -> SegmentationNodes:
    """Put a result into the scene, with its uncertainty map, a brain mask made for it, and its registrations.

    Parameters
    ----------
    channels : of :func:`case_for`; those that are still in the scene.
    outputs : segmentation, labelMap, probability, table, uncertainty -> node; None or absent makes a new one.
    """
    reference = channels.get(result.case.reference)
    check_output(outputs.get("uncertainty"), "vtkMRMLScalarVolumeNode")
    with one_change(scene):
        nodes = add_segmentation(
            result,
            scene,
            reference,
            outputs.get("labelMap"),
            outputs.get("segmentation"),
            outputs.get("probability"),
            outputs.get("table"),
        )
        nodes = replace(
            nodes,
            uncertainty=_add_uncertainty(result, scene, reference, nodes.probability, outputs.get("uncertainty")),
            brain=_add_brain(result, scene, reference, nodes.probability, around or Around()),
        )
        if result.location_rule:
            nodes.table.SetAttribute("XTL.LocationRule", result.location_rule)
        else:
            nodes.table.RemoveAttribute("XTL.LocationRule")
        if result.transforms:
            add_transforms(result, channels, scene)
    return nodes


def _add_uncertainty(result: SegmentationResult, scene: Any, reference: Any, probability: Any, node: Any) -> Any:
    if result.uncertainty is None:
        return None
    name = f"{'' if reference is None else reference.GetName() + ' '}MS lesion uncertainty"
    node = volume_to_node(result.uncertainty, name, scene, node, share=True)
    describe(node, result.bundle_name, "SD of the probability over mirrored views")
    node.SetNodeReferenceID(PROBABILITY_ROLE, probability.GetID())
    place_beside(scene, [node], reference)
    return node


def _add_brain(result: SegmentationResult, scene: Any, reference: Any, probability: Any, around: Around) -> Any:
    """A brain mask that nobody has seen yet is shown: it has to be looked at."""
    if result.case.brain is None or around.brain is not None:
        probability.SetNodeReferenceID(_BRAIN_ROLE, None)
        return None
    name = f"{'' if reference is None else reference.GetName() + ' '}brain mask"
    node = label_to_node(result.case.brain, name, scene, probability.GetNodeReference(_BRAIN_ROLE))
    describe(node, result.bundle_name, f"brain mask, {around.brain_method}")
    probability.SetNodeReferenceID(_BRAIN_ROLE, node.GetID())
    place_beside(scene, [node], reference)
    return node


class JobLike(Protocol):
    """What is asked of a job of the worker; see inference.client.Job."""

    is_done: bool
    details: tuple[str, ...]

    def poll(self) -> list[ProgressEvent]: ...
    def cancel(self) -> None: ...
    def result(self) -> Any: ...


class WorkerLike(Protocol):
    """What is asked of a worker; see inference.client.InferenceWorker."""

    def warm(self, bundle: str | os.PathLike) -> JobLike: ...
    def segment(self, case: Any, bundle: str | os.PathLike, **options: Any) -> JobLike: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Finished:
    """What an Apply has brought.

    Attributes
    ----------
    nodes : the results in the scene. notes : sentences for the user, of the computation and of the scene.
    """

    nodes: SegmentationNodes
    notes: tuple[str, ...]


class BackgroundSegmentation:
    """One segmentation at a time, in a worker process; nothing here blocks.

    The owner calls :meth:`poll` now and then while :attr:`is_active`, and :meth:`finish` once when
    :attr:`is_running` has become False after a :meth:`start`.

    Parameters
    ----------
    worker : None takes a new InferenceWorker, whose process starts with the first job.
    """

    def __init__(self, worker: WorkerLike | None = None) -> None:
        if worker is None:
            from ..inference.client import InferenceWorker

            worker = InferenceWorker()
        self._worker = worker
        self._warming: JobLike | None = None
        self._warmed: Path | None = None
        self._to_warm: Path | None = None
        self._waiting: tuple[Any, Path, dict[str, Any]] | None = None
        self._job: JobLike | None = None
        self._failure: XTLError | None = None
        self._is_cancelled = False
        self._outputs: dict[str, Any] = {}
        self._channels: dict[str, Any] = {}
        self._around = Around()

    @property
    def is_running(self) -> bool:
        """Whether a segmentation is under way."""
        return self._waiting is not None or (self._job is not None and not self._job.is_done)

    @property
    def is_active(self) -> bool:
        """Whether there is anything to poll for."""
        return self.is_running or self._warming is not None or self._to_warm is not None

    def warm(self, bundle: str | os.PathLike) -> None:
        """Let the worker load a bundle while the user still chooses; nothing is said when that fails."""
        path = Path(bundle)
        if path != self._warmed and find_spec("torch") is not None:
            self._warmed = self._to_warm = path

    def start(
        self,
        channels: Mapping[str, Any],
        bundle: str | os.PathLike,
        outputs: Mapping[str, Any],
        around: Around | None = None,
        **options: Any,
    ) -> None:
        """Read the volumes from the scene and send them to the worker.

        Parameters
        ----------
        channels : see :func:`case_for`. outputs : see :func:`add_result`.
        options : of inference.segment.segment_case.

        Raises
        ------
        XTLError : a volume that cannot be used, or no room to hand it over; the scene is as it was.
        """
        self._around = around or Around()
        case, self._channels = case_for(bundle_for("segmentation", bundle), channels, self._around)
        self._outputs = {name: node for name in OUTPUTS if (node := outputs.get(name)) is not None}
        self._job, self._failure, self._is_cancelled = None, None, False
        self._to_warm = None
        self._waiting = (case, Path(bundle), {**self._around.options, **options})
        if self._warming is None:
            self._submit()
            if self._failure is not None:
                raise self._failure

    def poll(self) -> list[ProgressEvent]:
        """What the worker reported since the last call; also carries everything else on."""
        if self._warming is not None:
            events = self._warming.poll()
            if not self._warming.is_done:
                return events if self._waiting is not None else []
            self._warming = None
        if self._waiting is not None:
            self._submit()
        elif self._job is not None and not self._job.is_done:
            return self._job.poll()
        elif self._to_warm is not None:
            path, self._to_warm = self._to_warm, None
            try:
                self._warming = self._worker.warm(path)
            except XTLError:  # Apply will say it
                self._warming = None
        return []

    def cancel(self) -> None:
        """Stop; :meth:`poll` finds it done within two seconds, and :meth:`finish` raises Cancelled."""
        self._is_cancelled = True
        self._waiting = None
        if self._job is not None:
            self._job.cancel()

    def finish(self, scene: Any) -> Finished:
        """Put the result into the scene: into the outputs of :meth:`start` that are still there, else into new nodes.

        Raises
        ------
        Cancelled : it was stopped, also when the result was there already.
        XTLError : it failed; :attr:`details` then has what the worker said. The scene is as it was.
        """
        if self._is_cancelled:
            raise Cancelled("segmentation")
        if self._failure is not None:
            raise self._failure
        result = self._job.result()
        channels = {name: node for name, node in self._channels.items() if node.GetScene() is scene}
        outputs = {role: node for role, node in self._outputs.items() if node.GetScene() is scene}
        gone = [node.GetName() for name, node in self._channels.items() if name not in channels]
        result, tissue_gone = self._located(result, scene)
        gone += tissue_gone
        nodes = add_result(result, scene, channels, outputs, self._around)
        return Finished(nodes, (*result.notes, *_scene_notes(gone, len(self._outputs) - len(outputs))))

    def _located(self, result: SegmentationResult, scene: Any) -> tuple[SegmentationResult, list[str]]:
        """With locations, where they can be had: the lesions are worth keeping without them."""
        tissue = self._around.tissue
        if tissue is None:
            return result, []
        if tissue.GetScene() is not scene:
            return result, [tissue.GetName()]
        try:
            return located(result, tissue), []
        except InputError as error:
            return replace(result, notes=(*result.notes, str(error))), []

    @property
    def details(self) -> tuple[str, ...]:
        """The worker's last lines after a failure."""
        return () if self._job is None else tuple(self._job.details)

    def forget(self) -> None:
        """Let go of the volumes and nodes of the last run."""
        self._job, self._outputs, self._channels, self._around = None, {}, {}, Around()

    def close(self) -> None:
        """End the worker and remove its files, whatever it does."""
        self.cancel()
        self._to_warm = self._warming = None
        self._worker.close()
        self.forget()

    def _submit(self) -> None:
        (case, bundle, options), self._waiting = self._waiting, None
        try:
            self._job = self._worker.segment(case, bundle, **options)
            self._warmed = bundle
        except XTLError as error:
            self._failure = error


def _scene_notes(volumes_gone: Sequence[str], outputs_gone: int) -> tuple[str, ...]:
    from slicer.i18n import tr as _

    notes = []
    if volumes_gone:
        notes.append(_("Removed from the scene meanwhile: {names}.").format(names=", ".join(volumes_gone)))
    if outputs_gone:
        notes.append(_("Outputs that were removed meanwhile were made anew."))
    return tuple(notes)
