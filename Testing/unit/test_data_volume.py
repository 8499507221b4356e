"""Resampling in patient space, against images whose values are known everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from voxel_grids import grids, rotation
from XTLLib.data.geometry import Grid
from XTLLib.data.volume import Volume, from_sitk, resample, to_sitk
from XTLLib.errors import InputError

every_grid = settings(max_examples=40, deadline=None)
GRADIENT = np.array([0.3, -0.7, 1.1])


def linear_image(grid: Grid, dtype=np.float64) -> Volume:
    """Value = GRADIENT · RAS + 5 at every voxel centre."""
    k, j, i = np.indices(grid.shape)
    positions = grid.index_to_ras(np.stack([i, j, k], axis=-1))
    return Volume((positions @ GRADIENT + 5).astype(dtype), grid)


@every_grid
@given(grids(smallest=1))
def test_simpleitk_and_back_is_the_same_volume(grid):
    volume = Volume(np.arange(np.prod(grid.shape), dtype=np.int16).reshape(grid.shape), grid)
    image = to_sitk(volume)
    back = from_sitk(image)
    assert back.grid.matches(grid, 1e-6)
    assert np.array_equal(back.array, volume.array)
    index = [count - 1 for count in grid.shape[::-1]]
    lps = image.TransformIndexToPhysicalPoint(index)
    assert np.allclose(np.array(lps) * [-1, -1, 1], grid.index_to_ras(index), atol=1e-6)


@every_grid
@given(grids(smallest=4), st.integers(0, 10**6))
def test_linear_resampling_of_a_linear_image_is_exact_inside(grid, seed):
    """Any source grid, any target grid: a linear image is reproduced by linear interpolation."""
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = rotation(seed) * rng.uniform(0.1, 0.4) * min(grid.spacing_mm)
    if rng.random() < 0.5:
        affine[:3, 0] *= -1
    middle = grid.index_to_ras((np.array(grid.shape[::-1]) - 1) / 2)
    affine[:3, 3] = middle - affine[:3, :3] @ [2, 1.5, 1]
    target = Grid((3, 4, 5), affine)
    k, j, i = np.indices(target.shape)
    ijk = grid.ras_to_index(target.index_to_ras(np.stack([i, j, k], axis=-1)))
    inside = ((ijk > 0.01) & (ijk < np.array(grid.shape[::-1]) - 1.01)).all(axis=-1)
    assume(inside.any())
    moved = resample(linear_image(grid), target)
    assert moved.grid is target
    assert np.allclose(moved.array[inside], linear_image(target).array[inside], atol=2e-3)


@every_grid
@given(grids(), st.permutations([0, 1, 2]), st.tuples(*[st.booleans()] * 3))
def test_exchanged_and_flipped_axes_cost_no_interpolation(grid, order, flips):
    """The same voxels in another order: integers stay the same integers at the same places."""
    counts = np.array(grid.shape[::-1])
    affine = grid.ijk_to_ras.copy()
    for axis in range(3):
        if flips[axis]:
            affine[:3, 3] += affine[:3, axis] * (counts[axis] - 1)
            affine[:3, axis] *= -1
    affine[:3, :3] = affine[:3, order]
    target = Grid(tuple(counts[order])[::-1], affine)
    labels = Volume(np.arange(np.prod(grid.shape), dtype=np.int32).reshape(grid.shape), grid)
    moved = resample(labels, target)
    k, j, i = np.indices(target.shape)
    source = np.round(grid.ras_to_index(target.index_to_ras(np.stack([i, j, k], axis=-1)))).astype(int)
    assert moved.array.dtype == np.int32
    assert np.array_equal(moved.array, labels.array[source[..., 2], source[..., 1], source[..., 0]])
    assert np.array_equal(resample(moved, grid).array, labels.array)


def test_outside_the_source_the_given_value_stands():
    source = Volume(np.ones((4, 4, 4), np.float32), Grid((4, 4, 4), np.eye(4)))
    affine = np.eye(4)
    affine[:3, 3] = [100, 0, 0.25]
    assert (resample(source, Grid((2, 2, 2), affine), outside=-7).array == -7).all()


def test_nearest_keeps_labels_and_their_type():
    grid = Grid((4, 4, 4), np.eye(4))
    labels = Volume(np.random.default_rng(0).choice([0, 3, 7], (4, 4, 4)).astype(np.uint8), grid)
    affine = np.eye(4)
    affine[:3, :3] *= 0.3
    moved = resample(labels, Grid((10, 10, 10), affine), "nearest")
    assert moved.array.dtype == np.uint8
    assert set(np.unique(moved.array)) <= {0, 3, 7}
    assert moved.array[4, 4, 4] == labels.array[1, 1, 1]  # 4 x 0.3 = 1.2 mm


def test_a_sheared_grid_is_refused_by_name():
    affine = np.eye(4)
    affine[0, 1] = 0.2
    with pytest.raises(InputError, match=r"leaning\.nii.*right angles"):
        to_sitk(Volume(np.zeros((2, 2, 2)), Grid((2, 2, 2), affine), "leaning.nii"))


def test_an_array_must_have_the_shape_of_its_grid():
    with pytest.raises(InputError, match="shape"):
        Volume(np.zeros((2, 3, 4)), Grid((4, 3, 2), np.eye(4)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_counted(bad):
    array = np.zeros((2, 3, 4), np.float32)
    array[0, 0, :3] = bad
    volume = Volume(array, Grid(array.shape, np.eye(4)), "scan.nii")
    with pytest.raises(InputError, match=r"scan\.nii has 3 voxels"):
        volume.require_finite()
    assert Volume(np.zeros((2, 3, 4), np.int16), volume.grid).require_finite() is not None
