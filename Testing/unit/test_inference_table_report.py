"""What a result leaves for people and programs: table and page."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from XTLLib.data.case import Case, Finding
from XTLLib.data.geometry import Grid
from XTLLib.data.volume import Volume
from XTLLib.inference.classify import rated_case
from XTLLib.inference.lesions import find_lesions
from XTLLib.inference.report import write_report
from XTLLib.inference.report_lesions import slices_to_show
from XTLLib.inference.results import SegmentationResult
from XTLLib.inference.table import write_lesion_table


def _result(lesions: bool = True) -> SegmentationResult:
    affine = np.diag([-1.0, -1.0, 3.0, 1.0])
    affine[:3, 3] = (30.0, 40.0, -20.0)
    grid = Grid((16, 80, 60), affine)
    image = np.zeros(grid.shape, np.float32)
    image[2:14, 10:70, 8:52] = np.random.default_rng(0).normal(100, 10, (12, 60, 44))
    probability = np.zeros(grid.shape, np.float32)
    if lesions:
        probability[5, 20:24, 30:36] = 0.75
        probability[9, 40:42, 20:22] = 0.625
    volume = Volume(probability, grid)
    label, found = find_lesions(volume, 0.5, 1.0)
    return SegmentationResult(
        volume, label, found, 0.5, Case("p", {"FLAIR": Volume(image, grid)}, "FLAIR"), "tiny", 1.0
    )


def _rated():
    result = _result()
    findings = (Finding("left apex", (0.0, 0.0, 0.0), "PZ"), Finding("2", (10.0, 5.0, 6.0)))
    case = Case(
        "p", {"T2W": result.case.channels["FLAIR"], "ADC": result.case.channels["FLAIR"]}, "T2W", None, findings
    )
    return rated_case(case, np.array([0.25, 0.875]), "rater")


def test_the_tsv_names_units_and_the_json_says_the_same(tmp_path):
    result = _result()
    tsv, as_json = write_lesion_table(result, tmp_path)
    with open(tsv, newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert list(rows[0]) == [
        "id", "R_mm", "A_mm", "S_mm", "volume_mm3", "longest_diameter_mm", "mean_probability", "maximum_probability",
    ]  # fmt: skip
    assert [row["id"] for row in rows] == ["1", "2"]
    # 4 x 6 voxels of 1 x 1 x 3 mm, columns 30..35 of x = 30 - i, rows 20..23 of y = 40 - j, slice 5 of z = 3 k - 20
    assert {name: float(rows[0][name]) for name in ("R_mm", "A_mm", "S_mm", "volume_mm3")} == {
        "R_mm": -2.5, "A_mm": 18.5, "S_mm": -5.0, "volume_mm3": 72.0,
    }  # fmt: skip
    assert float(rows[0]["longest_diameter_mm"]) == pytest.approx(np.sqrt(36 + 16 + 9), abs=0.005)
    document = json.loads(as_json.read_text())
    assert document["threshold"] == 0.5 and document["bundle"] == "tiny" and document["connectivity"] == 26
    assert "not a medical device" in document["note"]
    assert {column["name"]: column["unit"] for column in document["columns"]}["volume"] == "mm3"
    assert document["rows"][0]["R"] == -2.5 and document["rows"][0]["mean_probability"] == 0.75


def test_an_empty_table_has_its_header(tmp_path):
    tsv, as_json = write_lesion_table(_result(lesions=False), tmp_path)
    assert tsv.read_text().splitlines()[0].startswith("id\tR_mm") and len(tsv.read_text().splitlines()) == 1
    assert json.loads(as_json.read_text())["rows"] == []


def test_findings_keep_their_names_zones_and_order(tmp_path):
    tsv, as_json = write_lesion_table(_rated(), tmp_path)
    lines = [line.split("\t") for line in tsv.read_text().splitlines()]
    assert lines[0] == ["id", "finding", "zone", "R_mm", "A_mm", "S_mm", "probability", "warnings"]
    assert lines[1] == ["1", "left apex", "PZ", "0.00", "0.00", "0.00", "0.2500", ""]
    assert lines[2][1:3] == ["2", ""]
    assert json.loads(as_json.read_text())["rows"][1]["probability"] == 0.875


def test_what_a_calibration_and_an_ensemble_add_has_columns_of_its_own(tmp_path):
    plain = _rated()
    facts = {"interval": (0.125, 0.5), "threshold": 0.2, "is_significant": True, "ppv": 0.375, "npv": None}
    first = replace(plain.findings[0], **facts, warnings=("zone unknown", "without ADC"))
    result = replace(
        plain, findings=(first, plain.findings[1]), operating_point="Youden", notes=("the mean of 5 networks",)
    )
    tsv, as_json = write_lesion_table(result, tmp_path, patient="p7")
    with open(tsv, newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert list(rows[0]) == [
        "id", "patient", "finding", "zone", "R_mm", "A_mm", "S_mm", "probability", "probability_low",
        "probability_high", "threshold", "class", "ppv", "npv", "warnings",
    ]  # fmt: skip
    assert [rows[0][name] for name in ("patient", "probability_low", "probability_high")] == ["p7", "0.1250", "0.5000"]
    assert [rows[0][name] for name in ("class", "ppv", "npv")] == ["significant", "0.38", ""]
    assert rows[0]["warnings"] == "zone unknown; without ADC"
    assert [rows[1][name] for name in ("probability_low", "threshold", "class", "ppv", "warnings")] == [""] * 5
    document = json.loads(as_json.read_text())
    assert document["operating_point"] == "Youden" and document["notes"] == ["the mean of 5 networks"]
    assert document["rows"][0]["probability_high"] == 0.5 and document["rows"][1]["threshold"] is None
    meanings = {column["name"]: column["description"] for column in document["columns"]}
    assert "no bound of a confidence interval" in meanings["probability_low"]
    assert "in the data of calibration" in meanings["ppv"]


def test_bare_rows_are_written_too(tmp_path):
    write_lesion_table(_result().lesions, tmp_path)
    write_lesion_table((), tmp_path)
    assert json.loads((tmp_path / "lesions.json").read_text())["rows"] == []


@pytest.mark.parametrize("result", [_result(), _result(lesions=False), _rated()], ids=["lesions", "none", "findings"])
def test_the_page_is_a_picture_with_something_on_it(result, tmp_path):
    from matplotlib.image import imread

    page = imread(write_report(result, tmp_path / "report.png"))
    height, width, _ = page.shape
    assert width > 1500 and 0.5 < height / width < 0.7
    assert page[..., :3].std() > 0.1
    marked = (np.abs(page[..., :3] - np.array([255, 176, 0]) / 255) < 0.02).all(axis=-1)
    has_marks = not (isinstance(result, SegmentationResult) and not result.lesions)
    assert marked.any() == has_marks


def test_a_picture_keeps_the_proportions_of_the_patient():
    from matplotlib.figure import Figure
    from XTLLib.inference.report_lesions import draw_lesions

    affine = np.array([[0, 0, 3.0, 0], [1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 0, 1]])  # sagittal slices of 3 mm
    grid = Grid((20, 60, 60), affine)
    volume = Volume(np.zeros(grid.shape, np.float32), grid)
    label, found = find_lesions(volume, 0.5)
    image = Volume(np.full(grid.shape, 100.0, np.float32), grid)
    figure = Figure()
    draw_lesions(figure, SegmentationResult(volume, label, found, 0.5, Case("p", {"FLAIR": image}, "FLAIR"), "b"))
    picture = figure.axes[0]
    assert picture.images[0].get_array().shape == (60, 20)  # rows A to P, columns R to L
    assert picture.get_aspect() == pytest.approx(1 / 3)


def test_slices_go_through_the_largest_lesions_without_repeating():
    label = np.zeros((20, 6, 6), int)
    label[3, 1:5, 1:5] = 1
    label[3, 0, 0] = 2  # the slice of lesion 1 shows it
    label[10:13, 2, 2] = 3
    label[11, 3, 2] = 3
    assert slices_to_show(label, 2) == [3, 11]
    spread = slices_to_show(label, 4)
    assert len(spread) == 4 and {3, 11} <= set(spread)
    assert slices_to_show(np.zeros((2, 4, 4), int), 6) == [0, 1]


@pytest.mark.real
def test_the_page_of_a_real_brain(real_data, tmp_path):
    from XTLLib.data.images import read_mask, read_volume

    folder = real_data / "ms/open_ms_data/cross_sectional/MNI/patient07"
    flair, gold = (read_volume(next(folder.glob("FLAIR*"))), read_mask(next(folder.glob("GOLD*"))))
    probability = Volume(gold.array.astype(np.float32), gold.grid, "gold standard")
    label, lesions = find_lesions(probability, 0.5)
    assert len(lesions) == 37  # as the data set's description counts them, 26-connected
    assert sum(lesion.volume_mm3 for lesion in lesions) == pytest.approx(1300, abs=5)
    case = Case("patient07", {"FLAIR": flair}, "FLAIR")
    path = write_report(SegmentationResult(probability, label, lesions, 0.5, case, "gold standard"), tmp_path / "r.png")
    assert path.stat().st_size > 100_000
