"""What a fresh process loads before its first result, and that reading a bundle draws no random numbers."""

from __future__ import annotations

import json
import subprocess
import sys

import torch
from toy_bundles import write_toy_bundle
from XTLLib.bundle.load import load_bundle
from XTLLib.inference.engine import fast_network
from XTLLib.inference.segment import ready_network

_SCRIPT = """
import json, sys
import XTLLib.inference.worker, XTLLib.inference.segment
before = sorted(set(sys.modules) & {"torch", "numpy", "scipy", "SimpleITK"})
from XTLLib.bundle.load import read_bundle
XTLLib.inference.segment.ready_network(read_bundle(sys.argv[1]), "cpu")
print(json.dumps([before, sorted(sys.modules)]))
"""


def test_the_way_to_the_first_result_loads_no_more_than_it_needs(tmp_path):
    bundle = write_toy_bundle(tmp_path / "toy")
    done = subprocess.run([sys.executable, "-c", _SCRIPT, str(bundle)], capture_output=True, text=True, check=True)
    before, after = json.loads(done.stdout.splitlines()[-1])
    assert before == ["numpy"]  # importing the worker costs next to nothing
    # MONAI takes two seconds, torch's compiler one.
    unwanted = {"monai", "torch._dynamo", "sklearn", "matplotlib", "pydantic", "nibabel", "pandas", "vtk", "slicer"}
    assert not unwanted & set(after)


def test_reading_a_bundle_draws_nothing_and_gives_its_weights(tmp_path):
    folder = write_toy_bundle(tmp_path / "toy", seed=7)
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    state = load_bundle(folder).network().state_dict()
    assert torch.equal(torch.rand(1), expected)
    written = torch.load(folder / "models" / "model.pt", weights_only=True)
    assert state.keys() == written.keys() and all(torch.equal(state[name], written[name]) for name in state)


def test_a_network_is_made_ready_once(tmp_path):
    bundle = load_bundle(write_toy_bundle(tmp_path / "toy"))
    network = ready_network(bundle, "cpu", "float32")
    quick = fast_network(network, 2, "cpu", "float32")
    assert ready_network(bundle, "cpu", "float32") is network
    assert fast_network(network, 2, "cpu", "float32") is quick
