"""Findings are rated one by one, drawn where they are, and refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from XTLLib.bundle.load import Bundle
from XTLLib.data.case import Case, Finding
from XTLLib.data.geometry import Grid
from XTLLib.data.patches import PatchSpec
from XTLLib.data.volume import Volume
from XTLLib.errors import Cancelled, InputError
from XTLLib.inference.classify import ball_map, classify_case, rate_patches
from XTLLib.networks.spec import NetworkSpec
from XTLLib.progress import Progress

PATCHES = PatchSpec(("T2W", "ADC"), (1, 8, 8), {"T2W": (12.0, 12.0, 3.0), "ADC": (20.0, 20.0, 3.0)}, "rank", "T2W")


class _DarkOnAdc(nn.Module):
    """High where the middle of the ADC patch is dark."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, x):
        return (self.scale * (0.5 - x[:, 1, :, 3:5, 3:5].mean(dim=(1, 2, 3))))[:, None]


def _bundle(**changes) -> Bundle:
    spec = NetworkSpec("classification", "resnet18", in_channels=2, conversion="inflate", patch_shape=(1, 8, 8))
    values = {
        "path": Path("nowhere"),
        "name": "dark on ADC",
        "description": "",
        "task": "classification",
        "spec": spec,
        "preparation": None,
        "patch_spec": PATCHES,
        "threshold": 0.5,
        "minimum_volume_mm3": 0.0,
        "weights_sha256": "",
        "provenance": {},
        "metadata": {},
        "_network": _DarkOnAdc(),
    }
    return Bundle(**{**values, **changes})


def _grid(shape, spacing, centre=(0.0, 0.0, 0.0), tilt=15.0) -> Grid:
    from scipy.spatial.transform import Rotation

    directions = np.diag([-1.0, -1.0, 1.0]) @ Rotation.from_euler("x", tilt, degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = directions * np.array(spacing)
    affine[:3, 3] = np.array(centre) - affine[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return Grid(shape, affine)


T2W = _grid((12, 96, 96), (0.7, 0.7, 3.0))
ADC = _grid((12, 36, 36), (2.0, 2.0, 3.0), (1.0, -2.0, 0.0))
DARK, BRIGHT = (8.0, 6.0, 3.0), (-12.0, -5.0, -3.0)


def _case(findings) -> Case:
    generator = np.random.default_rng(0)
    points = ADC.index_to_ras(np.moveaxis(np.indices(ADC.shape)[::-1], 0, -1))
    adc = generator.normal(1200, 50, ADC.shape)
    adc[np.linalg.norm(points - DARK, axis=-1) < 8] -= 700
    adc[np.linalg.norm(points - BRIGHT, axis=-1) < 8] += 700
    t2w = generator.normal(300, 40, T2W.shape)
    channels = {
        "T2W": Volume(t2w.astype(np.float32), T2W, "t2.mha"),
        "ADC": Volume(adc.astype(np.float32), ADC, "adc.mha"),
    }
    return Case("p", channels, "T2W", findings=tuple(findings))


def test_each_finding_gets_its_own_probability_in_the_order_given():
    findings = (Finding("b", BRIGHT, "TZ"), Finding("a", DARK, "PZ"))
    result = classify_case(_case(findings), _bundle(), device="cpu")
    assert [(rated.row, rated.finding) for rated in result.findings] == [(1, findings[0]), (2, findings[1])]
    bright, dark = (rated.probability for rated in result.findings)
    assert bright < 0.1 < 0.9 < dark
    for rated in result.findings:
        voxel = tuple(np.round(T2W.ras_to_index(rated.finding.position_ras)).astype(int)[::-1])
        assert result.label.array[voxel] == rated.row
        assert result.probability.array[voxel] == pytest.approx(rated.probability)
    assert result.label.grid.matches(T2W) and result.label.array.dtype == np.int32
    assert result.probability.array.dtype == np.float32
    assert set(np.unique(result.probability.array)) == {np.float32(0), np.float32(bright), np.float32(dark)}


def test_findings_outside_the_images_are_all_named():
    findings = (Finding("near", DARK), Finding("far", (300.0, 0.0, 0.0)), Finding("high", (0.0, 0.0, 200.0)))
    with pytest.raises(InputError) as error:
        classify_case(_case(findings), _bundle())
    assert "finding far" in str(error.value) and "finding high" in str(error.value)
    assert "finding near" not in str(error.value)


def test_unusable_cases_are_refused():
    with pytest.raises(InputError, match="no findings"):
        classify_case(_case(()), _bundle())
    case = _case([Finding("1", DARK)])
    with pytest.raises(InputError, match="ADC is missing"):
        classify_case(Case("p", {"T2W": case.channels["T2W"]}, "T2W", findings=case.findings), _bundle())
    with pytest.raises(InputError, match="is for segmentation"):
        classify_case(case, _bundle(task="segmentation"))
    with pytest.raises(InputError, match="takes 2 channels"):
        rate_patches(_bundle(), np.zeros((1, 3, 1, 8, 8), np.float32))
    with pytest.raises(Cancelled):
        classify_case(case, _bundle(), progress=Progress(None, lambda: True))


def test_patches_are_rated_alike_in_any_batch():
    patches = np.random.default_rng(1).random((70, 2, 1, 8, 8)).astype(np.float32)
    together = rate_patches(_bundle(), patches, device="cpu")
    one_by_one = [rate_patches(_bundle(), patches[n : n + 1], device="cpu")[0] for n in range(70)]
    np.testing.assert_allclose(together, one_by_one, rtol=1e-5)
    assert together.shape == (70,)
    assert rate_patches(_bundle(), patches[:0]).shape == (0,)


def test_a_ball_has_its_place_and_volume_on_an_oblique_anisotropic_grid():
    grid = _grid((30, 90, 80), (0.5, 0.6, 1.1), tilt=25.0)
    centre = (3.3, -4.7, 2.1)
    label = ball_map(grid, (Finding("1", centre),), radius_mm=5.0)
    inside = np.argwhere(label == 1)[:, ::-1]
    assert len(inside) * grid.voxel_volume_mm3 == pytest.approx(4 / 3 * np.pi * 5**3, rel=0.05)
    np.testing.assert_allclose(grid.index_to_ras(inside).mean(axis=0), centre, atol=0.25)
    assert np.linalg.norm(grid.index_to_ras(inside) - centre, axis=1).max() <= 5.0


def test_overlapping_balls_share_the_voxels_by_nearness_and_none_is_lost():
    grid = _grid((20, 60, 60), (1.0, 1.0, 1.0), tilt=0.0)
    label = ball_map(grid, (Finding("1", (-2.0, 0.0, 0.0)), Finding("2", (2.0, 0.0, 0.0))), radius_mm=5.0)
    right = np.argwhere(label == 2)[:, ::-1]
    assert (grid.index_to_ras(right)[:, 0] > 0).all()
    thick = _grid((4, 40, 40), (1.0, 1.0, 25.0), tilt=0.0)
    assert (ball_map(thick, (Finding("1", (0.0, 0.0, 6.0)),), radius_mm=5.0) == 1).sum() == 1
    beside = ball_map(grid, (Finding("1", (0.1, 0, 0)), Finding("2", (0.2, 0, 0))), radius_mm=0.1)
    assert (beside == 2).sum() == 1
