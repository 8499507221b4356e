"""A bundle's network as a file that runs without XTL: TorchScript, torch.export or ONNX, compared with the original.

Sizes stay free: a segmentation network takes any batch of volumes whose sides are multiples of its
``size_multiple`` (two or more of each); a classification network takes any batch of patches of its shape.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, MissingPackageError
from ..progress import Progress
from .load import Bundle
from .metadata import INTENDED_USE

if TYPE_CHECKING:
    from torch import Tensor, nn

    Shape = tuple[int, ...]

PARITY = 5e-4  # project choice: of the largest logit
_FREE_SIDES = (5, 7)  # of an axis that may have any length
_LARGEST_COUNT = 64  # of size_multiples along a side, and of a batch
_ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_INPUT, _OUTPUT = "image", "logits"


def write_compiled(bundle: Bundle, path: Path, form: str, progress: Progress) -> tuple[float, tuple[Shape, ...]]:
    """Write the network and run it from the file.

    Parameters
    ----------
    form : "torchscript", "torch-export" or "onnx".

    Returns
    -------
    The largest difference of a logit from those of the bundle's network over the largest logit, and the
    sizes of the two random inputs on which it was found.
    """
    import torch

    missing = [package for package in _ONNX_PACKAGES if form == "onnx" and find_spec(package) is None]
    if missing:
        raise MissingPackageError(
            f"the format onnx needs the Python package {', '.join(missing)}",
            f"Install it with: python -m pip install {' '.join(missing)}",
        )
    write, run_again = {
        "torchscript": (_write_torchscript, _torchscript),
        "torch-export": (_write_torch_export, _torch_export),
        "onnx": (_write_onnx, _onnx),
    }[form]
    network = _plain_copy(bundle.network("cpu"))
    sizes = _sizes(bundle, network)
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(size, generator=generator) for size in sizes]
    progress.report(f"Exporting to {form}", 0.1)
    with _quiet(), torch.no_grad():
        try:
            write(network, inputs[0], bundle, path)
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
            raise InputError(
                f"the network of {bundle.name} cannot be exported to {form} ({reason})", "Choose another format"
            ) from error
        progress.report(f"Comparing the {form} with the bundle", 0.7)
        again = run_again(path)
        difference = max(_difference(again(x), network(x)) for x in inputs)
    return difference, sizes


def _plain_copy(network: nn.Module) -> nn.Module:
    network = deepcopy(network).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.data = parameter.data.contiguous()
    return network


def _sizes(bundle: Bundle, network: nn.Module) -> tuple[Shape, ...]:
    """Two inputs (N, C, D, H, W); of different size where the network takes any."""
    channels = bundle.spec.in_channels
    if bundle.patch_spec is not None:
        return (2, channels, *bundle.patch_spec.shape), (3, channels, *bundle.patch_spec.shape)
    first = [2 * multiple if multiple > 1 else _FREE_SIDES[0] for multiple in network.size_multiple]
    second = [n + multiple if multiple > 1 else _FREE_SIDES[1] for n, multiple in zip(first, network.size_multiple)]
    return (2, channels, *first), (1, channels, *second)


def _free_sizes(bundle: Bundle, network: nn.Module) -> dict[int, Any]:
    """Axis -> its name and range, of the axes that may change."""
    from torch.export import Dim

    axes: dict[int, Any] = {0: Dim("batch", min=1, max=_LARGEST_COUNT)}
    if bundle.patch_spec is None:
        for axis, (name, multiple) in enumerate(zip(("depth", "height", "width"), network.size_multiple), 2):
            if multiple > 1:
                axes[axis] = multiple * Dim(f"{name}_{multiple}", min=2, max=_LARGEST_COUNT)
            else:
                axes[axis] = Dim(name, min=2, max=8 * _LARGEST_COUNT)
    return axes


def _facts(bundle: Bundle) -> dict[str, str]:
    """What travels in the file's metadata: how the input is made, and how the output is read."""
    source = bundle.preparation or bundle.patch_spec
    facts = {
        "name": bundle.name,
        "task": bundle.task,
        "channels": list(bundle.channels),
        "input": {key: value for key, value in vars(source).items() if not key.startswith("_")},
        "threshold": bundle.threshold,
        "minimum_volume_mm3": bundle.minimum_volume_mm3,
        "weights_sha256": bundle.weights_sha256,
        "intended_use": INTENDED_USE,
    }
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}


def _write_torchscript(network: nn.Module, example: Tensor, bundle: Bundle, path: Path) -> None:
    # Traced: what depends on the size is fixed for multiples of size_multiple; other sizes raise an error.
    import torch

    traced = torch.jit.trace(network, example, check_trace=False)
    torch.jit.save(traced, path, _extra_files={"xtl.json": json.dumps(_facts(bundle)).encode()})


def _torchscript(path: Path) -> Callable[[Tensor], Tensor]:
    import torch

    return torch.jit.load(path)


def _program(network: nn.Module, example: Tensor, bundle: Bundle) -> Any:
    import torch

    return torch.export.export(network, (example,), dynamic_shapes=(_free_sizes(bundle, network),))


def _write_torch_export(network: nn.Module, example: Tensor, bundle: Bundle, path: Path) -> None:
    import torch

    extra = {"xtl.json": json.dumps(_facts(bundle))}
    with open(path, "wb") as stream:
        torch.export.save(_program(network, example, bundle), stream, extra_files=extra)


def _torch_export(path: Path) -> Callable[[Tensor], Tensor]:
    import torch

    with open(path, "rb") as stream:
        return torch.export.load(stream).module()


def _write_onnx(network: nn.Module, example: Tensor, bundle: Bundle, path: Path) -> None:
    import torch

    program = torch.onnx.export(
        _program(network, example, bundle), (), input_names=[_INPUT], output_names=[_OUTPUT], dynamo=True, verbose=False
    )
    program.model.metadata_props.update(_facts(bundle))
    program.save(path)


def _onnx(path: Path) -> Callable[[Tensor], Tensor]:
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run([_OUTPUT], {_INPUT: x.numpy()})[0])


def _difference(ours: Tensor, theirs: Tensor) -> float:
    if ours.shape != theirs.shape:
        return float("inf")
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-6))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' remarks, which are for their developers (and TorchScript's, that it is to be followed)."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
