"""What makes a study's answer worthless is found before it runs, and named with a remedy."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support.study_lists import CLASSIFICATION, SEGMENTATION, chain_values, findings_of, scans_of, study_of
from support.toys import write_toy_mammograms, write_toy_volumes
from XTLLib.data.datalist import Datalist, Entry
from XTLLib.errors import InputError, MissingPackageError
from XTLLib.study.check import require_runnable
from XTLLib.study.config import Study

BALANCED = [[0], [1], [0, 1]] * 4


def arms_with(first: dict, second: dict, **of_second: object) -> list[dict]:
    chains = [chain_values({**CLASSIFICATION, **target}) for target in (first, second)]
    return [{"name": "TL", "chain": chains[0]}, {"name": "XTL", "chain": chains[1], **of_second}]


def refusal(study: Study, datalist: Datalist) -> str:
    with pytest.raises(InputError) as caught:
        require_runnable(study, datalist)
    return str(caught.value)


def test_a_study_of_arms_that_differ_in_their_chains_is_accepted():
    chain = chain_values(CLASSIFICATION)
    arms = [
        {"name": "scratch", "chain": chain, "training": {"encoder_rate": 1.0}},
        {"name": "frozen", "chain": chain, "weights": "frozen-random"},
        {"name": "vgg", "chain": chain, "backbone": "vgg16_bn", "conversion": "centre-slice"},
    ]
    require_runnable(study_of(arms, baselines=["svm", "radiomics-lr"], sizes=[4, "all"]), findings_of(BALANCED))


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (
            {"training": {"epochs": 10}},
            {"training": {"epochs": 20}},
            "the arms TL and XTL differ in more than their chain: the target training's epochs (10 and 20). "
            "Give both the same, or set allow_different_budgets to true",
        ),
        (
            {},
            {"training": {"weight_decay": 0.5}},
            "the target training's weight_decay (0.01 and 0.5). Give both the same, or write the difference into "
            "the arm XTL, under training",
        ),
        ({}, {"dropout": 0.5}, "the target stage's dropout (0.2 and 0.5). Give both the same"),
        ({}, {"patch": {"shape": [1, 16, 16]}}, "the target stage's patch"),
    ],
)
def test_arms_that_differ_in_more_than_their_chain(first, second, words):
    assert words in refusal(study_of(arms_with(first, second)), findings_of(BALANCED))


def test_a_budget_may_differ_only_where_the_study_says_so_and_the_rest_where_the_arm_says_so():
    datalist = findings_of(BALANCED)
    budget = arms_with({"training": {"epochs": 10}}, {"training": {"epochs": 10}}, training={"epochs": 20})
    assert "epochs (10 and 20)" in refusal(study_of(budget), datalist)
    require_runnable(study_of(budget, allow_different_budgets=True), datalist)
    policy = arms_with({"training": {"preset": "romero2020", "epochs": 5}},
                       {"training": {"preset": "romero2020", "epochs": 5}}, training={"preset": "regular"})  # fmt: skip
    require_runnable(study_of(policy), datalist)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"baselines": ["flair-threshold"]}, "the baseline flair-threshold is for segmentation"),
        ({"primary_metric": "dice"}, "the primary_metric dice does not exist in classification. Choose among auc, ap"),
        ({"unit": "case"}, "the unit case does not exist in classification. Choose among patient, finding"),
        ({"folds": 13}, "13 folds were asked for with 12 patients"),
        ({"sizes": [30]}, "the size 30: fold 1 of 3 has 1"),
        ({"sizes": [1]}, "the training part of size 1 of fold 1 of 3 has no case of the class"),
    ],
)
def test_what_does_not_fit_the_data(more, words):
    study = study_of([{"name": "TL", "chain": chain_values(CLASSIFICATION)}], **more)
    assert words in refusal(study, findings_of(BALANCED))


def test_a_package_that_a_baseline_needs_is_missed_before_anything_runs(monkeypatch):
    study = study_of([{"name": "TL", "chain": chain_values(CLASSIFICATION)}], baselines=["radiomics-lr"])
    require_runnable(study, findings_of(BALANCED))
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(MissingPackageError, match="scikit-image"):
        require_runnable(study, findings_of(BALANCED))


def test_a_chain_for_another_task_is_named():
    study = study_of([{"name": "TL", "chain": chain_values(SEGMENTATION)}])
    assert "the arm TL ends in segmentation" in refusal(study, findings_of(BALANCED))
    assert "no figures for" in refusal(study, replace(scans_of(3), task="unlabelled", training=(), labels={}))


def test_a_fold_without_a_class_is_named():
    study = study_of([{"name": "TL", "chain": chain_values(CLASSIFICATION)}], repeats=2)
    text = refusal(study, findings_of([[1], [1], [0], [0], [0], [0]]))
    assert "the test part of fold 3 of 3, repeat 1 has no case of the class 1 (yes). Ask for fewer folds" in text


def test_one_image_under_two_patients_is_found_also_when_it_was_copied(tmp_path):
    study = study_of([{"name": "TL", "chain": chain_values(CLASSIFICATION)}])
    datalist = findings_of(BALANCED)
    first, second, *rest = datalist.training
    named_twice = replace(datalist, training=[first, replace(second, images=first.images), *rest])
    assert "1 image under two patients" in refusal(study, named_twice)
    for name, content in (("a", b"image"), ("b", b"other")):
        (tmp_path / name).write_bytes(content)
    shutil.copy(tmp_path / "a", tmp_path / "copy")

    def shown(name: str) -> dict[str, str]:
        return {"ADC": str(tmp_path / name)}

    apart = [replace(first, images=shown("a")), replace(second, images=shown("b")), *rest]
    require_runnable(study, replace(datalist, training=apart))
    copied = [replace(first, images=shown("a")), replace(second, images=shown("copy")), *rest]
    assert "1 image under two patients" in refusal(study, replace(datalist, training=copied))


def self_supervised(datalist: Path) -> dict:
    return {
        "kind": "intermediate", "task": "self-supervised", "datalist": str(datalist), "method": "masked",
        "images": "slices", "image_size": 32,
    }  # fmt: skip


def brain_study(target: Path, source: Path) -> Study:
    chain = chain_values({**SEGMENTATION, "channels": ["FLAIR", "T1"]}, self_supervised(source))
    return study_of([{"name": "SSL", "chain": chain}], datalist=str(target))


def test_a_source_may_be_the_target_s_own_datalist_and_no_copy_of_it(tmp_path):
    target = write_toy_volumes(tmp_path / "a", training=4, validation=0)
    datalist = Datalist.load(target)
    require_runnable(brain_study(target, target), datalist)

    renamed = [replace(entry, patient=f"x{n}", label=None) for n, entry in enumerate(datalist.training)]
    source = tmp_path / "a" / "source.json"
    replace(datalist, name="other", task="unlabelled", labels={}, training=renamed).save(source)
    text = refusal(brain_study(target, source), datalist)
    assert "the arm SSL: 4 patients of the target's datalist toy volumes stand in the datalist other" in text
    assert "name the target's datalist as the source" in text

    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert "the arm SSL: 8 images of the target's datalist" in refusal(
        brain_study(target, tmp_path / "b" / "source.json"), datalist
    )


def test_patients_of_one_data_set_are_known_by_name(tmp_path):
    """A source of the same data set that has other images of a patient who is tested."""
    target = write_toy_volumes(tmp_path / "a", training=4, validation=0)
    datalist = Datalist.load(target)
    images = {name: str(tmp_path / f"later_{name}") for name in datalist.channels}
    for path in images.values():
        Path(path).write_bytes(path.encode())
    later = Entry(datalist.training[0].patient, "later", images)
    source = tmp_path / "later.json"
    replace(datalist, task="unlabelled", labels={}, training=[later]).save(source)
    text = refusal(brain_study(target, source), datalist)
    assert "the arm SSL: 1 patient of the target's datalist toy volumes stands in the datalist toy volumes" in text


def test_a_source_that_its_stage_cannot_learn_from_is_named(tmp_path):
    target = write_toy_volumes(tmp_path / "a", training=4, validation=0)
    films = write_toy_mammograms(tmp_path / "m", 4)
    text = refusal(brain_study(target, films), Datalist.load(target))
    assert "the arm SSL: stage 1 (self-supervised)" in text and "has mammograms" in text
