"""Layouts on made folders: what is read, what is refused, and what the message says."""

from __future__ import annotations

import json

import numpy as np
import pytest
from dicom_series import COLUMNS, NORMAL, ORIGIN_LPS, ROWS, series_array, write_series
from XTLLib.data.datalist import Datalist
from XTLLib.data.geometry import Grid
from XTLLib.data.images import write_volume
from XTLLib.data.layouts import LAYOUTS, read_layout
from XTLLib.data.load import load_case
from XTLLib.data.volume import Volume
from XTLLib.errors import InputError

GRID = Grid((6, 7, 8), np.diag([-1.0, -1.0, 3.0, 1.0]))


def write_image(path, array=None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if array is None:
        array = np.random.default_rng(len(path.name)).normal(size=GRID.shape).astype(np.float32)
    write_volume(Volume(array, GRID), path)


def test_an_unknown_layout_option_or_source_is_told(tmp_path):
    with pytest.raises(InputError, match=r"no layout open_ms .*Did you mean open-ms"):
        read_layout("open_ms", tmp_path)
    with pytest.raises(InputError, match=r"no option rater.*raters"):
        read_layout("isbi2015", tmp_path, rater="1")
    with pytest.raises(InputError, match=r"gone.*does not exist"):
        read_layout("mias", tmp_path / "gone")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_empty_folder_is_refused_by_every_layout(tmp_path, layout):
    source = tmp_path / "table.csv" if layout == "csv" else tmp_path
    if layout == "csv":
        source.write_text("")
    with pytest.raises(InputError, match=str(tmp_path)):
        read_layout(layout, source)


# --- mias -------------------------------------------------------------------------------------

INFO = """
INFORMATION ABOUT THE DATABASE
mdb001 G CIRC B 535 425 197
mdb002 G CIRC B 522 280 69
mdb003 D NORM
mdb004 D NORM
mdb005 F CIRC B 477 133 30
mdb005 F CIRC M 500 168 26
mdb059 F CIRC B
mdb216 D CALC M *NOTE 3*
"""


@pytest.fixture
def mias(tmp_path):
    (tmp_path / "Info.txt").write_text(INFO)
    for number in (1, 2, 3, 4, 5, 59, 216):
        (tmp_path / f"mdb{number:03d}.pgm").write_bytes(b"P5\n2 2\n255\n1234")
    return tmp_path


def test_the_original_mias_layout(mias):
    films = {entry.case: entry for entry in read_layout("mias", mias).training}
    assert len(films) == 7  # eight rows, seven films
    assert [films[f"mdb00{n}"].patient for n in (1, 2, 3, 4, 5)] == ["MIAS-001"] * 2 + ["MIAS-002"] * 2 + ["MIAS-003"]
    assert films["mdb216"].patient == "MIAS-108"
    assert films["mdb001"].attributes["circles_px"] == "535 598 197"  # y = 1023 - 425, from the top
    assert films["mdb005"].attributes["circles_px"] == "477 890 30;500 855 26"
    assert films["mdb005"].attributes["severity"] == "malignant"  # the worse of its two rows
    assert "circles_px" not in films["mdb059"].attributes
    assert {case: film.label for case, film in films.items() if film.label == 0} == {"mdb003": 0, "mdb004": 0}


def test_mias_label_1_can_mean_cancer(mias):
    datalist = read_layout("mias", mias, target="cancer")
    assert {entry.case for entry in datalist.training if entry.label} == {"mdb005", "mdb216"}
    with pytest.raises(InputError, match="target of the layout mias is benign"):
        read_layout("mias", mias, target="benign")


def test_mias_films_that_are_gone_are_told(mias):
    (mias / "mdb003.pgm").unlink()
    with pytest.raises(InputError, match=r"lacks 1 files: .*mdb003\.pgm"):
        read_layout("mias", mias)


def test_a_mias_table_with_a_wrong_column_or_label_is_told(tmp_path):
    (tmp_path / "images.csv").write_text("image_id,file,patient,label\nm1,m1.png,P,normal\n")
    with pytest.raises(InputError, match="Rename the column patient to patient_id"):
        read_layout("mias", tmp_path)
    (tmp_path / "images.csv").write_text("image_id,file,patient_id,label\nm1,m1.png,P,good\n")
    with pytest.raises(InputError, match="line 2 has the label 'good'"):
        read_layout("mias", tmp_path)


# --- MS ---------------------------------------------------------------------------------------


def test_open_ms_folders(tmp_path):
    for patient in ("patient03", "patient01"):
        folder = tmp_path / "cross_sectional" / "MNI" / patient
        for name in ("FLAIR_x", "T1_x", "T1KS_x", "T2_x", "GOLD_STANDARD_x"):
            write_image(folder / f"{name}.nii.gz")
    for source in (tmp_path, tmp_path / "cross_sectional", tmp_path / "cross_sectional" / "MNI"):
        datalist = read_layout("open-ms", source)
        assert datalist.patients() == ("patient01", "patient03")
    assert datalist.training[0].images["T1"].endswith("T1_x.nii.gz")
    (folder / "T2_x.nii.gz").rename(folder / "T2.nii.gz")
    assert read_layout("open-ms", tmp_path).training[0].images["T2"].endswith("T2.nii.gz")
    write_image(folder / "T2_y.nii.gz")
    with pytest.raises(InputError, match="has 2 images whose name begins with T2"):
        read_layout("open-ms", tmp_path)


@pytest.fixture
def isbi(tmp_path):
    """Two patients, three scans, two raters; every scan with PD, packed and unpacked files mixed."""
    for patient, time_point in ((1, 1), (1, 2), (2, 1)):
        stem = f"training{patient:02d}_{time_point:02d}"
        root = tmp_path / "training" / f"training{patient:02d}"
        for name, ending in (("flair", ".nii"), ("mprage", ".nii.gz"), ("t2", ".nii"), ("pd", ".nii")):
            write_image(root / "preprocessed" / f"{stem}_{name}_pp{ending}")
        for rater, column in ((1, 2), (2, 4)):
            mask = np.zeros(GRID.shape, np.uint8)
            mask[2:4, 2:4, column : column + 3] = 1
            write_image(root / "masks" / f"{stem}_mask{rater}.nii", mask)
    return tmp_path


def test_isbi_scans_patients_and_channels(isbi):
    datalist = read_layout("isbi2015", isbi)
    assert datalist.channels == ("FLAIR", "T1", "T2", "PD")
    assert [(e.patient, e.case) for e in datalist.training] == [
        ("training01", "training01_01"),
        ("training01", "training01_02"),
        ("training02", "training02_01"),
    ]
    assert "mprage" in datalist.training[0].images["T1"]
    for fold in datalist.folds(2):
        assert len({entry.patient for entry in fold.training} & {entry.patient for entry in fold.test}) == 0


def test_isbi_pd_is_a_channel_only_when_every_scan_has_it(isbi):
    next(isbi.rglob("training02_01_pd_pp.nii")).unlink()
    assert read_layout("isbi2015", isbi).channels == ("FLAIR", "T1", "T2")
    next(isbi.rglob("training02_01_t2_pp.nii")).unlink()
    with pytest.raises(InputError, match="training02_01_t2_pp"):
        read_layout("isbi2015", isbi)


@pytest.mark.parametrize(("raters", "voxels"), [("1", 12), ("2", 12), ("union", 20), ("intersection", 4)])
def test_isbi_raters(isbi, tmp_path, raters, voxels):
    datalist = read_layout("isbi2015", isbi, raters=raters)
    datalist.save(tmp_path / "datalist.json")
    loaded = Datalist.load(tmp_path / "datalist.json")
    assert loaded == datalist
    assert load_case(loaded.training[0], loaded).mask.array.sum() == voxels


def test_isbi_a_missing_rater_is_told(isbi):
    next(isbi.rglob("training01_02_mask2.nii")).unlink()
    read_layout("isbi2015", isbi, raters="1")
    for raters in ("2", "staple"):
        with pytest.raises(InputError, match=r"training01_02_mask2\.nii"):
            read_layout("isbi2015", isbi, raters=raters)


# --- prostate ---------------------------------------------------------------------------------

DIFFUSION = {"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "TRACEW"]}


def at(i: float, j: float, k: float) -> str:
    """The pos text of a point of the made series, given in voxels of 0.7 x 0.9 x 3 mm."""
    return " ".join(f"{mm:.4f}" for mm in ORIGIN_LPS + 0.7 * i * ROWS + 0.9 * j * COLUMNS + 3 * k * NORMAL)


def write_prostate_study(folder, study: str, date: str, skip: str = "", lift_mm: float = 0) -> None:
    shape = (5, 30, 40)
    positions = lift_mm + 3.0 * np.arange(5)
    series = {
        "t2_tse_tra": {},
        "diff_ADC": {"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]},
        "diff_BVAL": {**DIFFUSION, "private_b": b"1400"},
    }
    for number, (name, tags) in enumerate(series.items(), start=1):
        if name != skip:
            write_series(
                folder / name, series_array(number, shape), SeriesDescription=name, SeriesNumber=number,
                StudyInstanceUID=study, StudyDate=date, positions_mm=positions, **tags,
            )  # fmt: skip


@pytest.fixture
def prostatex(tmp_path):
    root = tmp_path / "PROSTATEx"
    write_prostate_study(root / "ProstateX-0001" / "a", "1.2.1", "20120101")
    write_prostate_study(root / "ProstateX-0002" / "early", "1.2.2", "20120101")
    write_prostate_study(root / "ProstateX-0002" / "late", "1.2.3", "20120601", lift_mm=60)
    write_prostate_study(root / "ProstateX-0003" / "a", "1.2.4", "20120101", skip="diff_ADC")
    lines = [
        "ProxID,fid,pos,zone,ClinSig",
        f"ProstateX-0001,1,{at(20, 15, 2)},PZ,TRUE",
        f"ProstateX-0001,1,{at(10, 9, 3)},TZ,FALSE",
        f"ProstateX-0002,1,{at(20, 15, 2)},PZ,FALSE",
        f"ProstateX-0002,2,{at(20, 15, 22)},PZ,FALSE",
        f"ProstateX-0002,3,{at(20, 15, 50)},PZ,FALSE",
        f"ProstateX-0003,1,{at(20, 15, 2)},PZ,TRUE",
        f"ProstateX-0004,1,{at(20, 15, 2)},PZ,TRUE",
    ]
    (tmp_path / "ProstateX-Findings-Train.csv").write_text("\n".join(lines))
    return tmp_path


def test_prostatex_findings_and_the_study_that_shows_them(prostatex):
    datalist = read_layout("prostatex", prostatex)
    places = {entry.case: entry.images["T2W"].split("/")[-3:-1] for entry in datalist.training}
    assert places == {
        "ProstateX-0001-1": ["ProstateX-0001", "a"],
        "ProstateX-0001-1-2": ["ProstateX-0001", "a"],
        "ProstateX-0002-1": ["ProstateX-0002", "early"],
        "ProstateX-0002-2": ["ProstateX-0002", "late"],
    }
    assert [entry.label for entry in datalist.training] == [1, 0, 0, 0]
    assert "left out: 1 of patients without images, 2 that no study shows" in datalist.description
    case = load_case(datalist.training[0], datalist)
    index = case.grid.ras_to_index(np.array(case.findings[0].position_ras))
    assert np.allclose(index, [20, 15, 2], atol=1e-3)


def test_prostatex_without_truth_values_is_a_test_part(prostatex):
    (prostatex / "test.csv").write_text(f"ProxID,fid,pos,zone\nProstateX-0001,1,{at(20, 15, 2)},PZ\n")
    datalist = read_layout("prostatex", prostatex, findings=str(prostatex / "test.csv"))
    assert not datalist.training
    assert [entry.label for entry in datalist.test] == [None]


def test_prostatex_a_missing_table_or_patient_is_told(prostatex):
    with pytest.raises(InputError, match="option findings"):
        read_layout("prostatex", prostatex / "PROSTATEx")
    (prostatex / "none.csv").write_text("ProxID,fid,pos\nProstateX-0099,1,1 2 3\n")
    with pytest.raises(InputError, match="with T2W, ADC and HBV series"):
        read_layout("prostatex", prostatex, findings=str(prostatex / "none.csv"))


def test_prostatex_a_truncated_file_is_named(prostatex):
    path = prostatex / "PROSTATEx" / "ProstateX-0001" / "a" / "diff_ADC" / "1-003.dcm"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match=r"1-003\.dcm"):
        read_layout("prostatex", prostatex)


@pytest.fixture
def picai(tmp_path):
    """Two studies: one with a large lesion of grade 4 and a small one of grade 2, one without."""
    label = np.zeros(GRID.shape, np.uint8)
    label[1:4, 1:4, 1:4] = 4
    label[4, 5, 6] = label[5, 6, 7] = 2  # 26-connected across a corner: one lesion
    for case, lesions in (("10000_1000000", label), ("10001_1000001", np.zeros_like(label))):
        for name in ("t2w", "adc", "hbv"):
            write_image(tmp_path / "images" / case.split("_")[0] / f"{case}_{name}.mha")
        write_image(
            tmp_path / "picai_labels/csPCa_lesion_delineations/human_expert/resampled" / f"{case}.nii.gz", lesions
        )
    mapping = {"ProstateX-0007_07-07-2011": "10001_1000001"}
    (tmp_path / "picai_labels" / "additional_resources").mkdir()
    (tmp_path / "picai_labels" / "additional_resources" / "ProstateX-mapping.json").write_text(json.dumps(mapping))
    return tmp_path


def test_picai_segmentation_has_every_study_also_without_lesion(picai):
    datalist = read_layout("picai", picai / "images")
    masks = {entry.case: int(load_case(entry, datalist).mask.array.sum()) for entry in datalist.training}
    assert masks == {"10000_1000000": 29, "10001_1000001": 0}


def test_picai_lesions_are_26_connected_components_inside_themselves(picai):
    datalist = read_layout("picai", picai, task="classification")
    assert [(e.case, e.label, e.attributes["grade"]) for e in datalist.training] == [
        ("10000_1000000-1", 1, "4"),
        ("10000_1000000-2", 1, "2"),
    ]
    assert datalist.training[0].finding.position_ras == pytest.approx(tuple(GRID.index_to_ras([2, 2, 2])))
    assert "all are significant" in datalist.description


def test_picai_takes_insignificant_findings_from_prostatex(picai):
    table = picai / "findings.csv"
    table.write_text("ProxID,fid,pos,zone,ClinSig\nProstateX-0007,1,1 2 3,PZ,FALSE\nProstateX-0008,1,1 2 3,PZ,FALSE\n")
    datalist = read_layout("picai", picai, task="classification", findings=str(table))
    assert [(e.case, e.label) for e in datalist.training][2:] == [("10001_1000001-1", 0)]
    assert datalist.training[2].finding.position_ras == (-1, -2, 3)
    assert "all are significant" not in datalist.description
    with pytest.raises(InputError, match="goes with task=classification"):
        read_layout("picai", picai, findings=str(table))


def test_picai_missing_labels_are_counted_and_missing_channels_told(picai):
    next(picai.rglob("10001_1000001.nii.gz")).unlink()
    assert "1 studies without a human label left out" in read_layout("picai", picai).description
    with pytest.raises(InputError, match="picai_labels"):
        read_layout("picai", picai, labels=str(picai / "images"))
    next(picai.rglob("10000_1000000_adc.mha")).unlink()
    with pytest.raises(InputError, match=r"10000_1000000_adc\.mha"):
        read_layout("picai", picai)


# --- csv --------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path):
    for name in ("a", "b", "mask"):
        write_image(tmp_path / "images" / f"{name}.nii.gz")

    def write(text: str):
        path = tmp_path / "cases.csv"
        path.write_text(text, encoding="utf-8-sig")
        return path

    return write


def test_csv_of_masks(table):
    path = table(
        "patient;FLAIR;T1;label;site;part\n"
        "P1;images/a.nii.gz;images/b.nii.gz;images/mask.nii.gz;Oslo;\n"
        "P1;images/b.nii.gz;images/a.nii.gz;images/mask.nii.gz;Oslo;training\n"
        "P2;images/b.nii.gz;images/a.nii.gz;;;\n"
    )
    datalist = read_layout("csv", path)
    assert (datalist.task, datalist.channels, datalist.reference) == ("segmentation", ("FLAIR", "T1"), "FLAIR")
    assert [entry.case for entry in datalist.entries] == ["P1", "P1-2", "P2"]
    assert datalist.training[0].attributes == {"site": "Oslo"}
    assert [entry.patient for entry in datalist.test] == ["P2"]  # no label: a test case
    assert load_case(datalist.training[0], datalist).grid.matches(GRID)


def test_csv_of_findings(table):
    path = table(
        "patient,case,T2W,ADC,label,finding,r,a,s,zone\n"
        "P1,P1-x,images/a.nii.gz,images/b.nii.gz,1,2,-3.5,-2,6,PZ\n"
        "P2,P2-x,images/a.nii.gz,images/b.nii.gz,0,,-3,-2,6,\n"
    )
    datalist = read_layout("csv", path, reference="ADC", name="ours")
    assert (datalist.task, datalist.reference, datalist.name) == ("classification", "ADC", "ours")
    first = datalist.training[0].finding
    assert (first.identifier, first.position_ras, first.zone, first.significant) == ("2", (-3.5, -2, 6), "PZ", True)


def test_csv_of_mammograms(table, tmp_path):
    (tmp_path / "m.png").write_bytes(b"x")
    datalist = read_layout("csv", table("patient,MG,label\nP1,m.png,1\nP2,m.png,0\n"))
    assert (datalist.task, datalist.channels) == ("mammogram-classification", ("MG",))


def test_csv_with_channels_of_its_own_names(table):
    text = "patient,scan,other,label\nP1,images/a.nii.gz,images/b.nii.gz,images/mask.nii.gz\n"
    assert read_layout("csv", table(text), channels="scan,other").channels == ("scan", "other")
    with pytest.raises(InputError, match=r"no image column scans .*Did you mean scan"):
        read_layout("csv", table(text), channels="scans")


IMAGES = "images/a.nii.gz"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"FLAIR,label\n{IMAGES},{IMAGES}\n", "no column patient"),
        (f"Patient,FLAIR,label\nP,{IMAGES},{IMAGES}\n", "Rename the column Patient to patient"),
        ("patient,label\nP,0\n", "no image column"),
        (f"patient,FLAR,T1,label\nP,{IMAGES},{IMAGES},{IMAGES}\n", "images in the column FLAR.*Rename it to FLAIR"),
        ("patient,FLAIR,label\n", "no lines"),
        (f"patient,FLAIR,label\nP,{IMAGES},\n", "no label in any line"),
        (f"patient,FLAIR,label\n,{IMAGES},{IMAGES}\n", "line 2 has nothing in patient"),
        (f"patient,FLAIR,T1,label\nP,{IMAGES},,{IMAGES}\n", "line 2 has nothing in T1"),
        (f"patient,FLAIR,label\nP,gone.nii,{IMAGES}\n", r"lacks 1 files: .*gone\.nii"),
        (f"patient,FLAIR,label\nP,{IMAGES},1\n", "no column r, a, s"),
        (f"patient,T2W,label,r,a,s\nP,{IMAGES},1,1,,3\n", "line 2 has no three numbers in r, a, s"),
        (f"patient,FLAIR,label\nP,{IMAGES},1\nQ,{IMAGES},{IMAGES}\n", "line 3 has the label"),
        (f"patient,case,FLAIR,label\nP,x,{IMAGES},{IMAGES}\nP,x,{IMAGES},{IMAGES}\n", "case x twice"),
        (f"patient,FLAIR,label,part\nP,{IMAGES},{IMAGES},train\n", "part 'train'"),
        (f"patient,FLAIR,label,part\nP,{IMAGES},{IMAGES},test\nP,{IMAGES},{IMAGES},\n", "patient P in two parts"),
    ],
)
def test_csv_mistakes_are_told(table, text, message):
    with pytest.raises(InputError, match=message):
        read_layout("csv", table(text))


