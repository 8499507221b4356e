"""A segmentation network over a volume larger than its window, without MONAI at run time.

Importing MONAI costs two seconds and its inferer visits windows that hold nothing. The windows, the
Gaussian weights and the averaging of logits here are those of ``monai.inferers.sliding_window_inference``
(mode "gaussian", sigma_scale 0.125), restricted to the box of the foreground; a test holds the two equal.
"""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError, XTLError
from ..metrics.components import bounding_box
from ..progress import Progress
from .device import inference_precision, pick_device

if TYPE_CHECKING:
    import torch

Shape = tuple[int, int, int]

OVERLAP = 0.5
MARGIN_VOXELS = 4  # background left around the foreground; Dice is the same from 0 to 8, the time is not
ONE_WINDOW_VOXELS = 4_000_000  # up to here the whole box is one window: about 2 GB in float32
_TILES = (128, 64)
_SIGMA_SHARE = 0.125
_SMALLEST_WEIGHT = 1e-3


def predict(
    network: torch.nn.Module,
    image: np.ndarray,
    foreground: np.ndarray | None = None,
    window: Shape | None = None,
    overlap: float = OVERLAP,
    batch: int = 1,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
    stage: str = "Segmenting",
) -> np.ndarray:
    """Probability of a lesion at each voxel.

    Parameters
    ----------
    network : (N, C, D, H, W) -> logits (N, 1, D, H, W); run in evaluation mode, its mode is put back.
    image : float32 (C, D, H, W), prepared.
    foreground : bool (D, H, W); the result is 0 outside. None means everywhere.
    window : (D, H, W) of what the network sees at once; an axis longer than the foreground's box is cut
        to it. None takes the whole box while it has at most ``ONE_WINDOW_VOXELS``, else tiles.
    overlap : share of a window that the next one repeats, 0 to below 1.
    batch : windows per call of the network.
    device : where to compute; None means where the network is. The network is moved there.
    progress : told after each batch; cancelling stops between batches.

    Returns
    -------
    float32 (D, H, W), the sigmoid of the Gaussian-weighted mean of the windows' logits.

    Raises
    ------
    InputError : shapes that do not fit, or a network of another number of channels.
    XTLError : the GPU's memory does not suffice.
    """
    import torch

    _check(image, foreground, window, overlap, batch)
    probability = np.zeros(image.shape[1:], dtype=np.float32)
    box = bounding_box(foreground) if foreground is not None else tuple(slice(0, n) for n in image.shape[1:])
    if box is None:
        return probability
    box = widened(box, image.shape[1:], getattr(network, "size_multiple", (1, 1, 1)))
    inside = None if foreground is None else foreground[box]
    size = tuple(part.stop - part.start for part in box)
    windows = [tuple(map(min, window, size))] if window is not None else windows_for(size)

    device = next(network.parameters()).device if device is None else pick_device(device)
    modes = [(part, part.training) for part in network.modules()]  # parts may be frozen in evaluation mode
    network.to(device).eval()
    try:
        with torch.inference_mode(), inference_precision(device):
            crop = torch.from_numpy(np.ascontiguousarray(image[(slice(None), *box)]))
            logits = partial(_logits_on, device, network, crop, inside, overlap, batch, progress or Progress(), stage)
            result = torch.sigmoid(_first_that_fits(logits, windows, device)).cpu().numpy()
    finally:
        for part, training in modes:
            part.training = training
    if inside is not None:
        result[~inside] = 0.0
    probability[box] = result
    return probability


def windows_for(size: Shape) -> list[Shape]:
    """Windows for a box of ``size`` voxels when none is asked for, the quickest first, smaller ones after it.

    The box itself while it is small enough, then tiles. A later one is taken when the GPU's memory
    does not suffice for the one before.
    """
    tiles = [tuple(min(n, side) for n in size) for side in _TILES]
    return list(dict.fromkeys([size, *tiles] if np.prod(size) <= ONE_WINDOW_VOXELS else tiles))


def gaussian_weights(window: Shape) -> np.ndarray:
    """float32 (D, H, W), a Gaussian around the window's centre, SD an eighth of each side, at least 1e-3."""
    weights = np.ones((1, 1, 1))
    for axis, n in enumerate(window):
        x = np.arange(n) - (n - 1) / 2.0
        profile = np.exp(-0.5 * (x / (_SIGMA_SHARE * n)) ** 2)
        weights = weights * profile.reshape([-1 if other == axis else 1 for other in range(3)])
    return np.maximum(weights, max(float(weights.min()), _SMALLEST_WEIGHT)).astype(np.float32)


