"""Mammograms: reading films, finding the chest wall, cropping to the breast."""

from __future__ import annotations

import time

import numpy as np
import pytest
from XTLLib.data.mammogram import (
    find_chest_wall,
    positions_in_prepared,
    prepare_mammogram,
    read_mammogram,
)
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
    took = []
    for _ in range(15):
        began = time.perf_counter()
        prepare_mammogram(image, 224)
        took.append(time.perf_counter() - began)
    assert min(took) < 0.03


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
    image[190:231, 70:111] += 300  # more than the half per cent that is clipped
    if is_mirrored:
        image, spot = image[:, ::-1].copy(), np.array([[210, 400 - 1 - 90]])
    prepared = prepare_mammogram(image, 256)
    centre = np.argwhere(prepared > 0.9 * prepared.max()).mean(axis=0)
    assert positions_in_prepared(image, 256, spot)[0] == pytest.approx(centre, abs=0.75)
