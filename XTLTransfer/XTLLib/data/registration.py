"""Rigid registration of images of one head, in patient space.

A registration changes where an image lies, not its voxels: the moved volume has the same array on a grid
whose affine includes the transform, and is interpolated once, when it is resampled onto a working grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..progress import Progress
from .geometry import LPS_TO_RAS, Grid
from .itk_threads import one_itk_thread
from .volume import Volume, to_sitk

_SHRINK_FACTORS = (4, 2, 1)
_SMOOTHING_MM = (4.0, 2.0, 0.0)
_FINEST_MM = 2.0  # finer voxels gain less than a tenth of a millimetre and cost eight times the time
_COARSE_MM = 5.0
_BINS = 32
_SAMPLES = 0.25  # of the voxels, on a regular grid, so that the same images give the same transform
_SMALLEST_STEP_MM, _COARSE_STEP_MM = 1e-4, 0.05  # at which the search ends
_ITERATIONS = 150
_MOST_VALUES = 200_000  # for a percentile


@dataclass(frozen=True, eq=False)
class Registration:
    """A rigid transform.

    Attributes
    ----------
    moving_to_fixed : (4, 4), RAS mm of a point as the moving image has it -> RAS mm in the fixed image's space.
    similarity : mutual information (nats, Mattes et al. 2003) of the two images after the transform.
    similarity_before : the same without the transform.
    displacement_mm : mean distance by which the moving image's head is moved.
    rotation_degrees : angle of the rotation.
    """

    moving_to_fixed: np.ndarray
    similarity: float
    similarity_before: float
    displacement_mm: float
    rotation_degrees: float

    def apply(self, volume: Volume) -> Volume:
        """The volume where the transform puts it; its array is not touched."""
        return moved(volume, self.moving_to_fixed)


def moved(volume: Volume, transform: np.ndarray) -> Volume:
    """A volume under a linear transform (4, 4) of RAS points; its array is not touched."""
    return Volume(volume.array, Grid(volume.grid.shape, transform @ volume.grid.ijk_to_ras), volume.name)


def register_rigid(
    moving: Volume, fixed: Volume, *, coarse: bool = False, progress: Progress | None = None
) -> Registration:
    """Find the rigid transform that brings ``moving`` onto ``fixed``, two images of one head.

    Maximises Mattes' mutual information (Mattes et al. 2003, doi 10.1109/TMI.2003.809072) with SimpleITK,
    from coarse to fine, beginning with the two images as their headers place them: images of one
    examination nearly agree, and those of two are brought together by their centres of mass first when that
    is the better start. The same images give the same transform.

    Parameters
    ----------
    coarse : 5 mm voxels only; about a tenth of a second, to see whether two images agree.
    progress : told once an iteration; a cancel stops there.

    Raises
    ------
    InputError : an image is empty, or the two have nothing in common.
    Cancelled : at the request of ``progress``.
    """
    with one_itk_thread():  # sums over threads come in any order
        return _register(moving, fixed, coarse, progress)


def _register(moving: Volume, fixed: Volume, coarse: bool, progress: Progress | None) -> Registration:
    import SimpleITK as sitk

    spacing = _COARSE_MM if coarse else _FINEST_MM
    fixed_image, moving_image = (_at_spacing(volume.require_finite(), spacing) for volume in (fixed, moving))
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(_SAMPLES, seed=1)  # of the jitter within the grid
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        2.0,
        _COARSE_STEP_MM if coarse else _SMALLEST_STEP_MM,
        _ITERATIONS,
        relaxationFactor=0.5 if coarse else 0.7,
        gradientMagnitudeTolerance=1e-8,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    levels = 2 if coarse else len(_SHRINK_FACTORS)
    method.SetShrinkFactorsPerLevel(_SHRINK_FACTORS[-levels:])
    method.SetSmoothingSigmasPerLevel(_SMOOTHING_MM[-levels:])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()

    starts = [_identity(fixed_image), _by_centres(fixed_image, moving_image)]
    scores = [_similarity(method, fixed_image, moving_image, start) for start in starts]
    before, start = scores[0], starts[int(np.nanargmax(scores))] if not np.isnan(scores).all() else None
    if start is None:
        raise InputError(
            f"{moving.name} and {fixed.name} have nothing in common in patient space",
            "Check that both show the same head",
        )
    method.SetInitialTransform(start, inPlace=False)
    _report_to(method, progress or Progress(), levels)
    try:
        found = method.Execute(fixed_image, moving_image)
    except RuntimeError as error:
        _raise_cancelled(progress)
        raise InputError(
            f"{moving.name} cannot be registered to {fixed.name}", "Check that both show the same head"
        ) from error
    _raise_cancelled(progress)
    after = _similarity(method, fixed_image, moving_image, found)
    if not after > before:  # the search found nothing better than the headers
        found, after = _identity(fixed_image), before
    # ITK maps fixed points to moving ones, in LPS.
    moving_to_fixed = np.linalg.inv(LPS_TO_RAS @ _matrix(found) @ LPS_TO_RAS)
    return Registration(
        moving_to_fixed,
        after,
        before,
        _mean_displacement(moving, moving_to_fixed),
        float(np.degrees(np.arccos(np.clip((np.trace(moving_to_fixed[:3, :3]) - 1) / 2, -1, 1)))),
    )


def _at_spacing(volume: Volume, spacing_mm: float):
    """The volume as a float image whose voxels are no finer than ``spacing_mm``, cut at its 99.5th percentile."""
    import SimpleITK as sitk

    array = np.asarray(volume.array, dtype=np.float32)
    some = array.reshape(-1)[:: max(1, array.size // _MOST_VALUES)]
    high = float(np.percentile(some, 99.5))
    if not high > float(array.min()):
        raise InputError(f"{volume.name} holds no foreground: all its voxels are alike", "Choose the right image")
    image = to_sitk(Volume(np.minimum(array, high), volume.grid, volume.name))
    factors = [max(1, int(spacing_mm / s + 1e-3)) for s in image.GetSpacing()]
    factors = [min(f, n) for f, n in zip(factors, image.GetSize())]
    return sitk.BinShrink(image, factors) if max(factors) > 1 else image


def _identity(fixed_image):
    """No motion, as a transform whose rotations turn about the middle of the fixed image."""
    import SimpleITK as sitk

    transform = sitk.Euler3DTransform()
    middle = [(n - 1) / 2 for n in fixed_image.GetSize()]
    transform.SetCenter(fixed_image.TransformContinuousIndexToPhysicalPoint(middle))
    return transform


def _by_centres(fixed_image, moving_image):
    import SimpleITK as sitk

    start = sitk.CenteredTransformInitializer(
        fixed_image, moving_image, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    return sitk.Euler3DTransform(start)


def _similarity(method, fixed_image, moving_image, transform) -> float:
    """Mutual information under a transform; NaN where the images do not overlap."""
    method.SetInitialTransform(transform, inPlace=False)
    try:
        return -float(method.MetricEvaluate(fixed_image, moving_image))
    except RuntimeError:
        return float("nan")


def _report_to(method, progress: Progress, levels: int) -> None:
    import SimpleITK as sitk

    from ..errors import Cancelled

    def tell() -> None:
        done = (method.GetCurrentLevel() + method.GetOptimizerIteration() / _ITERATIONS) / levels
        try:
            progress.report("Registering", min(done, 1.0))
        except Cancelled:  # may not pass through ITK
            method.StopRegistration()

    method.AddCommand(sitk.sitkIterationEvent, tell)


def _raise_cancelled(progress: Progress | None) -> None:
    if progress is not None:
        progress.report("Registering", 1.0)


def _matrix(transform) -> np.ndarray:
    """(4, 4) of a rigid ITK transform, LPS."""
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([transform.TransformPoint(tuple(unit)) - origin for unit in np.eye(3)], axis=1)
    matrix[:3, 3] = origin
    return matrix


def _mean_displacement(volume: Volume, transform: np.ndarray) -> float:
    """Mean distance (mm) by which the foreground of a volume is moved."""
    array = np.asarray(volume.array)
    step = max(1, round((array.size / 50_000) ** (1 / 3)))
    some = array[::step, ::step, ::step]
    kji = np.argwhere(some > some.mean()) * step
    points = volume.grid.index_to_ras(kji[:, ::-1])
    return float(np.linalg.norm(points @ transform[:3, :3].T + transform[:3, 3] - points, axis=1).mean())
