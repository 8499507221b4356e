"""A model's network alone, in files that run without XTL, compared with the original."""

from __future__ import annotations

import json
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_bundles import CLASSIFICATION, SEGMENTATION, write_toy_bundle
from XTLLib.bundle import compiled, layout
from XTLLib.bundle.export import export_bundle
from XTLLib.bundle.load import load_bundle
from XTLLib.errors import InputError, MissingPackageError

SUFFIXES = {"torchscript": ".pt", "torch-export": ".pt2", "onnx": ".onnx"}


@pytest.fixture(scope="module")
def toys(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("toys")
    return {spec.kind: write_toy_bundle(folder / spec.kind, spec) for spec in (SEGMENTATION, CLASSIFICATION)}


def run_file(path: Path, form: str, x: torch.Tensor) -> torch.Tensor:
    """The network in a file, by the package that the format belongs to."""
    if form == "torchscript":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch.jit.load(str(path))(x)
    if form == "torch-export":
        return torch.export.load(str(path)).module()(x)
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["logits"], {"image": x.numpy()})[0])


@pytest.mark.parametrize(
    ("kind", "form"),
    [("segmentation", form) for form in SUFFIXES]
    + [("classification", form) for form in ("torchscript", "torch-export")],
)
def test_the_network_alone_gives_the_bundle_s_logits(toys, tmp_path, form, kind, recwarn):
    if form == "onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package)
    exported = export_bundle(toys[kind], tmp_path / f"network{SUFFIXES[form]}", form)
    assert exported.difference <= compiled.PARITY and len(set(exported.sizes)) == 2
    assert list(recwarn) == [] and [path.name for path in tmp_path.iterdir()] == [exported.path.name]
    size = (2, 2, 64, 32, 48) if kind == "segmentation" else (5, 2, 1, 32, 32)  # none of those compared in the export
    assert size not in exported.sizes
    x = torch.from_numpy(np.random.default_rng(1).normal(size=size).astype(np.float32))
    with torch.no_grad():
        expected, found = load_bundle(toys[kind]).network()(x), run_file(exported.path, form, x)
    assert float((found - expected).abs().max()) <= compiled.PARITY * float(expected.abs().max())


def test_a_traced_network_refuses_sizes_that_it_was_not_traced_for(toys, tmp_path):
    path = export_bundle(toys["segmentation"], tmp_path / "n.pt", "torchscript").path
    for size in ((33, 50, 47), (20, 20, 20)):
        with pytest.raises(RuntimeError):
            run_file(path, "torchscript", torch.zeros(1, 2, *size))


def test_the_file_says_how_its_input_is_made(toys, tmp_path):
    path = export_bundle(toys["segmentation"], tmp_path / "n.pt", "torchscript").path
    extra = {"xtl.json": ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.load(str(path), _extra_files=extra)
    facts = json.loads(extra["xtl.json"])
    assert json.loads(facts["channels"]) == ["FLAIR", "T1"] and json.loads(facts["threshold"]) == 0.5
    assert "not a medical device" in facts["intended_use"]


def test_a_network_that_differs_is_not_written(toys, tmp_path, monkeypatch):
    def disturbed(path):
        network = torch.jit.load(path)
        return lambda x: network(x) * 1.01

    monkeypatch.setattr(compiled, "_torchscript", disturbed)
    with pytest.raises(InputError, match=r"differs from the bundle's by 0\.0"):
        export_bundle(toys["classification"], tmp_path / "n.pt", "torchscript")
    assert list(tmp_path.iterdir()) == []


def test_onnx_without_its_packages_says_what_to_install(toys, tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(MissingPackageError, match="pip install onnxscript"):
        export_bundle(toys["classification"], tmp_path / "n.onnx", "onnx")
    assert list(tmp_path.iterdir()) == []


def test_bundles_are_exported_whole(toys, tmp_path):
    folder = export_bundle(toys["segmentation"], tmp_path / "folder").path
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name[0] != ".") == (
        sorted(layout.WRITTEN)
    )
    archives = [export_bundle(toys["segmentation"], tmp_path / f"{n}.zip", "zip").path for n in (1, 2)]
    assert archives[0].read_bytes() == archives[1].read_bytes()
    with zipfile.ZipFile(archives[0]) as archive:
        assert sorted(archive.namelist()) == sorted(f"toy/{file}" for file in layout.WRITTEN)


def test_places_and_formats_that_do_not_fit_are_named(toys, tmp_path):
    toy = toys["classification"]
    (tmp_path / "there.zip").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for out, form, words in (
        (tmp_path / "there.zip", "zip", "exists"),
        (tmp_path / "n.zip", "onnx", "ends with .onnx"),
        (tmp_path / "full", "folder", "did not write"),
        (tmp_path / "n", "pdf", "pdf"),
    ):
        with pytest.raises(InputError, match=words):
            export_bundle(toy, out, form)
    assert (tmp_path / "there.zip").read_text() == "mine"


def test_a_model_that_was_changed_is_not_passed_on(tmp_path):
    toy = write_toy_bundle(tmp_path / "toy", CLASSIFICATION)
    (toy / "LICENSE").write_text("do what you like")
    with pytest.raises(InputError, match="LICENSE was changed"):
        export_bundle(toy, tmp_path / "toy.zip", "zip")


def test_exporting_loads_onnx_only_for_onnx(toys, tmp_path):
    before = "onnxruntime" in sys.modules
    export_bundle(toys["classification"], tmp_path / "n.pt", "torchscript")
    assert ("onnxruntime" in sys.modules) == before
