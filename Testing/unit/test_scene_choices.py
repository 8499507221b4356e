"""What the panels know of the user's choices: bundles, likely volumes, what is missing."""

from __future__ import annotations

import sys
import types
from types import SimpleNamespace

import pytest
from XTLLib.errors import InputError
from XTLLib.scene.choices import BundleReader, bundle_for, chosen_chain, missing_choice, volume_named_like
from XTLLib.scene.session import new_scene


@pytest.fixture
def scene():
    with new_scene() as scene:
        yield scene


@pytest.fixture(autouse=True)
def _translations(monkeypatch):
    """slicer-core has no slicer.i18n: texts stay as they are written."""
    if "slicer.i18n" not in sys.modules:
        module = types.ModuleType("slicer.i18n")
        module.tr = lambda text: text
        monkeypatch.setitem(sys.modules, "slicer.i18n", module)


@pytest.mark.parametrize(
    ("channel", "name"),
    [
        ("FLAIR", "patient07_FLAIR"),
        ("FLAIR", "sub-01_flair.nii"),
        ("T1", "training01_01_mprage_pp"),
        ("T1", "T1w"),
        ("T2", "t2_pp"),
        ("PD", "5: PDw TSE"),
        ("T2W", "11373_1001396_t2w"),
        ("T2W", "3: t2_tse_tra"),
        ("ADC", "7: ep2d_diff_ADC"),
        ("HBV", "x_hbv"),
        ("KTRANS", "ProstateX-0000-Ktrans"),
    ],
)
def test_a_volume_is_recognised_by_its_name(scene, channel, name):
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    assert volume_named_like(channel, scene) is node


@pytest.mark.parametrize(("channel", "name"), [("T1", "T10"), ("T2", "AT2B"), ("PD", "update"), ("ADC", "T2W")])
def test_a_volume_of_another_name_is_left_alone(scene, channel, name):
    scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    assert volume_named_like(channel, scene) is None


def test_no_guess_among_several_and_none_of_a_result_or_a_label_map(scene):
    first = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "FLAIR")
    scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "FLAIR MS lesion label map")
    result = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "FLAIR MS lesion probability")
    result.SetAttribute("XTL.Bundle", "b")
    assert volume_named_like("FLAIR", scene) is first
    second = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "FLAIR follow-up")
    assert volume_named_like("FLAIR", scene) is None
    assert volume_named_like("FLAIR", scene, taken=[second]) is first


def test_what_is_missing():
    bundle = SimpleNamespace(channels=("FLAIR", "T1"), preparation=None, patch_spec=None)
    flair, t1 = object(), object()
    assert "bundle" in missing_choice(None, {})
    assert "DWI" in missing_choice(SimpleNamespace(channels=("DWI",)), {"FLAIR": flair})
    assert missing_choice(bundle, {"FLAIR": flair, "T1": None}) == "Choose a volume for T1."
    assert "different" in missing_choice(bundle, {"FLAIR": flair, "T1": flair})
    assert missing_choice(bundle, {"FLAIR": flair, "T1": t1, "T2": None}) == ""
    without = SimpleNamespace(channels=("FLAIR", "T1", "T2"), preparation=SimpleNamespace(optional=("T1", "T2")))
    assert missing_choice(without, {"FLAIR": flair, "T1": None, "T2": None}) == ""
    assert missing_choice(without, {"FLAIR": None, "T1": t1, "T2": None}) == "Choose a volume for FLAIR."
    assert "different" in missing_choice(without, {"FLAIR": flair, "T1": flair, "T2": None})


def test_a_bundle_is_read_once_until_it_is_forgotten(tmp_path):
    from XTLLib.scene.self_test import write_classification_bundle

    reader = BundleReader("classification")
    assert reader.read("") == (None, "")
    bundle, problem = reader.read(tmp_path / "bundle")
    assert bundle is None
    assert "bundle" in problem
    write_classification_bundle(tmp_path / "bundle")
    assert reader.read(tmp_path / "bundle") == (None, problem)
    reader.forget()
    bundle, problem = reader.read(tmp_path / "bundle")
    assert (bundle.name, problem) == ("untrained-prostate", "")
    assert reader.read(tmp_path / "bundle")[0] is bundle
    with pytest.raises(InputError, match="Choose a bundle for segmentation"):
        bundle_for("segmentation", tmp_path / "bundle")


def test_a_chain_file_that_is_not_one(tmp_path):
    assert chosen_chain("") == (None, "")
    chain, problem = chosen_chain(tmp_path / "none.yaml")
    assert chain is None
    assert "none.yaml" in problem


def test_a_chain_file_before_its_packages_are_installed(tmp_path, monkeypatch):
    import XTLLib.scene.choices as choices

    monkeypatch.setattr(choices, "find_spec", lambda name: None)
    (tmp_path / "chain.yaml").write_text("anything")
    assert chosen_chain(tmp_path / "chain.yaml") == (None, "")
    assert "not a file" in chosen_chain(tmp_path / "none.yaml")[1]
