"""A cohort of findings: a folder a study, tables, submission, resume, failures that stop nothing, and accuracy."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from XTLLib.bundle.load import load_bundle
from XTLLib.data.case import Finding
from XTLLib.data.datalist import Datalist, Entry
from XTLLib.data.images import write_volume
from XTLLib.data.load import load_case
from XTLLib.errors import Cancelled, InputError
from XTLLib.files import atomic_folder
from XTLLib.inference import accuracy
from XTLLib.inference.accuracy import accuracy_of
from XTLLib.inference.accuracy_report import write_accuracy_report
from XTLLib.inference.classify import classify_case
from XTLLib.inference.classify_batch import classify_cases
from XTLLib.progress import Progress
from XTLLib.scene.self_test import PROSTATE_CHANNELS, small_prostate, write_classification_bundle

LABELS = {"0": "not significant", "1": "clinically significant"}


def write_count(result, folder: Path) -> None:
    with atomic_folder(folder) as draft:
        (draft / "count.txt").write_text(str(len(result.findings)))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return load_bundle(write_classification_bundle(tmp_path_factory.mktemp("model") / "bundle"))


@pytest.fixture
def cohort(tmp_path) -> Datalist:
    """Patients a (two findings of one study, apart in the list), b/1, broken (an ADC that is none), a (a later one)."""
    images = {}
    for study in ("a", "b", "broken", "later"):
        folder = tmp_path / "images" / study
        folder.mkdir(parents=True)
        images[study] = {name: str(folder / f"{name}.nii") for name in PROSTATE_CHANNELS}
        for name, volume in small_prostate().channels.items():
            write_volume(volume, images[study][name])
    Path(images["broken"]["ADC"]).write_text("no image")
    first, second = (finding.position_ras for finding in small_prostate().findings)
    entries = [
        Entry("a", "a-1", images["a"], 1, Finding("1", first, "PZ", True)),
        Entry("b/1", "b-1", images["b"], 0, Finding("1", second, "TZ", False)),
        Entry("broken", "broken-1", images["broken"], 0, Finding("1", first)),
        Entry("a", "a-2", images["a"], 0, Finding("2", second, "", False)),
        Entry("a", "a-3", images["later"], None, Finding("1", second)),
    ]
    return Datalist("cohort", "csv", "classification", PROSTATE_CHANNELS, "T2W", LABELS, test=entries)


def run(cohort: Datalist, bundle, out: Path, write=write_count, **options):
    return classify_cases(cohort, bundle, out, write, device="cpu", **options)


def read_csv(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter=delimiter))


def test_findings_on_the_same_images_are_one_study_and_a_broken_one_stops_nothing(cohort, bundle, tmp_path):
    events = []
    result = run(cohort, bundle, tmp_path / "out", progress=Progress(events.append))
    assert [row.case for row in result.rows] == ["a", "b/1", "broken", "a-2"]
    assert [row.patient for row in result.rows] == ["a", "b/1", "broken", "a"]
    assert [row.findings for row in result.rows] == [2, 1, None, 1]
    (failed,) = result.failed
    assert failed.case == "broken"
    assert "ADC.nii" in failed.error
    counts = {path.parent.name: path.read_text() for path in (tmp_path / "out").rglob("count.txt")}
    assert counts == {"a": "2", "b_1": "1", "a-2": "1"}
    assert any(event.stage.startswith("Case broken (3 of 4): ") for event in events)
    summary = read_csv(tmp_path / "out" / "summary.tsv", "\t")
    assert [row["findings"] for row in summary] == ["2", "1", "", "1"]


def test_every_table_has_the_ratings_of_each_study_in_the_order_of_the_datalist(cohort, bundle, tmp_path):
    result = run(cohort, bundle, tmp_path / "out")
    entries = {entry.case: entry for entry in cohort.entries if entry.patient != "broken"}
    alone = {}
    for name, entry in entries.items():
        (rated,) = classify_case(load_case(entry, cohort), bundle, device="cpu").findings
        alone[name] = rated.probability
    assert [row["entry"] for row in result.findings] == list(entries)
    assert [row["probability"] for row in result.findings] == pytest.approx(list(alone.values()), abs=1e-6)
    rows = read_csv(tmp_path / "out" / "findings.tsv", "\t")
    assert [row["truth"] for row in rows] == ["1", "0", "0", ""]
    assert [row["zone"] for row in rows] == ["PZ", "TZ", "", ""]
    assert [float(row["R_mm"]) for row in rows] == pytest.approx([8, -7, -7, -7])
    lines = (tmp_path / "out" / "submission.csv").read_text().splitlines()
    assert lines[0] == "proxid,clinsig"
    assert [line.split(",")[0] for line in lines[1:]] == ["a", "b/1", "a", "a"]
    submitted = [float(line.split(",")[1]) for line in lines[1:]]
    assert submitted == pytest.approx([row["probability"] for row in result.findings], abs=1e-6)


def test_resume_does_again_what_failed_or_changed_and_keeps_the_ratings_of_the_others(cohort, bundle, tmp_path):
    out, done = tmp_path / "out", []

    def write(result, folder):
        done.append(folder.name)
        write_count(result, folder)

    before = run(cohort, bundle, out, write)
    assert done == ["a", "b_1", "a-2"]
    with pytest.raises(InputError, match="not empty"):
        run(cohort, bundle, out, write)
    done.clear()
    write_volume(small_prostate().channels["ADC"], cohort.entries[2].images["ADC"])
    moved = replace(cohort.entries[4], finding=Finding("1", (-6.0, 9.0, -4.0)))
    changed = replace(cohort, test=(*cohort.entries[:4], moved))
    after = run(changed, bundle, out, write, resume=True)
    assert done == ["broken", "a-2"]
    assert not after.failed
    assert [row["entry"] for row in after.findings] == ["a-1", "b-1", "broken-1", "a-2", "a-3"]
    assert after.findings[0] == before.findings[0]
    assert after.findings[-1]["R"] == -6.0
    done.clear()
    assert run(changed, bundle, out, write, resume=True).findings == after.findings
    assert done == []
    (out / "findings.json").write_text("{")
    assert run(changed, bundle, out, write, resume=True).findings == after.findings
    assert done == ["a", "b_1", "broken", "a-2"]
    with pytest.raises(InputError, match="another bundle or with other options"):
        run(changed, [bundle, bundle], out, write, resume=True)


def test_a_cancel_keeps_what_is_finished(cohort, bundle, tmp_path):
    stages = []
    progress = Progress(lambda event: stages.append(event.stage), lambda: any("Case b/1" in stage for stage in stages))
    with pytest.raises(Cancelled):
        run(cohort, bundle, tmp_path / "out", progress=progress)
    rows = read_csv(tmp_path / "out" / "findings.tsv", "\t")
    assert [row["entry"] for row in rows] == ["a-1", "a-2"]


def test_what_is_no_list_of_findings_in_volumes_is_refused(cohort, bundle, tmp_path):
    without = replace(cohort, test=(*cohort.entries[:1], replace(cohort.entries[1], finding=None)))
    with pytest.raises(InputError, match=r"b-1 .* has no finding"):
        run(without, bundle, tmp_path / "out")
    stored = replace(cohort, test=(replace(cohort.entries[0], row=3),))
    with pytest.raises(InputError, match="a stored patch instead of volumes"):
        run(stored, bundle, tmp_path / "out")
    lacking = replace(cohort, channels=("T2W", "ADC"))
    with pytest.raises(InputError, match="has no channel HBV"):
        run(lacking, bundle, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_cohort_whose_truth_is_known_gets_its_accuracy(cohort, bundle, tmp_path, monkeypatch):
    assert run(cohort, bundle, tmp_path / "few").accuracy is None
    monkeypatch.setattr(accuracy, "FEWEST", 1)
    result = run(cohort, bundle, tmp_path / "out")
    assert result.accuracy is not None
    assert (result.accuracy.auc.positives, result.accuracy.auc.negatives, result.accuracy.auc.patients) == (1, 2, 2)
    assert (tmp_path / "out" / "report.png").read_bytes().startswith(b"\x89PNG")
    written = json.loads((tmp_path / "out" / "findings.json").read_text())["accuracy"]
    assert written["auc"]["auc"] == result.accuracy.auc.auc
    unknown = replace(cohort, test=tuple(replace(entry, label=None) for entry in cohort.entries))
    assert run(unknown, bundle, tmp_path / "other").accuracy is None
    assert not (tmp_path / "other" / "report.png").exists()


def ratings(count: int, seed: int = 0) -> list[dict]:
    """Rows of two findings a patient; well calibrated, and called significant from 0.4 on."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        probability = float(rng.uniform())
        called = "significant" if probability >= 0.4 else "not significant"
        truth = int(rng.uniform() < probability)
        row = {"patient": str(number // 2), "probability": probability, "threshold": 0.4, "class": called}
        rows.append({**row, "truth": truth})
    return rows


def test_accuracy_is_that_of_scikit_learn():
    from sklearn.metrics import brier_score_loss, precision_score, recall_score, roc_auc_score

    rows = [*ratings(200), {"patient": "0", "probability": 0.9, "class": "significant", "truth": None}]
    found = accuracy_of(rows)
    truth, probability = ([row[name] for row in rows[:-1]] for name in ("truth", "probability"))
    called = [int(row["class"] == "significant") for row in rows[:-1]]
    assert found.auc.auc == pytest.approx(roc_auc_score(truth, probability), abs=1e-12)
    assert found.auc.low < found.auc.auc < found.auc.high
    assert found.brier.mean == pytest.approx(brier_score_loss(truth, probability), abs=1e-12)
    assert found.brier.low < found.brier.mean < found.brier.high
    assert found.own.threshold == 0.4
    assert found.own.sensitivity == pytest.approx(recall_score(truth, called))
    assert found.own.specificity == pytest.approx(recall_score(truth, called, pos_label=0))
    assert found.own.ppv == pytest.approx(precision_score(truth, called))
    low, high = found.own.sensitivity_interval
    assert low < found.own.sensitivity < high
    assert found.expected_error < 0.12  # a well calibrated cohort of 200, in five bins


def test_no_accuracy_where_it_means_nothing(tmp_path):
    assert accuracy_of([]) is None
    assert accuracy_of([{**row, "truth": 1} for row in ratings(50)]) is None
    assert accuracy_of([{**row, "patient": "one"} for row in ratings(50)]) is None
    assert accuracy_of(ratings(8)) is None
    unclassed = accuracy_of([{**row, "class": ""} for row in ratings(50)])
    assert unclassed.own is None
    never = accuracy_of([{**row, "threshold": 2.0, "class": "not significant"} for row in ratings(50)])
    assert never.own.sensitivity == 0 and never.to_dict()["own"]["ppv"] is None
    json.dumps(never.to_dict(), allow_nan=False)
    path = write_accuracy_report(unclassed, [{**row, "class": ""} for row in ratings(50)], tmp_path / "r.png", "m")
    assert path.stat().st_size > 10_000
