"""Mammograms: reading films, finding the chest wall, cropping to the breast."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine_speed import cpu_seconds, slowness
from XTLLib.data.datalist import Entry
from XTLLib.data.layouts import read_layout
from XTLLib.data.mammogram import (
    circles_in_prepared,
    find_chest_wall,
    mask_in_prepared,
    positions_in_prepared,
    prepare_mammogram,
    read_mammogram,
)
from XTLLib.data.mammogram_entries import KEPT_SIDE, keeps_side, lesion_mask, load_mammogram
from XTLLib.data.tables import read_table
from XTLLib.errors import InputError


def film(height: int = 400, width: int = 300, largest: float = 255) -> np.ndarray:
    """A half ellipse of tissue on the left edge, a burned-in marker at the upper right."""
    y, x = np.mgrid[:height, :width]
    depth = 1 - ((y - 0.5 * height) / (0.4 * height)) ** 2 - (x / (0.6 * width)) ** 2
    texture = np.random.default_rng(0).normal(0, 0.02, (height, width))
    image = np.where(depth > 0, 0.35 + 0.4 * np.sqrt(np.clip(depth, 0, None)) + texture, 0.02)
    image[20:50, width - 60 : width - 20] = 1
    return (image * largest).astype(np.float32)


def save(path, image: np.ndarray, kind=np.uint8) -> None:
    import SimpleITK

    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(image.astype(kind)), str(path))


@pytest.mark.parametrize(
    ("ending", "kind"), [("png", np.uint8), ("png", np.uint16), ("tif", np.uint8), ("tif", np.uint16)]
)
def test_8_and_16_bit_files_are_read(tmp_path, ending, kind):
    image = film(largest=np.iinfo(kind).max)
    save(tmp_path / f"film.{ending}", image, kind)
    read = read_mammogram(tmp_path / f"film.{ending}")
    assert read.dtype == np.float32
    assert np.array_equal(read, image.astype(kind).astype(np.float32))


@pytest.mark.parametrize(("largest", "kind"), [(255, "u1"), (4095, ">u2")])
def test_portable_grey_maps_are_read(tmp_path, largest, kind):
    image = film(60, 40, largest).astype(kind)
    header = f"P5\n# a comment\n40 60\n{largest}\n".encode()
    (tmp_path / "film.pgm").write_bytes(header + image.tobytes())
    assert np.array_equal(read_mammogram(tmp_path / "film.pgm"), image.astype(np.float32))
    (tmp_path / "film.pgm").write_bytes(header + image.tobytes()[:-9])
    with pytest.raises(InputError, match=r"film\.pgm is truncated"):
        read_mammogram(tmp_path / "film.pgm")


def test_a_colour_file_gives_grey(tmp_path):
    import SimpleITK

    image = film().astype(np.uint8)
    colour = SimpleITK.GetImageFromArray(np.repeat(image[..., None], 3, axis=2), isVector=True)
    SimpleITK.WriteImage(colour, str(tmp_path / "film.png"))
    assert np.allclose(read_mammogram(tmp_path / "film.png"), image, atol=1e-3)


def test_the_breast_comes_upright_with_its_chest_wall_at_the_left():
    image = film()
    left, right = prepare_mammogram(image, 128), prepare_mammogram(image[:, ::-1], 128)
    assert find_chest_wall(image) == "left"
    assert find_chest_wall(image[:, ::-1]) == "right"
    agree = np.corrcoef(left.ravel(), right.ravel())[0, 1]
    assert agree > 0.99
    inside = left != 0
    assert inside[:, :8].any(axis=1).mean() > 0.9  # the wall fills the left edge
    assert not inside[:, 120:].any()


def test_the_breast_fills_the_square_with_its_aspect_kept_and_without_the_marker():
    prepared = prepare_mammogram(film(), 128)
    rows, columns = (np.flatnonzero((prepared != 0).any(axis=axis)) for axis in (1, 0))
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert height >= 124
    assert width / height == pytest.approx((0.6 * 300) / (0.8 * 400), rel=0.08)
    marked = film()
    marked[20:50, 240:280] = 0
    assert np.allclose(prepared, prepare_mammogram(marked, 128), atol=0.05)


def test_intensities_are_zero_mean_and_unit_sd_in_the_breast():
    for largest in (255, 65535):
        prepared = prepare_mammogram(film(largest=largest), 96)
        inside = prepared[prepared != 0]
        assert prepared.dtype == np.float32
        assert abs(inside.mean()) < 1e-3
        assert inside.std() == pytest.approx(1, abs=0.01)
    assert np.allclose(prepared, prepare_mammogram(film(largest=255), 96), atol=0.02)


@pytest.mark.parametrize("shape", [(64, 48), (1024, 1024), (513, 777), (3000, 2000)])
def test_any_size_of_film_is_prepared(shape):
    prepared = prepare_mammogram(film(*shape), 64)
    assert prepared.shape == (64, 64)
    assert np.isfinite(prepared).all()


def test_a_film_is_prepared_in_less_than_30_ms():
    image = film(512, 512)
    assert cpu_seconds(lambda: prepare_mammogram(image, 224), 15) < 0.03 * slowness()


@pytest.mark.parametrize("ending", ["png", "tif", "jpg"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
def test_a_truncated_film_is_named(tmp_path, ending, share):
    path = tmp_path / f"film.{ending}"
    save(path, film())
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=rf"film\.{ending}") as caught:
        read_mammogram(path)
    assert "0x" not in str(caught.value)


def test_what_is_no_film_is_told(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_mammogram(tmp_path / "gone.png")
    (tmp_path / "film.bmp").write_bytes(b"x")
    with pytest.raises(InputError, match="Convert it to one of"):
        read_mammogram(tmp_path / "film.bmp")
    (tmp_path / "notes.png").write_text("text")
    with pytest.raises(InputError, match=r"notes\.png cannot be read"):
        read_mammogram(tmp_path / "notes.png")
    save(tmp_path / "grey.png", np.full((50, 50), 7))
    with pytest.raises(InputError, match="constant"):
        read_mammogram(tmp_path / "grey.png")
    save(tmp_path / "tiny.png", film(8, 8))
    with pytest.raises(InputError, match="not one 2D image"):
        read_mammogram(tmp_path / "tiny.png")
    (tmp_path / "plain.pgm").write_text("P2\n2 2\n255\n1 2 3 4")
    with pytest.raises(InputError, match="P5"):
        read_mammogram(tmp_path / "plain.pgm")


@pytest.mark.real
def test_the_chest_wall_is_found_on_real_films(real_data):
    """Every fourth of 264 films; the side is told by the table. Two films of one patient are filled by the breast."""
    folder = real_data / "mammo" / "mias_512"
    rows = [row for row in read_table(folder / "images.csv") if row["image_id"] not in ("mdb151", "mdb152")][::4]
    wrong = [
        row["image_id"]
        for row in rows
        if find_chest_wall(read_mammogram(folder / row["file"])) != row["chest_wall_side_in_image"]
    ]
    assert wrong == []


@pytest.mark.real
@pytest.mark.parametrize("name", ["mdb023", "mdb024"])
def test_dicom_films_are_bright_where_tissue_is_also_when_stored_inverted(real_data, name):
    """mdb024 is MONOCHROME1: both must look like the PNG of the same film (0.2 mm against 0.4 mm)."""
    png = prepare_mammogram(read_mammogram(real_data / "mammo" / "mias_512" / "images" / f"{name}.png"), 128)
    dicom = read_mammogram(real_data / "mammo" / "mg_dicom_wrapped" / f"{name}.dcm")
    assert dicom.shape == (1024, 1024)
    assert np.corrcoef(png.ravel(), prepare_mammogram(dicom, 128).ravel())[0, 1] > 0.97


@pytest.mark.parametrize("is_mirrored", [False, True])
def test_a_position_on_the_film_is_found_again_in_the_prepared_image(is_mirrored):
    image = film(500, 400)
    spot = np.array([[210, 90]])
    image[190:231, 70:111] += 300
    if is_mirrored:
        image, spot = image[:, ::-1].copy(), np.array([[210, 400 - 1 - 90]])
    prepared = prepare_mammogram(image, 256)
    centre = np.argwhere(prepared > 0.9 * prepared.max()).mean(axis=0)
    assert positions_in_prepared(image, 256, spot)[0] == pytest.approx(centre, abs=0.75)


films = st.builds(
    lambda height, aspect, seed, reach: tissue(height, round(aspect * height), seed, reach),
    st.integers(80, 600), st.floats(0.5, 1.2), st.integers(0, 99), st.floats(0.4, 0.8),
)  # fmt: skip


def tissue(height: int, width: int, seed: int, reach: float) -> np.ndarray:
    """A breast of any shape with texture, on the left edge."""
    y, x = np.mgrid[:height, :width]
    depth = 1 - ((y / height - 0.5) / 0.4) ** 2 - (x / (reach * width)) ** 2
    noise = np.random.default_rng(seed).normal(0, 0.05, (height, width))
    return np.where(depth > 0, 0.5 + 0.3 * np.sqrt(np.clip(depth, 0, None)) + noise, 0.01).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(films, st.sampled_from((32, 64, 97)))
def test_a_mirrored_film_gives_the_same_image_marks_and_masks(film, size):
    mirrored = film[:, ::-1]
    assert np.array_equal(prepare_mammogram(film, size), prepare_mammogram(mirrored, size))
    height, width = film.shape
    circle = np.array([[0.5 * height, 0.1 * width, 0.1 * min(film.shape)]])
    turned = circle * [1, -1, 1] + [0, width - 1, 0]
    discs = circles_in_prepared(film, size, circle), circles_in_prepared(mirrored, size, turned)
    assert np.array_equal(*discs)
    assert discs[0].any()
    mask = film > 0.7
    assert np.array_equal(mask_in_prepared(film, mask, size), mask_in_prepared(mirrored, mask[:, ::-1], size))


@settings(max_examples=20, deadline=None)
@given(films)
def test_a_side_that_is_kept_is_told_by_the_edge_that_the_breast_fills(film):
    left, right = prepare_mammogram(film, 64, keep_side=True), prepare_mammogram(film[:, ::-1], 64, keep_side=True)
    assert np.array_equal(left, prepare_mammogram(film, 64))
    assert np.array_equal(right, left[:, ::-1])
    assert (left != 0)[:, 0].sum() > 30


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("is_mirrored", [False, True])
def test_a_disc_and_its_mask_come_to_lie_on_the_bright_spot_they_mark(is_mirrored, keep):
    image = film(500, 400)
    y, x = np.mgrid[:500, :400]
    spot = np.hypot(y - 210, x - 90) <= 25
    image[spot] += 200
    circle = np.array([[210.0, 90, 25]])
    if is_mirrored:
        image, spot, circle = image[:, ::-1], spot[:, ::-1], np.array([[210.0, 309, 25]])
    bright = prepare_mammogram(image, 256, keep) > 2
    for mask in (circles_in_prepared(image, 256, circle, keep), mask_in_prepared(image, spot, 256, keep)):
        assert mask.dtype == bool
        assert (mask & bright).sum() / (mask | bright).sum() > 0.9


def test_a_mark_keeps_to_the_breast_and_a_small_one_keeps_a_pixel():
    image = film(500, 400)
    assert not circles_in_prepared(image, 64, np.array([[30.0, 390, 8]])).any()
    assert circles_in_prepared(image, 64, np.array([[250.0, 50, 0.1]])).sum() >= 1
    speck = np.zeros(image.shape, bool)
    speck[250, 50] = True
    assert mask_in_prepared(image, speck, 64).sum() == 1
    assert not mask_in_prepared(image, np.zeros_like(speck), 64).any()


def test_specks_brighter_than_all_else_stay_brighter_and_metal_is_held_back():
    """A share of the brightest pixels must not be made equal: calcifications are few and bright."""
    image = film(500, 400)
    image[200, 60:70:2] += 100
    prepared = prepare_mammogram(image, 500)
    assert (prepared > np.percentile(prepared[prepared != 0], 99.5) + 1).sum() >= 5
    image[200, 60] = 1e6
    assert prepare_mammogram(image, 500).max() == 6


def test_an_entrys_image_and_mask_are_read_together(tmp_path):
    image = film(500, 400)
    save(tmp_path / "film.png", image)
    spot = np.zeros(image.shape, np.uint8)
    spot[185:236, 65:116] = 255
    save(tmp_path / "mask.png", spot)
    save(tmp_path / "small.png", spot[::2, ::2])
    save(tmp_path / "crop.png", spot[150:250])
    images = {"MG": str(tmp_path / "film.png")}
    circles = Entry("P", "C", images, 1, attributes={"circles_px": "90 210 25;90 210 3"})
    masks = Entry("P", "C", images, str(tmp_path / "mask.png"), further_masks=(str(tmp_path / "small.png"),))
    kept = Entry("P", "C", images, 1, attributes=dict([KEPT_SIDE]))
    assert np.array_equal(load_mammogram(circles, 128), prepare_mammogram(read_mammogram(images["MG"]), 128))
    assert lesion_mask(circles, 128).sum() == pytest.approx(np.pi / 4 * lesion_mask(masks, 128).sum(), rel=0.08)
    assert not lesion_mask(kept, 128).any()
    assert keeps_side(kept)
    assert not keeps_side(masks)
    with pytest.raises(InputError, match=r"crop\.png has 100 x 400 pixels, its film 500 x 400"):
        lesion_mask(Entry("P", "C", images, str(tmp_path / "crop.png")), 128)
    with pytest.raises(InputError, match="the circles '1 2'"):
        lesion_mask(Entry("P", "C", images, 1, attributes={"circles_px": "1 2"}), 128)


@pytest.mark.real
def test_marked_circles_of_real_films_lie_on_breasts(real_data):
    """102 marks of 99 films; those of mdb212 and mdb214 lie in the background, as the table says."""
    datalist = read_layout("mias", real_data / "mammo" / "mias_512", target="lesions")
    empty = {entry.case for entry in datalist.training if entry.label == 1 and not lesion_mask(entry, 64).any()}
    assert empty <= {"mdb212", "mdb214"}
