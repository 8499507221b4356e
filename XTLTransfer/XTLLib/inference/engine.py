"""A trained network made quick for inference, and run over a prepared case within the memory at hand.

The network's copy for inference has its BatchNorm folded, its channels innermost, and computes in half
precision where the device has it. The foreground's box is one window when memory allows, tiles otherwise;
when memory runs out all the same, smaller batches, then smaller windows, then the CPU take over, and the
result says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Literal
from weakref import WeakKeyDictionary

import numpy as np

from ..errors import InputError, XTLError
from ..metrics.components import bounding_box
from ..progress import Progress
from .device import pick_device
from .memory import free_memory
from .sliding_window import OVERLAP, Shape, widened, window_logits

if TYPE_CHECKING:
    import torch
    from torch import nn

Precision = Literal["auto", "float32", "bfloat16", "float16"]
Engine = Literal["auto", "torch", "openvino"]
ENGINES: tuple[Engine, ...] = ("auto", "torch", "openvino")

_MEMORY_SHARE = 0.6  # of the free memory that activations may take
_CPU_LIMIT = 6 * 2**30  # bytes of activations on a CPU: beyond it tiles are as quick, and others need memory too
_TILES = (192, 160, 128, 96, 64)
_LARGEST_BATCH = 8  # tiles a call; more no longer makes a GPU quicker
# Sizes at which the two finest levels, where the cost lies, halve exactly. Deeper ones may be odd: growing the
# box for them too, to multiples of 32, would make it up to half as large again.
_MULTIPLE = 4
_MARGIN = 1.6  # measured peak over estimated activations (convolution workspaces, two copies of an output)


@dataclass(frozen=True, eq=False)
class FastNetwork:
    """A network as inference runs it.

    Attributes
    ----------
    module : in evaluation mode, on ``device``, in ``dtype``, BatchNorm folded, channels innermost.
    bytes_per_voxel : of activations, for each voxel of a window.
    arithmetic : of what computes it, where that is not torch in ``dtype``.
    precision : the arithmetic's name, for the record.
    """

    module: nn.Module
    device: torch.device
    dtype: torch.dtype
    bytes_per_voxel: float
    in_channels: int
    arithmetic: str = ""

    @property
    def precision(self) -> str:
        return self.arithmetic or str(self.dtype).removeprefix("torch.")


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network says of a prepared case.

    Attributes
    ----------
    probability : float32 (D, H, W) on the working grid; the mean over mirrored views where asked for.
    uncertainty : float32 (D, H, W), the SD over the views; None with one view.
    precision : the arithmetic's. window : voxels (D, H, W) of a window.
    notes : what a user has to know, such as a device that ran out of memory.
    """

    probability: np.ndarray
    uncertainty: np.ndarray | None
    precision: str
    window: Shape
    notes: tuple[str, ...] = ()


_fast: WeakKeyDictionary = WeakKeyDictionary()  # network -> {(device, precision): FastNetwork}


def fast_network(
    network: nn.Module, in_channels: int, device: str | torch.device = "auto", precision: Precision = "auto"
) -> FastNetwork:
    """The copy of a volumetric network for inference on a device; made once for a network and kept with it.

    Raises InputError when the device cannot compute in the precision.
    """
    from ..networks.folding import activation_values_per_voxel, folded
    from ..networks.layout import to_fast_layout
    from ..networks.split_upsampling import split_upsampling

    device = pick_device(device)
    dtype = _dtype_of(device, precision)
    known = _fast.setdefault(network, {})
    if (device, dtype) not in known:
        values = activation_values_per_voxel(network, in_channels)
        module = folded(network, in_channels)
        if device.type == "cpu":
            module = split_upsampling(module)
        module = to_fast_layout(module.to(device=device, dtype=dtype))
        known[device, dtype] = FastNetwork(module, device, dtype, values * dtype.itemsize, in_channels)
    return known[device, dtype]


