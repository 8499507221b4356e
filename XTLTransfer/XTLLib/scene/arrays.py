"""NumPy <-> VTK: arrays, images and matrices as MRML holds them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data.geometry import Grid
from ..errors import InputError

# What MRML can show and save; everything else is cast by mrml_array.
_MRML_KINDS = {np.dtype(kind) for kind in ("i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8")}


def mrml_array(array: np.ndarray, name: str) -> np.ndarray:
    """The array, C-contiguous, in a type that MRML takes: bool, 64-bit integers and half floats are cast.

    64-bit integers become int32 where they fit, float64 otherwise. Raises InputError for values that
    are no real numbers; ``name`` is what the message calls them.
    """
    dtype = array.dtype.newbyteorder("=")
    if dtype not in _MRML_KINDS:
        if dtype.kind == "b":
            dtype = np.dtype(np.uint8)
        elif dtype == np.float16:
            dtype = np.dtype(np.float32)
        elif dtype.kind == "f":
            dtype = np.dtype(np.float64)
        elif dtype.kind in "iu":
            limits = np.iinfo(np.int32)
            fits = array.size == 0 or (array.min() >= limits.min and array.max() <= limits.max)
            dtype = np.dtype(np.int32 if fits else np.float64)
        else:
            raise InputError(f"{name} holds values of type {array.dtype}", "Give a volume of real numbers")
    return np.ascontiguousarray(array, dtype=dtype)


def vtk_column(values: np.ndarray, name: str = "", share: bool = False) -> Any:
    """A 1D array as a named vtkDataArray that owns its values, or with ``share`` the array's own memory.

    What cannot be written to (a file mapped for reading) is copied in any case: the scene writes in place.
    """
    from vtk.util import numpy_support

    share = share and values.flags.c_contiguous and values.flags.writeable
    column = numpy_support.numpy_to_vtk(np.ascontiguousarray(values), deep=not share)
    column.SetName(name)
    return column


def vtk_image(array: np.ndarray, share: bool = False) -> Any:
    """An array (K, J, I) of an MRML type as vtkImageData with unit spacing; values are copied, unless ``share``."""
    import vtk

    image = vtk.vtkImageData()
    _fill(image, array, (0, 0, 0), share)
    return image


def oriented_image(
    array: np.ndarray, grid: Grid, start_ijk: tuple[int, int, int] = (0, 0, 0), share: bool = False
) -> Any:
    """A part (K, J, I) of an array on ``grid`` as vtkOrientedImageData.

    Parameters
    ----------
    array : the part, of an MRML type; values are copied, unless ``share``.
    grid : the whole grid, whose geometry the image keeps.
    start_ijk : index (i, j, k) on ``grid`` of the part's first voxel.
    """
    from .session import import_slicer

    image = import_slicer().vtkOrientedImageData()
    image.SetImageToWorldMatrix(vtk_matrix(grid.ijk_to_ras))
    _fill(image, array, start_ijk, share)
    return image


def _fill(image: Any, array: np.ndarray, start_ijk: tuple[int, int, int], share: bool) -> None:
    counts = array.shape[::-1]
    extent = [bound for first, count in zip(start_ijk, counts) for bound in (int(first), int(first) + count - 1)]
    image.SetExtent(*extent)
    image.GetPointData().SetScalars(vtk_column(array.reshape(-1), "ImageScalars", share))


def vtk_matrix(array: np.ndarray) -> Any:
    """A (4, 4) array as vtkMatrix4x4."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(np.asarray(array, dtype=np.float64).ravel().tolist())
    return matrix


def numpy_matrix(matrix: Any) -> np.ndarray:
    """A vtkMatrix4x4 as a (4, 4) float64 array."""
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
