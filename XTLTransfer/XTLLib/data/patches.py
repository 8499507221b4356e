"""Patches around findings: what a classification network sees."""

from __future__ import annotations

import copy
import functools
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace

import numpy as np

from ..errors import InputError
from .case import Case, Finding
from .datalist import Datalist, Entry
from .geometry import Grid
from .kept import KeptArrays
from .patch_jitter import PatchJitter, PatchMotion
from .prepare import above_background, foreground_scale, standardised
from .stored_patches import load_stored_patch, state_of
from .volume import Volume

# intensity -> the middle of its range, which stands for a channel that is missing
NEUTRAL = {"rank": 0.5, "robust": 0.0}
INTENSITIES = tuple(NEUTRAL)
MISSING = ("refuse", "neutral")
_MOST_SAMPLES = 8
_ROUNDING = 1e-6
_KEPT = KeptArrays(128 * 2**20)  # the runs of a study ask one process for the same patches again and again


@dataclass(frozen=True)
class PatchSpec:
    """How a finding becomes a network's input; travels with the bundle so that use equals training.

    Attributes
    ----------
    channels : names in the order of the network's input channels.
    shape : (K, J, I) samples; K runs to superior, J to posterior, I to left.
    size_mm : channel -> extent (x, y, z) in mm along the reference's axes nearest to L, P, S. Channels
        may differ: a wide view of diffusion beside a narrow one of anatomy.
    intensity : "rank", the fraction (0..1) of the volume's voxels that are not brighter; or "robust",
        about zero mean and unit SD in the foreground (prepare.foreground_scale).
    reference : the channel whose axes orient the patch.
    missing : what becomes of a case that lacks a channel other than the reference: "refuse", or "neutral": the
        channel is the middle of its intensities everywhere, which only a network that has met it can make sense of.
    """

    channels: tuple[str, ...]
    shape: tuple[int, int, int]
    size_mm: Mapping[str, tuple[float, float, float]]
    intensity: str = "rank"
    reference: str = "T2W"
    missing: str = "refuse"

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        sizes = {name: tuple(float(mm) for mm in size) for name, size in self.size_mm.items()}
        object.__setattr__(self, "size_mm", sizes)
        if self.reference not in self.channels:
            raise InputError(
                f"the patch's reference {self.reference} is not among its channels ({', '.join(self.channels)})",
                "Name one of the channels as the reference",
            )
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise InputError(f"the patch's shape is {self.shape}", "Give three counts (K, J, I) of at least 1")
        for name in self.channels:
            if len(sizes.get(name, ())) != 3 or min(sizes[name]) <= 0:
                raise InputError(f"the patch's size_mm for {name} is {sizes.get(name)}", "Give three extents in mm")
        if self.intensity not in INTENSITIES:
            raise InputError(f"the patch's intensity is {self.intensity}", f"Use one of: {', '.join(INTENSITIES)}")
        if self.missing not in MISSING:
            raise InputError(f"the patch's missing is {self.missing}", f"Use one of: {', '.join(MISSING)}")

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The channels that show the same extent, group by group: what late fusion gives one branch each."""
        groups: dict[tuple[float, ...], list[str]] = {}
        for name in self.channels:
            groups.setdefault(tuple(self.size_mm[name]), []).append(name)
        return tuple(tuple(group) for group in groups.values())

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, values: Mapping) -> PatchSpec:
        """The inverse of ``to_dict``. Raises InputError for missing or unknown keys."""
        names = {field.name for field in fields(cls)}
        # Bundles of before have no word on missing channels: they refuse.
        wrong = sorted({"missing", *values} ^ names)
        if wrong:
            problem = "has the unknown key" if wrong[0] in values else "lacks the key"
            raise InputError(f"the patch description {problem} {wrong[0]}", f"Its keys are: {', '.join(sorted(names))}")
        return cls(**values)


@dataclass(frozen=True, eq=False)
class Patch:
    """A patch that was cut.

    Attributes
    ----------
    array : float32 (C, K, J, I).
    outside : channel -> share (0..1) of the patch that lies outside of its volume, where the edge is repeated;
        channels that lie inside are left out.
    missing : channels that the case lacks, neutral in ``array``.
    warnings : the same, in words.
    """

    array: np.ndarray
    outside: Mapping[str, float]
    missing: tuple[str, ...]
    warnings: tuple[str, ...]


class PatchSource:
    """A case made ready for many patches: what costs the whole volume is done once, at the first patch.

    Raises InputError when a channel is missing (and the spec refuses that), holds NaN or does not overlap the
    reference, or the reference has axes that are not at right angles.
    """

    def __init__(self, case: Case, spec: PatchSpec) -> None:
        optional = tuple(name for name in spec.channels if name != spec.reference) if spec.missing == "neutral" else ()
        case.require_channels(spec.channels, optional)
        self._case = case
        self._spec = spec
        grid = case.channels[spec.reference].require_right_angles().grid.along_lps()
        self._axes = grid.ijk_to_ras[:3, :3] / np.array(grid.spacing_mm)
        self._intensities = {}

    def patch(self, finding: Finding, motion: PatchMotion | None = None) -> np.ndarray:
        """float32 (C, K, J, I) centred on the finding; see extract_patch."""
        return self.cut(finding, motion).array

    def cut(self, finding: Finding, motion: PatchMotion | None = None) -> Patch:
        """The patch of a finding with what there is to say about it; see extract_patch.

        Parameters
        ----------
        motion : of the image around the finding before it is sampled (see patch_jitter). Patches of one slice move
            in its plane only.
        """
        array = np.full((len(self._spec.channels), *self._spec.shape), NEUTRAL[self._spec.intensity], np.float32)
        outside, missing, warnings = {}, [], []
        for channel, name in zip(array, self._spec.channels):
            if name not in self._case.channels:
                missing.append(name)
                warnings.append(f"finding {finding.identifier}: without {name}")
                continue
            channel[...], share = self._channel(name, finding, motion)
            if share > 0:
                outside[name] = share
                words = "less than 1 %" if share < 0.01 else f"{100 * share:.0f} %"
                warnings.append(f"finding {finding.identifier}: {words} of its patch lie outside the {name} image")
        return Patch(array, outside, tuple(missing), tuple(warnings))

    def around(self, finding: Finding, jitter: PatchJitter) -> PatchSource:
        """A source for this finding alone, which holds no more of the images than patches moved by ``jitter`` show.

        Its patches are those of this source; its images are the network's intensities in float32, some hundred KiB.
        """
        channels = {}
        for name in (name for name in self._spec.channels if name in self._case.channels):
            volume, reach = self._case.channels[name], jitter.reach_mm(self._spec.size_mm[name])
            if self._spec.shape[0] == 1:
                reach[2] = 0
            corners = finding.position_ras + np.array(list(itertools.product(*zip(-reach, reach)))) @ self._axes.T
            ijk, last = volume.grid.ras_to_index(corners), np.array(volume.grid.shape[::-1]) - 1
            # A voxel more: a patch of one slice moves onto the nearest one, and sampling is linear.
            lows = np.clip(np.floor(ijk.min(0)).astype(int) - 1, 0, last)
            highs = np.clip(np.ceil(ijk.max(0)).astype(int) + 1, 0, last)
            box = tuple(slice(low, high + 1) for low, high in zip(lows[::-1], highs[::-1]))
            values = self._intensity(name)(volume.array[box]).astype(np.float32)
            affine = volume.grid.ijk_to_ras.copy()
            affine[:3, 3] = volume.grid.index_to_ras(lows)
            channels[name] = Volume(values, Grid(values.shape, affine), volume.name)
        part = copy.copy(self)
        part._case = replace(self._case, channels=channels, reference=self._spec.reference)
        part._intensities = dict.fromkeys(channels, np.asarray)
        return part

    def lattice(self, name: str, finding: Finding) -> Grid:
        """Where the samples of a channel's unmoved patch lie: array[k, j, i] of the patch is a voxel of this grid.

        The one layer of a patch of one slice is as thick as its extent or the volume's slices, whichever is thicker.
        """
        volume, size_mm = self._case.channels[name], self._spec.size_mm[name]
        ijk, blocks = self._sample_points(volume.grid, np.asarray(finding.position_ras, dtype=float), size_mm, None)
        samples = volume.grid.index_to_ras(ijk).reshape(*blocks, 3).mean(axis=(1, 3, 5))
        steps = self._axes * size_mm / np.array(self._spec.shape[::-1])
        for column, axis in enumerate((2, 1, 0)):  # i, j, k
            if samples.shape[axis] > 1:
                steps[:, column] = (samples.take(-1, axis) - samples.take(0, axis)).reshape(-1, 3)[0]
                steps[:, column] /= samples.shape[axis] - 1
        if self._spec.shape[0] == 1:
            slice_mm = volume.grid.spacing_mm[self._slice_axis(volume.grid)]
            steps[:, 2] = self._axes[:, 2] * max(size_mm[2], slice_mm)
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = steps, samples[0, 0, 0]
        return Grid(self._spec.shape, affine)

    def _channel(self, name: str, finding: Finding, motion: PatchMotion | None) -> tuple[np.ndarray, float]:
        """float32 (K, J, I), and the share of its samples that lie outside the volume."""
        from scipy.ndimage import map_coordinates

        volume = self._case.channels[name]
        centre = np.asarray(finding.position_ras, dtype=float)
        if not volume.grid.contains(centre):
            at = ", ".join(f"{mm:.1f}" for mm in centre)
            raise InputError(
                f"the finding {finding.identifier} at ({at}) mm RAS lies outside {volume.name} ({name})",
                "Check the finding's position (RAS or LPS, mm) and that it belongs to this patient",
            )
        ijk, blocks = self._sample_points(volume.grid, centre, self._spec.size_mm[name], motion)
        last = np.array(volume.grid.shape[::-1]) - 1
        lows = np.clip(np.floor(ijk.reshape(-1, 3).min(0)).astype(int), 0, last)
        highs = np.clip(np.ceil(ijk.reshape(-1, 3).max(0)).astype(int), 0, last)
        box = tuple(slice(low, high + 1) for low, high in zip(lows[::-1], highs[::-1]))
        values = self._intensity(name)(volume.array[box])
        coordinates = np.moveaxis((ijk - lows)[..., ::-1], -1, 0)
        # Samples beyond the volume repeat its edge: a finding near the last slice still has a whole patch.
        fine = map_coordinates(values, coordinates, order=1, mode="nearest")
        patch = fine.reshape(blocks).mean(axis=(1, 3, 5)).astype(np.float32)
        if float(np.ptp(patch)) < 1e-6:
            raise InputError(
                f"{volume.name} ({name}) is constant around the finding {finding.identifier}",
                "Check the finding's position and the image",
            )
        beyond = (ijk < -0.5 - _ROUNDING) | (ijk > last + 0.5 + _ROUNDING)
        return patch, float(beyond.any(axis=-1).mean())

    def _intensity(self, name: str) -> Callable[[np.ndarray], np.ndarray]:
        """From values of a channel's volume to the network's intensities."""
        if name not in self._intensities:
            self._intensities[name] = _intensity_map(self._case.channels[name], self._spec.intensity)
        return self._intensities[name]

    def _sample_points(
        self, grid: Grid, centre: np.ndarray, size_mm: tuple[float, float, float], motion: PatchMotion | None
    ) -> tuple[np.ndarray, tuple[int, ...]]:
        """Voxel indices (K', J', I', 3) to sample, and the shape that gathers K', J', I' into blocks.

        A patch that is coarser than the volume averages several samples a voxel, against aliasing.
        """
        k, j, i = self._spec.shape
        steps = np.array(size_mm) / (i, j, k)
        voxels_a_step = np.linalg.inv(grid.ijk_to_ras[:3, :3]) @ self._axes * steps
        if k == 1 and motion is None and _are_voxels(voxels_a_step[:, :2]):
            return self._voxels_around(grid, centre, np.round(voxels_a_step[:, :2])), (1, 1, j, 1, i, 1)
        factors = np.clip(np.round(np.linalg.norm(voxels_a_step, axis=0)), 1, _MOST_SAMPLES).astype(int)
        if k == 1:
            factors[2] = 1  # a patch of one slice is one slice of the image
        counts = np.array((i, j, k)) * factors
        x, y, z = (
            (np.arange(count) - (count - 1) / 2) * step / factor for count, step, factor in zip(counts, steps, factors)
        )
        zyx = np.meshgrid(z, y, x, indexing="ij")
        offsets = np.stack(zyx[::-1], axis=-1)
        if motion is not None:
            offsets = motion.sources(offsets)
            if k == 1:
                offsets[..., 2] = 0
        ijk = grid.ras_to_index(centre + offsets @ self._axes.T)
        if k == 1:
            ijk += self._shift_to_slice(grid, centre)
        return ijk, (k, factors[2], j, factors[1], i, factors[0])

    def _voxels_around(self, grid: Grid, centre: np.ndarray, moves: np.ndarray) -> np.ndarray:
        """Whole voxel indices (1, J, I, 3): the finding's voxel stands in row (J - 1) // 2, column I // 2.

        That is the convention of the prostatex-patches set, so that a network trained on the set sees
        the same pixels when it is applied to images.
        """
        _, j, i = self._spec.shape
        rows, columns = np.meshgrid(np.arange(j) - (j - 1) // 2, np.arange(i) - i // 2, indexing="ij")
        home = np.round(grid.ras_to_index(centre))
        return (home + np.stack([columns, rows], axis=-1) @ moves.T)[None]

    def _shift_to_slice(self, grid: Grid, centre: np.ndarray) -> np.ndarray:
        """The move (di, dj, dk) of the centre onto the nearest slice of this volume."""
        axis = self._slice_axis(grid)
        shift = np.zeros(3)
        index = grid.ras_to_index(centre)[axis]
        shift[axis] = round(float(index)) - index
        return shift

    def _slice_axis(self, grid: Grid) -> int:
        """The axis (i = 0, j = 1, k = 2) of a volume that runs nearest to the patch's z."""
        directions = grid.ijk_to_ras[:3, :3] / np.array(grid.spacing_mm)
        return int(np.argmax(np.abs(directions.T @ self._axes[:, 2])))


def _are_voxels(voxels_a_step: np.ndarray) -> bool:
    """Whether each step goes from one voxel to a neighbour along a voxel axis, within 1 %."""
    whole = np.round(voxels_a_step)
    return bool(np.abs(voxels_a_step - whole).max() <= 0.01 and (np.abs(whole).sum(axis=0) == 1).all())


def extract_patch(case: Case, finding: Finding, spec: PatchSpec, prepared: PatchSource | None = None) -> np.ndarray:
    """The patch of a finding, sampled linearly in patient space: float32 (C, K, J, I).

    The patch's axes are those of the reference channel nearest to L, P, S, for every channel. Beyond a
    volume's border its edge repeats. A patch of one slice (K = 1) is taken in the slice of each volume
    that lies nearest to the finding; where its pixels are as large as the volume's, they are cut out
    and not interpolated, and the finding's voxel stands in row (J - 1) // 2, column I // 2.

    Parameters
    ----------
    prepared : the PatchSource of this case and spec, when several findings are asked for.

    Raises
    ------
    InputError : the finding lies outside a channel's field of view, or a channel is constant around it.
    """
    return (prepared or PatchSource(case, spec)).patch(finding)


def load_patch(entry: Entry, datalist: Datalist, spec: PatchSpec, motion: PatchMotion | None = None) -> np.ndarray:
    """The patch of a datalist's entry: float32 (C, K, J, I), from a patch file or from its volumes; moved on request.

    A channel that a patch file lacks for this finding is constant 0.5, the middle of the rank range.
    """
    if entry.row is not None:
        return load_stored_patch(entry, spec, motion)
    if motion is not None:
        return source_of(entry, datalist, spec).patch(entry.finding, motion)
    case = _key_of_source(entry, datalist, spec)
    key = (*case, *map(float, entry.finding.position_ras))
    return _KEPT.get(key, lambda: _source(*case).patch(entry.finding)).copy()


def source_of(entry: Entry, datalist: Datalist, spec: PatchSpec) -> PatchSource:
    """The source of the patches of an entry with volumes; the latest cases stay in memory."""
    return _source(*_key_of_source(entry, datalist, spec))


def _key_of_source(entry: Entry, datalist: Datalist, spec: PatchSpec) -> tuple:
    """What the source of an entry's patches depends on: files as they are, reference, description."""
    if entry.finding is None:
        raise InputError(f"the case {entry.case} of the datalist {datalist.name} has no finding", "Give its position")
    wanted = {*spec.channels, datalist.reference}
    needed = tuple((name, path, state_of(path)) for name, path in entry.images.items() if name in wanted)
    return needed, datalist.reference, json.dumps(spec.to_dict())


@functools.lru_cache(maxsize=2)
def _source(images: tuple[tuple[str, str, int], ...], reference: str, spec: str) -> PatchSource:
    """The latest cases stay in memory: findings of one patient follow each other in a datalist."""
    from .images import read_image

    channels = {name: read_image(path) for name, path, _ in images}
    return PatchSource(Case("", channels, reference), PatchSpec.from_dict(json.loads(spec)))


def _intensity_map(volume: Volume, kind: str):
    """A function from values of the volume to the network's intensities."""
    if kind == "rank" and volume.array.dtype.kind in "iu" and volume.array.dtype.itemsize <= 2:
        # Most scans are stored in 16 bits: counting is much quicker than sorting, and equal.
        lowest = int(volume.array.min())
        ranks = np.cumsum(np.bincount(volume.array.reshape(-1).astype(np.int32) - lowest)) / volume.array.size
        return lambda values: ranks[values.astype(np.int32) - lowest]
    if kind == "rank":
        ordered = np.sort(volume.array, axis=None)
        return lambda values: np.searchsorted(ordered, values, side="right") / ordered.size
    foreground = volume.array[above_background(volume.array)]
    if foreground.size == 0:
        raise InputError(f"{volume.name} holds no foreground", "Check that the right image was chosen")
    mean, deviation = foreground_scale(foreground)
    return lambda values: standardised(values.astype(np.float64), mean, deviation)
