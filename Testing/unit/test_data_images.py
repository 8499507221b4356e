"""Image files: what is written comes back, other software agrees, and damaged files are named."""

from __future__ import annotations

import gzip
import os

import numpy as np
import pytest
from hypothesis import given, settings
from voxel_grids import grids, rotation
from XTLLib.data.geometry import Grid
from XTLLib.data.images import read_image, read_mask, read_volume, require_foreground, write_volume
from XTLLib.data.volume import Volume
from XTLLib.errors import InputError


def oblique_volume(shape=(12, 14, 16)) -> Volume:
    affine = np.eye(4)
    affine[:3, :3] = rotation(3) * [0.5, 0.7, 3.0]
    affine[:3, 3] = [-40.0, 12.5, 7.0]
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return Volume(array, Grid(shape, affine))


@settings(max_examples=15, deadline=None)
@given(grids(smallest=2))
def test_nifti_agrees_with_nibabel_about_where_voxels_lie(tmp_path_factory, grid):
    """nibabel is the second opinion: its affine is voxel (i, j, k) -> RAS mm, as ours."""
    import nibabel

    path = tmp_path_factory.mktemp("nifti") / "volume.nii"
    array = np.random.default_rng(1).normal(size=grid.shape).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(array.T, grid.ijk_to_ras), path)
    volume = read_volume(path)
    assert volume.grid.matches(grid, 1e-2)
    assert np.array_equal(volume.array, array)
    write_volume(volume, path.with_name("again.nii.gz"))
    again = nibabel.load(path.with_name("again.nii.gz"))
    assert np.allclose(again.affine, grid.ijk_to_ras, atol=1e-3)
    assert np.array_equal(again.get_fdata(dtype=np.float32).T, array)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr"])
def test_what_is_written_comes_back(tmp_path, ending):
    volume = oblique_volume()
    write_volume(volume, tmp_path / f"volume{ending}")
    back = read_volume(tmp_path / f"volume{ending}")
    assert np.array_equal(back.array, volume.array)
    assert back.grid.matches(volume.grid, 1e-3)
    assert back.name.endswith(f"volume{ending}")


def test_a_stored_scale_is_applied(tmp_path):
    import nibabel

    image = nibabel.Nifti1Image(np.full((4, 5, 6), 30, np.int16), np.eye(4))
    image.header.set_slope_inter(0.1, -1)
    nibabel.save(image, tmp_path / "scaled.nii.gz")
    stored = nibabel.load(tmp_path / "scaled.nii.gz").get_fdata()
    assert np.allclose(read_volume(tmp_path / "scaled.nii.gz").array, stored.T, atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mha", ".nrrd"])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_that_was_cut_off_is_told_by_name(tmp_path, ending, share, compressed):
    """SimpleITK alone reads a cut NIfTI without an error."""
    import SimpleITK
    from XTLLib.data.volume import to_sitk

    path = tmp_path / f"volume{ending}"
    SimpleITK.WriteImage(to_sitk(oblique_volume()), str(path), compressed)
    content = path.read_bytes()
    read_volume(path)
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=rf"volume\{ending}"):
        read_volume(path)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(("ending", "data"), [(".mhd", "raw"), (".hdr", "img")])
def test_a_cut_file_of_a_pair_is_told_by_name(tmp_path, ending, data, compressed):
    import SimpleITK
    from XTLLib.data.volume import to_sitk

    name = f"volume{ending}" + (".gz" if compressed and ending == ".hdr" else "")
    SimpleITK.WriteImage(to_sitk(oblique_volume()), str(tmp_path / name), compressed)
    (voxels,) = [file for file in tmp_path.iterdir() if data in file.name]
    read_volume(tmp_path / name)
    voxels.write_bytes(voxels.read_bytes()[:-200])
    with pytest.raises(InputError, match=voxels.name):
        read_volume(tmp_path / name)
    voxels.unlink()
    with pytest.raises(InputError, match=f"needs .*{voxels.name}, which does not exist"):
        read_volume(tmp_path / name)


def test_a_gzip_of_several_members_is_whole(tmp_path):
    """The size that such a file ends with is that of its last member only."""
    write_volume(oblique_volume(), tmp_path / "volume.nii.gz")
    content = gzip.decompress((tmp_path / "volume.nii.gz").read_bytes())
    half = len(content) // 2
    members = gzip.compress(content[:half]) + gzip.compress(content[half:])
    (tmp_path / "members.nii.gz").write_bytes(members)
    assert np.array_equal(read_volume(tmp_path / "members.nii.gz").array, oblique_volume().array)
    (tmp_path / "members.nii.gz").write_bytes(members[:-30])
    with pytest.raises(InputError, match="truncated"):
        read_volume(tmp_path / "members.nii.gz")