# --- the real images --------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize(
    ("layout", "folder", "entries", "patients", "positive"),
    [
        ("mias", "mammo/mias_512", 264, 132, 94),
        ("open-ms", "ms/open_ms_data", 2, 2, None),
        ("isbi2015", "ms/isbi_layout_cropped", 2, 2, None),
        ("prostatex", "prostate", 2, 2, 1),
        ("prostatex-patches", "prostate/prostatex_patches", 264, 162, 59),
        ("picai", "prostate/picai", 2, 2, None),
    ],
)
def test_every_layout_reads_the_real_images(real_data, tmp_path, layout, folder, entries, patients, positive):
    datalist = read_layout(layout, real_data / folder)
    assert (len(datalist.entries), len(datalist.patients())) == (entries, patients)
    if positive is not None:
        assert sum(entry.label for entry in datalist.entries) == positive
    datalist.save(tmp_path / "datalist.json")
    assert Datalist.load(tmp_path / "datalist.json") == datalist
    for fold in datalist.folds(2):
        assert not {entry.patient for entry in fold.training} & {entry.patient for entry in fold.test}


@pytest.mark.real
def test_mias_counts(real_data):
    datalist = read_layout("mias", real_data / "mammo" / "mias_512", target="cancer")
    assert sum(entry.label for entry in datalist.entries) == 42
    circles = [e.attributes["circles_px"].split(";") for e in datalist.entries if "circles_px" in e.attributes]
    assert sum(map(len, circles)) == 102 - 3  # three of the 102 abnormalities have no place


