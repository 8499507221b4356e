"""The bias field: slow changes of brightness that come from the coils, not from the tissue."""

from __future__ import annotations

import numpy as np

from .itk_threads import one_itk_thread

_WORKING_MM = 6.0  # the field is smooth: what N4 needs is found on voxels of this size
_ITERATIONS = (30, 30, 20)  # at most, on each of the levels, from coarse to fine: a control point about every 5 cm
_SMALLEST_AXIS = 4  # control points need some voxels between them


def remove_bias(channel: np.ndarray, foreground: np.ndarray, spacing_mm: tuple[float, float, float]) -> None:
    """In place: divide an image by its bias field, found by N4 within the foreground.

    N4 (Tustison et al. 2010, doi 10.1109/TMI.2010.2046908) looks for the smooth field that makes the histogram
    sharpest. It runs on the image shrunk to about 6 mm, and the field, a B-spline, is then evaluated at every
    voxel. The mean of the field's logarithm over the foreground is 0, so that the image keeps its level.
    The same image gives the same field.

    Parameters
    ----------
    channel : float32 (K, J, I). Values of 0 and below, of which there is no logarithm, are left as they are.
    foreground : bool (K, J, I), the head.
    spacing_mm : along (i, j, k).
    """
    inside = foreground & (channel > 0)
    if inside.any():
        log_field = _log_field(channel, inside, spacing_mm)
        channel[inside] /= np.exp(log_field[inside] - log_field[inside].mean())


def _log_field(channel: np.ndarray, inside: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    import SimpleITK

    image, mask = SimpleITK.GetImageFromArray(channel), SimpleITK.GetImageFromArray(inside.astype(np.uint8))
    for each in (image, mask):
        each.SetSpacing(spacing_mm)
    factors = [
        max(1, min(round(_WORKING_MM / mm), count // _SMALLEST_AXIS)) for mm, count in zip(spacing_mm, image.GetSize())
    ]
    n4 = SimpleITK.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations(_ITERATIONS)
    with one_itk_thread():
        n4.Execute(SimpleITK.Shrink(image, factors), SimpleITK.Shrink(mask, factors))
        return SimpleITK.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image))
