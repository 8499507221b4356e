"""Whether channels lie on each other: what is said, what is left alone, and what a registration does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from XTLLib.data.alignment import align_channels
from XTLLib.data.case import Case
from XTLLib.data.images import read_volume
from XTLLib.data.phantoms.brain import brain_case
from XTLLib.data.registration import moved
from XTLLib.data.volume import Volume
from XTLLib.errors import Cancelled, InputError
from XTLLib.progress import Progress


def rigid(degrees: float, r: float, a: float, s: float) -> np.ndarray:
    """(4, 4): a turn about the axis from feet to head, then a shift."""
    matrix = np.eye(4)
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix[:2, :2] = [[cosine, -sine], [sine, cosine]]
    matrix[:3, 3] = (r, a, s)
    return matrix


@pytest.fixture(scope="module")
def case() -> Case:
    return brain_case(5, "P", "mixed grids")


def with_moved(case: Case, channel: str, transform: np.ndarray) -> Case:
    return replace(case, channels={**case.channels, channel: moved(case.channels[channel], transform)})


def test_nothing_is_said_of_channels_that_agree(case):
    alignment = align_channels(case, ("FLAIR", "T1", "T2", "PD"))
    assert alignment.notes == () and alignment.transforms == {}
    assert all(alignment.case.channels[name] is case.channels[name] for name in case.channels)


@pytest.mark.parametrize(
    ("degrees", "offset", "least", "most"),
    [(0, (0, 12, 0), 11, 13), (0, (-6, 0, 0), 5, 7), (10, (0, 0, 0), 4, 9)],  # a quick look does not find all of a turn
)
def test_a_displaced_channel_is_named_with_its_distance(case, degrees, offset, least, most):
    alignment = align_channels(with_moved(case, "T2", rigid(degrees, *offset)), ("FLAIR", "T1", "T2"))
    (note,) = alignment.notes
    assert note.startswith("The head in T2 seems to lie ") and "register" in note
    assert least <= float(note.split(" lie ")[1].split(" mm")[0]) <= most


def test_images_on_one_grid_are_looked_at_too():
    case = brain_case(5, "P")
    rolled = Volume(np.roll(case.channels["T1"].array, 6, axis=0), case.grid, "t1.nii")  # by 12 mm
    alignment = align_channels(replace(case, channels={**case.channels, "T1": rolled}), ("FLAIR", "T1"))
    assert "T1 seems to lie 12 mm away" in alignment.notes[0] or "T1 seems to lie 11 mm away" in alignment.notes[0]


def test_another_dicom_frame_of_reference_is_said_and_an_unknown_one_is_not(case):
    def framed(**frames: str) -> Case:
        channels = {n: replace(v, frame_of_reference=frames.get(n, "")) for n, v in case.channels.items()}
        return replace(case, channels=channels)

    names = ("FLAIR", "T1")
    (note,) = align_channels(framed(FLAIR="1.2.3", T1="1.2.4"), names).notes
    assert "T1 has another DICOM frame of reference than FLAIR" in note
    assert align_channels(framed(FLAIR="1.2.3", T1="1.2.3"), names).notes == ()
    assert align_channels(framed(FLAIR="1.2.3"), names).notes == ()


def test_registration_puts_every_channel_on_the_reference(case):
    away = with_moved(case, "T2", rigid(6, 5, -4, 3))
    events = []
    alignment = align_channels(away, ("FLAIR", "T2", "PD"), register=True, progress=Progress(events.append))
    assert set(alignment.transforms) == {"T2"} and alignment.notes[0].startswith("T2 was registered to FLAIR: moved by")
    volume, true = alignment.case.channels["T2"], case.channels["T2"].grid
    assert volume.array is case.channels["T2"].array  # interpolated once, later
    corners = np.array([[0, 0, 0], [0, 0, true.shape[0]], true.shape[::-1]])
    assert np.abs(volume.grid.index_to_ras(corners) - true.index_to_ras(corners)).max() < 1.5
    assert alignment.case.channels["FLAIR"] is case.channels["FLAIR"]
    assert {event.stage for event in events} == {"Registering T2", "Registering"}
    with pytest.raises(Cancelled):
        align_channels(away, ("T2",), register=True, progress=Progress(None, lambda: True))


def test_what_is_too_small_to_judge_is_not_judged_and_nothing_in_common_cannot_be_registered(case):
    slab = Volume(
        case.channels["T1"].array[:, :20], case.channels["T1"].grid.crop((slice(None), slice(0, 20), slice(None)))
    )
    assert align_channels(replace(case, channels={**case.channels, "T1": slab}), ("T1",)).notes == ()
    empty = Volume(np.zeros((40, 40, 40), np.float32), case.grid.crop((slice(0, 40),) * 3), "t1.nii")
    with pytest.raises(InputError, match=r"t1\.nii holds no foreground"):
        align_channels(replace(case, channels={**case.channels, "T1": empty}), ("T1",), register=True)


@pytest.mark.real
def test_real_channels_agree_and_shifted_ones_do_not(real_data):
    folder = real_data / "ms" / "longitudinal_common_space" / "patient01"
    volumes = {
        k: read_volume(folder / f"patient01_study1_{f}reg.nii.gz")
        for k, f in (("FLAIR", "FLAIR"), ("T1", "T1W"), ("T2", "T2W"))
    }
    case = Case("p", volumes, "FLAIR")
    assert align_channels(case, tuple(volumes)).notes == ()
    (note,) = align_channels(with_moved(case, "T1", rigid(0, 6, 0, 0)), tuple(volumes)).notes
    assert "T1 seems to lie 6 mm away" in note
