"""A datalist through a bundle: a folder a case, resume, failures that stop nothing, and a summary."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bright_voxels import GRIDS, bright_bundle, head_case
from XTLLib.data.datalist import Datalist, Entry
from XTLLib.data.images import write_volume
from XTLLib.data.prepare import Preparation
from XTLLib.data.volume import Volume
from XTLLib.errors import Cancelled, InputError, MissingPackageError
from XTLLib.files import atomic_folder
from XTLLib.inference.batch import segment_cases
from XTLLib.metrics.overlap import dice
from XTLLib.progress import Progress


def write_label(result, folder: Path) -> None:
    with atomic_folder(folder) as draft:
        np.save(draft / "label.npy", result.label.array)


@pytest.fixture
def cases(tmp_path) -> Datalist:
    """Four cases: ``a`` with a mask of its first lesion, ``b/1``, ``broken`` with a text for T1, ``d``."""
    entries = []
    for name in ("a", "b/1", "broken", "d"):
        case = head_case(GRIDS["RAS"])
        folder = tmp_path / "images" / name.replace("/", "-")
        folder.mkdir(parents=True)
        images = {channel: str(folder / f"{channel}.nii") for channel in ("FLAIR", "T1")}
        for channel, path in images.items():
            write_volume(case.channels[channel], path)
        label = None
        if name == "a":
            label = str(folder / "mask.nii")
            points = case.grid.index_to_ras(np.moveaxis(np.indices(case.grid.shape)[::-1], 0, -1))
            mask = np.linalg.norm(points - (9.0, -8.0, 6.0), axis=-1) <= 6.0
            write_volume(Volume(mask, case.grid), label)
        entries.append(Entry(f"patient {name}", name, images, label))
    Path(entries[2].images["T1"]).write_text("no image")
    return Datalist(
        "four", "csv", "segmentation", ("FLAIR", "T1"), "FLAIR", {"0": "background", "1": "lesion"},
        training=entries[:1], test=entries[1:],
    )  # fmt: skip


def run(cases: Datalist, out: Path, write=write_label, **options):
    return segment_cases(cases, bright_bundle(), out, write, device="cpu", **options)


def test_every_case_gets_its_folder_and_its_row_and_a_broken_one_stops_nothing(cases, tmp_path):
    events = []
    batch = run(cases, tmp_path / "out", progress=Progress(events.append))
    assert [row.case for row in batch.rows] == ["a", "b/1", "broken", "d"]
    (failed,) = batch.failed
    assert failed.case == "broken" and "T1.nii is truncated" in failed.error and failed.lesions is None
    folders = sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir())
    assert folders == ["a", "b_1", "d"]
    first = batch.rows[0]
    assert first.lesions == 2 and first.seconds > 0 and batch.rows[1].dice is None
    label = np.load(tmp_path / "out" / "a" / "label.npy")
    points = GRIDS["RAS"].index_to_ras(np.moveaxis(np.indices(GRIDS["RAS"].shape)[::-1], 0, -1))
    truth = np.linalg.norm(points - (9.0, -8.0, 6.0), axis=-1) <= 6.0
    assert first.dice == pytest.approx(dice(label > 0, truth), abs=1e-6) and 0.5 < first.dice < 1
    assert first.volume_mm3 == pytest.approx((label > 0).sum())
    fractions = [event.fraction for event in events]
    assert fractions == sorted(fractions) and fractions[-1] == 1
    assert any(event.stage.startswith("Case d (4 of 4): ") for event in events)
    assert events[-2].eta_s is not None


def test_the_summary_is_a_table_and_json_with_units(cases, tmp_path):
    batch = run(cases, tmp_path / "out")
    with open(tmp_path / "out" / "summary.tsv", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert [row["case"] for row in rows] == ["a", "b/1", "broken", "d"]
    assert float(rows[0]["volume_mm3"]) == pytest.approx(batch.rows[0].volume_mm3, abs=0.01)
    assert rows[1]["dice"] == "" and rows[2]["lesions"] == "" and "is truncated" in rows[2]["error"]
    document = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert document["bundle"] == "bright voxels" and "not a medical device" in document["note"]
    assert document["rows"][1]["dice"] is None


def test_resume_passes_over_what_is_finished_and_does_again_what_failed_or_changed(cases, tmp_path):
    out, done = tmp_path / "out", []

    def write(result, folder):
        done.append(folder.name)
        write_label(result, folder)

    run(cases, out, write)
    assert done == ["a", "b_1", "d"]
    with pytest.raises(InputError, match="not empty"):
        run(cases, out, write)
    done.clear()
    mended = head_case(GRIDS["RAS"]).channels["T1"]
    write_volume(mended, cases.entries[2].images["T1"])
    write_volume(mended, cases.entries[3].images["T1"])
    batch = run(cases, out, write, resume=True)
    assert done == ["broken", "d"] and not batch.failed and [row.lesions for row in batch.rows] == [2, 2, 2, 2]
    done.clear()
    again = run(cases, out, write, resume=True)
    assert done == [] and again.rows == batch.rows
    with pytest.raises(InputError, match="another bundle or with other options"):
        run(cases, out, write, resume=True, threshold=0.7)


def test_a_cancel_keeps_what_is_finished(cases, tmp_path):
    stages = []
    progress = Progress(lambda event: stages.append(event.stage), lambda: any("Case b/1" in stage for stage in stages))
    with pytest.raises(Cancelled):
        run(cases, tmp_path / "out", progress=progress)
    batch = run(cases, tmp_path / "out", resume=True)
    assert batch.rows[0].lesions == 2 and (tmp_path / "out" / "a" / "label.npy").is_file()


def test_an_unexpected_error_is_one_cases_and_a_missing_package_everybodys(cases, tmp_path):
    def fails(result, folder):
        raise ZeroDivisionError("of\nall things")

    batch = run(cases, tmp_path / "out", fails)
    assert batch.failed[0].error == "unexpected ZeroDivisionError: of all things"
    assert len(batch.failed) == 4

    def lacks(result, folder):
        raise MissingPackageError("no slicer-core", "Install it")

    with pytest.raises(MissingPackageError):
        run(cases, tmp_path / "other", lacks)


def test_a_channel_that_no_case_has_is_told_before_anything_runs_unless_it_is_optional(cases, tmp_path):
    flair = replace(cases, channels=("FLAIR",))
    with pytest.raises(InputError, match="has no channel T1, which the bundle bright voxels needs"):
        run(flair, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    bundle = bright_bundle(preparation=Preparation(("FLAIR", "T1"), "FLAIR", optional=("T1",)))
    batch = segment_cases(flair, bundle, tmp_path / "out", write_label, device="cpu")
    assert not batch.failed and "Without T1" in batch.rows[0].notes


def test_names_that_differ_in_signs_or_in_case_alone_get_folders_of_their_own(cases, tmp_path):
    names = ("x/1", "x_1", "X_1", "..")
    entries = [replace(cases.entries[1], case=name, patient=name) for name in names]
    batch = run(replace(cases, training=(), test=entries), tmp_path / "out")
    assert [row.folder for row in batch.rows] == ["x_1", "x_1-2", "X_1-3", "case"]


@pytest.mark.parametrize("content", ["{", "[]", '{"bundle": 1}'])
def test_a_folder_that_is_no_batch_cannot_be_continued(cases, tmp_path, content):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "summary.json").write_text(content)
    with pytest.raises(InputError, match=r"summary\.json is missing or broken"):
        run(cases, tmp_path / "out", resume=True)
