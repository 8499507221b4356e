"""Sample data: registered as Slicer wants it, phantoms made without a network, and found by the panels."""

from __future__ import annotations

import inspect
import struct
import sys
from pathlib import Path

import host.boot as boot
import numpy as np
import pytest
from host import sample_data_stand_in
from XTLLib.errors import InputError
from XTLLib.scene import sample_data

# Slicer 5.12.3 (commit 9034c71a), Modules/Scripted/SampleData/SampleData.py.
REGISTER = "category sampleName uris fileNames nodeNames customDownloader thumbnailFileName loadFileTypes loadFiles "
REGISTER += "loadFileProperties checksums loadFileType"


@pytest.fixture
def sources(monkeypatch) -> dict:
    monkeypatch.setitem(sys.modules, "SampleData", sample_data_stand_in)
    monkeypatch.setattr(sample_data_stand_in, "_sources", {})
    sample_data.register_sample_data()
    sample_data.register_sample_data()  # by a module that is loaded anew
    return {source.sampleName: source for source in sample_data_stand_in._sources["XTL"]}


def test_the_stand_in_is_called_as_slicer_s_own():
    method = sample_data_stand_in.SampleDataLogic.registerCustomSampleDataSource
    assert list(inspect.signature(method).parameters) == REGISTER.split()


def test_each_source_is_registered_once_with_a_picture(sources):
    assert len(sources) == len(sample_data_stand_in._sources["XTL"]) == 3
    for source in sources.values():
        header = Path(source.thumbnailFileName).read_bytes()[:24]
        assert header[1:4] == b"PNG"
        assert struct.unpack(">II", header[16:]) == (192, 128)


def test_what_is_downloaded_has_a_checksum(sources):
    downloads = [source for source in sources.values() if source.customDownloader is None]
    assert len(downloads) == 1
    for source in downloads:
        assert len(source.checksums) == len(source.uris) == 2
        for uri, name, checksum in zip(source.uris, source.fileNames, source.checksums):
            algorithm, digest = checksum.split(":")
            assert algorithm == "SHA256"
            assert len(bytes.fromhex(digest)) == 32
            assert uri.startswith("https://")
            assert uri.endswith(name)


def test_they_are_registered_when_slicer_has_started(monkeypatch, scene):
    import slicer

    monkeypatch.setitem(sys.modules, "SampleData", sample_data_stand_in)
    monkeypatch.setattr(sample_data_stand_in, "_sources", {})
    boot.load_module("XTLClassify")
    assert sample_data_stand_in._sources == {}
    slicer.app.emit("startupCompleted()")
    assert len(sample_data_stand_in._sources["XTL"]) == 3


def test_without_the_module_sample_data_nothing_happens(monkeypatch):
    monkeypatch.setitem(sys.modules, "SampleData", None)
    sample_data.register_sample_data()


def test_a_click_makes_the_brain_and_xtl_segment_finds_it(sources, scene, open_panel, messages):
    nodes = sample_data_stand_in.click(sources["XTL brain phantom with MS lesions"])
    assert [node.GetName() for node in nodes] == ["FLAIR", "T1", "T2", "reference mask"]
    parameters = open_panel("XTLSegment").widget._link.node
    assert [parameters.flair, parameters.t1, parameters.t2] == nodes[:3]
    assert messages == []


def test_a_click_makes_the_prostate_and_xtl_classify_finds_it(sources, scene, open_panel):
    nodes = sample_data_stand_in.click(sources["XTL prostate phantom with findings"])
    assert [node.GetName() for node in nodes] == ["T2W", "ADC", "HBV", "findings"]
    parameters = open_panel("XTLClassify").widget._link.node
    assert [parameters.t2w, parameters.adc, parameters.hbv] == nodes[:3]


def test_the_public_case_is_found_by_its_names(sources, scene):
    import slicer
    from XTLLib.scene.choices import volume_named_like

    source = next(source for source in sources.values() if source.customDownloader is None)
    nodes = [scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name) for name in source.nodeNames]
    assert isinstance(nodes[0], slicer.vtkMRMLScalarVolumeNode)
    assert [volume_named_like(channel, scene) for channel in ("T2W", "ADC", "HBV")] == [*nodes, None]


def test_the_brain_has_its_lesions_where_flair_is_bright(scene):
    import slicer

    loaded = sample_data.load("brain", scene)
    truth = slicer.util.arrayFromVolume(loaded.truth) > 0
    flair = slicer.util.arrayFromVolume(loaded.channels["FLAIR"])
    assert truth.shape == flair.shape
    assert 500 < truth.sum() < 10_000
    assert np.median(flair[truth]) > np.percentile(flair, 90)
    assert (sample_data.load("brain", scene).channels["FLAIR"].GetName()) == "FLAIR"


def test_the_findings_of_the_prostate_lie_where_they_show(scene):
    loaded = sample_data.load("prostate", scene)
    assert set(loaded.outcomes.values()) == {True, False}
    assert loaded.findings.GetNumberOfControlPoints() == len(loaded.outcomes)
    zones = {loaded.findings.GetNthControlPointDescription(n) for n in range(len(loaded.outcomes))}
    assert zones == {"PZ", "TZ"}
    bounds = np.zeros(6)
    loaded.channels["ADC"].GetRASBounds(bounds)
    for number in range(len(loaded.outcomes)):
        position = [0.0] * 3
        loaded.findings.GetNthControlPointPositionWorld(number, position)
        assert all(bounds[2 * axis] < position[axis] < bounds[2 * axis + 1] for axis in range(3))


def test_the_same_phantom_every_time():
    one, other = sample_data.PHANTOMS["prostate"].make(), sample_data.PHANTOMS["prostate"].make()
    for channel in one.channels:
        assert (one.channels[channel].array == other.channels[channel].array).all()


def test_another_name_is_refused(scene):
    with pytest.raises(InputError, match="brain, prostate"):
        sample_data.load("liver", scene)
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0
