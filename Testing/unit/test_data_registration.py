"""Rigid registration: known motions of phantoms are found, on any grids, and nothing is interpolated."""

from __future__ import annotations

import numpy as np
import pytest
from XTLLib.data.geometry import Grid
from XTLLib.data.phantoms.brain import BrainPhantom
from XTLLib.data.phantoms.fields import box_grid
from XTLLib.data.registration import moved, register_rigid
from XTLLib.data.volume import Volume
from XTLLib.errors import Cancelled, InputError
from XTLLib.progress import Progress


@pytest.fixture(scope="module")
def head() -> dict[str, Volume]:
    """FLAIR and T1 of one phantom, on grids of different orientation and spacing."""
    tilted = box_grid((1.0, -2.0, 3.0), (160.0, 190.0, 150.0), (2.0, 2.0, 2.0), "LAS", (11.0, 4.0, -6.0))
    straight = box_grid((0.0, 0.0, 0.0), (160.0, 190.0, 150.0), (2.0, 2.0, 3.0), "RAS")
    phantom, rng = BrainPhantom(3), np.random.default_rng(3)
    images = phantom.images(("FLAIR",), tilted, rng) | phantom.images(("T1",), straight, rng)
    return {"FLAIR": Volume(images["FLAIR"], tilted, "flair.nii"), "T1": Volume(images["T1"], straight, "t1.nii")}


def rigid(degrees: float, axis: tuple, shift: tuple) -> np.ndarray:
    """(4, 4) of a rotation about an axis through the origin (Rodrigues' formula), then a shift in mm."""
    x, y, z = np.array(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    matrix = np.eye(4)
    matrix[:3, :3] += np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    matrix[:3, 3] = shift
    return matrix


def worst_error(found: np.ndarray, true: np.ndarray, radius: float = 70.0) -> float:
    """Largest distance (mm) between two transforms on a sphere of a head's size."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(500, 3))
    points *= radius / np.linalg.norm(points, axis=1, keepdims=True)
    difference = found @ np.linalg.inv(true)
    return float(np.linalg.norm(points @ difference[:3, :3].T + difference[:3, 3] - points, axis=1).max())


@pytest.mark.parametrize(
    ("degrees", "axis", "shift"),
    [(0.0, (0, 0, 1), (4.0, -3.0, 2.0)), (6.0, (1, 2, 3), (-3.0, 5.0, 4.0)), (8.0, (0, 0, 1), (40.0, -25.0, 30.0))],
)
def test_a_known_motion_is_found_between_two_contrasts(head, degrees, axis, shift):
    motion = rigid(degrees, axis, shift)
    result = register_rigid(moved(head["T1"], motion), head["FLAIR"])
    assert worst_error(result.moving_to_fixed, np.linalg.inv(motion)) < 1.0  # half a voxel
    assert result.rotation_degrees == pytest.approx(degrees, abs=0.6)
    assert result.similarity > result.similarity_before


def test_images_that_agree_stay_where_they_are(head):
    result = register_rigid(head["T1"], head["FLAIR"])
    assert result.displacement_mm < 0.5 and worst_error(result.moving_to_fixed, np.eye(4)) < 1.0


def test_the_coarse_look_tells_agreement_from_a_shift(head):
    same = register_rigid(head["T1"], head["FLAIR"], coarse=True)
    away = register_rigid(moved(head["T1"], rigid(0, (0, 0, 1), (12.0, 0.0, 0.0))), head["FLAIR"], coarse=True)
    assert same.displacement_mm < 2.0 and away.displacement_mm == pytest.approx(12.0, abs=2.0)


def test_nothing_is_interpolated_and_the_same_images_give_the_same_transform(head):
    shifted = moved(head["T1"], rigid(3, (1, 0, 0), (2.0, 2.0, 2.0)))
    first, second = (register_rigid(shifted, head["FLAIR"], coarse=True) for _ in range(2))
    assert np.array_equal(first.moving_to_fixed, second.moving_to_fixed)
    result = first.apply(shifted)
    assert result.array is shifted.array
    assert np.allclose(result.grid.ijk_to_ras, first.moving_to_fixed @ shifted.grid.ijk_to_ras)
    rotation = first.moving_to_fixed[:3, :3]
    assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-9) and np.linalg.det(rotation) == pytest.approx(1)


def test_progress_is_told_and_a_cancel_is_heard(head):
    events = []
    register_rigid(head["T1"], head["FLAIR"], coarse=True, progress=Progress(events.append))
    assert len(events) > 3 and all(event.stage == "Registering" for event in events)
    with pytest.raises(Cancelled):
        register_rigid(head["T1"], head["FLAIR"], progress=Progress(None, lambda: True))


def test_what_cannot_be_registered_is_named(head):
    empty = Volume(np.zeros((10, 10, 10)), Grid((10, 10, 10), np.eye(4)), "empty.nii")
    with pytest.raises(InputError, match=r"empty\.nii holds no foreground"):
        register_rigid(empty, head["FLAIR"])
    broken = Volume(np.full((10, 10, 10), np.nan), Grid((10, 10, 10), np.eye(4)), "nan.nii")
    with pytest.raises(InputError, match=r"nan\.nii has 1000 voxels"):
        register_rigid(broken, head["FLAIR"])
