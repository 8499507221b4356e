"""The study files of Resources/Studies: they load, fit data of the public layouts, and are the grids they say."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from XTLLib.data.datalist import Datalist, Entry
from XTLLib.data.layouts import isbi2015_layout, mias_layout, open_ms_layout, prostatex_patches_layout
from XTLLib.study.check import require_runnable
from XTLLib.study.config import Study, load_study
from XTLLib.study.plan import plan_study
from XTLLib.study.power import design_power

STUDIES = Path(__file__).resolve().parents[2] / "Resources" / "Studies"
PRESETS = ("lee2020-ms", "lee2020-prostate", "zoetmulder2022", "romero2020")
CLASSES = {"0": "no", "1": "yes"}


def _file(folder: Path, name: str) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(name)  # of every image its own content
    return str(path)


def write_isbi(folder: Path) -> Datalist:
    """The challenge's own folders and file names, five patients with four scans or five."""
    for patient, scans in enumerate((4, 4, 5, 4, 4), 1):
        for scan in range(1, scans + 1):
            name = f"training{patient:02d}"
            for channel in ("mprage", "flair", "t2", "pd"):
                _file(folder, f"{name}/preprocessed/{name}_{scan:02d}_{channel}_pp.nii")
            for rater in (1, 2):
                _file(folder, f"{name}/masks/{name}_{scan:02d}_mask{rater}.nii")
    return isbi2015_layout.read(folder)


def findings(folder: Path, patients: int) -> Datalist:
    entries = [
        Entry(
            f"P{n:03d}", f"P{n:03d}-{f}",
            {c: _file(folder, f"{n}_{c}") for c in ("T2W", "ADC", "HBV")}, int((n + f) % 4 == 0),
        )
        for n in range(patients) for f in range(1 + n % 2)
    ]  # fmt: skip
    return Datalist("ProstateX", "prostatex", "classification", ("T2W", "ADC", "HBV"), "T2W", CLASSES, training=entries)


def films(folder: Path, task: str) -> Datalist:
    entries = [
        Entry(f"M{n}", f"M{n}", {"MG": _file(folder, f"{task}{n}")}, n % 2,
              attributes={"circles_px": "9 9 5"} if n % 2 else {})
        for n in range(12)
    ]  # fmt: skip
    return Datalist("films", "mias", task, ("MG",), "MG", CLASSES, training=entries)


