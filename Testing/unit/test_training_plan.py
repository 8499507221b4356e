"""The plan of a chain: what it counts is what a run does, and what it estimates is near what was measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from toys import write_toy_mammograms, write_toy_patches, write_toy_volumes
from XTLLib.data.datalist import Datalist
from XTLLib.errors import InputError
from XTLLib.networks.build import build_network
from XTLLib.networks.spec import NetworkSpec
from XTLLib.training.memory import MIB, bytes_held, count_activations, estimate_memory
from XTLLib.training.plan import plan_chain
from XTLLib.training.plan_text import duration
from XTLLib.training.run import run_chain
from XTLLib.training.run_folder import load_datalists
from XTLLib.training.trial import sample_of
from XTLLib.transfer.chain import Chain, chain_from_dict
from XTLLib.transfer.training import WindowTraining


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tensors this small are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def lists(tmp_path_factory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("toys")
    return SimpleNamespace(
        folder=folder,
        volumes=write_toy_volumes(folder / "volumes"),
        mammograms=write_toy_mammograms(folder / "mammograms"),
        patches=write_toy_patches(folder / "patches"),
    )


def mammograms(lists, **training) -> dict:
    settings = {"epochs": 2, "batch_size": 4, "validation": 0, **training}
    return {
        "kind": "intermediate",
        "task": "mammogram-classification",
        "datalist": str(lists.mammograms),
        "image_size": 32,
        "training": settings,
    }


def segmentation(lists, **training) -> dict:
    settings = {"steps": 6, "batch_size": 2, **training}
    return {
        "kind": "target",
        "task": "segmentation",
        "datalist": str(lists.volumes),
        "channels": ["FLAIR", "T1"],
        "window": [16, 16, 16],
        "training": settings,
    }


def classification(lists, **training) -> dict:
    return {
        "kind": "target",
        "task": "classification",
        "datalist": str(lists.patches),
        "channels": ["T2W", "ADC"],
        "training": {"epochs": 3, "batch_size": 4, "validation": 0, **training},
    }


def chain_of(*stages: dict, weights: str = "random") -> Chain:
    start = {"kind": "initialisation", "weights": weights}
    return chain_from_dict({"name": "toy", "backbone": "squeezenet1_0", "stages": [start, *stages]})


def plan_of(chain: Chain):
    return plan_chain(chain, load_datalists(chain, None), device="cpu")


def files_below(folder: Path) -> set[tuple[str, int]]:
    return {(str(path), path.stat().st_mtime_ns) for path in folder.rglob("*")}


def test_the_plan_counts_what_the_run_then_does(lists, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chain = chain_of(mammograms(lists), segmentation(lists))
    before = files_below(lists.folder)
    plan = plan_of(chain)
    assert files_below(lists.folder) == before and not list(tmp_path.iterdir())
    films, windows = plan.stages
    assert (films.entries, films.patients, films.epochs, films.steps) == ((10, 0), (10, 0), 2, 4)  # 10 // 4 = 2 a pass
    assert (films.shape, windows.shape) == ((4, 3, 32, 32), (2, 2, 16, 16, 16))
    assert (windows.entries, windows.steps, windows.epochs, windows.batches) == ((2, 1), 6, None, 6)
    assert (films.validations, windows.validations) == (0, 4)

    done = run_chain(chain, tmp_path / "run", device="cpu").stages[1:]
    assert [record.metrics["steps"] for record in done] == [films.steps, windows.steps]
    for record, stage in zip(done, plan.stages):
        assert record.conversion["parameters"] == stage.parameters
        assert record.conversion["carried_share"] == stage.carried_share
    assert plan.seconds > 0 and all(stage.timing.step_s > 0 for stage in plan.stages)

    text = plan.to_text()
    assert text.startswith(
        "toy: random -> mammogram-classification (toy mammograms) => inflate => segmentation (toy volumes)\n"
    )
    for part in (f"{windows.parameters:,}", "2 x 2 x 16 x 16 x 16", "4 (2 epochs)", "Nothing was written", "MiB"):
        assert part in text
    assert max(map(len, text.splitlines())) < 200


def test_accumulated_batches_and_patches_are_counted(lists):
    (stage,) = plan_of(chain_of(classification(lists, accumulate=2))).stages
    assert (stage.steps, stage.batches) == (4, 8)  # 3 passes of 12 // 4 batches are 9 batches: 4 steps of two
    assert stage.shape == (4, 2, 1, 32, 32)


def test_stages_without_labels_and_a_decoder_that_is_carried_on(lists):
    slices = {
        "kind": "intermediate",
        "task": "self-supervised",
        "method": "masked",
        "images": "slices",
        "datalist": str(lists.volumes),
        "image_size": 32,
        "mask_size": 4,
        "training": {"steps": 3, "batch_size": 4},
    }
    before = {**segmentation(lists), "kind": "intermediate"}
    plan = plan_of(chain_of(slices, before, {**segmentation(lists, accumulate=2), "decoder": "carried"}))
    assert [stage.shape for stage in plan.stages] == [(4, 3, 1, 32, 32), (2, 2, 16, 16, 16), (2, 2, 16, 16, 16)]
    assert [stage.batches for stage in plan.stages] == [3, 6, 12]
    assert plan.line.count("=> inflate =>") == 1  # the conversion happens once
    assert "self-supervised (masked) on slices with squeezenet1_0, 2D" in plan.to_text()


def test_memory_that_is_not_there_leaves_the_time_open(lists, monkeypatch):
    monkeypatch.setattr("XTLLib.training.plan.free_memory", lambda _: 8 * MIB)
    plan = plan_of(chain_of(segmentation(lists)))
    assert plan.seconds is None and plan.stages[0].timing is None
    assert "8 MiB are free" in plan.to_text() and "unknown" in plan.to_text()


def test_what_a_run_refuses_the_plan_refuses_and_names_the_stage(lists):
    single = segmentation(lists, batch_size=1)
    single["window"] = [1, 8, 8]
    with pytest.raises(InputError, match=r"stage 2 \(segmentation\): a window of 1 x 8 x 8 voxels with batch_size 1"):
        plan_of(chain_of(mammograms(lists), single))
    with pytest.raises(InputError, match=r"weights file .* does not exist"):
        plan_of(chain_of(segmentation(lists), weights=str(lists.folder / "absent.pth")))
    other = segmentation(lists)
    other["channels"] = ["FLAIR", "PD"]
    with pytest.raises(InputError, match="needs the channel PD"):
        plan_of(chain_of(other))


def test_weights_that_a_run_would_download_are_not_downloaded(lists, tmp_path, monkeypatch):
    monkeypatch.setenv("XTL_HOME", str(tmp_path))
    plan = plan_of(chain_of(segmentation(lists), weights="imagenet"))
    assert plan.initialisation == "imagenet weights, which a run downloads first"
    assert not list(tmp_path.rglob("*.pth"))


def test_a_sample_has_all_classes_and_fills_a_batch(lists):
    films = Datalist.load(lists.mammograms)
    stage = chain_of(mammograms(lists, batch_size=8), segmentation(lists)).stages[1]
    sample = sample_of(stage, films)
    assert len(sample.training) == 8 and {entry.label for entry in sample.training} == {0, 1}
    volumes = sample_of(chain_of(segmentation(lists)).target, Datalist.load(lists.volumes))
    assert (len(volumes.training), len(volumes.validation), volumes.test) == (1, 1, ())


def test_activations_have_their_closed_form():
    # Kept for the backward pass: the input of each convolution, once each, and ReLU's output, which is the
    # second one's input; weights do not count.
    network = nn.Sequential(nn.Conv3d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, 4, 1))
    kept, widest = count_activations(network, (1, 2, 10, 10, 10))
    assert kept == 4 * 1000 * (2 + 8)
    assert widest == 4 * 1000 * (8 + 8)
    assert next(network.parameters()).device.type == "cpu"


def test_bytes_held_counts_every_array_once():
    import numpy as np

    array = np.zeros((4, 5), np.float32)
    tensor = torch.zeros(10)
    assert bytes_held([array, array[1:], {"a": tensor, "b": (tensor[2:], "text")}]) == 80 + 40


_TRAIN = """
import sys, torch
from XTLLib.networks.build import build_network
from XTLLib.networks.layout import to_fast_layout
from XTLLib.networks.spec import NetworkSpec
from XTLLib.training.losses import segmentation_loss
import SimpleITK, scipy.ndimage, XTLLib.data.load
backbone, side = sys.argv[1], int(sys.argv[2])
network = build_network(NetworkSpec("segmentation", backbone, in_channels=3, conversion="inflate",
                                    patch_shape=(side,) * 3))
network = to_fast_layout(network.train())
optimiser = torch.optim.AdamW(network.parameters())
for _ in range(2):
    images = to_fast_layout(torch.randn(2, 3, side, side, side))
    loss = segmentation_loss(network(images), torch.zeros(2, 1, side, side, side))
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
# Not ru_maxrss: it begins with what the process that started this one held.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(int(peak.split()[1]) * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of the resident memory as Linux counts it")
@pytest.mark.parametrize(("backbone", "side"), [("mobilenet_v2", 48), ("resnet18", 32)])
def test_the_memory_estimate_is_near_the_measured_peak(backbone, side):
    done = subprocess.run([sys.executable, "-c", _TRAIN, backbone, str(side)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    network = build_network(
        NetworkSpec("segmentation", backbone, in_channels=3, conversion="inflate", patch_shape=(side,) * 3)
    )
    estimate = estimate_memory(
        network,
        (2, 3, side, side, side),
        WindowTraining(),
        validates=False,
        data=0,
        device=torch.device("cpu"),
    )
    assert estimate.total == pytest.approx(int(done.stdout), rel=0.25)


def test_durations_read_well():
    assert [duration(s) for s in (12.4, 600, 9000)] == ["12 s", "10 min", "2.5 h"]
