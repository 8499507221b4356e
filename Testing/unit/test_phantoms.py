"""Phantoms: the truth lies where it was put, on every grid, and is not to be had by a threshold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation
from XTLLib.data.datalist import Datalist
from XTLLib.data.load import load_case
from XTLLib.data.phantoms import brain, mammogram, prostate
from XTLLib.data.phantoms.fields import SmoothField, box_grid, ellipsoid_distance, points_of, rotation_from_degrees
from XTLLib.data.phantoms.write import Parts, write_brains, write_mammograms, write_prostates
from XTLLib.metrics.overlap import dice
from XTLLib.metrics.roc import auc
from XTLLib.study.baselines import FlairThreshold

# --- what all phantoms are made of --------------------------------------------------------------


@given(st.tuples(*[st.floats(-30, 30)] * 3), st.floats(1, 20))
@settings(max_examples=50, deadline=None)
def test_distance_from_a_sphere_is_exact(centre, radius):
    points = np.random.default_rng(0).uniform(-40, 40, (3, 50))
    expected = np.linalg.norm(points - np.array(centre)[:, None], axis=0) - radius
    assert ellipsoid_distance(points, centre, (radius,) * 3) == pytest.approx(expected, abs=1e-6)


@given(st.tuples(*[st.floats(-80, 80)] * 3), st.tuples(*[st.floats(2, 9)] * 3), st.floats(-1, 1), st.floats(0, 6.2))
@settings(max_examples=50, deadline=None)
def test_points_on_a_turned_ellipsoid_have_no_distance(turn, axes, height, angle):
    rotation = rotation_from_degrees(*turn)
    ring = np.sqrt(1 - height**2)
    on_surface = rotation @ (np.array(axes) * (ring * np.cos(angle), ring * np.sin(angle), height))
    assert abs(ellipsoid_distance(on_surface.reshape(3, 1), (0, 0, 0), axes, rotation)[0]) < 1e-6


def test_box_grid_has_the_axes_spacing_and_centre_that_were_asked_for():
    grid = box_grid((5.0, -3.0, 20.0), (100.0, 60.0, 30.0), (2.0, 1.0, 3.0), "PSL")
    assert grid.shape == (10, 60, 50)
    assert grid.spacing_mm == pytest.approx((2, 1, 3))
    assert grid.ijk_to_ras[:3, 0] == pytest.approx((0, -2, 0))  # i runs to posterior
    assert grid.ijk_to_ras[:3, 2] == pytest.approx((-3, 0, 0))  # k runs to the left
    assert grid.index_to_ras((np.array(grid.shape[::-1]) - 1) / 2) == pytest.approx((5, -3, 20))
    tilted = box_grid((0, 0, 0), (10, 10, 10), (1, 1, 1), "LPS", (10, 5, -7))
    assert np.linalg.det(tilted.ijk_to_ras[:3, :3]) == pytest.approx(1)


def test_points_of_a_grid_are_its_voxel_centres():
    grid = box_grid((1, 2, 3), (8, 12, 20), (2, 3, 4), "RAS", (12, 0, 5))
    points = points_of(grid)
    k, j, i = 3, 1, 2
    assert points[:, k, j, i] == pytest.approx(grid.index_to_ras(np.array((i, j, k))), abs=1e-4)


def test_smooth_field_is_standardised_and_crosses_zero_where_it_says():
    field = SmoothField(np.random.default_rng(0), 6.0, 40.0, band_pass=True)
    points = np.random.default_rng(1).uniform(-35, 35, (3, 4000)).astype(np.float32)
    values = field(points)
    assert abs(values.mean()) < 0.15
    assert values.std() == pytest.approx(1, abs=0.25)
    assert np.all(np.abs(values[field.distance_to_zero_mm(points) < 0.1]) < 0.2)


def test_mammographic_noise_follows_the_power_law():
    noise = mammogram.power_law_noise(1.5, np.random.default_rng(0), (256, 256))
    power = np.abs(np.fft.fft2(noise * np.hanning(256)[:, None] * np.hanning(256))) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    band = (frequency > 0.03) & (frequency < 0.3)
    slope = np.polyfit(np.log(frequency[band]), np.log(power[band]), 1)[0]
    assert slope == pytest.approx(-3.0, abs=0.3)  # Burgess 1999: power ~ 1/f^3


# --- brain --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def brains():
    return {variant: brain.brain_case(3 + n, variant, variant) for n, variant in enumerate(brain.VARIANTS)}


def test_one_seed_gives_one_brain(brains):
    again = brain.brain_case(4, "oblique", "oblique")
    for name in brain.CHANNELS:
        assert np.array_equal(again.channels[name].array, brains["oblique"].channels[name].array)
    other = brain.brain_case(5, "oblique", "oblique")
    assert not np.array_equal(other.channels["FLAIR"].array, again.channels["FLAIR"].array)


@pytest.mark.parametrize("variant", brain.VARIANTS)
def test_a_lesion_lies_where_it_was_put_on_every_grid(variant):
    phantom = brain.BrainPhantom(1)
    depths = [phantom._depths(np.float32(lesion.position_ras).reshape(3, 1)) for lesion in phantom.lesions]
    room = [min(d.pia[0], d.ventricles[0], d.deep_grey[0]) for d in depths]  # to what is not white matter
    deep = phantom.lesions[int(np.argmax(np.array(room) - [max(le.semi_axes_mm) for le in phantom.lesions]))]
    phantom.lesions = (deep,)
    grid = brain._grids(variant, np.random.default_rng(0))["FLAIR"]
    mask = phantom.truth(grid)
    ijk = np.argwhere(mask)[:, ::-1]
    centroid = grid.index_to_ras(ijk.mean(axis=0))
    assert np.linalg.norm(centroid - deep.position_ras) < 1.5  # the rough surface moves it a little
    volume = mask.sum() * grid.voxel_volume_mm3
    assert volume == pytest.approx(4 / 3 * np.pi * np.prod(deep.semi_axes_mm), rel=0.5)


def test_lesion_volume_does_not_depend_on_the_grid():
    phantom = brain.BrainPhantom(2)
    volumes = []
    for variant in brain.VARIANTS:
        grid = brain._grids(variant, np.random.default_rng(0))["FLAIR"]
        volumes.append(phantom.truth(grid).sum() * grid.voxel_volume_mm3)
    assert min(volumes) > 0.75 * max(volumes)


def test_lesions_are_bright_on_flair_and_t2_and_dark_on_t1(brains):
    case = brains["isotropic"]
    mask = case.mask.array
    around = binary_dilation(mask, iterations=3) & ~binary_dilation(mask)
    for name, sign in (("FLAIR", 1), ("T2", 1), ("T1", -1)):
        image = case.channels[name].array.astype(float)
        assert sign * (np.median(image[mask]) / np.median(image[around]) - 1) > 0.1


def test_a_flair_threshold_does_not_find_the_lesions(brains):
    cases = list(brains.values())
    threshold = FlairThreshold().fit(cases)  # even when it may see the cases it is tested on
    scores = [dice(threshold.predict(case).array, case.mask.array) for case in cases]
    assert np.mean(scores) < 0.6
    assert all(case.mask.array.sum() * case.grid.voxel_volume_mm3 > 1000 for case in cases)


def test_grids_are_isotropic_oblique_anisotropic_and_mixed(brains):
    assert brains["isotropic"].grid.spacing_mm == pytest.approx((2, 2, 2))
    directions = brains["oblique"].grid.ijk_to_ras[:3, :3] / 2
    assert np.abs(directions).max() < 0.9999
    assert max(brains["anisotropic"].grid.spacing_mm) / min(brains["anisotropic"].grid.spacing_mm) >= 3
    channels = brains["mixed grids"].channels
    assert len({volume.grid.shape for volume in channels.values()}) == 3
    for case in brains.values():
        case.require_channels(brain.CHANNELS)


# --- mammograms ---------------------------------------------------------------------------------


def test_films_show_their_abnormality_brighter_than_its_surroundings():
    contrasts = []
    rows, columns = np.mgrid[: mammogram.SHAPE[0], : mammogram.SHAPE[1]]
    for seed in range(12):
        film = mammogram.mammogram(seed, mammogram.SEVERITIES[1 + seed % 2], "LR"[seed % 2], "CC")
        x, y = film.centre_px
        away = np.hypot(columns - x, rows - y) / film.radius_px
        ring = (away > 1.6) & (away < 2.4) & (film.pixels > 150)
        contrasts.append(film.pixels[away < 0.6].mean() / film.pixels[ring].mean())
    assert np.mean(contrasts) > 1.2
    assert min(contrasts) > 0.95


def test_films_of_both_sides_are_mirrored_and_normals_have_no_mark():
    left, right = (mammogram.mammogram(5, "benign", side) for side in "LR")
    assert np.array_equal(left.pixels, right.pixels[:, ::-1])
    assert left.centre_px[0] + right.centre_px[0] == pytest.approx(mammogram.SHAPE[1] - 1)
    normal = mammogram.mammogram(5, "normal")
    assert (normal.abnormal, normal.centre_px, left.abnormal) == (0, None, 1)
    assert normal.pixels.dtype == np.uint16 and normal.pixels.max() <= 4095
    assert left.pixels[:, :5].mean() > 10 * max(left.pixels[:, -5:].mean(), 1)  # chest wall at the left edge


# --- prostate -----------------------------------------------------------------------------------


def test_prostate_grids_are_oblique_and_differ():
    case = prostate.prostate_case(0, "p")
    fine, coarse = case.channels["T2W"].grid, case.channels["ADC"].grid
    assert not fine.matches(coarse)
    assert 0.5 <= fine.spacing_mm[0] <= 1 and fine.spacing_mm[2] == pytest.approx(3)
    assert np.abs(np.diag(fine.ijk_to_ras[:3, :3])).max() < 3
    case.require_channels(prostate.CHANNELS)
    for finding in case.findings:
        assert fine.contains(finding.position_ras) and coarse.contains(finding.position_ras)


def test_adc_is_in_1e_6_mm2_per_s_with_0_for_no_value():
    adc = prostate.prostate_case(0, "p").channels["ADC"].array
    assert (adc == 0).mean() > 0.2
    assert 900 < np.median(adc[adc > 0]) < 1700
    assert adc.max() <= 4000


def test_significant_findings_differ_but_overlap_with_the_others(monkeypatch):
    # T2W takes two thirds of the time, is drawn after ADC, and is not looked at.
    monkeypatch.setattr(prostate.ProstatePhantom, "t2w", lambda _, grid, rng: np.zeros(grid.shape, np.uint16))
    signs, adc, truth = [], [], []
    for seed in range(40):
        signs += [np.mean(true.signs) for true in prostate.ProstatePhantom(seed).findings]
        case = prostate.prostate_case(seed, "p")
        volume = case.channels["ADC"]
        for finding in case.findings:
            i, j, k = np.round(volume.grid.ras_to_index(np.array(finding.position_ras))).astype(int)
            adc.append(volume.array[k, j - 1 : j + 2, i - 1 : i + 2].mean())
            truth.append(finding.significant)
    assert 0.25 < np.mean(truth) < 0.6
    assert 0.80 < auc(np.array(signs), np.array(truth)) < 0.97
    assert 0.75 < auc(-np.array(adc), np.array(truth)) < 0.95


def test_findings_lie_in_the_gland_in_their_zone_and_apart():
    zones = set()
    for seed in range(20):
        phantom = prostate.ProstatePhantom(seed)
        places = np.array([true.finding.position_ras for true in phantom.findings])
        for true, place in zip(phantom.findings, places):
            zones.add(true.finding.zone)
            in_transition = phantom._transition_distance(place.reshape(3, 1))[0] < 0
            assert in_transition == (true.finding.zone == "TZ")
            assert phantom._gland_distance(place.reshape(3, 1))[0] < 0
        gaps = np.linalg.norm(places[:, None] - places[None], axis=-1)[np.triu_indices(len(places), 1)]
        assert (gaps > 13).all()
    assert zones == {"PZ", "TZ"}


# --- cohorts ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    return folder, {
        "mammograms": write_mammograms(folder / "mammograms", Parts(6, 2), seed=1),
        "brains": write_brains(folder / "brains", Parts(2, 1, 1), seed=1),
        "prostates": write_prostates(folder / "prostates", Parts(3, 1, 2), seed=1),
    }


def test_cohorts_are_read_back_and_split_by_patient(cohorts):
    folder, written = cohorts
    for name, datalist in written.items():
        read = Datalist.load(folder / name / "datalist.json")
        assert read.content_hash() == datalist.content_hash()
        parts = [{entry.patient for entry in part} for part in (read.training, read.validation, read.test)]
        assert sum(map(len, parts)) == len(set.union(*parts)) == len(read.patients())
        assert read.patients()[0] == "phantom-001"
    assert [len(written["brains"].training), len(written["brains"].test)] == [2, 1]
    assert {entry.label for entry in written["mammograms"].training} == {0, 1}


def test_written_brain_and_prostate_are_the_generated_ones(cohorts):
    _, written = cohorts
    case = load_case(written["brains"].test[0], written["brains"])
    assert case.mask.array.any() and set(case.channels) == set(brain.CHANNELS)
    assert case.mask.grid.matches(case.grid)
    entry = written["prostates"].test[0]
    case = load_case(entry, written["prostates"])
    assert case.findings[0].zone == entry.attributes["zone"]
    assert case.findings[0].significant == bool(entry.label)


def test_a_cohort_is_the_same_for_the_same_seed(cohorts, tmp_path):
    _, written = cohorts
    again = write_prostates(tmp_path / "again", Parts(3, 1, 2), seed=1)
    assert again.content_hash() == written["prostates"].content_hash()
    other = write_prostates(tmp_path / "other", Parts(3, 1, 2), seed=2)
    assert other.content_hash() != again.content_hash()
