"""Ktrans maps as an optional channel of the layouts of ProstateX and PI-CAI, and of a study's folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from dicom_series import COLUMNS, NORMAL, ORIGIN_LPS, ROWS, series_array, write_series
from XTLLib.data.geometry import LPS_TO_RAS, Grid
from XTLLib.data.images import write_volume
from XTLLib.data.layouts import read_layout
from XTLLib.data.load import load_case
from XTLLib.data.patches import PatchSpec, load_patch
from XTLLib.data.prostate_study import read_prostate_study
from XTLLib.data.volume import Volume
from XTLLib.errors import InputError

SHAPE = (5, 30, 40)
CHANNELS = ("T2W", "ADC", "HBV", "KTRANS")
PATIENTS = ("ProstateX-0001", "ProstateX-0002")


def lps_of(i: float, j: float, k: float) -> np.ndarray:
    """A point of the made series, given in voxels of 0.7 x 0.9 x 3 mm."""
    return ORIGIN_LPS + 0.7 * i * ROWS + 0.9 * j * COLUMNS + 3 * k * NORMAL


def write_study(folder: Path) -> None:
    diffusion = ["DERIVED", "PRIMARY", "DIFFUSION"]
    for number, (name, tags) in enumerate(
        {
            "t2_tse_tra": {},
            "diff_ADC": {"ImageType": [*diffusion, "ADC"]},
            "diff_BVAL": {"ImageType": [*diffusion, "TRACEW"], "private_b": b"1400"},
        }.items(),
        start=1,
    ):
        pixels = series_array(number, SHAPE) + np.uint16(1)
        write_series(folder / name, pixels, SeriesDescription=name, SeriesNumber=number, **tags)


def write_ktrans(path: Path, centre_lps: np.ndarray) -> None:
    """A map of 11 voxels of 2 mm along each axis, along the patient's, whose value is 1 + its distance from a point."""
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = centre_lps - 10.0
    grid = Grid((11, 11, 11), LPS_TO_RAS @ affine)
    k, j, i = np.indices(grid.shape)
    points = grid.index_to_ras(np.stack([i, j, k], axis=-1))
    away = np.linalg.norm(points - LPS_TO_RAS[:3, :3] @ centre_lps, axis=-1)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(Volume((1 + away).astype(np.float32), grid, "k"), path)


