"""Who learns from whom: folds, sizes, and what a run's key depends on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.study_lists import CLASSIFICATION, SEGMENTATION, chain_values, findings_of, scans_of, study_of
from support.toys import write_toy_mammograms, write_toy_patches
from XTLLib.data.datalist import Datalist
from XTLLib.errors import InputError
from XTLLib.study.config import Study
from XTLLib.study.runs import PlannedRun, chain_of, fold_datalist, planned_runs, run_key, stage_datalists

ARM = {"name": "A", "chain": chain_values(CLASSIFICATION)}
patients = st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=4), min_size=4, max_size=40)


def cases(entries) -> list[str]:
    return [entry.case for entry in entries]


def test_every_combination_is_a_run_and_a_baseline_without_chance_runs_once():
    study = study_of([ARM], baselines=["svm", "adc-contrast"], seeds=[3, 5], repeats=2, sizes=[10, "all"], folds=4)
    runs = planned_runs(study)
    assert len({run.name for run in runs}) == len(runs) == 2 * (2 * 2 * 4 * 2) + 1 * 2 * 4 * 2
    assert {run.seed for run in runs if run.arm == "adc-contrast"} == {3}
    assert PlannedRun("A", 3, 1, 2, 10).name == "A/seed-3/repeat-1/fold-2/size-10"
    assert runs[0].name == "A/seed-3/repeat-0/fold-0/size-all"


@given(patients, st.integers(2, 4), st.integers(0, 2))
def test_every_patient_is_tested_once_a_repeat_and_never_learned_from_in_that_fold(labels, folds, repeat):
    study, datalist = study_of([ARM], folds=folds, repeats=3), findings_of(labels)
    tested: list[str] = []
    for fold in range(folds):
        dealt = fold_datalist(study, datalist, PlannedRun("A", 0, repeat, fold))
        parts = [{entry.patient for entry in part} for part in (dealt.training, dealt.test)]
        assert not parts[0] & parts[1]
        assert not dealt.validation
        tested += cases(dealt.test)
    assert sorted(tested) == sorted(cases(datalist.entries))


@given(patients, st.integers(0, 3), st.data())
def test_sizes_are_nested_whole_patients_and_as_large_as_asked_for(labels, fold, data):
    study, datalist = study_of([ARM], folds=4), findings_of(labels)
    full = fold_datalist(study, datalist, PlannedRun("A", 0, 0, fold)).training
    small, large = sorted(data.draw(st.lists(st.integers(1, len(full)), min_size=2, max_size=2)))
    inner, outer = (fold_datalist(study, datalist, PlannedRun("A", 0, 0, fold, n)).training for n in (small, large))
    assert set(cases(inner)) <= set(cases(outer)) <= set(cases(full))
    for part, size in ((inner, small), (outer, large)):
        taken = {entry.patient for entry in part}
        assert cases(part) == [entry.case for entry in full if entry.patient in taken]
        # One patient less would be too few.
        assert size <= len(part) < size + max(sum(e.patient == p for e in part) for p in taken)


@given(patients, st.randoms(use_true_random=False), st.integers(0, 3), st.sampled_from([None, 1, 3]))
def test_a_fold_depends_neither_on_the_order_of_entries_nor_on_parts_arms_and_seeds(labels, random, fold, size):
    study, datalist = study_of([ARM, {**ARM, "name": "B"}], folds=4, seeds=[0, 1]), findings_of(labels)
    mixed = list(datalist.entries)
    random.shuffle(mixed)
    held = {mixed[0].patient}
    other = replace(
        datalist,
        training=[entry for entry in mixed if entry.patient not in held],
        validation=[entry for entry in mixed if entry.patient in held],
    )
    expected = fold_datalist(study, datalist, PlannedRun("A", 0, 0, fold, size))
    assert fold_datalist(study, other, PlannedRun("B", 1, 0, fold, size)) == expected


def test_a_repeat_deals_anew():
    study, datalist = study_of([ARM], repeats=2), findings_of([[0], [1]] * 10)
    first, second = (set(cases(fold_datalist(study, datalist, PlannedRun("A", 0, n, 0)).test)) for n in (0, 1))
    assert first != second


@given(st.integers(2, 30), st.integers(2, 30), st.integers(4, 40))
def test_a_smaller_part_keeps_the_share_of_the_classes(positives, negatives, size):
    study = study_of([ARM], folds=2)
    datalist = findings_of([[1]] * positives + [[0]] * negatives)
    full = fold_datalist(study, datalist, PlannedRun("A", 0, 0, 0)).training
    part = fold_datalist(study, datalist, PlannedRun("A", 0, 0, 0, min(size, len(full)))).training
    share = sum(entry.label for entry in full) / len(full)
    assert abs(sum(entry.label for entry in part) - share * len(part)) <= 1


def test_scans_of_one_patient_stay_together_in_smaller_parts():
    study = study_of([{"name": "A", "chain": chain_values(SEGMENTATION)}], folds=5)
    part = fold_datalist(study, scans_of(5, 4), PlannedRun("A", 0, 0, 0, 6)).training
    assert len(part) == 8 and len({entry.patient for entry in part}) == 2


def test_a_stage_on_the_target_s_own_datalist_gets_the_training_part_of_the_fold():
    between = {
        "kind": "intermediate", "task": "self-supervised", "datalist": "lists/../d.json", "method": "masked",
        "images": "slices",
    }  # fmt: skip
    other = {**between, "datalist": "other.json"}
    study = study_of([{"name": "A", "chain": chain_values(SEGMENTATION, between, other)}])
    fold = fold_datalist(study, scans_of(6), PlannedRun("A", 0, 0, 0))
    given_ = stage_datalists(study.datalist, chain_of(study, PlannedRun("A", 0, 0, 0)), fold)
    assert given_ == {"lists/../d.json": replace(fold, test=())}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("lists")
    return {"mammograms": write_toy_mammograms(folder / "m", 6), "patches": write_toy_patches(folder / "p")}


def real_study(files, **more) -> tuple[Study, Datalist]:
    between = {"kind": "intermediate", "task": "mammogram-classification", "datalist": str(files["mammograms"])}
    chain = chain_values({**CLASSIFICATION, "datalist": "anywhere.json"}, between)
    arms = [{"name": "XTL", "chain": chain}, {"name": "TL", "chain": chain, "intermediate": False}]
    values = {"datalist": str(files["patches"]), "baselines": ["svm"], "seeds": [0, 1], **more}
    return study_of(values.pop("arms", arms), **values), Datalist.load(files["patches"])


def keys_of(study: Study, datalist: Datalist) -> dict[str, str]:
    return {run.name: run_key(study, run, datalist) for run in planned_runs(study)}


def test_runs_differ_in_their_keys_and_a_changed_option_changes_what_it_touches_only(files):
    study, datalist = real_study(files)
    keys = keys_of(study, datalist)
    assert len(set(keys.values())) == len(keys)
    longer, _ = real_study(files, name="another", sizes=[4, "all"], comparisons=[["XTL", "TL"]], draws=500)
    assert keys.items() < keys_of(longer, datalist).items()
    arms = [arm.model_dump(exclude_unset=True) for arm in study.arms]
    arms[0]["chain"]["stages"][1]["training"] = {"epochs": 2}
    changed = keys_of(real_study(files, arms=arms)[0], datalist)
    assert {name.partition("/")[0] for name in keys if changed[name] != keys[name]} == {"XTL"}


def test_a_baseline_without_chance_has_one_key_whatever_the_seeds(files):
    baselines = ["svm", "adc-contrast"]
    keys = [keys_of(*real_study(files, arms=[ARM], baselines=baselines, seeds=seeds)) for seeds in ([0, 1], [7, 1])]
    name = "{}/seed-{}/repeat-0/fold-0/size-all"
    assert keys[0][name.format("adc-contrast", 0)] == keys[1][name.format("adc-contrast", 7)]
    assert keys[0][name.format("svm", 0)] != keys[1][name.format("svm", 7)]  # its inner folds are dealt by the seed
    assert keys[0][name.format("svm", 1)] == keys[1][name.format("svm", 1)]


def test_a_key_follows_the_content_of_files_and_not_their_names(files, tmp_path):
    study, datalist = real_study(files)
    keys = keys_of(study, datalist)
    moved = tmp_path / "moved.json"
    Datalist.load(files["mammograms"]).save(moved)
    assert keys_of(real_study({**files, "mammograms": moved})[0], datalist) == keys
    fewer = Datalist.load(files["mammograms"])
    replace(fewer, training=fewer.training[1:]).save(moved)
    changed = keys_of(real_study({**files, "mammograms": moved})[0], datalist)
    assert {name.partition("/")[0] for name in keys if changed[name] != keys[name]} == {"XTL"}


def test_weights_are_told_apart_by_their_bytes(files, tmp_path):
    def key(content: bytes) -> str:
        path = tmp_path / "w.pth"
        path.write_bytes(content)
        arm = {**ARM, "weights": str(path)}
        study, datalist = real_study(files, arms=[arm], baselines=[])
        return run_key(study, planned_runs(study)[0], datalist)

    assert key(b"a") == key(b"a") != key(b"b")


def test_too_many_folds_are_refused():
    study = study_of([ARM], folds=9)
    with pytest.raises(InputError, match="9 folds were asked for with 4 patients"):
        fold_datalist(study, findings_of([[0], [1], [0], [1]]), PlannedRun("A", 0, 0, 0))
