"""Lesions over time: which are new, which grow, which are gone.

The masks of two or more time points are brought into the space of the first, lesions that touch each other
across time are one lesion with a history, and its volumes say what became of it. What counts as a change is
a project choice (``ChangeRules``); there is no agreed one.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ..data.geometry import Grid
from ..data.prepare import above_background, foreground_scale
from ..data.registration import Registration, register_rigid
from ..data.volume import Volume, resample
from ..errors import InputError
from ..metrics.components import bounding_box, label_components
from ..progress import Progress

Status = Literal["new", "enlarging", "stable", "shrinking", "resolved"]
STATUSES: tuple[Status, ...] = ("new", "enlarging", "stable", "shrinking", "resolved")
CONNECTIVITY = 26
_LEAST_OVERLAP = 0.3  # of the first image's box, which a later one has to cover


@dataclass(frozen=True, eq=False)
class TimePoint:
    """One examination.

    Attributes
    ----------
    name : what to call it, for example the date or "month 12".
    mask : lesions, any value above 0, on its own grid.
    image : FLAIR, on its own grid; registered, and compared in brightness. None where there is none.
    """

    name: str
    mask: Volume
    image: Volume | None = None


@dataclass(frozen=True)
class ChangeRules:
    """What counts as a change. Every value is a project choice.

    Attributes
    ----------
    minimum_volume_mm3 : a lesion that is smaller at every time point is left out.
    relative : change of volume, as a share of the earlier volume, from which a lesion enlarges or shrinks.
    absolute_mm3 : change of volume that it takes at least.
    tolerance_mm : distance across which two lesions of different time points are still the same; covers
        what registration and partial volume leave.
    """

    minimum_volume_mm3: float = 3.0
    relative: float = 0.25
    absolute_mm3: float = 10.0
    tolerance_mm: float = 1.0

    def __post_init__(self) -> None:
        for name in ("minimum_volume_mm3", "relative", "absolute_mm3", "tolerance_mm"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} is {getattr(self, name)}", "Give 0 or more")

    def status(self, before_mm3: float, after_mm3: float) -> Status:
        """What became of a lesion between two time points. One that was never there is ``resolved``."""
        if after_mm3 == 0:
            return "resolved"
        if before_mm3 == 0:
            return "new"
        change = after_mm3 - before_mm3
        if abs(change) < max(self.absolute_mm3, self.relative * before_mm3):
            return "stable"
        return "enlarging" if change > 0 else "shrinking"


@dataclass(frozen=True)
class LesionHistory:
    """One lesion over time, one row of the table.

    Attributes
    ----------
    identifier : 1.. in the order new, enlarging, stable, shrinking, resolved, by volume within; the label maps' value.
    status : between the first and the last time point.
    statuses : between each time point and the next; "" where it is at neither.
    position_ras : (r, a, s) mm in the first time point's space, mean of the voxels at the last time point
        that has it.
    volumes_mm3 : at each time point, on the common grid; 0 where it is not.
    parts : number of connected components at each time point; more than 1 where lesions split or had not merged.
    brightness_change_sd : change of FLAIR brightness in the lesion between the first and the last time point,
        in SD of the head; None without images.
    """

    identifier: int
    status: Status
    statuses: tuple[str, ...]
    position_ras: tuple[float, float, float]
    volumes_mm3: tuple[float, ...]
    parts: tuple[int, ...]
    brightness_change_sd: float | None = None

    @property
    def change_mm3(self) -> float:
        """Last volume minus first."""
        return self.volumes_mm3[-1] - self.volumes_mm3[0]

    @property
    def change_percent(self) -> float:
        """Change over the first volume, in percent; NaN for a new lesion."""
        first = self.volumes_mm3[0]
        return 100.0 * self.change_mm3 / first if first > 0 else float("nan")


@dataclass(frozen=True, eq=False)
class LongitudinalResult:
    """Lesions over time.

    Attributes
    ----------
    names : of the time points. histories : the lesions.
    labels : per time point, int32 (K, J, I) on the common grid: a lesion's identifier, 0 elsewhere.
    status : uint8 on the common grid: 1 + place in ``STATUSES`` of the lesion; of a resolved one where it was.
    registrations : of the time points after the first; None where none was asked for.
    rules : what counted as a change.
    notes : what a reader has to know.
    """

    names: tuple[str, ...]
    histories: tuple[LesionHistory, ...]
    labels: tuple[Volume, ...]
    status: Volume
    registrations: tuple[Registration | None, ...]
    rules: ChangeRules
    notes: tuple[str, ...] = field(default=())

    def count(self, status: Status) -> int:
        """Number of lesions of a status."""
        return sum(history.status == status for history in self.histories)

    @property
    def total_volumes_mm3(self) -> tuple[float, ...]:
        """Lesion load at each time point."""
        return tuple(float(sum(h.volumes_mm3[n] for h in self.histories)) for n in range(len(self.names)))


def compare_over_time(
    time_points: Sequence[TimePoint],
    rules: ChangeRules | None = None,
    *,
    register: bool = True,
    progress: Progress | None = None,
) -> LongitudinalResult:
    """Follow the lesions of one patient over two or more time points.

    Parameters
    ----------
    time_points : in order of time; the common grid is that of the first one's image (or mask).
    register : bring each later image onto the first by a rigid registration; else the headers are trusted.

    Raises
    ------
    InputError : fewer than two time points, an image is missing that is to be registered, or a time point
        does not overlap the first.
    Cancelled : at the request of ``progress``.
    """
    rules, progress = rules or ChangeRules(), progress or Progress()
    points = list(time_points)
    if len(points) < 2:
        raise InputError(f"{len(points)} time point(s)", "Give two or more")
    if register and any(point.image is None for point in points):
        name = next(point.name for point in points if point.image is None)
        raise InputError(f"the time point {name} has no image to be registered", "Give its FLAIR, or do not register")
    registrations: list[Registration | None] = []
    for number, point in enumerate(points[1:], 1):
        part = progress.part(0.8 * (number - 1) / len(points), 0.8 * number / len(points))
        part.report(f"Registering {point.name}", 0.0)
        registrations.append(register_rigid(point.image, points[0].image, progress=part) if register else None)
    progress.report("Comparing lesions", 0.8)
    first = points[0].image or points[0].mask
    grid = first.grid
    masks, images = [], []
    for point, registration in zip(points, (None, *registrations)):
        move = registration.apply if registration is not None else lambda volume: volume
        image = None if point.image is None else move(point.image)
        mask = move(point.mask)
        if grid.overlap_with((image or mask).grid) < _LEAST_OVERLAP:
            raise InputError(
                f"the time point {point.name} does not overlap {points[0].name} in patient space",
                "Register the time points, or choose images of the same head",
            )
        masks.append(_on(mask, grid))
        images.append(None if image is None else _standardised(resample(image, grid).array))
    return _followed(points, masks, images, grid, tuple(registrations), rules)


def _on(mask: Volume, grid: Grid) -> np.ndarray:
    """Bool on the grid: where at least half of the voxel is lesion."""
    binary = Volume((mask.require_finite().array > 0).astype(np.float32), mask.grid, mask.name)
    return resample(binary, grid).array >= 0.5


def _standardised(array: np.ndarray) -> np.ndarray:
    head = above_background(array)
    mean, deviation = foreground_scale(array[head]) if head.any() else (0.0, 1.0)
    return ((array - mean) / deviation).astype(np.float32)


def _followed(points, masks, images, grid, registrations, rules) -> LongitudinalResult:
    box = bounding_box(np.logical_or.reduce(masks)) or tuple(slice(0, 1) for _ in range(3))
    components = [label_components(mask[box], CONNECTIVITY) for mask in masks]
    offsets = np.cumsum([0, *(count for _, count in components)])
    group = _groups(components, offsets, grid, rules.tolerance_mm)
    sizes = np.zeros((group.max() + 1 if group.size else 0, len(points)))
    parts = np.zeros(sizes.shape, dtype=int)
    for time, (labels, count) in enumerate(components):
        mine = group[offsets[time] : offsets[time + 1]]
        np.add.at(sizes[:, time], mine, np.bincount(labels.ravel(), minlength=count + 1)[1:])
        np.add.at(parts[:, time], mine, 1)
    volumes = sizes * grid.voxel_volume_mm3
    kept = np.flatnonzero((volumes * (1 + 1e-6) >= max(rules.minimum_volume_mm3, 1e-12)).any(axis=1))
    status = {n: rules.status(volumes[n, 0], volumes[n, -1]) for n in kept}
    kept = sorted(kept, key=lambda n: (STATUSES.index(status[n]), -volumes[n].max(), n))
    identifier = np.zeros(len(sizes) + 1, dtype=np.int32)  # the last one is for background
    identifier[kept] = np.arange(1, len(kept) + 1)
    maps = []
    for time, (labels, _) in enumerate(components):
        lookup = np.r_[np.int32(0), identifier[group[offsets[time] : offsets[time + 1]]]]
        full = np.zeros(grid.shape, dtype=np.int32)
        full[box] = lookup[labels]
        maps.append(full)
    code = np.array([0, *(1 + STATUSES.index(status[n]) for n in kept)], dtype=np.uint8)
    status_map = code[maps[-1]]
    for earlier in reversed(maps[:-1]):  # what is resolved is shown where it was last
        gone = (status_map == 0) & (code[earlier] == 1 + STATUSES.index("resolved"))
        status_map[gone] = code[earlier][gone]
    boxes = _boxes(maps, len(kept))
    histories = tuple(
        _history(number, status[n], volumes[n], parts[n], boxes[number - 1], maps, images, grid, rules)
        for number, n in enumerate(kept, start=1)
    )
    return LongitudinalResult(
        tuple(point.name for point in points),
        histories,
        tuple(Volume(array, grid, f"lesions {point.name}") for array, point in zip(maps, points)),
        Volume(status_map, grid, "lesion status"),
        registrations,
        rules,
    )


def _groups(components, offsets, grid: Grid, tolerance_mm: float) -> np.ndarray:
    """For each component of all time points, in order, the number of the lesion it is part of."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    total = int(offsets[-1])
    links: list[np.ndarray] = []
    shifts = _shifts_within(tolerance_mm, grid.spacing_mm[::-1])
    for (one, (a, a_count)), (other, (b, b_count)) in itertools.combinations(enumerate(components), 2):
        if not (a_count and b_count):
            continue
        for shift in shifts:
            here = a[tuple(slice(max(0, -d), n - max(0, d)) for d, n in zip(shift, a.shape))]
            there = b[tuple(slice(max(0, d), n - max(0, -d)) for d, n in zip(shift, a.shape))]
            both = (here > 0) & (there > 0)
            pairs = np.unique(np.stack([here[both], there[both]]), axis=1)
            links.append(pairs - 1 + np.array([[offsets[one]], [offsets[other]]]))
    rows, columns = np.concatenate(links, axis=1) if links else np.zeros((2, 0), dtype=int)
    graph = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(total, total))
    return connected_components(graph, directed=False)[1]


