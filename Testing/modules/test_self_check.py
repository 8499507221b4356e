"""The self-check: says what there is and whether it works, and names no patient, no file, no user and no computer."""

from __future__ import annotations

import errno
import getpass
import platform
import subprocess
import sys
import time
from pathlib import Path, PurePath, PureWindowsPath

import pytest
from XTLLib.errors import InputError
from XTLLib.scene import self_check
from XTLLib.scene.error_display import show_failure

PLANTED = "ZEBRAFISH^JOHN"
FOUND = [
    {"package": "numpy", "version": "2.4.1", "problem": "", "seconds": 0.1},
    {"package": "scipy", "version": "1.17", "problem": "", "seconds": 0.1},
    {"package": "torch", "version": "2.13.0+cpu", "problem": "", "seconds": 2.0},
    {"package": "monai", "version": None, "problem": "monai is missing", "seconds": 0.0},
    {"package": "pydantic", "version": "2.14", "problem": "ImportError: bad file", "seconds": 0.0},
    {"device": "cpu", "name": "2 threads", "memory": None, "problem": "", "seconds": 0.01},
]


@pytest.fixture
def library(tmp_path, monkeypatch) -> Path:
    """A model library in a folder whose path must not be told."""
    home = tmp_path / PLANTED
    (home / "models" / PLANTED).mkdir(parents=True)
    monkeypatch.setenv("XTL_HOME", str(home))
    return home


def test_the_text_says_what_there_is(scene, library):
    report = self_check.make_report(FOUND)
    lines = report.text.splitlines()
    assert report.works
    assert lines[0].endswith("self-check: works")
    assert "Slicer: 5.12" in lines
    assert "  torch 2.13.0+cpu: works" in lines
    assert "  monai: not installed" in lines
    assert "  pydantic 2.14: CANNOT BE IMPORTED (ImportError: bad file)" in lines
    assert "  cpu (2 threads): right, 0.01 s" in lines
    assert "Models in the library: 1, 1 cannot be used" in lines
    assert "XTL's folder (set by XTL_HOME): can be written to" in lines
    assert len(lines) < 60  # with a last error, too


@pytest.mark.parametrize(
    "found",
    [
        [fact for fact in FOUND if fact.get("package") != "torch"],
        [fact for fact in FOUND if "device" not in fact],
        [fact | ({"problem": "the result is wrong"} if "device" in fact else {}) for fact in FOUND],
    ],
)
def test_what_does_not_work_is_said_first(scene, library, found):
    report = self_check.make_report(found)
    assert not report.works
    assert report.text.splitlines()[0].endswith("does not work yet")


def test_nothing_planted_is_in_the_text(scene, library, messages):
    """Names of nodes, folders, the user and the computer, also when the last error was about them."""
    import slicer
    from XTLLib.scene.nodes import volume_from_node

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", PLANTED)
    with pytest.raises(InputError) as caught:
        volume_from_node(node, f"the channel {PLANTED}")
    assert PLANTED in str(caught.value)
    show_failure("It failed.", caught.value)
    problem = f"OSError: {Path.home()}/{PLANTED.lower()}/a b/lib/torch.so of {getpass.getuser()}"
    text = self_check.make_report([FOUND[0] | {"problem": problem}]).text
    assert "InputError: " in text
    assert "XTLLib/scene/nodes.py" in text
    for secret in (PLANTED, PLANTED.lower(), str(library), str(Path.home()), platform.node()):
        assert secret not in text
    assert getpass.getuser() not in text.replace("<user>", "").split()


def _key_error() -> None:
    raise KeyError(PLANTED)


def _of_the_system() -> None:
    raise PermissionError(errno.EACCES, f"cannot open {PLANTED}", f"{Path.home()}/{PLANTED}")


def _with_a_cause() -> None:
    try:
        _key_error()
    except KeyError as error:
        raise InputError(f"the patient {PLANTED} of {Path.home()}", f"Ask {getpass.getuser()}") from error


def _of_another_process() -> None:
    error = InputError(f"the file {Path.home()}/{PLANTED}.nii", "Choose another")
    error.details = (f"{Path.home()}/{PLANTED}.nii",)
    error.anonymous = ("InputError: the file … is empty",)
    raise error


