"""Patches that a data set gives ready-made, in an array file beside its table (see the layout prostatex-patches)."""

from __future__ import annotations

import functools
import os
import zipfile
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from .datalist import Entry
from .patch_jitter import PatchMotion

if TYPE_CHECKING:
    from .patches import PatchSpec

STORED_NAMES = {"T2W": "T2", "ADC": "ADC", "HBV": "BVAL", "KTRANS": "KTRANS"}
STORED_SIZE_MM = {
    "T2W": (16.0, 16.0, 3.0),
    "ADC": (64.0, 64.0, 3.0),
    "HBV": (64.0, 64.0, 3.0),
    "KTRANS": (48.0, 48.0, 3.0),
}
MISSING_VALUE = 0.5
_MOST_SAMPLES = 8


def state_of(path: str) -> int:
    """Changes when the file does, so that nothing stale is served from memory."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError as error:
        raise InputError(f"the file {path} does not exist", "Put it back, or write the datalist again") from error


def load_stored_patch(entry: Entry, spec: PatchSpec, motion: PatchMotion | None = None) -> np.ndarray:
    """The patch of an entry whose ``row`` counts in a patch file: float32 (C, 1, J, I).

    ``spec.size_mm`` of the stored pixels around the finding's, resampled linearly where they are not as large as
    asked for; moved in their plane where a ``motion`` is given.

    Raises InputError when the file has not got the channels, the extent or the kind that ``spec`` asks for.
    """
    path = entry.images[spec.reference] if spec.reference in entry.images else next(iter(entry.images.values()))
    unknown = [name for name in spec.channels if name not in STORED_NAMES]
    if unknown:
        raise InputError(
            f"the patch file {path} has no channel {', '.join(unknown)}", f"Use some of: {', '.join(STORED_NAMES)}"
        )
    if spec.shape[0] != 1 or spec.intensity != "rank":
        raise InputError(
            f"the patch file {path} holds single slices of rank intensity; asked for were {spec.shape[0]} slices of "
            f"{spec.intensity} intensity",
            "Describe the patches with shape (1, rows, columns) and intensity rank",
        )
    stored, names = open_patches(path, state_of(path))
    if not 0 <= entry.row < len(stored):
        raise InputError(f"the patch file {path} has {len(stored)} rows, not row {entry.row}", "Read the layout again")
    result = np.empty((len(spec.channels), *spec.shape), dtype=np.float32)
    for index, name in enumerate(spec.channels):
        size = spec.size_mm[name][:2]
        largest = STORED_SIZE_MM[name][0]
        if max(size) > largest + 1e-6:
            raise InputError(
                f"the patch file {path} shows {largest:g} mm of {name}, not {size[0]:g} x {size[1]:g} mm",
                f"Use a size_mm of at most {largest:g} mm for {name}",
            )
        patch = stored[entry.row, names.index(STORED_NAMES[name])]
        if np.isnan(patch).any():
            result[index] = MISSING_VALUE
        else:
            result[index, 0] = _cut(patch, _stored_spacing(entry, name), size, spec.shape[1:], motion)
    return result


def _stored_spacing(entry: Entry, channel: str) -> tuple[float, float]:
    """Pixel spacing (x, y) in mm of a stored patch; the usual one where it is not told."""
    text = entry.attributes.get(f"{channel}_spacing_mm", "")
    if text:
        x, y = (float(part) for part in text.split("x")[:2])
        return x, y
    return STORED_SIZE_MM[channel][0] / 32, STORED_SIZE_MM[channel][1] / 32


def _cut(
    patch: np.ndarray,
    spacing: tuple[float, float],
    size_mm: tuple[float, float],
    shape: tuple[int, int],
    motion: PatchMotion | None,
) -> np.ndarray:
    """``size_mm`` (x, y) of a patch (J, I) around the finding's pixel on ``shape`` samples, as PatchSource does it.

    The finding's pixel stands in row (J - 1) // 2, column I // 2 of the stored patch, not in its middle; where in
    that pixel the finding lies is not known. Beyond the patch's edge the edge repeats: some films of the set have
    finer pixels, so that their patch is smaller than the usual one. Samples coarser than the pixels average several.
    """
    from scipy.ndimage import map_coordinates

    home = np.array([patch.shape[1] // 2, (patch.shape[0] - 1) // 2])  # x, y
    rows, columns = shape
    steps = np.array(size_mm) / (columns, rows)
    ratio = steps / spacing
    if motion is None and np.abs(ratio - 1).max() <= 0.01:
        y = np.clip(home[1] + np.arange(rows) - (rows - 1) // 2, 0, patch.shape[0] - 1)
        x = np.clip(home[0] + np.arange(columns) - columns // 2, 0, patch.shape[1] - 1)
        return patch[np.ix_(y, x)]
    factors = np.clip(np.round(ratio), 1, _MOST_SAMPLES).astype(int)
    counts = np.array([columns, rows]) * factors
    x, y = ((np.arange(n) - (n - 1) / 2) * step / factor for n, step, factor in zip(counts, steps, factors))
    across, down = np.meshgrid(x, y)
    offsets = np.stack([across, down, np.zeros_like(across)], axis=-1)
    if motion is not None:
        offsets = motion.sources(offsets)
    indices = home + offsets[..., :2] / spacing
    fine = map_coordinates(patch, [indices[..., 1], indices[..., 0]], order=1, mode="nearest")
    return fine.reshape(rows, factors[1], columns, factors[0]).mean(axis=(1, 3))


@functools.lru_cache(maxsize=2)
def open_patches(path: str, state: int) -> tuple[np.ndarray, list[str]]:
    """The array (n, C, J, I) of a patch file and the names of its channels; ``state`` is ``state_of(path)``."""
    try:
        with np.load(path, allow_pickle=False) as content:
            return content["patches"].astype(np.float32), [str(name) for name in content["channels"]]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"the patch file {path} cannot be read ({error})", "Check the file, or get it again"
        ) from error
