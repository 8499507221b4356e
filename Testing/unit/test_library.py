"""The model library and its commands: listing, verifying, removing."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy_bundles import chain_record, write_toy_bundle
from XTLLib.bundle import layout
from XTLLib.bundle.hashes import write_hashes
from XTLLib.bundle.library import downloads_folder, find_model, list_models, models_folder, remove_model
from XTLLib.bundle.verify import verify_bundle
from XTLLib.bundle.write import write_bundle
from XTLLib.cli import main
from XTLLib.errors import InputError
from XTLLib.networks.build import build_network
from XTLLib.transfer.provenance import hash_of_weights

CHAIN = (
    "ImageNet (torchvision) -> MIAS cancer, 132 patients, AUC 0.71 (0.62 to 0.79)"
    " -> MS segmentation, 2 patients, Dice 0.64"
)


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    return write_toy_bundle(tmp_path_factory.mktemp("toys") / "toy")


@pytest.fixture(autouse=True)
def library(tmp_path, monkeypatch, toy) -> Path:
    """A library with the one model "toy"."""
    monkeypatch.setenv("XTL_HOME", str(tmp_path / "home"))
    shutil.copytree(toy, models_folder() / "toy")
    return models_folder()


def run(capsys, *words) -> tuple[int, str, str]:
    code = main(["models", "--progress", "none", *map(str, words)])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


# --- list, find, remove -----------------------------------------------------------------------------


def test_list_shows_one_line_a_model_with_its_chain(library, capsys):
    write_toy_bundle(library / "another-toy")
    (library / "broken").mkdir()
    code, out, _ = run(capsys, "list")
    lines = out.splitlines()
    assert code == 0 and [line.split()[0] for line in lines] == ["name", "another-toy", "broken", "toy"]
    assert lines[3].endswith(CHAIN) and "cannot be used" in lines[2]
    columns = [line.index(word) for line, word in zip(lines, ("task", "segmentation", "cannot", "segmentation"))]
    assert len(set(columns)) == 1


def test_a_hostile_chain_cannot_write_to_the_terminal(library, capsys):
    chain = json.loads((library / "toy" / layout.CHAIN).read_text())
    chain["stages"][1]["datalist"]["name"] = "\x1b[2J\nevil\x07"
    (library / "toy" / layout.CHAIN).write_text(json.dumps(chain))
    _, out, _ = run(capsys, "list")
    assert "\x1b" not in out and "\x07" not in out and len(out.splitlines()) == 2


def test_a_model_is_found_by_name_or_folder(library, toy):
    assert find_model("toy") == library / "toy" and find_model(toy) == toy
    for wrong in ("tiy", "../toy", str(library), ".", ""):
        with pytest.raises(InputError, match="toy"):
            find_model(wrong)


def test_remove_deletes_the_model_and_its_download_and_nothing_else(library, capsys):
    write_toy_bundle(library / "other")
    downloads_folder("toy").mkdir(parents=True)
    (downloads_folder("toy") / "a.zip").touch()
    code, out, _ = run(capsys, "remove", "toy")
    assert code == 0 and "toy" in out
    assert [path.name for path in library.iterdir()] == ["other"] and not downloads_folder("toy").exists()
    code, _, err = run(capsys, "remove", "toy")
    assert code == 2 and "Name one of other" in err


def test_remove_takes_names_only(library, toy):
    for wrong in (str(toy), "../models/toy", ".", ""):
        with pytest.raises(InputError):
            remove_model(wrong)
    assert (library / "toy").is_dir() and toy.is_dir()


def test_removing_a_linked_model_leaves_what_the_link_leads_to(library, toy):
    (library / "linked").symlink_to(toy, target_is_directory=True)
    remove_model("linked")
    assert not (library / "linked").is_symlink() and (toy / layout.XTL).is_file()


# --- verify -----------------------------------------------------------------------------------------


def test_a_model_as_it_was_written_agrees(library, capsys):
    verified = verify_bundle(library / "toy")
    assert verified.agrees and verified.notes == () and (verified.files, verified.stages) == (8, 3)
    code, out, _ = run(capsys, "verify")
    assert code == 0 and "toy: agrees" in out
    assert run(capsys, "verify", "toy")[0] == 0


def test_results_and_hidden_files_belong_to_no_bundle(library):
    (library / "toy" / "eval").mkdir()
    (library / "toy" / "eval" / "labelmap.nii.gz").touch()
    (library / "toy" / ".DS_Store").touch()
    assert verify_bundle(library / "toy").agrees


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: (f / "docs/README.md").write_text("x"), "docs/README.md was changed"),
        (lambda f: (f / "LICENSE").unlink(), "LICENSE is missing"),
        (lambda f: (f / "docs/more.md").touch(), "docs/more.md was added"),
        (lambda f: (f / layout.WEIGHTS).write_bytes(b"x"), "models/model.pt was changed"),
        (lambda f: (f / layout.HASHES).write_text("{"), "hashes.json cannot be read"),
        (lambda f: (f / layout.HASHES).write_text('{"files": []}'), "no list of files"),
        (lambda f: (f / layout.XTL).write_text("{}"), "configs/xtl.json was changed"),
    ],
)
def test_verify_says_what_was_changed_and_ends_with_code_2(library, capsys, change, words):
    change(library / "toy")
    code, out, err = run(capsys, "verify", "toy")
    assert code == 2 and words in out
    assert err.startswith("xtl: error: 1 of 1 models do not agree with their records: toy.")


def _edit_chain(folder: Path, change) -> None:
    chain = json.loads((folder / layout.CHAIN).read_text())
    change(chain["stages"])
    (folder / layout.CHAIN).write_text(json.dumps(chain))
    write_hashes(folder)  # whoever changes a file can write its hash anew: the chain itself has to be checked


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda stages: stages[1].update(weights_in="other"), "stage 1 (intermediate) began with other weights"),
        (lambda stages: stages[-1].update(weights_out="0" * 64), "model.pt holds other weights"),
        (lambda stages: stages.pop(1), "stage 1 (target) began with other weights"),
        (lambda stages: stages[1].pop("weights_out"), "no record of a chain"),
        (lambda stages: stages.insert(0, 7), "no record of a chain"),
    ],
)
def test_verify_checks_the_chain(library, change, words):
    _edit_chain(library / "toy", change)
    verified = verify_bundle(library / "toy")
    assert not verified.agrees and verified.changed == () and words in " ".join(verified.problems)


def test_weights_exchanged_with_all_file_hashes_put_right_do_not_agree_with_the_chain(library, tmp_path):
    other = write_toy_bundle(tmp_path / "other", seed=8)
    for file in (layout.WEIGHTS, layout.XTL):
        shutil.copyfile(other / file, library / "toy" / file)
    write_hashes(library / "toy")
    (problem,) = verify_bundle(library / "toy").problems
    assert "holds other weights than configs/chain.json says" in problem


def test_a_bundle_from_before_there_were_hashes_is_checked_as_far_as_possible(library):
    (library / "toy" / layout.HASHES).unlink()
    verified = verify_bundle(library / "toy")
    assert verified.agrees and "only weights and chain" in verified.notes[0]


def test_a_bundle_is_not_written_with_the_record_of_other_weights(tmp_path):
    from toy_bundles import CHANNELS, SEGMENTATION
    from XTLLib.data.prepare import Preparation

    torch.manual_seed(1)
    network = build_network(SEGMENTATION)
    how = (network, SEGMENTATION, "segmentation", Preparation(CHANNELS, "FLAIR"))
    right = chain_record(hash_of_weights(network.state_dict()), "segmentation")
    last = replace(right.stages[-1], weights_out="0" * 64)
    wrong = replace(right, stages=(*right.stages[:-1], last))
    with pytest.raises(InputError, match="other weights"):
        write_bundle(tmp_path / "b", *how, provenance=wrong.to_dict())
    assert verify_bundle(write_bundle(tmp_path / "b", *how, provenance=right.to_dict())).agrees


# --- import and export from the command line --------------------------------------------------------


def test_import_and_export_from_the_command_line(library, tmp_path, capsys):
    code, out, _ = run(capsys, "export", "toy", tmp_path / "toy.zip", "--format", "zip")
    assert code == 0 and str(tmp_path / "toy.zip") in out
    code, out, _ = run(capsys, "import", tmp_path / "toy.zip", "--name", "again")
    assert code == 0 and "not a medical device" in out
    code, _, err = run(capsys, "import", tmp_path / "toy.zip", "--name", "again")
    assert code == 2 and "--replace" in err
    assert run(capsys, "import", tmp_path / "toy.zip", "--name", "again", "--replace")[0] == 0
    assert [model.name for model in list_models()] == ["again", "toy"]


def test_trust_from_the_command_line(library, tmp_path, capsys):
    shutil.copytree(library / "toy", tmp_path / "toy")
    (tmp_path / "toy" / "scripts").mkdir()
    (tmp_path / "toy" / "scripts" / "x.py").write_text("raise SystemExit")
    code, _, err = run(capsys, "import", tmp_path / "toy", "--name", "coded")
    assert code == 2 and "scripts/x.py (Python code)" in err and "--trust" in err and len(err.splitlines()) == 1
    code, out, _ = run(capsys, "import", tmp_path / "toy", "--name", "coded", "--trust")
    assert code == 0 and "note:" in out


def test_options_may_stand_before_and_after_the_action(capsys):
    for words in (["models", "--progress", "none", "verify"], ["models", "verify", "--progress", "none"]):
        assert main(words) == 0
        assert capsys.readouterr().err == ""
    assert main(["models", "verify"]) == 0
    assert "Verifying toy" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main(["models"])
    assert stopped.value.code == 2
