"""XTL Transfer in a Slicer that lacks packages: each button asks once, a No or a failure leaves the panel usable."""

from __future__ import annotations

from shutil import copytree

import pytest
import slicer
from host import packaging_stand_in
from transfer_steps import FakeWindow, look, wait
from XTLLib.errors import XTLError
from XTLLib.scene import packages, previewer
from XTLLib.scene.wanted_packages import WantedPackage

OFFLINE = ("Collecting monai>=1.4", "[Errno -3] Temporary failure in name resolution")
REFUSED = ("ERROR: ResolutionImpossible: for help visit the documentation",)


class Lacking:
    """What is lacking, and a user who is asked about it."""

    def __init__(self) -> None:
        self.packages = (WantedPackage("monai", ">=1.4", "", 2, 10),)
        self.asked: list[str] = []
        self.agrees = False

    def confirm(self, question: str, *_, **__) -> bool:
        self.asked.append(question)
        return self.agrees

    def arrive(self) -> None:
        self.packages = ()


@pytest.fixture
def lacking(monkeypatch):
    found = Lacking()
    monkeypatch.setattr(packages, "wanted_packages", lambda training: found.packages)
    monkeypatch.setattr(packages, "import_problems", lambda names, meanwhile: {})
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", found.confirm)
    for name, value in (("lines", OFFLINE), ("code", 1), ("effect", None)):
        monkeypatch.setattr(packaging_stand_in.Pip, name, value)
    packaging_stand_in.installs.clear()
    return found


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    from XTLLib.scene.self_test import write_small_chain

    return write_small_chain(tmp_path_factory.mktemp("chain"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    from XTLLib.scene.self_test import write_segmentation_bundle

    return write_segmentation_bundle(tmp_path_factory.mktemp("bundle") / "untrained-ms")


@pytest.fixture
def panel(open_panel, lacking, chain, bundle, tmp_path, monkeypatch):
    """Everything chosen that the buttons need."""
    monkeypatch.setenv("XTL_HOME", str(tmp_path / "home"))
    copytree(bundle, tmp_path / "home" / "models" / "mine")
    opened = open_panel("XTLTransfer")
    ui = opened.widget.ui
    ui.chainPathLineEdit.currentPath = ui.studyPathLineEdit.currentPath = str(chain)
    ui.outputPathLineEdit.currentPath = str(tmp_path / "run")
    ui.studyFolderLineEdit.currentPath = str(tmp_path / "study")
    look(opened)
    return opened


BUTTONS = {
    "apply": "The training was not started.",
    "plan": "The chain was not planned.",
    "studyPlan": "The study was not planned.",
    "runStudy": "The study was not finished.",
    "importFile": "The model library was not changed.",
    "exportModel": "The model library was not changed.",
    "verifyModel": "The model library was not changed.",
}


def test_a_no_and_a_failure_are_one_message_each_and_the_next_press_asks_again(panel, lacking, messages, tmp_path):
    library, ui = panel.widget._panel.library, panel.widget.ui
    library._window = FakeWindow(str(tmp_path / "model.zip"))
    ui.refreshLibraryButton.click()  # the list needs no package
    wait(lambda: not library.is_running)
    assert ui.modelsList.count == 1
    assert lacking.asked == []
    for name, failed in BUTTONS.items():
        button = getattr(ui, f"{name}Button")
        label = button.text
        for agrees, said, remedy in ((False, "monai", "agree"), (True, "offline", "Connect to the internet")):
            lacking.agrees = agrees
            assert button.enabled, name
            button.click()
            assert (len(lacking.asked), len(messages)) == (1, 1), name
            assert "monai >=1.4 (about 2 MB)" in lacking.asked[0]
            text = messages[0].text
            assert text.startswith(failed), name
            assert said in text, name
            assert remedy in text.partition("What to do")[2], name
            assert button.text == label, name
            assert not (panel.widget._panel.is_running or panel.widget._panel.study.is_running or library.is_running)
            lacking.asked.clear()
            messages.clear()
    assert len(packaging_stand_in.installs) == len(BUTTONS), "nothing is installed without a Yes"
    assert ui.statusLabel.text == "Nothing was trained."
    assert not any((tmp_path / name).exists() for name in ("run", "study", "model.zip"))


def test_what_pip_refuses_is_said_and_a_later_press_trains(panel, lacking, messages, monkeypatch):
    started = []
    monkeypatch.setattr(panel.widget._panel, "_train", lambda: started.append("now"))
    ui, lacking.agrees = panel.widget.ui, True
    packaging_stand_in.Pip.lines = REFUSED
    ui.applyButton.click()
    assert "contradict another one" in messages[0].text
    assert started == []
    packaging_stand_in.Pip.code, packaging_stand_in.Pip.effect = 0, lacking.arrive
    ui.applyButton.click()
    assert started == ["now"]
    assert len(lacking.asked) == 2
    assert len(messages) == 1


@pytest.fixture
def new_slicer(open_panel, lacking, monkeypatch):
    """A panel that cannot read chains until the packages have come, and what it starts."""
    started = []

    def start(*words) -> None:
        started.append(words)
        raise XTLError("this is far enough", "Go on")

    monkeypatch.setattr(previewer, "find_spec", lambda name: None if lacking.packages else object())
    packaging_stand_in.Pip.code, packaging_stand_in.Pip.effect = 0, lacking.arrive
    panel = open_panel("XTLTransfer")
    monkeypatch.setattr(panel.widget.logic, "start", start)
    return panel, started


def test_in_a_new_slicer_the_chain_is_looked_at_before_it_is_trained(new_slicer, lacking, chain, tmp_path, messages):
    """Without the packages that read a chain nobody knows yet which of the choices it has room for."""
    (panel, started), brains = new_slicer, chain.parent / "brains" / "datalist.json"
    ui, parameters = panel.widget.ui, panel.widget.logic.getParameterNode()
    for name, value in {"seed": 12, "backbone": "squeezenet1_0", "targetBudget": 4, "learningRate": 0.003}.items():
        setattr(parameters, name, value)
    parameters.useChainSettings = False  # as in a scene that was saved elsewhere
    ui.chainPathLineEdit.currentPath, ui.targetPathLineEdit.currentPath = str(chain), str(brains)
    ui.outputPathLineEdit.currentPath = str(tmp_path / "run")
    assert "offer to install" in ui.statusLabel.text
    assert ui.planButton.enabled
    ui.applyButton.click()
    assert len(messages) == 1, "a No"
    messages.clear()
    lacking.agrees = True
    ui.applyButton.click()
    assert started == [], "it is looked at"
    assert "Looking at the chain" in ui.statusLabel.text
    assert look(panel) == "Nothing was trained."
    ((path, out, resume, changes, _device),) = started
    assert (path, out, resume) == (str(chain), str(tmp_path / "run"), False)
    assert {"seed=12", f"stages.target.datalist='{brains}'"} <= set(changes)
    assert "far enough" in messages[0].text


def test_in_a_new_slicer_what_is_wrong_with_the_chain_is_said_before_it_is_trained(
    new_slicer, lacking, chain, tmp_path, messages
):
    (panel, started), with_source = new_slicer, chain.with_name("source.yaml")
    stage = "  - kind: intermediate\n    task: mammogram-classification\n    datalist: films.json\n"
    with_source.write_text(chain.read_text().replace("  - kind: target", f"{stage}  - kind: target"))
    ui, lacking.agrees = panel.widget.ui, True
    ui.chainPathLineEdit.currentPath = str(with_source)
    ui.sourcePathLineEdit.currentPath = str(tmp_path / "it's.json")
    ui.outputPathLineEdit.currentPath = str(tmp_path / "run")
    ui.applyButton.click()
    assert "it's.json" in look(panel), "the chosen list of films takes the place of the chain's"
    assert started == messages == []
