"""Lesions of a probability map against closed forms and SimpleITK, on grids of every orientation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine_speed import cpu_seconds, slowness
from XTLLib.data.geometry import Grid
from XTLLib.data.volume import Volume, to_sitk
from XTLLib.errors import InputError
from XTLLib.inference.lesions import LesionFinder, find_lesions, regions_of
from XTLLib.inference.runs import components_of, expand, runs_of


def _rotation(degrees: tuple[float, float, float]) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    return Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()


def _grid(directions: np.ndarray, spacing=(1.0, 1.0, 1.0), shape=(40, 44, 48), centre=(3.0, -7.0, 11.0)) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = directions * np.array(spacing)
    affine[:3, 3] = np.array(centre) - affine[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return Grid(shape, affine)


GRIDS = {
    "RAS": _grid(np.eye(3)),
    "LAS, left-handed": _grid(np.diag([-1.0, 1.0, 1.0])),
    "LPS": _grid(np.diag([-1.0, -1.0, 1.0])),
    "sagittal PIR": _grid(np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], dtype=float)),
    "anisotropic": _grid(np.eye(3), (0.5, 0.5, 3.0), (16, 90, 90)),
    "oblique": _grid(_rotation((18.0, -11.0, 25.0)), (0.9, 1.1, 2.0)),
    "oblique, left-handed": _grid(_rotation((18.0, -11.0, 25.0)) @ np.diag([1, -1, 1]), (0.9, 1.1, 2.0)),
}


def _distance_mm(grid: Grid, point: tuple[float, float, float]) -> np.ndarray:
    kji = np.indices(grid.shape)
    return np.linalg.norm(grid.index_to_ras(np.moveaxis(kji[::-1], 0, -1)) - np.array(point), axis=-1)


@pytest.mark.parametrize("name", GRIDS)
def test_a_ball_comes_back_where_it_is_and_as_large_as_it_is(name):
    grid, centre, radius = GRIDS[name], (5.3, -9.1, 10.2), 7.0
    probability = np.where(_distance_mm(grid, centre) <= radius, 0.8, 0.1).astype(np.float32)
    label, lesions = find_lesions(Volume(probability, grid), 0.5)
    (lesion,) = lesions
    half_voxel = max(grid.spacing_mm) / 2
    diagonal = float(np.linalg.norm(grid.spacing_mm))
    assert np.abs(np.array(lesion.position_ras) - centre).max() < half_voxel
    assert np.abs(grid.ras_to_index(lesion.position_ras) - grid.ras_to_index(centre)).max() < 0.5
    assert lesion.volume_mm3 == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.06)
    assert 2 * radius - diagonal < lesion.longest_diameter_mm < 2 * radius + diagonal
    assert lesion.mean_probability == pytest.approx(0.8) and lesion.maximum_probability == pytest.approx(0.8)
    assert label.array.dtype == np.int32
    np.testing.assert_array_equal(label.array, probability > 0.5)
    assert label.grid is grid


@pytest.mark.parametrize("name", GRIDS)
def test_a_box_has_its_exact_centre_volume_and_diagonal(name):
    grid = GRIDS[name]
    probability = np.zeros(grid.shape, np.float32)
    probability[3:7, 10:12, 5:14] = 1.0
    (lesion,) = find_lesions(Volume(probability, grid), 1.0)[1]
    i, j, k = grid.spacing_mm
    assert lesion.position_ras == pytest.approx(tuple(grid.index_to_ras([9.0, 10.5, 4.5])))
    assert lesion.volume_mm3 == pytest.approx(4 * 2 * 9 * i * j * k)
    assert lesion.longest_diameter_mm == pytest.approx(np.linalg.norm([9 * i, 2 * j, 4 * k]))


def test_one_voxel_has_the_voxels_diagonal():
    grid = GRIDS["anisotropic"]
    probability = np.zeros(grid.shape, np.float32)
    probability[8, 20, 30] = 0.7
    (lesion,) = find_lesions(Volume(probability, grid), 0.5)[1]
    assert lesion.longest_diameter_mm == pytest.approx(np.sqrt(0.5**2 + 0.5**2 + 3.0**2))
    assert lesion.position_ras == pytest.approx(tuple(grid.index_to_ras([30, 20, 8])))


def test_a_sheared_grid_is_measured_by_its_affine():
    affine = np.eye(4)
    affine[0, 1] = 0.8  # j also runs to the right: a tilted gantry
    probability = np.zeros((5, 12, 12), np.float32)
    probability[2, 1:11, 3] = 1.0
    (lesion,) = find_lesions(Volume(probability, Grid(probability.shape, affine)), 0.5)[1]
    assert lesion.longest_diameter_mm == pytest.approx(np.linalg.norm([10 * 0.8 + 1, 10.0, 1.0]))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.6, 0.95))
def test_figures_agree_with_simpleitk(seed, threshold):
    import SimpleITK
    from scipy.ndimage import gaussian_filter

    grid = _grid(_rotation((10.0, 5.0, -20.0)), (0.8, 1.0, 2.5), (14, 24, 26))
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=grid.shape), 1.0)
    probability = ((noise - noise.min()) / np.ptp(noise)).astype(np.float32)
    label, lesions = find_lesions(Volume(probability, grid), threshold)
    statistics = SimpleITK.LabelShapeStatisticsImageFilter()
    statistics.ComputeFeretDiameterOn()
    statistics.Execute(to_sitk(label))
    values = SimpleITK.LabelStatisticsImageFilter()
    values.Execute(to_sitk(Volume(probability, grid)), to_sitk(label))
    assert len(lesions) == statistics.GetNumberOfLabels()
    assert [lesion.identifier for lesion in lesions] == list(range(1, len(lesions) + 1))
    volumes = [lesion.volume_mm3 for lesion in lesions]
    assert volumes == sorted(volumes, reverse=True)
    diagonal = float(np.linalg.norm(grid.spacing_mm))
    for lesion in lesions:
        n = lesion.identifier
        lps = np.array(lesion.position_ras) * (-1, -1, 1)
        assert statistics.GetCentroid(n) == pytest.approx(tuple(lps), abs=1e-4)
        assert statistics.GetPhysicalSize(n) == pytest.approx(lesion.volume_mm3, rel=1e-6)
        between_centres = statistics.GetFeretDiameter(n)
        assert between_centres < lesion.longest_diameter_mm <= between_centres + diagonal + 1e-6
        assert values.GetMean(n) == pytest.approx(lesion.mean_probability, abs=1e-5)
        assert values.GetMaximum(n) == pytest.approx(lesion.maximum_probability, abs=1e-6)


def test_longest_diameter_equals_all_pairs_of_corners_for_a_large_irregular_lesion():
    from itertools import product

    from scipy.ndimage import gaussian_filter
    from scipy.spatial.distance import cdist

    grid = _grid(_rotation((30.0, 5.0, -20.0)), (0.8, 1.0, 2.5), (12, 30, 30))
    noise = gaussian_filter(np.random.default_rng(3).normal(size=grid.shape), 2.0)
    probability = (noise > np.quantile(noise, 0.7)).astype(np.float32)
    label, lesions = find_lesions(Volume(probability, grid), 0.5)
    ijk = np.argwhere(label.array == 1)[:, ::-1]
    corners = np.unique(np.concatenate([ijk + np.array(c) - 0.5 for c in product((0, 1), repeat=3)]), axis=0)
    points = grid.index_to_ras(corners)
    assert len(ijk) > 500
    assert lesions[0].longest_diameter_mm == pytest.approx(cdist(points, points).max())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([6, 18, 26]), st.tuples(*[st.integers(1, 9)] * 3), st.floats(0.05, 0.95))
def test_components_of_runs_are_those_of_the_voxels(seed, connectivity, shape, share):
    from scipy.ndimage import generate_binary_structure, label

    mask = np.random.default_rng(seed).random(shape) < share
    voxels = np.flatnonzero(mask)
    runs = runs_of(voxels, shape)
    component, count = components_of(runs, connectivity)
    assert np.array_equal(expand(runs.begins, runs.lengths), np.arange(voxels.size))
    found = np.zeros(shape, int)
    found.reshape(-1)[voxels] = np.repeat(component + 1, runs.lengths)
    expected, expected_count = label(mask, generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[connectivity]))
    assert count == expected_count
    np.testing.assert_array_equal(found, expected)  # SciPy numbers them by their first voxels, too


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.tuples(st.floats(0.02, 1.0), st.sampled_from([0, 3, 30])), max_size=6))
def test_a_finder_asked_again_and_again_gives_what_a_first_look_gives(seed, asked):
    from scipy.ndimage import gaussian_filter

    grid = _grid(_rotation((10.0, 5.0, -20.0)), (0.8, 1.0, 2.5), (9, 14, 16))
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=grid.shape), 1.0)
    volume = Volume(((noise - noise.min()) / np.ptp(noise)).astype(np.float32) ** 4, grid)
    finder = LesionFinder(volume)
    for threshold, minimum in asked:
        regions = finder.find(threshold, minimum)
        label, lesions = find_lesions(volume, threshold, minimum)
        assert regions.lesions == lesions
        shown = np.zeros(grid.shape, np.int32)
        shown.reshape(-1)[regions.voxels] = regions.identifier
        np.testing.assert_array_equal(shown, label.array)
        for lesion in lesions:
            assert set(regions.of(lesion.identifier)) == set(np.flatnonzero(label.array == lesion.identifier))


def test_small_components_are_dropped_and_the_rest_numbered_by_volume():
    grid = Grid((10, 10, 20), np.diag([2.0, 1.0, 1.0, 1.0]))
    probability = np.zeros(grid.shape, np.float32)
    probability[1, 1, 1:3] = 0.9  # 4 mm³
    probability[5, 5, 2:9] = 0.9  # 14 mm³
    probability[8, 8, 12:15] = 0.9  # 6 mm³
    probability[3, 8, 18] = 0.9  # 2 mm³
    label, lesions = find_lesions(Volume(probability, grid), 0.5, minimum_volume_mm3=4.0)
    assert [lesion.volume_mm3 for lesion in lesions] == pytest.approx([14.0, 6.0, 4.0])
    assert (label.array[5, 5, 3], label.array[8, 8, 13], label.array[1, 1, 1], label.array[3, 8, 18]) == (1, 2, 3, 0)
    assert len(find_lesions(Volume(probability, grid), 0.5)[1]) == 4


def test_a_minimum_of_whole_voxels_survives_rounding():
    spacing = 0.1 + 0.2  # 0.30000000000000004
    grid = Grid((4, 4, 4), np.diag([spacing, spacing, spacing, 1.0]))
    probability = np.zeros(grid.shape, np.float32)
    probability[1, 1, 1:4] = 1.0
    assert len(find_lesions(Volume(probability, grid), 0.5, minimum_volume_mm3=3 * 0.027)[1]) == 1


def test_voxels_that_touch_only_at_a_corner_are_one_lesion_by_default():
    probability = np.zeros((4, 4, 4), np.float32)
    probability[1, 1, 1] = probability[2, 2, 2] = 1.0
    volume = Volume(probability, Grid((4, 4, 4), np.eye(4)))
    assert len(find_lesions(volume, 0.5)[1]) == 1
    assert len(find_lesions(volume, 0.5, connectivity=6)[1]) == 2


def test_nothing_above_the_threshold_is_no_error():
    volume = Volume(np.full((4, 4, 4), 0.3, np.float32), Grid((4, 4, 4), np.eye(4)))
    label, lesions = find_lesions(volume, 0.5)
    assert lesions == () and not label.array.any()
    everything_too_small = find_lesions(volume, 0.2, minimum_volume_mm3=100.0)
    assert everything_too_small[1] == () and not everything_too_small[0].array.any()


def test_bad_input_is_refused():
    grid = Grid((2, 2, 2), np.eye(4))
    volume = Volume(np.zeros((2, 2, 2), np.float32), grid)
    for threshold in (0.0, 1.5, float("nan")):
        with pytest.raises(InputError, match="threshold"):
            find_lesions(volume, threshold)
    with pytest.raises(InputError, match="minimum volume"):
        find_lesions(volume, 0.5, -1.0)
    with pytest.raises(InputError, match="NaN"):
        find_lesions(Volume(np.full((2, 2, 2), np.nan, np.float32), grid), 0.5)


def test_a_large_map_with_two_hundred_lesions_is_quick():
    generator = np.random.default_rng(0)
    probability = np.zeros((256, 256, 256), np.float32)
    distance = np.linalg.norm(np.indices((31, 31, 31)) - 15, axis=0)
    for _ in range(230):
        k, j, i = generator.integers(20, 236, 3)
        part = probability[k - 15 : k + 16, j - 15 : j + 16, i - 15 : i + 16]
        radius = generator.choice([1.5, 2, 3, 4, 6, 9, 14], p=[0.2, 0.2, 0.2, 0.2, 0.1, 0.07, 0.03])
        np.maximum(part, 1 / (1 + np.exp(distance - radius)), out=part)
    volume = Volume(probability, Grid(probability.shape, np.eye(4)))
    assert len(find_lesions(volume, 0.5)[1]) > 150
    assert cpu_seconds(lambda: find_lesions(volume, 0.5), 2) < 0.5 * slowness()  # about 0.06 s on an idle core


def test_the_regions_of_a_label_map_are_those_that_were_found():
    grid = GRIDS["oblique"]
    values = np.random.default_rng(3).random(grid.shape).astype(np.float32)
    probability = Volume(values, grid, "probability")
    finder = LesionFinder(probability)
    found = finder.find(0.8, 3 * grid.voxel_volume_mm3)
    again = regions_of(*find_lesions(probability, 0.8, 3 * grid.voxel_volume_mm3))
    assert again.lesions == found.lesions and len(found.lesions) > 10
    np.testing.assert_array_equal(again.voxels, found.voxels)
    np.testing.assert_array_equal(again.identifier, found.identifier)
    assert finder.find(0.8, 3 * grid.voxel_volume_mm3) is found
    assert len(finder.find(0.9, 0.0).lesions) == len(find_lesions(probability, 0.9, 0.0)[1])
