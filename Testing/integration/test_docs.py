"""What the documents say works: their code runs, their commands parse, their links and quoted messages exist."""

from __future__ import annotations

import argparse
import ast
import os
import re
import sys
from functools import lru_cache
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from documents import DOCUMENTS, PROJECT, blocks, commands, headings, links
from XTLLib.cli import build_parser, main

DOCS = PROJECT / "Resources" / "Docs"
CONSOLE, TROUBLE = DOCS / "python-console.md", DOCS / "troubleshooting.md"
README = PROJECT / "README.md"
WITH_CODE = [path for path in DOCUMENTS if blocks(path, "python")]
# Options of other programs that the documents name: pip, torchrun, ray, pytest, and the project's own scripts.
KINDS = ("brain", "prostate")
FOREIGN = {"--editable", "--nproc_per_node", "--head", "--write", "--tutorials", "--hypothesis-profile"}

slicer = pytest.importorskip("slicer")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A home folder with a checkout whose demonstration is small: the same files, of fewer and untrained things."""
    from XTLLib.data.phantoms.write import Parts, write_brains, write_prostates
    from XTLLib.scene.self_test import write_classification_bundle, write_segmentation_bundle
    from XTLLib.study.demo_chains import SMALL, write_chains

    home = tmp_path_factory.mktemp("home")
    demo = home / "XTL" / "build" / "demo"
    write_brains(demo / "data" / "brain", Parts(1, 0, 1))
    write_prostates(demo / "data" / "prostate", Parts(3, 0, 1))
    for name in ("tl-ms", "xtl-ms"):
        write_segmentation_bundle(demo / "bundles" / name)
    for name in ("tl-prostate", "xtl-prostate"):
        write_classification_bundle(demo / "bundles" / name)
    write_chains(demo / "chains", SMALL, 0, None)
    return home


@pytest.fixture(scope="module")
def host() -> None:
    """The headless Slicer, with one thread for each process: several tests share the cores."""
    import host.boot as boot
    import torch

    boot.start()
    torch.set_num_threads(1)


@pytest.fixture
def at_home(home, monkeypatch) -> Path:
    """The user's surroundings: home folder, library, and the checkout as the current folder."""
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setenv("XTL_HOME", str(home / "library"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(home / "XTL")
    return home


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", WITH_CODE, ids=lambda path: path.name)
def test_python_blocks_run_in_order(path, host, at_home, capsys):
    slicer.mrmlScene.Clear()
    names = {"slicer": slicer, "__name__": "__console__"}
    for block in blocks(path, "python"):
        # so that an error tells the line of the document
        code = compile("\n" * (block.line - 1) + block.text, str(path), "exec")
        exec(code, names)
    assert capsys.readouterr().out
    slicer.mrmlScene.Clear()


def test_the_console_page_shows_all_three_modules():
    text = "".join(block.text for block in blocks(CONSOLE, "python"))
    wanted = (".process(", ".compare(", ".showTruth(", "run_study(", "import_bundle(", "segment_cases(", ".start(")
    wanted += ("rethreshold_now(", "adapt_bundle(")
    assert [call for call in wanted if call not in text] == []


BASH = [(path, words) for path in DOCUMENTS for block in blocks(path, "bash") for words in commands(block.text)]


@pytest.mark.parametrize(("path", "words"), BASH, ids=lambda value: value.name if isinstance(value, Path) else value[0])
def test_commands_parse(path, words, capsys):
    try:
        build_parser().parse_args(words)
    except SystemExit:
        pytest.fail(f"{path.name}: xtl {' '.join(words)}: {capsys.readouterr().err}")


def test_there_are_commands_to_parse():
    assert {words[0] for _, words in BASH} >= {"data", "train", "segment", "classify", "compare", "study", "models"}


def test_the_commands_on_the_demonstration_run(home, at_home, capsys):
    """Those of the README that work with nothing but ``make demo``: the last phantoms are called otherwise here."""
    last = {name: sorted((home / "XTL/build/demo/data" / name).glob("phantom-*"))[-1].name for name in KINDS}
    done = []
    for words in commands("".join(block.text for block in blocks(README, "bash") if "build/demo" in block.text)):
        if words[0] == "view":  # serves until it is interrupted; test_web_page.py looks at it
            continue
        words = [re.sub(r"(brain|prostate)/phantom-\d+", lambda m: f"{m[1]}/{last[m[1]]}", word) for word in words]
        assert main(words) == 0, capsys.readouterr().err
        done.append(words[0])
    assert set(done) >= {"segment", "classify", "compare", "models"}


def _options(parser: argparse.ArgumentParser) -> set[str]:
    """All options of a parser and of those below it."""
    found = set()
    for action in parser._actions:
        found |= {option for option in action.option_strings if option.startswith("--")}
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                found |= _options(below)
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_name_no_option_that_does_not_exist(path):
    named = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", path.read_text(encoding="utf-8")))
    assert sorted(named - _options(build_parser()) - FOREIGN) == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    broken = []
    for target in links(path):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        aim = (path.parent / file).resolve() if file else path
        if not aim.exists() or (anchor and aim.suffix == ".md" and anchor not in headings(aim)):
            broken.append(target)
    assert broken == []


def test_every_document_can_be_reached_from_the_readme():
    seen, waiting = set(), [README]
    while waiting:
        path = waiting.pop()
        if path in seen or path.suffix != ".md" or not path.is_file():
            continue
        seen.add(path)
        waiting += [(path.parent / t.partition("#")[0]).resolve() for t in links(path) if not re.match(r"[a-z]+:", t)]
    assert {path for path in DOCUMENTS if path.is_relative_to(PROJECT / "Resources")} <= seen


def test_pictures_are_small_enough():
    """The tutorials' below 150 kB each; all together a page that opens on a slow line."""
    pictures = list((PROJECT / "Resources" / "Screenshots").glob("tutorial-*"))
    assert pictures
    assert [path.name for path in pictures if path.stat().st_size > 150_000] == []


# --- troubleshooting ----------------------------------------------------------------------------

ERRORS = {"XTLError", "InputError", "MissingPackageError", "NeedsConsent"}
FILLED = "…"  # stands for what a message says of a file, a node or a number


@lru_cache
def _told() -> list[str]:
    """What is wrong, in the words of every error in the code, with FILLED for what is filled in."""
    words = []
    for path in (PROJECT / "XTLTransfer" / "XTLLib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(getattr(node, "func", None), "id", "")
            if isinstance(node, ast.Call) and name in ERRORS and node.args:
                words += [_fixed(node.args[0])]
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "MissingPackageError.of":
                words += [f"{FILLED} need the Python package {FILLED}"]  # as it says
    return words


def _fixed(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_fixed, node.values))
    return FILLED


def _quoted() -> list[str]:
    """The messages that the page has a section for."""
    return re.findall(r"^### (.+)$", TROUBLE.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_page_lists_the_25_messages():
    assert len(_quoted()) >= 25
    assert len(set(_quoted())) == len(_quoted())


@pytest.mark.parametrize("message", _quoted())
def test_quoted_messages_exist_in_the_code(message):
    """Each part between what is filled in stands in one message, in this order."""
    parts = [part.strip() for part in message.split(FILLED) if part.strip()]
    pattern = re.compile(".*".join(map(re.escape, parts)), re.DOTALL)
    assert any(pattern.search(told) for told in _told()), f"no error says: {message}"


def test_the_pattern_notices_a_message_that_is_gone():
    pattern = re.compile(".*".join(map(re.escape, ["the bundle", "is made of cheese"])), re.DOTALL)
    assert not any(pattern.search(told) for told in _told())


def test_widgets_that_the_tutorials_name_exist():
    """What stands in italics is a word of a panel, of the code, or of Slicer itself."""
    slicers_own = {"Sample Data", "Segment Editor", "Data", "PyTorch", "HDBrainExtraction", "PyTorch Utils"}
    sources = [*PROJECT.glob("XTL*/**/*.ui"), *PROJECT.glob("XTL*/**/*.py")]
    said = "\n".join(path.read_text(encoding="utf-8") for path in sources if "XTLLib/data" not in path.as_posix())
    for path in DOCS.glob("tutorial-*.md"):
        text = re.sub(r"\s+", " ", re.sub(r"\*\*[^*]+\*\*", "", path.read_text(encoding="utf-8")))
        named = set(re.findall(r"\*([^*]+)\*", text))
        assert len(named) > 10
        assert sorted(name for name in named - slicers_own if name not in said) == [], path.name


def test_the_page_of_benchmarks_names_each_of_them_and_its_options():
    folder = PROJECT / "Testing" / "benchmarks"
    text = (folder / "README.md").read_text(encoding="utf-8")
    names = re.findall(r'Benchmark\(\s*"([a-z-]+)"', (folder / "registry.py").read_text(encoding="utf-8"))
    assert len(names) > 5
    assert [name for name in names if f"`{name}`" not in text or f"## {name}" not in text] == []
    for file, options in re.findall(r"Testing/benchmarks/(\w+\.py)([^`\n]*)", text):
        code = (folder / file).read_text(encoding="utf-8") + (folder / "results.py").read_text(encoding="utf-8")
        assert [word for word in re.findall(r"--[a-z]+", options) if f'"{word}"' not in code] == [], file


def test_nothing_tells_pip_to_fetch_xtl_from_an_index():
    """Where it is not, and where anybody could put something of its name."""
    sources = [*DOCUMENTS, *(PROJECT / "XTLTransfer").rglob("*.py"), *PROJECT.glob("XTL*/XTL*.py")]
    assert [path.name for path in sources if re.search(r"xtl-transfer\[", path.read_text(encoding="utf-8"))] == []


def test_the_readme_has_what_the_extensions_index_asks_of_a_homepage():
    text = README.read_text(encoding="utf-8")
    name = re.search(r"project\((\w+)\)", (PROJECT / "CMakeLists.txt").read_text(encoding="utf-8"))[1]
    wanted = [name, "XTL Segment", "XTL Classify", "XTL Transfer", "Apache-2.0", "10.1109/ACCESS.2020.3038909"]
    wanted += ["example.org", "not a medical device"]  # addresses are placeholders, and the page says so
    assert [word for word in wanted if word not in text] == []
    assert "<img " in text.split("\n## ")[0]


def test_documents_name_no_other_home(monkeypatch):
    """XTL_HOME is where the README says that downloads lie."""
    from XTLLib.bundle.library import models_folder, xtl_home

    monkeypatch.setenv("XTL_HOME", os.path.join("somewhere", "XTL"))
    assert models_folder() == xtl_home() / "models"
    assert "`XTL_HOME`" in README.read_text(encoding="utf-8")