def predict_case(
    network: nn.Module,
    image: np.ndarray,
    foreground: np.ndarray | None = None,
    *,
    device: str | torch.device = "auto",
    precision: Precision = "auto",
    engine: Engine = "auto",
    mirror_axes: tuple[int, ...] = (),
    window: Shape | None = None,
    overlap: float = OVERLAP,
    memory_bytes: int | None = None,
    progress: Progress | None = None,
    stage: str = "Segmenting",
) -> Prediction:
    """Probability of a lesion at each voxel of a prepared case.

    Parameters
    ----------
    network : (N, C, D, H, W) -> logits (N, 1, D, H, W), float32; left as it is.
    image : float32 (C, D, H, W). foreground : bool (D, H, W); the result is 0 outside. None: everywhere.
    device : "auto", "cpu", "cuda" or "cuda:N".
    precision : "auto" is bfloat16 where the device computes in it, else float32.
    engine : "auto" is torch. "openvino" computes on the CPU by OpenVINO where that agrees with torch on this case
        (see openvino_engine), else by torch, and the result's notes say so.
    mirror_axes : axes (0: D, 1: H, 2: W) along which mirrored views are looked at as well, all combinations.
    window : (D, H, W); None chooses by ``memory_bytes``, or by what is free on the device.
    progress : told after each batch; cancelling stops between batches.

    Raises
    ------
    InputError : shapes that do not fit, a network of another number of channels, or OpenVINO on a GPU.
    MissingPackageError : OpenVINO is asked for and not installed.
    XTLError : no step of the ladder has memory enough.
    """
    import torch

    if image.ndim != 4 or (foreground is not None and foreground.shape != image.shape[1:]):
        raise InputError(
            f"an image of shape {image.shape} with a foreground of shape {getattr(foreground, 'shape', None)}",
            "Give (C, D, H, W) and (D, H, W)",
        )
    if not set(mirror_axes) <= {0, 1, 2}:
        raise InputError(f"mirror_axes {mirror_axes}", "Give axes among 0, 1, 2")
    if engine not in ENGINES:
        raise InputError(f"the engine {engine!r} is unknown", f"Choose {', '.join(ENGINES)}")
    if engine == "openvino":
        device = _device_of_openvino(device)
    progress = progress or Progress()
    shape = image.shape[1:]
    box = bounding_box(foreground) if foreground is not None else tuple(slice(0, n) for n in shape)
    views = [axes for count in range(len(mirror_axes) + 1) for axes in combinations(sorted(mirror_axes), count)]
    probability = np.zeros(shape, dtype=np.float32)
    uncertainty = np.zeros(shape, dtype=np.float32) if len(views) > 1 else None
    fast = fast_network(network, image.shape[0], device, precision)
    if box is None:
        return Prediction(probability, uncertainty, fast.precision, (0, 0, 0))
    multiple = tuple(min(n, _MULTIPLE) for n in getattr(network, "size_multiple", (1, 1, 1)))
    box = widened(box, shape, multiple)
    inside = None if foreground is None else _grown(foreground[box], multiple)
    crop = torch.from_numpy(_grown(image[(slice(None), *box)], multiple))
    notes: list[str] = []
    for step, size, batch in _ladder(network, fast, tuple(crop.shape[1:]), window, overlap, memory_bytes, precision):
        try:
            if engine == "openvino" and not notes:
                step, found = _through_openvino(network, step, crop, size, progress)
                notes += found
            mean, deviation = _over_views(step, crop, inside, views, size, overlap, batch, progress, stage)
            break
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            if step.device.type == "cuda":
                torch.cuda.empty_cache()
            voxels = " x ".join(map(str, size))
            notes.append(f"the memory of {step.device} did not suffice for {batch} window(s) of {voxels} voxels")
            progress.report(f"Out of memory on {step.device}: trying with less", 0.0)
    else:
        raise XTLError(notes[-1], "Close other programs, or choose a larger working spacing")
    filled = tuple(slice(0, part.stop - part.start) for part in box)
    probability[box] = mean[filled]
    if uncertainty is not None:
        uncertainty[box] = deviation[filled]
    return Prediction(probability, uncertainty, step.precision, size, tuple(notes))


