"""Layouts of mammograms: targets, CBIS-DDSM as it is published and downloaded, DICOM folders without patient data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from films import breast, write_dicom
from XTLLib.data.datalist import Datalist
from XTLLib.data.layouts import read_layout
from XTLLib.data.mammogram_entries import KEPT_SIDE, lesion_mask, load_mammogram
from XTLLib.errors import InputError

# --- targets, on MIAS -------------------------------------------------------------------------

INFO = """
mdb001 G CIRC B 535 425 197
mdb002 F NORM
mdb003 D NORM
mdb004 D CALC M
mdb005 F CIRC M 500 168 26
"""


@pytest.fixture
def mias(tmp_path):
    (tmp_path / "Info.txt").write_text(INFO)
    for number in range(1, 6):
        (tmp_path / f"mdb{number:03d}.pgm").write_bytes(b"P5\n2 2\n255\n1234")
    return tmp_path


def labels_of(datalist: Datalist) -> dict[str, object]:
    return {entry.case: entry.label for entry in datalist.entries}


def test_mias_densities_and_sides(mias):
    density = read_layout("mias", mias, target="density")
    assert density.classes == ("fatty", "glandular", "dense")
    assert list(labels_of(density).values()) == [1, 0, 2, 2, 0]
    sides = read_layout("mias", mias, target="laterality")
    assert sides.classes == ("L", "R")
    assert list(labels_of(sides).values()) == [0, 1, 0, 1, 0]
    assert all(entry.attributes[KEPT_SIDE[0]] == KEPT_SIDE[1] for entry in sides.entries)
    assert not any(KEPT_SIDE[0] in entry.attributes for entry in density.entries)


def test_mias_marks_and_films_without_labels(mias):
    lesions = read_layout("mias", mias, target="lesions")
    assert lesions.task == "mammogram-segmentation"
    assert labels_of(lesions) == {"mdb001": 1, "mdb002": 0, "mdb003": 0, "mdb005": 1}
    assert "1 left out whose label is not known" in lesions.description
    none = read_layout("mias", mias, target="none")
    assert none.task == "unlabelled"
    assert set(labels_of(none).values()) == {None}


def test_films_of_one_class_are_refused(mias):
    (mias / "Info.txt").write_text("mdb001 G NORM\nmdb003 G NORM\n")
    for target, only in (("density", "glandular"), ("laterality", "L")):
        with pytest.raises(InputError, match=f"cannot be told apart by {target}: every one is {only}"):
            read_layout("mias", mias, target=target)


# --- cbis-ddsm --------------------------------------------------------------------------------

MASS = (
    "patient_id,breast_density,left or right breast,image view,abnormality id,abnormality type,mass shape,mass margins,"
    "assessment,pathology,subtlety,image file path,cropped image file path,ROI mask file path"
)
CALC = MASS.replace("breast_density", "breast density").replace("mass shape", "calc type")
OLD = (
    "patient_id,breast_density,side,view,abn_num,abnormality_type,mass_shape,mass_margins,assessment,pathology,"
    "subtlety,od_img_path,od_crop_path,mask_path"
)
FILM = breast(120, 90)


def mask_at(row: int, column: int, shape=FILM.shape) -> np.ndarray:
    mask = np.zeros(shape, np.uint16)
    mask[row - 6 : row + 6, column - 6 : column + 6] = 4095
    return mask


class Cbis:
    """Rows of the tables and the images they name, written in the way of a download."""

    def __init__(self, root: Path, download: str = "tables") -> None:
        self.root, self.download, self.rows = root, download, {}

    def add(self, table, patient, side, view, number, pathology, density="2", images=True, swapped=False, at=(60, 20)):
        kind, part = table
        subject = f"{kind.title()}-{'Training' if part == 'train' else 'Test'}_{patient}_{side}_{view}"
        film = (subject, f"1.1.{subject}", f"1.2.{subject}", "000000.dcm")
        roi = (f"{subject}_{number}", f"1.3.{subject}.{number}", f"1.4.{subject}.{number}")
        crop, mask = ("000001.dcm", "000000.dcm") if swapped else ("000000.dcm", "000001.dcm")
        texts = ["/".join(film), f'"{"/".join((*roi, crop))}\n"', f'"{"/".join((*roi, mask))}\n"']
        row = [patient, density, side, view, str(number), "mass" if kind == "mass" else "calcification", "x", "y", "4"]
        self.rows.setdefault(table, []).append(",".join([*row, pathology, "5", *texts]))
        if images:
            self.write(film, FILM, "1-1.dcm")
            self.write((*roi, "000000.dcm"), FILM[50:70, 10:40], "1-1.dcm")
            self.write((*roi, "000001.dcm"), mask_at(*at), "1-2.dcm")

    def write(self, path, pixels, name) -> None:
        if self.download == "tables":
            place = Path(*path)
        elif self.download == "series":  # classic names of the archive's downloader
            place = Path("manifest-1", "CBIS-DDSM", *path[:-1], name)
        elif self.download == "subjects":  # its descriptive names
            place = Path("CBIS-DDSM", path[0], "07-20-2016-DDSM-NA-1", "1.000000-images-2", name)
        else:
            place = Path("flat", path[2], name)
        write_dicom(self.root / place, pixels, PatientID=path[0])

    def tables(self, folder: Path | None = None) -> Path:
        for (kind, part), rows in self.rows.items():
            header = MASS if kind == "mass" else CALC
            path = (folder or self.root) / f"{kind}_case_description_{part}_set.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join([header, *rows]) + "\n")
        return self.root


MASS_TRAIN, MASS_TEST, CALC_TRAIN = ("mass", "train"), ("mass", "test"), ("calc", "train")


@pytest.fixture(params=["tables", "series", "subjects", "flat"])
def cbis(request, tmp_path):
    made = Cbis(tmp_path, request.param)
    made.add(MASS_TRAIN, "P_00001", "LEFT", "CC", 1, "BENIGN_WITHOUT_CALLBACK")
    made.add(MASS_TRAIN, "P_00001", "LEFT", "CC", 2, "MALIGNANT", at=(90, 12), swapped=True)
    made.add(MASS_TRAIN, "P_00001", "LEFT", "MLO", 1, "BENIGN")
    made.add(CALC_TRAIN, "P_00001", "RIGHT", "CC", 1, "BENIGN", density="0")
    made.add(CALC_TRAIN, "P_00001", "LEFT", "MLO", 1, "MALIGNANT", at=(40, 15))
    made.add(MASS_TEST, "P_00002", "RIGHT", "MLO", 1, "MALIGNANT", density="4")
    made.add(MASS_TEST, "P_00003", "RIGHT", "MLO", 1, "MALIGNANT", images=False)
    return made


def test_cbis_views_pathologies_and_official_parts(cbis):
    datalist = read_layout("cbis-ddsm", cbis.tables())
    assert labels_of(datalist) == {
        "P_00001-L-CC": 1,  # the worse of its two masses
        "P_00001-L-MLO": 1,  # benign as a mass, malignant as a calcification
        "P_00001-R-CC": 0,
        "P_00002-R-MLO": 1,
    }
    assert {entry.patient for entry in datalist.training} == {"P_00001"}
    assert {entry.patient for entry in datalist.test} == {"P_00002"}
    assert "4 views of 2 patients; 1 without an image left out" in datalist.description
    assert datalist.training[0].attributes["abnormalities"] == "2"
    for entry in datalist.entries:
        assert load_mammogram(entry, 64).std() > 0.1


def test_cbis_masks_are_the_images_as_large_as_the_film(cbis):
    datalist = read_layout("cbis-ddsm", cbis.tables(), target="lesions")
    entries = {entry.case: entry for entry in datalist.entries}
    two = lesion_mask(entries["P_00001-L-CC"], 120)
    assert not entries["P_00001-L-CC"].attributes.get("circles_px")
    assert len(entries["P_00001-L-MLO"].further_masks) == 1  # of the calcification, from the other collection
    factor = 120 / np.ptp(np.flatnonzero((load_mammogram(entries["P_00001-L-CC"], 120) != 0).any(axis=1)))
    assert two.sum() == pytest.approx(2 * 12**2 * factor**2, rel=0.5)
    assert lesion_mask(entries["P_00001-R-CC"], 120).sum() == pytest.approx(two.sum() / 2, rel=0.1)
    datalist.save(cbis.root / "list.json")
    assert Datalist.load(cbis.root / "list.json") == datalist


def test_cbis_other_targets(cbis):
    cbis.tables()
    density = read_layout("cbis-ddsm", cbis.root, target="density")
    assert density.classes == ("density 2", "density 4")
    assert labels_of(density) == {"P_00001-L-CC": 0, "P_00001-L-MLO": 0, "P_00002-R-MLO": 1}
    views = read_layout("cbis-ddsm", cbis.root, target="view-laterality")
    assert views.classes == ("L-CC", "L-MLO", "R-CC", "R-MLO")
    assert labels_of(views) == {"P_00001-L-CC": 0, "P_00001-L-MLO": 1, "P_00001-R-CC": 2, "P_00002-R-MLO": 3}
    assert read_layout("cbis-ddsm", cbis.root, target="none").task == "unlabelled"
    with pytest.raises(InputError, match="target of the layout cbis-ddsm is abnormal"):
        read_layout("cbis-ddsm", cbis.root, target="abnormal")


def test_cbis_tables_elsewhere_and_of_2017(tmp_path):
    made = Cbis(tmp_path / "images")
    made.add(MASS_TRAIN, "P_00001", "LEFT", "CC", 1, "BENIGN")
    made.add(MASS_TRAIN, "P_00002", "LEFT", "CC", 1, "MALIGNANT")
    made.tables(tmp_path / "tables")
    path = tmp_path / "tables" / "mass_case_description_train_set.csv"
    expected = read_layout("cbis-ddsm", tmp_path / "images", tables=str(path.parent))
    text = path.read_text().replace(MASS, OLD).replace("/", "\\")
    (tmp_path / "tables" / "OLD2017_mass_case_description_train_set.csv").write_text(text)
    assert read_layout("cbis-ddsm", tmp_path / "images", tables=str(path.parent)) == expected  # not read twice
    path.unlink()
    assert read_layout("cbis-ddsm", tmp_path / "images", tables=str(path.parent)) == expected


def test_cbis_a_patient_in_both_parts_is_named_and_trained_on(tmp_path):
    made = Cbis(tmp_path)
    made.add(CALC_TRAIN, "P_00016", "LEFT", "CC", 1, "BENIGN")
    made.add(MASS_TEST, "P_00016", "RIGHT", "CC", 1, "MALIGNANT")
    made.add(MASS_TEST, "P_00017", "RIGHT", "CC", 1, "MALIGNANT")
    datalist = read_layout("cbis-ddsm", made.tables())
    assert "in both official parts, now in training: P_00016" in datalist.description
    assert [entry.case for entry in datalist.training] == ["P_00016-L-CC", "P_00016-R-CC"]
    assert [entry.case for entry in datalist.test] == ["P_00017-R-CC"]


def test_cbis_what_is_missing_or_wrong_is_told(tmp_path):
    with pytest.raises(InputError, match="holds no table such as"):
        read_layout("cbis-ddsm", tmp_path)
    made = Cbis(tmp_path)
    made.add(MASS_TRAIN, "P_00001", "LEFT", "CC", 1, "BENIGN", images=False)
    made.add(MASS_TRAIN, "P_00001", "LEFT", "CC", 2, "BENIGN", images=False)
    with pytest.raises(InputError, match=r"none of the 1 views that the tables name has an image under .*Archive"):
        read_layout("cbis-ddsm", made.tables())
    table = tmp_path / "mass_case_description_train_set.csv"
    good = table.read_text()
    for before, after, message in (
        ("BENIGN", "UNSURE", "has the pathology 'UNSURE'"),
        ("LEFT,CC", "MIDDLE,CC", "the breast 'MIDDLE'"),
        ("LEFT,CC", "LEFT,ML", "the view 'ML'"),
        ("image view", "picture", "no column 'image view'"),
    ):
        table.write_text(good.replace(before, after))
        with pytest.raises(InputError, match=message):
            read_layout("cbis-ddsm", tmp_path)


def test_cbis_a_truncated_mask_is_named(tmp_path):
    made = Cbis(tmp_path)
    made.add(MASS_TRAIN, "P_00001", "LEFT", "CC", 1, "BENIGN")
    mask = next(tmp_path.rglob("000001.dcm"))
    mask.write_bytes(mask.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"000001\.dcm is truncated"):
        read_layout("cbis-ddsm", made.tables())


@pytest.mark.real
def test_cbis_real_tables(real_data, tmp_path):
    """The published excerpts: 264 abnormalities in 187 views; P_00016 is in both official parts. Images are made."""
    from XTLLib.data.layouts.cbis_ddsm_layout import _abnormalities

    folder = real_data / "mammo" / "cbis_ddsm_csv"
    with pytest.raises(InputError, match="none of the 187 views"):
        read_layout("cbis-ddsm", folder)
    rows = _abnormalities(folder, folder)
    for row in rows:
        if row.patient in ("P_00016", "P_00038", "P_00004"):
            write_dicom(tmp_path / row.film, FILM, Laterality=row.side)
    datalist = read_layout("cbis-ddsm", tmp_path, tables=str(folder))
    assert set(datalist.patients()) == {"P_00016", "P_00038", "P_00004"}
    assert {entry.patient for entry in datalist.test} == {"P_00038"}
    assert "now in training: P_00016" in datalist.description
    old = tmp_path / "old"
    old.mkdir()
    shutil.copy(folder / "OLD2017_mass_case_description_train_set.csv", old)
    (only,) = {entry.patient for entry in read_layout("cbis-ddsm", tmp_path, tables=str(old)).entries}
    assert only == "P_00004"


# --- dicom-mg ---------------------------------------------------------------------------------


@pytest.fixture
def export(tmp_path):
    """Two patients as an archive exports them, with what else it puts beside the mammograms."""
    root = tmp_path / "export"
    number = 0
    for patient in ("ID-SECRET-1", "ID-SECRET-2"):
        for side in "LR":
            for view in ("CC", "MLO"):
                number += 1
                write_dicom(
                    root / f"S{patient[-1]}" / f"IM{number:04d}", breast(side="left" if side == "L" else "right"),
                    PatientID=patient, StudyInstanceUID=f"1.2.{patient[-1]}", SOPInstanceUID=f"1.9.{number}",
                    ImageLaterality=side, ViewPosition=view, PresentationIntentType="FOR PRESENTATION",
                )  # fmt: skip
    raw = {"PatientID": "ID-SECRET-1", "StudyInstanceUID": "1.2.1", "PresentationIntentType": "FOR PROCESSING"}
    write_dicom(root / "S1" / "RAW1", FILM, ImageLaterality="L", ViewPosition="CC", SOPInstanceUID="1.9.90", **raw)
    write_dicom(root / "S1" / "TOMO", FILM, NumberOfFrames=30, SOPInstanceUID="1.9.91")
    write_dicom(root / "S1" / "REPORT", FILM, Modality="SR", PixelData=None, SOPInstanceUID="1.9.92")
    (root / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (root / "notes.txt").write_text("x")
    return root


def test_dicom_films_are_found_and_the_rest_is_counted(export, tmp_path):
    datalist = read_layout("dicom-mg", export)
    assert datalist.task == "unlabelled"
    assert len(datalist.entries) == 8
    assert len(datalist.patients()) == 2
    for words in ("1 multi-frame (tomosynthesis)", "1 of other modalities", "1 FOR PROCESSING, there for presentation"):
        assert words in datalist.description
    datalist.save(tmp_path / "list.json")
    assert Datalist.load(tmp_path / "list.json") == datalist


def test_dicom_views_and_sides_come_from_the_tags(export):
    datalist = read_layout("dicom-mg", export, target="view-laterality")
    assert [entry.label for entry in datalist.entries] == [0, 1, 2, 3] * 2
    assert read_layout("dicom-mg", export, target="view").classes == ("CC", "MLO")
    sides = [load_mammogram(entry, 64) for entry in datalist.entries[1:3]]
    assert np.corrcoef(sides[0].ravel(), sides[1][:, ::-1].ravel())[0, 1] > 0.99  # each on its own side


def test_nothing_of_the_patient_is_in_the_datalist(export, tmp_path):
    read_layout("dicom-mg", export).save(tmp_path / "list.json")
    text = (tmp_path / "list.json").read_text()
    for secret in ("SECRET", "1901", "1.2.1", "1.9."):
        assert secret not in text
    plain = read_layout("dicom-mg", export, patients="plain")
    assert plain.patients() == ("ID-SECRET-1", "ID-SECRET-2")


def test_pseudonyms_are_the_same_again_and_cannot_be_guessed_from_the_identifier(export, tmp_path):
    first = read_layout("dicom-mg", export)
    assert read_layout("dicom-mg", export) == first
    shutil.copytree(export / "S2", tmp_path / "other")
    other = read_layout("dicom-mg", tmp_path / "other")
    assert not set(other.patients()) & set(first.patients())
    salted = [read_layout("dicom-mg", folder, salt="ours") for folder in (export, tmp_path / "other")]
    assert len(set(salted[1].patients()) & set(salted[0].patients())) == 1


def table(folder: Path, text: str) -> str:
    (folder / "labels.csv").write_text(text)
    return str(folder / "labels.csv")


@pytest.mark.parametrize(
    "lines",
    [
        "file,cancer\nIM0001,1\nIM0006,0\n",
        "file,cancer\nexport/S1/IM0001,1\nS2/IM0006,0\n",
        "SOPInstanceUID,cancer\n1.9.1,1\n1.9.6,0\n",
        "patient,laterality,view,cancer\nID-SECRET-1,L,CC,1\nID-SECRET-2,left,mlo,0\n",
    ],
)
def test_a_table_gives_labels_by_file_uid_or_patient_side_and_view(export, tmp_path, lines):
    datalist = read_layout("dicom-mg", export, target="cancer", labels=table(tmp_path, lines))
    assert [entry.label for entry in datalist.entries] == [1, 0]
    assert [Path(entry.images["MG"]).name for entry in datalist.entries] == ["IM0001", "IM0006"]
    assert datalist.classes == ("no cancer", "cancer")
    assert "6 left out whose label is not known" in datalist.description
    assert "SECRET" not in json.dumps([[e.patient, e.case, dict(e.attributes)] for e in datalist.entries])


def test_a_table_of_patients_densities_severities_and_parts(export, tmp_path):
    lines = (
        "patient,density,severity,part\nID-SECRET-1,B,normal,training\nID-SECRET-2,4,malignant,test\nID-SECRET-3,1,,\n"
    )
    path = table(tmp_path, lines)
    density = read_layout("dicom-mg", export, target="density", labels=path)
    assert density.classes == ("density 2", "density 4")
    assert ([e.label for e in density.training], [e.label for e in density.test]) == ([0] * 4, [1] * 4)
    assert "1 lines of the table fit no film" in density.description
    assert len(read_layout("dicom-mg", export, target="abnormal", labels=path).test) == 4
    lesions = read_layout("dicom-mg", export, target="lesions", labels=path)
    assert {entry.label for entry in lesions.entries} == {0}


def test_marks_of_a_table(export, tmp_path):
    write_dicom(tmp_path / "mask.dcm", mask_at(60, 20))
    lines = "file,mask,circles_px\nIM0001,mask.dcm,\nIM0002,,20 60 8\n"
    datalist = read_layout("dicom-mg", export, target="lesions", labels=table(tmp_path, lines))
    assert [type(entry.label) for entry in datalist.entries] == [str, int]
    assert all(lesion_mask(entry, 64).any() for entry in datalist.entries)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("name,cancer\nx,1\n", "no column file, sop_instance_uid or patient"),
        ("file,cancer\nIM0001,2\n", "line 2 has the cancer '2'. Use one of: 0, 1"),
        ("file,cancer\nIM9,1\n", "no line of the table .* fits a film"),
        ("file,cancer\nIM0001,1\nIM0001,0\n", "line 3 speaks of what an earlier line speaks of"),
    ],
)
def test_a_table_that_does_not_fit_is_told(export, tmp_path, lines, message):
    with pytest.raises(InputError, match=message):
        read_layout("dicom-mg", export, target="cancer", labels=table(tmp_path, lines))


def test_a_target_that_no_tag_tells_needs_a_table(export):
    with pytest.raises(InputError, match="target density of the layout dicom-mg needs a table"):
        read_layout("dicom-mg", export, target="density")


def test_films_can_be_read_to_note_what_is_odd(export):
    assert "with a note" not in read_layout("dicom-mg", export).description
    write_dicom(export / "S2" / "ODD", breast(side="right"), ImageLaterality="L", SOPInstanceUID="1.9.99")
    datalist = read_layout("dicom-mg", export, check="pixels")
    assert "1 with a note" in datalist.description
    (note,) = [entry.attributes["note"] for entry in datalist.entries if "note" in entry.attributes]
    assert note == "its tags put the chest wall at the left, the image shows it at the right"


def test_a_file_cut_off_is_named_and_a_folder_without_films_tells_what_is_there(export):
    path = export / "S1" / "IM0001"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"IM0001 is truncated"):
        read_layout("dicom-mg", export)
    for other in (export / "S1").glob("IM*"):
        other.unlink()
    for other in ((export / "S1" / "RAW1"), *(export / "S2").iterdir()):
        other.unlink()
    with pytest.raises(InputError, match=r"no DICOM mammograms \(left out: .*tomosynthesis"):
        read_layout("dicom-mg", export)


def test_films_without_patient_identifiers_stay_together_by_study(export):
    for path in sorted((export / "S2").iterdir()):
        write_dicom(path, FILM, PatientID=None, StudyInstanceUID="1.2.7", SOPInstanceUID=f"1.8.{path.name[-1]}")
    assert len(read_layout("dicom-mg", export).patients()) == 2


@pytest.mark.real
def test_real_dicom_films(real_data):
    folder = real_data / "mammo" / "mg_dicom_wrapped"
    datalist = read_layout("dicom-mg", folder, target="laterality", check="pixels", patients="plain")
    assert [(Path(e.images["MG"]).stem, e.patient, e.label) for e in datalist.entries] == [
        ("mdb023", "MIAS-012", 0), ("mdb024", "MIAS-012", 1), ("mdb033", "MIAS-017", 0), ("mdb034", "MIAS-017", 1),
    ]  # fmt: skip
    assert "4 with a note" in datalist.description  # MIAS films are stored mirrored
