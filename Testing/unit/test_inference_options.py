"""What a user can ask of a segmentation beyond its threshold: registration, N4, a brain mask, fewer channels."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from bright_voxels import GRIDS, HEAD_MM, LESIONS, bright_bundle, head_case, head_grid
from toy_bundles import SEGMENTATION
from XTLLib.bundle.load import read_bundle
from XTLLib.bundle.write import write_bundle
from XTLLib.data.case import Case
from XTLLib.data.images import write_volume
from XTLLib.data.phantoms.brain import BrainPhantom
from XTLLib.data.phantoms.fields import box_grid
from XTLLib.data.prepare import Preparation
from XTLLib.data.registration import moved
from XTLLib.data.volume import Volume
from XTLLib.errors import InputError
from XTLLib.inference.exchange import ExchangeFolder, pack_case, pack_result, unpack_case, unpack_result
from XTLLib.inference.monai_workflow import PrepareCase
from XTLLib.inference.segment import segment_case
from XTLLib.inference.table import write_lesion_table
from XTLLib.networks.build import build_network


def shift(r: float, a: float, s: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, 3] = (r, a, s)
    return matrix


def brain_around(grid, centre, radius_mm: float) -> Volume:
    points = grid.index_to_ras(np.moveaxis(np.indices(grid.shape)[::-1], 0, -1))
    return Volume(np.linalg.norm(points - np.array(centre), axis=-1) <= radius_mm, grid, "brain.nii")


def optional_bundle():
    return bright_bundle(preparation=Preparation(("FLAIR", "T1"), "FLAIR", optional=("T1",)))


@pytest.fixture(scope="module")
def phantom_case() -> Case:
    """FLAIR and a T1 that lies 9 mm to the left of where its header says."""
    flair = box_grid((1.0, -2.0, 3.0), (160.0, 190.0, 150.0), (3.0, 3.0, 3.0), "LAS", (11.0, 4.0, -6.0))
    t1 = box_grid((0.0, 0.0, 0.0), (160.0, 190.0, 150.0), (3.0, 3.0, 4.0), "RAS")
    phantom, rng = BrainPhantom(3), np.random.default_rng(3)
    images = phantom.images(("FLAIR",), flair, rng) | phantom.images(("T1",), t1, rng)
    channels = {"FLAIR": Volume(images["FLAIR"], flair, "flair.nii"), "T1": Volume(images["T1"], t1, "t1.nii")}
    return Case("p", {**channels, "T1": moved(channels["T1"], shift(9, 0, 0))}, "FLAIR")


def test_lesions_are_reported_within_the_given_brain_only():
    """The mask lies on a grid of its own and holds the first lesion, not the second."""
    case = head_case(GRIDS["oblique"])
    brain = brain_around(GRIDS["sagittal, thick slices"], LESIONS[0][0], 9.0)
    result = segment_case(replace(case, brain=brain), bright_bundle(), device="cpu")
    assert len(result.lesions) == 1
    assert np.linalg.norm(np.array(result.lesions[0].position_ras) - LESIONS[0][0]) < 0.75
    outside = brain_around(GRIDS["oblique"], LESIONS[0][0], 11.0).array == 0
    assert (result.probability.array[outside] == 0).all()  # also for a lower threshold later


@pytest.mark.parametrize("where", [(500.0, 0.0, 0.0), (2.0, -3.0, 4.0)])
def test_a_brain_mask_of_another_place_or_without_a_voxel_is_refused(where):
    case = head_case(GRIDS["RAS"])
    brain = brain_around(head_grid(np.eye(3), centre=where), (0.0, 0.0, 0.0), HEAD_MM if where[0] > 100 else -1.0)
    with pytest.raises(InputError, match=r"brain mask brain\.nii is empty, or lies outside"):
        segment_case(replace(case, brain=brain), bright_bundle())


def test_an_optional_channel_may_be_missing_and_is_then_its_mean_and_said():
    case = head_case(GRIDS["RAS"])
    flair = Case("p", {"FLAIR": case.channels["FLAIR"]}, "FLAIR")
    prepared = optional_bundle().preparation(flair)
    assert prepared.image.shape[0] == 2 and (prepared.image[1] == 0).all() and prepared.image[0].std() > 0.1
    result = segment_case(flair, optional_bundle(), device="cpu")
    assert len(result.lesions) == len(LESIONS) and any("Without T1" in note for note in result.notes)
    assert not any("Without" in note for note in segment_case(case, optional_bundle(), device="cpu").notes)
    with pytest.raises(InputError, match=r"channel T1 is missing \(given: FLAIR; needed: FLAIR, T1\)"):
        segment_case(flair, bright_bundle())


@pytest.mark.parametrize("optional", [("FLAIR",), ("T2",)])
def test_only_other_channels_of_the_network_can_be_optional(optional):
    with pytest.raises(InputError, match="cannot be optional"):
        Preparation(("FLAIR", "T1"), "FLAIR", optional=optional)


def test_a_bias_field_is_corrected_as_the_bundle_says_and_a_mismatch_is_said():
    case = head_case(GRIDS["RAS"])
    asked = segment_case(case, bright_bundle(), bias_correction=True, device="cpu")
    assert any("trained without" in note for note in asked.notes)
    trained = bright_bundle(preparation=Preparation(("FLAIR", "T1"), "FLAIR", bias_correction=True))
    notes = segment_case(case, trained, device="cpu").notes
    assert any("(N4)" in note for note in notes) and not any("trained" in note for note in notes)
    declined = segment_case(case, trained, bias_correction=False, device="cpu")
    assert any("trained with a correction" in note for note in declined.notes)
    assert segment_case(case, bright_bundle(), device="cpu").notes == ()


def test_a_channel_that_lies_elsewhere_is_said_with_its_distance(phantom_case):
    result = segment_case(phantom_case, bright_bundle(), device="cpu")
    (note,) = result.notes
    assert "T1 seems to lie 9 mm away" in note and "--register" in note
    assert result.transforms == {}


def test_registration_on_request_brings_the_channel_back_and_leaves_the_case_as_it_was(phantom_case):
    result = segment_case(phantom_case, bright_bundle(), register=True, device="cpu")
    assert result.case.channels["T1"] is phantom_case.channels["T1"]
    assert np.allclose(result.transforms["T1"][:3, 3], (-9, 0, 0), atol=1.0)
    assert any("T1 was registered to FLAIR: moved by" in note for note in result.notes)


def test_everything_new_crosses_the_worker(phantom_case, tmp_path):
    folder = ExchangeFolder(tmp_path)
    brain = brain_around(phantom_case.grid, (0.0, 0.0, 0.0), 40.0)
    flair = replace(phantom_case.channels["FLAIR"], frame_of_reference="1.2.3")
    case = replace(phantom_case, brain=brain, channels={**phantom_case.channels, "FLAIR": flair})
    sent = unpack_case(json.loads(json.dumps(pack_case(case, folder))), folder)
    assert np.array_equal(sent.brain.array, brain.array) and sent.channels["FLAIR"].frame_of_reference == "1.2.3"
    result = segment_case(sent, bright_bundle(), register=True, device="cpu")
    back = unpack_result(json.loads(json.dumps(pack_result(result, folder))), folder, phantom_case)
    assert np.array_equal(back.transforms["T1"], result.transforms["T1"]) and back.notes == result.notes
    assert np.array_equal(back.case.brain.array, brain.array)
    assert back.case.channels is phantom_case.channels


def test_notes_stand_in_the_table_file(phantom_case, tmp_path):
    write_lesion_table(segment_case(phantom_case, bright_bundle(), device="cpu"), tmp_path)
    assert "9 mm away" in json.loads((tmp_path / "lesions.json").read_text())["notes"][0]


@pytest.mark.parametrize("more", [{}, {"optional": ("T1",), "bias_correction": True}])
def test_a_bundle_remembers_what_it_can_do_without_and_how_it_was_trained(tmp_path, more):
    """One that does neither is written as before, for versions that know of neither."""
    torch.manual_seed(0)
    preparation = Preparation(("FLAIR", "T1"), "FLAIR", (1.0, 1.0, 1.0), **more)
    write_bundle(tmp_path / "b", build_network(SEGMENTATION), SEGMENTATION, "segmentation", preparation)
    assert read_bundle(tmp_path / "b").preparation == preparation
    written = json.loads((tmp_path / "b" / "configs" / "xtl.json").read_text())["preparation"]
    assert set(written) == {"channels", "reference", "spacing_mm", *more}


def test_monais_workflow_leaves_a_missing_optional_channel_out(tmp_path):
    case = head_case(GRIDS["RAS"])
    write_volume(case.channels["FLAIR"], tmp_path / "FLAIR.nii")
    volumes = {name: str(tmp_path / f"{name}.nii") for name in ("FLAIR", "T1")}
    item = PrepareCase(optional_bundle().preparation)({"volumes": volumes})
    assert (item["prepared"].image[1] == 0).all() and "Without T1" in item["prepared"].notes[0]
    with pytest.raises(InputError, match=r"T1\.nii does not exist"):
        PrepareCase(bright_bundle().preparation)({"volumes": volumes})
