"""From a case to lesions where they are, through grids of every orientation and channels on grids of their own."""

from __future__ import annotations

import numpy as np
import pytest
from bright_voxels import GRIDS, LESIONS, bright_bundle, head_case, head_grid, oblique
from XTLLib.data.case import Case
from XTLLib.data.volume import Volume
from XTLLib.errors import Cancelled, InputError
from XTLLib.inference.segment import segment_case
from XTLLib.progress import Progress


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("spacing_mm", [None, (1.25, 1.25, 1.25)])
def test_lesions_come_back_where_they_are(name, spacing_mm):
    grid = GRIDS[name]
    elsewhere = head_grid(oblique().T, (1.3, 1.0, 2.1), 80.0, (-1.0, 2.0, 0.0))  # T1 lies on a grid of its own
    result = segment_case(head_case(grid, elsewhere), bright_bundle(spacing_mm=spacing_mm), device="cpu")
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
    coarse = head_grid(np.eye(3), (1.5, 1.5, 1.5))
    case = head_case(GRIDS["oblique"], coarse)
    case = Case("p", case.channels, "T1")
    result = segment_case(case, bright_bundle(), device="cpu")
    assert result.label.grid.matches(coarse)
    assert np.linalg.norm(np.array(result.lesions[0].position_ras) - LESIONS[0][0]) < 0.75


def test_threshold_and_minimum_volume_can_be_chosen():
    case = head_case(GRIDS["RAS"])
    only_large = segment_case(case, bright_bundle(), minimum_volume_mm3=500.0, device="cpu")
    assert len(only_large.lesions) == 1 and only_large.minimum_volume_mm3 == 500.0
    assert segment_case(case, bright_bundle(), threshold=1.0, device="cpu").threshold == 1.0
    with pytest.raises(InputError, match="threshold"):
        segment_case(case, bright_bundle(), threshold=0.0)


def test_an_image_without_lesions_gives_an_empty_table():
    result = segment_case(head_case(GRIDS["LPS"], lesions=()), bright_bundle(), device="cpu")
    assert result.lesions == () and not result.label.array.any()


def test_channels_that_the_bundle_does_not_take_are_left_alone():
    case = head_case(GRIDS["RAS"])
    result = segment_case(case, bright_bundle(("FLAIR",)), device="cpu")
    assert len(result.lesions) == len(LESIONS)


def test_every_kind_of_unusable_case_is_refused():
    grid = GRIDS["RAS"]
    case = head_case(grid)
    with pytest.raises(InputError, match="T2 is missing"):
        segment_case(case, bright_bundle(("FLAIR", "T1", "T2")))
    broken = case.channels["T1"].array.copy()
    broken[0, 0, 0] = np.nan
    with pytest.raises(InputError, match=r"t1\.nii has 1 voxels that are NaN"):
        segment_case(Case("p", {**case.channels, "T1": Volume(broken, grid, "t1.nii")}, "FLAIR"), bright_bundle())
    away = Volume(case.channels["T1"].array, head_grid(np.eye(3), centre=(500.0, 0.0, 0.0)), "t1.nii")
    with pytest.raises(InputError, match="covers only 0%"):
        segment_case(Case("p", {**case.channels, "T1": away}, "FLAIR"), bright_bundle())
    empty = Volume(np.zeros(grid.shape, np.float32), grid, "flair.nii")
    with pytest.raises(InputError, match="no foreground"):
        segment_case(Case("p", {"FLAIR": empty, "T1": empty}, "FLAIR"), bright_bundle())
    with pytest.raises(InputError, match="is for classification"):
        segment_case(case, bright_bundle(task="classification"))


def test_progress_is_told_and_cancel_is_heard():
    events = []
    segment_case(head_case(GRIDS["RAS"]), bright_bundle(), device="cpu", progress=Progress(events.append))
    fractions = [event.fraction for event in events]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    with pytest.raises(Cancelled):
        segment_case(head_case(GRIDS["RAS"]), bright_bundle(), device="cpu", progress=Progress(None, lambda: True))
