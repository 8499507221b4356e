"""Arrays that are kept for whoever asks again."""

from __future__ import annotations

import numpy as np
from XTLLib.data.case import Finding
from XTLLib.data.datalist import Datalist, Entry
from XTLLib.data.geometry import Grid
from XTLLib.data.images import write_volume
from XTLLib.data.kept import KeptArrays
from XTLLib.data.patches import PatchSpec, load_patch
from XTLLib.data.volume import Volume


def test_the_oldest_go_when_the_bytes_do_not_suffice():
    kept, made = KeptArrays(3 * 8), []

    def get(key: str) -> None:
        kept.get(key, lambda: made.append(key) or np.zeros(1))

    for key in "abcadb":
        get(key)
    assert made == ["a", "b", "c", "d", "b"]  # a was asked for again, so that b had to go for d


def test_an_array_larger_than_all_is_given_and_not_kept():
    kept = KeptArrays(8)
    assert kept.get("a", lambda: np.ones(2)).sum() == 2
    assert kept.get("a", lambda: np.zeros(2)).sum() == 0


def test_a_patch_is_the_same_the_second_time_and_new_when_its_file_is(tmp_path):
    def write(seed: int) -> None:
        array = np.random.default_rng(seed).standard_normal((6, 20, 20)).astype(np.float32)
        write_volume(Volume(array, Grid(array.shape, np.diag([-1.0, -1.0, 3.0, 1.0]))), tmp_path / "t2.nii")

    write(0)
    finding = Finding("1", (-10.0, -10.0, 9.0))
    entry = Entry("p", "p-1", {"T2W": str(tmp_path / "t2.nii")}, 1, finding)
    datalist = Datalist("d", "csv", "classification", ("T2W",), "T2W", {"0": "no", "1": "yes"}, training=(entry,))
    spec = PatchSpec(("T2W",), (1, 8, 8), {"T2W": (8.0, 8.0, 3.0)})
    first = load_patch(entry, datalist, spec)
    expected = first.copy()
    first[:] = -1  # what a caller does to it is no one else's business
    assert np.array_equal(load_patch(entry, datalist, spec), expected)
    write(1)
    assert not np.array_equal(load_patch(entry, datalist, spec), expected)
