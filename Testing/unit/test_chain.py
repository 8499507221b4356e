"""Chain files: what they hold, and how they say what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from XTLLib.errors import InputError
from XTLLib.transfer.chain import chain_from_dict, load_chain

CHAIN = """\
name: xtl-ms
seed: 3
backbone: mobilenet_v2
stages:
  - kind: initialisation
    weights: weights/w.pth
  - kind: intermediate
    task: mammogram-classification
    datalist: mias.json
    training: {epochs: 12}
  - kind: target
    task: segmentation
    datalist: open_ms.json
    channels: [FLAIR, T1, T2]
    window: [64, 64, 64]
    training:
      steps: 400
"""
PROJECT = Path(__file__).resolve().parents[2]


def write(folder: Path, text: str) -> Path:
    path = folder / "chain.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def message(folder: Path, old: str, new: str) -> str:
    assert old in CHAIN
    with pytest.raises(InputError) as caught:
        load_chain(write(folder, CHAIN.replace(old, new)))
    return str(caught.value)


def test_a_chain_is_read_and_its_paths_are_relative_to_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XTL_TOY", str(tmp_path / "lists"))
    chain = load_chain(write(tmp_path, CHAIN.replace("open_ms.json", "${XTL_TOY}/open_ms.json")))
    assert chain.initialisation.weights == str(tmp_path / "weights" / "w.pth")
    assert chain.intermediates[0].datalist == str(tmp_path / "mias.json")
    assert chain.target.datalist == str(tmp_path / "lists" / "open_ms.json")
    assert chain.seed == 3 and chain.target.channels == ("FLAIR", "T1", "T2") and chain.target.training.steps == 400


def test_words_that_are_no_paths_stay(tmp_path):
    assert load_chain(write(tmp_path, CHAIN.replace("weights/w.pth", "imagenet"))).initialisation.weights == "imagenet"
    assert load_chain(write(tmp_path, CHAIN.replace("weights/w.pth", "random"))).initialisation.weights == "random"


def test_tl_is_xtl_without_its_middle(tmp_path):
    chain = load_chain(write(tmp_path, CHAIN))
    plain = chain.without_intermediate()
    assert [stage.kind for stage in plain.stages] == ["initialisation", "target"]
    assert (plain.name, plain.seed, plain.target) == ("tl-ms", chain.seed, chain.target)
    assert plain.without_intermediate().stages == plain.stages


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("steps: 400", "stps: 400", 17, "stages[2].training.stps: unknown key stps. Perhaps steps is meant"),
        ("steps: 400", "epochs: 4", 17, "unknown key epochs. Perhaps steps is meant"),
        ("epochs: 12", "steps: 12", 10, "unknown key steps. Perhaps epochs is meant"),
        ("steps: 400", "steps: 0", 17, "greater than or equal to 1"),
        ("seed: 3", "sead: 3", 2, "unknown key sead. Perhaps seed is meant"),
        ("mobilenet_v2", "mobilnet", 3, "mobilnet is not known. Perhaps mobilenet_v2 is meant"),
        ("kind: target", "kind: taget", 11, "kind taget is not known. Perhaps target is meant"),
        ("task: segmentation", "task: segmenting", 12, "Perhaps segmentation is meant"),
        ("datalist: mias.json", "datalst: mias.json", 9, "unknown key datalst. Perhaps datalist is meant"),
        ("    datalist: mias.json\n", "", 7, "stages[1]: the key datalist is missing"),
        ("[FLAIR, T1, T2]", "[T1, T1]", 14, "a channel is named twice"),
        ("[64, 64, 64]", "[64, 64]", 15, "window"),
        ("kind: intermediate", "kind: initialisation", 8, "unknown key"),
        ("seed: 3", "seed: 3\nseed: 4", 3, "the key seed stands here a second time (first in line 2)"),
        ("T1, T2]", "T1, T2", 15, "expected"),
        ("weights/w.pth", "${XTL_NO_SUCH}/w.pth", 6, "an environment variable"),
    ],
)
def test_errors_name_file_line_and_key(tmp_path, old, new, line, words):
    found = message(tmp_path, old, new)
    assert found.startswith(f"{tmp_path / 'chain.yaml'}, line {line}")
    assert words in found
    assert "\n" not in found


@pytest.mark.parametrize("kept", [slice(0, 1), slice(1, 3), slice(0, 2), slice(0, 0)])
def test_stages_out_of_order_are_refused(tmp_path, kept):
    stages = load_chain(write(tmp_path, CHAIN)).model_dump()["stages"][kept]
    with pytest.raises(InputError, match="a chain is one initialisation"):
        chain_from_dict({"name": "x", "stages": stages})


def test_the_target_comes_last(tmp_path):
    stages = load_chain(write(tmp_path, CHAIN)).model_dump()["stages"]
    with pytest.raises(InputError, match="initialisation, target, intermediate"):
        chain_from_dict({"name": "x", "stages": [stages[0], stages[2], stages[1]]}, "the form")


def test_what_is_no_chain_file(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        load_chain(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="does not hold keys and values"):
        load_chain(write(tmp_path, "- a\n- b\n"))
    (tmp_path / "chain.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"chain\.yaml"):
        load_chain(tmp_path / "chain.yaml")


def test_yaml_may_not_make_objects(tmp_path):
    assert "line 1" in message(tmp_path, "name: xtl-ms", "name: !!python/object/apply:os.getcwd []")


@pytest.mark.parametrize("name", ["tl-ms", "xtl-ms", "tl-prostate", "xtl-prostate"])
def test_the_example_chains_are_whole(name, monkeypatch):
    monkeypatch.setenv("XTL_DATA", "/data")
    chain = load_chain(PROJECT / "Resources" / "Chains" / f"{name}.yaml")
    assert chain.name == name
    assert bool(chain.intermediates) == name.startswith("xtl")


@pytest.mark.parametrize("target", ["ms", "prostate"])
def test_the_tl_examples_are_the_xtl_examples_without_mammograms(target, monkeypatch):
    monkeypatch.setenv("XTL_DATA", "/data")
    folder = PROJECT / "Resources" / "Chains"
    assert load_chain(folder / f"tl-{target}.yaml") == load_chain(folder / f"xtl-{target}.yaml").without_intermediate()


def test_mixup_is_refused_where_there_are_no_classes(tmp_path):
    text = message(tmp_path, "      steps: 400", "      steps: 400\n      mixup: 0.4\n      class_balance: none")
    assert "mixup blends the classes of whole images" in text and "line 16" in text
