"""How other programs run a segmentation network over a volume; each as its documentation says, with its defaults."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor, nn

Run = Callable[[Tensor], Tensor]  # float32 image (C, D, H, W) -> logits (D, H, W)


class MissingPeer(Exception):
    """A program to compare with is not installed, or cannot be imported."""


def monai(network: nn.Module, device: str, window: int, overlap: float = 0.25, mode: str = "constant") -> Run:
    """``monai.inferers.sliding_window_inference``; its own defaults are overlap 0.25 and mode "constant".

    Under bfloat16 autocast on a GPU.
    """
    try:
        from monai.inferers import sliding_window_inference
    except ImportError as error:
        raise MissingPeer("MONAI") from error

    @torch.no_grad()
    def run(image: Tensor) -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            logits = sliding_window_inference(
                image[None].to(device), (window,) * 3, 1, network, overlap=overlap, mode=mode
            )
        return logits[0, 0].float()

    return run


def nnunet(network: nn.Module, device: str, tile: int, mirroring: bool) -> Run:
    """The predictor of nnU-Net v2: step 0.5, Gaussian weights; half precision on a GPU, as it does by itself."""
    try:
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    except ImportError as error:
        raise MissingPeer("nnU-Net v2") from error
    predictor = nnUNetPredictor(
        use_mirroring=mirroring,
        perform_everything_on_device=device == "cuda",
        device=torch.device(device),
        allow_tqdm=False,
    )
    predictor.network = network
    predictor.configuration_manager = SimpleNamespace(patch_size=(tile,) * 3)
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=1)
    predictor.allowed_mirroring_axes = (0, 1, 2)

    @torch.no_grad()
    def run(image: Tensor) -> Tensor:
        return predictor.predict_sliding_window_return_logits(image)[0].float()

    return run


def torchio(network: nn.Module, device: str, window: int) -> Run:
    """TorchIO's GridSampler and GridAggregator with the overlap that MONAI has by default."""
    try:
        import torchio
    except ImportError as error:
        raise MissingPeer("TorchIO") from error

    @torch.no_grad()
    def run(image: Tensor) -> Tensor:
        subject = torchio.Subject(image=torchio.ScalarImage(tensor=image))
        sampler = torchio.GridSampler(subject, (window,) * 3, (window // 4,) * 3)
        aggregator = torchio.GridAggregator(sampler)
        for index, location in enumerate(sampler.locations):
            patch = sampler[index]["image"].data[None].to(device)
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                logits = network(patch).float().cpu()
            aggregator.add_batch(logits, torch.as_tensor(location)[None])
        return aggregator.get_output_tensor()[0]

    return run
