"""The built-in brain mask: on phantoms whose brain is known, on real heads, and where it has to give up."""

from __future__ import annotations

import numpy as np
import pytest
from XTLLib.data.brain_mask import brain_of, find_brain
from XTLLib.data.case import Case
from XTLLib.data.geometry import Grid
from XTLLib.data.images import read_volume
from XTLLib.data.phantoms.brain import brain_case
from XTLLib.data.volume import Volume
from XTLLib.errors import InputError
from XTLLib.metrics.overlap import dice


def ball(grid: Grid, radius_mm: float) -> np.ndarray:
    points = grid.index_to_ras(np.moveaxis(np.indices(grid.shape)[::-1], 0, -1))
    return np.linalg.norm(points, axis=-1) < radius_mm


@pytest.fixture(scope="module")
def shells() -> tuple[Volume, np.ndarray]:
    """A head of shells on an oblique grid: brain to 62 mm, fluid, skull, skin to 86 mm; and the true brain."""
    turn = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, -1.0]])
    affine = np.eye(4)
    affine[:3, :3] = turn * (2.0, 2.5, 3.0)
    shape = (64, 76, 96)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    grid = Grid(shape, affine)
    image = np.zeros(shape, np.float32)
    for radius, value in ((86, 90.0), (78, 8.0), (66, 20.0), (62, 100.0)):
        image[ball(grid, radius)] = value
    image += np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)
    return Volume(image, grid, "shells.nii"), ball(grid, 62)


def test_the_brain_within_shells_is_found_on_any_grid(shells):
    volume, brain = shells
    found = find_brain(volume)
    assert found.grid is volume.grid and found.array.dtype == bool
    assert dice(found.array, brain) > 0.96


@pytest.mark.parametrize("channel", ["FLAIR", "T1"])
def test_all_lesions_of_a_phantom_lie_within(channel):
    case = brain_case(2, "P")
    found = find_brain(case.channels[channel])
    assert found.array[case.mask.array].mean() > 0.995
    head = case.channels[channel].array > 0.1 * np.percentile(case.channels[channel].array, 99)
    assert 0.2 < found.array.sum() / head.sum() < 0.6  # it is not the head


def test_the_best_channel_of_a_case_is_taken(shells):
    volume, brain = shells
    noise = Volume(np.ones(volume.grid.shape, np.float32), volume.grid, "t2.nii")
    assert dice(brain_of(Case("p", {"T2": noise, "T1": volume}, "T2")).array, brain) > 0.96


def test_an_image_without_a_skull_is_taken_as_it_is(shells):
    volume, brain = shells
    stripped = Volume(np.where(brain, volume.array, 0), volume.grid, "stripped.nii")
    assert dice(find_brain(stripped).array, brain) > 0.96


def test_what_is_no_head_is_refused(shells):
    volume, _ = shells
    small = Volume(np.where(ball(volume.grid, 40), volume.array, 0), volume.grid, "knee.nii")
    with pytest.raises(InputError, match=r"no brain was found in knee\.nii .* ml"):
        find_brain(small)
    with pytest.raises(InputError, match=r"no brain was found in flat\.nii"):
        find_brain(Volume(np.zeros((40, 40, 40), np.float32), Grid((40, 40, 40), np.diag([4.0, 4, 4, 1])), "flat.nii"))


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "least"),
    [("study1_FLAIR", 0.94), ("study2_FLAIR", 0.94), ("study1_T1W", 0.93), ("study2_T1W", 0.93), ("study2_T2W", 0.90)],
)
def test_the_brain_of_a_real_head_agrees_with_its_mask(real_data, name, least):
    folder = real_data / "ms" / "longitudinal_common_space" / "patient01"
    truth = read_volume(folder / "patient01_brainmask.nii.gz").array > 0
    assert dice(find_brain(read_volume(folder / f"patient01_{name}reg.nii.gz")).array, truth) > least
