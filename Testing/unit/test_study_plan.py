"""A study's plan: what it counts, what it estimates, and what it says about power before anything runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.study_lists import CLASSIFICATION, SEGMENTATION, chain_values, findings_of, scans_of, study_of
from support.toys import write_toy_mammograms, write_toy_patches, write_toy_volumes
from XTLLib.data.datalist import Datalist
from XTLLib.metrics.power import detectable_difference
from XTLLib.study.plan import plan_study
from XTLLib.study.power import design_power
from XTLLib.study.run import task_of
from XTLLib.study.runs import Deals, planned_runs
from XTLLib.study.task import RunOutcome, write_outcome

SEGMENTS = [{"name": name, "chain": chain_values(SEGMENTATION)} for name in ("A", "B", "C")]
RATES = [{"name": name, "chain": chain_values(CLASSIFICATION)} for name in ("A", "B")]


def test_five_patients_cannot_reach_significance_and_six_can():
    study = study_of(SEGMENTS, folds=5, comparisons=[["A", "B"]])
    few = design_power(study, scans_of(5, 4))
    assert not few.can_decide and few.units == 5
    assert few.text.startswith("This design cannot reach significance, whatever comes out: it is a demonstration.")
    assert "5 patients: an exact paired test cannot fall below p = 0.0625" in few.text
    assert design_power(study, scans_of(6, 4)).can_decide


def test_holm_makes_more_comparisons_need_more_patients():
    study = study_of(SEGMENTS, comparisons=[["A", "B"], ["A", "C"], ["B", "C"]])
    power = design_power(study, scans_of(6))  # smallest p 0.03125, and 0.05 / 3 is asked for
    assert not power.can_decide
    assert "at least 7 patients" in power.text and "the best of 3 comparisons" in power.text
    assert design_power(study, scans_of(7)).can_decide


def test_the_detectable_difference_of_dice_is_that_of_the_simulation():
    text = design_power(study_of(SEGMENTS, comparisons=[["A", "B"]]), scans_of(21)).text
    assert f"{detectable_difference(21, 0.05):.3f} (if it is 0.05)" in text


def test_scans_as_units_are_told_to_come_from_few_patients():
    power = design_power(study_of(SEGMENTS, comparisons=[["A", "B"]], unit="case"), scans_of(5, 4))
    assert power.units == 20 and power.can_decide
    assert "These 20 cases come from 5 patients" in power.text and "p = 0.0625; 6 patients are needed" in power.text


def test_findings_that_cluster_by_patient_count_for_less():
    study = study_of(RATES, comparisons=[["A", "B"]])
    text = design_power(study, findings_of([[1, 1, 1], [0, 0, 0]] * 20)).text
    low, high = (float(word) for word in text.split() if word.startswith("0.") and len(word) == 4 and word != "0.75")
    assert 0 < low < high < 0.25
    few = design_power(study, findings_of([[1], [0], [1], [0]]))
    assert not few.can_decide and "not even a gain to 1 is found" in few.text


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("lists")
    return {
        "mammograms": write_toy_mammograms(folder / "m", 8),
        "patches": write_toy_patches(folder / "p", 24),
        "volumes": write_toy_volumes(folder / "v", 4, 0),
    }


def toy_study(files, **more):
    between = {
        "kind": "intermediate", "task": "mammogram-classification", "datalist": str(files["mammograms"]),
        "image_size": 64, "training": {"epochs": 1, "batch_size": 4},
    }  # fmt: skip
    target = {**CLASSIFICATION, "training": {"epochs": 3, "batch_size": 4, "validation": 0}}
    chain = chain_values({**target, "channels": ["T2W", "ADC"]}, between, backbone="squeezenet1_0")
    arms = [{"name": "XTL", "chain": chain}, {"name": "TL", "chain": chain, "intermediate": False}]
    values = {"datalist": str(files["patches"]), "baselines": ["adc-contrast"], "seeds": [0, 1], **more}
    return study_of(arms, **values)


def test_shared_stages_count_once_a_seed_and_own_ones_once_a_run(files):
    plan = plan_study(toy_study(files, sizes=[4, "all"], repeats=2), timed=False)
    assert (plan.runs, plan.trainings, plan.shared) == (2 * 2 * 2 * 2 * 3 + 2 * 2 * 3, 48, 2)
    assert plan.seconds is None and "time on auto" in plan.text and "unknown" in plan.text
    own = {
        "kind": "intermediate", "task": "self-supervised", "datalist": str(files["volumes"]), "method": "masked",
        "images": "slices", "image_size": 32,
    }  # fmt: skip
    chain = chain_values({**SEGMENTATION, "channels": ["FLAIR", "T1"]}, own)
    plan = plan_study(study_of([{"name": "SSL", "chain": chain}], datalist=str(files["volumes"])), timed=False)
    assert plan.shared == plan.trainings == 3
    assert "the stage self-supervised of the arm SSL learns from the study's own datalist" in plan.text


def test_time_and_memory_come_from_trial_steps_and_cost_follows_the_size(files):
    study = toy_study(files, seeds=[0], sizes=[8, "all"], comparisons=[["XTL", "TL"]])
    plan = plan_study(study, device="cpu")
    arms = {arm.name: arm for arm in plan.arms}
    assert arms["TL"].seconds > 0 and arms["TL"].memory_mib > 100
    assert arms["adc-contrast"].seconds is None
    # Three folds at full size and three at half of it, for two arms, and one mammogram stage.
    targets = 3 * 1.5 * (arms["TL"].seconds + arms["XTL"].seconds)
    assert targets < plan.seconds < 5 * targets
    for words in ("XTL", "mammogram-classification (toy mammograms)", "1 training of earlier stages", "+- 30%", "MiB"):
        assert words in plan.text


def test_finished_runs_are_counted_and_measured_instead_of_tried(files, tmp_path):
    study, datalist = toy_study(files, seeds=[0]), Datalist.load(files["patches"])
    runs = planned_runs(study)
    for run in runs:
        if run.fold < 2 and run.arm != "adc-contrast":
            task = task_of(study, run, Deals(study, datalist), tmp_path)
            values = {case: {"truth": 0.0, "score": 0.0} for case in task.parts["test"]}
            write_outcome(task, RunOutcome(values, 100.0 if run.arm == "TL" else 250.0, {}))
    plan = plan_study(study, out=tmp_path)
    assert plan.finished == 4 and "4 runs finished already" in plan.text
    assert plan.seconds == 350.0
    assert json.loads(next(tmp_path.glob("runs/*/values.json")).read_text())  # nothing was taken away