def _boxes(maps, count: int) -> list[tuple[slice, ...]]:
    """For each lesion the box that holds it at all time points."""
    from scipy.ndimage import find_objects

    found = [find_objects(labels, max_label=count) for labels in maps]
    boxes = []
    for parts in zip(*found):
        there = [part for part in parts if part is not None]
        boxes.append(tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*there)))
    return boxes


def _shifts_within(distance_mm: float, spacing_mm: tuple[float, ...]) -> list[tuple[int, ...]]:
    """Steps between voxels (k, j, i) that are no longer than a distance, the empty step among them."""
    reach = [int(distance_mm / s + 1e-6) for s in spacing_mm]
    steps = itertools.product(*(range(-n, n + 1) for n in reach))
    return [step for step in steps if np.linalg.norm(np.multiply(step, spacing_mm)) <= distance_mm + 1e-6]


def _history(number, status, volumes, parts, box, maps, images, grid: Grid, rules: ChangeRules) -> LesionHistory:
    last = max(time for time, volume in enumerate(volumes) if volume > 0)
    kji = np.argwhere(maps[last][box] == number) + [part.start for part in box]
    position = grid.index_to_ras(kji.mean(axis=0)[::-1])
    brightness = None
    if images[0] is not None and images[-1] is not None:
        everywhere = np.logical_or.reduce([labels[box] == number for labels in maps])
        brightness = float(images[-1][box][everywhere].mean() - images[0][box][everywhere].mean())
    steps = tuple(
        rules.status(before, after) if before > 0 or after > 0 else ""
        for before, after in itertools.pairwise(volumes.tolist())
    )
    return LesionHistory(
        number,
        status,
        steps,
        tuple(map(float, position)),
        tuple(map(float, volumes)),
        tuple(map(int, parts)),
        brightness,
    )
