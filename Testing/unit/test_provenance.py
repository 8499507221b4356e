"""Records of stages: what they say, and what they never say."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from XTLLib.data.datalist import Datalist, Entry
from XTLLib.errors import InputError
from XTLLib.metrics.roc import auc_interval
from XTLLib.transfer.chain import chain_from_dict
from XTLLib.transfer.figure import Figure
from XTLLib.transfer.provenance import (
    ChainRecord,
    DatalistRecord,
    StageRecord,
    configuration_of,
    device_words,
    hash_of,
    hash_of_weights,
    today_utc,
    versions,
)
from XTLLib.transfer.summary import summarise_chain

STAGES = [
    {"kind": "initialisation", "weights": "/home/somebody/weights/w.pth"},
    {
        "kind": "target",
        "task": "segmentation",
        "datalist": "/home/somebody/lists/ms.json",
        "channels": ["FLAIR"],
    },
]


def record() -> StageRecord:
    chain = chain_from_dict({"name": "tl", "stages": STAGES})
    entries = tuple(Entry(f"Patient-{n}", f"case-{n}", {"FLAIR": f"/data/{n}.nii"}, f"/data/{n}m.nii") for n in (1, 2))
    datalist = Datalist(
        "ms", "open-ms", "segmentation", ("FLAIR",), "FLAIR", {}, "CC-BY", training=entries[:1], validation=entries[1:]
    )
    return StageRecord(
        "target",
        "segmentation",
        "key",
        configuration_of(chain.target),
        "in",
        "out",
        DatalistRecord.of(datalist, "content"),
        metrics={"validation Dice": 0.7},
        notes=("a note",),
        versions=versions(),
    )


def test_records_survive_json():
    chain = ChainRecord("tl", 5, "resnet18", (record(),))
    assert ChainRecord.from_dict(json.loads(json.dumps(chain.to_dict()))).to_dict() == chain.to_dict()
    assert ChainRecord.from_dict(chain.to_dict()).stages[0].datalist == chain.stages[0].datalist


def test_records_name_no_patient_and_no_place():
    text = json.dumps(ChainRecord("tl", 5, "resnet18", (record(),)).to_dict())
    assert "Patient-1" not in text and "case-1" not in text and "somebody" not in text and "/data" not in text
    assert record().datalist.patients == 2 and record().datalist.validation == 1
    assert record().configuration["datalist"] == "ms.json"


def test_hashes_follow_content_only():
    assert hash_of({"a": 1, "b": [2]}) == hash_of({"b": [2], "a": 1}) != hash_of({"a": 1, "b": [3]})
    state = {"w": torch.arange(16.0).reshape(1, 2, 2, 4), "b": torch.zeros(2)}
    other = {"b": torch.zeros(2), "w": state["w"].contiguous(memory_format=torch.channels_last)}
    assert hash_of_weights(state) == hash_of_weights(other)
    assert hash_of_weights(state) != hash_of_weights({**state, "b": torch.ones(2)})
    assert hash_of_weights(state) != hash_of_weights({**state, "b": torch.zeros(2, dtype=torch.float64)})


def test_versions_name_what_may_change_a_figure():
    found = versions()
    assert {"xtl", "python", "torch", "numpy"} <= set(found)
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_figures_with_intervals_survive_json_and_plain_numbers_stay_numbers():
    figure = Figure(0.7, 0.6, 0.8, resampled="patient", count=12, draws=2000)
    before = replace(record(), metrics={"validation AUC": figure, "steps": 40, "last loss": 0.25, "best": None})
    after = StageRecord.from_dict(json.loads(json.dumps(before.to_dict())))
    assert after == before and after.metrics["validation AUC"] == figure and float(figure) == 0.7
    assert after.metrics["steps"] == 40 and after.metrics["last loss"] == 0.25 and after.metrics["best"] is None
    written = before.to_dict()["metrics"]["validation AUC"]
    assert {name: written[name] for name in ("value", "low", "high", "level")} == {
        "value": 0.7,
        "low": 0.6,
        "high": 0.8,
        "level": 0.95,
    }
    assert str(Figure(12.5, unit="mm")) == "12.5 mm" and str(figure) == "0.7 (0.6 to 0.8)"


@pytest.mark.parametrize(
    "values",
    [
        {"value": float("nan")},
        {"value": 0.5, "low": 0.4},
        {"value": 0.5, "low": 0.6, "high": 0.4},
        {"value": 0.5, "level": 95},
        {"value": "0.5"},
        {"low": 0.1},
        {"value": 0.5, "colour": "red"},
        "much",
    ],
)
def test_what_is_no_figure_is_refused_by_name(values):
    with pytest.raises(InputError, match="validation AUC"):
        replace(record(), metrics={"validation AUC": values})


def test_a_figure_takes_the_interval_of_the_patient_bootstrap():
    patients = [f"p{n // 2}" for n in range(40)]
    labels, scores = np.arange(40) % 2, (np.arange(40) % 2) * 0.5 + np.linspace(0, 1, 40)
    interval = auc_interval(scores, labels, patients, draws=200)
    figure = Figure.of_interval(interval)
    assert (figure.value, figure.low, figure.high) == (interval.auc, interval.low, interval.high)
    assert (figure.resampled, figure.count) == ("patient", 20)


def test_a_record_tells_the_day_and_not_the_hour():
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", today_utc())
    assert device_words("cpu") == "cpu"
    assert StageRecord.from_dict(record().to_dict()).started is None


def _chain() -> ChainRecord:
    start = StageRecord("initialisation", None, "k", {"weights": "imagenet"}, None, "w0", source={"licence": "BSD"})
    films = replace(
        record().datalist, name="MIAS", patients=132, licence="research only", labels={"0": "a", "1": "cancer"}
    )
    middle = StageRecord(
        "intermediate",
        "mammogram-classification",
        "k",
        {"datalist": "mias.json", "region": None},
        "w0",
        "w1",
        films,
        metrics={"last loss": 0.2, "validation AUC": Figure(0.71, 0.62, 0.79)},
    )
    target = replace(record(), weights_in="w1", weights_out="w2", metrics={"validation Dice": 0.644})
    return ChainRecord("xtl", 5, "resnet18", (start, middle, target))


def test_a_chain_reads_in_one_line():
    words = (
        "ImageNet (torchvision) -> MIAS cancer, 132 patients, AUC 0.71 (0.62 to 0.79)"
        " -> MS segmentation, 2 patients, Dice 0.64"
    )
    assert summarise_chain(_chain()) == words == summarise_chain(_chain().to_dict())
    assert summarise_chain({}) == ""


@pytest.mark.parametrize(
    "data",
    [
        {"stages": 3},
        {"stages": [None, 4, "x"]},
        {"stages": [{"kind": ["a"], "task": {}, "metrics": 3, "datalist": [], "configuration": "x"}]},
        {"stages": [{"kind": "initialisation", "configuration": {"weights": "\x1b[2Jevil\n" + "long" * 99}}]},
        {
            "stages": [
                {"kind": "target", "task": "segmentation", "metrics": {"Dice": {"value": "x"}, "": 1, "AUC": None}}
            ]
        },
    ],
)
def test_a_chain_of_somebody_else_is_summed_up_without_harm(data):
    line = summarise_chain(data)
    assert line.isprintable() and len(line) < 200


def test_licences_of_data_and_weights_are_gathered():
    assert _chain().licences == ("BSD", "research only", "CC-BY")


def test_an_adaptation_is_added_where_the_chain_ends():
    adapted = replace(record(), kind="adaptation", weights_in="w2", weights_out="w3")
    longer = _chain().with_adaptation(adapted)
    assert longer.stages[-1] == adapted and longer.breaks == () and len(longer.stages) == 4
    with pytest.raises(InputError, match="began with other weights"):
        _chain().with_adaptation(replace(adapted, weights_in="w1"))
    with pytest.raises(InputError, match="target"):
        _chain().with_adaptation(replace(adapted, kind="target"))


def test_a_break_in_a_chain_is_told():
    first, middle, target = _chain().stages
    broken = ChainRecord("xtl", 5, "resnet18", (first, replace(middle, weights_in="w9"), target))
    assert len(broken.breaks) == 1 and "stage 1 (intermediate)" in broken.breaks[0]
