"""Python packages inside Slicer: found to be lacking, asked for once, installed, checked, and told plainly."""

from __future__ import annotations

import inspect
import sys
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace

import pytest
from host import packaging_stand_in, pytorch_stand_in
from XTLLib.errors import MissingPackageError
from XTLLib.scene import packages, wanted_packages

# Slicer 5.12.3 (commit 9034c71a), Base/Python/slicer/packaging.py; SlicerPyTorch of 2024-04-24 (commit e1c85cc0).
SIGNATURES = {
    "load_requirements": "path",
    "isPipInstallInProgress": "",
    "pip_check": "req _seen",
    "pip_install": "requirements constraints no_deps_requirements skip_packages blocking show_progress requester "
    "parent logCallback completedCallback",
    "pip_ensure": "requirements constraints skip_packages prompt_install prompt_restart requester skip_in_testing "
    "show_progress",
}
INSTALL_TORCH = "self askConfirmation forceComputationBackend torchVersionRequirement torchvisionVersionRequirement"


class Environment:
    """What is installed, as far as the code under test can tell."""

    def __init__(self) -> None:
        self.versions = {"torch": "2.13.0+cpu", "monai": "1.6.1", "pydantic": "2.14", "PyYAML": "6.0.3"}
        self.versions |= {"scikit-learn": "1.9.1", "tqdm": "4.70"}
        self.incomplete: set[str] = set()
        self.broken: dict[str, str] = {}
        self.imported: list[list[str]] = []

    def distribution(self, name):
        if name not in self.versions:
            raise PackageNotFoundError(name)
        record = None if name in self.incomplete else "a.py,sha256=x,1"
        return SimpleNamespace(version=self.versions[name], read_text=lambda _: record)

    def import_problems(self, names, meanwhile):
        self.imported.append(list(names))
        meanwhile()
        return {name: self.broken[name] for name in names if name in self.broken}

    def lose(self, *names):
        for name in names:
            del self.versions[name]


@pytest.fixture
def environment(monkeypatch, messages):
    found = Environment()
    monkeypatch.setattr(wanted_packages, "distribution", found.distribution)
    monkeypatch.setattr(wanted_packages, "find_spec", lambda name: object())
    monkeypatch.setattr(wanted_packages, "has_nvidia_driver", lambda: False)
    monkeypatch.setattr(packages, "import_problems", found.import_problems)
    monkeypatch.setattr(packaging_stand_in.Pip, "lines", ("Collecting monai>=1.4",))
    monkeypatch.setattr(packaging_stand_in.Pip, "code", 0)
    monkeypatch.setattr(packaging_stand_in.Pip, "effect", None)
    monkeypatch.setattr(pytorch_stand_in.PyTorchUtilsLogic, "effect", None)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", pytorch_stand_in)
    packaging_stand_in.installs.clear()
    pytorch_stand_in.PyTorchUtilsLogic.asked.clear()
    return found


def arrives(environment, **versions):
    """What an installation leaves behind."""
    return lambda: environment.versions.update({name.replace("_", "-"): text for name, text in versions.items()})


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_stand_ins_are_called_as_slicer_s_own(name):
    assert list(inspect.signature(getattr(packaging_stand_in, name)).parameters) == SIGNATURES[name].split()


def test_the_stand_in_of_pytorch_is_called_as_the_extension_s():
    method = pytorch_stand_in.PyTorchUtilsLogic.installTorch
    assert list(inspect.signature(method).parameters) == INSTALL_TORCH.split()


def test_the_list_of_requirements_is_where_slicer_installs_it():
    import slicer.packaging

    requirements = slicer.packaging.load_requirements(wanted_packages.REQUIREMENTS)
    assert {requirement.name for requirement in requirements} == {"monai", "pydantic", "PyYAML", "scikit-learn", "tqdm"}
    for requirement in requirements:
        assert {spec.operator for spec in requirement.specifier} == {">="}


def test_here_nothing_is_lacking():
    assert wanted_packages.wanted_packages(training=True) == ()


def test_applying_needs_torch_alone(environment, messages):
    environment.lose("monai", "pydantic")
    packages.ensure_packages("XTL Segment")
    assert messages == []
    assert packaging_stand_in.installs == []


