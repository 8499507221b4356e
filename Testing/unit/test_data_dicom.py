"""DICOM series: order, geometry, b-values, and every way in which a folder can be wrong."""

from __future__ import annotations

import numpy as np
import pytest
from dicom_series import COLUMNS, NORMAL, ORIGIN_LPS, ROWS, SHAPE, SPACING_MM, series_array, write_series
from XTLLib.data.dicom import read_series_folder, series_grid
from XTLLib.data.images import read_image, read_volume
from XTLLib.data.prostate_series import choose_series, find_series
from XTLLib.errors import InputError


def test_slices_are_ordered_by_position_and_lie_where_the_headers_say(tmp_path):
    array = series_array()
    write_series(tmp_path, array)
    volume = read_image(tmp_path)
    assert np.array_equal(volume.array, array)
    assert np.allclose(volume.grid.spacing_mm, SPACING_MM, atol=1e-5)
    i, j, k = 7, 3, 4
    lps = ORIGIN_LPS + i * SPACING_MM[0] * ROWS + j * SPACING_MM[1] * COLUMNS + k * SPACING_MM[2] * NORMAL
    assert np.allclose(volume.grid.index_to_ras([i, j, k]), lps * [-1, -1, 1], atol=1e-4)
    assert series_grid(tmp_path).matches(volume.grid)


def test_simpleitk_agrees_about_the_geometry(tmp_path):
    import SimpleITK
    from XTLLib.data.volume import from_sitk

    array = series_array()
    write_series(tmp_path, array)
    files = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path))
    other = from_sitk(SimpleITK.ReadImage(files))
    volume = read_series_folder(tmp_path)
    assert volume.grid.matches(other.grid, 1e-3)
    assert np.array_equal(volume.array, other.array)


def test_the_rescale_slope_is_applied(tmp_path):
    write_series(tmp_path, series_array(), RescaleSlope="0.5", RescaleIntercept="-10")
    volume = read_series_folder(tmp_path)
    assert volume.array.dtype == np.float32
    assert np.allclose(volume.array, series_array() * 0.5 - 10)


def test_compressed_files_are_read(tmp_path):
    import pydicom
    from pydicom.uid import RLELossless

    for path in write_series(tmp_path, series_array(), RescaleSlope="2", RescaleIntercept="1"):
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless)
        dataset.save_as(path)
    assert np.allclose(read_series_folder(tmp_path).array, series_array() * 2.0 + 1)


def test_other_files_in_the_folder_are_passed_over(tmp_path):
    write_series(tmp_path, series_array())
    (tmp_path / "LICENSE").write_text("text")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "DICOMDIR").write_bytes(b"x")
    assert read_series_folder(tmp_path).array.shape == SHAPE
    for path in tmp_path.glob("*.dcm"):
        path.rename(path.with_suffix(""))  # archives export without an ending, too
    assert read_series_folder(tmp_path).array.shape == SHAPE


@pytest.mark.parametrize(
    "tags",
    [
        {"private_b": {50: b"50", 400: b"400 ", 1400: b"1400"}},
        {"DiffusionBValue": {50: 50.0, 400: 400.0, 1400: 1400.0}},
        {"SequenceName": {50: "*ep_b50t", 400: "*ep_b400t", 1400: "*ep_b1400t"}},
    ],
)
def test_one_series_of_several_b_values_is_taken_apart(tmp_path, tags):
    """As in ProstateX: naive reading would give one volume of three times the slices."""
    ((keyword, values),) = tags.items()
    for number, b in enumerate(values):
        write_series(tmp_path, series_array(b), start=number * 5, SeriesInstanceUID="1.2.3.4", **{keyword: values[b]})
    assert np.array_equal(read_series_folder(tmp_path).array, series_array(1400))
    assert np.array_equal(read_series_folder(tmp_path, 50).array, series_array(50))
    with pytest.raises(InputError, match=r"no b-value 800 \(it has: 50, 400, 1400\)"):
        read_series_folder(tmp_path, 800)


def test_a_sequence_name_of_a_range_is_no_b_value(tmp_path):
    write_series(tmp_path, series_array(), SequenceName="*ep_b50_800")
    with pytest.raises(InputError, match="it has: none"):
        read_series_folder(tmp_path, 800)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.6, 0.99])
def test_a_truncated_file_is_named(tmp_path, share):
    paths = write_series(tmp_path, series_array(shape=(4, 60, 60)))
    content = paths[2].read_bytes()
    paths[2].write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=paths[2].name) as caught:
        read_series_folder(tmp_path)
    assert "SECRET" not in str(caught.value)


def test_a_missing_slice_is_told(tmp_path):
    paths = write_series(tmp_path, series_array())
    paths[2].unlink()
    with pytest.raises(InputError, match=r"lie 6\.00 mm, between other slices 3\.00 mm"):
        read_series_folder(tmp_path)


