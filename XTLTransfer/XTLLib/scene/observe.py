"""Noticing that somebody draws in a segmentation, or moves the points of a list."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .session import import_slicer


class NodeObserver:
    """Watches one node at a time.

    Parameters
    ----------
    on_change : called without arguments after every change.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._node: Any = None
        self._tags: list[int] = []

    def watch(self, node: Any) -> None:
        """Watch this node from now on; None watches none."""
        if node is self._node:
            return
        for tag in self._tags:
            self._node.RemoveObserver(tag)
        self._node, self._tags = node, []
        if node is not None:
            self._tags = [node.AddObserver(event, self._changed) for event in self._events()]

    def _events(self) -> tuple[Any, ...]:
        raise NotImplementedError

    def _changed(self, caller: Any, event: str) -> None:
        self._on_change()


class SegmentObserver(NodeObserver):
    """Tells of every change of a segment's content in a segmentation node, however small."""

    def _events(self) -> tuple[Any, ...]:
        events = import_slicer().vtkSegmentation
        # The Segment Editor tells of strokes by the first two; its undo puts whole segments back.
        return events.SourceRepresentationModified, events.RepresentationModified, events.SegmentModified


class PointObserver(NodeObserver):
    """Tells when points of a list are placed, moved, removed, named or described."""

    def _events(self) -> tuple[Any, ...]:
        slicer = import_slicer()
        events = slicer.vtkMRMLMarkupsNode
        moved = slicer.vtkMRMLTransformableNode.TransformModifiedEvent  # the whole list, by a transform above it
        return events.PointModifiedEvent, events.PointPositionDefinedEvent, events.PointRemovedEvent, moved
