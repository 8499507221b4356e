"""From a case to lesions where they are, through grids of every orientation and channels on grids of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from XTLLib.bundle.load import Bundle
from XTLLib.data.case import Case
from XTLLib.data.geometry import Grid
from XTLLib.data.prepare import Preparation
from XTLLib.data.volume import Volume
from XTLLib.errors import Cancelled, InputError
from XTLLib.inference.segment import segment_case
from XTLLib.networks.spec import NetworkSpec
from XTLLib.progress import Progress

HEAD_MM = 32.0
LESIONS = (((9.0, -8.0, 6.0), 6.0), ((-12.0, 5.0, -9.0), 4.0))  # centre RAS mm, radius mm


class _Bright(nn.Module):
    """Logit of a voxel whose first channel is far brighter than the head's mean."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(8.0))

    def forward(self, x):
        return self.scale * (x[:, :1] - 2.0)


def _bundle(channels=("FLAIR", "T1"), task="segmentation", spacing_mm=None, **changes) -> Bundle:
    spec = NetworkSpec("segmentation", "resnet18", in_channels=len(channels), conversion="inflate")
    values = {
        "path": Path("nowhere"),
        "name": "bright voxels",
        "description": "",
        "task": task,
        "spec": spec,
        "preparation": Preparation(channels, channels[0], spacing_mm),
        "patch_spec": None,
        "threshold": 0.5,
        "minimum_volume_mm3": 5.0,
        "weights_sha256": "",
        "provenance": {},
        "metadata": {},
        "_network": _Bright(),
    }
    return Bundle(**{**values, **changes})


def _grid(directions, spacing=(1.0, 1.0, 1.0), extent_mm=72.0, centre=(2.0, -3.0, 4.0)) -> Grid:
    shape = tuple(round(extent_mm / s) for s in spacing[::-1])
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(directions, dtype=float) * np.array(spacing)
    affine[:3, 3] = np.array(centre) - affine[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return Grid(shape, affine)


def _oblique() -> np.ndarray:
    from scipy.spatial.transform import Rotation

    return Rotation.from_euler("xyz", (15.0, -10.0, 20.0), degrees=True).as_matrix()


GRIDS = {
    "RAS": _grid(np.eye(3)),
    "LAS, left-handed": _grid(np.diag([-1, 1, 1])),
    "LPS": _grid(np.diag([-1, -1, 1])),
    "sagittal, thick slices": _grid([[0, 0, -1], [-1, 0, 0], [0, 1, 0]], (1.0, 1.0, 2.0)),
    "oblique": _grid(_oblique(), (0.9, 1.1, 1.5)),
    "oblique, left-handed": _grid(_oblique() @ np.diag([1, 1, -1]), (0.9, 1.1, 1.5)),
}


def _head(grid: Grid, lesions=LESIONS, brightness=100.0) -> np.ndarray:
    """A ball of tissue (values about 50) with bright balls in it, air outside."""
    points = grid.index_to_ras(np.moveaxis(np.indices(grid.shape)[::-1], 0, -1))
    image = np.where(np.linalg.norm(points, axis=-1) <= HEAD_MM, 50.0, 0.0)
    image += np.where(image > 0, 5 * np.sin(points.sum(axis=-1)), 0.0)
    for centre, radius in lesions:
        image[np.linalg.norm(points - np.array(centre), axis=-1) <= radius] += brightness
    return image.astype(np.float32)


def _case(grid: Grid, other: Grid | None = None, lesions=LESIONS) -> Case:
    other = other or grid
    channels = {
        "FLAIR": Volume(_head(grid, lesions), grid, "flair.nii"),
        "T1": Volume(_head(other, ()), other, "t1.nii"),
    }
    return Case("p", channels, "FLAIR")


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("spacing_mm", [None, (1.25, 1.25, 1.25)])
def test_lesions_come_back_where_they_are(name, spacing_mm):
    grid = GRIDS[name]
    elsewhere = _grid(_oblique().T, (1.3, 1.0, 2.1), 80.0, (-1.0, 2.0, 0.0))  # T1 lies on a grid of its own
    result = segment_case(_case(grid, elsewhere), _bundle(spacing_mm=spacing_mm), device="cpu")
    assert result.label.grid.matches(grid) and result.probability.grid.matches(grid)
    assert result.label.array.dtype == np.int32 and result.probability.array.dtype == np.float32
    assert len(result.lesions) == len(LESIONS)
    for lesion, (centre, radius) in zip(result.lesions, LESIONS):
        half_voxel = max(grid.spacing_mm) / 2
        assert np.linalg.norm(np.array(lesion.position_ras) - centre) < half_voxel
        middle = tuple(np.round(grid.ras_to_index(centre)).astype(int)[::-1])
        assert result.label.array[middle] == lesion.identifier
        assert result.probability.array[middle] > 0.5
        assert lesion.volume_mm3 == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.25)
    assert result.bundle_name == "bright voxels" and result.threshold == 0.5


