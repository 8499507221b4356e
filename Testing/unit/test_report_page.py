"""The HTML page: whole in itself, discreet, and with pictures that show what is where."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from scene_cases import GRIDS, LESION, ball, grid, rotation, segmentation_result
from XTLLib.data.case import Case, Finding
from XTLLib.data.geometry import Grid
from XTLLib.data.volume import Volume
from XTLLib.inference.classify import rated_case
from XTLLib.inference.report_page import PICTURED, report_page, write_report_page
from XTLLib.inference.report_pictures import Illustrator

ORANGE, BLUE = (255, 176, 0), (86, 180, 233)
_EMPTY = {"meta", "img", "br"}


class Page(HTMLParser):
    """Tags, texts, pictures and addresses of a page; fails for tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.images, self.addresses, self.words, self.open = [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in _EMPTY:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "action", "srcset", "background"):
                self.addresses.append(value)
            if name == "src":
                self.images.append(value)
            assert not name.startswith("on")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def pixels_of(uri_or_png: str | bytes) -> np.ndarray:
    """(rows, columns, 3) uint8, as another library reads the PNG."""
    from PIL import Image

    if isinstance(uri_or_png, str):
        head, data = uri_or_png.split(",")
        assert head == "data:image/png;base64"
        uri_or_png = base64.b64decode(data, validate=True)
    return np.asarray(Image.open(io.BytesIO(uri_or_png)).convert("RGB"))


def has(pixels: np.ndarray, color) -> np.ndarray:
    return (pixels == np.array(color, np.uint8)).all(axis=-1)


def findings_result():
    on = GRIDS["oblique"]
    findings = (Finding("left <apex>", LESION, "PZ"), Finding("2", (4.0, -2.0, 14.0)))
    return rated_case(
        Case("SECRET", {"T2W": Volume(90 * ball(on), on)}, "T2W", None, findings), np.array([0.25, 0.8]), "m"
    )


def test_the_page_is_whole_in_itself_and_names_nobody(tmp_path):
    on = GRIDS["oblique"]
    case = Case("SECRET", {"FLAIR": Volume(90 * ball(on), on, "/home/SECRET/flair.nii")}, "FLAIR")
    result = replace(segmentation_result(on, case=case), notes=("the T1 was <missing> & is not needed",))
    path = write_report_page(result, tmp_path / "report.html", chain="ImageNet -> MIAS -> MS")
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert "SECRET" not in text and "http:" not in text and "https:" not in text and "url(" not in text
    assert not {"script", "link", "iframe", "object", "form"} & set(page.tags)
    assert page.addresses == page.images and all(one.startswith("data:image/png;base64,") for one in page.addresses)
    assert len(page.images) == 3 + 3
    assert "Research software, not a medical device" in page.text
    assert "ImageNet -> MIAS -> MS" in page.text and "a bundle" in page.text
    assert "the T1 was <missing> & is not needed" in page.text
    assert "1 lesion " in page.text and "probability ≥ 0.5" in page.text
    volume = result.lesions[0].volume_mm3
    assert f"{volume:.1f}" in page.text and f"{volume / 1000:.2f} ml in total" in page.text
    assert "Müller <7>" in Page(report_page(result, patient="Müller <7>")).text
    assert write_report_page(result, tmp_path / "again.html", chain="ImageNet -> MIAS -> MS").read_text() == text


def test_columns_that_only_some_results_have_are_there_then():
    on = GRIDS["LPS"]
    plain = segmentation_result(on)
    assert "location" not in Page(report_page(plain)).text
    lesions = tuple(replace(lesion, location="juxtacortical", uncertainty=0.123) for lesion in plain.lesions)
    full = replace(plain, lesions=lesions, location_rule="near is near", uncertainty=plain.probability)
    text = Page(report_page(full)).text
    assert "1 juxtacortical" in text and "near is near" in text and "0.12 juxtacortical" in text


def test_findings_come_by_probability():
    page = Page(report_page(findings_result()))
    assert len(page.images) == 3 + 6 and "left <apex>" in page.text and "SECRET" not in page.text
    assert page.text.index("0.80") < page.text.index("left <apex>")


def test_no_lesion_is_said():
    on = GRIDS["LAS"]
    page = Page(report_page(segmentation_result(on, np.zeros(on.shape, np.float32))))
    assert "0 lesions" in page.text and "No voxel group" in page.text and len(page.images) == 3