@pytest.mark.parametrize(
    ("fail", "told"),
    [
        (_key_error, "KeyError"),
        (_of_the_system, "PermissionError: Permission denied"),
        (_with_a_cause, "InputError"),
        (_of_another_process, "there: InputError: the file … is empty"),
    ],
)
def test_the_last_error_is_told_without_what_it_was_about(scene, library, messages, fail, told):
    """A panel's failure of any kind, with planted names in its words, its details and the nodes of the scene."""
    import slicer

    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", PLANTED)
    try:
        fail()
    except Exception as error:
        show_failure(f"{PLANTED} was not segmented.", error, [f"{Path.home()}/{PLANTED}"])
    text = self_check.make_report(FOUND).text
    assert told in text.partition("Last error")[2]
    for secret in (PLANTED, PLANTED.lower(), str(Path.home()), f"{getpass.getuser()}'"):
        assert secret not in text


def _on(monkeypatch, user: str, computer: str, home: PurePath) -> None:
    monkeypatch.setattr(self_check, "_user", lambda: user)
    monkeypatch.setattr(self_check.platform, "node", lambda: computer)
    monkeypatch.setattr(self_check.Path, "home", lambda: home)


def test_names_of_user_and_computer_are_taken_out(monkeypatch):
    _on(monkeypatch, "alice", "RADIOLOGY-7.clinic.example", Path("/home/alice"))
    told = "alice at radiology-7: /home/alice/x, /home/alicent, malice, Radiology-7.Clinic.example"
    assert self_check.without_names(told) == "<user> at <computer>: ~/x, /home/alicent, malice, <computer>"


def test_a_home_folder_of_windows_is_taken_out_as_it_may_be_written(monkeypatch):
    _on(monkeypatch, "uwald", "PC-12", PureWindowsPath("C:\\Users\\Über Wald"))
    told = "C:\\Users\\Über Wald\\a, c:/users/über wald/b, UWALD, of Über Wald"
    assert self_check.without_names(told) == "~\\a, ~/b, <user>, of <user>"


def test_of_a_path_in_what_an_import_says_the_last_part_stays(scene, library):
    problem = "OSError: D:\\mri\\zebra, fish\\torch.dll, or one of what it needs, is missing"
    text = self_check.make_report([FOUND[0] | {"problem": problem}]).text
    assert "(OSError: .../torch.dll, or one of what it needs, is missing)" in text


def test_a_real_check_in_a_process_of_its_own(library):
    """As ``xtl check`` and as in the console; a tiny network gives its known answer."""
    done = subprocess.run(
        [sys.executable, "-m", "XTLLib.cli", "check", "--progress", "none", "--out", str(library / "check.txt")],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Slicer: not running (command line)" in done.stdout
    assert "  torch 2" in done.stdout
    assert "): right, " in done.stdout
    assert PLANTED not in done.stdout
    assert (library / "check.txt").read_text(encoding="utf-8").strip() == done.stdout.strip()


@pytest.mark.parametrize("module", ["XTLSegment", "XTLClassify"])
def test_the_button_of_a_panel_writes_the_text(module, open_panel, messages, monkeypatch, library):
    """The panel stays usable meanwhile, and each step takes next to no time."""
    from PySide6 import QtWidgets

    monkeypatch.setattr(self_check, "PACKAGES", ("numpy",))
    panel = open_panel(module)
    about = panel.widget._about
    assert not about.ui.selfCheckText.visible
    about.ui.aboutCollapsibleButton.collapsed = False
    about.ui.selfCheckButton.click()
    assert about.ui.selfCheckButton.text == "Checking ..."
    end = time.monotonic() + 240
    while about.ui.selfCheckButton.text != "Self-check" and time.monotonic() < end:
        QtWidgets.QApplication.processEvents()
        time.sleep(0.01)
    assert "self-check: does not work yet" in about.ui.selfCheckText.plainText  # numpy alone was asked for
    about.ui.copyButton.click()
    assert QtWidgets.QApplication.clipboard().text().startswith("XTL ")
    assert messages == []


def test_a_panel_that_goes_away_ends_its_check(open_panel):
    panel = open_panel("XTLSegment")
    about = panel.widget._about
    about.ui.selfCheckButton.click()
    process = about._check._probe._child
    about.close()
    assert not process.is_alive
    assert about.ui.selfCheckButton.enabled
