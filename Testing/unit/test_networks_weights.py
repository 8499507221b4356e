"""Weights from files: what fits is loaded and reported, what does not is refused with the nearest remedy."""

from __future__ import annotations

import hashlib
import re

import pytest
import torch
from XTLLib.errors import InputError
from XTLLib.networks.backbones import build_backbone
from XTLLib.networks.initialisation import initialise_backbone
from XTLLib.networks.weights import load_weights

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def squeezenet_state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    state = build_backbone("squeezenet1_0").state_dict()
    return {**state, "classifier.1.weight": torch.zeros(1000, 512, 1, 1), "classifier.1.bias": torch.zeros(1000)}


@pytest.fixture
def saved(tmp_path, squeezenet_state):
    path = tmp_path / "squeezenet.pth"
    torch.save(squeezenet_state, path)
    return path


def start(path, name="squeezenet1_0", **options):
    return initialise_backbone(name, weights=str(path), seed=1, **options)


def same_weights(backbone, state) -> bool:
    return all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "tensors", "parameters", "folded"),
    [("mobilenet_v2", 52 * 5, 3_504_872, True), ("squeezenet1_0", 2 * 25, 1_248_424, False)],
)
def test_real_imagenet_weights_match_completely(real_data, name, tensors, parameters, folded):
    path = real_data / "weights" / f"{name}_imagenet_fp16.pth"
    backbone, report = start(path, name)
    assert (report.matched, report.needed, report.missing, report.mismatched) == (tensors, tensors, (), ())
    assert set(report.unexpected) == {"classifier.1.weight", "classifier.1.bias"}
    assert report.folded_batchnorm is folded
    assert report.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    classifier = torch.load(path, weights_only=True)
    total = sum(p.numel() for p in backbone.parameters()) + sum(classifier[key].numel() for key in report.unexpected)
    assert total == parameters
    with torch.no_grad():
        pyramid = backbone.eval()(torch.randn(1, 3, 64, 64))
    assert all(torch.isfinite(stage).all() and stage.std() > 0 for stage in pyramid)
    assert {p.dtype for p in backbone.parameters()} == {torch.float32}


def test_classifier_is_dropped_and_reported(saved, squeezenet_state):
    backbone, report = start(saved)
    assert same_weights(backbone, squeezenet_state)
    assert report.unexpected == ("classifier.1.weight", "classifier.1.bias")
    assert (report.matched, report.needed, report.missing, report.source) == (50, 50, (), str(saved))
    assert str(report) == f"{saved}: 50 of 50 tensors, 2 left out"
    assert report.to_dict()["licence"].startswith("not stated in the file")
    assert start(saved, licence="CC BY 4.0")[1].licence == "CC BY 4.0"


def test_half_precision_becomes_single(tmp_path, squeezenet_state):
    path = tmp_path / "half.pth"
    half = {key: value.half() for key, value in squeezenet_state.items()}
    torch.save(half, path)
    assert same_weights(start(path)[0], {key: value.float() for key, value in half.items()})


def test_old_densenet_names_are_understood(tmp_path):
    torch.manual_seed(0)
    state = build_backbone("densenet121").state_dict()
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): value for key, value in state.items()}
    old = {key: value for key, value in old.items() if not key.endswith("num_batches_tracked")}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    path = tmp_path / "old.pth"
    torch.save(old, path)
    backbone, report = start(path, "densenet121")
    assert same_weights(backbone, state)
    assert report.matched == report.needed == 120 + 4 * 121  # convolutions; of BatchNorm all but the counter


def test_missing_file_and_wrong_checksum(saved, tmp_path):
    with pytest.raises(InputError, match=r"gone\.pth does not exist"):
        start(tmp_path / "gone.pth")
    with pytest.raises(InputError, match="SHA-256"):
        start(saved, sha256="0" * 64)
    digest = hashlib.sha256(saved.read_bytes()).hexdigest()
    assert start(saved, sha256=digest[:8])[1].sha256 == digest


def test_weights_of_another_network_are_refused_and_named(saved):
    backbone = build_backbone("resnet18")
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    with pytest.raises(InputError, match=r"does not fit resnet18: 0 of 100 tensors match.*It fits squeezenet1_0"):
        load_weights(backbone, saved)
    assert same_weights(backbone, before)


def test_weights_with_more_or_fewer_layers_are_refused(tmp_path, squeezenet_state):
    path = tmp_path / "other.pth"
    torch.save({**squeezenet_state, "features.13.squeeze.weight": torch.zeros(1)}, path)
    with pytest.raises(InputError, match=r"50 of 50 tensors match; 3 are unknown \(.*features.13.squeeze.weight"):
        start(path)
    torch.save({key: value for key, value in squeezenet_state.items() if "features.12" not in key}, path)
    with pytest.raises(
        InputError, match=r"44 of 50 tensors match; 6 are missing \(features.12.squeeze.weight, .*minimum_match to 0.88"
    ):
        start(path)


def test_a_part_of_the_weights_is_enough_when_asked_for(tmp_path, squeezenet_state):
    path = tmp_path / "part.pth"
    part = {key: value for key, value in squeezenet_state.items() if "features.12" not in key}
    part["features.0.weight"] = torch.zeros(96, 4, 7, 7)
    torch.save(part, path)
    with pytest.raises(InputError, match=r"1 are of another shape \(features.0.weight 96x4x7x7 instead of 96x3x7x7\)"):
        start(path, minimum_match=0.9)
    backbone, report = start(path, minimum_match=0.86)
    assert (report.matched, len(report.missing)) == (43, 6)
    assert report.mismatched == ("features.0.weight 96x4x7x7 instead of 96x3x7x7",)
    own = backbone.state_dict()
    random = initialise_backbone("squeezenet1_0", weights="random", seed=1)[0].state_dict()
    for key in own:  # what the file lacks is random, from the seed
        is_lacking = key == "features.0.weight" or "features.12" in key
        assert torch.equal(own[key], random[key] if is_lacking else squeezenet_state[key])


def test_random_weights_come_from_the_seed_alone():
    torch.manual_seed(5)
    expected_next = torch.rand(1)
    torch.manual_seed(5)
    first, report = initialise_backbone("resnet18", weights="random", seed=3)
    assert torch.equal(torch.rand(1), expected_next)
    again, frozen = initialise_backbone("resnet18", weights="frozen-random", seed=3)
    other, _ = initialise_backbone("resnet18", weights="random", seed=4)
    assert same_weights(first, again.state_dict())
    assert not same_weights(first, other.state_dict())
    assert (report.source, report.frozen, frozen.source, frozen.frozen) == ("random", False, "frozen-random", True)
    assert (report.matched, report.sha256, str(report)) == (0, None, "random weights")
    # He et al. 2015, fan out: standard deviation sqrt(2 / (channels * kernel area))
    assert first.layer4[1].conv2.weight.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)
    assert torch.equal(again.bn1.running_mean, torch.zeros(64)) and torch.equal(again.bn1.running_var, torch.ones(64))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "random", "layout": "keras"}, "the weights layout 'keras'. Choose torchvision or medicalnet"),
        ({"weights": "random", "minimum_match": 0}, "minimum_match 0"),
        ({"weights": "random", "minimum_match": 1.5}, "minimum_match 1.5"),
        ({"weights": "imagenet", "layout": "medicalnet"}, "weights imagenet come without a file of their own"),
        ({"weights": "frozen-random", "keys": {"a.": "b."}}, "Take out keys and layout"),
    ],
)
def test_options_that_mean_nothing(options, message):
    with pytest.raises(InputError, match=message):
        initialise_backbone("resnet18", seed=0, **options)
