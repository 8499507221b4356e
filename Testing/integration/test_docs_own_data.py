"""The way from images of one's own to a report, as the documents tell it; the options and defaults that they list."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from documents import PROJECT, blocks, commands
from XTLLib.cli import main

DOCS = PROJECT / "Resources" / "Docs"
DATA, STUDIES, CHAINS = DOCS / "data.md", DOCS / "studies.md", DOCS / "chains.md"
# What makes the study of the page small enough for a test.
SMALLER = {
    "folds: 5": "folds: 2",
    "seeds: [0, 1, 2]": "seeds: [0]",
    "mobilenet_v2": "squeezenet1_0",
    "weights: imagenet": "weights: random",
    "image_size: 512": "image_size: 128",
    "epochs: 30": "epochs: 1",
    "batch_size: 16": "batch_size: 4",
}


@pytest.fixture
def tables(tmp_path, monkeypatch) -> Path:
    """A folder with phantoms and tables of them, with the columns that the page on data shows."""
    from XTLLib.data.phantoms.write import Parts, write_brains, write_mammograms, write_prostates

    write_mammograms(tmp_path / "mg", Parts(3))
    write_brains(tmp_path / "brain", Parts(2))
    found = write_prostates(tmp_path / "prostate", Parts(6)).training
    headers = [block.text.splitlines()[0] for block in blocks(DATA, "") if block.text.startswith("patient,")]
    brains, findings = headers
    lines = {"films.csv": ["patient,MG,label"], "brains.csv": [brains], "findings.csv": [findings]}
    for film in sorted((tmp_path / "mg").rglob("*.png")):
        lines["films.csv"] += [f"film-{film.parent.name},{film.relative_to(tmp_path)},{len(lines['films.csv']) % 2}"]
    for folder in sorted((tmp_path / "brain").glob("phantom-*")):
        files = (f"brain/{folder.name}/{name}.nii" for name in ("FLAIR", "T1", "T2", "lesions"))
        lines["brains.csv"] += [",".join((folder.name, *files))]
    for entry in found:
        one, place = entry.finding, ",".join(f"{mm:.1f}" for mm in entry.finding.position_ras)
        files = ",".join(entry.images.values())
        lines["findings.csv"] += [f"{entry.patient},{one.identifier},{files},{place},{one.zone},{int(one.significant)}"]
    for name, rows in lines.items():
        (tmp_path / name).write_text("\n".join(rows) + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("XTL_HOME", str(tmp_path / "library"))
    return tmp_path


def test_a_table_of_brains_becomes_a_datalist(tables, capsys):
    (words,) = [words for words in commands(blocks(DATA, "bash")[0].text) if words[1] == "csv"]
    assert main(words) == 0, capsys.readouterr().err
    assert "2 entries of 2 patients" in capsys.readouterr().out


@pytest.mark.timeout(300)
def test_from_tables_to_a_report(tables, capsys):
    """The steps of the page on studies, in order, with its own study file."""
    text = blocks(STUDIES, "yaml")[0].text
    for large, small in SMALLER.items():
        assert large in text
        text = text.replace(large, small)
    (tables / "study.yaml").write_text(text + "draws: 200\n", encoding="utf-8")
    walked = []
    for words in commands("".join(block.text for block in blocks(STUDIES, "bash"))):
        # one process does the runs; the plan's tries of each arm take as long as the runs
        words += ["--processes", "1"] if words[0] == "study" else []
        assert main(words) == 0, capsys.readouterr().err
        walked.append(words[0])
    assert walked == ["data", "data", "study", "study", "study"]
    said = capsys.readouterr().out
    assert "This design is too small" in said and "Nothing was written" in said
    for name in ("report.html", "report.md", "results.json", "scores.csv"):
        assert (tables / "STUDY" / name).is_file()
    assert "XTL against TL: " in (tables / "STUDY" / "report.md").read_text(encoding="utf-8")


def test_the_options_of_public_sets_are_those_of_the_code():
    """Names, and of those with listed values the default first."""
    import inspect
    from importlib import import_module

    from XTLLib.data.layouts import LAYOUTS

    rows = re.findall(r"^\| `([a-z0-9-]+)` \|[^|]*\|[^|]*\|([^|]*)\|", DATA.read_text(encoding="utf-8"), re.MULTILINE)
    assert {layout for layout, _ in rows} == set(LAYOUTS) - {"csv"}
    for layout, text in rows:
        read = import_module(f"XTLLib.data.layouts.{layout.replace('-', '_')}_layout").read
        known = {name: one.default for name, one in list(inspect.signature(read).parameters.items())[1:]}
        named = dict(re.findall(r"`(\w+)=[A-Z]*`(?: ([\w-]+)(?=[,;| ]))?", text))
        named |= {name: "" for name in re.findall(r"`(\w+)=[A-Z]+`", text)}
        assert set(named) == set(known), layout
        assert {name: known[name] for name, value in named.items() if value and name in known} == {
            name: value for name, value in named.items() if value
        }, layout
    csv = import_module("XTLLib.data.layouts.csv_layout").read
    of_csv = set(re.findall(r"--option (\w+)=", DATA.read_text(encoding="utf-8"))) - {"target"}
    assert of_csv <= set(list(inspect.signature(csv).parameters)[1:])


def test_the_chain_of_the_page_on_chains_is_one(tmp_path):
    from XTLLib.transfer.chain import load_chain

    file = tmp_path / "chain.yaml"
    file.write_text(blocks(CHAINS, "yaml")[0].text, encoding="utf-8")
    assert load_chain(file).name == "xtl-ms"


def test_the_defaults_of_the_page_on_chains_are_those_of_the_code():
    import yaml
    from XTLLib.transfer.stages import ClassificationTarget, SegmentationTarget
    from XTLLib.transfer.training import MammogramTraining, PatchTraining, WindowTraining

    text = (CHAINS).read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)`(?:; of windows `([^`]+)`)? \|", text, re.MULTILINE)
    assert len(rows) > 20
    fields = ClassificationTarget.model_fields | SegmentationTarget.model_fields
    for key, default, of_windows in rows:
        if key in PatchTraining.model_fields:
            assert PatchTraining.model_fields[key].default == yaml.safe_load(default), key
            assert WindowTraining.model_fields[key].default == yaml.safe_load(of_windows or default), key
        elif default not in ("imagenet", "random", "frozen-random"):
            value = fields[key].default
            assert (list(value) if isinstance(value, tuple) else value) == yaml.safe_load(default), key
    assert (WindowTraining.model_fields["steps"].default, MammogramTraining.model_fields["epochs"].default) == (400, 30)
    named = set(re.findall(r"`(\w+)`", text[text.index("Off unless they are") : text.index("A\nfrozen group")]))
    off = {name: getattr(PatchTraining(), name) for name in named - {"layer_groups"}}
    assert {name: value for name, value in off.items() if value not in (None, (), 0, 1)} == {"peft": "none"}
