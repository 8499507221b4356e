"""Adaptation to cases that cannot be used, in places that cannot be used, and adaptations that are cancelled."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from corrected_cases import GRID, LESIONS, adapt, case, prepared, require_nothing
from toy_bundles import CLASSIFICATION, write_toy_bundle
from XTLLib.bundle.load import load_bundle
from XTLLib.bundle.verify import verify_bundle
from XTLLib.data.case import Case
from XTLLib.data.geometry import Grid
from XTLLib.data.volume import Volume, resample
from XTLLib.errors import Cancelled, InputError
from XTLLib.progress import Progress


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return load_bundle(write_toy_bundle(tmp_path_factory.mktemp("toy") / "bundle"))


def test_lesions_in_one_place_need_a_second_case_or_force(bundle, tmp_path):
    with pytest.raises(InputError, match="nothing can be held out"):
        adapt(bundle, [case(LESIONS[:1])], tmp_path / "out", force=False)
    require_nothing(tmp_path / "out")
    result = adapt(bundle, [case(LESIONS[:1])], tmp_path / "out")
    assert result.before is None and result.after is None and not result.refused
    assert "held-out Dice" not in result.record.metrics
    assert verify_bundle(result.bundle).agrees


def with_mask(mask: Volume | None) -> Case:
    return replace(case(), mask=mask)


SHIFTED = Grid(GRID.shape, np.array([[-1, 0, 0, 500.0], [0, -1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))


@pytest.mark.parametrize(
    ("corrected", "words"),
    [
        (with_mask(Volume(np.zeros(GRID.shape, bool), GRID, "empty.nii")), "no corrected lesion.*empty.nii"),
        (with_mask(Volume(np.ones(GRID.shape, bool), GRID, "full.nii")), "full.nii marks 100% of the head"),
        (with_mask(replace(case().mask, grid=SHIFTED)), "only 0% of what corrected.nii marks lies in FLAIR"),
        (with_mask(None), "has no mask"),
        (replace(case(), channels={"FLAIR": case().channels["FLAIR"]}), "T1 is missing"),
    ],
)
def test_bad_cases_are_named(bundle, tmp_path, corrected, words):
    with pytest.raises(InputError, match=words):
        adapt(bundle, [corrected], tmp_path / "out")
    require_nothing(tmp_path / "out")


def test_a_mask_on_another_grid_is_brought_over_in_patient_space():
    ordinary = case()
    fine = Grid((48, 48, 64), GRID.with_spacing((0.5, 0.5, 0.5)).ijk_to_ras)
    turned = fine.along_lps()
    moved = resample(replace(ordinary.mask, array=ordinary.mask.array.astype(np.uint8)), turned, "nearest")
    (corrected,) = prepared(replace(ordinary, mask=Volume(moved.array > 0, turned, "fine.nii")))
    assert np.array_equal(corrected.mask, prepared(ordinary)[0].mask)


def test_a_mask_of_a_part_of_the_image_says_that_the_rest_has_no_lesion():
    ordinary = case()
    box = (slice(2, 22), slice(3, 22), slice(3, 30))
    cropped = Volume(ordinary.mask.array[box], GRID.crop(box), "cropped.nii")
    (corrected,) = prepared(replace(ordinary, mask=cropped))
    assert np.array_equal(corrected.mask, prepared(ordinary)[0].mask)


def test_no_case_another_task_and_a_place_in_use_are_refused(bundle, tmp_path):
    with pytest.raises(InputError, match="no corrected case"):
        adapt(bundle, [], tmp_path / "out")
    rating = write_toy_bundle(tmp_path / "rating", CLASSIFICATION)
    with pytest.raises(InputError, match="for classification"):
        adapt(rating, [case()], tmp_path / "out")
    require_nothing(tmp_path / "out")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "years.txt").write_text("of work")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="did not write"):
            adapt(bundle, [case()], tmp_path / "thesis", overwrite=overwrite)
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["years.txt"]


def test_a_bundle_whose_weights_are_not_those_of_its_record_is_refused(tmp_path):
    path = write_toy_bundle(tmp_path / "bundle")
    chain = path / "configs" / "chain.json"
    record = json.loads(chain.read_text())
    record["stages"][-1]["weights_out"] = "0" * 64
    chain.write_text(json.dumps(record))
    with pytest.raises(InputError, match="other weights than its record"):
        adapt(path, [case()], tmp_path / "out")


def test_a_cancel_at_any_report_leaves_nothing(bundle, tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    stages: list[str] = []
    adapt(bundle, [case()], tmp_path / "whole", progress=Progress(lambda event: stages.append(event.stage)))
    assert {"Preparing the corrected cases", "Adapting", "Writing the bundle", "Adapted"} <= set(stages)
    last = {stage: number for number, stage in enumerate(stages)}
    for stage, number in last.items():
        asked = iter(range(len(stages) + 1))
        progress = Progress(lambda event: None, lambda asked=asked, number=number: next(asked) >= number)
        out = tmp_path / f"cancelled-{number}"
        if stage == "Adapted":  # too late
            assert adapt(bundle, [case()], out, progress=progress).bundle == out
            continue
        with pytest.raises(Cancelled):
            adapt(bundle, [case()], out, progress=progress)
        require_nothing(out)
    assert not list((tmp_path / "temporary").glob("xtl-adapt-*"))