@pytest.fixture
def prostatex(tmp_path) -> Path:
    """Two patients with images, of whom the second has no map; of the first, one finding lies outside the map."""
    for patient in PATIENTS:
        write_study(tmp_path / "PROSTATEx" / patient / "study")
    write_ktrans(tmp_path / "maps" / PATIENTS[0] / f"{PATIENTS[0]}-Ktrans.mhd", lps_of(20, 15, 2))
    write_ktrans(tmp_path / "maps" / "ProstateX-0009" / "ProstateX-0009-Ktrans.mhd", lps_of(20, 15, 2))
    places = {(PATIENTS[0], 1): (20, 15, 2), (PATIENTS[0], 2): (2, 28, 4), (PATIENTS[1], 1): (20, 15, 2)}
    lines = ["ProxID,fid,pos,zone,ClinSig"]
    for (patient, number), voxel in places.items():
        lines.append(f"{patient},{number},{' '.join(f'{mm:.4f}' for mm in lps_of(*voxel))},PZ,TRUE")
    (tmp_path / "ProstateX-Findings-Train.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_prostatex_findings_that_the_map_shows_have_a_fourth_channel(prostatex):
    assert len(read_layout("prostatex", prostatex).training) == 3
    datalist = read_layout("prostatex", prostatex, ktrans=str(prostatex / "maps"))
    assert datalist.channels == CHANNELS
    assert [entry.case for entry in datalist.training] == ["ProstateX-0001-1"]
    assert "left out: 1 of patients without images, 1 that no study shows" in datalist.description
    ktrans = load_case(datalist.training[0], datalist).channels["KTRANS"]
    index = np.unravel_index(ktrans.array.argmin(), ktrans.array.shape)
    nearest = ktrans.grid.index_to_ras(index[::-1])
    assert np.linalg.norm(nearest - datalist.training[0].finding.position_ras) <= np.sqrt(3)
    spec = PatchSpec(CHANNELS, (1, 5, 5), dict.fromkeys(CHANNELS, (10.0, 10.0, 3.0)))
    patch = load_patch(datalist.training[0], datalist, spec)
    assert patch.shape == (4, 1, 5, 5)
    assert np.unravel_index(patch[3].argmin(), patch[3].shape) == (0, 2, 2)


def test_prostatex_maps_may_lie_beside_the_images(prostatex):
    for file in (prostatex / "maps" / PATIENTS[0]).iterdir():
        file.rename(prostatex / "PROSTATEx" / PATIENTS[0] / file.name)
    datalist = read_layout("prostatex", prostatex, ktrans=str(prostatex / "PROSTATEx"))
    assert Path(datalist.training[0].images["KTRANS"]).parent.name == PATIENTS[0]
    assert [entry.case for entry in datalist.training] == ["ProstateX-0001-1"]
    study = read_prostate_study(prostatex / "PROSTATEx" / PATIENTS[0])
    assert set(study.case.channels) == set(CHANNELS)
    assert f"KTRANS: {PATIENTS[0]}-Ktrans.mhd" in study.choices


def test_a_datalist_with_ktrans_is_the_same_after_saving(prostatex):
    from XTLLib.data.datalist import Datalist

    datalist = read_layout("prostatex", prostatex, ktrans=str(prostatex / "maps"))
    datalist.save(prostatex / "list.json")
    assert Datalist.load(prostatex / "list.json") == datalist


def test_missing_and_double_maps_are_told(prostatex):
    with pytest.raises(InputError, match=r"holds no ProstateX-NNNN-Ktrans\.mhd"):
        read_layout("prostatex", prostatex, ktrans=str(prostatex / "PROSTATEx"))
    write_ktrans(prostatex / "maps" / "copy" / f"{PATIENTS[0]}-Ktrans.mhd", lps_of(20, 15, 2))
    with pytest.raises(InputError, match="holds two Ktrans maps of ProstateX-0001"):
        read_layout("prostatex", prostatex, ktrans=str(prostatex / "maps"))


@pytest.mark.parametrize("task", ["classification", "segmentation", "unlabelled"])
def test_picai_studies_that_came_from_prostatex_can_have_its_maps(tmp_path, task):
    grid = Grid((8, 9, 10), np.diag([2.0, 2.0, 2.0, 1.0]))
    label = np.zeros(grid.shape, np.uint8)
    label[1:4, 1:4, 1:4] = 4
    for case in ("10000_1000000", "10001_1000001"):
        folder = tmp_path / "images" / case.split("_")[0]
        folder.mkdir(parents=True)
        for name in ("t2w", "adc", "hbv"):
            write_volume(Volume(series_array(1, grid.shape), grid, name), folder / f"{case}_{name}.mha")
        labels = tmp_path / "picai_labels/csPCa_lesion_delineations/human_expert/resampled"
        labels.mkdir(parents=True, exist_ok=True)
        write_volume(Volume(label, grid, "label"), labels / f"{case}.nii.gz")
    mapping = {"ProstateX-0001_07-07-2011": "10001_1000001"}
    (tmp_path / "picai_labels" / "additional_resources").mkdir()
    (tmp_path / "picai_labels" / "additional_resources" / "ProstateX-mapping.json").write_text(json.dumps(mapping))
    write_ktrans(tmp_path / "maps" / "ProstateX-0001-Ktrans.mhd", np.zeros(3))
    assert len(read_layout("picai", tmp_path, task=task).training) == 2
    datalist = read_layout("picai", tmp_path, task=task, ktrans=str(tmp_path / "maps"))
    assert datalist.channels == CHANNELS
    assert [entry.case.split("-")[0] for entry in datalist.training] == ["10001_1000001"]
    assert datalist.training[0].images["KTRANS"] == str(tmp_path / "maps" / "ProstateX-0001-Ktrans.mhd")
    assert "1 studies without a Ktrans map left out" in datalist.description
