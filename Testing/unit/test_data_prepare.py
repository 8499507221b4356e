"""From a case to a network's input: the working grid, intensities, and the way back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from voxel_grids import grids
from XTLLib.data.case import Case
from XTLLib.data.geometry import Grid
from XTLLib.data.prepare import Preparation, find_foreground, normalise, without_holes
from XTLLib.data.volume import Volume
from XTLLib.errors import InputError


def ball(grid: Grid, radius_mm: float, level: float, name: str = "volume") -> Volume:
    """A ball in the middle of a dark field, bright in its centre and fading to its edge."""
    k, j, i = np.indices(grid.shape)
    positions = grid.index_to_ras(np.stack([i, j, k], axis=-1))
    middle = grid.index_to_ras((np.array(grid.shape[::-1]) - 1) / 2)
    distance = np.linalg.norm(positions - middle, axis=-1)
    return Volume(level * np.clip(1 - distance / radius_mm, 0, 1).astype(np.float32), grid, name)


def case_of(*grids_of_channels: Grid) -> Case:
    channels = {name: ball(grid, 8, 100, name) for name, grid in zip(("FLAIR", "T1", "T2"), grids_of_channels)}
    return Case("P", channels, "FLAIR")


def cube(count: int, spacing_mm: float, codes: str = "LPS") -> Grid:
    signs = [(-1 if code in "LP" else 1) for code in codes]
    affine = np.diag([*(sign * spacing_mm for sign in signs), 1.0])
    affine[:3, 3] = [-sign * spacing_mm * (count - 1) / 2 for sign in signs]
    return Grid((count, count, count), affine)


def test_intensities_are_zero_mean_unit_sd_in_the_foreground_and_zero_outside():
    prepared = Preparation(("FLAIR", "T1"), "FLAIR")(case_of(cube(24, 1.0), cube(24, 1.0)))
    assert prepared.image.shape == (2, 24, 24, 24)
    assert prepared.image.dtype == np.float32
    for channel in prepared.image:
        inside = channel[prepared.foreground]
        clipped = np.clip(inside, *np.percentile(inside, (0.5, 99.5)))  # what sets the scale
        assert abs(clipped.mean()) < 1e-3
        assert clipped.std() == pytest.approx(1, abs=1e-3)
        assert (channel[~prepared.foreground] == 0).all()
    volume = prepared.foreground.sum() * 1.0
    assert volume == pytest.approx(4 / 3 * np.pi * (0.98 * 8) ** 3, rel=0.05)


@settings(max_examples=15, deadline=None)
@given(grids(smallest=4))
def test_the_working_grid_is_the_references_voxels_along_lps(grid):
    assert Preparation(("FLAIR",), "FLAIR").working_grid(grid).matches(grid.along_lps())


def test_one_head_on_differently_stored_grids_gives_one_network_input():
    """RAS, LAS (left-handed against it) and LPS storage of one head: the network sees the same."""
    images = [Preparation(("FLAIR",), "FLAIR")(case_of(cube(20, 1.0, codes))).image for codes in ("LPS", "RAS", "LAS")]
    for image in images[1:]:
        assert np.allclose(image, images[0], atol=1e-5)


def test_channels_on_different_grids_meet_in_patient_space():
    case = case_of(cube(24, 1.0), cube(16, 1.5, "RAS"), cube(32, 0.75))
    prepared = Preparation(("FLAIR", "T1", "T2"), "FLAIR")(case)
    correlations = np.corrcoef(prepared.image.reshape(3, -1))
    assert correlations.min() > 0.95


def test_a_working_spacing_is_met_within_five_percent():
    case = case_of(cube(24, 1.0))
    assert Preparation(("FLAIR",), "FLAIR", (2, 2, 2))(case).image.shape == (1, 12, 12, 12)
    same = Preparation(("FLAIR",), "FLAIR", (1.04, 1.04, 0.96))(case)
    assert same.grid.matches(case.grid.along_lps())


@settings(max_examples=15, deadline=None)
@given(grids(smallest=4))
def test_a_map_and_a_mask_go_to_the_working_grid_and_back(grid):
    volume = Volume(np.random.default_rng(0).uniform(1, 2, grid.shape).astype(np.float32), grid)
    prepared = Preparation(("FLAIR",), "FLAIR")(Case("P", {"FLAIR": volume}, "FLAIR"))
    mask = np.random.default_rng(1).random(grid.shape) > 0.5
    there = prepared.mask_on_working_grid(Volume(mask, grid))
    back = prepared.on_reference_grid(there.astype(np.float32))
    assert back.grid is grid
    assert np.array_equal(back.array > 0.5, mask)


def test_a_mask_on_another_grid_moves_by_majority_of_volume():
    reference, fine = cube(16, 1.5), cube(30, 0.8)
    truth = ball(fine, 9, 1)
    prepared = Preparation(("FLAIR",), "FLAIR")(Case("P", {"FLAIR": ball(reference, 10, 100)}, "FLAIR"))
    moved = prepared.mask_on_working_grid(Volume(truth.array > 0, fine))
    assert moved.shape == reference.shape
    assert moved.sum() * 1.5**3 == pytest.approx((truth.array > 0).sum() * 0.8**3, rel=0.1)
    assert np.allclose(np.argwhere(moved).mean(axis=0), 7.5, atol=0.1)


def test_a_dark_hole_belongs_to_the_foreground():
    stack = ball(cube(20, 1.0), 8, 100).array[None].copy()
    stack[0, 9:11, 9:11, 9:11] = 0
    assert find_foreground(stack)[9:11, 9:11, 9:11].all()
    assert not find_foreground(stack)[0].any()


def test_an_outlier_neither_sets_the_scale_nor_reaches_the_network():
    plain = np.random.default_rng(0).normal(100, 10, (10, 10, 10)).astype(np.float32)
    foreground = np.ones(plain.shape, bool)
    spoilt = plain.copy()
    spoilt[0, 0, 0] = 1e6
    normalise(plain, foreground)
    normalise(spoilt, foreground)
    assert spoilt[0, 0, 0] == 8
    assert np.allclose(spoilt.ravel()[1:], plain.ravel()[1:], atol=0.02)


def test_a_lesion_among_the_brightest_half_percent_keeps_its_contrast():
    channel = np.random.default_rng(0).normal(100, 10, (40, 40, 40)).astype(np.float32)
    channel[20:24, 20:24, 20:24] = 150  # 5 SD, 0.1 % of the voxels
    normalise(channel, np.ones(channel.shape, bool))
    assert channel[21, 21, 21] == pytest.approx(5, abs=0.15)


def test_what_cannot_be_prepared_is_told_by_name():
    grid = cube(8, 1.0)
    with pytest.raises(InputError, match="T1 is missing"):
        Preparation(("FLAIR", "T1"), "FLAIR")(case_of(grid))
    with pytest.raises(InputError, match="reference channel"):
        Preparation(("T1",), "FLAIR")
    with pytest.raises(InputError, match="reference channel FLAIR is missing"):
        Case("P", {"T1": ball(grid, 3, 1)}, "FLAIR")
    empty = Volume(np.zeros(grid.shape, np.float32), grid, "black.nii")
    with pytest.raises(InputError, match=r"black\.nii holds no foreground"):
        Preparation(("FLAIR",), "FLAIR")(Case("P", {"FLAIR": empty}, "FLAIR"))
    holed = ball(grid, 3, 100, "holed.nii")
    holed.array[0, 0, 0] = np.nan
    with pytest.raises(InputError, match=r"holed\.nii has 1 voxels"):
        Preparation(("FLAIR",), "FLAIR")(Case("P", {"FLAIR": holed}, "FLAIR"))


def test_a_channel_that_is_the_same_everywhere_is_noted_and_a_reference_refused():
    case, prepare = case_of(cube(12, 1.0), cube(12, 1.0)), Preparation(("FLAIR", "T1"), "FLAIR")
    assert prepare(case).notes == ()
    blank = Volume(np.zeros((12, 12, 12), np.float32), cube(12, 1.0), "blank")
    dead = Case("P", {"FLAIR": case.channels["FLAIR"], "T1": blank}, "FLAIR")
    assert prepare(dead).notes == ("blank (T1) is the same everywhere: it tells nothing",)
    with pytest.raises(InputError, match=r"blank \(FLAIR\) is the same everywhere"):
        prepare(Case("P", {"FLAIR": blank, "T1": case.channels["T1"]}, "FLAIR"))


def test_a_head_of_one_value_with_a_small_lesion_is_an_image():
    """The lesion is less than what is clipped before the scale is taken."""
    head = np.full((12, 12, 12), 5.0, np.float32)
    head[6, 6, 6] = 9.0
    prepared = Preparation(("FLAIR",), "FLAIR")(Case("P", {"FLAIR": Volume(head, cube(12, 1.0), "head")}, "FLAIR"))
    assert prepared.image.max() == 8.0


def test_channels_that_do_not_overlap_are_refused():
    affine = cube(24, 1.0).ijk_to_ras.copy()
    affine[:3, 3] += [0, 0, 20]
    with pytest.raises(InputError, match=r"covers only 1[79]% of the reference"):
        Preparation(("FLAIR", "T1"), "FLAIR")(case_of(cube(24, 1.0), Grid((24, 24, 24), affine)))


@pytest.mark.parametrize("density", [0.0, 0.3, 0.6, 0.8])
def test_holes_are_those_of_scipy(density):
    from scipy.ndimage import binary_fill_holes

    mask = np.zeros((20, 24, 18), bool)
    mask[3:17, 2:20, 4:18] = np.random.default_rng(0).random((14, 18, 14)) < density
    before = mask.copy()
    assert np.array_equal(without_holes(mask), binary_fill_holes(mask)) and np.array_equal(mask, before)
