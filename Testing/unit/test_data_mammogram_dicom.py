"""DICOM mammograms: stored values to bright tissue, and hostile files."""

from __future__ import annotations

import warnings

import numpy as np
import pydicom
import pytest
from films import breast, write_dicom
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from XTLLib.data.mammogram import prepare_mammogram, read_film, read_mammogram
from XTLLib.data.mammogram_dicom import read_header, tags_of
from XTLLib.data.voi import apply_voi, look_up
from XTLLib.errors import InputError, XTLError

PIXELS = breast()


def lut(entries, first: int, bits: int) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(entries) % 65536, first, bits]
    item.add_new(0x00283006, "OW", np.asarray(entries, "<u2").tobytes())
    return item


def test_12_bit_values_come_as_they_are_stored(tmp_path):
    read = read_mammogram(write_dicom(tmp_path / "a.dcm", PIXELS))
    assert read.dtype == np.float32
    assert np.array_equal(read, PIXELS)


def test_a_file_without_an_ending_is_known_by_its_letters(tmp_path):
    assert np.array_equal(read_mammogram(write_dicom(tmp_path / "IM_0001", PIXELS)), PIXELS)


@pytest.mark.parametrize(
    "tags",
    [
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PresentationLUTShape": "INVERSE"},
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},  # both say the same
    ],
)
def test_inverted_values_are_turned_once(tmp_path, tags):
    read = read_mammogram(write_dicom(tmp_path / "a.dcm", 4095 - PIXELS, **tags))
    assert np.array_equal(read, PIXELS)


def test_signed_values_and_rescaling(tmp_path):
    signed = PIXELS.astype(np.int16) - 2048
    tags = {"PixelRepresentation": 1, "RescaleSlope": 2, "RescaleIntercept": 4096}
    assert np.array_equal(read_mammogram(write_dicom(tmp_path / "a.dcm", signed, **tags)), 2 * PIXELS)
    turned = write_dicom(tmp_path / "b.dcm", -1 - signed, PhotometricInterpretation="MONOCHROME1", **tags)
    assert np.array_equal(read_mammogram(turned), 2 * PIXELS)


WINDOWS = [("LINEAR", 2000, 1500), ("LINEAR_EXACT", 1800.5, 900), ("SIGMOID", 2100, 1200)]


@pytest.mark.parametrize(("function", "centre", "width"), WINDOWS)
@pytest.mark.parametrize("slope", [1, 0.5])
def test_windows_agree_with_pydicom(tmp_path, function, centre, width, slope):
    path = write_dicom(
        tmp_path / "a.dcm", PIXELS, WindowCenter=centre, WindowWidth=width, VOILUTFunction=function,
        RescaleSlope=slope, RescaleIntercept=0,
    )  # fmt: skip
    dataset = pydicom.dcmread(path)
    expected = pydicom.pixels.apply_windowing(pydicom.pixels.apply_modality_lut(dataset.pixel_array, dataset), dataset)
    assert np.allclose(read_mammogram(path), expected / (4095 * slope), atol=1e-5)


def test_a_negative_slope_does_not_turn_a_window_upside_down(tmp_path):
    tags = {"RescaleSlope": -1, "RescaleIntercept": 4095, "WindowCenter": 2048, "WindowWidth": 4096}
    read = read_mammogram(write_dicom(tmp_path / "a.dcm", 4095 - PIXELS, **tags))
    assert np.corrcoef(read.ravel(), PIXELS.ravel())[0, 1] > 0.999


