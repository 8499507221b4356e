"""From a click on Apply to the nodes: read the scene, compute in the background, change the scene at the end."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..data.case import Case
from ..data.volume import Volume
from ..errors import InputError
from ..inference.lesions import Regions, regions_of
from ..inference.location import with_locations
from ..inference.results import SegmentationResult
from .background import BackgroundRun, WorkerLike, scene_notes
from .brain_extraction import extract_brain
from .change import check_apart, check_output, one_change
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

    def nodes(self, channels: Mapping[str, Any]) -> tuple[Any, ...]:
        """Every input node, with those of the channels; None among them where there is none."""
        return (*channels.values(), self.brain, self.tissue)


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
    return with_locations(result, _tissue_volume(tissue))


def _tissue_volume(tissue: Any) -> Volume:
    return volume_from_node(tissue, "the tissue segmentation")


def _without_locations(result: SegmentationResult) -> SegmentationResult:
    lesions = tuple(replace(lesion, location="") for lesion in result.lesions)
    return replace(result, lesions=lesions, location_rule="")


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


@dataclass(frozen=True)
class Finished:
    """What an Apply has brought.

    Attributes
    ----------
    nodes : the results in the scene. regions : the lesions with their voxels, on the grid of the result.
    notes : sentences for the user, of the computation and of the scene.
    """

    nodes: SegmentationNodes
    regions: Regions
    notes: tuple[str, ...]


class BackgroundSegmentation(BackgroundRun):
    """One segmentation at a time, in a worker process; :meth:`finish` brings the result into the scene."""

    def __init__(self, worker: WorkerLike | None = None) -> None:
        super().__init__(worker)
        self._outputs: dict[str, Any] = {}
        self._channels: dict[str, Any] = {}
        self._around = Around()
        self._notes: tuple[str, ...] = ()

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
        XTLError : a volume that cannot be used, an output that would overwrite an input, or no room to hand the
            case over; the scene is as it was.
        """
        self._around, self._notes = around or Around(), ()
        check_apart(outputs, self._around.nodes(channels))
        case, self._channels = case_for(bundle_for("segmentation", bundle), channels, self._around)
        self._outputs = {name: node for name in OUTPUTS if (node := outputs.get(name)) is not None}
        options = {**self._around.options, **options}
        if self._around.tissue is not None:
            try:
                options["tissue"] = _tissue_volume(self._around.tissue)
            except InputError as error:  # the lesions are worth having without locations
                self._notes = (str(error),)
        self._begin(lambda worker: worker.segment(case, Path(bundle), **options), bundle)

    def finish(self, scene: Any) -> Finished:
        """Put the result into the scene: into the outputs of :meth:`start` that are still there, else into new nodes.

        Raises
        ------
        Cancelled : it was stopped, also when the result was there already.
        XTLError : it failed; :attr:`details` then has what the worker said. The scene is as it was.
        """
        result = self._result()
        channels = {name: node for name, node in self._channels.items() if node.GetScene() is scene}
        outputs = {role: node for role, node in self._outputs.items() if node.GetScene() is scene}
        gone = [node.GetName() for name, node in self._channels.items() if name not in channels]
        tissue = self._around.tissue
        if tissue is not None and tissue.GetScene() is not scene:
            gone.append(tissue.GetName())
            result = _without_locations(result)
        nodes = add_result(result, scene, channels, outputs, self._around)
        notes = (*result.notes, *self._notes, *scene_notes(gone, len(self._outputs) - len(outputs)))
        return Finished(nodes, regions_of(result.label, result.lesions), notes)

    def forget(self) -> None:
        """Let go of the volumes and nodes of the last run."""
        super().forget()
        self._outputs, self._channels, self._around = {}, {}, Around()
