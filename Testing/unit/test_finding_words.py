"""What both reports say of rated findings in sentences, and that the picture can be drawn with all of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from XTLLib.data.volume import Volume
from XTLLib.inference.classify import rated_case
from XTLLib.inference.finding_words import words_on_findings
from XTLLib.inference.report import write_report
from XTLLib.inference.report_page import report_page
from XTLLib.scene.self_test import small_prostate

ALIKE = "not calibrated: ranks findings, and is no probability to rely on"


@pytest.fixture
def result():
    """Two findings with all that a rating can have; a warning of both and one of the second."""
    rated = rated_case(small_prostate(), np.array([0.2, 0.7]), "m")
    further = {"threshold": 0.31, "ppv": 0.45, "npv": 0.93}
    findings = (
        replace(rated.findings[0], interval=(0.1, 0.3), is_significant=False, warnings=(ALIKE,), **further),
        replace(
            rated.findings[1], interval=(0.6, 0.8), is_significant=True, warnings=(ALIKE, "<12 % outside"), **further
        ),
    )
    label = rated.label
    heat = {2: {"occlusion": Volume(np.where(label.array == 2, -0.5, 0).astype(np.float32), label.grid)}}
    return replace(rated, findings=findings, evidence=heat, operating_point="Youden", notes=("a note",))


def test_the_class_is_explained_and_a_warning_of_all_is_said_once(result):
    words = list(words_on_findings(result))
    assert words[0] == "Significant from 0.310 on (Youden)"
    assert "no confidence interval" in words[1]
    assert "each finding has a scale of its own" in words[2]
    assert words[3:] == ["a note", f"all findings: {ALIKE}", "finding 2: <12 % outside"]


def test_a_plain_rating_needs_no_words():
    assert list(words_on_findings(rated_case(small_prostate(), np.array([0.2, 0.7]), "m"))) == []


def test_the_page_says_them_below_a_table_that_fits(result):
    page = report_page(result)
    assert "finding 2: &lt;12 % outside" in page
    assert page.count(ALIKE) == 1
    assert "Research software, not a medical device" in page
    heads = page.split("<thead>")[1].split("</thead>")[0]
    assert "class" in heads
    assert "warnings" not in heads
    assert "ppv" not in heads


def test_the_picture_shows_evidence_where_there_is_some_in_a_colour(result, tmp_path):
    from matplotlib.image import imread

    def blue_pixels(path) -> int:
        red, green, blue = np.moveaxis(imread(path)[..., :3], -1, 0)
        return int(((blue > red + 0.15) & (blue > green)).sum())

    plain = write_report(replace(result, evidence={}), tmp_path / "plain.png")
    assert blue_pixels(plain) == 0
    assert blue_pixels(write_report(result, tmp_path / "evidence.png")) > 100
