"""The window loop against MONAI's inferer, and what it promises beside: skipping, cancelling, putting back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from XTLLib.errors import Cancelled, InputError
from XTLLib.inference.device import pick_device
from XTLLib.inference.sliding_window import gaussian_weights, predict, windows_for
from XTLLib.progress import Progress


class _Small(nn.Module):
    """Two convolutions whose answer near a window's border differs from that in its middle."""

    def __init__(self, channels: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv3d(channels, 6, 5, padding=2), nn.ReLU(), nn.Conv3d(6, 1, 3, padding=1))
        self.calls = []

    def forward(self, x):
        self.calls.append(tuple(x.shape))
        return 4 * self.layers(x)


def _image(shape=(2, 30, 41, 36), seed=0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(("window", "overlap"), [((16, 16, 16), 0.5), ((12, 20, 16), 0.5), ((16, 24, 36), 0.25)])
def test_agrees_with_monai(window, overlap):
    from monai.inferers import sliding_window_inference

    network, image = _Small().eval(), _image()
    ours = predict(network, image, window=window, overlap=overlap, batch=3)
    with torch.no_grad():
        logits = sliding_window_inference(
            torch.from_numpy(image)[None], window, 3, network, overlap=overlap, mode="gaussian"
        )
    assert ours.dtype == np.float32 and ours.shape == image.shape[1:]
    np.testing.assert_allclose(ours, torch.sigmoid(logits)[0, 0].numpy(), atol=1e-4)


def test_weights_are_monais():
    from monai.data.utils import compute_importance_map

    theirs = compute_importance_map((5, 16, 31), mode="gaussian", sigma_scale=0.125).numpy()
    np.testing.assert_allclose(gaussian_weights((5, 16, 31)), theirs, rtol=1e-5)


def test_inside_the_foreground_skipping_empty_windows_changes_nothing():
    image = _image((2, 24, 60, 24))
    foreground = np.zeros(image.shape[1:], bool)
    foreground[:, :12] = foreground[:, 50:] = True  # two ends, nothing between
    network = _Small()
    everything = predict(network, image, window=(24, 12, 24))
    network.calls.clear()
    skipping = predict(network, image, foreground, window=(24, 12, 24))
    np.testing.assert_allclose(skipping[foreground], everything[foreground], atol=1e-6)
    assert not skipping[~foreground].any()
    assert len(network.calls) < 9  # of 9 windows along the long axis


def test_only_the_box_of_the_foreground_is_computed():
    image, network = _image((2, 60, 60, 60)), _Small()
    foreground = np.zeros(image.shape[1:], bool)
    foreground[30:34, 30:34, 30:34] = True
    probability = predict(network, image, foreground)
    assert network.calls == [(1, 2, 12, 12, 12)]  # 4 voxels and a margin of 4 around them
    assert (probability > 0).sum() == 64


def test_a_network_that_knows_its_multiple_gets_it_where_the_image_has_room():
    network = _Small()
    network.size_multiple = (4, 32, 32)
    foreground = np.zeros((30, 41, 36), bool)
    foreground[14, 20, 18] = True
    predict(network, _image(), foreground)
    assert network.calls == [(1, 2, 12, 32, 32)]


def test_an_empty_foreground_is_an_empty_map_and_no_call():
    network = _Small()
    assert not predict(network, _image(), np.zeros((30, 41, 36), bool)).any()
    assert network.calls == []


def test_large_boxes_are_tiled():
    assert windows_for((130, 160, 130)) == [(130, 160, 130), (128, 128, 128), (64, 64, 64)]
    assert windows_for((300, 512, 512)) == [(128, 128, 128), (64, 64, 64)]
    assert windows_for((19, 512, 512)) == [(19, 128, 128), (19, 64, 64)]


def test_memory_of_the_gpu_that_does_not_suffice_leads_to_smaller_windows():
    class Greedy(_Small):
        def forward(self, x):
            if x.shape[2] > 64:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(x)

    network, image = Greedy(1), _image((1, 72, 20, 20))
    np.testing.assert_allclose(predict(network, image), predict(_Small(1), image, window=(64, 20, 20)), atol=1e-5)


def test_the_result_is_the_same_every_time():
    network, image = _Small(), _image()
    first, second = (predict(network, image, window=(16, 16, 16), batch=2) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_the_networks_mode_is_put_back_and_dropout_is_off():
    network = nn.Sequential(nn.Conv3d(1, 4, 1), nn.Dropout(0.9), nn.Conv3d(4, 1, 1)).train()
    network[2].eval()  # as a frozen part is
    image = _image((1, 8, 8, 8))
    np.testing.assert_array_equal(predict(network, image), predict(network, image))
    assert network.training and network[1].training and not network[2].training


def test_progress_is_told_and_a_cancel_stops_between_batches():
    events = []
    network = _Small()
    predict(network, _image(), window=(16, 16, 16), batch=4, progress=Progress(events.append))
    assert [event.fraction for event in events] == sorted(event.fraction for event in events)
    assert events[-1].fraction == 1.0
    network.calls.clear()
    with pytest.raises(Cancelled):
        predict(
            network, _image(), window=(16, 16, 16), batch=4, progress=Progress(None, lambda: len(network.calls) == 2)
        )
    assert len(network.calls) == 2


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="shape"):
        predict(_Small(), _image()[0])
    with pytest.raises(InputError, match="shape"):
        predict(_Small(), _image(), np.ones((3, 3, 3), bool))
    with pytest.raises(InputError, match="window"):
        predict(_Small(), _image(), window=(0, 4, 4))
    with pytest.raises(InputError, match="overlap"):
        predict(_Small(), _image(), overlap=1.0)
    with pytest.raises(InputError, match="one logit"):
        predict(nn.Conv3d(2, 3, 1), _image())


def test_devices():
    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto").type in ("cpu", "cuda")
    assert pick_device(torch.device("cpu")) == torch.device("cpu")
    for name in ("gpu", "mps", "cuda:99"):
        with pytest.raises(InputError, match=name):
            pick_device(name)