def test_the_smallest_of_many_stand_in_a_table_without_pictures():
    on = grid(np.diag([-1, -1, 1]), (1, 1, 1), (24, 50, 50))
    probability = np.zeros(on.shape, np.float32)
    for n in range(PICTURED + 6):
        k, j, i = 2 + 5 * (n % 4), 3 + 6 * (n // 4 % 7), 3 + 12 * (n // 28)
        probability[k : k + 2, j : j + 2, i : i + 3] = 0.9
    result = segmentation_result(on, probability)
    assert len(result.lesions) == PICTURED + 6
    page = Page(report_page(result))
    assert len(page.images) == 3 + 3 * PICTURED and "The 6 others" in page.text
    assert all(f" {n} " in f" {page.text} " for n in range(1, PICTURED + 7))


@pytest.mark.parametrize("name", GRIDS)
def test_the_outline_lies_round_the_lesion_in_the_right_size(name):
    on = GRIDS[name]
    result = segmentation_result(on)
    pictures = Illustrator(result.case.channels["FLAIR"], result.label).lesion(1)
    assert [picture.plane for picture in pictures] == ["axial", "coronal", "sagittal"]
    for picture in pictures:
        pixels = pixels_of(picture.png)
        rows, columns = np.nonzero(has(pixels, ORANGE))
        mm = picture.field_mm / pixels.shape[0]
        for places in (rows, columns):
            assert (np.ptp(places) + 1 - 4) * mm == pytest.approx(13.0, abs=2.6)  # the ball's diameter, up to a voxel
            assert (places.mean() + 0.5) * mm == pytest.approx(picture.field_mm / 2, abs=1.3)
        assert not has(pixels, BLUE).any()


def ramp(on: Grid, direction) -> np.ndarray:
    k, j, i = np.indices(on.shape)
    along = on.index_to_ras(np.stack([i, j, k], axis=-1)) @ np.asarray(direction, float)
    return (along - along.min() + 1).astype(np.float32)


@pytest.mark.parametrize("name", ["RAS", "left-handed oblique", "sagittal"])
@pytest.mark.parametrize("letter", "RAS")
def test_the_letters_stand_where_the_patient_has_these_sides(name, letter):
    """The image grows brighter towards one side of the patient: that is where its letter has to stand."""
    on = GRIDS[name]
    result = segmentation_result(on)
    image = Volume(ramp(on, np.eye(3)["RAS".index(letter)]), on)
    seen = 0
    for picture in Illustrator(image, result.label).overview(1):
        grey = pixels_of(picture.png).astype(float).mean(axis=-1)
        inside = grey > 0
        half = grey.shape[0] // 2
        if picture.left == letter:
            assert grey[:, :half][inside[:, :half]].mean() > 1.2 * grey[:, half:][inside[:, half:]].mean()
            seen += 1
        if picture.top == letter:
            assert grey[:half][inside[:half]].mean() > 1.2 * grey[half:][inside[half:]].mean()
            seen += 1
    assert seen == 2


def test_another_lesion_is_blue_and_a_pixel_is_as_wide_as_high():
    on = grid(rotation(0, 0, 0) @ np.diag([-1, -1, 1]), (0.8, 0.8, 4.0), (12, 60, 60))
    probability = np.zeros(on.shape, np.float32)
    probability[4:7, 20:30, 20:30] = 0.9  # 8 x 8 x 12 mm
    probability[5:6, 20:24, 36:40] = 0.9
    result = segmentation_result(on, probability)
    axial, coronal, _ = (pixels_of(p.png) for p in Illustrator(result.case.channels["FLAIR"], result.label).lesion(1))
    assert has(axial, BLUE).any()
    for pixels, (height, width) in ((axial, (8, 8)), (coronal, (12, 8))):
        rows, columns = np.nonzero(has(pixels, ORANGE))
        mm = 40 / pixels.shape[0]
        assert (np.ptp(rows) + 1 - 4) * mm == pytest.approx(height, abs=0.6)
        assert (np.ptp(columns) + 1 - 4) * mm == pytest.approx(width, abs=0.6)


def test_a_large_lesion_fits_into_its_pictures():
    on = grid(rotation(10, 0, 20), (1, 1, 1), (90, 90, 90))
    result = segmentation_result(on, ball(on, radius_mm=30))
    for picture in Illustrator(result.case.channels["FLAIR"], result.label).lesion(1):
        edge = has(pixels_of(picture.png), ORANGE)
        assert picture.field_mm > 62 and not (edge[0] | edge[-1] | edge[:, 0] | edge[:, -1]).any()