def _through_openvino(
    network: nn.Module, fast: FastNetwork, crop: torch.Tensor, window: Shape, progress: Progress
) -> tuple[FastNetwork, list[str]]:
    """OpenVINO in the place of torch where both agree on the window in the middle of the crop; else torch, and why."""
    import torch

    from .openvino_engine import openvino_network

    progress.report("Preparing OpenVINO", 0.0)
    middle = tuple(slice((n - w) // 2, (n - w) // 2 + w) for n, w in zip(crop.shape[1:], window))
    sample = crop[(slice(None), *middle)][None].contiguous()
    name = fast.precision
    try:
        converted = openvino_network(network, sample, name)
    except RuntimeError as error:
        if _is_out_of_memory(error):
            raise
        return fast, [f"OpenVINO cannot compute this network ({type(error).__name__}); torch did"]
    if not converted.agreement.suffices:
        return fast, [f"OpenVINO in {name} does not agree with torch ({converted.agreement}); torch was used"]
    return replace(fast, module=converted, dtype=torch.float32, arithmetic=f"OpenVINO {name}"), []


def _device_of_openvino(device: str | torch.device) -> str:
    from .openvino_engine import require_openvino

    require_openvino()
    if device != "auto" and pick_device(device).type != "cpu":
        raise InputError(f"OpenVINO on the device {device}", "Choose the device cpu, or the engine torch")
    return "cpu"


def _grown(array: np.ndarray, multiple: Shape) -> np.ndarray:
    """(..., D, H, W), contiguous, with 0, the background, at the far ends up to multiples."""
    missing = [-n % m for n, m in zip(array.shape[-3:], multiple)]
    if any(missing):
        return np.pad(array, [(0, 0)] * (array.ndim - 3) + [(0, n) for n in missing])
    return np.ascontiguousarray(array)


def _over_views(fast, crop, inside, views, window, overlap, batch, progress, stage):
    """Mean and SD (D, H, W) of the probability over mirrored views, 0 outside of ``inside``; float32 on the host."""
    import torch

    with torch.inference_mode():
        crop = crop.to(fast.device, fast.dtype, non_blocking=True)
        keep = None if inside is None else torch.from_numpy(inside).to(fast.device)
        total = squares = None
        for number, axes in enumerate(views):
            part = progress.part(number / len(views), (number + 1) / len(views))
            flips = [axis + 1 for axis in axes]
            mirrored = crop.flip(flips) if flips else crop
            where = np.flip(inside, axes) if inside is not None and axes else inside
            logits = window_logits(fast.module, mirrored, where, window, overlap, batch, part, stage)
            view = logits.sigmoid_()
            if axes:
                view = view.flip(axes)
            if keep is not None:
                view.mul_(keep)
            if len(views) == 1:
                return view.cpu().numpy(), None
            if total is None:
                total, squares = view, view.square()
            else:
                total += view
                squares += view.square_()
        mean = total / len(views)
        deviation = (squares / len(views) - mean.square()).clamp_(min=0).sqrt_()
        return mean.cpu().numpy(), deviation.cpu().numpy()


def _ladder(network, fast: FastNetwork, size: Shape, window, overlap, memory_bytes, precision):
    """What to try, the quickest first: (network, window, batch); after the GPU's steps come the CPU's."""
    tried = set()
    for step in (fast, *([] if fast.device.type == "cpu" else ["cpu"])):
        if step == "cpu":
            step = fast_network(network, fast.in_channels, "cpu", "auto" if precision == "auto" else "float32")
        budget = memory_bytes if memory_bytes is not None else _budget(step)
        voxels = max(1, int(budget / (step.bytes_per_voxel * _MARGIN)))
        wanted = [tuple(map(min, window, size))] if window is not None else []
        wanted += [shape for shape in windows_for(size) if not wanted or np.prod(shape) < np.prod(wanted[0])]
        fitting = [shape for shape in wanted if np.prod(shape) <= voxels]
        # The smallest is tried even where it seems not to fit: the estimate may be wrong.
        for shape in fitting or wanted[-1:]:
            largest = max(1, min(_LARGEST_BATCH if step.device.type == "cuda" else 1, voxels // int(np.prod(shape))))
            for batch in dict.fromkeys((largest, 1)):
                key = (step.device, shape, batch)
                if key not in tried:
                    tried.add(key)
                    yield step, shape, batch


def windows_for(size: Shape) -> list[Shape]:
    """Windows (D, H, W) for a box of ``size`` voxels, from the box itself to small tiles, the quickest first."""
    tiles = [tuple(min(n, side) for n in size) for side in _TILES]
    return list(dict.fromkeys([size, *tiles]))


def _budget(fast: FastNetwork) -> int:
    free = _MEMORY_SHARE * free_memory(fast.device)
    return int(free if fast.device.type == "cuda" else min(free, _CPU_LIMIT))


def _dtype_of(device: torch.device, precision: Precision) -> torch.dtype:
    import torch

    if precision == "auto":
        return torch.bfloat16 if has_bfloat16(device) else torch.float32
    if precision not in ("float32", "bfloat16", "float16"):
        raise InputError(f"the precision {precision!r} is unknown", "Choose auto, float32, bfloat16 or float16")
    if device.type == "cpu" and precision == "float16":
        raise InputError("the precision float16 does not work on a CPU", "Choose bfloat16 or float32")
    return getattr(torch, precision)


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 itself, rather than through float32, which would be slower."""
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # absent before torch 2.4
    return bool(probe and probe())


def _is_out_of_memory(error: BaseException) -> bool:
    import torch

    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    words = str(error)
    return "can't allocate memory" in words or "out of memory" in words.lower()
