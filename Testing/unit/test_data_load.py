"""From an entry to a case: channels, masks of several raters, grids that differ by rounding."""

from __future__ import annotations

import numpy as np
import pytest
from XTLLib.data.datalist import Datalist, Entry
from XTLLib.data.geometry import Grid
from XTLLib.data.images import write_volume
from XTLLib.data.load import load_case, settle_on
from XTLLib.data.volume import Volume
from XTLLib.errors import InputError

GRID = Grid((8, 9, 10), np.diag([-1.0, -1.0, 2.0, 1.0]))


def stored(folder, masks: list[np.ndarray], raters: str = "union") -> tuple[Entry, Datalist]:
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    images = {}
    for name in ("FLAIR", "T1"):
        images[name] = str(folder / f"{name}.nii.gz")
        write_volume(Volume(rng.normal(size=GRID.shape).astype(np.float32), GRID), images[name])
    paths = []
    for number, mask in enumerate(masks, start=1):
        paths.append(str(folder / f"mask{number}.nii.gz"))
        write_volume(Volume(mask, GRID), paths[-1])
    entry = Entry("P", "P_01", images, paths[0], attributes={"raters": raters}, further_masks=tuple(paths[1:]))
    return entry, Datalist("d", "csv", "segmentation", ("FLAIR", "T1"), "FLAIR", {}, training=(entry,))


def boxes(*corners: int) -> list[np.ndarray]:
    masks = []
    for corner in corners:
        mask = np.zeros(GRID.shape, bool)
        mask[2:6, 2:6, corner : corner + 4] = True
        masks.append(mask)
    return masks


def test_a_case_has_its_channels_and_its_mask(tmp_path):
    (mask,) = boxes(3)
    case = load_case(*stored(tmp_path, [mask]))
    assert case.patient == "P"
    assert list(case.channels) == ["FLAIR", "T1"]
    assert case.reference == "FLAIR"
    assert np.array_equal(case.mask.array, mask)
    assert case.mask.grid.matches(case.grid)


@pytest.mark.parametrize(("raters", "expected"), [("union", np.logical_or), ("intersection", np.logical_and)])
def test_masks_of_two_raters_are_joined(tmp_path, raters, expected):
    first, second = boxes(2, 4)
    case = load_case(*stored(tmp_path, [first, second], raters))
    assert np.array_equal(case.mask.array, expected(first, second))
    assert raters in case.mask.name


def test_staple_lies_between_intersection_and_union_and_follows_a_majority(tmp_path):
    first, second, third = boxes(2, 2, 4)
    joined = load_case(*stored(tmp_path / "three", [first, second, third], "staple")).mask.array
    assert np.array_equal(joined, first)
    first, second = boxes(2, 4)
    joined = load_case(*stored(tmp_path / "two", [first, second], "staple")).mask.array
    assert (joined <= (first | second)).all()
    assert (joined >= (first & second)).all()


def test_staple_of_empty_masks_is_empty(tmp_path):
    nothing = np.zeros(GRID.shape, bool)
    assert not load_case(*stored(tmp_path, [nothing, nothing], "staple")).mask.array.any()


def test_an_unknown_way_to_join_masks_is_refused(tmp_path):
    with pytest.raises(InputError, match="rater policy 'vote'"):
        load_case(*stored(tmp_path, boxes(2, 4), "vote"))


def test_a_grid_that_differs_by_rounding_takes_the_references_place():
    turned = GRID.ijk_to_ras.copy()
    turned[:3, :3] = np.array([[1, -2e-4, 0], [2e-4, 1, 0], [0, 0, 1]]) @ turned[:3, :3]
    mask = Volume(np.ones(GRID.shape, bool), Grid(GRID.shape, turned))
    assert not mask.grid.matches(GRID)
    assert settle_on(mask, GRID).grid is GRID
    turned[:3, :3] = np.array([[1, -5e-3, 0], [5e-3, 1, 0], [0, 0, 1]]) @ GRID.ijk_to_ras[:3, :3]
    other = Volume(mask.array, Grid(GRID.shape, turned))
    assert settle_on(other, GRID) is other
    shifted = GRID.ijk_to_ras.copy()
    shifted[0, 3] += 0.5
    other = Volume(mask.array, Grid(GRID.shape, shifted))
    assert settle_on(other, GRID) is other


def test_a_mammogram_or_a_stored_patch_is_no_case(tmp_path):
    film = Entry("P", "C", {"MG": "/film.png"}, 1)
    datalist = Datalist("films", "csv", "mammogram-classification", ("MG",), "MG", {}, training=(film,))
    with pytest.raises(InputError, match="not a volume"):
        load_case(film, datalist)


def test_a_damaged_file_is_named(tmp_path):
    entry, datalist = stored(tmp_path, boxes(2))
    path = tmp_path / "T1.nii.gz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"T1\.nii\.gz is truncated"):
        load_case(entry, datalist)