def brains(folder: Path) -> Datalist:
    channels = ("FLAIR", "T1", "T2")
    entries = [
        Entry(f"B{n}", f"B{n}", {c: _file(folder, f"{n}_{c}") for c in channels}, _file(folder, f"{n}_mask"))
        for n in range(4)
    ]
    return Datalist("open MS", "open-ms", "segmentation", channels, "FLAIR", CLASSES, training=entries)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Copies of the studies with the datalists that they name beside them."""
    folder = tmp_path_factory.mktemp("studies")
    for path in STUDIES.glob("*.yaml"):
        shutil.copy(path, folder)
    write_isbi(folder / "isbi").save(folder / "isbi2015.json")
    findings(folder / "prostate", 180).save(folder / "prostatex.json")
    films(folder / "films", "mammogram-classification").save(folder / "mias.json")
    films(folder / "films", "mammogram-classification").save(folder / "mammograms.json")
    films(folder / "films", "mammogram-segmentation").save(folder / "mias_lesions.json")
    brains(folder / "brains").save(folder / "open_ms.json")
    return folder


def read(folder: Path, name: str, monkeypatch) -> tuple[Study, Datalist]:
    monkeypatch.setenv("XTL_DATA", str(folder))
    study = load_study(folder / f"{name}.yaml")
    return study, Datalist.load(study.datalist)


def test_every_study_file_is_tested():
    assert {path.stem for path in STUDIES.glob("*.yaml")} == {*PRESETS, "prostate-patches", "ms-open"}


@pytest.mark.parametrize("name", [*PRESETS, "prostate-patches"])
def test_a_study_fits_data_of_the_public_layouts(folder, name, monkeypatch):
    study, datalist = read(folder, name, monkeypatch)
    require_runnable(study, datalist)
    assert study.name == name and study.question and study.comparisons


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_at_its_top_what_the_paper_does_not_tell_and_what_we_chose(name):
    top = [line for line in (STUDIES / f"{name}.yaml").read_text().split("\nname:")[0].splitlines() if line]
    text = " ".join(line.lstrip("# ") for line in top)
    assert all(line.startswith("#") for line in top)
    assert "does not tell" in text and "What we chose" in text and "xtl data" in text


@pytest.mark.parametrize("name", ["lee2020-ms", "lee2020-prostate"])
def test_lee_2020_compares_tl_with_xtl_on_two_backbones(folder, name, monkeypatch):
    study, _ = read(folder, name, monkeypatch)
    chains = {arm.name: arm.load() for arm in study.arms}
    for first, second in study.comparisons:
        assert chains[first].without_intermediate().stages == chains[second].stages
        assert chains[first].intermediates[0].task == "mammogram-classification"
        assert chains[first].backbone == chains[second].backbone
    assert len({chain.backbone for chain in chains.values()}) == len(study.comparisons) == 2


def test_lee_2020_ms_says_that_five_patients_cannot_decide(folder, monkeypatch):
    power = design_power(*read(folder, "lee2020-ms", monkeypatch))
    assert not power.can_decide and "p = 0.0625" in power.text


def test_zoetmulder_2022_is_a_grid_of_source_task_and_domain(folder, monkeypatch):
    study, _ = read(folder, "zoetmulder2022", monkeypatch)
    tasks = ("classification", "segmentation", "self-supervised")
    grid = {f"{domain}-{task}" for domain in ("natural", "mammogram", "MR") for task in tasks}
    assert {arm.name for arm in study.arms} == grid | {"scratch"}
    for arm in study.arms:
        chain = arm.load()
        assert chain.backbone == "resnet50"
        if not arm.name.startswith(("natural", "scratch")):
            assert chain.intermediates[0].task.endswith(arm.name.partition("-")[2])


def test_romero_2020_is_a_grid_of_source_policy_and_size(folder, monkeypatch):
    study, _ = read(folder, "romero2020", monkeypatch)
    chains = {arm.name: arm.load() for arm in study.arms}
    assert set(chains) == {f"{s}-{p}" for s in ("mammograms", "imagenet", "random") for p in ("romero", "regular")}
    for name, chain in chains.items():
        training = chain.target.training
        assert training.preset == {"romero": "romero2020", "regular": "regular"}[name.partition("-")[2]]
        assert training.schedule == {"romero2020": "one-cycle", "regular": "plateau"}[training.preset]
        assert (training.epochs, training.batch_size, training.validation) == (30, 16, 0.125)
    assert study.baselines == ("radiomics-lr",) and study.sizes == (50, 100, 200, "all")


def test_the_study_of_prostate_patches_has_every_control(folder, monkeypatch):
    study, _ = read(folder, "prostate-patches", monkeypatch)
    chains = {arm.name: arm.load() for arm in study.arms}
    starts = {name: Path(chain.initialisation.weights).name for name, chain in chains.items()}
    learned = "mobilenet_v2_imagenet_fp16.pth"
    assert starts == {"XTL": learned, "TL": learned, "scratch": "random", "frozen-random": "frozen-random"}
    assert [name for name, chain in chains.items() if chain.intermediates] == ["XTL"]
    assert study.baselines == ("radiomics-lr", "svm", "adc-contrast")
    assert (study.folds, len(study.seeds), study.training_sizes) == (5, 3, (50, 100, None))


@pytest.mark.real
def test_the_two_real_studies_fit_the_real_data(real_data, tmp_path, monkeypatch):
    monkeypatch.setenv("XTL_DATA", str(real_data))
    mias_layout.read(real_data / "mammo" / "mias_512").save(tmp_path / "mias.json")
    open_ms_layout.read(real_data / "ms" / "open_ms_data").save(tmp_path / "open_ms.json")
    prostatex_patches_layout.read(real_data / "prostate" / "prostatex_patches").save(tmp_path / "prostatex.json")
    texts = {}
    for name in ("prostate-patches", "ms-open"):
        shutil.copy(STUDIES / f"{name}.yaml", tmp_path)
        texts[name] = plan_study(load_study(tmp_path / f"{name}.yaml"), timed=False).text
    assert "264 findings (59 positive) of 162 patients" in texts["prostate-patches"]
    assert "285 runs: 180 trainings of the target, 105 of baselines" in texts["prostate-patches"]
    assert "it is a demonstration. 2 patients: an exact paired test cannot fall below p = 0.5" in texts["ms-open"]
