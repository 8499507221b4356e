"""From a case to the array a network sees, and back: working grid and intensities."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..errors import InputError
from ..progress import Progress
from .bias_field import remove_bias
from .case import Case
from .geometry import Grid
from .volume import Volume, resample

_BACKGROUND_FRACTION = 0.02
_SCALE_PERCENTILES = (0.5, 99.5)
_LARGEST = 8.0  # SD; beyond the brightest lesions, short of what makes a network stumble
_SMALLEST_SD = 1e-6
_SPACING_TOLERANCE = 0.05


@dataclass(frozen=True)
class Preparation:
    """How a case becomes a network's input; travels with the bundle so that use equals training.

    Attributes
    ----------
    channels : names in the order of the network's input channels.
    reference : the channel whose grid defines the working grid.
    spacing_mm : working spacing along the axes nearest to L, P, S; None keeps the reference's own.
    optional : channels that the network has learned to do without; a missing one is 0, its mean, everywhere.
    bias_correction : the bias field of every channel is taken out by N4 (see bias_field) before normalisation.
    """

    channels: tuple[str, ...]
    reference: str
    spacing_mm: tuple[float, float, float] | None = None
    optional: tuple[str, ...] = ()
    bias_correction: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        object.__setattr__(self, "optional", tuple(self.optional))
        if self.spacing_mm is not None:
            object.__setattr__(self, "spacing_mm", tuple(float(s) for s in self.spacing_mm))
        if self.reference not in self.channels:
            raise InputError(
                f"the reference channel {self.reference} is not among the channels {self.channels}",
                "Name one of the channels as the reference",
            )
        wrong = [name for name in self.optional if name not in self.channels or name == self.reference]
        if wrong:
            raise InputError(
                f"{', '.join(wrong)} cannot be optional: only channels other than the reference can",
                "Name channels of the network that are not its reference",
            )

    def working_grid(self, reference: Grid) -> Grid:
        """The grid of the network's input: the reference's axes nearest to L, P, S, at the working spacing."""
        grid = reference.along_lps()
        if self.spacing_mm is None or np.allclose(grid.spacing_mm, self.spacing_mm, rtol=_SPACING_TOLERANCE):
            return grid
        return grid.with_spacing(self.spacing_mm)

    def __call__(self, case: Case, progress: Progress | None = None) -> PreparedCase:
        """Resample the channels in patient space to the working grid and normalise their intensities.

        Raises
        ------
        InputError : a channel is missing (other than an optional one), holds NaN or does not overlap the
            reference, or the reference is a single slice, or the same everywhere.
        Cancelled : at the request of ``progress``, before a channel.
        """
        progress = progress or Progress()
        case.require_channels(self.channels, self.optional)
        reference = case.channels[self.reference]
        if min(reference.grid.shape) < 2:
            raise InputError(
                f"{reference.name} ({self.reference}) is a single slice",
                "Give the whole volume; of a DICOM series, name its folder",
            )
        grid = self.working_grid(reference.grid)
        there = [name for name in self.channels if name in case.channels]
        stack = np.zeros((len(self.channels), *grid.shape), dtype=np.float32)
        for name in there:
            stack[self.channels.index(name)] = resample(case.channels[name], grid).array
        foreground = find_foreground(stack)
        if not foreground.any():
            raise InputError(
                f"{reference.name} holds no foreground: all its voxels are alike",
                "Check that the right image was chosen",
            )
        blank = []
        for number, name in enumerate(there):
            channel = stack[self.channels.index(name)]
            if self.bias_correction:
                progress.report(f"Correcting the bias field of {name}", number / len(there))
                remove_bias(channel, foreground, grid.spacing_mm)
            if not normalise(channel, foreground):
                blank.append(name)
        if self.reference in blank:
            raise InputError(
                f"{reference.name} ({self.reference}) is the same everywhere", "Check that the right image was chosen"
            )
        missing = [name for name in self.channels if name not in there]
        notes = [f"{case.channels[name].name} ({name}) is the same everywhere: it tells nothing" for name in blank]
        if missing:
            notes.append(f"Without {', '.join(missing)}: the model can do without, and may find less")
        if self.bias_correction:
            notes.append("The images' bias field was corrected (N4)")
        return PreparedCase(stack, foreground, grid, reference.grid, tuple(notes))


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """A network's input.

    Attributes
    ----------
    image : float32 (C, K, J, I) on ``grid``: about zero mean and unit SD in the foreground, 0 outside.
    foreground : bool (K, J, I).
    grid : working grid. reference_grid : where results are given.
    notes : what a user has to know of the preparation.
    """

    image: np.ndarray
    foreground: np.ndarray
    grid: Grid
    reference_grid: Grid
    notes: tuple[str, ...] = field(default=())

    def on_reference_grid(self, array: np.ndarray, name: str = "probability") -> Volume:
        """A float map (K, J, I) on the working grid, resampled linearly to the reference grid."""
        return resample(Volume(array, self.grid, name), self.reference_grid)

    def mask_on_working_grid(self, mask: Volume) -> np.ndarray:
        """A binary mask, in patient space on the working grid: bool (K, J, I), where at least half is lesion."""
        moved = resample(Volume(mask.array.astype(np.float32), mask.grid, mask.name), self.grid)
        return moved.array >= 0.5


def find_foreground(stack: np.ndarray) -> np.ndarray:
    """Head or brain against background, from channels (C, K, J, I) -> bool (K, J, I).

    A voxel is foreground where any channel exceeds 2 % of that channel's 99.5th percentile; holes
    (dark fluid) are filled. Meant for images whose background is about zero.
    """
    foreground = np.zeros(stack.shape[1:], dtype=bool)
    for channel in stack:
        foreground |= above_background(channel)
    return without_holes(foreground)


def without_holes(mask: np.ndarray) -> np.ndarray:
    """A mask (K, J, I) with its holes filled: what no path through faces joins to the outside.

    The same as scipy.ndimage.binary_fill_holes, whose growing from voxel to voxel takes three times as long.
    """
    from scipy.ndimage import find_objects, label

    boxes = find_objects(mask.view(np.uint8))
    if not boxes:
        return mask
    background, _ = label(np.pad(~mask[boxes[0]], 1, constant_values=True))
    filled = mask.copy()
    filled[boxes[0]] = (background != background[0, 0, 0])[1:-1, 1:-1, 1:-1]
    return filled


def above_background(channel: np.ndarray) -> np.ndarray:
    """Where an image exceeds 2 % of its 99.5th percentile: bool of its shape."""
    return channel > _BACKGROUND_FRACTION * max(float(np.percentile(channel, 99.5)), 1e-6)


def normalise(channel: np.ndarray, foreground: np.ndarray) -> bool:
    """In place: about zero mean and unit SD in the foreground (see foreground_scale), 0 outside.

    False where the foreground is the same everywhere, so that it tells nothing.
    """
    values = channel[foreground]
    mean, deviation = foreground_scale(values)
    channel[...] = 0
    channel[foreground] = standardised(values, mean, deviation)
    return deviation > _SMALLEST_SD or bool(values.min() < values.max())


def foreground_scale(values: np.ndarray) -> tuple[float, float]:
    """Mean and SD of foreground values (n,), after clipping them to their 0.5-99.5 percentiles.

    The clipping keeps a few odd voxels from setting the scale. It is for the scale alone: the brightest
    half percent of a head is 5 ml, which is where small lesions are.
    """
    low, high = np.percentile(values, _SCALE_PERCENTILES)
    clipped = np.clip(values, low, high, dtype=np.float64)
    return float(clipped.mean()), max(float(clipped.std()), _SMALLEST_SD)


def standardised(values: np.ndarray, mean: float, deviation: float) -> np.ndarray:
    """``(values - mean) / deviation``, held within 8 SD."""
    return np.clip((values - mean) / deviation, -_LARGEST, _LARGEST)
