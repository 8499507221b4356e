"""The data of a stage that rates findings: motion in patient space, zones, and what is held for both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from toys import write_toy_patches
from XTLLib.data.case import Case, Finding
from XTLLib.data.datalist import Datalist, Entry
from XTLLib.data.geometry import Grid
from XTLLib.data.images import write_volume
from XTLLib.data.patch_jitter import PatchJitter
from XTLLib.data.patches import PatchSource, PatchSpec
from XTLLib.data.volume import Volume
from XTLLib.progress import Progress
from XTLLib.training.patches import PatchTask, jitter_of, patch_spec_of, zone_of_entry
from XTLLib.training.seeds import generator
from XTLLib.transfer.stages import ClassificationTarget

torch.set_num_threads(1)

SIZES = {"T2W": [16.0, 16.0, 9.0], "ADC": [40.0, 40.0, 12.0]}


def oblique(shape, spacing, degrees, centre) -> Grid:
    """A grid of this spacing about a centre (RAS mm), turned about S and then R."""
    a, b = np.deg2rad(degrees)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    turn = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]) @ turn
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-spacing[0], -spacing[1], spacing[2]])
    affine[:3, 3] = np.array(centre) - affine[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return Grid(shape, affine)


def case(seed: int = 0) -> Case:
    rng = np.random.default_rng(seed)
    grids = {"T2W": oblique((13, 90, 90), (0.6, 0.6, 3.0), (8, 5), (3, -4, 2))}
    grids["ADC"] = oblique((12, 60, 60), (1.8, 1.8, 3.6), (8, 5), (2, -3, 1))
    channels = {name: Volume(rng.integers(0, 1000, grid.shape).astype(np.int16), grid) for name, grid in grids.items()}
    return Case("p", channels, "T2W")


def spec_of(slices: int, intensity: str = "rank") -> PatchSpec:
    return PatchSpec(("T2W", "ADC"), (slices, 16, 16), SIZES, intensity)


@pytest.mark.parametrize("slices", [1, 5])
@pytest.mark.parametrize("intensity", ["rank", "robust"])
@pytest.mark.parametrize("place", [(3, -4, 2), (-12, 8, 14)], ids=["inside", "near-the-border"])
def test_what_is_held_around_a_finding_gives_the_patches_of_the_whole_image(slices, intensity, place):
    finding, source = Finding("1", place), PatchSource(case(), spec_of(slices, intensity))
    jitter = jitter_of(spec_of(slices))
    part = source.around(finding, jitter)
    assert np.abs(part.patch(finding) - source.patch(finding)).max() < 1e-5
    moved = [jitter.motion(1, step) for step in range(20)]
    for motion in moved:
        assert np.abs(part.patch(finding, motion) - source.patch(finding, motion)).max() < 1e-5
    assert any(np.abs(source.patch(finding, motion) - source.patch(finding)).max() > 0.1 for motion in moved)


def test_the_reach_of_a_jitter_holds_every_sample():
    jitter = PatchJitter(15, 10, (0.85, 1.15), (1.0, 2.0, 0.5), mirror=True)
    size = np.array([16.0, 30.0, 9.0])
    corners = np.array(np.meshgrid(*([-1, 1],) * 3)).reshape(3, -1).T * size / 2
    reach = jitter.reach_mm(tuple(size))
    furthest = np.max([np.abs(jitter.motion(0, step).sources(corners)).max(axis=0) for step in range(2000)], axis=0)
    assert (furthest <= reach).all() and (furthest > 0.5 * reach).all()
    assert PatchJitter().reach_mm((3.0, 4.0, 8.0)) == pytest.approx([2.5, 2.5, 4.0])


# --- the task -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def volumes(tmp_path_factory) -> Datalist:
    """Four cases with a finding each."""
    folder = tmp_path_factory.mktemp("volumes")
    entries = []
    for number in range(4):
        made, images = case(number), {}
        for name, volume in made.channels.items():
            images[name] = str(folder / f"p{number}_{name}.nii.gz")
            write_volume(volume, images[name])
        finding = Finding("1", (3.0, -4.0, 2.0), ("PZ", "TZ", "AS", "")[number])
        entries.append(Entry(f"p{number}", f"p{number}-1", images, number % 2, finding))
    return Datalist("volumes", "csv", "classification", ("T2W", "ADC"), "T2W", {}, training=tuple(entries))


def stage_of(slices: int = 1, **changes) -> ClassificationTarget:
    return ClassificationTarget(
        kind="target",
        task="classification",
        datalist="-",
        channels=["T2W", "ADC"],
        **{"patch": {"shape": [slices, 16, 16], "size_mm": SIZES}, **changes},
    )


def task_of(datalist: Datalist, stage: ClassificationTarget) -> PatchTask:
    return PatchTask(stage, patch_spec_of(stage, datalist), datalist, 3, Progress())


def test_images_move_in_patient_space_and_all_channels_alike(volumes):
    task = task_of(volumes, stage_of(5))
    chosen = np.array([2, 0])
    moved = task._moved(task._images[chosen].float(), chosen, generator(9))
    jitter, seed = jitter_of(spec_of(5)), int(generator(9).integers(2**62))
    assert jitter.tilt_degrees > 0 and jitter_of(spec_of(1)).tilt_degrees == 0
    for place, example in enumerate(chosen):
        source = PatchSource(case(int(example)), spec_of(5))
        expected = source.patch(volumes.training[example].finding, jitter.motion(seed, place))
        # Stored as NIfTI, an affine has the precision of float32.
        assert np.abs(moved[place].numpy() - expected).mean() < 1e-3


def test_a_batch_is_a_function_of_its_number(volumes):
    first, second = (task_of(volumes, stage_of(zones=True)) for _ in range(2))
    for number in (5, 0):
        assert all(torch.equal(a, b) for a, b in zip(first.batch(number), second.batch(number)))
    first.batch(1)
    assert torch.equal(first.batch(5)[0], second.batch(5)[0])
    assert not torch.equal(first.batch(5)[0][:, :2], first.batch(0)[0][:, :2])


def test_without_augmentation_nothing_is_held_or_changed(volumes):
    stage = stage_of(training={"augmentation": False})
    task = task_of(volumes, stage)
    images, _ = task.batch(0)
    order = task._passes.examples(0)
    assert torch.equal(images, task._images[order].float()) and not task._surroundings
    source = PatchSource(case(int(order[0])), patch_spec_of(stage, volumes))
    expected = source.patch(volumes.training[order[0]].finding)
    assert np.abs(images[0].numpy() - expected).max() < 1e-3


def test_zones_come_along_and_are_sometimes_left_out(volumes):
    task = task_of(volumes, stage_of(zones=True))
    seen = {entry: set() for entry in range(4)}
    left_out = []
    for number in range(60):
        order = task._passes.examples(number)
        planes = task.batch(number)[0][:, 2]
        assert (planes.amin((1, 2, 3)) == planes.amax((1, 2, 3))).all()
        for example, zone in zip(order, planes[:, 0, 0, 0].tolist()):
            seen[example].add(zone)
            left_out += [zone == 0] if example < 3 else []
    assert seen == {0: {0, 1}, 1: {0, 2}, 2: {0, 3}, 3: {0}}
    assert np.mean(left_out) == pytest.approx(0.25, abs=0.1)  # 180 draws: 3 SD
    plain = task_of(volumes, stage_of())
    assert plain.batch(0)[0].shape[1] == 2


def test_a_zone_stands_with_the_finding_or_among_the_attributes():
    finding = Finding("1", (0.0, 0.0, 0.0), "SV")
    entry = Entry("p", "c", {}, 0, finding, attributes={"zone": "PZ"})
    assert zone_of_entry(entry) == "SV"
    assert zone_of_entry(replace(entry, finding=replace(finding, zone=""))) == "PZ"
    assert zone_of_entry(Entry("p", "c", {}, 0)) == ""


def test_ready_made_patches_move_in_their_plane(tmp_path):
    datalist = Datalist.load(write_toy_patches(tmp_path))
    stage = stage_of(patch={})
    task = task_of(datalist, stage)
    assert not task._surroundings
    images, _ = task.batch(0)
    order = task._passes.examples(0)
    assert images.shape[1:] == (2, 1, 32, 32) and not torch.equal(images, task._images[order].float())


def test_rating_is_the_sigmoid_of_the_logits_in_the_order_of_the_entries(volumes):
    task = task_of(volumes, stage_of(zones=True))

    class Brightness(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, x):
            return (x[:, 0].mean((1, 2, 3)) + 10 * x[:, 2].mean((1, 2, 3)))[:, None] * self.weight

    entries = tuple(reversed(volumes.training))
    found = task.rate(Brightness(), entries, volumes, Progress())
    logits = [
        PatchSource(case(n), patch_spec_of(stage_of(), volumes)).patch(entry.finding)[0].mean() + 10 * zone
        for n, entry, zone in zip((3, 2, 1, 0), entries, (0, 3, 2, 1))
    ]
    assert found == pytest.approx(1 / (1 + np.exp(-np.array(logits))), abs=1e-3) and found.dtype == np.float64
