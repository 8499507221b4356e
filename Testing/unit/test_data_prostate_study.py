"""A prostate study from a folder: every quirk of ProstateX and PI-CAI, on the real studies where they show it."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from dicom_series import series_array, write_series
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree
from XTLLib.data.case import Case, Finding
from XTLLib.data.dicom import read_series_folder
from XTLLib.data.finding_sources import regions_as_findings
from XTLLib.data.findings import read_findings, read_findings_csv
from XTLLib.data.images import read_volume, write_volume
from XTLLib.data.layouts import read_layout
from XTLLib.data.patches import PatchSource, PatchSpec
from XTLLib.data.prostate_series import chosen_series, find_series
from XTLLib.data.prostate_study import adc_unit, read_prostate_study
from XTLLib.data.volume import Volume
from XTLLib.data.zones import guess_zones
from XTLLib.errors import InputError

PICAI_IDS = {"ProstateX-0000": "11373_1001396", "ProstateX-0001": "10795_1000811"}
SPEC = PatchSpec(("T2W", "ADC", "HBV"), (3, 24, 24), dict.fromkeys(("T2W", "ADC", "HBV"), (24.0, 24.0, 9.0)))
NATIVE = PatchSpec(SPEC.channels, (1, 32, 32), {"T2W": (16, 16, 3), "ADC": (64, 64, 3), "HBV": (64, 64, 3)})


@pytest.fixture(scope="module")
def prostate(real_data) -> Path:
    return real_data / "prostate"


@pytest.fixture(scope="module", params=sorted(PICAI_IDS))
def patient(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def study(prostate, patient):
    return read_prostate_study(prostate / "dicom" / "ProstateX" / patient, findings=findings_of(prostate, patient))


def findings_of(prostate: Path, patient: str) -> tuple[Finding, ...]:
    return read_findings(prostate / "prostatex_csv" / "ProstateX-Findings-Train.csv", patient)


def label_file(prostate: Path, kind: str, patient: str) -> Volume:
    return read_volume(prostate / "picai" / "picai_labels" / kind / f"{PICAI_IDS[patient]}.nii.gz")


LESIONS = "csPCa_lesion_delineations/human_expert/resampled"
GLAND = "anatomical_delineations/whole_gland/AI/Bosma22b"
ZONES = "anatomical_delineations/zonal_pz_tz/AI/HeviAI23"


def places_of(mask: Volume) -> np.ndarray:
    return mask.grid.index_to_ras(np.argwhere(mask.array > 0)[:, ::-1])


# --- the quirks of the two data sets ----------------------------------------------------------


@pytest.mark.real
def test_the_choices_are_told_with_their_reasons_and_no_header_of_the_patient(study, patient):
    words = "\n".join(study.choices)
    assert ("of 2 transverse T2 series the one acquired last" in words) == (patient == "ProstateX-0001")
    assert "diffusion series with b 1000 s/mm²" in words
    assert "1e-6 mm²/s" in words
    assert "2011" not in words
    assert "ProstateX" not in words
    assert study.case.patient == "case"


@pytest.mark.real
def test_the_triples_of_picai_are_the_same_study(prostate, patient, study):
    triple = read_prostate_study(prostate / "picai" / "images" / PICAI_IDS[patient].split("_")[0])
    for name in ("T2W", "ADC", "HBV"):
        ours, theirs = study.case.channels[name], triple.case.channels[name]
        assert ours.grid.matches(theirs.grid, 1e-3)
        # Of 0001 the .mha was made of the first of two T2 series, which lie on one grid.
        if (patient, name) != ("ProstateX-0001", "T2W"):
            assert np.array_equal(ours.array, theirs.array)


@pytest.mark.real
def test_two_t2_series_lie_on_one_grid_and_the_later_is_taken(prostate):
    root = prostate / "dicom" / "ProstateX" / "ProstateX-0001"
    first, second = (read_series_folder(next(root.glob(f"*/{number}.*"))) for number in (6, 10))
    assert first.grid.matches(second.grid, 1e-3)
    assert not np.array_equal(first.array, second.array)
    assert np.array_equal(read_prostate_study(root).case.channels["T2W"].array, second.array)


@pytest.mark.real
def test_one_diffusion_series_holds_three_b_values_told_by_private_bytes_alone(prostate, patient):
    import pydicom

    series = find_series(prostate / "dicom" / "ProstateX" / patient, mixed=True)
    (multi,) = [one for one in series if one.is_diffusion and len(one.files) == 57]
    headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in multi.files]
    assert {bytes(header[0x0019, 0x100C].value) for header in headers} == {b"50", b"400 ", b"800 "}
    assert not any("DiffusionBValue" in header for header in headers)
    assert multi.b_value == 800


@pytest.mark.real
def test_the_adc_has_no_rescale_slope_and_zero_where_there_is_no_value(study):
    adc = study.case.channels["ADC"]
    assert adc.array.dtype.kind == "u"
    assert adc_unit(adc) == "1e-6 mm²/s"
    assert (adc.array == 0).any()


@pytest.mark.real
def test_the_ijk_of_the_tables_is_rounded_where_its_own_matrix_and_the_dicom_disagree_by_half_a_voxel(prostate):
    """Why positions are computed from pos and the DICOM geometry."""
    with open(prostate / "prostatex_csv" / "ProstateX-Images-Train.csv", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["ProxID"] in PICAI_IDS]
    offsets = []
    for row in rows:
        folders = list((prostate / "dicom" / "ProstateX" / row["ProxID"]).glob(f"*/{row['DCMSerNum']}.*"))
        if not folders:
            continue
        grid = read_series_folder(folders[0]).grid
        pos = np.array([float(text) for text in row["pos"].split()])
        matrix = np.array([float(text) for text in row["WorldMatrix"].split(",")]).reshape(4, 4)
        theirs = (np.linalg.inv(matrix) @ [*pos, 1])[:3]
        assert np.abs(theirs - [int(text) for text in row["ijk"].split()]).max() <= 0.51
        offsets.append(theirs - grid.ras_to_index(pos * [-1, -1, 1]))
    assert len(offsets) >= 6
    assert np.allclose(offsets, 0.5, atol=0.05)


@pytest.mark.real
def test_the_findings_that_share_a_number_are_told_apart_by_position(prostate):
    found = read_findings_csv(prostate / "prostatex_csv" / "ProstateX-Findings-Train.csv")
    shared = [(patient, one) for patient, one in found if "-" in one.identifier]
    assert {patient for patient, _ in shared} <= {"ProstateX-0005", "ProstateX-0025", "ProstateX-0159"}
    assert len(found) == len({(patient, one.identifier) for patient, one in found})
    # The tables of images repeat each finding once an image: as many findings, not as many as lines.
    images = read_findings_csv(prostate / "prostatex_csv" / "ProstateX-Images-KTrans-Train.csv")
    assert {(p, one.position_ras) for p, one in found if p in dict(images)} <= {(p, f.position_ras) for p, f in images}


@pytest.mark.real
def test_picai_labels_lie_on_the_t2_within_their_rounding(prostate, patient, study):
    for kind in (LESIONS, GLAND, ZONES):
        grid, own = label_file(prostate, kind, patient).grid, study.case.channels["T2W"].grid
        directions = [g.ijk_to_ras[:3, :3] / np.array(g.spacing_mm) for g in (grid, own)]
        assert grid.shape == own.shape
        assert np.abs(directions[0] - directions[1]).max() < 1e-3


# --- geometry ---------------------------------------------------------------------------------


@pytest.mark.real
def test_a_finding_lies_within_3_mm_of_the_picai_lesion_in_every_channel(prostate):
    """Each channel is painted with its own distance to the lesion; the middle of the patch reads it off."""
    case = read_prostate_study(
        prostate / "dicom/ProstateX/ProstateX-0000", findings=findings_of(prostate, "ProstateX-0000")
    ).case
    lesion = places_of(label_file(prostate, LESIONS, "ProstateX-0000"))
    tree = cKDTree(lesion)
    painted = {}
    for name, volume in case.channels.items():
        k, j, i = np.indices(volume.grid.shape)
        points = volume.grid.index_to_ras(np.stack([i, j, k], axis=-1))
        distance = np.full(volume.grid.shape, 99.0)
        near = np.linalg.norm(points - case.findings[0].position_ras, axis=-1) < 25
        distance[near], _ = tree.query(points[near])
        painted[name] = Volume(distance, volume.grid, name)
    spec = PatchSpec(SPEC.channels, (3, 25, 25), SPEC.size_mm, "rank")
    source = PatchSource(Case("P", painted, "T2W", findings=case.findings), spec)
    patch = source.patch(case.findings[0])
    for name, channel in zip(spec.channels, patch):
        ranks = np.sort(painted[name].array, axis=None)
        distance = ranks[int(channel[1, 12, 12] * ranks.size) - 1]
        assert distance < 3, name
    assert tree.query(case.findings[0].position_ras)[0] == pytest.approx(1.5, abs=0.1)


@pytest.mark.real
def test_the_lesion_of_picai_is_bright_in_the_hbv_and_dark_in_the_adc(prostate):
    """The mask was drawn on other files: where grids were exchanged or shifted, it would show other tissue."""
    channels = read_prostate_study(prostate / "dicom/ProstateX/ProstateX-0000").case.channels
    gland, lesion = (places_of(label_file(prostate, kind, "ProstateX-0000")) for kind in (GLAND, LESIONS))

    def values(name: str, points: np.ndarray) -> np.ndarray:
        volume = channels[name]
        return map_coordinates(volume.array.astype(float), volume.grid.ras_to_index(points)[:, ::-1].T, order=1)

    assert (values("HBV", gland) < values("HBV", lesion).mean()).mean() > 0.9
    assert (values("ADC", gland) < values("ADC", lesion).mean()).mean() < 0.3


@pytest.mark.real
def test_the_finding_of_picai_lies_in_its_lesion_and_near_the_one_of_prostatex(prostate):
    (region,) = regions_as_findings(label_file(prostate, LESIONS, "ProstateX-0000"), 2)
    lesion = places_of(label_file(prostate, LESIONS, "ProstateX-0000"))
    position = np.array(region.finding.position_ras)
    assert np.linalg.norm(lesion - position, axis=1).min() < 1e-6
    assert np.linalg.norm(position - findings_of(prostate, "ProstateX-0000")[0].position_ras) < 3
    assert (region.value, region.volume_mm3) == (3, pytest.approx(414 * 0.75, abs=0.1))
    assert regions_as_findings(label_file(prostate, LESIONS, "ProstateX-0001"), 2) == ()


@pytest.mark.real
def test_the_zone_that_the_mask_tells_is_the_one_the_radiologist_gave(prostate):
    zones = label_file(prostate, ZONES, "ProstateX-0000")
    (finding,) = findings_of(prostate, "ProstateX-0000")
    assert finding.zone == "PZ"
    unknown = Finding("1", finding.position_ras)
    told = guess_zones([unknown], zones)
    assert [one.zone for one in told.findings] == ["PZ"]
    exchanged = guess_zones([unknown], zones, {1: "TZ", 2: "PZ"})
    assert "TZ lies behind its PZ" in exchanged.notes[0]


@pytest.mark.real
def test_the_layout_of_picai_takes_zones_from_the_masks_beside_the_labels(prostate):
    datalist = read_layout("picai", prostate / "picai", task="classification", zones="HeviAI23")
    assert [(entry.finding.zone, entry.attributes["zone"]) for entry in datalist.training] == [("PZ", "PZ")]
    with pytest.raises(InputError, match="Nobody25"):
        read_layout("picai", prostate / "picai", task="classification", zones="Nobody25")


@pytest.mark.real
def test_the_names_and_the_order_of_files_change_nothing(prostate, patient, study, tmp_path):
    """All files of the study in one folder, named by chance: the same arrays, grids, choices."""
    files = sorted((prostate / "dicom" / "ProstateX" / patient).rglob("*.dcm"))
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        folder.mkdir()
        for number, place in enumerate(np.random.default_rng(seed).permutation(len(files))):
            os.symlink(files[place], folder / f"IM{number:05d}")
        other = read_prostate_study(folder, findings=study.case.findings)
        assert other.choices == study.choices
        for name, volume in study.case.channels.items():
            assert np.array_equal(other.case.channels[name].array, volume.array)
            assert np.array_equal(other.case.channels[name].grid.ijk_to_ras, volume.grid.ijk_to_ras)


@pytest.mark.real
def test_patches_are_equal_from_files_and_from_the_scene(study, scene):
    from XTLLib.scene.findings import findings_to_node
    from XTLLib.scene.nodes import case_from_nodes, volume_to_node

    case = study.case
    nodes = {name: volume_to_node(volume, name, scene) for name, volume in case.channels.items()}
    points = findings_to_node(case.findings, "findings", scene)
    in_scene = case_from_nodes(nodes, "T2W", findings_node=points)
    assert in_scene.findings[0].zone == case.findings[0].zone
    assert np.allclose(in_scene.findings[0].position_ras, case.findings[0].position_ras, atol=1e-6)
    for spec in (SPEC, NATIVE):
        from_files = PatchSource(case, spec).patch(case.findings[0])
        from_scene = PatchSource(in_scene, spec).patch(in_scene.findings[0])
        assert np.allclose(from_files, from_scene, atol=1e-5)


@pytest.mark.real
def test_the_command_line_rates_as_the_scene_does(study, prostate, patient, scene, tmp_path):
    from toy_bundles import CLASSIFICATION, write_toy_bundle
    from XTLLib.bundle.load import load_bundle
    from XTLLib.cli import main
    from XTLLib.inference.classify import classify_case
    from XTLLib.scene.findings import findings_to_node
    from XTLLib.scene.nodes import case_from_nodes, volume_to_node

    bundle = write_toy_bundle(tmp_path / "bundle", CLASSIFICATION)
    chosen = chosen_series(find_series(prostate / "dicom" / "ProstateX" / patient))
    volumes = [part for name in ("T2W", "ADC") for part in ("--volume", f"{name}={chosen[name].series.folder}")]
    table = prostate / "prostatex_csv" / "ProstateX-Findings-Train.csv"
    arguments = ["--bundle", str(bundle), *volumes, "--findings", str(table), "--patient", patient]
    assert main(["classify", *arguments, "--device", "cpu", "--out", str(tmp_path / "out"), "--progress", "none"]) == 0
    with open(tmp_path / "out" / "lesions.tsv", newline="") as stream:
        (row,) = csv.DictReader(stream, delimiter="\t")
    nodes = {name: volume_to_node(study.case.channels[name], name, scene) for name in ("T2W", "ADC")}
    case = case_from_nodes(nodes, "T2W", findings_node=findings_to_node(study.case.findings, "findings", scene))
    (rated,) = classify_case(case, load_bundle(bundle), device="cpu").findings
    assert [float(row[key]) for key in ("R_mm", "A_mm", "S_mm")] == pytest.approx(rated.finding.position_ras, abs=0.01)
    assert float(row["probability"]) == pytest.approx(rated.probability, abs=1e-4)


# --- folders of every kind --------------------------------------------------------------------


def write_small_study(
    folder: Path, study: str = "1.2.3", date: str = "20120101", patient: str = "P", **without
) -> None:
    diffusion = ["DERIVED", "PRIMARY", "DIFFUSION"]
    for number, (name, tags) in enumerate(
        {
            "t2_tse_tra": {},
            "diff_ADC": {"ImageType": [*diffusion, "ADC"]},
            "diff_bval": {"ImageType": [*diffusion, "TRACEW"], "private_b": b"1400"},
        }.items(),
        start=1,
    ):
        if name not in without.get("skip", ()):
            write_series(
                folder / name,
                series_array(number) + np.uint16(1),
                SeriesDescription=name,
                SeriesNumber=number,
                SeriesInstanceUID=f"{study}.{number}",
                StudyInstanceUID=study,
                StudyDate=date,
                PatientID=patient,
                **tags,
            )


def test_of_several_studies_the_latest_with_most_channels_is_read(tmp_path):
    write_small_study(tmp_path / "a", "1.2.1", "20120101")
    write_small_study(tmp_path / "b", "1.2.2", "20120601")
    write_small_study(tmp_path / "c", "1.2.4", "20121201", skip=("diff_ADC",))
    study = read_prostate_study(tmp_path)
    assert set(study.case.channels) == {"T2W", "ADC", "HBV"}
    assert Path(study.case.channels["T2W"].name).parent.name == "b"
    assert study.choices[0] == "study: the latest of 3 that has the most channels"


def test_two_patients_in_a_folder_are_told_without_their_names(tmp_path):
    write_small_study(tmp_path / "a", "1.2.1", patient="SMITH")
    write_small_study(tmp_path / "b", "1.2.2", patient="JONES")
    with pytest.raises(InputError, match="images of 2 patients") as caught:
        read_prostate_study(tmp_path)
    assert "SMITH" not in str(caught.value)


def test_a_missing_channel_is_told_and_a_missing_t2w_refused(tmp_path):
    write_small_study(tmp_path / "a", skip=("diff_bval",))
    study = read_prostate_study(tmp_path / "a")
    assert set(study.case.channels) == {"T2W", "ADC"}
    assert "HBV: none found" in study.choices
    write_small_study(tmp_path / "b", skip=("t2_tse_tra",))
    with pytest.raises(InputError, match="has no T2W"):
        read_prostate_study(tmp_path / "b")
    with pytest.raises(InputError, match="neither DICOM images nor"):
        read_prostate_study(Path(__file__).parent.parent / "tools")
    with pytest.raises(InputError, match="does not exist"):
        read_prostate_study(tmp_path / "gone")


def test_copies_of_files_count_once_and_different_files_of_one_name_are_refused(tmp_path):
    import shutil

    write_small_study(tmp_path)
    before = read_prostate_study(tmp_path)
    shutil.copytree(tmp_path / "t2_tse_tra", tmp_path / "copy")
    again = read_prostate_study(tmp_path)
    assert np.array_equal(again.case.channels["T2W"].array, before.case.channels["T2W"].array)
    file = next((tmp_path / "copy").glob("*.dcm"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match="one SOPInstanceUID and different contents"):
        read_prostate_study(tmp_path)


def test_a_localizer_is_no_t2w_and_0191_has_one_though_nothing_is_called_t2_tse_tra(tmp_path):
    write_small_study(tmp_path, skip=("t2_tse_tra",))
    for number, name in enumerate(("t2_localizer", "t2_tse_sag_loc", "t2_tse_tra_Grappa3"), start=20):
        write_series(tmp_path / name, series_array(number) + np.uint16(1), SeriesDescription=name, SeriesNumber=number)
    series = find_series(tmp_path)
    assert chosen_series(series)["T2W"].series.number == 22


def test_a_picai_triple_with_other_things_beside_it(tmp_path):
    write_small_study(tmp_path / "dicom")
    channels = read_prostate_study(tmp_path / "dicom").case.channels
    (tmp_path / "picai").mkdir()
    for name in ("t2w", "adc", "hbv", "cor"):
        source = channels.get(name.upper(), channels["T2W"])
        write_volume(source, tmp_path / "picai" / f"10000_1000000_{name}.mha")
    write_volume(channels["ADC"], tmp_path / "picai" / "10000-Ktrans.mhd")
    study = read_prostate_study(tmp_path / "picai")
    assert set(study.case.channels) == {"T2W", "ADC", "HBV", "KTRANS"}
    write_volume(channels["T2W"], tmp_path / "picai" / "10001_1000001_t2w.mha")
    with pytest.raises(InputError, match=r"holds 2 studies \(10000_1000000, 10001_1000001\)"):
        read_prostate_study(tmp_path / "picai")


@pytest.mark.parametrize(
    ("factor", "unit"), [(1.0, "1e-6 mm²/s"), (1e-3, "1e-3 mm²/s"), (1e-6, "mm²/s"), (1e6, None), (-1.0, None)]
)
def test_the_unit_of_an_adc_map_is_told_by_its_values(tmp_path, factor, unit):
    write_small_study(tmp_path)
    adc = read_prostate_study(tmp_path).case.channels["ADC"]
    scaled = Volume(adc.array * factor, adc.grid, "adc")
    if unit is not None:
        assert adc_unit(scaled) == unit
        return
    with pytest.raises(InputError, match="no diffusion coefficient"):
        adc_unit(scaled)
