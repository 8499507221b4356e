"""A case's channels in the scene, under a patient and a study: what a user would have loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..data.case import Case
from .change import one_change
from .hierarchy import add_study, place_under
from .nodes import label_to_node, volume_to_node
from .views import show_in_slice_views


@dataclass(frozen=True)
class CaseNodes:
    """The nodes of a case.

    Attributes
    ----------
    channels : channel name -> vtkMRMLScalarVolumeNode named as the channel.
    reference : the reference channel's node.
    mask : vtkMRMLLabelMapVolumeNode, None for a case without a mask.
    brain : vtkMRMLLabelMapVolumeNode of the brain mask, None for a case without one.
    """

    channels: dict[str, Any]
    reference: Any
    mask: Any = None
    brain: Any = None


def add_case(case: Case, scene: Any, study: str = "MRI", with_mask: bool = False) -> CaseNodes:
    """Put the channels of a case into the scene as volume nodes under its patient and a new study.

    Each channel keeps its own grid. The reference becomes the background of the slice views. A brain mask is
    added as a label map.

    Parameters
    ----------
    study : the name of the study item.
    with_mask : the case's mask, where it has one, is added as a label map as well.
    """
    with one_change(scene):
        channels = {name: volume_to_node(volume, name, scene) for name, volume in case.channels.items()}
        mask = None
        if with_mask and case.mask is not None:
            mask = label_to_node(case.mask, "reference mask", scene)
        brain = None
        if case.brain is not None:
            brain = label_to_node(case.brain, "brain mask", scene)
        nodes = [*channels.values(), *(node for node in (mask, brain) if node is not None)]
        place_under(scene, nodes, add_study(scene, case.patient, study))
        show_in_slice_views(scene, channels[case.reference])
    return CaseNodes(channels, channels[case.reference], mask, brain)
