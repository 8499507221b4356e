"""A segmentation result that answers: to sliders, to clicks, and to what is drawn in the Segment Editor.

Everything that the user did is in the parameter node (threshold, minimum volume, edits, chosen lesion) and
on the nodes themselves, so that a scene goes on where it was saved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..data.volume import Volume
from ..errors import InputError
from ..inference.edits import Edit, EditList, edits_from_json, edits_to_json
from ..inference.lesions import LesionFinder, Regions
from ..inference.replay import apply_edits, lesion_to_add, lesion_to_remove
from .highlight import hide_highlight, highlight
from .lesion_measures import LesionMeasures
from .nodes import grid_of_node
from .observe import SegmentObserver
from .refresh import ResultNodes
from .segmentation import EDITS, MINIMUM_VOLUME, PROBABILITY_ROLE, THRESHOLD
from .session import import_slicer
from .views import centre_slice_views


class InteractiveLesions:
    """Keeps the result that a parameter node names in step with the parameter node.

    Parameters
    ----------
    on_drawn : called, often several times in a row, when somebody may have drawn in the segment, or the lesions
        changed; the owner calls :meth:`take_in` and :meth:`locate` a moment after the last call.
    keeps_surface : a surface that is shown for the parameter ``show3d`` stays as it was after :meth:`refresh`, and the
        owner makes it anew. Else it follows at once.
    """

    def __init__(self, on_drawn: Callable[[], None], keeps_surface: bool = False) -> None:
        self._keeps_surface = keeps_surface
        self._observer = SegmentObserver(on_drawn)
        self._on_drawn = on_drawn
        self._parameters: Any = None
        self._forget()

    def attach(self, parameters: Any) -> None:
        """Serve this parameter node: its settings, edits, chosen lesion, tissue segmentation and outputs."""
        self._parameters = parameters
        self._forget()
        self._nodes_now()

    def release(self) -> None:
        """Let go of the scene: it is being closed, or the panel is."""
        self._parameters = None
        self._forget()
        self._observer.watch(None)

    @property
    def is_live(self) -> bool:
        """Whether there is a result whose probability map is still in the scene."""
        return self._nodes_now() is not None

    @property
    def bundle_name(self) -> str:
        """What the result was computed with; "" without a result."""
        nodes = self._nodes_now()
        return "" if nodes is None else nodes.probability.GetAttribute("XTL.Bundle") or ""

    @property
    def lesions(self) -> tuple:
        """The lesions that are shown now."""
        return () if self._nodes_now() is None else self._shown().lesions

    @property
    def can_undo(self) -> bool:
        """Whether there is an edit to take back."""
        return self.is_live and bool(self._edits().done)

    @property
    def can_redo(self) -> bool:
        """Whether there is an edit that was taken back."""
        return self.is_live and bool(self._edits().undone)

    def begin(self, regions: Regions) -> None:
        """A new result has come: edits of the one before are set aside, where :meth:`redo` finds them.

        Parameters
        ----------
        regions : the lesions that the nodes show, so that nobody has to look for them in the map again.
        """
        self._forget()
        nodes = self._nodes_now(with_edits=False)
        if nodes is None:
            return
        if self._parameters.tissue is not None and all(lesion.location for lesion in regions.lesions):
            self._measures.take(regions, nodes.grid, self._parameters.tissue)
        self._known = self._measured(regions)
        if not self._parameters.edits:
            return
        try:
            edits = self._edits()
        except InputError:
            edits = EditList()
        self._keep(EditList((), (*edits.done, *edits.undone)))

    def refresh(self) -> bool:
        """Show what the parameters say now; False when nothing had to change. InputError for unreadable edits."""
        nodes = self._nodes_now()
        if nodes is None or self._wanted == self._wish():
            return False
        self.take_in()
        self._wanted = self._wish()
        before, (threshold, minimum, *_) = self._shown(), self._wanted
        regions = self._measured(self._regions(threshold, minimum, self._edits()))
        nodes.show(regions, threshold, minimum, keep_surface=self._keeps_surface and self._parameters.show3d)
        nodes.segmentation.SetAttribute(EDITS, self._parameters.edits)
        self._known = regions
        self._follow_chosen(before)
        self._ask_for_locations()
        return True

    def locate(self) -> bool:
        """Find out where the lesions lie, where a tissue segmentation is chosen; False when that is known.

        It takes some tenths of a second on a large map: a call does a piece of it, and asks the owner for another one.
        Raises InputError for a tissue segmentation that cannot be used.
        """
        nodes = self._nodes_now()
        if nodes is None or not self._measures.is_due(self._shown(), self._parameters.tissue):
            return False
        grid = grid_of_node(nodes.probability)
        try:
            located = self._measures.located(self._shown(), grid, self._parameters.tissue)
        except InputError:
            self._known = self._measured(self._shown())
            nodes.show_table(self._known)
            raise
        if located is None:
            self._on_drawn()
        else:
            self._known = located
            nodes.show_table(located)
        return True

    def hold(self) -> None:
        """Let the parameters change without the result: they are about another one."""
        self._wanted = self._wish()

    def take_in(self) -> bool:
        """Bring what was drawn in the segment into the table, the label map and the edits; False when it is nothing.

        The segment itself is left alone, and with it the Segment Editor's own undo: what is undone there
        is taken in like any other change.
        """
        nodes = self._nodes_now()
        if nodes is None or not nodes.is_segment_changed:
            return False
        drawn = nodes.drawn_voxels()
        before = self._shown()
        nodes.remember_segment()
        if drawn is None or np.array_equal(drawn, np.sort(before.voxels)):
            return False
        edits = self._edits()
        without = edits.with_paint(None)
        base = np.sort(self._regions(*self._settings(), without).voxels)
        added = np.setdiff1d(drawn, base, assume_unique=True)
        removed = np.setdiff1d(base, drawn, assume_unique=True)
        is_drawn = added.size + removed.size > 0
        self._known = self._measured(self._finder().measure(drawn))
        nodes.show(self._known, *self._settings(), with_segment=False)
        self._keep(edits.with_paint(Edit("paint", added=added, removed=removed) if is_drawn else None))
        self._follow_chosen(before)
        self._ask_for_locations()
        return True

    def add_at(self, ras: Sequence[float]) -> None:
        """Grow a missed lesion at a point (RAS mm, world). Raises InputError where none can be grown."""
        self._edit(lambda: lesion_to_add(self._finder(), self._shown(), ras))

    def remove_at(self, ras: Sequence[float]) -> None:
        """Remove the lesion at a point (RAS mm, world). Raises InputError where there is none."""
        self._edit(lambda: lesion_to_remove(self._finder(), self._shown(), self._settings()[0], ras))

    def undo(self) -> None:
        """Take the last edit back."""
        self.take_in()
        self._parameters.edits = self._as_text(self._edits().undo())
        self.refresh()

    def redo(self) -> None:
        """Make the edit again that was taken back last."""
        self.take_in()
        self._parameters.edits = self._as_text(self._edits().redo())
        self.refresh()

    def choose(self, identifier: int) -> None:
        """Centre the slice views on a lesion and outline it; 0 outlines none."""
        nodes = self._nodes_now()
        if nodes is None:
            return
        regions = self._shown()
        lesion = next((lesion for lesion in regions.lesions if lesion.identifier == identifier), None)
        if self._parameters.lesion != (lesion.identifier if lesion else 0):
            self._parameters.lesion = lesion.identifier if lesion else 0
        if lesion is not None:
            centre_slice_views(nodes.probability.GetScene(), lesion.position_ras)
        self._outline(regions)

    def show_chosen(self) -> None:
        """Outline the lesion that the parameters name, where the scene was just opened; the views stay."""
        if self._nodes_now() is not None and self._parameters.lesion:
            self._outline(self._shown())

    def _edit(self, make: Callable[[], Edit]) -> None:
        if not self.is_live:
            return
        self.take_in()
        self._parameters.edits = self._as_text(self._edits().with_edit(make()))
        self.refresh()

    def _keep(self, edits: EditList) -> None:
        """Store edits that the nodes show already."""
        text = self._as_text(edits)
        self._nodes.segmentation.SetAttribute(EDITS, text)
        self._wanted = (*self._wish()[:2], text, *self._wish()[3:])
        if self._parameters.edits != text:
            self._parameters.edits = text

    def _follow_chosen(self, before: Regions) -> None:
        """Keep the chosen lesion chosen under its new number, where the lesions are numbered anew."""
        if not self._parameters.lesion:
            return
        after = self._known
        hits = after.identifier[np.isin(after.voxels, before.of(self._parameters.lesion))]
        chosen = int(np.argmax(np.bincount(hits))) if hits.size else 0
        if chosen != self._parameters.lesion:
            self._parameters.lesion = chosen
        self._outline(after)

    def _outline(self, regions: Regions) -> None:
        nodes, chosen = self._nodes, self._parameters.lesion
        voxels = regions.of(chosen) if chosen else np.zeros(0, np.int64)
        if voxels.size:
            highlight(nodes.probability, voxels, nodes.grid)
        else:
            hide_highlight(nodes.probability.GetScene())

    def _wish(self) -> tuple[float, float, str, Any]:
        parameters = self._parameters
        return parameters.threshold, parameters.minimumVolume, parameters.edits, parameters.tissue

    def _settings(self) -> tuple[float, float]:
        """Threshold and minimum volume of what the nodes show."""
        segmentation = self._nodes.segmentation
        return float(segmentation.GetAttribute(THRESHOLD)), float(segmentation.GetAttribute(MINIMUM_VOLUME))

    def _edits(self) -> EditList:
        text = self._parameters.edits
        if self._read is None or self._read[0] != text:
            self._read = (text, edits_from_json(text, self._nodes.grid))
        return self._read[1]

    def _as_text(self, edits: EditList) -> str:
        text = edits_to_json(edits, self._nodes.grid)
        self._read = (text, edits)
        return text

    def _shown(self) -> Regions:
        if self._known is None:
            self._known = self._measured(self._regions(*self._settings(), self._edits()))
        return self._known

    def _measured(self, regions: Regions) -> Regions:
        return self._measures.of(regions, self._nodes, self._parameters.uncertainty, self._parameters.tissue)

    def _ask_for_locations(self) -> None:
        if self._measures.is_due(self._known, self._parameters.tissue):
            self._on_drawn()

    def _regions(self, threshold: float, minimum_volume_mm3: float, edits: EditList) -> Regions:
        finder = self._finder()
        return apply_edits(finder, finder.find(threshold, minimum_volume_mm3), edits.done)

    def _finder(self) -> LesionFinder:
        """Of the probability map as it is now."""
        node = self._nodes.probability
        grid = grid_of_node(node)
        key = (node.GetID(), node.GetImageData().GetPointData().GetScalars().GetMTime(), grid.ijk_to_ras.tobytes())
        if self._found is None or self._found[0] != key:
            array = import_slicer().util.arrayFromVolume(node)
            self._found = (key, LesionFinder(Volume(array, grid, node.GetName())))
        return self._found[1]

    def _nodes_now(self, with_edits: bool = True) -> ResultNodes | None:
        """The nodes that the parameters name, where they are all there and belong together."""
        four = _nodes_of(self._parameters)
        if four is None:
            self._nodes = self._known = None
            self._observer.watch(None)
            return None
        if self._nodes is None or self._nodes.all() != four:
            self._nodes, self._known, self._measures = ResultNodes(*four), None, LesionMeasures()
            stored = four[0].GetAttribute(EDITS)
            if with_edits and stored is not None and stored != self._parameters.edits:
                self._parameters.edits = stored  # another result was chosen: its own edits
            self._wanted = self._wish()
            self._observer.watch(four[0])
        return self._nodes

    def _forget(self) -> None:
        self._nodes: ResultNodes | None = None
        self._known: Regions | None = None
        self._found: tuple[tuple, LesionFinder] | None = None
        self._read: tuple[str, EditList] | None = None
        self._wanted: tuple[float, float, str, Any] | None = None
        self._measures = LesionMeasures()


def _nodes_of(parameters: Any) -> tuple | None:
    if parameters is None:
        return None
    four = (parameters.segmentation, parameters.labelMap, parameters.probability, parameters.table)
    if any(node is None or node.GetScene() is None for node in four):
        return None
    segmentation, label, probability, table = four
    if any(node.GetNodeReference(PROBABILITY_ROLE) is not probability for node in (segmentation, label, table)):
        return None
    image = probability.GetImageData()
    known = segmentation.GetAttribute(THRESHOLD) and segmentation.GetAttribute(MINIMUM_VOLUME)
    return four if known and image is not None and image.GetPointData().GetScalars() is not None else None
