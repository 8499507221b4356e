"""Weights from files, good and bad, and over a real (local) network connection."""

from __future__ import annotations

import hashlib
import pickle
import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from XTLLib.errors import Cancelled, InputError
from XTLLib.networks import weights
from XTLLib.networks.backbones import build_backbone
from XTLLib.networks.download import cache_folder, download
from XTLLib.networks.weights import IMAGENET_FILES, load_weights, read_state_dict
from XTLLib.progress import Progress

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


def same_weights(backbone, state) -> bool:
    return all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "tensors", "parameters", "folded"),
    [("mobilenet_v2", 52 * 6, 3_504_872, True), ("squeezenet1_0", 2 * 25, 1_248_424, False)],
)
def test_real_imagenet_weights_match_completely(real_data, name, tensors, parameters, folded):
    path = real_data / "weights" / f"{name}_imagenet_fp16.pth"
    backbone = build_backbone(name)
    report = load_weights(backbone, path)
    counters = sum(key.endswith("num_batches_tracked") for key in backbone.state_dict())
    assert report.matched + len(report.missing) == tensors == len(backbone.state_dict())
    assert len(report.missing) in (0, counters)
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
    backbone = build_backbone("squeezenet1_0")
    report = load_weights(backbone, saved)
    assert same_weights(backbone, squeezenet_state)
    assert report.unexpected == ("classifier.1.weight", "classifier.1.bias")
    assert (report.matched, report.missing, report.source) == (50, (), str(saved))


def test_checkpoint_around_a_state_dict_and_half_precision(tmp_path, squeezenet_state):
    path = tmp_path / "checkpoint.pth"
    half = {key: value.half() for key, value in squeezenet_state.items()}
    torch.save({"epoch": 3, "state_dict": half}, path)
    backbone = build_backbone("squeezenet1_0")
    load_weights(backbone, path)
    assert same_weights(backbone, {key: value.float() for key, value in half.items()})


def test_old_densenet_names_are_understood(tmp_path):
    torch.manual_seed(0)
    state = build_backbone("densenet121").state_dict()
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): value for key, value in state.items()}
    old = {key: value for key, value in old.items() if not key.endswith("num_batches_tracked")}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    path = tmp_path / "old.pth"
    torch.save(old, path)
    backbone = build_backbone("densenet121")
    report = load_weights(backbone, path)
    assert same_weights(backbone, state)
    assert len(report.missing) == 121 and all(key.endswith("num_batches_tracked") for key in report.missing)


class Malice:
    def __reduce__(self):
        return (eval, ("1 + 1",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not weights at all\n", "is not a state dict"),
        (b"", "is not a state dict"),
        (pickle.dumps(Malice()), "is not a state dict"),
        ({"weights": Malice()}, "is not a state dict"),
        ([torch.zeros(3)], "holds a list, not a state dict"),
        ({}, "not a state dict"),
        ({"epoch": 3, "optimizer": {}}, "'epoch' is a int, not a tensor"),
        ({"features.0.weight": torch.tensor([1.0, float("nan")])}, r"not finite \(features.0.weight\)"),
    ],
)
def test_file_that_is_no_state_dict_is_refused(tmp_path, content, message):
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(InputError, match=message) as caught:
        load_weights(build_backbone("squeezenet1_0"), path)
    assert str(path) in str(caught.value)


