"""The inference engine: the same function in fewer passes, within the memory at hand, and what it says of that."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from XTLLib.errors import InputError, XTLError
from XTLLib.inference import engine
from XTLLib.inference.engine import fast_network, predict_case, windows_for
from XTLLib.inference.memory import free_memory
from XTLLib.inference.sliding_window import predict
from XTLLib.networks.build import build_network
from XTLLib.networks.folding import activation_values_per_voxel, folded
from XTLLib.networks.segmentation import UpBlock
from XTLLib.networks.spec import BACKBONES, NetworkSpec
from XTLLib.networks.split_upsampling import split_upsampling
from XTLLib.progress import Progress

CPU = torch.device("cpu")


def _network(backbone: str = "resnet18", channels: int = 2) -> nn.Module:
    """A network whose BatchNorms hold statistics and weights as after training."""
    torch.manual_seed(0)
    network = build_network(NetworkSpec("segmentation", backbone, in_channels=channels, conversion="inflate"))
    for part in network.modules():
        if isinstance(part, nn.BatchNorm3d):
            nn.init.uniform_(part.running_mean, -0.2, 0.2)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
            nn.init.uniform_(part.weight, 0.5, 1.2)
            nn.init.uniform_(part.bias, -0.1, 0.1)
    return network.eval()


def _image(shape=(2, 40, 48, 36)) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_folding_leaves_the_function_as_it_is(backbone):
    network, image = _network(backbone), torch.from_numpy(_image((2, 24, 40, 32)))[None]
    quick = folded(network, 2)
    with torch.no_grad():
        expected, actual = network(image), quick(image)
    assert torch.allclose(actual, expected, atol=1e-4 * float(expected.abs().max()))
    before, after = (sum(isinstance(p, nn.BatchNorm3d) for p in n.modules()) for n in (network, quick))
    # DenseNet normalises what it has put together, which is no convolution's output.
    assert before > 0 and after < before and (after == 0 or backbone == "densenet121")


def test_a_batchnorm_that_does_not_only_follow_its_convolution_is_not_folded():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.other = nn.Conv3d(2, 3, 1), nn.BatchNorm3d(3), nn.Conv3d(3, 3, 1)
            self.norm.running_mean += 1

        def forward(self, x):
            y = self.conv(x)
            return self.norm(y) + self.other(y)

    class Hidden(Shared):  # the second use is outside of any module, so only the comparison can tell
        def forward(self, x):
            y = self.conv(x)
            return self.norm(y) + 2 * y

    for kind in (Shared, Hidden):
        network, image = kind().eval(), torch.randn(1, 2, 5, 5, 5)
        quick = folded(network, 2)
        assert torch.equal(quick(image), network(image)) and isinstance(quick.norm, nn.BatchNorm3d)


@pytest.mark.parametrize("backbone", ["resnet18", "squeezenet1_0", "vgg16_bn"])  # first halving at 1, 1 and 0
def test_steps_up_are_split_without_changing_the_function(backbone):
    network = _network(backbone)
    for shape in ((2, 32, 64, 32), (2, 17, 36, 38)):  # exact halves everywhere; odd sizes at most levels
        image = torch.from_numpy(_image(shape))[None]
        with torch.no_grad():
            expected, actual = network(image), split_upsampling(copy.deepcopy(network))(image)
        assert torch.allclose(actual, expected, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("kernel", [(1, 3, 3), (3, 3, 3)])
@pytest.mark.parametrize("factors", [(1, 2, 2), (2, 2, 2)])
def test_a_step_up_is_split_for_any_depth(kernel, factors):
    torch.manual_seed(0)
    block = UpBlock(5, 4, kernel, factors).eval()
    split = split_upsampling(nn.ModuleList([copy.deepcopy(block)]))[0]
    x, skip = torch.randn(2, 5, 4, 6, 5), torch.randn(2, 4, 4 * factors[0], 12, 10)
    with torch.no_grad():
        split.plain = None  # the sizes fit, so that the plain block is not used
        assert torch.allclose(split(x, skip), block(x, skip), atol=1e-5)


def test_a_box_is_grown_only_as_far_as_the_finest_levels_need():
    network, image = _network(), _image((2, 90, 90, 45))
    foreground = np.zeros(image.shape[1:], bool)
    foreground[20:50, 20:53, 2:44] = True
    result = predict_case(network, image, foreground, device="cpu", precision="float32")
    # 30 and 33 voxels with 4 on each side are 38 and 41; 45 is the image's own width, filled up with background.
    assert result.window == (40, 44, 48)
    filled = np.pad(image, ((0, 0), (0, 0), (0, 0), (0, 3)))[:, 16:56, 16:60]
    with torch.no_grad():
        expected = network(torch.from_numpy(filled)[None]).sigmoid()[0, 0, :, :, :45].numpy()
    inside = foreground[16:56, 16:60]
    np.testing.assert_allclose(result.probability[16:56, 16:60][inside], expected[inside], atol=1e-5)
    assert not result.probability[~foreground].any()


def test_float32_gives_what_the_plain_loop_gives():
    network, image = _network(), _image()
    foreground = np.zeros(image.shape[1:], bool)
    foreground[4:36, 4:44, 4:32] = True  # with the margin the whole image, whose sizes suit both
    result = predict_case(network, image, foreground, device="cpu", precision="float32")
    np.testing.assert_allclose(result.probability, predict(network, image, foreground), atol=1e-5)
    assert result.precision == "float32" and result.uncertainty is None and not result.notes
    tiles = predict_case(network, image, foreground, device="cpu", precision="float32", window=(24, 24, 24))
    np.testing.assert_allclose(tiles.probability, predict(network, image, foreground, window=(24, 24, 24)), atol=1e-5)
    assert tiles.window == (24, 24, 24)
    assert network.training is False and next(network.parameters()).dtype == torch.float32


def test_half_precision_is_near_and_repeatable():
    network, image = _network(), _image()
    exact = predict_case(network, image, device="cpu", precision="float32").probability
    half = predict_case(network, image, device="cpu", precision="bfloat16")
    assert half.precision == "bfloat16" and not np.array_equal(half.probability, exact)
    assert np.abs(half.probability - exact).mean() < 0.01  # bfloat16 has three digits
    again = predict_case(network, image, device="cpu", precision="bfloat16")
    assert np.array_equal(half.probability, again.probability)


def test_mirrored_views_are_averaged_and_their_spread_is_told():
    network, image = _network(), _image()
    foreground = np.ones(image.shape[1:], bool)
    foreground[:, :, 30:] = False
    result = predict_case(network, image, foreground, device="cpu", precision="float32", mirror_axes=(0, 2))
    views = []
    for axes in ((), (0,), (2,), (0, 2)):
        mirrored = np.flip(image, [axis + 1 for axis in axes]) if axes else image
        where = np.flip(foreground, axes) if axes else foreground
        view = predict(network, np.ascontiguousarray(mirrored), np.ascontiguousarray(where))
        views.append(np.flip(view, axes) if axes else view)
    np.testing.assert_allclose(result.probability, np.mean(views, 0), atol=1e-5)
    np.testing.assert_allclose(result.uncertainty, np.std(views, 0), atol=1e-4)
    assert not result.probability[~foreground].any() and not result.uncertainty[~foreground].any()
    assert result.uncertainty.max() > 0


def test_windows_follow_the_memory():
    network, image = _network(), _image((2, 96, 96, 96))
    whole = predict_case(network, image, device="cpu", memory_bytes=8 * 2**30)
    small = predict_case(network, image, device="cpu", memory_bytes=100 * 2**20)
    assert whole.window == (96, 96, 96) and small.window == (64, 64, 64)
    assert windows_for((300, 512, 512))[0] == (300, 512, 512) and windows_for((40, 40, 40)) == [(40, 40, 40)]


def test_the_estimate_of_activations_grows_with_the_network():
    small, large = (activation_values_per_voxel(_network(name), 2) for name in ("squeezenet1_0", "vgg16_bn"))
    # VGG's first two convolutions hold 64 channels at full resolution: input and output of one are 128 values.
    assert large >= 128 and small < large


def test_out_of_memory_goes_down_the_ladder_and_says_so(monkeypatch):
    events, calls = [], []
    real = engine.window_logits

    def starved(module, crop, inside, window, *rest):
        calls.append(window)
        if np.prod(window) > 64**3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
        return real(module, crop, inside, window, *rest)

    monkeypatch.setattr(engine, "window_logits", starved)
    result = predict_case(_network(), _image((2, 72, 72, 72)), device="cpu", progress=Progress(events.append))
    assert calls == [(72, 72, 72), (64, 64, 64)] and result.window == (64, 64, 64)
    assert len(result.notes) == 1 and "72 x 72 x 72" in result.notes[0]
    assert any("Out of memory" in event.stage for event in events)

    monkeypatch.setattr(engine, "window_logits", lambda *_: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(XTLError, match="memory of cpu did not suffice"):
        predict_case(_network(), _image(), device="cpu")
    monkeypatch.setattr(engine, "window_logits", lambda *_: (_ for _ in ()).throw(RuntimeError("another fault")))
    with pytest.raises(RuntimeError, match="another fault"):
        predict_case(_network(), _image(), device="cpu")


def test_the_quick_copy_is_made_once():
    network = _network()
    assert fast_network(network, 2, "cpu") is fast_network(network, 2, "cpu")
    assert fast_network(network, 2, "cpu", "float32") is not fast_network(network, 2, "cpu", "bfloat16")


def test_free_memory_is_that_of_a_machine():
    assert 2**27 < free_memory(CPU) < 2**50


def test_bad_requests_are_named():
    with pytest.raises(InputError, match="float16 does not work on a CPU"):
        predict_case(_network(), _image(), device="cpu", precision="float16")
    with pytest.raises(InputError, match="precision 'int8'"):
        predict_case(_network(), _image(), device="cpu", precision="int8")
    with pytest.raises(InputError, match="mirror_axes"):
        predict_case(_network(), _image(), mirror_axes=(3,))
    with pytest.raises(InputError, match=r"an image of shape \(40, 48, 36\)"):
        predict_case(_network(), _image()[0])
    assert not predict_case(_network(), _image(), np.zeros((40, 48, 36), bool), device="cpu").probability.any()
