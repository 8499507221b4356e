"""What a study file can say, and how it is told what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.study_lists import CLASSIFICATION, chain_values, study_of
from XTLLib.errors import InputError
from XTLLib.study.config import load_study

STUDY = """\
name: s
datalist: d.json
folds: 4
repeats: 2
seeds: [0, 1]
sizes: [10, all, 5]
arms:
  - name: XTL
    chain: &xtl
      name: xtl
      backbone: resnet18
      stages:
        - {kind: initialisation, weights: imagenet}
        - {kind: intermediate, task: mammogram-classification, datalist: mias.json}
        - kind: target
          task: classification
          datalist: t.json
          channels: [ADC]
          training: {epochs: 3, encoder_rate: 0.5}
  - {name: TL, chain: *xtl, intermediate: false}
  - {name: scratch, chain: *xtl, intermediate: false, weights: random, training: {encoder_rate: 1.0}}
  - {name: vgg, chain: *xtl, backbone: vgg16_bn, conversion: centre-slice}
baselines: [svm]
comparisons: [[XTL, TL], [XTL, svm]]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_arms_share_a_chain_that_is_written_out_once_and_differ_in_what_they_say(tmp_path):
    study = load_study(write(tmp_path, STUDY))
    chains = {arm.name: arm.load() for arm in study.arms}
    assert [len(chain.stages) for chain in chains.values()] == [3, 2, 2, 3]
    assert chains["XTL"].intermediates[0].datalist == str(tmp_path / "mias.json")
    assert chains["TL"].target == chains["XTL"].target
    assert [chain.initialisation.weights for chain in chains.values()] == ["imagenet", "imagenet", "random", "imagenet"]
    assert (chains["vgg"].backbone, chains["vgg"].conversion) == ("vgg16_bn", "centre-slice")
    assert chains["scratch"].target.training.encoder_rate == 1.0
    assert chains["scratch"].target.training.epochs == 3  # what it does not say stays
    assert study.names == ("XTL", "TL", "scratch", "vgg", "svm")
    assert study.training_sizes == (5, 10, None)
    assert (study.metric_of("classification"), study.metric_of("segmentation")) == ("auc", "dice")


def test_an_arm_may_take_another_preset():
    target = {**CLASSIFICATION, "training": {"preset": "romero2020", "epochs": 7}}
    study = study_of([{"name": "regular", "chain": chain_values(target), "training": {"preset": "regular"}}])
    training = study.arms[0].load().target.training
    assert (training.schedule, training.mixup, training.unfreeze, training.epochs) == ("plateau", None, (), 7)


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("folds: 4", "fold: 4", 3, "unknown key fold. Perhaps folds is meant"),
        ("      backbone: resnet18", "      backbon: resnet18", 11, "unknown key backbon. Perhaps backbone is meant"),
        ("epochs: 3", "epoch: 3", 19, "unknown key epoch. Perhaps epochs is meant"),
        ("intermediate: false}", "intermediat: false}", 20, "Perhaps intermediate is meant"),
        ("repeats: 2", "repeats: 0", 4, "greater than or equal to 1"),
        ("seeds: [0, 1]", "seeds: [0, 0]", 5, "a value stands twice"),
        ("sizes: [10, all, 5]", "sizes: [10, al]", 6, "al"),
        ("[svm]", "[svn]", 23, "svn is not known. Perhaps svm is meant"),
        ("[XTL, svm]]", "[XTL, TLL]]", 24, "names TLL, which is neither an arm nor a baseline (XTL, TL"),
        ("[XTL, svm]]", "[XTL, XTL]]", 24, "XTL is compared with itself"),
        ("{name: TL,", "{name: xtl,", 23, "a name stands twice"),
        ("chain: *xtl, backbone", "chain: 5, backbone", 22, "5 does not fit"),
    ],
)
def test_errors_name_file_line_and_key(tmp_path, old, new, line, words):
    assert old in STUDY
    with pytest.raises(InputError) as caught:
        load_study(write(tmp_path, STUDY.replace(old, new)))
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'study.yaml'}, line {line},")


def test_an_override_that_does_not_fit_its_chain_is_refused_by_the_arm():
    between = {"kind": "intermediate", "task": "mammogram-classification", "datalist": "m.json"}
    chain = chain_values(CLASSIFICATION, between)
    frozen = study_of([{"name": "frozen", "chain": chain, "weights": "frozen-random"}]).arms[0]
    with pytest.raises(InputError, match="the arm frozen: weights that no stage trains need no intermediate stage"):
        frozen.load()
    wrong = study_of([{"name": "A", "chain": chain, "training": {"epoch": 3}}]).arms[0]
    with pytest.raises(InputError, match=r"unknown key epoch\. Perhaps epochs is meant"):
        wrong.load()
