"""What a rating rests on: maps of the evidence around a finding, in patient space.

``grad-cam`` (Selvaraju et al., ICCV 2017, arXiv 1610.02391): the channels of the network's deepest stage, weighted by
the mean gradient of the logit and summed; negative sums are 0. In logits: where the stage is averaged before the
linear layer, the sum over its cells (before negative ones are dropped) is the logit without its bias. The map is as
coarse as the stage; each cell is shown where its receptive field has its middle (``networks.cell_places``).

``occlusion`` (Zeiler & Fergus, ECCV 2014, arXiv 1311.2901): how far the mean uncalibrated probability of the networks
falls when a box is set to the middle of its intensities; negative where it rises. Boxes are two cells wide in plane
and lie a cell apart, over the border too, and a cell's value is the mean over the four boxes that hold it. Channels of
another extent have boxes of their own, and their falls are added up.

Both show what the networks looked at, and not why, nor where a cancer ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from ..data.case import Case
from ..data.geometry import Grid
from ..data.patches import NEUTRAL, PatchSource, PatchSpec
from ..progress import Progress

if TYPE_CHECKING:
    from torch import Tensor

    from ..networks.classification import ClassificationNetwork

GRAD_CAM, OCCLUSION = "grad-cam", "occlusion"
EVIDENCE = (GRAD_CAM, OCCLUSION)
# Cells of an occlusion along (K, J, I), at most one a sample: of patches of one slice, and of several slices, which
# take a network longer (a project choice: ten seconds for five findings).
_CELLS_OF_A_SLICE, _CELLS_OF_SLICES = (1, 8, 8), (3, 5, 5)
_BOX_CELLS = (1, 2, 2)

Rate = Callable[[np.ndarray, int], np.ndarray]


@dataclass(frozen=True, eq=False)
class CellMap:
    """A coarse map over a patch.

    Attributes
    ----------
    values : float32 (D, H, W). first, step : along each axis cell n lies at the patch's sample ``first + n * step``.
    channels : indices of the patch's channels that it belongs to.
    """

    values: np.ndarray
    first: np.ndarray
    step: np.ndarray
    channels: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Explained:
    """What is to be explained: findings of a case, as one bundle sees them.

    Attributes
    ----------
    case, source, spec : of the patches. patches : float32 (N, C, K, J, I), unmoved.
    zones : int64 (N,), or None. networks : the members. rate : patches (n, C, K, J, I) of one finding and that
        finding's index -> the members' mean probability (n,).
    """

    case: Case
    source: PatchSource
    spec: PatchSpec
    patches: np.ndarray
    zones: np.ndarray | None
    networks: Sequence[ClassificationNetwork]
    rate: Rate


def evidence_maps(
    explained: Explained, kinds: Sequence[str], progress: Progress | None = None
) -> list[dict[str, np.ndarray]]:
    """For each finding, kind -> float32 (K, J, I) on the case's reference grid, 0 outside of the finding's patch."""
    progress = progress or Progress()
    found: list[dict[str, np.ndarray]] = [{} for _ in explained.patches]
    cams = _mean_cams(explained) if GRAD_CAM in kinds else None
    for index, maps in enumerate(found):
        progress.report("Mapping the evidence", index / len(found))
        if cams is not None:
            maps[GRAD_CAM] = _placed(explained, index, cams[index])
        if OCCLUSION in kinds:
            boxes = occlusion(
                lambda patches, index=index: explained.rate(patches, index),
                explained.patches[index],
                _extent_groups(explained.spec),
                NEUTRAL[explained.spec.intensity],
            )
            maps[OCCLUSION] = _placed(explained, index, boxes)
    return found


def grad_cam(network: ClassificationNetwork, patches: Tensor, zones: Tensor | None = None) -> list[list[CellMap]]:
    """For each of N patches (N, C, K, J, I) a map for each branch of the network, which is one unless it fuses late."""
    import torch

    from ..networks.branches import branches_of
    from ..networks.cell_places import deepest_cells

    branches = branches_of(network.backbone)
    seen: dict[int, tuple[tuple[int, ...], Tensor]] = {}  # branch -> shape of its input, its deepest stage

    def observe(number: int):
        return lambda _module, inputs, output: seen.__setitem__(number, (tuple(inputs[0].shape[2:]), output[-1]))

    hooks = [branch.register_forward_hook(observe(number)) for number, branch in enumerate(branches)]
    try:
        with torch.inference_mode(False), torch.enable_grad():
            logits = network(patches.clone().requires_grad_(True), zones)
            stages = [seen[number][1] for number in range(len(branches))]
            gradients = torch.autograd.grad(logits.sum(), stages)
    finally:
        for hook in hooks:
            hook.remove()
    maps: list[list[CellMap]] = [[] for _ in patches]
    groups = network.backbone.groups if len(branches) > 1 else (tuple(range(patches.shape[1])),)
    scale = np.array([1.0, network.input_scale, network.input_scale])
    for number, (branch, stage, gradient) in enumerate(zip(branches, stages, gradients)):
        places = deepest_cells(branch, seen[number][0])
        first, step = (np.array(places.first) + 0.5) / scale - 0.5, np.array(places.step) / scale
        cams = (gradient.mean(dim=(2, 3, 4), keepdim=True) * stage).sum(dim=1).relu().detach().float().cpu().numpy()
        for values, of_patch in zip(cams, maps):
            of_patch.append(CellMap(values, first, step, groups[number]))
    return maps


def occlusion(
    rate: Callable[[np.ndarray], np.ndarray],
    patch: np.ndarray,
    groups: Sequence[tuple[int, ...]],
    neutral: float,
) -> list[CellMap]:
    """A map for each group of channels of a patch (C, K, J, I): the fall of ``rate`` when a box of them is neutral."""
    shape = np.array(patch.shape[1:])
    counts = np.minimum(_CELLS_OF_A_SLICE if shape[0] == 1 else _CELLS_OF_SLICES, shape)
    boxes = [tuple(zip(*box)) for box in product(*(_boxes(*sizes) for sizes in zip(counts.tolist(), _BOX_CELLS)))]
    hidden = np.repeat(patch[None], 1 + len(groups) * len(boxes), axis=0)
    cell_of = [np.arange(n) * count // n for n, count in zip(shape, counts)]
    for number, (group, (low, high)) in enumerate(product(groups, boxes), start=1):
        inside = np.ix_(group, *((cells >= a) & (cells < b) for cells, a, b in zip(cell_of, low, high)))
        hidden[number][inside] = neutral
    probabilities = rate(hidden)
    falls = (probabilities[0] - probabilities[1:]).reshape(len(groups), len(boxes))
    step = shape / counts
    maps = []
    for group, of_group in zip(groups, falls):
        total, held = np.zeros(counts), np.zeros(counts)
        for (low, high), fall in zip(boxes, of_group):
            box = tuple(slice(a, b) for a, b in zip(low, high))
            total[box] += fall
            held[box] += 1
        maps.append(CellMap((total / held).astype(np.float32), (step - 1) / 2, step, group))
    return maps


def place(maps: Sequence[tuple[CellMap, Grid]], grid: Grid) -> np.ndarray:
    """The sum of maps, each with the grid of its patch's samples, at the voxels of ``grid``: float32 (K, J, I).

    Between cells values are interpolated linearly, beyond the outermost cells they go on as they are, and outside of
    the patch they are 0. A patch of one slice is as thick as its layer, or as the slices of ``grid``.
    """
    from scipy.ndimage import map_coordinates

    result = np.zeros(grid.shape, dtype=np.float32)
    last = np.array(grid.shape[::-1]) - 1
    for cells, lattice in maps:
        half = _half_layer(lattice, grid)
        ends = [(-0.5, n - 0.5) for n in lattice.shape[:0:-1]] + [(-half, lattice.shape[0] - 1 + half)]
        corners = grid.ras_to_index(lattice.index_to_ras(np.array(list(product(*ends)))))
        low = np.clip(np.floor(corners.min(0)), 0, last + 1).astype(int)
        high = np.clip(np.ceil(corners.max(0)), -1, last).astype(int)
        if (high < low).any():
            continue
        box = tuple(slice(a, b + 1) for a, b in zip(low[::-1], high[::-1]))
        kji = np.meshgrid(*(np.arange(part.start, part.stop) for part in box), indexing="ij")
        ijk = lattice.ras_to_index(grid.index_to_ras(np.stack(kji[::-1], axis=-1)))
        inside = np.all([(ijk[..., axis] >= a) & (ijk[..., axis] <= b) for axis, (a, b) in enumerate(ends)], axis=0)
        at = (ijk[inside][:, ::-1] - cells.first) / cells.step
        result[box][inside] += map_coordinates(cells.values, at.T, order=1, mode="nearest")
    return result


def _half_layer(lattice: Grid, grid: Grid) -> float:
    """Half the thickness of the lattice's outer layers, in layers: more than 0.5 only where there is but one."""
    if lattice.shape[0] > 1:
        return 0.5
    layer_mm = lattice.spacing_mm[2]
    normal = lattice.ijk_to_ras[:3, 2] / layer_mm
    return 0.5 * max(1.0, float(np.abs(normal @ grid.ijk_to_ras[:3, :3]).max()) / layer_mm)


