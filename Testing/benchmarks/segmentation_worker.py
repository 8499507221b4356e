"""A process of the benchmark of inference: makes methods ready, and runs one when it is told to.

Started by segmentation_inference.py with a JSON object of ``Settings`` as its only argument. It writes a line of
JSON when it is ready, and one for each name of a method that it reads.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from segmentation_data import HEAD, Head, dice, enlarged, prepared_head, trained_network
from torch import nn
from XTLLib.errors import MissingPackageError
from XTLLib.inference.engine import predict_case

_MIRRORED = (0, 1, 2)
_OURS = {
    "ours float32": {"precision": "float32"},
    "ours": {},
    "ours mirrored": {"mirror_axes": _MIRRORED},
    "ours OpenVINO float32": {"engine": "openvino", "precision": "float32"},
    "ours OpenVINO bfloat16": {"engine": "openvino", "precision": "bfloat16"},
}
_PEERS = {
    "MONAI defaults": ("monai", {}),
    "MONAI overlap 0.5 gaussian": ("monai", {"overlap": 0.5, "mode": "gaussian"}),
    "TorchIO": ("torchio", {}),
    "nnU-Net v2 without mirroring": ("nnunet", {"mirroring": False}),
    "nnU-Net v2 mirrored": ("nnunet", {"mirroring": True}),
}


@dataclass(frozen=True)
class Settings:
    """What a process does.

    Attributes
    ----------
    methods : names that it makes ready. device : "cpu" or "cuda".
    shape : (K, J, I) of the head. spacing_mm : of its grid, along all axes.
    window, tile : side of a window, voxels: MONAI's and TorchIO's, and nnU-Net's.
    steps : of the network's training; 0 leaves it untrained. stretched_to : (K, J, I) to which the head is enlarged.
    """

    methods: tuple[str, ...]
    device: str = "cpu"
    shape: tuple[int, int, int] = HEAD
    spacing_mm: float = 1.0
    window: int = 96
    tile: int = 128
    steps: int | None = None
    stretched_to: tuple[int, int, int] | None = None


def method_of(name: str, network: nn.Module, head: Head, settings: Settings) -> Callable[[], np.ndarray]:
    """A function that gives the probability (D, H, W) of the head by a method.

    Raises MissingPeer, or MissingPackageError.
    """
    import segmentation_peers as peers

    if name in _OURS:
        if "OpenVINO" in name:
            from XTLLib.inference.openvino_engine import require_openvino

            require_openvino()
        return partial(_ours, network, head, settings.device, _OURS[name])
    kind, options = _PEERS[name]
    size = settings.tile if kind == "nnunet" else settings.window
    run = getattr(peers, kind)(network.to(settings.device), settings.device, size, **options)
    image = torch.from_numpy(head.image)
    return lambda: run(image).sigmoid().cpu().numpy()


def _ours(network: nn.Module, head: Head, device: str, options: dict) -> np.ndarray:
    result = predict_case(network, head.image, head.foreground, device=device, **options)
    if result.notes:
        raise SystemExit(f"ours is not what it says: {'; '.join(result.notes)}")
    return result.probability


def main() -> None:
    import segmentation_peers as peers

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    settings = Settings(**json.loads(sys.argv[1]))
    head = prepared_head(tuple(settings.shape), settings.spacing_mm)
    if settings.stretched_to:
        head = enlarged(head, tuple(settings.stretched_to))
    network = trained_network() if settings.steps is None else trained_network(settings.steps)
    ready, missing = {}, []
    for name in settings.methods:
        try:
            ready[name] = method_of(name, network, head, settings)
        except (peers.MissingPeer, MissingPackageError):
            missing.append(name)
    _tell({"ready": list(ready), "missing": missing, "foreground": float(head.foreground.mean())})
    for line in sys.stdin:
        began = time.perf_counter()
        probability = ready[line.strip()]()
        seconds = time.perf_counter() - began
        _tell({"s": seconds, "dice": dice(probability, head.truth), "peak_mib": peak_mib()})


def peak_mib() -> float:
    """Of this process's resident memory."""
    status = Path("/proc/self/status")
    if status.is_file():  # what a program was before it was started does not count there
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line[:6] == "VmHWM:") / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _tell(message: dict) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