def test_truncated_file_is_refused(saved):
    saved.write_bytes(saved.read_bytes()[: saved.stat().st_size // 2])
    with pytest.raises(InputError, match="is not a state dict"):
        read_state_dict(saved)


def test_missing_file_and_wrong_checksum(saved, tmp_path):
    backbone = build_backbone("squeezenet1_0")
    with pytest.raises(InputError, match=r"gone\.pth does not exist"):
        load_weights(backbone, tmp_path / "gone.pth")
    with pytest.raises(InputError, match="SHA-256"):
        load_weights(backbone, saved, sha256="0" * 64)
    digest = hashlib.sha256(saved.read_bytes()).hexdigest()
    assert load_weights(backbone, saved, sha256=digest[:8]).sha256 == digest


def test_weights_of_another_network_are_refused_and_named(saved):
    backbone = build_backbone("resnet18")
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    with pytest.raises(InputError, match=r"does not fit resnet18: 0 of 100 tensors match.*It fits squeezenet1_0"):
        load_weights(backbone, saved)
    assert same_weights(backbone, before)


def test_weights_with_more_or_fewer_layers_are_refused(tmp_path, squeezenet_state):
    path = tmp_path / "other.pth"
    torch.save({**squeezenet_state, "features.13.squeeze.weight": torch.zeros(1)}, path)
    with pytest.raises(InputError, match=r"50 of 50 tensors match, 1 are unknown"):
        load_weights(build_backbone("squeezenet1_0"), path)
    torch.save({key: value for key, value in squeezenet_state.items() if "features.12" not in key}, path)
    with pytest.raises(InputError, match="44 of 50 tensors match"):
        load_weights(build_backbone("squeezenet1_0"), path)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args) -> None:
        pass

    def do_GET(self) -> None:
        if self.path.endswith("/cut.pth"):
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"only this")
        else:
            super().do_GET()


@pytest.fixture
def server(tmp_path):
    """A real HTTP server on this machine: its folder and its address."""
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XTL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_imagenet_weights_are_fetched_once_and_kept(server, home, saved, squeezenet_state, monkeypatch):
    folder, address = server
    digest = hashlib.sha256(saved.read_bytes()).hexdigest()
    name = f"squeezenet1_0-{digest[:8]}.pth"
    (folder / name).write_bytes(saved.read_bytes())
    monkeypatch.setitem(weights.IMAGENET_FILES, "squeezenet1_0", name)
    backbone = build_backbone("squeezenet1_0")
    with pytest.raises(InputError, match=r"not on this computer.*Allow the download, or fetch http"):
        load_weights(backbone, "imagenet", base_url=address)
    events = []
    report = load_weights(backbone, "imagenet", allow_download=True, base_url=address, progress=Progress(events.append))
    assert same_weights(backbone, squeezenet_state)
    assert (report.source, report.sha256) == (address + name, digest)
    assert "ImageNet" in report.licence
    assert events[-1].fraction == 1
    (folder / name).unlink()
    kept = load_weights(build_backbone("squeezenet1_0"), "imagenet", base_url=address)
    assert kept.sha256 == digest
    assert cache_folder() == home / "weights"
    assert [path.name for path in (home / "weights").iterdir()] == [name]


def test_changed_file_never_appears(server, home, saved):
    folder, address = server
    (folder / IMAGENET_FILES["squeezenet1_0"]).write_bytes(saved.read_bytes())
    with pytest.raises(InputError, match="'b66bff10' was expected"):
        load_weights(build_backbone("squeezenet1_0"), "imagenet", allow_download=True, base_url=address)
    assert list((home / "weights").iterdir()) == []


def test_download_fails_whole(server, tmp_path):
    folder, address = server
    (folder / "big.pth").write_bytes(bytes(2_000_000))
    target = tmp_path / "target" / "file.pth"

    def cancelled() -> bool:
        return True

    for failing, message in (
        (lambda: download(address + "gone.pth", target, "0" * 8), "404"),
        (lambda: download(address + "cut.pth", target, "0" * 8), "cut short"),
        (lambda: download(address + "big.pth", target, "0" * 8, size_limit_bytes=1_000_000), "larger than 1 MB"),
        (lambda: download("http://127.0.0.1:9/x.pth", target, "0" * 8), "could not be fetched"),
        (lambda: download("file:///etc/hostname", target, "0" * 8), "not http"),
        (lambda: download(address + "big.pth", target, ""), "was expected"),
    ):
        with pytest.raises(InputError, match=message):
            failing()
    with pytest.raises(Cancelled):
        download(address + "big.pth", target, "0" * 8, Progress(is_cancelled=cancelled))
    assert not target.parent.exists() or list(target.parent.iterdir()) == []
