"""What a user changed in a segmentation: a list that can be undone, kept as JSON, and laid over any threshold."""

from __future__ import annotations

import base64
import json
import math
import zlib
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ..data.geometry import Grid
from ..errors import InputError

Kind = Literal["add", "remove", "paint"]
_KINDS = ("add", "remove", "paint")
_VERSION = 1


def _none() -> np.ndarray:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class Edit:
    """One change of a segmentation.

    Attributes
    ----------
    kind : "add" grows a missed lesion from ``voxel``; "remove" takes the lesion around ``voxel`` away;
        "paint" is what was drawn and rubbed out by hand.
    voxel : flat index into the probability map; -1 for "paint".
    level : of "remove", the probability at which the lesion stood by itself.
    added, removed : of "paint", sorted flat indices.
    """

    kind: Kind
    voxel: int = -1
    level: float = 0.0
    added: np.ndarray = field(default_factory=_none)
    removed: np.ndarray = field(default_factory=_none)


@dataclass(frozen=True, eq=False)
class EditList:
    """Edits in the order in which they were made, and those that were undone, the latest first."""

    done: tuple[Edit, ...] = ()
    undone: tuple[Edit, ...] = ()

    def with_edit(self, edit: Edit) -> EditList:
        """One more edit; what was undone cannot be redone any more."""
        return EditList((*self.done, edit))

    def with_paint(self, paint: Edit | None) -> EditList:
        """The last edit, where that is a paint, replaced by this one; None leaves none."""
        before = self.done[:-1] if self.done and self.done[-1].kind == "paint" else self.done
        return EditList((*before, paint) if paint is not None else before)

    def undo(self) -> EditList:
        """Without the last edit; this list when there is none."""
        return EditList(self.done[:-1], (self.done[-1], *self.undone)) if self.done else self

    def redo(self) -> EditList:
        """With the edit that was undone last; this list when there is none."""
        return EditList((*self.done, self.undone[0]), self.undone[1:]) if self.undone else self


def edits_to_json(edits: EditList, grid: Grid) -> str:
    """The list as text that does not depend on the order of the grid's voxels; "" for an empty list.

    Clicks are kept as points (RAS mm), painted voxels together with the grid that they are counted on:
    files may come back with another order of the same voxels.

    Parameters
    ----------
    grid : of the probability map, in the map's own coordinates.
    """
    if not edits.done and not edits.undone:
        return ""
    return json.dumps(
        {
            "version": _VERSION,
            "shape": list(grid.shape),
            "ijk_to_ras": grid.ijk_to_ras.tolist(),
            "done": [_to_data(edit, grid) for edit in edits.done],
            "undone": [_to_data(edit, grid) for edit in edits.undone],
        },
        separators=(",", ":"),
    )


def edits_from_json(text: str, grid: Grid) -> EditList:
    """The list of :func:`edits_to_json`, on the grid that the probability map has now.

    Clicks and voxels outside of the grid are left out. Raises InputError for a text that is none of this kind.
    """
    if not text:
        return EditList()
    try:
        data = json.loads(text)
        if data["version"] != _VERSION:
            raise ValueError(f"version {data['version']}")
        stored = Grid(data["shape"], np.array(data["ijk_to_ras"], dtype=np.float64))
        if math.prod(stored.shape) != math.prod(grid.shape):  # what was painted is unpacked to that size
            raise ValueError("edits of another image")
        done, undone = ([_from_data(edit, stored, grid) for edit in data[key]] for key in ("done", "undone"))
    except (ArithmeticError, LookupError, RecursionError, ValueError, TypeError, zlib.error, InputError) as error:
        raise InputError(
            f"the edits that are stored in the scene cannot be read ({error})", "Press Apply to start without them"
        ) from error
    return EditList(tuple(filter(None, done)), tuple(filter(None, undone)))


def ijk_of(voxels: np.ndarray | int, grid: Grid) -> np.ndarray:
    """(..., 3) indices i, j, k of flat indices."""
    return np.stack(np.unravel_index(voxels, grid.shape)[::-1], axis=-1)


def voxel_at(ras: np.ndarray, grid: Grid) -> int | None:
    """The flat index of the voxel that holds a point (RAS mm); None outside of the grid."""
    i, j, k = np.rint(grid.ras_to_index(ras)).astype(int)
    inside = all(0 <= index < count for index, count in zip((k, j, i), grid.shape))
    return int(np.ravel_multi_index((k, j, i), grid.shape)) if inside else None


def _to_data(edit: Edit, grid: Grid) -> dict[str, Any]:
    if edit.kind == "paint":
        return {"kind": "paint", "added": _packed(edit.added), "removed": _packed(edit.removed)}
    ras = grid.index_to_ras(ijk_of(edit.voxel, grid))
    return {"kind": edit.kind, "ras": [round(float(x), 4) for x in ras], "level": edit.level}


def _from_data(data: dict[str, Any], stored: Grid, grid: Grid) -> Edit | None:
    if data["kind"] not in _KINDS:
        raise ValueError(f"an edit of the kind {data['kind']!r}")
    if data["kind"] == "paint":
        added, removed = (_moved(_unpacked(data[key], stored), stored, grid) for key in ("added", "removed"))
        return Edit("paint", added=added, removed=removed)
    ras = np.array(data["ras"], dtype=np.float64)
    if ras.shape != (3,) or not np.isfinite(ras).all():
        raise ValueError("a point without three coordinates")
    voxel = voxel_at(ras, grid)
    return None if voxel is None else Edit(data["kind"], voxel, float(data["level"]))


def _moved(voxels: np.ndarray, stored: Grid, grid: Grid) -> np.ndarray:
    if stored.matches(grid):
        return voxels
    ijk = np.rint(grid.ras_to_index(stored.index_to_ras(ijk_of(voxels, stored)))).astype(int)
    ijk = ijk[np.all((ijk >= 0) & (ijk < np.array(grid.shape[::-1])), axis=1)]
    return np.unique(np.ravel_multi_index(tuple(ijk.T[::-1]), grid.shape)).astype(np.int64)


def _packed(voxels: np.ndarray) -> str:
    steps = np.diff(voxels, prepend=0).astype("<i8")
    return base64.b64encode(zlib.compress(steps.tobytes())).decode("ascii")


def _unpacked(text: str, grid: Grid) -> np.ndarray:
    size = int(np.prod(grid.shape))
    raw = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), 8 * size + 8)
    voxels = np.cumsum(np.frombuffer(raw, "<i8"))
    if voxels.size and (voxels[0] < 0 or voxels[-1] >= size or (np.diff(voxels) <= 0).any()):
        raise ValueError("painted voxels that do not lie on the grid")
    return voxels.astype(np.int64)
