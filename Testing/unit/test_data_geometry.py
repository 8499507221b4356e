"""Voxel grids: every conversion there and back, on random oblique and left-handed grids."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from voxel_grids import grids
from XTLLib.data.geometry import Grid, ras_from_lps
from XTLLib.errors import InputError

every_grid = settings(max_examples=60, deadline=None)


def voxel_indices(grid: Grid) -> np.ndarray:
    """(K, J, I, 3) of (i, j, k)."""
    k, j, i = np.indices(grid.shape)
    return np.stack([i, j, k], axis=-1)


@every_grid
@given(grids(), st.integers(0, 10**6))
def test_indices_and_positions_go_there_and_back(grid, seed):
    ijk = np.random.default_rng(seed).uniform(-10, 10, (5, 3))
    assert np.allclose(grid.ras_to_index(grid.index_to_ras(ijk)), ijk, atol=1e-9)
    homogeneous = np.concatenate([ijk, np.ones((5, 1))], axis=1) @ grid.ijk_to_ras.T
    assert np.allclose(grid.index_to_ras(ijk), homogeneous[:, :3], atol=1e-9)


@every_grid
@given(grids())
def test_spacing_is_the_distance_of_neighbours_and_volume_their_product(grid):
    steps = grid.index_to_ras(np.eye(3)) - grid.index_to_ras(np.zeros(3))
    assert np.allclose(np.linalg.norm(steps, axis=1), grid.spacing_mm)
    assert grid.voxel_volume_mm3 == pytest.approx(np.prod(grid.spacing_mm))


@every_grid
@given(grids())
def test_an_array_along_lps_keeps_every_value_at_its_place(grid):
    positions = grid.index_to_ras(voxel_indices(grid))
    standard = grid.along_lps()
    moved = np.stack([grid.to_along_lps(positions[..., axis]) for axis in range(3)], axis=-1)
    assert np.allclose(moved, standard.index_to_ras(voxel_indices(standard)), atol=1e-9)


@every_grid
@given(grids(smallest=2))
def test_axes_along_lps_run_to_left_posterior_superior(grid):
    standard = grid.along_lps()
    directions = np.diag([-1, -1, 1]) @ (standard.ijk_to_ras[:3, :3] / np.array(standard.spacing_mm))
    # No other assignment of axes has a greater sum of cosines, and none points backwards.
    assert (np.diag(directions) > 0).all()
    assert np.trace(directions) >= max(np.abs(directions)[:, order].trace() for order in np.array(
        [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])) - 1e-9  # fmt: skip
    assert standard.along_lps().matches(standard)


@every_grid
@given(grids(), st.integers(0, 2))
def test_from_along_lps_undoes_to_along_lps_with_leading_axes(grid, leading):
    array = np.random.default_rng(0).normal(size=(2, 3)[:leading] + grid.shape)
    back = grid.from_along_lps(grid.to_along_lps(array))
    assert np.array_equal(back, array)


def test_a_radiological_axial_stack_is_already_along_lps():
    grid = Grid((4, 5, 6), np.diag([-0.5, -0.5, 3.0, 1.0]))
    assert grid.along_lps().matches(grid)
    ras = Grid((4, 5, 6), np.diag([0.5, 0.5, 3.0, 1.0]))
    array = np.arange(120).reshape(4, 5, 6)
    assert np.array_equal(ras.to_along_lps(array), array[:, ::-1, ::-1])


@every_grid
@given(grids(smallest=3), st.data())
def test_a_crop_keeps_positions(grid, data):
    starts = [data.draw(st.integers(0, count - 1)) for count in grid.shape]
    box = tuple(slice(start, data.draw(st.integers(start + 1, count))) for start, count in zip(starts, grid.shape))
    positions = grid.index_to_ras(voxel_indices(grid))
    cropped = grid.crop(box)
    assert np.allclose(positions[box], cropped.index_to_ras(voxel_indices(cropped)), atol=1e-9)


@every_grid
@given(grids(smallest=4), st.floats(0.5, 3))
def test_another_spacing_keeps_axes_and_centre(grid, factor):
    wanted = tuple(factor * mm for mm in grid.spacing_mm)
    other = grid.with_spacing(wanted)
    assert np.allclose(other.spacing_mm, wanted)
    centres = [g.index_to_ras((np.array(g.shape[::-1]) - 1) / 2) for g in (grid, other)]
    assert np.allclose(*centres, atol=1e-9)
    extents = [np.array(g.shape[::-1]) * g.spacing_mm for g in (grid, other)]
    assert (np.abs(extents[0] - extents[1]) <= np.array(wanted) / 2 + 1e-9).all() or min(other.shape) == 1


@every_grid
@given(grids(smallest=2))
def test_overlap_is_one_with_itself_and_a_half_when_moved_by_half(grid):
    assert grid.overlap_with(grid) == 1
    assert grid.overlap_with(grid.along_lps()) == 1
    moved = grid.ijk_to_ras.copy()
    moved[:3, 3] += moved[:3, 0] * grid.shape[2] / 2
    lattice_step = 1 / grid.shape[2]  # up to 16 points an axis: the fraction is told to half a step
    assert grid.overlap_with(Grid(grid.shape, moved)) == pytest.approx(0.5, abs=lattice_step / 2 + 1e-6)
    moved[:3, 3] += moved[:3, 0] * grid.shape[2]
    assert grid.overlap_with(Grid(grid.shape, moved)) == 0


@every_grid
@given(grids())
def test_the_voxels_are_inside_and_a_point_beyond_the_border_is_not(grid):
    assert grid.contains(grid.index_to_ras(voxel_indices(grid))).all()
    last = np.array(grid.shape[::-1]) - 1.0
    assert grid.contains(grid.index_to_ras(last + 0.49))
    assert not grid.contains(grid.index_to_ras(last + np.array([0.51, 0, 0])))


def test_matching_has_a_tolerance_in_mm_at_every_corner():
    grid = Grid((10, 10, 400), np.eye(4))
    affine = grid.ijk_to_ras.copy()
    affine[1, 0] = 1e-5  # a rotation of 1e-5: 4 micrometres at the far end
    assert not grid.matches(Grid(grid.shape, affine))
    assert grid.matches(Grid(grid.shape, affine), tolerance_mm=0.01)
    assert not grid.matches(Grid((10, 10, 399), np.eye(4)))


def test_lps_and_ras_differ_in_the_sign_of_two_axes():
    assert ras_from_lps([1, 2, 3]).tolist() == [-1, -2, 3]
    assert ras_from_lps(ras_from_lps([1, 2, 3])).tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("shape", "affine"),
    [
        ((2, 2, 0), np.eye(4)),
        ((2, 2), np.eye(4)),
        ((2, 2, 2), np.diag([1.0, 1.0, 0.0, 1.0])),
        ((2, 2, 2), np.diag([1.0, np.nan, 1.0, 1.0])),
        ((2, 2, 2), np.eye(3)),
    ],
)
def test_an_impossible_grid_is_refused(shape, affine):
    with pytest.raises(InputError):
        Grid(shape, affine)


def test_a_grid_cannot_be_changed_through_its_affine():
    affine = np.eye(4)
    grid = Grid((2, 2, 2), affine)
    affine[0, 3] = 5
    assert grid.ijk_to_ras[0, 3] == 0
    with pytest.raises(ValueError):
        grid.ijk_to_ras[0, 3] = 5