def test_the_first_of_several_windows_is_taken_and_none_that_shows_nothing(tmp_path):
    first = write_dicom(tmp_path / "a.dcm", PIXELS, WindowCenter=[2000, 50], WindowWidth=[1500, 2])
    alone = write_dicom(tmp_path / "b.dcm", PIXELS, WindowCenter=2000, WindowWidth=1500)
    assert np.array_equal(read_mammogram(first), read_mammogram(alone))
    for centre, width in ((9000, 100), (2000, 0), (2000, -5)):
        film = read_film(write_dicom(tmp_path / "c.dcm", PIXELS, WindowCenter=centre, WindowWidth=width))
        assert np.array_equal(film.pixels, PIXELS)
        assert "left out" in film.notes[0]


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_voi_tables_agree_with_pydicom(tmp_path, bits):
    entries = (np.linspace(0, 1, 3000) ** 2 * (2**bits - 1)).astype(int)
    path = write_dicom(
        tmp_path / "a.dcm", PIXELS, VOILUTSequence=[lut(entries, 500, bits)], WindowCenter=9, WindowWidth=9
    )
    dataset = pydicom.dcmread(path)
    assert np.array_equal(read_mammogram(path), pydicom.pixels.apply_voi(dataset.pixel_array, dataset))


def test_a_voi_table_of_8_bit_entries_does_not_wrap(tmp_path):
    table = np.sort(np.random.default_rng(0).integers(0, 256, 4096))
    read = read_mammogram(write_dicom(tmp_path / "a.dcm", PIXELS, VOILUTSequence=[lut(table, 0, 8)]))
    assert np.array_equal(read, table[PIXELS])


def test_a_modality_table_is_applied_before_the_window(tmp_path):
    table = np.arange(4096)[::-1]
    tags = {"ModalityLUTSequence": [lut(table, 0, 12)], "PhotometricInterpretation": "MONOCHROME1"}
    assert np.array_equal(read_mammogram(write_dicom(tmp_path / "a.dcm", PIXELS, **tags)), PIXELS)


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(("LINEAR", "LINEAR_EXACT", "SIGMOID")),
    st.floats(-5000, 9000),
    st.floats(-10, 9000),
    st.integers(0, 99),
)
def test_no_window_turns_the_order_of_values(function, centre, width, seed):
    dataset = Dataset()
    dataset.WindowCenter, dataset.WindowWidth = f"{centre:.8g}", f"{width:.8g}"
    values = np.sort(np.random.default_rng(seed).uniform(-2000, 6000, 200)).astype(np.float32)
    shown, limits, notes = apply_voi(values, dataset, function)
    assert (np.diff(shown) >= 0).all()
    assert np.isfinite(shown).all()
    assert (limits is None) == bool(notes)


def test_a_signed_first_value_that_was_written_as_unsigned():
    dataset = Dataset()
    dataset.PixelRepresentation = 1
    values, largest = look_up(np.array([-300, -100, 0, 50]), lut(range(200), 65436, 8), dataset)
    assert values.tolist() == [0, 0, 100, 150]
    assert largest == 255


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_as_dark_as_the_darkest_pixel(tmp_path, kind):
    stored = (PIXELS if kind == "MONOCHROME2" else 4095 - PIXELS).copy()
    stored[:, 80:] = 4000 if kind == "MONOCHROME2" else 0
    tags = {"PixelPaddingValue": int(stored[0, 80]), "PhotometricInterpretation": kind}
    read = read_mammogram(write_dicom(tmp_path / "a.dcm", stored, **tags))
    assert np.array_equal(read[:, :80], PIXELS[:, :80])
    assert (read[:, 80:] == 10).all()
    stored[60:, 80:] = stored[0, 80] + 3
    ranged = write_dicom(tmp_path / "b.dcm", stored, PixelPaddingRangeLimit=int(stored[0, 80]) + 3, **tags)
    assert np.array_equal(read_mammogram(ranged), read)