@pytest.mark.parametrize("version", ["2.3.0", "2.4.1+cu121", "3.0.0"])
def test_an_old_torch_that_suffices_is_accepted(environment, messages, version):
    environment.versions["torch"] = version
    packages.ensure_packages("XTL Segment")
    assert messages == []


def test_one_question_says_what_and_how_large_then_both_ways_install(environment, messages, monkeypatch):
    environment.lose("torch", "monai")
    environment.versions["pydantic"] = "1.10.2"
    logic = pytorch_stand_in.PyTorchUtilsLogic
    monkeypatch.setattr(logic, "effect", staticmethod(arrives(environment, torch="2.13.0+cpu")))
    packaging_stand_in.Pip.effect = staticmethod(arrives(environment, monai="1.6.1", pydantic="2.14"))
    packages.ensure_packages("XTL Transfer", training=True)
    (question,) = messages
    assert "torch >=2.3, the build for the processor (about 200 MB)" in question.text
    assert "monai >=1.4 (about 2 MB)" in question.text
    assert "pydantic >=2.7, 1.10.2 is too old (about 3 MB)" in question.text
    assert "About 205 MB are downloaded" in question.text
    assert "need not be restarted" in question.text
    assert logic.asked == [{"askConfirmation": False, "torchVersionRequirement": ">=2.3"}]
    assert packaging_stand_in.installs == [["monai>=1.4", "pydantic>=2.7"]]
    assert environment.imported == [["torch", "monai", "pydantic"]]


def test_the_build_for_graphics_cards_is_told_apart(environment, messages, monkeypatch):
    monkeypatch.setattr(wanted_packages, "has_nvidia_driver", lambda: True)
    monkeypatch.setattr(packages.shutil, "disk_usage", lambda path: SimpleNamespace(free=50e9))
    environment.lose("torch")
    logic = pytorch_stand_in.PyTorchUtilsLogic
    monkeypatch.setattr(logic, "effect", staticmethod(arrives(environment, torch="2.13.0+cu126")))
    packages.ensure_packages("XTL Segment")
    assert "the build for NVIDIA graphics cards (about 3.0 GB)" in messages[0].text


def test_a_user_who_declines(environment, monkeypatch):
    import slicer

    environment.lose("torch", "tqdm")
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *a, **k: False)
    with pytest.raises(MissingPackageError, match=r"packages are missing: torch, tqdm.*agree"):
        packages.ensure_packages("XTL Transfer", training=True)
    assert packaging_stand_in.installs == pytorch_stand_in.PyTorchUtilsLogic.asked == []


def test_slicer_s_testing_mode_in_which_pip_calls_nobody_back(environment, monkeypatch):
    environment.lose("monai")
    monkeypatch.setattr(packaging_stand_in.Pip, "is_testing", True)
    packaging_stand_in.Pip.effect = staticmethod(arrives(environment, monai="1.6.1"))
    packages.ensure_packages("XTL Transfer", training=True)
    assert packaging_stand_in.installs == [["monai>=1.4"]]


def test_without_the_extension_pytorch_nothing_is_asked(environment, messages, monkeypatch):
    environment.lose("torch", "monai")
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    with pytest.raises(MissingPackageError, match="Extensions Manager"):
        packages.ensure_packages("XTL Transfer", training=True)
    assert messages == []


def test_a_torch_that_is_too_old_is_named_before_any_question(environment, messages):
    environment.versions["torch"] = "1.13.1"
    with pytest.raises(MissingPackageError, match=r"PyTorch 1\.13\.1 is installed, XTL needs >=2\.3"):
        packages.ensure_packages("XTL Segment")
    assert messages == []


def test_a_full_disk_is_noticed_before_the_question(environment, messages, monkeypatch):
    monkeypatch.setattr(packages.shutil, "disk_usage", lambda path: SimpleNamespace(free=120e6))
    environment.lose("torch")
    with pytest.raises(MissingPackageError, match=r"need about 800 MB of the disk.*120 MB are free"):
        packages.ensure_packages("XTL Segment")
    assert messages == []


def test_pip_s_reason_is_told_and_its_log_folded_away(environment):
    environment.lose("monai")
    packaging_stand_in.Pip.code = 1
    packaging_stand_in.Pip.lines = ("Collecting monai", "[Errno -3] Temporary failure in name resolution")
    with pytest.raises(MissingPackageError, match="offline") as caught:
        packages.ensure_packages("XTL Transfer", training=True)
    assert caught.value.details == packaging_stand_in.Pip.lines


