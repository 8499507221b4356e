"""Checkpoints of other programs: their names, found or mapped, and what is said when they do not fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from XTLLib.errors import InputError
from XTLLib.networks.backbones import build_backbone
from XTLLib.networks.initialisation import initialise_backbone
from XTLLib.networks.key_map import match_keys

torch.set_num_threads(1)

FIRST = "conv1.weight"


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return build_backbone("resnet18").state_dict()


def start(tmp_path, content, name="resnet18", **options):
    path = tmp_path / "checkpoint.pth"
    torch.save(content, path)
    return initialise_backbone(name, weights=str(path), seed=1, **options)


def same_weights(backbone, state) -> bool:
    return all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())


@pytest.mark.parametrize("prefix", ["module.", "backbone.", "encoder.", "module.encoder_q.", "model.vision.trunk.0."])
def test_shared_beginning_of_names_is_found(tmp_path, state, prefix):
    content = {prefix + key: value for key, value in state.items()}
    content |= {prefix + "fc.weight": torch.zeros(1000, 512), "decoder.conv1.weight": torch.zeros(64, 3, 7, 7)}
    backbone, report = start(tmp_path, {"state_dict": content})
    assert same_weights(backbone, state)
    assert (report.matched, report.needed) == (100, 100)
    assert set(report.unexpected) == {prefix + "fc.weight", "decoder.conv1.weight"}
    assert report.notes == ("the state dict was under 'state_dict'", f"{prefix!r} was taken off the names")


def test_own_names_are_preferred_to_a_copy_under_a_prefix(tmp_path, state):
    ema = {f"ema.{key}": torch.zeros_like(value) for key, value in state.items()}
    backbone, report = start(tmp_path, {**ema, **state})
    assert same_weights(backbone, state)
    assert len(report.unexpected) == len(ema)


def test_numbered_children_by_a_key_map(tmp_path, state):
    """A Sequential of a ResNet's children, as RadImageNet's files have it."""
    order = ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"]
    keys = {f"backbone.{order.index(name)}.": f"{name}." for name in order if name not in ("relu", "maxpool")}
    numbered = {
        f"backbone.{order.index(key.partition('.')[0])}.{key.partition('.')[2]}": value for key, value in state.items()
    }
    with pytest.raises(InputError, match=r"The shapes are there under other names: give a key map") as caught:
        start(tmp_path, numbered)
    assert "('backbone.0.', 'backbone.1.', 'backbone.4.', " in str(caught.value)
    assert "to those of resnet18 ('conv1.', 'bn1.', 'layer1.', " in str(caught.value)
    backbone, report = start(tmp_path, numbered, keys=keys)
    assert same_weights(backbone, state)
    assert report.matched == 100


def test_longest_beginning_of_a_key_map_wins(state):
    content = {"a." + key: value for key, value in state.items() if not key.startswith("layer4")}
    content |= {"a.last." + key[7:]: value for key, value in state.items() if key.startswith("layer4")}
    match = match_keys(content, state, FIRST, {"a.": "", "a.last.": "layer4."})
    assert match.is_complete


def test_key_map_that_fits_nothing_or_too_much(state):
    with pytest.raises(InputError, match=r"no name in the weights file begins with 'modul_'.*'layer4.'"):
        match_keys(state, state, FIRST, {"modul_": ""})
    both = {**state, **{f"ema.{key}": value for key, value in state.items()}}
    with pytest.raises(InputError, match=r"'conv1.weight' and 'ema.conv1.weight' of the weights file both become"):
        match_keys(both, state, FIRST, {"ema.": ""})


def test_old_densenet_names_can_be_mapped_as_they_are_in_the_file():
    state = build_backbone("densenet121").state_dict()
    old = {"net." + key.replace("denselayer1.norm1", "denselayer1.norm.1"): value for key, value in state.items()}
    assert "net.features.denseblock1.denselayer1.norm.1.weight" in old
    keys = {"net.features.denseblock1.denselayer1.norm.1.": "features.denseblock1.denselayer1.norm1.", "net.": ""}
    assert match_keys(old, state, "features.conv0.weight", keys).is_complete


def test_grey_first_convolution_answers_a_grey_image_alike(tmp_path, state):
    grey = {**state, FIRST: state[FIRST].sum(1, keepdim=True)}
    backbone, report = start(tmp_path, grey)
    assert backbone.conv1.weight.shape == (64, 3, 7, 7)
    assert report.matched == 100 and any("grey" in note for note in report.notes)
    image = torch.randn(2, 1, 32, 32)
    expected = F.conv2d(image, grey[FIRST], stride=2, padding=3)
    torch.testing.assert_close(backbone.conv1(image.expand(-1, 3, -1, -1)), expected, rtol=1e-4, atol=1e-5)


def test_larger_network_of_the_family_is_refused(tmp_path, state):
    """ResNet-34 holds a tensor for each of ResNet-18, and more blocks."""
    larger = {
        **state,
        **{key.replace("layer1.1", "layer1.2"): value for key, value in state.items() if "layer1.1" in key},
    }
    with pytest.raises(InputError, match=r"100 of 100 tensors match; 12 are unknown \(layer1.2.conv1.weight"):
        start(tmp_path, larger)
    assert start(tmp_path, larger, minimum_match=0.99)[1].matched == 100  # on the user's word


def test_whole_numbers_are_no_weights(state):
    match = match_keys({**state, FIRST: state[FIRST].to(torch.int8)}, state, FIRST)
    assert match.matched == 99 and match.mismatched == ("conv1.weight 64x3x7x7 instead of 64x3x7x7",)


def test_another_backbone_under_a_prefix_is_named(tmp_path, state):
    content = {"module." + key: value for key, value in state.items()}
    with pytest.raises(InputError, match="It fits resnet18; name that backbone"):
        start(tmp_path, content, "vgg16_bn")
    with pytest.raises(InputError, match="Give a file of weights for resnet18"):
        start(tmp_path, {"linear.weight": torch.zeros(3, 3)})


@settings(max_examples=100, deadline=None)
@given(
    kept=st.sets(st.integers(0, 99), max_size=100),
    prefix=st.sampled_from(["", "module.", "a.b.c."]),
    order=st.randoms(use_true_random=False),
)
def test_counts_add_up_whatever_the_file_holds(state, kept, prefix, order):
    needed = [key for key in state if not key.endswith("num_batches_tracked")]
    names = [needed[index] for index in sorted(kept)]
    order.shuffle(names)
    match = match_keys({prefix + key: state[key] for key in names}, state, FIRST)
    assert match.matched + len(match.missing) + len(match.mismatched) == match.needed == 100
    assert len(match.unexpected) + len(match.mismatched) + match.matched == len(names)
    if len(names) > 50:  # fewer may agree with a part of the network as well
        assert match.matched == len(names) and match.share == pytest.approx(len(names) / 100)


def test_hostile_names_take_no_time(state):
    names = [".".join(["conv1"] * 60) + f".{number}.weight" for number in range(5000)]
    match = match_keys({name: torch.zeros(1) for name in names}, state, FIRST)
    assert match.matched == 0 and len(match.unexpected) == 5000


def test_numpy_file_becomes_a_backbone(tmp_path, state):
    np.savez(tmp_path / "weights.npz", **{key: value.numpy() for key, value in state.items()})
    backbone, _ = initialise_backbone("resnet18", weights=str(tmp_path / "weights.npz"), seed=0)
    assert same_weights(backbone, state)
