"""Lesions over time on masks whose history is known by construction, and on a real pair of examinations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from XTLLib.data.geometry import Grid
from XTLLib.data.images import read_image
from XTLLib.data.phantoms.brain import BrainPhantom
from XTLLib.data.phantoms.fields import box_grid
from XTLLib.data.registration import moved
from XTLLib.data.volume import Volume
from XTLLib.errors import InputError
from XTLLib.inference.longitudinal import STATUSES, ChangeRules, TimePoint, compare_over_time

GRID = Grid((30, 30, 30), np.diag([-1.0, -1.0, 2.0, 1.0]))  # voxels of 2 mm3


def mask(*cubes: tuple[int, int, int, int], grid: Grid = GRID) -> Volume:
    """Cubes (k, j, i of the first voxel, side)."""
    array = np.zeros(grid.shape, np.uint8)
    for k, j, i, side in cubes:
        array[k : k + side, j : j + side, i : i + side] = 1
    return Volume(array, grid, "mask.nii")


def compare(*masks: Volume, **rules):
    points = [TimePoint(f"t{n}", volume) for n, volume in enumerate(masks)]
    return compare_over_time(points, ChangeRules(**rules), register=False)


def test_each_status_by_hand():
    before = mask((2, 2, 2, 4), (2, 12, 2, 3), (2, 22, 2, 4), (12, 2, 2, 3))
    after = mask((2, 2, 2, 4), (2, 12, 2, 5), (2, 22, 2, 2), (22, 22, 22, 3))
    result = compare(before, after)
    assert [history.status for history in result.histories] == list(STATUSES)
    new, larger, same, smaller, gone = result.histories
    assert new.volumes_mm3 == (0.0, 54.0) and np.isnan(new.change_percent)
    assert larger.volumes_mm3 == (54.0, 250.0) and larger.change_mm3 == 196.0
    assert larger.change_percent == pytest.approx(100 * 196 / 54)
    assert same.volumes_mm3 == (128.0, 128.0) and smaller.volumes_mm3 == (128.0, 16.0)
    assert gone.volumes_mm3 == (54.0, 0.0) and gone.change_percent == -100.0
    assert new.position_ras == pytest.approx((-23.0, -23.0, 46.0))  # i, j, k 23 -> RAS by hand
    assert [result.count(status) for status in STATUSES] == [1] * 5
    assert result.total_volumes_mm3 == (128 + 54 + 128 + 54.0, 128 + 250 + 16 + 54.0)
    assert result.status.array[2, 2, 2] == 1 + STATUSES.index("stable")
    assert result.status.array[12, 2, 2] == 1 + STATUSES.index("resolved")
    assert result.labels[1].array[22, 22, 22] == 1 and result.labels[0].array[22, 22, 22] == 0


def test_a_change_has_to_be_large_in_both_ways():
    # 54 -> 64 mm3 is 18 %, 10 mm3; 16 -> 24 mm3 is 50 %, 8 mm3.
    rules = ChangeRules(relative=0.25, absolute_mm3=10.0)
    assert rules.status(54, 64) == "stable" and rules.status(16, 24) == "stable"
    assert rules.status(40, 50) == "enlarging" and rules.status(50, 37.5) == "shrinking"
    assert rules.status(50, 38) == "stable"


def test_lesions_that_merge_are_one_with_its_parts_told():
    before, after = mask((5, 5, 5, 3), (5, 5, 9, 3)), mask((5, 5, 5, 3), (5, 5, 9, 3), (5, 5, 7, 3))
    (history,) = compare(before, after).histories
    assert history.parts == (2, 1) and history.volumes_mm3[0] == 108.0


def test_what_lies_within_the_tolerance_is_the_same_lesion():
    before, after = mask((5, 5, 5, 3)), mask((5, 5, 8, 3))  # side by side: 1 mm between voxel centres
    assert [h.status for h in compare(before, after).histories] == ["stable"]
    assert {h.status for h in compare(before, after, tolerance_mm=0.5).histories} == {"new", "resolved"}


def test_three_time_points_tell_each_interval_and_the_whole():
    a, b = (2, 2, 2, 3), (20, 20, 20, 3)
    result = compare(mask(a), mask(a, b), mask((2, 2, 2, 5)))
    by_status = {history.status: history for history in result.histories}
    assert by_status["enlarging"].statuses == ("stable", "enlarging")
    assert by_status["resolved"].statuses == ("new", "resolved") and by_status["resolved"].volumes_mm3 == (0, 54.0, 0)
    assert result.status.array[20, 20, 20] == 1 + STATUSES.index("resolved")


def test_specks_are_left_out_and_no_lesion_is_a_result():
    result = compare(mask((2, 2, 2, 1)), mask((2, 2, 2, 1), (9, 9, 9, 2)))
    assert [h.volumes_mm3 for h in result.histories] == [(0.0, 16.0)] and result.labels[0].array.max() == 0
    assert compare(mask(), mask()).histories == ()
    assert compare(mask(), mask((3, 3, 3, 3))).count("new") == 1


@given(st.integers(0, 2**16))
def test_turning_time_around_turns_every_status_around(seed):
    rng = np.random.default_rng(seed)
    masks = [Volume((rng.random((9, 9, 9)) < 0.06).astype(np.uint8), Grid((9, 9, 9), np.eye(4))) for _ in range(2)]
    forth, back = compare(*masks, relative=0.0), compare(*reversed(masks), relative=0.0)
    opposite = dict(zip(STATUSES, ("resolved", "shrinking", "stable", "enlarging", "new")))
    assert {s: forth.count(s) for s in STATUSES} == {s: back.count(opposite[s]) for s in STATUSES}
    assert forth.total_volumes_mm3 == back.total_volumes_mm3[::-1]
    assert sum(bool(h.volumes_mm3[0]) for h in forth.histories) >= forth.count("resolved")


def test_another_position_in_the_scanner_is_registered_away():
    grid = box_grid((0.0, 0.0, 0.0), (160.0, 190.0, 150.0), (2.0, 2.0, 2.0), "RAS")
    later_grid = box_grid((0.0, 0.0, 0.0), (160.0, 190.0, 150.0), (2.0, 2.0, 3.0), "LAS")
    phantom = BrainPhantom(3)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.08), -np.sin(0.08)], [np.sin(0.08), np.cos(0.08)]]
    turn[:3, 3] = (6.0, -5.0, 4.0)
    lesions = {g: Volume(phantom.truth(g).astype(np.uint8), g, "mask") for g in (grid, later_grid)}
    images = {
        g: Volume(phantom.images(("FLAIR",), g, np.random.default_rng(n))["FLAIR"], g, "flair")
        for n, g in enumerate((grid, later_grid))
    }
    points = [
        TimePoint("first", lesions[grid], images[grid]),
        TimePoint("later", moved(lesions[later_grid], turn), moved(images[later_grid], turn)),
    ]
    result = compare_over_time(points, ChangeRules(minimum_volume_mm3=50.0, relative=0.5, tolerance_mm=2.0))
    assert result.histories and result.count("new") == result.count("resolved") == 0
    assert np.allclose(result.registrations[0].moving_to_fixed @ turn, np.eye(4), atol=1.0)
    # Slices of 2 and of 3 mm show the border of a lesion differently; a lesion that comes or goes changes by 2 SD.
    assert np.median([abs(h.brightness_change_sd) for h in result.histories]) < 0.5
    untouched = compare_over_time(points, ChangeRules(minimum_volume_mm3=50.0), register=False)
    assert untouched.count("new") > 0


def test_what_cannot_be_compared_is_named():
    with pytest.raises(InputError, match=r"1 time point\(s\)"):
        compare(mask((2, 2, 2, 3)))
    with pytest.raises(InputError, match="the time point t0 has no image"):
        compare_over_time([TimePoint("t0", mask()), TimePoint("t1", mask())])
    far = Grid(GRID.shape, np.diag([-1.0, -1.0, 2.0, 1.0]) + np.array([[0, 0, 0, 500.0]] + [[0, 0, 0, 0]] * 3))
    with pytest.raises(InputError, match="the time point t1 does not overlap t0"):
        compare(mask(), mask(grid=far))
    with pytest.raises(InputError, match="relative is -1"):
        ChangeRules(relative=-1)


@pytest.mark.real
def test_the_real_pair_shows_its_marked_changes_as_new(real_data):
    """The second study's marked changes, as a mask of their own, are new lesions that are brighter than before."""
    folder = real_data / "ms" / "longitudinal_common_space" / "patient01"
    first, second = (read_image(folder / f"patient01_study{n}_FLAIRreg.nii.gz") for n in (1, 2))
    changed = read_image(folder / "patient01_gt.nii.gz")
    nothing = Volume(np.zeros(changed.array.shape, np.uint8), changed.grid, "none")
    result = compare_over_time([TimePoint("study 1", nothing, first), TimePoint("study 2", changed, second)])
    assert result.count("new") == len(result.histories) > 5
    brighter = sum(h.volumes_mm3[1] for h in result.histories if h.brightness_change_sd > 0)
    assert brighter > 0.6 * result.total_volumes_mm3[1]  # mostly new or brighter, says the data's description
    registration = result.registrations[0]
    assert registration.displacement_mm < 1.0  # both were brought into a common space already
