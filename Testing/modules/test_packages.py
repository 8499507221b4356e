"""Python packages inside Slicer: asked for when Apply is pressed, and told plainly when they are missing."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from host import packaging_stand_in
from XTLLib.errors import MissingPackageError
from XTLLib.scene import packages


@pytest.fixture
def without_torch(monkeypatch):
    import slicer.packaging

    check = packaging_stand_in.pip_check
    monkeypatch.setattr(slicer.packaging, "pip_check", lambda r: False if r.name == "torch" else check(r))
    monkeypatch.setattr(packages, "find_spec", lambda name: None)


def test_the_list_of_requirements_is_where_slicer_installs_it():
    import slicer.packaging

    requirements = slicer.packaging.load_requirements(packages.REQUIREMENTS)
    assert {requirement.name for requirement in requirements} == {"monai", "pydantic", "PyYAML", "scikit-learn", "tqdm"}
    for requirement in requirements:
        assert {spec.operator for spec in requirement.specifier} == {">="}


def test_applying_needs_torch_alone():
    packaging_stand_in.ensured.clear()
    packages.ensure_packages("XTL Segment")
    assert packaging_stand_in.ensured == []
    packages.ensure_packages("XTL Transfer", training=True)
    assert packaging_stand_in.ensured[0][0] == "XTL Transfer"


def test_without_the_extension_pytorch(without_torch):
    with pytest.raises(MissingPackageError, match="Extensions Manager"):
        packages.ensure_packages("XTL Segment")


def test_torch_is_installed_by_the_extension_pytorch(without_torch, monkeypatch):
    asked = []

    class PyTorchUtilsLogic:
        answer = object()

        def installTorch(self, **options):
            asked.append(options)
            return self.answer

    monkeypatch.setitem(sys.modules, "PyTorchUtils", SimpleNamespace(PyTorchUtilsLogic=PyTorchUtilsLogic))
    packages.ensure_packages("XTL Segment")
    assert asked == [{"askConfirmation": True, "torchVersionRequirement": ">=2.3"}]
    PyTorchUtilsLogic.answer = None
    with pytest.raises(MissingPackageError, match="agree"):
        packages.ensure_packages("XTL Segment")


def test_an_old_torch_is_named(without_torch, monkeypatch):
    monkeypatch.setattr(packages, "find_spec", lambda name: object())
    with pytest.raises(MissingPackageError, match=r"XTL needs >=2\.3"):
        packages.ensure_packages("XTL Segment")


def test_a_declined_installation_is_one_message(monkeypatch, open_panel, messages, slot_errors, tmp_path):
    import slicer.packaging

    def declined(*_, **__):
        raise RuntimeError("User declined package installation")

    monkeypatch.setattr(slicer.packaging, "pip_ensure", declined)
    panel = open_panel("XTLTransfer")
    chain = tmp_path / "chain.yaml"
    chain.write_text(
        "name: n\nstages:\n  - {kind: initialisation, weights: random}\n"
        "  - {kind: target, task: segmentation, datalist: d.json, channels: [FLAIR]}\n"
    )
    panel.widget.ui.chainPathLineEdit.currentPath = str(chain)
    panel.widget.ui.outputPathLineEdit.currentPath = str(tmp_path / "run")
    panel.widget.ui.applyButton.click()
    (message,) = messages
    assert "agree to their installation" in message.text
    assert panel.widget.ui.applyButton.text == "Apply"
    assert panel.widget.ui.applyButton.enabled
    assert not panel.widget.logic.isRunning
    slot_errors.clear()
