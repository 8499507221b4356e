"""Patches that move, that miss a channel, that lie partly outside; and stored ones cut at another size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scene_cases import GRIDS
from XTLLib.data.case import Case, Finding
from XTLLib.data.datalist import Entry
from XTLLib.data.geometry import Grid
from XTLLib.data.patch_jitter import PatchJitter
from XTLLib.data.patches import PatchSource, PatchSpec, extract_patch
from XTLLib.data.stored_patches import load_stored_patch
from XTLLib.data.volume import Volume
from XTLLib.errors import InputError

JITTER = PatchJitter(15, 10, (0.8, 1.25), (3, 2, 1), mirror=True)
AXES = np.diag([-1.0, -1.0, 1.0])  # columns: L, P, S in RAS


def grid(shape=(20, 60, 60), spacing=(1.0, 1.0, 3.0), centre=(0, 0, 0)) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = AXES * spacing
    affine[:3, 3] = np.array(centre) - affine[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return Grid(shape, affine)


def places(of: Grid) -> np.ndarray:
    k, j, i = np.indices(of.shape)
    return of.index_to_ras(np.stack([i, j, k], axis=-1))


def blob(of: Grid, at, width_mm: float = 3.0) -> Volume:
    distance = np.linalg.norm(places(of) - np.asarray(at, dtype=float), axis=-1)
    return Volume((1000 * np.exp(-((distance / width_mm) ** 2)) + 1).astype(np.float32), of)


def peak_mm(channel: np.ndarray, size_mm) -> np.ndarray:
    """Centroid of a patch's bright spot as an offset (x, y, z) in mm from the patch's centre."""
    weights = np.clip(channel - 0.5 * channel.max(), 0, None).astype(float)
    steps = np.array(size_mm) / channel.shape[::-1]
    offsets = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip(channel.shape[::-1], steps)]
    z, y, x = np.meshgrid(offsets[2], offsets[1], offsets[0], indexing="ij")
    return np.array([(weights * axis).sum() for axis in (x, y, z)]) / weights.sum()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_all_channels_move_alike_in_mm_whatever_their_fields_of_view(seed, step):
    """A bright spot at offset p goes to M p + t in every channel: the closed form of the motion."""
    at = np.array([3.0, -4.0, 2.0])  # along L, P, S
    t2w, adc = grid(), grid((20, 40, 40), (2.0, 2.0, 2.5), (5, -3, 2))
    case = Case("P", {"T2W": blob(t2w, AXES @ at), "ADC": blob(adc, AXES @ at, 4.0)}, "T2W")
    sizes = {"T2W": (32.0, 32.0, 24.0), "ADC": (44.0, 44.0, 30.0)}
    spec = PatchSpec(("T2W", "ADC"), (24, 44, 44), sizes, "robust")
    motion = JITTER.motion(seed, step)
    patch = extract_patch_moved(case, spec, motion)
    expected = motion.matrix @ at + motion.shift_mm
    for channel, name in zip(patch, spec.channels):
        assert np.abs(peak_mm(channel, sizes[name]) - expected).max() < 0.7


def extract_patch_moved(case: Case, spec: PatchSpec, motion) -> np.ndarray:
    return PatchSource(case, spec).patch(Finding("1", (0, 0, 0)), motion)


def test_a_motion_is_a_function_of_seed_step_and_example():
    motions = [JITTER.motion(1, step, example) for step in range(3) for example in range(3)]
    again = [JITTER.motion(1, step, example) for step in (2, 0, 1) for example in range(3)]
    assert all(np.array_equal(a.matrix, b.matrix) for a, b in zip(motions[6:], again[:3]))
    assert len({motion.matrix.tobytes() for motion in motions}) == len(motions)
    assert not np.array_equal(JITTER.motion(2, 0).matrix, motions[0].matrix)


def test_motions_stay_within_their_limits_and_reach_them():
    motions = [JITTER.motion(0, step) for step in range(400)]
    scales = np.array([abs(np.linalg.det(motion.matrix)) ** (1 / 3) for motion in motions])
    assert 0.8 <= scales.min() < 0.83
    assert 1.2 < scales.max() <= 1.25
    shifts = np.abs([motion.shift_mm for motion in motions]).max(axis=0)
    assert np.all(shifts <= JITTER.shift_mm)
    assert np.all(shifts > 0.95 * np.array(JITTER.shift_mm))
    mirrored = np.mean([np.linalg.det(motion.matrix) < 0 for motion in motions])
    assert 0.4 < mirrored < 0.6
    still = PatchJitter().motion(5, 5)
    assert np.array_equal(still.matrix, np.eye(3))
    assert not still.shift_mm.any()


@pytest.mark.parametrize("wrong", [{"degrees": -1}, {"scale": (1.2, 0.8)}, {"scale": (0, 1)}, {"shift_mm": (1, 2)}])
def test_an_impossible_jitter_is_refused(wrong):
    with pytest.raises(InputError):
        PatchJitter(**wrong)


def test_a_patch_of_one_slice_moves_in_its_plane_only():
    on = grid()
    values = np.broadcast_to(np.arange(20.0, dtype=np.float32)[:, None, None] * 100, on.shape).copy()
    values += np.arange(60, dtype=np.float32)  # so that no patch is constant
    spec = PatchSpec(("T2W",), (1, 16, 16), {"T2W": (16, 16, 3)}, "rank")
    moved = PatchSource(Case("P", {"T2W": Volume(values, on)}, "T2W"), spec).patch(
        Finding("1", (0, 0, 1.5)), PatchJitter(0, 10, (1, 1), (0, 0, 9)).motion(0, 3)
    )
    assert moved.min() > 10 / 20  # slice 10 of 20 holds the ranks from 0.50
    assert moved.max() <= 11 / 20


def test_a_still_motion_changes_nothing_of_an_interpolated_patch():
    case = Case("P", {"T2W": blob(GRIDS["oblique"], (12, -8, 20))}, "T2W")
    spec = PatchSpec(("T2W",), (5, 9, 11), {"T2W": (12, 10, 9)})
    source, finding = PatchSource(case, spec), Finding("1", (11, -7, 21))
    assert np.allclose(source.patch(finding), source.patch(finding, PatchJitter().motion(0, 0)))


def test_a_patch_that_is_partly_outside_is_told_with_its_share():
    on = grid((10, 40, 40), (1, 1, 1))
    case = Case("P", {"T2W": blob(on, (0, 0, 0), 20)}, "T2W")
    spec = PatchSpec(("T2W",), (4, 8, 8), {"T2W": (8, 8, 4)}, "robust")
    inside = PatchSource(case, spec).cut(Finding("1", (0, 0, 0)))
    assert (inside.outside, inside.warnings) == ({}, ())
    # The image ends at 20 mm to the left of the middle; a patch around 18 mm shows 4 mm beyond that: 2 of 8 columns.
    edge = PatchSource(case, spec).cut(Finding("2", (-18, 0, 0)))
    assert edge.outside == {"T2W": 0.25}
    assert edge.warnings == ("finding 2: 25 % of its patch lie outside the T2W image",)


def test_a_missing_channel_is_refused_or_neutral_as_the_description_says():
    case = Case("P", {"T2W": blob(grid(), (0, 0, 0))}, "T2W")
    sizes = {"T2W": (16, 16, 3), "ADC": (64, 64, 3), "HBV": (64, 64, 3)}
    for intensity, middle in (("rank", 0.5), ("robust", 0.0)):
        spec = PatchSpec(("T2W", "ADC"), (1, 8, 8), sizes, intensity, missing="neutral")
        cut = PatchSource(case, spec).cut(Finding("1", (0, 0, 0)))
        assert (cut.array[1] == middle).all()
        assert np.ptp(cut.array[0]) > 0
        assert cut.missing == ("ADC",)
        assert cut.warnings == ("finding 1: without ADC",)
    with pytest.raises(InputError, match="ADC is missing"):
        PatchSource(case, PatchSpec(("T2W", "ADC"), (1, 8, 8), sizes))
    with pytest.raises(InputError, match="T2W is missing"):
        PatchSource(
            Case("P", {"ADC": blob(grid(), (0, 0, 0))}, "ADC"),
            PatchSpec(("T2W", "ADC"), (1, 8, 8), sizes, missing="neutral"),
        )
    with pytest.raises(InputError, match="missing is perhaps"):
        PatchSpec(("T2W",), (1, 8, 8), sizes, missing="perhaps")


def test_a_description_of_before_refuses_missing_channels_and_groups_go_by_size():
    sizes = {"T2W": (16, 16, 3), "ADC": (64, 64, 3), "HBV": (64, 64, 3)}
    spec = PatchSpec(("ADC", "T2W", "HBV"), (1, 8, 8), sizes)
    assert spec.groups == (("ADC", "HBV"), ("T2W",))
    old = {key: value for key, value in spec.to_dict().items() if key != "missing"}
    assert PatchSpec.from_dict(old) == spec


def test_a_reference_without_right_angles_is_refused():
    affine = np.array(grid().ijk_to_ras)
    affine[0, 1] += 0.2
    case = Case("P", {"T2W": Volume(blob(grid(), (0, 0, 0)).array, Grid(grid().shape, affine), "skew.mha")}, "T2W")
    with pytest.raises(InputError, match=r"skew\.mha has axes that are not at right angles"):
        PatchSource(case, PatchSpec(("T2W",), (1, 8, 8), {"T2W": (8, 8, 3)}))


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.uint8])
def test_ranks_of_whole_numbers_equal_those_of_floats(dtype):
    on = grid((4, 20, 20))
    values = np.random.default_rng(0).integers(0, 200, on.shape).astype(dtype)
    if dtype == np.int16:
        values -= 100
    spec = PatchSpec(("T2W",), (1, 7, 9), {"T2W": (11, 12, 3)})
    patches = [
        extract_patch(Case("P", {"T2W": Volume(array, on)}, "T2W"), Finding("1", (0.3, -0.2, 1)), spec)
        for array in (values, values.astype(np.float64))
    ]
    assert np.array_equal(*patches)


@pytest.mark.parametrize(
    ("size_mm", "shape"), [(12.0, 16), (8.0, 16), (10.0, 9), (6.0, 5), (16.0, 16), (16.0, 8), (7.5, 15), (13.0, 30)]
)
@pytest.mark.parametrize("turned", [False, True])
def test_a_stored_patch_cut_at_any_size_equals_the_one_cut_from_the_image(tmp_path, size_mm, shape, turned):
    """The finding's pixel, not the middle of the stored array, is the middle of what is cut."""
    on = grid((3, 101, 101), (0.5, 0.5, 3.0))
    rng = np.random.default_rng(1)
    case = Case("P", {"T2W": Volume(rng.permutation(3 * 101 * 101).reshape(on.shape).astype(np.float32), on)}, "T2W")
    finding = Finding("1", tuple(on.index_to_ras([50, 47, 1])))
    whole = extract_patch(case, finding, PatchSpec(("T2W",), (1, 32, 32), {"T2W": (16, 16, 3)}))
    stored = np.full((1, 4, 32, 32), np.nan, np.float32)
    stored[0, 0] = whole[0, 0]
    np.savez(tmp_path / "patches.npz", patches=stored, channels=np.array(["T2", "ADC", "BVAL", "KTRANS"]))
    entry = Entry("P", "P-1", {"T2W": str(tmp_path / "patches.npz")}, 1, finding, row=0)
    spec = PatchSpec(("T2W",), (1, shape, shape), {"T2W": (size_mm, size_mm, 3)})
    motion = PatchJitter(20, 0, (1.1, 1.2), (1, 1, 0)).motion(0, 1) if turned else None
    ours = load_stored_patch(entry, spec, motion)[0, 0]
    expected = PatchSource(case, spec).patch(finding, motion)[0, 0]
    # At the border of the stored patch its edge repeats, where the image goes on.
    inner = slice(shape // 4, shape - shape // 4)
    assert np.allclose(ours[inner, inner], expected[inner, inner], atol=1e-5)
