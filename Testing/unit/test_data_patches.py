"""Patches around findings: sampled in patient space, and equal to the set of ready-made patches."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from voxel_grids import rotation
from XTLLib.data.case import Case, Finding
from XTLLib.data.datalist import Datalist, Entry
from XTLLib.data.geometry import Grid
from XTLLib.data.images import write_volume
from XTLLib.data.layouts import read_layout
from XTLLib.data.patches import PatchSource, PatchSpec, extract_patch, load_patch
from XTLLib.data.volume import Volume
from XTLLib.errors import InputError

GRADIENT = np.array([0.3, -0.7, 1.1])
SIZES = {"T2W": (16, 16, 3), "ADC": (64, 64, 3), "HBV": (64, 64, 3)}
SET = PatchSpec(("T2W", "ADC", "HBV"), (1, 32, 32), SIZES)


def grid_around_zero(shape, spacing, turn: int | None = None, flips=(-1, -1, 1)) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if turn is None else small_rotation(turn)) @ np.diag(flips) * spacing
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return Grid(shape, affine)


def small_rotation(seed: int) -> np.ndarray:
    """At most about 20 degrees, so that axes keep their meaning."""
    q, _ = np.linalg.qr(np.eye(3) + 0.25 * (rotation(seed) - np.eye(3)) / 2)
    return q * np.sign(np.diag(q))


def positions(grid: Grid) -> np.ndarray:
    k, j, i = np.indices(grid.shape)
    return grid.index_to_ras(np.stack([i, j, k], axis=-1))


def linear(grid: Grid, name: str) -> Volume:
    return Volume((positions(grid) @ GRADIENT + 200).astype(np.float32), grid, name)


def robust_scale(volume: Volume) -> tuple[float, float]:
    """What the robust intensity subtracts and divides by, of a volume that is foreground everywhere."""
    values = np.clip(volume.array.astype(float), *np.percentile(volume.array, (0.5, 99.5)))
    return values.mean(), values.std()


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([(-1, -1, 1), (1, 1, 1), (1, -1, 1), (-1, 1, -1)]),
    st.tuples(*[st.floats(-4, 4)] * 3),
)
def test_a_patch_shows_patient_space_for_any_grid(seed, flips, centre):
    """On a linear image each sample has the value of its place, whatever the grids of the channels are."""
    t2w = grid_around_zero((24, 40, 40), (1.1, 1.1, 2.0), seed, flips)
    adc = grid_around_zero((20, 30, 30), (1.7, 1.6, 3.0), seed + 1)
    case = Case("P", {"T2W": linear(t2w, "T2W"), "ADC": linear(adc, "ADC")}, "T2W")
    spec = PatchSpec(("T2W", "ADC"), (3, 4, 5), {"T2W": (10, 8, 6), "ADC": (5, 8, 12)}, "robust")
    patch = extract_patch(case, Finding("1", centre), spec)
    assert patch.shape == (2, 3, 4, 5)
    assert patch.dtype == np.float32
    standard = t2w.along_lps()
    axes = standard.ijk_to_ras[:3, :3] / np.array(standard.spacing_mm)
    for channel, name in zip(patch, spec.channels):
        steps = np.array(spec.size_mm[name]) / (5, 4, 3)
        offsets = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip((5, 4, 3), steps)]
        z, y, x = np.meshgrid(offsets[2], offsets[1], offsets[0], indexing="ij")
        places = np.array(centre) + np.stack([x, y, z], axis=-1) @ axes.T
        mean, deviation = robust_scale(case.channels[name])
        assert np.allclose(channel * deviation + mean, places @ GRADIENT + 200, atol=0.02)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6),
    st.tuples(*[st.floats(-4, 4)] * 3),
    st.sampled_from([((3, 4, 5), (10.0, 8.0, 6.0)), ((1, 6, 5), (7.0, 9.0, 3.0)), ((1, 8, 8), (8.8, 8.8, 3.0))]),
)
def test_the_lattice_says_where_the_samples_of_a_patch_lie(seed, centre, patch):
    """On a linear image a sample's value tells its place; the last patch has the volume's pixels, which are cut out."""
    t2w = grid_around_zero((24, 40, 40), (1.1, 1.1, 2.0), seed)
    adc = grid_around_zero((20, 30, 30), (1.7, 1.6, 3.0), seed + 1)
    case = Case("P", {"T2W": linear(t2w, "T2W"), "ADC": linear(adc, "ADC")}, "T2W")
    shape, size_mm = patch
    spec = PatchSpec(("T2W", "ADC"), shape, dict.fromkeys(("T2W", "ADC"), size_mm), "robust")
    source = PatchSource(case, spec)
    for values, name in zip(source.patch(Finding("1", centre)), spec.channels):
        lattice = source.lattice(name, Finding("1", centre))
        mean, deviation = robust_scale(case.channels[name])
        assert lattice.shape == shape
        assert np.allclose(values * deviation + mean, positions(lattice) @ GRADIENT + 200, atol=0.03)
        thickness = size_mm[2] / shape[0] if shape[0] > 1 else max(size_mm[2], case.channels[name].grid.spacing_mm[2])
        assert lattice.spacing_mm[2] == pytest.approx(thickness, rel=0.05)  # slices may be tilted to the patch


def bright_point(grid: Grid, point: np.ndarray, width_mm: float) -> Volume:
    distance = np.linalg.norm(positions(grid) - point, axis=-1)
    return Volume((1000 * np.exp(-((distance / width_mm) ** 2)) + 1).astype(np.float32), grid)


@pytest.mark.parametrize("flips", [(-1, -1, 1), (1, 1, 1), (1, -1, -1)])
def test_rows_run_to_posterior_columns_to_left_slices_to_superior(flips):
    grid = grid_around_zero((20, 40, 40), (1, 1, 1), None, flips)
    spec = PatchSpec(("T2W",), (8, 16, 16), {"T2W": (16, 16, 8)})
    for axis, place in (((-4, 0, 0), (0, 0, 4)), ((0, -4, 0), (0, 4, 0)), ((0, 0, 2), (2, 0, 0))):
        case = Case("P", {"T2W": bright_point(grid, np.array(axis), 1.5)}, "T2W")
        patch = extract_patch(case, Finding("1", (0, 0, 0)), spec)[0]
        peak = np.array(np.unravel_index(patch.argmax(), patch.shape))
        assert np.abs(peak - (np.array([3.5, 7.5, 7.5]) + place)).max() <= 0.5


def test_rank_is_the_fraction_of_voxels_that_are_not_brighter():
    grid = grid_around_zero((3, 9, 9), (1, 1, 3))
    array = np.random.default_rng(0).permutation(243).reshape(3, 9, 9).astype(np.int16)
    case = Case("P", {"T2W": Volume(array, grid)}, "T2W")
    patch = extract_patch(case, Finding("1", (0, 0, 0)), PatchSpec(("T2W",), (1, 5, 5), {"T2W": (5, 5, 3)}))
    assert np.allclose(patch[0, 0], (array[1, 2:7, 2:7] + 1) / 243)


def test_a_coarse_patch_averages_and_does_not_alias():
    grid = grid_around_zero((4, 64, 64), (0.5, 0.5, 3))
    stripes = np.where(np.indices(grid.shape)[2] % 2, 300.0, 100.0).astype(np.float32)
    stripes += np.indices(grid.shape)[1]  # a slow ramp, so that the patch is not constant
    case = Case("P", {"T2W": Volume(stripes, grid)}, "T2W")
    spec = PatchSpec(("T2W",), (2, 8, 8), {"T2W": (16, 16, 6)}, "robust")
    patch = extract_patch(case, Finding("1", (0, 0, 0)), spec)[0]
    assert np.ptp(patch, axis=2).max() < 0.05 * np.ptp(patch)


def test_the_edge_repeats_beyond_the_last_slice():
    grid = grid_around_zero((5, 30, 30), (1, 1, 3))
    case = Case("P", {"T2W": linear(grid, "T2W")}, "T2W")
    spec = PatchSpec(("T2W",), (4, 8, 8), {"T2W": (8, 8, 12)}, "robust")
    patch = extract_patch(case, Finding("1", (0, 0, 6)), spec)[0]
    assert np.allclose(patch[2], patch[3])
    assert not np.allclose(patch[1], patch[2])


def test_many_findings_cost_little_with_a_source():
    grid = grid_around_zero((20, 200, 200), (0.5, 0.5, 3))
    case = Case("P", {"T2W": linear(grid, "T2W")}, "T2W")
    spec = PatchSpec(("T2W",), (1, 32, 32), {"T2W": (16, 16, 3)})
    source = PatchSource(case, spec)
    findings = [Finding(str(n), (n - 5.0, 2.0 * n - 9, 1.0 * n)) for n in range(10)]
    patches = [extract_patch(case, finding, spec, source) for finding in findings]
    assert np.array_equal(patches[3], extract_patch(case, findings[3], spec))


def test_findings_that_cannot_be_cut_out_are_named():
    grid = grid_around_zero((8, 30, 30), (1, 1, 3))
    array = np.random.default_rng(0).uniform(1, 9, grid.shape).astype(np.float32)
    array[:4] = 0
    case = Case("P", {"T2W": Volume(array, grid, "t2w.nii")}, "T2W")
    spec = PatchSpec(("T2W",), (1, 8, 8), {"T2W": (8, 8, 3)})
    with pytest.raises(InputError, match=r"finding 7 at \(0\.0, 99\.0, 0\.0\) mm RAS lies outside t2w\.nii"):
        extract_patch(case, Finding("7", (0, 99, 0)), spec)
    with pytest.raises(InputError, match=r"t2w\.nii \(T2W\) is constant around the finding 8"):
        extract_patch(case, Finding("8", (0, 0, -7)), spec)
    with pytest.raises(InputError, match="ADC is missing"):
        extract_patch(case, Finding("9", (0, 0, 0)), PatchSpec(("T2W", "ADC"), (1, 8, 8), SIZES))
    empty = Case("P", {"T2W": Volume(np.zeros(grid.shape, np.float32), grid, "black.nii")}, "T2W")
    robust = PatchSpec(("T2W",), (1, 8, 8), {"T2W": (8, 8, 3)}, "robust")
    with pytest.raises(InputError, match=r"black\.nii holds no foreground"):
        extract_patch(empty, Finding("1", (0, 0, 0)), robust)


def test_a_description_goes_through_json_and_back():
    assert PatchSpec.from_dict(json.loads(json.dumps(SET.to_dict()))) == SET
    with pytest.raises(InputError, match="unknown key size"):
        PatchSpec.from_dict({**SET.to_dict(), "size": 3})
    with pytest.raises(InputError, match="lacks the key shape"):
        PatchSpec.from_dict({key: value for key, value in SET.to_dict().items() if key != "shape"})


@pytest.mark.parametrize(
    "changes",
    [
        {"reference": "FLAIR"},
        {"shape": (0, 8, 8)},
        {"shape": (8, 8)},
        {"size_mm": {"T2W": (1, 2, 3)}},
        {"size_mm": {**SIZES, "ADC": (1, -2, 3)}},
        {"intensity": "raw"},
    ],
)
def test_an_impossible_description_is_refused(changes):
    with pytest.raises(InputError):
        PatchSpec(**{**SET.to_dict(), **changes})


def test_an_entry_of_volumes_is_loaded_and_a_changed_file_is_read_again(tmp_path):
    import os

    grid = grid_around_zero((5, 40, 40), (1, 1, 3))
    path = str(tmp_path / "t2w.nii")
    entry = Entry("P", "P-1", {"T2W": path}, 1, Finding("1", (0, 0, 0)))
    datalist = Datalist("d", "csv", "classification", ("T2W",), "T2W", {}, training=(entry,))
    spec = PatchSpec(("T2W",), (1, 8, 8), {"T2W": (8, 8, 3)})
    for seed in range(2):
        volume = Volume(np.random.default_rng(seed).normal(size=grid.shape).astype(np.float32), grid)
        write_volume(volume, path)
        os.utime(path, (seed, seed))
        expected = extract_patch(Case("P", {"T2W": volume}, "T2W"), entry.finding, spec)
        assert np.allclose(load_patch(entry, datalist, spec), expected)
    os.remove(path)
    with pytest.raises(InputError, match=r"t2w\.nii does not exist"):
        load_patch(entry, datalist, spec)
    nowhere = Entry("P", "P-1", {"T2W": path}, 1)
    with pytest.raises(InputError, match="has no finding"):
        load_patch(nowhere, datalist, spec)


# --- ready-made patches -----------------------------------------------------------------------

COLUMNS = "row,ProxID,fid,pos_lps_mm,zone,ClinSig,has_T2,has_ADC,has_BVAL,has_KTRANS,T2_spacing_mm"


@pytest.fixture
def patch_set(tmp_path):
    """Three findings: whole, without ADC, and of finer T2 pixels."""
    patches = np.random.default_rng(0).random((3, 4, 32, 32)).astype(np.float32)
    patches[1, 1] = np.nan
    patches[2, 0] = np.arange(32) / 32
    np.savez_compressed(tmp_path / "patches.npz", patches=patches, channels=np.array(["T2", "ADC", "BVAL", "KTRANS"]))
    rows = [
        "0,P1,1,1 2 3,PZ,1,1,1,1,1,0.5x0.5x3",
        "1,P1,1,4 5 6,TZ,0,1,0,1,1,0.5x0.5x3",
        "2,P2,1,7 8 9,AS,0,1,1,1,1,0.25x0.25x3",
    ]
    (tmp_path / "patches.csv").write_text("\n".join([COLUMNS, *rows]))
    return tmp_path, patches


def test_stored_patches_come_as_they_are_and_missing_channels_as_one_half(patch_set):
    folder, patches = patch_set
    datalist = read_layout("prostatex-patches", folder)
    assert [entry.case for entry in datalist.training] == ["P1-1", "P1-1-2", "P2-1"]
    whole = load_patch(datalist.training[0], datalist, SET)
    assert np.array_equal(whole[:, 0], patches[0, :3])
    incomplete = load_patch(datalist.training[1], datalist, SET)
    assert (incomplete[1] == 0.5).all()
    assert np.array_equal(incomplete[0, 0], patches[1, 0])
    assert datalist.training[1].attributes["missing"] == "ADC"
    assert len(read_layout("prostatex-patches", folder, keep="complete").training) == 2


def test_a_smaller_view_is_the_centre_resized(patch_set):
    folder, patches = patch_set
    datalist = read_layout("prostatex-patches", folder)
    half = PatchSpec(("T2W", "ADC"), (1, 16, 16), {"T2W": (8, 8, 3), "ADC": (32, 32, 3)})
    loaded = load_patch(datalist.training[0], datalist, half)
    assert np.allclose(loaded[:, 0], patches[0, :2, 8:24, 8:24], atol=1e-6)
    enlarged = PatchSpec(("T2W",), (1, 32, 32), {"T2W": (8, 8, 3)})
    ramp = load_patch(datalist.training[2], datalist, enlarged)[0, 0]
    # Pixels of 0.25 mm: 32 of them show 8 mm, which is just what is asked for.
    assert np.allclose(ramp, patches[2, 0])


def test_finer_pixels_are_brought_to_the_usual_extent_with_the_edge_repeated(patch_set):
    folder, _ = patch_set
    datalist = read_layout("prostatex-patches", folder)
    patch = load_patch(datalist.training[2], datalist, SET)[0, 0]
    # The finding's pixel is column 16. A sample of 0.5 mm is the mean of two, a quarter of it to either side.
    middle = (np.arange(32) - 15.5) * 2 + 16
    ramp = (np.clip(middle - 0.5, 0, 31) + np.clip(middle + 0.5, 0, 31)) / 2
    assert np.allclose(patch, ramp / 32, atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (PatchSpec(("T2W",), (1, 32, 32), {"T2W": (20, 20, 3)}), "shows 16 mm of T2W, not 20 x 20 mm"),
        (PatchSpec(("T2W",), (3, 32, 32), {"T2W": (16, 16, 9)}), "single slices"),
        (PatchSpec(("T2W",), (1, 32, 32), {"T2W": (16, 16, 3)}, "robust"), "rank intensity"),
        (PatchSpec(("FLAIR",), (1, 8, 8), {"FLAIR": (8, 8, 3)}, reference="FLAIR"), "no channel FLAIR"),
    ],
)
def test_what_a_patch_file_has_not_got_is_refused(patch_set, spec, message):
    datalist = read_layout("prostatex-patches", patch_set[0])
    with pytest.raises(InputError, match=message):
        load_patch(datalist.training[0], datalist, spec)


def test_a_damaged_patch_set_is_told(patch_set):
    folder, patches = patch_set
    array = folder / "patches.npz"
    content = array.read_bytes()
    array.write_bytes(content[:-100])
    with pytest.raises(InputError, match=r"patches\.npz cannot be read"):
        read_layout("prostatex-patches", folder)
    np.savez(array, patches=patches[:2], channels=np.array(["T2", "ADC", "BVAL", "KTRANS"]))
    with pytest.raises(InputError, match="does not describe the 2 rows"):
        read_layout("prostatex-patches", folder)
    np.savez(array, patches=patches[:, :2], channels=np.array(["T2", "ADC"]))
    with pytest.raises(InputError, match="Give"):
        read_layout("prostatex-patches", folder)
    (folder / "patches.csv").write_text(COLUMNS.replace("ClinSig", "clinsig") + "\n0,P,1,1 2 3,PZ,1,1,1,1,1,\n")
    np.savez(array, patches=patches[:1], channels=np.array(["T2", "ADC", "BVAL", "KTRANS"]))
    with pytest.raises(InputError, match="Rename the column clinsig to ClinSig"):
        read_layout("prostatex-patches", folder)
    array.unlink()
    with pytest.raises(InputError, match=r"lacks 1 files: .*patches\.npz"):
        read_layout("prostatex-patches", folder)


@pytest.mark.real
def test_real_patches_all_load(real_data):
    datalist = read_layout("prostatex-patches", real_data / "prostate" / "prostatex_patches")
    patches = np.stack([load_patch(entry, datalist, SET) for entry in datalist.training])
    assert patches.shape == (264, 3, 1, 32, 32)
    assert np.isfinite(patches).all()
    assert patches.min() >= 0
    assert patches.max() <= 1
    constant = np.ptp(patches, axis=(2, 3, 4)) == 0
    missing = np.array(
        [[name in e.attributes.get("missing", "").split(",") for name in SET.channels] for e in datalist.training]
    )
    assert np.array_equal(constant, missing)
    assert (~missing.any(axis=1)).sum() == 250


@pytest.mark.real
def test_a_patch_cut_from_the_dicom_equals_the_one_of_the_set(real_data):
    """Somebody else cut the set; the same pixels from the DICOM and the finding's position prove the geometry."""
    images = read_layout("prostatex", real_data / "prostate")
    stored = read_layout("prostatex-patches", real_data / "prostate" / "prostatex_patches")
    for ours, theirs in zip(images.training, stored.training):
        assert ours.case == theirs.case
        mine, expected = load_patch(ours, images, SET), load_patch(theirs, stored, SET)
        assert np.allclose(mine, expected, atol=1e-4)
