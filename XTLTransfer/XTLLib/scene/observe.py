"""Noticing that somebody draws in a segmentation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .session import import_slicer


class SegmentObserver:
    """Watches one segmentation node at a time.

    Parameters
    ----------
    on_change : called without arguments after every change of a segment's content, however small.
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
            events = import_slicer().vtkSegmentation
            # The Segment Editor tells of strokes by the first two; its undo puts whole segments back.
            names = (events.SourceRepresentationModified, events.RepresentationModified, events.SegmentModified)
            self._tags = [node.AddObserver(name, self._changed) for name in names]

    def _changed(self, caller: Any, event: str) -> None:
        self._on_change()
