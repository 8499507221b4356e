"""Lesions over time in XTLSegment: the worker's job, the panel's section, and the console."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import slicer
from host.reload import save_and_reload
from XTLLib.data.geometry import Grid
from XTLLib.data.phantoms.brain import BrainPhantom
from XTLLib.data.phantoms.fields import box_grid
from XTLLib.data.registration import moved
from XTLLib.data.volume import Volume
from XTLLib.errors import Cancelled, InputError
from XTLLib.inference.longitudinal import ChangeRules, TimePoint, compare_over_time

GRID = Grid((30, 30, 30), np.diag([-1.0, -1.0, 2.0, 1.0]))
SHIFT_MM = (7.0, -4.0, 3.0)


def mask(*cubes: tuple[int, int, int, int]) -> Volume:
    array = np.zeros(GRID.shape, np.uint8)
    for k, j, i, side in cubes:
        array[k : k + side, j : j + side, i : i + side] = 1
    return Volume(array, GRID, "mask")


def wait(done: Callable[[], bool], limit_s: float = 90.0) -> None:
    deadline = time.monotonic() + limit_s
    while not done():
        slicer.app.processEvents()
        time.sleep(0.01)
        assert time.monotonic() < deadline, "it took too long"


@pytest.fixture(scope="module")
def worker():
    from XTLLib.inference.client import InferenceWorker

    worker = InferenceWorker()
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def heads() -> list[TimePoint]:
    """A brain phantom and the same head moved; of its lesions the largest is gone, and a new one has come."""
    from scipy.ndimage import label

    grid = box_grid((0.0, 0.0, 0.0), (160.0, 190.0, 150.0), (4.0, 4.0, 4.0), "RAS")
    phantom = BrainPhantom(3)
    image = Volume(phantom.images(("FLAIR",), grid, np.random.default_rng(0))["FLAIR"], grid, "flair")
    truth = phantom.truth(grid).astype(np.uint8)
    parts, _ = label(truth, np.ones((3, 3, 3)))
    largest = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    later = np.where(largest, np.uint8(0), truth)
    later[5:7, 5:7, 5:7] = 1
    matrix = np.eye(4)
    matrix[:3, 3] = SHIFT_MM
    return [
        TimePoint("first", Volume(truth, grid, "mask"), image),
        TimePoint("later", moved(Volume(later, grid, "mask"), matrix), moved(image, matrix)),
    ]


def test_the_worker_gives_what_the_library_gives(worker):
    points = [TimePoint("2024", mask((2, 2, 2, 4), (2, 12, 2, 3))), TimePoint("2025", mask((2, 2, 2, 5)))]
    rules = ChangeRules(minimum_volume_mm3=5.0)
    expected = compare_over_time(points, rules, register=False)
    result = worker.compare(points, rules, register=False).wait()
    assert result.histories == expected.histories
    assert [history.status for history in result.histories] == ["enlarging", "resolved"]
    assert (result.names, result.rules, result.registrations) == (("2024", "2025"), rules, (None,))
    assert [label.name for label in result.labels] == [label.name for label in expected.labels]
    assert all(np.array_equal(a.array, b.array) for a, b in zip(result.labels, expected.labels))
    assert np.array_equal(result.status.array, expected.status.array)
    assert result.status.grid.matches(GRID)


def test_the_worker_registers(worker, heads):
    result = worker.compare(heads).wait()
    (registration,) = result.registrations
    assert registration.moving_to_fixed[:3, 3] == pytest.approx([-x for x in SHIFT_MM], abs=1.0)
    assert result.count("new") == result.count("resolved") == 1


def test_the_worker_says_what_is_wrong_and_can_be_cancelled(worker, heads):
    with pytest.raises(InputError, match=r"1 time point\(s\)"):
        worker.compare([TimePoint("only", mask())], register=False).wait()
    job = worker.compare(heads)
    job.cancel()
    with pytest.raises(Cancelled):
        job.wait()
    assert not worker.is_busy