@pytest.mark.real
def test_the_real_masks_lie_on_the_images_and_have_the_known_sizes(real_data):
    volumes = {}
    for layout, folder in (
        ("open-ms", "ms/open_ms_data"),
        ("isbi2015", "ms/isbi_layout_cropped"),
        ("picai", "prostate/picai"),
    ):
        datalist = read_layout(layout, real_data / folder)
        for entry in datalist.entries:
            case = load_case(entry, datalist)
            assert case.mask.grid.matches(case.grid)
            volumes[entry.case] = int(case.mask.array.sum())
    assert volumes["patient07"] == volumes["training01_01"] == 1300
    assert volumes["patient19"] == volumes["training02_01"]
    assert volumes["11373_1001396"] == 414
    assert volumes["10795_1000811"] == 0


@pytest.mark.real
def test_a_finding_of_prostatex_lies_at_the_picai_lesion(real_data):
    """Two independent annotations of one lesion: 1.5 mm from its border, 2.7 mm from its centroid."""
    prostatex = read_layout("prostatex", real_data / "prostate")
    point = np.array(prostatex.training[0].finding.position_ras)
    picai = read_layout("picai", real_data / "prostate" / "picai")
    mask = load_case(picai.training[1], picai).mask
    voxels = mask.grid.index_to_ras(np.argwhere(mask.array)[:, ::-1])
    assert np.linalg.norm(voxels - point, axis=1).min() == pytest.approx(1.5, abs=0.1)
    assert np.linalg.norm(voxels.mean(axis=0) - point) == pytest.approx(2.7, abs=0.1)
    lesion = read_layout("picai", real_data / "prostate" / "picai", task="classification").training[0]
    assert np.linalg.norm(np.array(lesion.finding.position_ras) - point) < 3
    assert lesion.attributes["grade"] == "3"