def _first_that_fits(run, windows: list[Shape], device: torch.device) -> torch.Tensor:
    import torch

    for window in windows:
        try:
            return run(window)
        except torch.cuda.OutOfMemoryError:  # the name that torch before 2.5 knows too
            torch.cuda.empty_cache()
    raise XTLError(
        f"the memory of {device} does not suffice for windows of {' x '.join(map(str, window))} voxels",
        "Close other programs that use it, or choose the device cpu",
    )


def _logits_on(device, network, crop, inside, overlap, batch, progress, stage, window) -> torch.Tensor:
    return window_logits(network, crop.to(device), inside, window, overlap, batch, progress, stage)


def window_logits(
    network: torch.nn.Module,
    crop: torch.Tensor,
    inside: np.ndarray | None,
    window: Shape,
    overlap: float,
    batch: int,
    progress: Progress,
    stage: str,
) -> torch.Tensor:
    """Weighted mean (D, H, W), float32, of the logits of the windows that hold foreground; 0 where no window lies.

    ``crop`` (C, D, H, W) is where the network is, in the network's precision; everything stays there.
    """
    import torch

    from ..networks.layout import to_fast_layout

    corners = [
        corner
        for corner in _corners(crop.shape[1:], window, overlap)
        if inside is None or inside[_box_at(corner, window)].any()
    ]
    progress.report(stage, 0.0)
    if tuple(window) == tuple(crop.shape[1:]):  # one window: nothing to weigh
        logits = _checked_logits(network, to_fast_layout(crop[None]))[0, 0].float()
        progress.report(stage, 1.0)
        return logits
    total = torch.zeros(crop.shape[1:], device=crop.device)
    weight = torch.zeros_like(total)
    gaussian = torch.from_numpy(gaussian_weights(window)).to(crop.device)
    for first in range(0, len(corners), batch):
        boxes = [_box_at(corner, window) for corner in corners[first : first + batch]]
        images = torch.stack([crop[(slice(None), *box)] for box in boxes])
        logits = _checked_logits(network, to_fast_layout(images))
        for box, values in zip(boxes, logits):
            total[box] += values[0] * gaussian
            weight[box] += gaussian
        progress.report(stage, (first + len(boxes)) / len(corners))
    return total / weight.clamp(min=_SMALLEST_WEIGHT)


def _checked_logits(network: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    logits = network(images)
    if logits.shape[1] != 1 or logits.shape[2:] != images.shape[2:]:
        raise InputError(
            f"the network gives {tuple(logits.shape)} for an input of {tuple(images.shape)}",
            "Use a network that gives one logit a voxel",
        )
    return logits


def _corners(size: Shape, window: Shape, overlap: float) -> list[Shape]:
    """First voxels of windows that cover ``size``; the last one along an axis ends with it."""
    starts = []
    for n, w in zip(size, window):
        step = max(1, int(w * (1.0 - overlap)))
        count = -(-(n - w) // step) + 1
        starts.append([min(step * index, n - w) for index in range(count)])
    return list(product(*starts))


def _box_at(corner: Shape, window: Shape) -> tuple[slice, slice, slice]:
    return tuple(slice(c, c + w) for c, w in zip(corner, window))


def widened(box: tuple[slice, ...], shape: Shape, multiple: Shape) -> tuple[slice, ...]:
    """A box with the margin around it, grown to multiples where the image of ``shape`` voxels has room."""
    return tuple(_widen(part, n, m) for part, n, m in zip(box, shape, multiple))


def _widen(part: slice, length: int, multiple: int) -> slice:
    """``part`` with the margin, and grown to a multiple where the image has room."""
    start, stop = max(0, part.start - MARGIN_VOXELS), min(length, part.stop + MARGIN_VOXELS)
    stop = min(length, stop + -(stop - start) % multiple)
    start = max(0, start - -(stop - start) % multiple)
    return slice(start, stop)


def _check(image, foreground, window, overlap, batch) -> None:
    if image.ndim != 4 or (foreground is not None and foreground.shape != image.shape[1:]):
        raise InputError(
            f"an image of shape {image.shape} with a foreground of shape {getattr(foreground, 'shape', None)}",
            "Give (C, D, H, W) and (D, H, W)",
        )
    if window is not None and (len(window) != 3 or min(window) < 1):
        raise InputError(f"a window of {window} voxels", "Give three positive numbers")
    if not 0.0 <= overlap < 1.0 or batch < 1:
        raise InputError(f"an overlap of {overlap} and a batch of {batch}", "Give 0 to below 1, and 1 or more")
