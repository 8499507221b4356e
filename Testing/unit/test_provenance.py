"""Records of stages: what they say, and what they never say."""

from __future__ import annotations

import json

import torch
from XTLLib.data.datalist import Datalist, Entry
from XTLLib.transfer.chain import chain_from_dict
from XTLLib.transfer.provenance import (
    ChainRecord,
    DatalistRecord,
    StageRecord,
    configuration_of,
    hash_of,
    hash_of_weights,
    versions,
)

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
