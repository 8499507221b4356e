"""A package ``openvino`` for tests where none is installed: the calls that XTL makes, computed by torch."""

from __future__ import annotations

import copy
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import torch


class StandIn:
    """Puts itself in the place of the package.

    Attributes
    ----------
    error : added to all logits, as of an engine that computes wrongly. conversions : how many were made.
    """

    def __init__(self, monkeypatch) -> None:
        self.error, self.conversions = 0.0, 0
        module = ModuleType("openvino")
        module.__spec__ = ModuleSpec("openvino", None)
        module.__version__ = "0"
        module.Core = lambda: _Core(self)
        module.convert_model = self._convert
        module.save_model = lambda model, path, compress_to_fp16: torch.save(model, path)
        monkeypatch.setitem(sys.modules, "openvino", module)

    def _convert(self, network, example_input, input):
        assert list(example_input.shape) == input and example_input.dtype == torch.float32
        self.conversions += 1
        return copy.deepcopy(network)


class _Core:
    def __init__(self, owner: StandIn) -> None:
        self._owner = owner

    def read_model(self, path: Path):
        return torch.load(path, weights_only=False)

    def compile_model(self, model, device: str, settings: dict):
        assert device == "CPU" and settings["INFERENCE_PRECISION_HINT"] in ("bf16", "f32")
        return _Compiled(self._owner, model)


class _Compiled:
    def __init__(self, owner: StandIn, model) -> None:
        self._owner, self._model = owner, model

    def create_infer_request(self):
        return self

    def infer(self, inputs):
        with torch.inference_mode():
            return [(self._model(torch.from_numpy(inputs[0])) + self._owner.error).numpy()]