@pytest.mark.parametrize("sign", [1, -1, None])
def test_a_raw_film_becomes_minus_the_logarithm_of_its_exposure(tmp_path, sign):
    """Exposure behind tissue of thickness t falls as exp(-t): the logarithm gives t back."""
    thickness = 4 * PIXELS / PIXELS.max()
    exposure = np.rint(4000 * np.exp(-thickness)).astype(np.uint16)
    tags = {"PresentationIntentType": "FOR PROCESSING", "PixelIntensityRelationship": "LIN"}
    if sign is None:  # then the photometric interpretation says it
        tags["PhotometricInterpretation"] = "MONOCHROME1"
    else:
        tags["PixelIntensityRelationshipSign"] = sign
    stored = exposure if sign != -1 else 4095 - exposure
    film = read_film(write_dicom(tmp_path / "a.dcm", stored, WindowCenter=50, WindowWidth=10, **tags))
    assert np.allclose(film.pixels + np.log(4000), thickness, atol=0.02)
    assert "FOR PROCESSING: the logarithm of its exposure was taken" in film.notes


def test_a_raw_film_of_logarithms_is_only_turned(tmp_path):
    tags = {"PresentationIntentType": "FOR PROCESSING", "PixelIntensityRelationship": "LOG"}
    film = read_film(write_dicom(tmp_path / "a.dcm", 4095 - PIXELS, PixelIntensityRelationshipSign=1, **tags))
    assert np.allclose(film.pixels - film.pixels.min(), PIXELS - 10.0)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"ImageLaterality": "R", "Laterality": "L", "ViewPosition": "mlo"}, ("R", "MLO", "right")),
        ({"Laterality": "L"}, ("L", "", "left")),
        ({"ImageLaterality": "B"}, ("", "", "")),
        ({"ImageLaterality": "L", "PatientOrientation": ["P", "F"]}, ("L", "", "right")),
        ({"ImageLaterality": "R", "PatientOrientation": ["A", "R"]}, ("R", "", "left")),
        ({}, ("", "", "")),
    ],
)
def test_what_the_tags_say_of_the_view(tmp_path, tags, expected):
    read = tags_of(read_header(write_dicom(tmp_path / "a.dcm", PIXELS, **tags)))
    assert (read.laterality, read.view, read.chest_wall) == expected


def test_a_view_that_is_only_coded(tmp_path):
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "399162004", "SCT", "cranio-caudal"
    assert read_film(write_dicom(tmp_path / "a.dcm", PIXELS, ViewCodeSequence=[code])).view == "CC"


def test_where_tags_and_image_disagree_the_image_is_believed_and_it_is_noted(tmp_path):
    film = read_film(write_dicom(tmp_path / "a.dcm", PIXELS, ImageLaterality="R"))
    assert film.laterality == "R"
    assert film.notes == ("its tags put the chest wall at the right, the image shows it at the left",)
    assert read_film(write_dicom(tmp_path / "b.dcm", PIXELS, ImageLaterality="L")).notes == ()
    right = write_dicom(tmp_path / "c.dcm", breast(side="right"), ImageLaterality="R")
    assert np.allclose(prepare_mammogram(film.pixels, 64), prepare_mammogram(read_mammogram(right), 64))


# --- compressed -------------------------------------------------------------------------------


def compressed_by_itk(path, pixels: np.ndarray, kind: str) -> None:
    """A file in a compressed transfer syntax, with the tags of a made MG file."""
    import SimpleITK

    plain = pydicom.dcmread(write_dicom(path, pixels))
    writer = SimpleITK.ImageFileWriter()
    writer.SetFileName(str(path))
    writer.SetImageIO("GDCMImageIO")
    writer.SetUseCompression(True)
    writer.SetCompressor(kind)
    writer.Execute(SimpleITK.GetImageFromArray(pixels[None].astype(np.uint16)))
    packed = pydicom.dcmread(path)
    assert packed.file_meta.TransferSyntaxUID.is_compressed
    plain.file_meta.TransferSyntaxUID = packed.file_meta.TransferSyntaxUID
    for keyword in ("PixelData", "BitsAllocated", "BitsStored", "HighBit", "Rows", "Columns"):
        setattr(plain, keyword, packed[keyword].value)
    plain["PixelData"].is_undefined_length = True
    plain.save_as(path, enforce_file_format=True)


