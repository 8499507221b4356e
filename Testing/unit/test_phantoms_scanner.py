"""Phantoms of a new scanner: the same anatomy in other contrast, noise, shading and voxels."""

from __future__ import annotations

import numpy as np
import pytest
from XTLLib.data.geometry import Grid
from XTLLib.data.phantoms.brain import BrainPhantom
from XTLLib.data.phantoms.fields import box_grid
from XTLLib.data.phantoms.scanner import Scanner, scanned_case

COARSE = Scanner(spacing_mm=(3.0, 3.0, 5.0))
SILENT = {"noise": 0.0, "shading": 0.0}


def test_a_case_is_the_same_anatomy_on_the_scanner_s_own_grid_and_the_same_twice():
    case, again = scanned_case(4, "p", COARSE), scanned_case(4, "p", COARSE)
    assert np.allclose(case.grid.spacing_mm, (3, 3, 5))
    for name in ("FLAIR", "T1", "T2"):
        assert case.channels[name].array.dtype == np.uint16
        assert np.array_equal(case.channels[name].array, again.channels[name].array)
    # The truth on a fine grid of the same phantom, brought over, is the truth here but for the voxels' size.
    fine = box_grid((0, 0, 2), (144, 172, 129), (2, 2, 2))
    ml = [mask.sum() * grid.voxel_volume_mm3 / 1000 for mask, grid in (
        (case.mask.array, case.grid), (BrainPhantom(4).truth(fine), fine)
    )]  # fmt: skip
    assert ml[0] == pytest.approx(ml[1], rel=0.25)


def head_values(gamma: float, **changes) -> tuple[np.ndarray, np.ndarray]:
    """Two images of one slab that differ in the exponent only: (ordinary, changed), inside the head."""
    grid = box_grid((0, 0, 8), (140, 170, 12), (4, 4, 4))
    images = []
    for exponent in (1.0, gamma):
        scanner = Scanner(gamma={"FLAIR": exponent}, **{**SILENT, **changes})
        images.append(scanner.images(BrainPhantom(1), grid, np.random.default_rng(2), ("FLAIR",))["FLAIR"])
    head = images[0] > 0.3 * images[0].max()
    return images[0][head].astype(float), images[1][head].astype(float)


def test_contrast_is_a_power_of_the_ordinary_signal():
    ordinary, changed = head_values(0.5)
    slope = np.polyfit(np.log(ordinary), np.log(changed), 1)[0]
    assert slope == pytest.approx(0.5, abs=0.02)
    assert np.corrcoef(np.log(ordinary), np.log(changed))[0, 1] > 0.999


def noise_of(grain_mm: float) -> np.ndarray:
    """Noise in a signal of 1 at the middle of the field, where its SD is twice the rim's."""
    grid = Grid((24, 24, 24), np.diag([-1.0, -1.0, 1.0, 1.0]))
    scanner = Scanner(spacing_mm=(1, 1, 1), noise=0.05, grain_mm=grain_mm)
    points = np.zeros((3, *grid.shape), np.float32)
    return scanner._noisy(np.ones(grid.shape, np.float32), points, np.random.default_rng(0)) - 1


def test_noise_has_its_level_and_its_grain():
    neighbours = {}
    for grain, level in ((0.0, 0.05), (3.0, 0.10)):
        noise = noise_of(grain)
        assert noise.std() == pytest.approx(level, rel=0.1)
        neighbours[grain] = np.corrcoef(noise[..., 1:].ravel(), noise[..., :-1].ravel())[0, 1]
    assert abs(neighbours[0.0]) < 0.03
    assert neighbours[3.0] > 0.5


def test_shading_varies_slowly_over_the_head():
    grid = box_grid((0, 0, 8), (140, 170, 12), (4, 4, 4))
    plain, shaded = (
        Scanner(gamma={}, noise=0.0, shading=shading).images(BrainPhantom(1), grid, np.random.default_rng(2), ("T1",))
        for shading in (0.0, 0.3)
    )
    head = plain["T1"] > 0.3 * plain["T1"].max()
    ratio = np.log(shaded["T1"][head] / plain["T1"][head])
    assert 0.05 < ratio.std() < 0.6
