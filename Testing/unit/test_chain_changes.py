"""Changes of a chain file from the command line, and the answers about a chain for a window."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from XTLLib.errors import InputError
from XTLLib.training.preview import preview_chain
from XTLLib.transfer.chain import load_chain
from XTLLib.transfer.changes import read_change, with_changes

CHAIN = """name: three
seed: 1
stages:
  - {kind: initialisation, weights: $NOT_SET/weights.pth}
  - {kind: intermediate, task: mammogram-classification, datalist: films.json, training: {epochs: 3}}
  - {kind: target, task: segmentation, datalist: brains.json, channels: [FLAIR]}
"""


@pytest.fixture
def chain(tmp_path, monkeypatch) -> Path:
    monkeypatch.delenv("NOT_SET", raising=False)
    path = tmp_path / "chain.yaml"
    path.write_text(CHAIN)
    return path


def test_changes_take_the_place_of_the_file(chain):
    words = ("seed=7", "stages.0.weights=random", "stages.intermediate.training.epochs=5")
    words += ("stages.target.training.learning_rate=0.0000100", "stages.target.datalist=other.json")
    changed = load_chain(chain, dict(map(read_change, words)))
    assert changed.seed == 7
    assert changed.initialisation.weights == "random"
    assert changed.intermediates[0].training.epochs == 5
    assert changed.intermediates[0].datalist == str(chain.parent / "films.json")
    assert changed.target.training.learning_rate == 1e-5
    assert changed.target.datalist == str(Path("other.json").absolute()), "a path is relative to the working folder"


def test_the_content_itself_is_not_changed():
    content = {"stages": [{"kind": "target", "training": {"steps": 3}}]}
    changed = with_changes(content, {"stages.target.training.steps": 4}, "it")
    assert changed["stages"][0]["training"]["steps"] == 4
    assert content["stages"][0]["training"]["steps"] == 3


@pytest.mark.parametrize("word", ["seed", "=3", "seed=[1"])
def test_a_change_of_another_form_is_refused(word):
    with pytest.raises(InputError, match="KEY=VALUE"):
        read_change(word)


@pytest.mark.parametrize(
    ("key", "named"),
    [("stages.adaptation.seed", "no stage adaptation"), ("seed.more", "more"), ("backbon", "unknown key backbon")],
)
def test_a_key_that_leads_nowhere_is_named(chain, key, named):
    with pytest.raises(InputError, match=named):
        load_chain(chain, {"stages.0.weights": "random", key: 1})


def test_preview_tells_the_first_problem(chain):
    assert "an environment variable" in preview_chain(str(chain)).problem
    found = preview_chain(str(chain), ("stages.0.weights=random",), ("seed=4",))
    assert "films.json" in found.problem
    assert (found.seed, found.own["seed"]) == (4, 1)
    assert [stage.unit for stage in found.stages] == ["", "epochs", "steps"]
    assert found.folder == ""


def test_preview_of_data_and_folder(tmp_path):
    from XTLLib.scene.self_test import write_small_chain

    chain = write_small_chain(tmp_path / "data")
    found = preview_chain(str(chain), (), (), str(tmp_path / "run"))
    assert (found.problem, found.folder) == ("", "new")
    (data,) = found.data
    assert data.line == "phantom brain MR: 2 cases of 2 patients (2 training); FLAIR, T1, T2"
    assert data.rows[0] == ("phantom-001", "phantom-001", "training", "lesions.nii")
    assert "not empty" in preview_chain(str(chain), (), (), str(tmp_path)).problem

    next((tmp_path / "data" / "brains").rglob("lesions.nii")).unlink()
    found = preview_chain(str(chain))
    assert "lesions.nii" in found.problem
    assert "2 cases" in found.data[0].line, "what can be read is shown"


def test_looking_at_a_chain_does_not_load_torch_s_compiler(tmp_path):
    """Which takes longer than the answer: the window would wait a second more for its first one."""
    from XTLLib.scene.self_test import write_small_chain

    script = "import sys; from XTLLib.training.preview import preview_chain as look; found = look(sys.argv[1])\n"
    script += "print([found.problem, 'torch' in sys.modules, 'torch._dynamo' in sys.modules])"
    command = [sys.executable, "-c", script, str(write_small_chain(tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['', True, False]"