def test_files_that_are_no_images_are_told_by_name(tmp_path):
    with pytest.raises(InputError, match=r"gone\.nii does not exist"):
        read_volume(tmp_path / "gone.nii")
    with pytest.raises(InputError, match="does not exist"):
        read_volume(tmp_path)
    for name in ("notes.nii", "notes.nrrd", "notes.mha", "notes.txt"):
        (tmp_path / name).write_text("lorem ipsum " * 100)
        with pytest.raises(InputError, match=name):
            read_volume(tmp_path / name)


def test_one_time_point_is_3d_and_several_or_colour_are_refused(tmp_path):
    import nibabel

    for count, name in ((1, "one.nii"), (3, "three.nii")):
        nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6, count), np.float32), np.eye(4)), tmp_path / name)
    assert read_volume(tmp_path / "one.nii").array.shape == (6, 5, 4)
    with pytest.raises(InputError, match=r"three\.nii is not a scalar 3D image \(4D: 3 volumes, as a time series has"):
        read_volume(tmp_path / "three.nii")
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5), np.float32), np.eye(4)), tmp_path / "plane.nii")
    with pytest.raises(InputError, match=r"plane\.nii is not a scalar 3D image \(2D: a single slice"):
        read_volume(tmp_path / "plane.nii")
    import SimpleITK

    colour = SimpleITK.GetImageFromArray(np.zeros((3, 4, 5, 3), np.uint8), isVector=True)
    SimpleITK.WriteImage(colour, str(tmp_path / "colour.nrrd"))
    with pytest.raises(InputError, match=r"colour\.nrrd.*3 values a voxel"):
        read_volume(tmp_path / "colour.nrrd")


def test_axes_that_are_not_at_right_angles_are_refused(tmp_path):
    import nibabel

    affine = np.eye(4)
    affine[0, 1] = 0.3
    image = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.float32), None)
    image.set_sform(affine, 1)
    nibabel.save(image, tmp_path / "sheared.nii")
    with pytest.raises(InputError, match=r"sheared\.nii"):
        read_volume(tmp_path / "sheared.nii")


def test_a_mask_is_bool_and_an_empty_one_can_be_refused(tmp_path):
    grid = Grid((3, 4, 5), np.eye(4))
    labels = np.zeros(grid.shape, np.uint8)
    write_volume(Volume(labels, grid), tmp_path / "empty.nii.gz")
    empty = read_mask(tmp_path / "empty.nii.gz")
    with pytest.raises(InputError, match=r"empty\.nii\.gz is empty"):
        require_foreground(empty)
    labels[1, 2, 3] = 4
    write_volume(Volume(labels > 0, grid), tmp_path / "mask.nii.gz")
    mask = read_mask(tmp_path / "mask.nii.gz")
    assert mask.array.dtype == bool
    assert np.argwhere(mask.array).tolist() == [[1, 2, 3]]
    assert require_foreground(mask) is mask


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".hdr", ".mha", ".nrrd"])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_nan_in_a_file_is_found(tmp_path, ending, kind):
    """ITK's NIfTI reader alone turns NaN into 0."""
    volume = oblique_volume()
    array = volume.array.astype(kind)
    array[3, 4, 5] = np.nan
    array[6, 7, 8] = np.inf
    write_volume(Volume(array, volume.grid), tmp_path / f"holed{ending}")
    back = read_volume(tmp_path / f"holed{ending}")
    assert np.array_equal(back.array, array, equal_nan=True)
    assert back.array.dtype == kind
    assert back.grid.matches(volume.grid, 1e-3)
    with pytest.raises(InputError, match=rf"holed\{ending} has 2 voxels that are NaN"):
        back.require_finite()
    with pytest.raises(InputError, match=rf"holed\{ending}"):
        read_mask(tmp_path / f"holed{ending}")


@pytest.mark.parametrize("order", ["<", ">"])
def test_floats_of_either_byte_order_with_a_scale(tmp_path, order):
    import nibabel

    array = np.random.default_rng(0).normal(size=(3, 4, 5)).astype("f4")
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    header = nibabel.Nifti1Image(array, affine).header.as_byteswapped(order)
    header.set_slope_inter(2.0, 1.0)
    image = nibabel.Nifti1Image(array, affine, header)
    nibabel.save(image, tmp_path / "floats.nii.gz")
    expected = nibabel.load(tmp_path / "floats.nii.gz").get_fdata().T
    assert np.allclose(read_volume(tmp_path / "floats.nii.gz").array, expected, atol=1e-5)


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        write_volume(oblique_volume(), tmp_path / "missing" / "volume.nii")
    with pytest.raises(InputError, match="cannot be written"):
        write_volume(oblique_volume(), tmp_path / "volume.lorem")


def test_an_empty_folder_is_no_image(tmp_path):
    with pytest.raises(InputError, match="no DICOM"):
        read_image(os.fspath(tmp_path))