def _boxes(count: int, width: int) -> list[tuple[int, int]]:
    """First cell and the one after the last of all boxes along an axis: each cell is in as many as a box is wide."""
    return [(max(0, last - width), min(last, count)) for last in range(1, count + width)]


def _extent_groups(spec: PatchSpec) -> list[tuple[int, ...]]:
    return [tuple(spec.channels.index(name) for name in group) for group in spec.groups]


def _mean_cams(explained: Explained) -> list[list[CellMap]]:
    """For each finding, the branches' maps, each the mean over the members."""
    import torch

    device = next(explained.networks[0].parameters()).device
    patches = torch.from_numpy(explained.patches).to(device)
    zones = None if explained.zones is None else torch.from_numpy(explained.zones).to(device)
    members = [grad_cam(network, patches, zones) for network in explained.networks]
    return [
        [
            CellMap(np.mean([cells.values for cells in same], axis=0), same[0].first, same[0].step, same[0].channels)
            for same in zip(*of_finding)
        ]
        for of_finding in zip(*members)
    ]


def _placed(explained: Explained, index: int, maps: Sequence[CellMap]) -> np.ndarray:
    """On the reference grid. A map of several extents (early fusion) is placed as the reference channel's."""
    spec, case = explained.spec, explained.case
    finding, parts = case.findings[index], []
    for cells in maps:
        names = [spec.channels[channel] for channel in cells.channels if spec.channels[channel] in case.channels]
        if names:
            name = spec.reference if spec.reference in names else names[0]
            parts.append((cells, explained.source.lattice(name, finding)))
    return place(parts, case.grid)
