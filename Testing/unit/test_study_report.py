"""The report of a study: its figures are those of the metrics, its words follow from intervals, its page is whole."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score
from study_scores import CHAIN, classification, segmentation, study_of
from test_report_page import Page
from XTLLib.data.volume import Volume
from XTLLib.metrics.calibration import brier
from XTLLib.metrics.delong import delong_difference
from XTLLib.metrics.multiplicity import holm
from XTLLib.metrics.paired import paired_difference, unit_interval, wilcoxon
from XTLLib.metrics.resampled import corrected_resampled_t
from XTLLib.metrics.roc import auc_interval, weighted_auc
from XTLLib.metrics.score_difference import score_difference
from XTLLib.study.analysis import analyse
from XTLLib.study.comparisons import Comparison, verdict_of
from XTLLib.study.measures import MEASURES
from XTLLib.study.report import write_study_report
from XTLLib.study.report_examples import example_file, overlay, write_example
from XTLLib.study.report_words import conclusion
from XTLLib.study.result import StudyResult
from XTLLib.study.scores import Score

SEVERAL = {"seeds": (0, 1, 2), "draws": 400}


def means_of(result: StudyResult, arm: str, key: str):
    """(values, truth or None, patients, cases) averaged over runs, computed a second time and by hand."""
    rows: dict[str, list[Score]] = {}
    for score in result.scores:
        if score.arm == arm and score.size is None:
            rows.setdefault(score.case, []).append(score)
    cases = sorted(rows)
    values = np.array([np.mean([s.values[key] for s in rows[c]]) for c in cases])
    truth = np.array([rows[c][0].values.get("truth", 0.0) for c in cases])
    return values, truth, [rows[c][0].patient for c in cases], cases


def by_patient(values, patients) -> np.ndarray:
    return np.array([np.mean(values[np.array(patients) == name]) for name in sorted(set(patients))])


@pytest.fixture(scope="module")
def planted() -> StudyResult:
    return classification(study_of(**SEVERAL), {"TL": 2.5, "XTL": 0.7})


@pytest.fixture(scope="module")
def planted_dice() -> StudyResult:
    return segmentation(study_of(seeds=(0, 1)), {"TL": 0.0, "XTL": 0.06})


def test_auc_and_its_difference_are_those_of_the_metrics(planted):
    analysis = analyse(planted)
    (tl, truth, patients, _), (xtl, *_) = means_of(planted, "TL", "score"), means_of(planted, "XTL", "score")
    found = analysis.arm("XTL").estimate
    expected = auc_interval(xtl, truth, patients, 400)
    assert (found.value, found.low, found.high) == pytest.approx((expected.auc, expected.low, expected.high))
    assert found.value == pytest.approx(roc_auc_score(truth, xtl))
    (one,) = analysis.comparisons
    expected = score_difference(weighted_auc, xtl, tl, truth, patients, 400)
    assert (one.difference, one.low, one.high, one.p_value) == pytest.approx(
        (expected.difference, expected.low, expected.high, expected.p_value)
    )
    assert one.verdict == "better" and one.adjusted_p == one.p_value
    assert one.secondary[0].p_value == pytest.approx(delong_difference(xtl, tl, truth).p_value)
    found = analysis.arm("TL").calibration.brier
    assert found.mean == pytest.approx(brier(tl, truth)) and found.low < found.mean < found.high
    spread = np.std(by_patient((tl - truth) ** 2, patients)) / np.sqrt(len(set(patients)))
    assert found.high - found.low == pytest.approx(2 * 1.96 * spread, rel=0.25)


def test_every_seed_stands_beside_the_mean(planted):
    arm = analyse(planted).arm("TL")
    for seed, repeat, value in arm.by_run:
        scores = sorted((s for s in planted.of("TL") if s.seed == seed), key=lambda s: s.case)
        expected = roc_auc_score([s.values["truth"] for s in scores], [s.values["score"] for s in scores])
        assert repeat == 0 and value == pytest.approx(expected)


def test_average_precision_may_be_primary(planted):
    result = replace(planted, study=planted.study.model_copy(update={"primary_metric": "ap"}))
    analysis = analyse(result)
    values, truth, *_ = means_of(planted, "TL", "score")
    assert analysis.arm("TL").estimate.value == pytest.approx(average_precision_score(truth, values))
    assert analysis.comparisons[0].verdict == "better"
    assert analysis.comparisons[0].difference == pytest.approx(
        analysis.arm("XTL").estimate.value - analysis.arm("TL").estimate.value
    )


def test_dice_is_tested_by_patient_and_not_by_scan(planted_dice):
    (one,) = analyse(planted_dice).comparisons
    (tl, _, patients, _), (xtl, *_) = means_of(planted_dice, "TL", "dice"), means_of(planted_dice, "XTL", "dice")
    expected = paired_difference(by_patient(xtl, patients), by_patient(tl, patients))
    assert (one.difference, one.low, one.high, one.p_value) == pytest.approx(
        (expected.difference, expected.low, expected.high, expected.p_value)
    )
    assert one.units == 12 and one.verdict == "better"
    assert one.secondary[0].p_value == wilcoxon(by_patient(xtl, patients), by_patient(tl, patients)).p_value
    found = analyse(planted_dice).arm("TL").estimate
    expected = unit_interval(tl, patients)
    assert (found.value, found.low, found.high) == pytest.approx((expected.mean, expected.low, expected.high))


def test_unit_case_counts_scans(planted_dice):
    study = planted_dice.study.model_copy(update={"unit": "case"})
    assert analyse(replace(planted_dice, study=study)).comparisons[0].units == 24


def test_a_study_without_a_difference_is_undecided_and_claims_no_equivalence():
    result = segmentation(study_of(), {"TL": 0.0, "XTL": 0.0}, seed=3)
    (one,) = analyse(result).comparisons
    assert one.verdict == "undecided"
    assert "undecided" in result.table_text and "not evidence that the two are equal" in result.table_text


def test_less_is_better_where_it_is():
    study = study_of(primary_metric="hd95")
    (one,) = analyse(segmentation(study, {"TL": 0.0, "XTL": 0.06})).comparisons
    assert one.difference < 0 and one.verdict == "better"


def test_holm_runs_over_all_comparisons_of_the_study():
    arms = [{"name": name, "chain": CHAIN} for name in ("TL", "XTL", "scratch")]
    study = study_of(arms=arms, comparisons=[("XTL", "TL"), ("TL", "scratch"), ("XTL", "scratch")])
    analysis = analyse(segmentation(study, {"TL": 0.0, "XTL": 0.012, "scratch": 0.0}))
    raw = np.array([one.p_value for one in analysis.comparisons])
    assert np.allclose([one.adjusted_p for one in analysis.comparisons], holm(raw))


def test_repeated_cross_validation_gets_the_corrected_resampled_t():
    result = segmentation(study_of(repeats=2), {"TL": 0.0, "XTL": 0.03})
    (one,) = analyse(result).comparisons
    differences = []
    for repeat in range(2):
        for fold in range(5):
            of = {}
            for arm in ("TL", "XTL"):
                rows = [s for s in result.of(arm) if (s.repeat, s.fold) == (repeat, fold)]
                of[arm] = by_patient(np.array([s.values["dice"] for s in rows]), [s.patient for s in rows]).mean()
            differences.append(of["XTL"] - of["TL"])
    expected = corrected_resampled_t(np.array(differences), 1 / 4)
    assert one.secondary[-1].p_value == pytest.approx(expected.p_value)
    assert one.secondary[-1].low == pytest.approx(expected.low)


def test_learning_curve_has_every_size_and_comparisons_are_at_the_largest():
    result = segmentation(study_of(sizes=(4, 8, "all")), {"TL": 0.0, "XTL": 0.06})
    analysis = analyse(result)
    assert [(p.name, p.size) for p in analysis.curve] == [(a, s) for a in ("TL", "XTL") for s in (4, 8, None)]
    values = [p.estimate.value for p in analysis.curve if p.name == "TL"]
    assert values == sorted(values)  # planted: more cases, more Dice
    assert analysis.comparisons[0].size_a is None
    assert analysis.curve[2].estimate == analysis.arm("TL").estimate


@given(st.floats(-1, 1), st.floats(0, 1), st.booleans())
def test_a_verdict_follows_from_the_interval_alone(low, width, higher_is_better):
    high = low + width
    verdict = verdict_of(low, high, higher_is_better)
    if low <= 0 <= high:
        assert verdict == "undecided"
    else:
        assert verdict == ("better" if (low > 0) == higher_is_better else "worse")
    measure = MEASURES["dice" if higher_is_better else "lfpr"]
    middle = (low + high) / 2
    found = Comparison("A", "B", measure, None, None, 0.95, 0.5, 0.5, middle, low, high, 0.2, 0.2, units=9)
    words = conclusion(found, 0.05)
    assert [word in words for word in ("better", "worse", "undecided")].count(True) == 1 and verdict in words
    assert "equivalent" not in words and ("not evidence that the two are equal" in words) == (verdict == "undecided")


def test_too_few_patients_for_an_interval_are_undecided():
    result = segmentation(study_of(folds=2), {"TL": 0.0, "XTL": 0.2}, patients=4)
    analysis = analyse(result)
    assert analysis.comparisons[0].verdict == "undecided"
    assert "4 units are too few" in result.table_text and "cannot fall below p = 0.125" in analysis.power


def test_the_order_of_scores_does_not_matter(planted_dice, tmp_path):
    shuffled = list(planted_dice.scores)
    np.random.default_rng(1).shuffle(shuffled)
    write_study_report(planted_dice, tmp_path / "a")
    write_study_report(replace(planted_dice, scores=tuple(shuffled)), tmp_path / "b")
    for name in ("report.html", "report.md", "results.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def broken(result: StudyResult) -> StudyResult:
    """A run of XTL failed, another was never made, and a score of TL is NaN."""
    scores = []
    for score in result.scores:
        if score.arm == "XTL" and (score.seed, score.fold) in ((1, 2), (0, 3)):
            continue
        if (score.arm, score.seed, score.case) == ("TL", 0, "p005_1"):
            score = replace(score, values={**score.values, "dice": float("nan")})
        scores.append(score)
    failure = {"run": "XTL/seed-1/repeat-0/fold-2/size-all", "error": "ran out of memory"}
    return replace(result, scores=tuple(scores), facts={"failures": [failure]})


def test_what_is_missing_is_named_on_top_and_not_averaged_away(planted_dice, tmp_path):
    result = broken(planted_dice)
    analysis = analyse(result)
    assert [(gap.run, gap.case, gap.what) for gap in analysis.gaps] == [
        ("TL/seed-0/repeat-0/fold-0/size-all", "p005_1", "the score is nan"),
        ("XTL/seed-0/repeat-0/fold-3/size-all", "", "the run is missing"),
        ("XTL/seed-1/repeat-0/fold-2/size-all", "", "failed: ran out of memory"),
    ]
    arm = analysis.arm("XTL")
    gone = {score.case for score in planted_dice.of("XTL") if score.fold in (2, 3)}
    assert set(arm.cases.left_out) == gone and set(arm.cases.cases).isdisjoint(gone)
    (one,) = analysis.comparisons
    kept = [c for c in means_of(planted_dice, "TL", "dice")[3] if c not in gone and c != "p005_1"]
    columns = {}
    for name in ("TL", "XTL"):
        values, _, patients, cases = means_of(planted_dice, name, "dice")
        at = [cases.index(case) for case in kept]
        columns[name] = by_patient(values[at], [patients[n] for n in at])
    assert one.difference == pytest.approx((columns["XTL"] - columns["TL"]).mean())
    write_study_report(result, tmp_path)
    text = Page((tmp_path / "report.html").read_text()).text
    assert text.index("This study is incomplete: 2 runs gave no scores and 1 score") < text.index("The question")
    assert "failed: ran out of memory" in text and "p005_1" in text
    assert "ran out of memory" in (tmp_path / "report.md").read_text()


def test_a_complete_study_says_so(planted_dice, tmp_path):
    write_study_report(planted_dice, tmp_path)
    text = Page((tmp_path / "report.html").read_text()).text
    assert "incomplete" not in text and "None: every planned run gave a finite score" in text


def test_an_arm_without_any_score_is_not_determined(planted_dice, tmp_path):
    result = replace(planted_dice, scores=tuple(s for s in planted_dice.scores if s.arm == "TL"))
    assert analyse(result).comparisons[0].verdict == "not determined"
    write_study_report(result, tmp_path)
    assert "XTL against TL: not determined" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("kind", ["planted", "planted_dice"])
def test_the_page_is_whole_in_itself_and_has_every_arm(kind, tmp_path, request):
    result = request.getfixturevalue(kind)
    write_study_report(result, tmp_path)
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert "://" not in text and "<script" not in text and "@import" not in text
    assert all(address.startswith(("#", "data:image/png")) for address in page.addresses)
    assert {"svg", "table"} <= set(page.tags) and "metadata" not in page.tags
    for word in ("TL", "XTL", "Failures", "Methods", "How to cite", "Versions and hashes", "not a medical device"):
        assert word in page.text
    analysis = analyse(result)
    for arm in analysis.arms:
        assert f"{arm.estimate.value:.3f}" in page.text


def test_names_of_strangers_are_text(tmp_path):
    evil = "<script>alert(1)</script> $x_1$ | `b` \u202e"
    result = segmentation(study_of(name=evil, question=f"{evil}?"), {"TL": 0.0, "XTL": 0.06}, patients=6)
    names = {"p000": evil, "p001": '"><img src=x onerror=y>'}
    scores = tuple(replace(s, patient=names.get(s.patient, s.patient), case=f"{s.case}{evil}") for s in result.scores)
    scores = (replace(scores[0], values={**scores[0].values, "dice": float("nan")}), *scores[1:])
    facts = {
        "failures": [{"run": evil, "error": evil}],
        "versions": {evil: evil},
        "arms": {"TL": {"stages": [{"kind": evil, "title": evil, "hash": evil, "licence": evil}], "hash": evil}},
        "runs": {evil: {"key": evil, "seconds": 1.0, "folder": "../../etc"}},
        "datalist": {"name": evil, "description": evil, "licence": evil, "hash": evil},
        "power": evil,
    }
    write_study_report(replace(result, scores=scores, facts=facts), tmp_path)
    page = Page((tmp_path / "report.html").read_text())
    assert "script" not in page.tags and "img" not in page.tags
    assert "<script>alert(1)</script>" in page.text
    assert "<script" not in (tmp_path / "report.md").read_text()
    json.loads((tmp_path / "results.json").read_text())


def test_results_are_json_without_nan_and_the_csv_has_every_score(planted_dice, tmp_path):
    result = broken(planted_dice)
    write_study_report(result, tmp_path)

    def refuse(word):
        raise AssertionError(word)

    results = json.loads((tmp_path / "results.json").read_text(), parse_constant=refuse)
    assert [arm["name"] for arm in results["arms"]] == ["TL", "XTL"]
    assert results["comparisons"][0]["p_value"] == analyse(result).comparisons[0].p_value
    with open(tmp_path / "scores.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(result.scores) and float(rows[0]["dice"]) == result.scores[0].values["dice"]


def test_transferability_names_the_arms_that_have_none_and_why(planted, tmp_path):
    columns = {"TL": {"logme": 0.25, "leep": None}, "XTL": {"left_out": "the weights w.pt are gone"}}
    write_study_report(replace(planted, facts={**planted.facts, "transferability": columns}), tmp_path)
    page, markdown = Page((tmp_path / "report.html").read_text()).text, (tmp_path / "report.md").read_text()
    assert "| TL | 0.250 | - |" in markdown and "| XTL | - | - |" in markdown and "0.250" in page
    for text in (page, markdown):
        assert "Without scores: XTL, because the weights w.pt are gone." in text
    assert json.loads((tmp_path / "results.json").read_text())["facts"]["transferability"] == columns


def test_a_report_that_fails_half_way_leaves_the_one_of_before(planted_dice, tmp_path, monkeypatch):
    write_study_report(planted_dice, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr("XTLLib.study.report.report_html", lambda *_: "\ud800")  # cannot be written as UTF-8
    other = segmentation(planted_dice.study, {"TL": 0.0, "XTL": -0.2})
    with pytest.raises(UnicodeEncodeError):
        write_study_report(other, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_without_matplotlib_the_page_says_so(planted_dice, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    write_study_report(planted_dice, tmp_path)
    page = Page((tmp_path / "report.html").read_text())
    assert "svg" not in page.tags and "pip install matplotlib" in page.text and "Differences in Dice" in page.text


def test_methods_say_what_the_study_did(tmp_path):
    study = study_of(folds=4, repeats=3, seeds=(5, 7), draws=500, level=0.9, sizes=(10, "all"), baselines=["svm"])
    result = classification(study, {"TL": 1.5, "XTL": 1.0, "svm": 2.0}, patients=40)
    write_study_report(result, tmp_path)
    text = json.loads((tmp_path / "results.json").read_text())["methods"]
    for words in (
        "2 arms and 1 baseline by 4-fold cross-validation, repeated 3 times",
        "2 random seeds (5, 7)",
        "10, all cases",
        "90% percentile intervals from 500 bootstrap draws of patients",
        "1 planned comparison",
        "DeLong's test and the corrected resampled t-test",
    ):
        assert words in text


def test_pictures_of_runs_are_shown_best_median_and_worst(planted_dice, tmp_path):
    from scene_cases import GRIDS, ball
    from XTLLib.data.case import Case

    grid = GRIDS["oblique"]
    mask = ball(grid) > 0.5
    case = Case("p", {"FLAIR": Volume(90.0 * mask.astype(np.float32) + 5, grid)}, "FLAIR", Volume(mask, grid))
    shifted = Volume(np.roll(mask, 4, axis=2), grid)
    worst = min({s.case for s in planted_dice.scores}, key=lambda c: _mean_dice(planted_dice, c))
    score = next(s for s in planted_dice.of("XTL") if s.case == worst)
    write_example(tmp_path / "runs" / "k", case, shifted, worst)
    run = f"XTL/seed-0/repeat-0/fold-{score.fold}/size-all"
    result = replace(planted_dice, facts={"runs": {run: {"key": "k", "folder": "runs/k"}}})
    write_study_report(result, tmp_path)
    page = Page((tmp_path / "report.html").read_text())
    assert len(page.images) == 1 and f"worst : case {worst}" in page.text
    assert (tmp_path / "runs" / "k" / "examples" / example_file(worst)).is_file()
    pixels = overlay(case.channels["FLAIR"], mask, shifted.array)
    for colour in ((255, 176, 0), (86, 180, 233)):
        assert (pixels == np.array(colour, np.uint8)).all(axis=-1).any()


def _mean_dice(result: StudyResult, case: str) -> float:
    of = [np.mean([s.values["dice"] for s in result.of(arm) if s.case == case]) for arm in ("TL", "XTL")]
    return float(np.mean(of))