# --- images without labels --------------------------------------------------------------------


def test_ms_scans_without_masks(isbi, tmp_path):
    for mask in isbi.rglob("*_mask*"):
        mask.unlink()
    datalist = read_layout("isbi2015", isbi, task="unlabelled")
    assert (datalist.task, len(datalist.entries)) == ("unlabelled", 3)
    assert {entry.label for entry in datalist.entries} == {None}
    case = load_case(datalist.training[0], datalist)
    assert case.mask is None
    assert case.channels["PD"].array.shape == GRID.shape
    for name in ("FLAIR_x", "T1_x", "T2_x"):
        write_image(tmp_path / "open" / "patient01" / f"{name}.nii.gz")
    assert read_layout("open-ms", tmp_path / "open", task="unlabelled").task == "unlabelled"
    with pytest.raises(InputError, match="GOLD_STANDARD"):
        read_layout("open-ms", tmp_path / "open")
    with pytest.raises(InputError, match="task of the layout open-ms is none"):
        read_layout("open-ms", tmp_path / "open", task="none")


def test_picai_studies_without_labels(picai):
    import shutil

    shutil.rmtree(picai / "picai_labels")
    datalist = read_layout("picai", picai / "images", task="unlabelled")
    assert datalist.task == "unlabelled"
    assert [entry.case for entry in datalist.training] == ["10000_1000000", "10001_1000001"]
    assert "label" not in datalist.description


