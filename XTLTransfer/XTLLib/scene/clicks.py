"""A click in a view, with the means that every view has: a point that is placed and taken away again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .session import import_slicer

_ROLE = "XTL.Clicks"


class ClickTool:
    """Waits for clicks in the slice views.

    Parameters
    ----------
    on_click : called with the clicked point (r, a, s), mm, world.
    on_end : called when the mode ends by itself: the user pressed Escape or chose another mouse mode.
    """

    def __init__(self, on_click: Callable[[tuple[float, float, float]], None], on_end: Callable[[], None]) -> None:
        self._on_click, self._on_end = on_click, on_end
        self._node: Any = None
        self._observed: list[tuple[Any, int]] = []

    @property
    def is_active(self) -> bool:
        """Whether clicks are waited for."""
        return self._node is not None

    def start(self, scene: Any) -> None:
        """Take the next clicks in the views, until :meth:`stop`."""
        self.stop()
        slicer = import_slicer()
        node = scene.CreateNodeByClass("vtkMRMLMarkupsFiducialNode")
        node.UnRegister(None)
        node.SetName("XTL click")
        node.SetAttribute(_ROLE, "1")
        node.SetHideFromEditors(True)
        node.SetSaveWithScene(False)
        self._node = scene.AddNode(node)
        self._node.CreateDefaultDisplayNodes()
        self._node.GetDisplayNode().SetSaveWithScene(False)
        self._node.GetDisplayNode().SetPointLabelsVisibility(False)
        selection, interaction = _singletons(scene)
        selection.SetReferenceActivePlaceNodeClassName("vtkMRMLMarkupsFiducialNode")
        selection.SetActivePlaceNodeID(self._node.GetID())
        interaction.SwitchToPersistentPlaceMode()
        for observed, event, callback in (
            (self._node, slicer.vtkMRMLMarkupsNode.PointPositionDefinedEvent, self._placed),
            (interaction, interaction.InteractionModeChangedEvent, self._mode_changed),
        ):
            self._observed.append((observed, observed.AddObserver(event, callback)))

    def stop(self) -> None:
        """Give the mouse back to the views; nothing is left in the scene."""
        node, self._node = self._node, None
        for observed, tag in self._observed:
            observed.RemoveObserver(tag)
        self._observed.clear()
        scene = None if node is None else node.GetScene()
        if scene is None:  # it went with its scene
            return
        selection, interaction = _singletons(scene)
        selection.SetActivePlaceNodeID(None)
        interaction.SwitchToViewTransformMode()
        display = node.GetDisplayNode()
        scene.RemoveNode(node)
        if display is not None and display.GetScene() is scene:
            scene.RemoveNode(display)

    def _placed(self, caller: Any, event: str) -> None:
        node = self._node
        defined = import_slicer().vtkMRMLMarkupsNode.PositionDefined
        for index in reversed(range(node.GetNumberOfControlPoints())):
            if node.GetNthControlPointPositionStatus(index) == defined:
                position = [0.0, 0.0, 0.0]
                node.GetNthControlPointPositionWorld(index, position)
                node.RemoveNthControlPoint(index)
                self._on_click(tuple(position))
                return

    def _mode_changed(self, caller: Any, event: str) -> None:
        if self._node is not None and caller.GetCurrentInteractionMode() != caller.Place:
            self.stop()
            self._on_end()


def _singletons(scene: Any) -> tuple[Any, Any]:
    """The scene's selection and interaction nodes."""
    return tuple(scene.GetNodeByID(f"vtkMRML{kind}NodeSingleton") for kind in ("Selection", "Interaction"))
