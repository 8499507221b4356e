"""From an entry of a datalist of mammograms to a network's input, and to the mask of what is marked on it."""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from .datalist import MAMMOGRAM_CHANNEL, Entry
from .mammogram import circles_in_prepared, mask_in_prepared, prepare_mammogram, read_mammogram

# The attribute of entries whose label is a side: brought to one side, left and right breasts look alike.
KEPT_SIDE = ("side", "kept")
_SHAPE_TOLERANCE = 0.02


def load_mammogram(entry: Entry, size: int) -> np.ndarray:
    """The prepared image of an entry: float32 (size, size), see prepare_mammogram.

    The chest wall is at the left, unless the entry's label speaks of the side (attribute ``side``: kept).
    """
    return prepare_mammogram(read_mammogram(entry.images[MAMMOGRAM_CHANNEL]), size, keeps_side(entry))


def lesion_mask(entry: Entry, size: int, film: np.ndarray | None = None) -> np.ndarray:
    """What is marked on a film, as a bool (size, size) mask of ``load_mammogram(entry, size)``.

    The union of the mask files (``label`` where it is a path, ``further_masks``) and of the circles of the
    attribute ``circles_px``; nothing outside the breast. Empty when nothing is marked.

    Parameters
    ----------
    film : the pixels of the entry's image when they have been read already.

    Raises
    ------
    InputError : a mask that cannot be read or is not of the film's shape, or circles that are no numbers.
    """
    film = read_mammogram(entry.images[MAMMOGRAM_CHANNEL]) if film is None else film
    keep = keeps_side(entry)
    mask = np.zeros((size, size), dtype=bool)
    files = [entry.label] if isinstance(entry.label, str) else []
    for path in (*files, *entry.further_masks):
        mask |= mask_in_prepared(film, _on_film(read_mammogram(path), film.shape, path), size, keep)
    circles = circles_of(entry)
    return mask | circles_in_prepared(film, size, circles, keep) if len(circles) else mask


def keeps_side(entry: Entry) -> bool:
    """Whether a prepared image of the entry keeps the chest wall on the film's side."""
    return entry.attributes.get(KEPT_SIDE[0]) == KEPT_SIDE[1]


def circles_of(entry: Entry) -> np.ndarray:
    """The marked circles of a film: float (n, 3) [row, column, radius] in pixels of the film."""
    text = entry.attributes.get("circles_px", "")
    try:
        circles = np.array([[float(number) for number in one.split()] for one in text.split(";") if one.strip()])
        x, y, radius = circles.reshape(-1, 3).T
    except ValueError as error:
        raise InputError(
            f"the case {entry.case} has the circles '{text}'", "Give x, y and radius of each, separated by ;"
        ) from error
    return np.stack([y, x, radius], axis=1)


def _on_film(mask: np.ndarray, shape: tuple[int, ...], path: str) -> np.ndarray:
    """A mask (values above half its range) on the film's pixels; some public masks are a little larger or smaller."""
    mask = mask > 0.5 * (mask.min() + mask.max())
    if mask.shape == tuple(shape):
        return mask
    ratio = (mask.shape[0] / shape[0]) / (mask.shape[1] / shape[1])
    if abs(ratio - 1) > _SHAPE_TOLERANCE:
        raise InputError(
            f"the mask {path} has {mask.shape[0]} x {mask.shape[1]} pixels, its film {shape[0]} x {shape[1]}",
            "Give a mask of the whole film",
        )
    rows, columns = (((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(shape, mask.shape))
    return mask[np.ix_(rows, columns)]
