"""OpenVINO as an optional engine on CPUs: a network is converted, verified against torch, and only then used."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import OrderedDict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from weakref import WeakKeyDictionary

import numpy as np

from .. import __version__
from ..errors import MissingPackageError

if TYPE_CHECKING:
    import torch
    from torch import nn

LEAST_DICE = 0.995  # of the masks of both engines
MOST_DIFFERENCE = 0.005  # mean over the window of the difference of the probabilities
_THRESHOLD = 0.5
_KEPT_FILES, _KEPT_COMPILED = 4, 2
_HINTS = {"bfloat16": "bf16", "float32": "f32"}

OpenVinoPrecision = Literal["bfloat16", "float32"]


@dataclass(frozen=True)
class Agreement:
    """How far OpenVINO and torch in float32 agree on one window.

    Attributes
    ----------
    dice : of the voxels of probability 0.5 and more; 1 where neither has any.
    mean_difference : of the probabilities, absolute.
    """

    dice: float
    mean_difference: float

    @property
    def suffices(self) -> bool:
        """Whether the one may stand for the other."""
        return self.dice >= LEAST_DICE and self.mean_difference <= MOST_DIFFERENCE

    def __str__(self) -> str:
        return f"Dice {self.dice:.4f}, mean difference {self.mean_difference:.4f}"


class OpenVinoNetwork:
    """A converted network: a float32 tensor (1, C, D, H, W) of one fixed shape -> logits (1, 1, D, H, W).

    Attributes
    ----------
    agreement : with torch in float32, as measured when it was converted.
    """

    def __init__(self, compiled, agreement: Agreement) -> None:
        self._request = compiled.create_infer_request()
        self.agreement = agreement

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        import torch

        parts = [self._request.infer([image[None].contiguous().numpy()])[0].copy() for image in images]
        return torch.from_numpy(np.concatenate(parts) if len(parts) > 1 else parts[0])


_compiled: WeakKeyDictionary = WeakKeyDictionary()  # network -> {(shape, precision): OpenVinoNetwork}


def require_openvino() -> None:
    """Raise MissingPackageError unless OpenVINO is installed."""
    from importlib.util import find_spec

    if find_spec("openvino") is None:
        raise MissingPackageError("the package openvino is not installed", "Install it, or use the engine torch")


def openvino_network(
    network: nn.Module, window: torch.Tensor, precision: OpenVinoPrecision, cache: Path | None = None
) -> OpenVinoNetwork:
    """The network for windows of one shape, converted and compared with torch; made once for a network and a shape.

    Parameters
    ----------
    network : volumetric, float32, on the CPU; left as it is.
    window : float32 (1, C, D, H, W), a part of the case at hand: both engines are compared on it.
    precision : of OpenVINO's arithmetic.
    cache : folder of converted networks with what was measured of them; None is ``cache/openvino`` in
        ``XTL_HOME``. What is found there for the same weights, shape, precision and versions is not made again.

    Returns
    -------
    The network; its ``agreement`` says whether it may be used.
    """
    known = _compiled.setdefault(network, OrderedDict())
    key = (tuple(window.shape), precision)
    if key not in known:
        known[key] = _converted(network, window, precision, cache or _cache_folder())
    known.move_to_end(key)
    while len(known) > _KEPT_COMPILED:
        known.popitem(last=False)
    return known[key]


def agreement_of(logits: torch.Tensor, expected: torch.Tensor) -> Agreement:
    """Compare two engines' logits of one window."""
    probability, wanted = logits.float().sigmoid(), expected.float().sigmoid()
    mask, truth = probability >= _THRESHOLD, wanted >= _THRESHOLD
    voxels = int(mask.sum()) + int(truth.sum())
    overlap = 2 * int((mask & truth).sum()) / voxels if voxels else 1.0
    return Agreement(overlap, float((probability - wanted).abs().mean()))


def _converted(network: nn.Module, window: torch.Tensor, precision: str, cache: Path) -> OpenVinoNetwork:
    import openvino
    import torch

    settings = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    file = cache / f"{_key(network, tuple(window.shape), precision, openvino.__version__)}.xml"
    record = file.with_suffix(".json")
    core = openvino.Core()
    try:
        agreement = Agreement(**json.loads(record.read_text(encoding="utf-8")))
        compiled = core.compile_model(core.read_model(file), "CPU", settings)
    except (OSError, ValueError, TypeError, RuntimeError):  # not made yet, or damaged: made again
        pass
    else:
        record.touch()
        return OpenVinoNetwork(compiled, agreement)
    plain = _plain_copy(network, window.shape[1])
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the shape is fixed, which is what the tracer warns of
        expected = plain(window)
        model = openvino.convert_model(plain, example_input=window, input=list(window.shape))
    made = OpenVinoNetwork(core.compile_model(model, "CPU", settings), Agreement(0.0, 1.0))
    made.agreement = agreement_of(made(window), expected)
    _keep(model, file, made.agreement, compress=precision == "bfloat16")
    return made


def _plain_copy(network: nn.Module, in_channels: int) -> nn.Module:
    from ..networks.folding import folded
    from ..networks.layout import to_fast_layout
    from ..networks.split_upsampling import split_upsampling

    return to_fast_layout(split_upsampling(folded(network, in_channels)))


def _keep(model, file: Path, agreement: Agreement, compress: bool) -> None:
    """Write a converted network and what was measured; the record comes last, and without it nothing is used."""
    import openvino

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        openvino.save_model(model, file, compress_to_fp16=compress)
        file.with_suffix(".json").write_text(json.dumps(asdict(agreement)), encoding="utf-8")
    except (OSError, RuntimeError):  # a full disk costs the next process a conversion, nothing else
        return
    records = sorted(file.parent.glob("*.json"), key=lambda path: path.stat().st_mtime)
    for old in records[:-_KEPT_FILES]:
        for suffix in (".json", ".xml", ".bin"):
            old.with_suffix(suffix).unlink(missing_ok=True)


def _key(network: nn.Module, shape: tuple[int, ...], precision: str, version: str) -> str:
    from ..transfer.provenance import hash_of_weights

    parts = (hash_of_weights(network.state_dict()), repr(network), shape, precision, version, __version__)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _cache_folder() -> Path:
    from ..bundle.library import xtl_home

    return xtl_home() / "cache" / "openvino"