def test_a_slice_that_is_there_twice_is_told(tmp_path):
    uid = "1.2.3.4"
    write_series(tmp_path, series_array(), SeriesInstanceUID=uid)
    write_series(tmp_path, series_array()[:1], start=70, SeriesInstanceUID=uid)
    with pytest.raises(InputError, match="slices at one position"):
        read_series_folder(tmp_path)


def test_two_series_in_a_folder_are_named_and_one_can_be_chosen(tmp_path):
    """Of different orientation, too, as a scanner's export of a whole study has them."""
    flair, t1 = series_array(), series_array(1)
    sagittal = {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}
    write_series(tmp_path, flair, SeriesNumber=4, SeriesDescription="t2_flair_tra", PatientID="SECRET")
    write_series(tmp_path, t1, start=20, SeriesNumber=11, SeriesDescription="t1_sag", PatientID="SECRET")
    write_series(tmp_path, series_array(2)[:1], start=40, SeriesNumber=12, **sagittal)
    with pytest.raises(InputError, match="more than one DICOM series") as caught:
        read_series_folder(tmp_path)
    message = str(caught.value)
    assert "4 (t2_flair_tra, 5 files), 11 (t1_sag, 5 files), 12 (no description, 1 files)" in message
    assert "by its number, for example" in message and "SECRET" not in message
    assert np.array_equal(read_image(f"{tmp_path}#4").array, flair)
    assert np.array_equal(read_image(f"{tmp_path}#11").array, t1)
    with pytest.raises(InputError, match=r"holds no DICOM series 7 \(it holds 4 \(t2_flair_tra"):
        read_image(f"{tmp_path}#7")


def test_series_without_numbers_cannot_be_chosen_and_are_named_by_a_file(tmp_path):
    write_series(tmp_path, series_array())
    write_series(tmp_path, series_array(1), start=20)
    with pytest.raises(InputError, match=r"1-\d{3}\.dcm \(no description, 5 files\).*\. Put each series into its own"):
        read_series_folder(tmp_path)


def test_several_images_at_each_position_are_told_as_a_time_series(tmp_path):
    for time in range(3):
        write_series(tmp_path, series_array(time), start=10 * time, SeriesInstanceUID="1.2.3.4")
    with pytest.raises(InputError, match="3 images at each of its 5 slice positions: a time series, several echoes"):
        read_series_folder(tmp_path)


def test_a_tilted_gantry_is_told_with_its_angle(tmp_path):
    """Every slice is shifted along its columns by the tangent of 14 degrees times the gap."""
    import pydicom

    write_series(tmp_path, series_array())
    for path in tmp_path.glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        position = np.array(dataset.ImagePositionPatient, dtype=float)
        height = (position - ORIGIN_LPS) @ NORMAL
        dataset.ImagePositionPatient = [
            round(float(x), 6) for x in position + np.tan(np.radians(14)) * height * COLUMNS
        ]
        dataset.save_as(path)
    with pytest.raises(InputError, match=r"not stacked at right angles \(sheared by 14 degrees"):
        read_series_folder(tmp_path)


def test_a_volume_knows_its_frame_of_reference(tmp_path):
    write_series(tmp_path / "with", series_array(), FrameOfReferenceUID="1.2.840.7")
    write_series(tmp_path / "without", series_array())
    assert read_image(tmp_path / "with").frame_of_reference == "1.2.840.7"
    assert read_image(tmp_path / "without").frame_of_reference == ""


@pytest.mark.parametrize(
    "tags", [{"PixelSpacing": [1.0, 1.0]}, {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}, {"Rows": 9}]
)
def test_slices_that_do_not_fit_each_other_are_told(tmp_path, tags):
    uid = "1.2.3.4"
    write_series(tmp_path, series_array()[:3], SeriesInstanceUID=uid)
    write_series(tmp_path, series_array(shape=(1, 9, 10)), start=20, SeriesInstanceUID=uid, **tags)
    with pytest.raises(InputError, match="differs from"):
        read_series_folder(tmp_path)


def test_several_frames_and_a_missing_tag_are_told(tmp_path):
    write_series(tmp_path / "frames", series_array(), NumberOfFrames="5")
    with pytest.raises(InputError, match="multi-frame"):
        read_series_folder(tmp_path / "frames")
    import pydicom

    for path in write_series(tmp_path / "bare", series_array()):
        dataset = pydicom.dcmread(path)
        del dataset.PixelSpacing
        dataset.save_as(path)
    with pytest.raises(InputError, match="lacks PixelSpacing"):
        read_series_folder(tmp_path / "bare")


def test_a_single_slice_has_the_nominal_thickness(tmp_path):
    write_series(tmp_path, series_array()[:1], SpacingBetweenSlices="4.5")
    assert read_series_folder(tmp_path).grid.spacing_mm == pytest.approx((0.7, 0.9, 4.5))


