"""Reading and writing of image files, with errors that name the file."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from ..errors import InputError
from .nifti import read_floats
from .truncation import require_whole
from .volume import Volume, from_geometry, from_sitk, to_sitk

_REMEDY = "Check the file, or export it again as NIfTI, NRRD or MetaImage"


def read_volume(path: str | os.PathLike) -> Volume:
    """Read a 3D image file that SimpleITK knows (NIfTI, NRRD, MetaImage, ...).

    Rescaling stored in the file (NIfTI ``scl_slope``) is applied. A 4D file with one time point is
    read as 3D. NaN is kept, for ``Volume.require_finite`` to find.

    Raises
    ------
    InputError : the file is missing, unreadable, truncated, not scalar or not 3D.
    """
    import SimpleITK

    path = Path(path)
    if not path.is_file():
        raise InputError(f"the image file {path} does not exist", "Check the path")
    require_whole(path)
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        _require_scalar_3d(reader, path)
        voxels = read_floats(path)
        if voxels is not None:
            return _volume_of(reader, voxels, str(path))
        image = reader.Execute()
    except RuntimeError as error:
        raise InputError(f"the image file {path} cannot be read ({reason_of(error)})", _REMEDY) from error
    return from_sitk(image[:, :, :, 0] if image.GetDimension() == 4 else image, str(path))


def read_mask(path: str | os.PathLike) -> Volume:
    """Read a label file; every value above 0 is foreground (bool array)."""
    volume = read_volume(path).require_finite()
    return Volume(volume.array > 0, volume.grid, volume.name)


def write_volume(volume: Volume, path: str | os.PathLike) -> None:
    """Write a volume in the format that the file's ending names; bool is stored as uint8."""
    import SimpleITK

    try:
        SimpleITK.WriteImage(to_sitk(volume), str(path), useCompression=True)
    except RuntimeError as error:
        raise InputError(
            f"the image file {path} cannot be written ({reason_of(error)})",
            "Check the folder, the free space and the file's ending",
        ) from error


def require_foreground(mask: Volume) -> Volume:
    """The mask, or InputError when it is empty."""
    if not np.any(mask.array):
        raise InputError(f"the mask {mask.name} is empty", "Give a mask with at least one lesion voxel")
    return mask


def read_image(path: str | os.PathLike) -> Volume:
    """Read an image file, or a folder that holds one DICOM series (of several b-values, the highest).

    Of a folder with several series, ``folder#4`` is the one with the series number 4.
    """
    folder, mark, number = os.fspath(path).rpartition("#")
    chosen = bool(mark) and not Path(path).exists() and Path(folder).is_dir()
    if chosen or Path(path).is_dir():
        from .dicom import read_series_folder

        return read_series_folder(folder, series_number=number) if chosen else read_series_folder(path)
    return read_volume(path)


def _require_scalar_3d(reader, path: Path) -> None:
    size, components = reader.GetSize(), reader.GetNumberOfComponents()
    what = f"the image file {path} is not a scalar 3D image"
    if components != 1:
        raise InputError(
            f"{what} ({len(size)}D, {components} values a voxel, as a colour image has)",
            "Give one volume with one value a voxel",
        )
    if len(size) < 3:
        raise InputError(
            f"{what} ({len(size)}D: a single slice)", "Give the whole volume; of a DICOM series, name its folder"
        )
    if any(count > 1 for count in size[3:]) or len(size) > 4:
        volumes = int(np.prod(size[3:]))
        raise InputError(
            f"{what} ({len(size)}D: {volumes} volumes, as a time series has)", "Give one of its volumes as a file"
        )


def _volume_of(reader, voxels: np.ndarray, name: str) -> Volume:
    """A volume of the reader's geometry (3D, or 4D with one time point)."""
    dimension = reader.GetDimension()
    direction = np.array(reader.GetDirection()).reshape(dimension, dimension)[:3, :3]
    return from_geometry(voxels, reader.GetOrigin()[:3], reader.GetSpacing()[:3], direction, name)


def reason_of(error: RuntimeError) -> str:
    """What SimpleITK says in the last line of an error, without the addresses and prefixes of its objects."""
    lines = str(error).strip().splitlines() or ["unknown reason"]
    return re.sub(r"^(sitk::ERROR:|ITK ERROR:)\s*|\(0x[0-9a-f]+\)", "", lines[-1].strip()).strip()
