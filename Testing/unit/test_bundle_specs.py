"""Every network that a chain can end in survives a bundle: written, imported, read by XTL and by MONAI, exported."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from toy_bundles import CLASSIFICATION, SEGMENTATION, write_toy_bundle
from XTLLib.bundle import layout
from XTLLib.bundle.compiled import PARITY
from XTLLib.bundle.export import export_bundle
from XTLLib.bundle.importing import import_bundle
from XTLLib.bundle.load import load_bundle
from XTLLib.networks.build import build_network
from XTLLib.networks.spec import CONVERSIONS, INPUT_CHANNELS, SLICE_POOLINGS, NetworkSpec

SPECS = [
    *(replace(SEGMENTATION, conversion=rule) for rule in CONVERSIONS if rule != "native"),
    replace(CLASSIFICATION, conversion="native", backbone="resnet18"),  # only ResNets are volumetric to begin with
    replace(CLASSIFICATION, conversion="acs"),
    *(replace(CLASSIFICATION, conversion="slice-encoder", slice_pooling=pooling) for pooling in SLICE_POOLINGS),
    *(
        replace(CLASSIFICATION, input_channels=rule, dropout=0.3, input_mean=0.5, input_sd=0.3)
        for rule in INPUT_CHANNELS
    ),
    replace(SEGMENTATION, spacing_mm=(1.0, 1.0, 4.0), decoder_channels=(8, 8, 8, 8, 8, 8)),
]


def identify(spec: NetworkSpec) -> str:
    return f"{spec.kind}-{spec.backbone}-{spec.conversion}-{spec.slice_pooling}-{spec.input_channels}"


@pytest.mark.parametrize("spec", SPECS, ids=identify)
def test_a_network_comes_back_from_a_bundle_as_it_was(spec, tmp_path, monkeypatch):
    from monai.bundle import ConfigParser

    monkeypatch.setenv("XTL_HOME", str(tmp_path / "home"))
    imported = import_bundle(write_toy_bundle(tmp_path / "toy", spec, seed=5))
    assert imported.notes == ()
    bundle = load_bundle(imported.path)
    assert bundle.spec == spec
    torch.manual_seed(5)
    network = build_network(spec).eval()
    x = torch.randn(1, 2, *((1, 32, 32) if spec.kind == "classification" else (32, 32, 32)))
    parser = ConfigParser()
    parser.read_config(str(imported.path / layout.INFERENCE))
    parser["bundle_root"] = str(imported.path)
    with torch.no_grad():
        expected = network(x)
        for other in (bundle.network(), parser.get_parsed_content("network")):
            assert float((other(x) - expected).abs().max()) < 1e-4 * float(expected.abs().max())
    assert export_bundle(imported.path, tmp_path / "n.pt", "torchscript").difference <= PARITY