def test_what_pytorchutils_prints_is_read_too(environment, monkeypatch, capsys):
    environment.lose("torch")
    logic = pytorch_stand_in.PyTorchUtilsLogic
    monkeypatch.setattr(logic, "lines", ("ERROR: [Errno 28] No space left on device",))
    monkeypatch.setattr(logic, "code", 1)
    with pytest.raises(MissingPackageError, match="PyTorch: the disk is full"):
        packages.ensure_packages("XTL Segment")
    assert capsys.readouterr().out == ""


def test_the_window_says_what_is_downloaded_how_large_and_for_how_long(scene):
    with packages._Progress("XTL Transfer") as window:
        window.say("Installing torch")
        window.note("Downloading torch-2.13.0+cpu-cp312-cp312-manylinux_2_28_x86_64.whl (191.8 MB)")
        head, line, seconds = window._window.labelText.split("\n")
        assert window._window.isVisible()
    assert head == "Installing torch"
    assert line == "Downloading torch-2.13.0+cpu-cp312-cp312-m... (191.8 MB)"
    assert seconds == "0 s"
    assert not window._window.isVisible()


def test_half_an_installation_does_not_count(environment, messages):
    """pip writes the list of files last: without it, the package is put there anew, and only that package."""
    environment.incomplete = {"monai"}
    packaging_stand_in.Pip.effect = staticmethod(lambda: environment.incomplete.clear())
    packages.ensure_packages("XTL Transfer", training=True)
    assert "monai >=1.4, whose installation was interrupted" in messages[0].text
    assert packaging_stand_in.installs == [["--force-reinstall", "--no-deps", "monai>=1.4"], ["monai>=1.4"]]


def test_an_installation_that_leaves_nothing_is_no_success(environment):
    environment.lose("monai")
    with pytest.raises(MissingPackageError, match="not usable: monai"):
        packages.ensure_packages("XTL Transfer", training=True)


def test_a_package_that_cannot_be_imported_is_no_success(environment):
    environment.lose("monai")
    environment.broken = {"monai": "ImportError: DLL load failed"}
    packaging_stand_in.Pip.effect = staticmethod(arrives(environment, monai="1.6.1"))
    with pytest.raises(MissingPackageError, match="not usable: monai") as caught:
        packages.ensure_packages("XTL Transfer", training=True)
    assert caught.value.details == ("monai: ImportError: DLL load failed",)


def test_a_restart_is_asked_for_only_when_something_in_use_was_replaced(environment, monkeypatch):
    environment.lose("monai")
    packaging_stand_in.Pip.effect = staticmethod(arrives(environment, monai="1.6.1"))
    monkeypatch.setattr(packages, "_versions", lambda: {"numpy": "1.26.0", "never-imported": "1"})
    versions = {"numpy": "2.4.1", "never-imported": "2"}
    monkeypatch.setattr(packages, "version", versions.__getitem__)
    with pytest.raises(MissingPackageError, match=r"numpy 1\.26\.0, which Slicer has in use, was replaced by 2\.4\.1"):
        packages.ensure_packages("XTL Transfer", training=True)
    environment.lose("monai")
    versions["numpy"] = "1.26.0"
    packages.ensure_packages("XTL Transfer", training=True)


def test_a_slicer_without_slicer_packaging(environment, monkeypatch, messages):
    import slicer

    asked = []

    def pip_install(requirements):
        asked.append(requirements)
        print("Collecting monai")
        arrives(environment, monai="1.6.1")()

    environment.lose("monai")
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    monkeypatch.setattr(slicer.util, "pip_install", pip_install, raising=False)
    packages.ensure_packages("XTL Transfer", training=True)
    assert asked == [["monai>=1.4"]]
    assert len(messages) == 1


def test_a_process_of_its_own_tells_what_can_be_imported(tmp_path, monkeypatch):
    from XTLLib.inference.probe import import_problems

    problems = import_problems(["packaging", "no-such-package"])
    assert list(problems) == ["no-such-package"]
    assert "is missing" in problems["no-such-package"]
