"""Edits of a segmentation: growing, removing and drawing, over any threshold and through any file."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from XTLLib.data.geometry import Grid
from XTLLib.data.volume import Volume
from XTLLib.errors import InputError
from XTLLib.inference.edits import Edit, EditList, edits_from_json, edits_to_json, ijk_of, voxel_at
from XTLLib.inference.lesions import LesionFinder
from XTLLib.inference.replay import LARGEST_MM3, apply_edits, lesion_to_add, lesion_to_remove

GRID = Grid((40, 44, 48), np.array([[-1.0, 0, 0, 20], [0, 1.0, 0, -25], [0, 0, 1.0, 7], [0, 0, 0, 1]]))


def cone(centre, height: float, width_mm: float) -> np.ndarray:
    """A map that falls linearly from ``height`` at a point (RAS) to 0 at ``width_mm`` from it."""
    points = GRID.index_to_ras(np.moveaxis(np.indices(GRID.shape)[::-1], 0, -1))
    distance = np.linalg.norm(points - np.array(centre), axis=-1)
    return np.maximum(0, height * (1 - distance / width_mm)).astype(np.float32)


BRIGHT, FAINT = (0.0, -10.0, 20.0), (-12.0, 5.0, 30.0)


@pytest.fixture
def finder() -> LesionFinder:
    return LesionFinder(Volume(np.maximum(cone(BRIGHT, 0.9, 9.0), cone(FAINT, 0.3, 8.0)), GRID))


def test_a_missed_lesion_grows_to_half_of_its_highest_probability(finder):
    found = finder.find(0.5)
    edit = lesion_to_add(finder, found, FAINT)
    grown = apply_edits(finder, found, [edit])
    assert len(found.lesions) == 1 and len(grown.lesions) == 2
    new = min(grown.lesions, key=lambda lesion: abs(lesion.position_ras[0] - FAINT[0]))
    # A cone reaches half of its height at half of its width: a ball of 4 mm radius.
    assert new.volume_mm3 == pytest.approx(4 / 3 * np.pi * 4.0**3, rel=0.08)
    assert new.position_ras == pytest.approx(FAINT, abs=0.5)


def test_a_click_below_half_grows_to_the_clicked_voxel(finder):
    found = finder.find(0.5)
    rim = (FAINT[0] - 7.0, FAINT[1], FAINT[2])
    edit = lesion_to_add(finder, found, rim)
    assert finder.values[edit.voxel] == pytest.approx(0.3 * (1 - 5 / 8)), "two millimetres beside the click"
    grown = apply_edits(finder, found, [edit])
    new = min(grown.lesions, key=lambda lesion: abs(lesion.position_ras[0] - FAINT[0]))
    radius = (3 * new.volume_mm3 / (4 * np.pi)) ** (1 / 3)
    assert radius == pytest.approx(5.0, abs=0.1)


@pytest.mark.parametrize("probability", [0.3, 0.05])
def test_growth_is_bounded_where_everything_is_equally_probable(probability):
    flat = LesionFinder(Volume(np.full(GRID.shape, probability, np.float32), GRID))
    none = flat.find(0.5)
    grown = apply_edits(flat, none, [lesion_to_add(flat, none, (0, 0, 25))])
    (lesion,) = grown.lesions
    assert lesion.volume_mm3 == pytest.approx(LARGEST_MM3, rel=0.03)
    assert lesion.position_ras == pytest.approx((0, 0, 25), abs=0.01)


def test_growth_stops_before_it_leaks_into_a_wide_plain():
    plain = np.maximum(cone(FAINT, 0.3, 8.0), np.float32(0.2))
    finder = LesionFinder(Volume(plain, GRID))
    none = finder.find(0.5)
    (lesion,) = apply_edits(finder, none, [lesion_to_add(finder, none, FAINT)]).lesions
    # The plain begins at 0.2, a third of the way down the cone: radius 8/3 mm.
    assert lesion.volume_mm3 == pytest.approx(4 / 3 * np.pi * (8 / 3) ** 3, rel=0.15)


def test_a_grown_lesion_is_kept_below_the_minimum_volume_and_at_any_threshold(finder):
    edit = lesion_to_add(finder, finder.find(0.5), FAINT)
    for threshold in (0.05, 0.2, 0.4, 0.95):
        grown = apply_edits(finder, finder.find(threshold, 400.0), [edit])
        assert edit.voxel in grown.voxels


def test_a_lesion_is_removed_whole_and_stays_away_at_other_thresholds(finder):
    found = finder.find(0.2)
    assert len(found.lesions) == 2
    edit = lesion_to_remove(finder, found, 0.2, (FAINT[0] + 1.5, FAINT[1], FAINT[2]))
    for threshold in (0.2, 0.25, 0.28):
        left = apply_edits(finder, finder.find(threshold), [edit])
        assert [lesion.maximum_probability > 0.5 for lesion in left.lesions] == [True]
    # Where a lower threshold joins the two, what is nearer to the bright one stays.
    near = LesionFinder(
        Volume(np.maximum(cone((-4, 0, 25), 0.9, 9.0), cone((8, 0, 25), 0.9, 9.0)).astype(np.float32), GRID)
    )
    edit = lesion_to_remove(near, near.find(0.6), 0.6, (8, 0, 25))
    assert len(near.find(0.1).lesions) == 1, "they are joined"
    (left,) = apply_edits(near, near.find(0.1), [edit]).lesions
    ijk = ijk_of(apply_edits(near, near.find(0.1), [edit]).voxels, GRID)
    assert GRID.index_to_ras(ijk)[:, 0].max() <= 2.5  # half way between them
    assert left.position_ras[0] == pytest.approx(-4.2, abs=0.8)


def test_edits_are_done_in_their_order(finder):
    found = finder.find(0.5)
    add = lesion_to_add(finder, found, FAINT)
    grown = apply_edits(finder, found, [add])
    remove = lesion_to_remove(finder, grown, 0.5, FAINT)
    assert apply_edits(finder, found, [add, remove]).lesions == found.lesions
    assert apply_edits(finder, found, [remove, add]).lesions == grown.lesions
    painted = Edit("paint", added=np.array([5, 6, 7]), removed=found.voxels[found.identifier == 1])
    assert sorted(apply_edits(finder, found, [painted]).voxels) == [5, 6, 7]


def test_clicks_that_mean_nothing_are_explained(finder):
    found = finder.find(0.5)
    for place, words in ((BRIGHT, "a lesion at this place"), ((20, -25, 45), "only 0.0%"), ((500, 0, 0), "outside")):
        with pytest.raises(InputError, match=words):
            lesion_to_add(finder, found, place)
    with pytest.raises(InputError, match="no lesion at this place"):
        lesion_to_remove(finder, found, 0.5, FAINT)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.3, 0.9), st.integers(0, 12))
def test_edits_leave_what_they_say_and_measure_it_as_ever(seed, threshold, count):
    """Whatever is clicked, the lesions are the components of the voxels that are left."""
    from scipy.ndimage import gaussian_filter, label

    rng = np.random.default_rng(seed)
    noise = gaussian_filter(rng.normal(size=(12, 14, 16)), 1.2)
    volume = Volume(
        ((noise - noise.min()) / np.ptp(noise)).astype(np.float32), Grid(noise.shape, np.diag([1.0, 1, 1, 1]))
    )
    finder = LesionFinder(volume)
    base = finder.find(threshold)
    now, edits = base, []
    for _ in range(count):
        point = rng.uniform(0, 11, 3)
        try:
            if rng.random() < 0.5:
                edits.append(lesion_to_add(finder, now, point))
            else:
                edits.append(lesion_to_remove(finder, now, threshold, point))
        except InputError:
            continue
        before, now = now, apply_edits(finder, base, edits)
        assert (edits[-1].voxel in now.voxels) == (edits[-1].kind == "add")
        assert (len(now.voxels) > len(before.voxels)) == (edits[-1].kind == "add")
    mask = np.zeros(noise.size, bool)
    mask[now.voxels] = True
    assert label(mask.reshape(noise.shape), np.ones((3, 3, 3)))[1] == len(now.lesions)
    assert sum(lesion.volume_mm3 for lesion in now.lesions) == pytest.approx(mask.sum())


def test_undo_and_redo():
    a, b, paint = Edit("add", 1), Edit("remove", 2), Edit("paint", added=np.array([3]))
    edits = EditList().with_edit(a).with_edit(b)
    assert edits.undo().done == (a,) and edits.undo().undone == (b,)
    assert edits.undo().undo().undo().done == () and edits.undo().undo().undone == (a, b)
    assert edits.undo().redo().done == (a, b) and edits.redo().done == (a, b)
    assert edits.undo().with_edit(paint).undone == (), "what was undone is gone once something else is done"
    assert edits.with_paint(paint).done == (a, b, paint)
    other = Edit("paint", added=np.array([4]))
    assert edits.with_paint(paint).with_paint(other).done == (a, b, other)
    assert edits.with_paint(paint).with_paint(None).done == (a, b)


def test_edits_survive_a_file_that_turns_the_voxels_round():
    """What NRRD does with left-handed volumes: the same voxels, counted from the other end of k."""
    turned = Grid(GRID.shape, GRID.ijk_to_ras @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 39], [0, 0, 0, 1]]))
    mask = np.random.default_rng(0).random(GRID.shape) < 0.02
    edits = EditList(
        (Edit("add", voxel_at(FAINT, GRID)), Edit("paint", added=np.flatnonzero(mask))),
        (Edit("remove", voxel_at(BRIGHT, GRID), 0.45),),
    )
    text = edits_to_json(edits, GRID)
    back = edits_from_json(text, turned)
    assert back.done[0].voxel == voxel_at(FAINT, turned) != edits.done[0].voxel
    assert back.undone[0].voxel == voxel_at(BRIGHT, turned) and back.undone[0].level == 0.45
    np.testing.assert_array_equal(back.done[1].added, np.flatnonzero(mask[::-1]))
    assert edits_to_json(edits_from_json(text, GRID), GRID) == text
    assert edits_to_json(EditList(), GRID) == "" and edits_from_json("", GRID).done == ()


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "[1, 2]",
        '{"version": 2}',
        '{"version": 1, "shape": [2, 2], "ijk_to_ras": [], "done": [], "undone": []}',
        edits_to_json(EditList((Edit("add", 3),)), GRID).replace('"add"', '"explode"'),
        edits_to_json(EditList((Edit("paint", added=np.array([3])),)), GRID).replace("40,44,48", "1,1,2"),
    ],
)
def test_text_that_is_no_list_of_edits_is_refused(text):
    with pytest.raises(InputError, match="stored in the scene cannot be read"):
        edits_from_json(text, GRID)
