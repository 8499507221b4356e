"""OpenVINO is used only where it agrees with torch, is converted once, and its absence and its faults are told."""

from __future__ import annotations

import importlib.util
import json
import sys

import numpy as np
import pytest
import torch
from openvino_stand_in import StandIn
from XTLLib.errors import InputError, MissingPackageError
from XTLLib.inference.engine import predict_case
from XTLLib.inference.openvino_engine import Agreement, agreement_of
from XTLLib.networks.build import build_network
from XTLLib.networks.spec import NetworkSpec

IS_INSTALLED = importlib.util.find_spec("openvino") is not None


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("XTL_HOME", str(tmp_path))
    return tmp_path / "cache" / "openvino"


@pytest.fixture
def network():
    torch.manual_seed(0)
    return build_network(NetworkSpec("segmentation", "squeezenet1_0", 2, "inflate")).eval()


def _image(shape=(2, 32, 36, 32)) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_agreement_is_that_of_the_masks_and_of_the_probabilities():
    expected = torch.tensor([4.0, 4.0, -4.0, -4.0])
    found = agreement_of(torch.tensor([4.0, -4.0, -4.0, -4.0]), expected)
    p = 1 / (1 + np.exp(-4.0))
    assert found.dice == pytest.approx(2 / 3)  # 2 x 1 shared voxel, of 1 and 2 voxels
    assert found.mean_difference == pytest.approx((p - (1 - p)) / 4)
    assert not found.suffices
    assert agreement_of(expected - 8, expected - 8) == Agreement(1.0, 0.0)  # no lesion on either side
    assert Agreement(0.996, 0.004).suffices and not Agreement(0.996, 0.006).suffices
    assert not Agreement(0.994, 0.0).suffices


def test_what_agrees_is_used_and_converted_once(monkeypatch, network, home):
    engine = StandIn(monkeypatch)
    expected = predict_case(network, _image(), device="cpu", precision="float32")
    result = predict_case(network, _image(), device="auto", precision="float32", engine="openvino")
    assert result.precision == "OpenVINO float32" and not result.notes
    np.testing.assert_allclose(result.probability, expected.probability, atol=1e-5)
    predict_case(network, _image(), precision="float32", engine="openvino")
    assert engine.conversions == 1
    (record,) = home.glob("*.json")
    assert Agreement(**json.loads(record.read_text())).suffices

    torch.manual_seed(0)  # as in another process: the same weights in another object
    again = build_network(NetworkSpec("segmentation", "squeezenet1_0", 2, "inflate")).eval()
    predict_case(again, _image(), precision="float32", engine="openvino")
    assert engine.conversions == 1
    record.with_suffix(".xml").write_bytes(b"damaged")
    monkeypatch.setattr("XTLLib.inference.openvino_engine._compiled", {})
    monkeypatch.setattr(sys.modules["openvino"], "Core", _broken_reader(sys.modules["openvino"].Core))
    predict_case(again, _image(), precision="float32", engine="openvino")
    assert engine.conversions == 2
    with torch.no_grad():
        next(again.parameters()).mul_(1.5)  # other weights are another network
    monkeypatch.setattr("XTLLib.inference.openvino_engine._compiled", {})
    predict_case(again, _image(), precision="float32", engine="openvino")
    assert engine.conversions == 3


def _broken_reader(core):
    def make():
        made = core()
        made.read_model = lambda path: (_ for _ in ()).throw(RuntimeError("cannot be read"))
        return made

    return make


def test_what_does_not_agree_is_not_used(monkeypatch, network):
    engine = StandIn(monkeypatch)
    engine.error = 20.0
    expected = predict_case(network, _image(), device="cpu", precision="float32").probability
    for _ in range(2):  # the second time by the record
        result = predict_case(network, _image(), precision="float32", engine="openvino")
        assert result.precision == "float32"
        assert len(result.notes) == 1 and "does not agree with torch (Dice" in result.notes[0]
        np.testing.assert_array_equal(result.probability, expected)


def test_what_cannot_be_converted_is_computed_by_torch(monkeypatch, network):
    StandIn(monkeypatch)
    monkeypatch.setattr(
        sys.modules["openvino"],
        "convert_model",
        lambda *_, **__: (_ for _ in ()).throw(RuntimeError("no such operation")),
    )
    result = predict_case(network, _image(), precision="float32", engine="openvino")
    assert result.precision == "float32" and "cannot compute this network" in result.notes[0]


def test_tiles_and_mirrored_views_go_through_it(monkeypatch, network):
    StandIn(monkeypatch)
    settings = {"precision": "float32", "window": (32, 32, 32), "mirror_axes": (2,)}
    image = _image((2, 48, 36, 32))
    expected = predict_case(network, image, device="cpu", **settings)
    result = predict_case(network, image, engine="openvino", **settings)
    assert result.precision == "OpenVINO float32" and result.window == (32, 32, 32)
    np.testing.assert_allclose(result.probability, expected.probability, atol=1e-5)
    np.testing.assert_allclose(result.uncertainty, expected.uncertainty, atol=1e-4)


def test_a_few_conversions_are_kept(monkeypatch, network, home):
    StandIn(monkeypatch)
    for depth in range(32, 32 + 4 * 6, 4):
        predict_case(network, _image((2, depth, 32, 32)), precision="float32", engine="openvino")
    assert len(list(home.glob("*.json"))) == len(list(home.glob("*.xml"))) == 4


def test_a_request_that_cannot_be_met_is_named(monkeypatch, network):
    with pytest.raises(InputError, match="the engine 'onnx' is unknown"):
        predict_case(network, _image(), engine="onnx")
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match="openvino is not installed"):
        predict_case(network, _image(), engine="openvino")


@pytest.mark.skipif(not IS_INSTALLED, reason="needs the package openvino")
@pytest.mark.parametrize("backbone", ["resnet18", "squeezenet1_0"])
def test_the_real_openvino_agrees(backbone):
    torch.manual_seed(0)
    network = build_network(NetworkSpec("segmentation", backbone, 2, "inflate")).eval()
    image = _image((2, 36, 40, 44))
    expected = predict_case(network, image, device="cpu", precision="float32").probability
    for _ in range(2):
        result = predict_case(network, image, precision="float32", engine="openvino")
        assert result.precision == "OpenVINO float32" and not result.notes
        np.testing.assert_allclose(result.probability, expected, atol=1e-4)