def test_a_table_without_labels(table):
    path = table("patient,FLAIR,part\nA,images/a.nii.gz,\nB,images/b.nii.gz,validation\n")
    datalist = read_layout("csv", path, task="unlabelled")
    assert ([e.patient for e in datalist.training], [e.patient for e in datalist.validation]) == (["A"], ["B"])
    labelled = table("patient,FLAIR,label\nA,images/a.nii.gz,images/mask.nii.gz\nB,images/b.nii.gz,\n")
    again = read_layout("csv", labelled, task="unlabelled")
    assert [entry.label for entry in again.training] == [None, None]
    with pytest.raises(InputError, match="task=unlabelled"):
        read_layout("csv", table("patient,FLAIR,label\nA,images/a.nii.gz,\n"))


def test_a_table_of_films_in_more_than_two_classes(table):
    path = table("patient,MG,label\nA,images/a.nii.gz,0\nB,images/b.nii.gz,2\n")
    datalist = read_layout("csv", path, classes="fatty, glandular, dense")
    assert (datalist.task, datalist.classes) == ("mammogram-classification", ("fatty", "glandular", "dense"))
    with pytest.raises(InputError, match=r"line 3 has the label '2' among labels of 0 and 1.*option classes"):
        read_layout("csv", path)
    masks = table("patient,MG,label\nA,images/a.nii.gz,images/mask.nii.gz\n")
    assert read_layout("csv", masks).task == "mammogram-segmentation"
    with pytest.raises(InputError, match="table is for mammogram-segmentation"):
        read_layout("csv", masks, classes="a,b")
