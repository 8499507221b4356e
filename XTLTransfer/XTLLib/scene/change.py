"""Changes of the scene: output nodes, and several changes as one that leaves no new node behind when it fails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..errors import InputError
from .hierarchy import hierarchy_of
from .session import import_slicer


@contextmanager
def one_change(scene: Any) -> Iterator[None]:
    """Group all changes of the block; when it raises, the nodes that it added are removed again.

    Changes to nodes that were there before are not undone: prepare everything that can fail before
    the block.
    """
    state = import_slicer().vtkMRMLScene.BatchProcessState
    before = _node_ids(scene)
    scene.StartState(state)
    try:
        yield
    except BaseException:
        _remove_new_nodes(scene, before)
        raise
    finally:
        scene.EndState(state)


def check_output(node: Any, class_name: str) -> None:
    """Raise InputError unless ``node`` is None or of the class that an output needs."""
    if node is not None and not node.IsA(class_name):
        raise InputError(
            f"the node {node.GetName()} chosen as an output is a {node.GetClassName()}",
            f"Choose a {class_name} for it, or none to have a new one made",
        )


def check_apart(outputs: Mapping[str, Any], inputs: Iterable[Any]) -> None:
    """Raise InputError when a node is chosen for an output that is an input, or another output, too.

    Parameters
    ----------
    outputs : what it is for -> node or None. inputs : nodes or None, which the result must not overwrite.
    """
    taken = {node.GetID(): "an input" for node in inputs if node is not None}
    for name, node in outputs.items():
        if node is None:
            continue
        if (other := taken.setdefault(node.GetID(), f"the output {name}")) != f"the output {name}":
            raise InputError(
                f"the node {node.GetName()} is chosen as {other} and as the output {name}, which would overwrite it",
                "Choose another node for the output, or none to have a new one made",
            )


def output_node(node: Any, class_name: str, name: str, scene: Any) -> Any:
    """The given output node, checked, or a new one of that class and name."""
    check_output(node, class_name)
    return node if node is not None else scene.AddNewNodeByClass(class_name, name)


def remove_node(node: Any, scene: Any) -> None:
    """Take a node out of the scene, and its item out of the subject hierarchy."""
    hierarchy = hierarchy_of(scene)
    item = hierarchy.GetItemByDataNode(node)
    if item:
        hierarchy.RemoveItem(item, False, False)
    scene.RemoveNode(node)


def _node_ids(scene: Any) -> set[str]:
    return {scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())}


def _remove_new_nodes(scene: Any, before: set[str]) -> None:
    for node_id in sorted(_node_ids(scene) - before, reverse=True):
        node = scene.GetNodeByID(node_id)
        if node is not None:  # else it went together with the node that owned it
            remove_node(node, scene)