def write_study(folder, **series) -> None:
    for number, (name, tags) in enumerate(series.items(), start=1):
        tags = {"SeriesNumber": number, "SeriesDescription": name, "AcquisitionTime": "100000", **tags}
        b_values = tags.pop("b_values", None)
        uid = f"1.2.{number}"
        for place, b in enumerate(b_values or [None]):
            extra = {} if b is None else {"private_b": f"{b} ".encode()}
            array = series_array(number * 100 + place)
            write_series(folder / name, array, start=5 * place, SeriesInstanceUID=uid, **tags, **extra)


DIFFUSION = {"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "TRACEW"]}
ADC = {"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]}


def chosen(folder) -> dict[str, str]:
    return {channel: path.name for channel, path in choose_series(find_series(folder)).items()}


def test_the_series_of_a_prostate_study_are_found(tmp_path):
    write_study(
        tmp_path,
        localizer={},
        t2_tse_sag={"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]},
        t2_tse_tra={},
        ep2d_diff_tra={**DIFFUSION, "b_values": [50, 400, 800]},
        ep2d_diff_tra_ADC=ADC,
        ep2d_diff_traCALC_BVAL={**DIFFUSION, "b_values": [1400]},
    )
    assert chosen(tmp_path) == {"T2W": "t2_tse_tra", "ADC": "ep2d_diff_tra_ADC", "HBV": "ep2d_diff_traCALC_BVAL"}


def test_without_a_calculated_b_value_the_highest_measured_one_is_taken(tmp_path):
    write_study(tmp_path, ep2d_diff_tra={**DIFFUSION, "b_values": [50, 400, 800]})
    assert chosen(tmp_path) == {"HBV": "ep2d_diff_tra"}
    assert np.array_equal(read_image(tmp_path / "ep2d_diff_tra").array, series_array(102))


def test_low_b_values_alone_are_no_high_b_value_image(tmp_path):
    write_study(tmp_path, ep2d_diff_tra={**DIFFUSION, "b_values": [50, 400]})
    assert chosen(tmp_path) == {}


def test_a_repeated_series_replaces_the_earlier_one_whatever_its_number(tmp_path):
    write_study(
        tmp_path,
        t2_tse_tra_b={"AcquisitionTime": "120000", "SeriesNumber": 6},
        t2_tse_tra_a={"AcquisitionTime": "110000", "SeriesNumber": 10},
        t2_space_tra={"AcquisitionTime": "130000", "SeriesNumber": 12},
    )
    assert chosen(tmp_path) == {"T2W": "t2_tse_tra_b"}
    write_study(tmp_path / "ties", t2_tse_tra_c={"SeriesNumber": 3}, t2_tse_tra_d={"SeriesNumber": 4})
    assert chosen(tmp_path / "ties") == {"T2W": "t2_tse_tra_d"}


@pytest.mark.real
@pytest.mark.parametrize(
    ("patient", "series", "picai"),
    [
        ("ProstateX-0000", "4.", "11373/11373_1001396_t2w.mha"),
        ("ProstateX-0000", "7.", "11373/11373_1001396_adc.mha"),
        ("ProstateX-0000", "8.", "11373/11373_1001396_hbv.mha"),
        ("ProstateX-0001", "6.", "10795/10795_1000811_t2w.mha"),
        ("ProstateX-0001", "8.", "10795/10795_1000811_adc.mha"),
        ("ProstateX-0001", "9.", "10795/10795_1000811_hbv.mha"),
    ],
)
def test_real_series_equal_the_mha_files_made_from_them(real_data, patient, series, picai):
    (folder,) = (real_data / "prostate" / "dicom" / "ProstateX" / patient).glob(f"*/{series}*")
    ours, theirs = read_series_folder(folder), read_volume(real_data / "prostate" / "picai" / "images" / picai)
    assert ours.grid.matches(theirs.grid, 1e-3)
    assert np.array_equal(ours.array, theirs.array)


@pytest.mark.real
def test_a_real_diffusion_series_has_three_b_values_of_19_slices(real_data):
    (folder,) = (real_data / "prostate" / "dicom" / "ProstateX" / "ProstateX-0000").glob("*/6.*")
    volumes = [read_series_folder(folder, b) for b in (50, 400, 800)]
    assert {volume.array.shape for volume in volumes} == {(19, 128, 84)}
    means = [volume.array.mean() for volume in volumes]
    assert means == sorted(means, reverse=True)  # the signal falls with b
    assert volumes[0].grid.spacing_mm == pytest.approx((2, 2, 3), abs=1e-4)


@pytest.mark.real
def test_real_studies_give_t2w_adc_and_hbv(real_data):
    root = real_data / "prostate" / "dicom" / "ProstateX"
    numbers = {
        patient: {
            channel: path.name.split(".")[0] for channel, path in choose_series(find_series(root / patient)).items()
        }
        for patient in ("ProstateX-0000", "ProstateX-0001")
    }
    assert numbers["ProstateX-0000"] == {"T2W": "4", "ADC": "7", "HBV": "8"}
    # Two T2 series on one grid (6 and 10): the later one, as in the patch set.
    assert numbers["ProstateX-0001"] == {"T2W": "10", "ADC": "8", "HBV": "9"}