def test_results_lie_on_the_cases_reference_even_when_the_bundle_works_on_another_channel():
    coarse = _grid(np.eye(3), (1.5, 1.5, 1.5))
    case = _case(GRIDS["oblique"], coarse)
    case = Case("p", case.channels, "T1")
    result = segment_case(case, _bundle(), device="cpu")
    assert result.label.grid.matches(coarse)
    assert np.linalg.norm(np.array(result.lesions[0].position_ras) - LESIONS[0][0]) < 0.75


def test_threshold_and_minimum_volume_can_be_chosen():
    case = _case(GRIDS["RAS"])
    only_large = segment_case(case, _bundle(), minimum_volume_mm3=500.0, device="cpu")
    assert len(only_large.lesions) == 1 and only_large.minimum_volume_mm3 == 500.0
    assert segment_case(case, _bundle(), threshold=1.0, device="cpu").threshold == 1.0
    with pytest.raises(InputError, match="threshold"):
        segment_case(case, _bundle(), threshold=0.0)


def test_an_image_without_lesions_gives_an_empty_table():
    result = segment_case(_case(GRIDS["LPS"], lesions=()), _bundle(), device="cpu")
    assert result.lesions == () and not result.label.array.any()


def test_channels_that_the_bundle_does_not_take_are_left_alone():
    case = _case(GRIDS["RAS"])
    result = segment_case(case, _bundle(("FLAIR",)), device="cpu")
    assert len(result.lesions) == len(LESIONS)


def test_every_kind_of_unusable_case_is_refused():
    grid = GRIDS["RAS"]
    case = _case(grid)
    with pytest.raises(InputError, match="T2 is missing"):
        segment_case(case, _bundle(("FLAIR", "T1", "T2")))
    broken = case.channels["T1"].array.copy()
    broken[0, 0, 0] = np.nan
    with pytest.raises(InputError, match=r"t1\.nii has 1 voxels that are NaN"):
        segment_case(Case("p", {**case.channels, "T1": Volume(broken, grid, "t1.nii")}, "FLAIR"), _bundle())
    away = Volume(case.channels["T1"].array, _grid(np.eye(3), centre=(500.0, 0.0, 0.0)), "t1.nii")
    with pytest.raises(InputError, match="covers only 0%"):
        segment_case(Case("p", {**case.channels, "T1": away}, "FLAIR"), _bundle())
    empty = Volume(np.zeros(grid.shape, np.float32), grid, "flair.nii")
    with pytest.raises(InputError, match="no foreground"):
        segment_case(Case("p", {"FLAIR": empty, "T1": empty}, "FLAIR"), _bundle())
    with pytest.raises(InputError, match="is for classification"):
        segment_case(case, _bundle(task="classification"))


def test_progress_is_told_and_cancel_is_heard():
    events = []
    segment_case(_case(GRIDS["RAS"]), _bundle(), device="cpu", progress=Progress(events.append))
    fractions = [event.fraction for event in events]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    with pytest.raises(Cancelled):
        segment_case(_case(GRIDS["RAS"]), _bundle(), device="cpu", progress=Progress(None, lambda: True))
