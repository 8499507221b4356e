"""Surface distances against MONAI, against all pairs of points, and closed forms, on any grid."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine_speed import slowness
from voxel_grids import grids
from XTLLib.data.geometry import Grid
from XTLLib.errors import InputError
from XTLLib.metrics.overlap import class_ious, class_mean_iou, iou, mean_iou
from XTLLib.metrics.surface import assd, hd95, surface_distances


def _grid(shape, spacing_ijk=(1.0, 1.0, 1.0)):
    return Grid(shape, np.diag([*spacing_ijk, 1.0]))


def _blobs(shape, seed, share=0.1):
    from scipy.ndimage import gaussian_filter

    field = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 1.2)
    return field > np.quantile(field, 1 - share)


def _surface_by_definition(mask):
    """Indices of voxels with a face neighbour outside, one voxel at a time."""
    found = []
    for k, j, i in np.argwhere(mask):
        for step in ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)):
            other = (k + step[0], j + step[1], i + step[2])
            within = all(0 <= c < n for c, n in zip(other, mask.shape))
            if not within or not mask[other]:
                found.append((k, j, i))
                break
    return np.array(found)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 0.7, 3.3)])
def test_agrees_with_monai_on_isotropic_and_anisotropic_grids(spacing):
    torch = pytest.importorskip("torch")
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

    shape = (14, 19, 16)
    grid = _grid(shape, spacing)
    for seed in range(4):
        p, g = _blobs(shape, seed), _blobs(shape, seed + 100)
        a, b = (torch.from_numpy(mask)[None, None] for mask in (p, g))
        kwargs = {"include_background": True, "spacing": spacing[::-1]}
        assert hd95(p, g, grid) == pytest.approx(
            float(compute_hausdorff_distance(a, b, percentile=95, **kwargs)), rel=1e-5
        )
        assert surface_distances(p, g, grid).hausdorff_mm() == pytest.approx(
            float(compute_hausdorff_distance(a, b, **kwargs)), rel=1e-5
        )
        assert assd(p, g, grid) == pytest.approx(
            float(compute_average_surface_distance(a, b, symmetric=True, **kwargs)), rel=1e-5
        )


@settings(max_examples=40, deadline=None)
@given(grids(2, 6), st.integers(0, 10**6))
def test_agrees_with_all_pairs_of_surface_points_on_oblique_grids(grid, seed):
    generator = np.random.default_rng(seed)
    p, g = generator.random(grid.shape) < 0.5, generator.random(grid.shape) < 0.5
    if not p.any() or not g.any():
        return
    first, second = (grid.index_to_ras(_surface_by_definition(mask)[:, ::-1]) for mask in (p, g))
    pairs = np.linalg.norm(first[:, None] - second[None], axis=2)
    there, back = pairs.min(axis=1), pairs.min(axis=0)
    assert hd95(p, g, grid) == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)))
    assert assd(p, g, grid) == pytest.approx(np.concatenate([there, back]).mean())


def test_sheared_grids_are_measured_in_true_millimetres():
    affine = np.eye(4)
    affine[0, 1] = 1.0  # one step along j also moves 1 mm along x
    p, g = np.zeros((2, 1, 4, 4), bool)
    p[0, 0, 0] = g[0, 3, 0] = True
    assert hd95(p, g, Grid((1, 4, 4), affine)) == pytest.approx(3 * math.sqrt(2))


def test_a_shifted_box_and_a_turned_patient():
    shape, spacing = (10, 12, 30), (0.5, 2.0, 3.0)
    p, g = np.zeros((2, *shape), bool)
    p[3:7, 3:9, 4:10] = True
    g[3:7, 3:9, 14:20] = True  # 10 voxels of 0.5 mm along i
    straight = surface_distances(p, g, _grid(shape, spacing))
    # The nearest point always lies on the other box's facing side, straight along i: 2.5 mm off at best, 5 mm at worst.
    assert straight.hausdorff_mm() == pytest.approx(5.0)
    assert straight.to_reference.min() == pytest.approx(2.5)
    turn = np.eye(4)
    turn[:2, :2] = [[math.cos(0.4), -math.sin(0.4)], [math.sin(0.4), math.cos(0.4)]]
    turned = surface_distances(p, g, Grid(shape, turn @ np.diag([*spacing, 1.0])))
    assert turned.assd_mm == pytest.approx(straight.assd_mm)
    assert turned.hausdorff_mm(95) == pytest.approx(straight.hausdorff_mm(95))


def test_symmetry_identity_and_percentiles():
    shape = (12, 12, 12)
    p, g, grid = _blobs(shape, 1), _blobs(shape, 2), _grid(shape, (1.0, 1.0, 2.0))
    assert hd95(p, g, grid) == hd95(g, p, grid)
    assert assd(p, g, grid) == pytest.approx(assd(g, p, grid))
    assert hd95(p, p, grid) == 0.0 == assd(p, p, grid)
    distances = surface_distances(p, g, grid)
    assert distances.hausdorff_mm(50) <= distances.hausdorff_mm(95) <= distances.hausdorff_mm()
    with pytest.raises(InputError, match="percentile"):
        distances.hausdorff_mm(101)


@pytest.mark.parametrize(
    ("policy", "both", "one"),
    [("one", 0.0, math.inf), ("zero", math.inf, math.inf), ("nan", math.nan, math.nan)],
)
def test_empty_masks_follow_the_policy(policy, both, one):
    nothing, something, grid = np.zeros((3, 3, 3), bool), np.ones((3, 3, 3), bool), _grid((3, 3, 3))
    for measure in (hd95, assd):
        np.testing.assert_equal(measure(nothing, nothing, grid, policy), both)
        np.testing.assert_equal(measure(something, nothing, grid, policy), one)
        np.testing.assert_equal(measure(nothing, something, grid, policy), one)


def test_a_mask_of_another_grid_is_refused():
    with pytest.raises(InputError, match="reference mask of shape"):
        hd95(np.zeros((3, 3, 3)), np.zeros((3, 3, 4)), _grid((3, 3, 3)))


def test_lesions_of_a_whole_brain_are_quick():
    shape = (181, 217, 181)
    p, g = np.zeros((2, *shape), bool)
    generator = np.random.default_rng(0)
    for centre in generator.integers(20, 160, (200, 3)):
        k, j, i = centre
        p[k - 2 : k + 3, j - 2 : j + 3, i - 2 : i + 3] = True
        g[k - 2 : k + 2, j - 1 : j + 4, i - 2 : i + 3] = True
    began = time.process_time()
    distances = surface_distances(p, g, _grid(shape))
    assert distances.hausdorff_mm(95) < 3 and distances.assd_mm < 2
    assert time.process_time() - began < 2 * slowness()


def test_mean_iou_over_classes_counts_the_background_only_when_asked():
    reference = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    predicted = np.array([0, 0, 0, 1, 1, 1, 2, 0])
    assert class_ious(predicted, reference, (0, 1, 2)) == pytest.approx({0: 3 / 5, 1: 2 / 3, 2: 1 / 2})
    assert class_mean_iou(predicted, reference, (1, 2)) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert class_mean_iou(predicted, reference, (0, 1, 2)) == pytest.approx((3 / 5 + 2 / 3 + 1 / 2) / 3)
    # Of two classes it is the other function's value.
    one = reference == 1, predicted == 1
    assert class_mean_iou(*one, (0, 1)) == pytest.approx(mean_iou(*one))
    assert class_mean_iou(*one, (1,)) == pytest.approx(iou(*one))


def test_mean_iou_agrees_with_scikit_learn():
    from sklearn.metrics import jaccard_score

    generator = np.random.default_rng(3)
    reference, predicted = generator.integers(0, 4, (2, 500))
    assert class_mean_iou(predicted, reference, range(4)) == pytest.approx(
        jaccard_score(reference, predicted, average="macro")
    )


def test_a_class_in_neither_map_follows_the_policy():
    maps = np.array([0, 1, 1]), np.array([0, 1, 0])
    assert class_mean_iou(*maps, (1, 7)) == pytest.approx(1 / 2)
    assert class_mean_iou(*maps, (1, 7), "one") == pytest.approx(3 / 4)
    assert class_mean_iou(*maps, (1, 7), "zero") == pytest.approx(1 / 4)
    assert math.isnan(class_mean_iou(*maps, (7,)))