def change(path, **tags) -> None:
    dataset = pydicom.dcmread(path)
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000", "JPEGLS"])
def test_lossless_compressions_give_the_stored_values(tmp_path, kind):
    path = tmp_path / "a.dcm"
    compressed_by_itk(path, PIXELS, kind)
    assert np.array_equal(read_mammogram(path), PIXELS)
    full = 2 ** int(pydicom.dcmread(path).BitsStored) - 1
    change(path, RescaleSlope=2, RescaleIntercept=-100, PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(read_mammogram(path), 2 * (full - PIXELS.astype(float)) - 100)


def test_run_lengths_are_decoded(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", PIXELS)
    dataset = pydicom.dcmread(path)
    dataset.compress(pydicom.uid.RLELossless)
    dataset.save_as(path)
    assert np.array_equal(read_mammogram(path), PIXELS)


def test_what_nothing_can_decode_names_the_package(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", PIXELS)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.HTJ2KLossless
    dataset.PixelData = pydicom.encaps.encapsulate([b"nothing that is known"])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    with pytest.raises(XTLError, match=r"a\.dcm .*High-Throughput JPEG 2000.*Install pylibjpeg and pylibjpeg-openjpeg"):
        read_mammogram(path)


# --- hostile ----------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.001, 0.02, 0.3, 0.99])
def test_a_truncated_dicom_is_named(tmp_path, share):
    path = write_dicom(tmp_path / "a.dcm", PIXELS)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"a\.dcm") as caught:
        read_mammogram(path)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"Modality": "MR"}, "of the modality MR, not MG"),
        ({"PixelData": None}, "holds no pixel data"),
        ({"Rows": None}, "holds no pixel data"),
        ({"NumberOfFrames": 40}, "multi-frame with 40 frames"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.13.1.3", "NumberOfFrames": 40}, "tomosynthesis with 40 frames"),
        ({"BitsAllocated": 7}, "truncated or damaged"),
        ({"PixelData": b"12"}, "truncated or damaged"),
        ({"Modality": "SECRET^NAME"}, r"of the modality \?"),
    ],
)
def test_what_is_no_single_mammogram_is_told(tmp_path, tags, message):
    path = tmp_path / "a.dcm"
    write_dicom(path, PIXELS)
    dataset = pydicom.dcmread(path)
    for keyword, value in tags.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path)
    with pytest.raises(InputError, match=message) as caught:
        read_mammogram(path)
    assert str(path) in str(caught.value)
    assert "SECRET" not in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40))
def test_damaged_bytes_give_an_image_or_an_input_error(tmp_path_factory, seed, count):
    path = write_dicom(
        tmp_path_factory.mktemp("damaged") / "a.dcm", PIXELS[:40, :40], WindowCenter=2000, WindowWidth=900
    )
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for place in rng.integers(132, 1100, count):
        content[place % len(content)] = int(rng.integers(256))
    path.write_bytes(bytes(content))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            image = read_mammogram(path)
        except XTLError as error:
            assert "SECRET" not in str(error)
        else:
            assert np.isfinite(image).all()
    assert not [one for one in warned if "SECRET" in str(one.message)]


# --- real -------------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize("name", ["mdb023", "mdb024", "mdb033", "mdb034"])
def test_real_films_equal_their_pictures(real_data, name):
    """The PNG is the mean of 2 x 2 pixels of the DICOM; mdb024 is stored as MONOCHROME1, 255 minus the grey."""
    png = read_mammogram(real_data / "mammo" / "mias_512" / "images" / f"{name}.png")
    film = read_film(real_data / "mammo" / "mg_dicom_wrapped" / f"{name}.dcm")
    assert np.abs(film.pixels.reshape(512, 2, 512, 2).mean(axis=(1, 3)) - png).max() <= 1
    assert (film.laterality, film.view) == ("L" if int(name[3:]) % 2 else "R", "MLO")
    assert "the image shows it" in film.notes[0]  # MIAS films are stored mirrored
