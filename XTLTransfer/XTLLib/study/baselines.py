"""What a network has to beat without any training: one threshold on FLAIR, one contrast on ADC; their patches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..data.case import Case
from ..data.datalist import Datalist
from ..data.patches import PatchSpec
from ..data.prepare import Preparation
from ..data.volume import Volume
from ..errors import InputError
from ..metrics.overlap import dice

_CENTRE_RADIUS_MM = 5.0
_RING_MM = (8.0, 16.0)
# Rows and columns of a baseline's patches, and the extent in mm of each channel that it may use. A project choice:
# radiomics sees what the networks of Resources/Chains see. The SVM's 5 mm are cut out of 15 mm, because a patch
# that is constant is refused, and 5 mm without contrast are no sign of a damaged image.
_SAMPLES = {"radiomics-lr": 32, "svm": 15, "adc-contrast": 32}
_EXTENTS_MM = {
    "radiomics-lr": {"T2W": 16.0, "ADC": 32.0, "HBV": 32.0},
    "svm": {"T2W": 15.0, "ADC": 15.0, "HBV": 15.0},
    "adc-contrast": {"ADC": 64.0},
}
_SLICE_MM = 3.0  # says only how thick a slice is thought to be: patches of one slice are one slice of the image


class FlairThreshold:
    """A lesion is where normalised FLAIR exceeds one value, the value that serves the training cases best.

    FLAIR is normalised to zero mean and unit SD over the head (:class:`Preparation`), so that one value
    can serve several scanners. The value is the one of 1.0, 1.1 ... 5.0 SD with the largest mean Dice on
    the training cases.
    """

    _CANDIDATES = np.arange(1.0, 5.05, 0.1)

    def __init__(self, channel: str = "FLAIR") -> None:
        self._preparation = Preparation((channel,), channel)
        self.threshold = float("nan")

    def fit(self, cases: Sequence[Case]) -> FlairThreshold:
        """Choose the threshold on cases with masks."""
        scores = []
        for case in cases:
            image, truth = self._image_and_truth(case)
            scores.append([dice(image > value, truth) for value in self._CANDIDATES])
        self.threshold = float(self._CANDIDATES[int(np.mean(scores, axis=0).argmax())])
        return self

    def predict(self, case: Case) -> Volume:
        """The lesion mask, bool on the grid of FLAIR."""
        prepared = self._preparation(case)
        mask = prepared.on_reference_grid((prepared.image[0] > self.threshold).astype(np.float32), "FLAIR threshold")
        return Volume(mask.array > 0.5, mask.grid, mask.name)

    def _image_and_truth(self, case: Case) -> tuple[np.ndarray, np.ndarray]:
        prepared = self._preparation(case)
        return prepared.image[0], prepared.mask_on_working_grid(case.mask)


def baseline_patches(name: str, datalist: Datalist) -> PatchSpec:
    """The patches that a baseline sees: one slice, rank intensity, of the channels that the datalist has.

    Raises InputError when it has none that the baseline can use.
    """
    extents = {channel: mm for channel, mm in _EXTENTS_MM[name].items() if channel in datalist.channels}
    if not extents:
        raise InputError(
            f"its channels are {', '.join(datalist.channels)}, this baseline needs {' or '.join(_EXTENTS_MM[name])}",
            "Add such a channel to the datalist, or leave this baseline out",
        )
    reference = datalist.reference if datalist.reference in extents else next(iter(extents))
    sizes = {channel: (mm, mm, _SLICE_MM) for channel, mm in extents.items()}
    return PatchSpec(tuple(extents), (1, _SAMPLES[name], _SAMPLES[name]), sizes, "rank", reference)


def adc_contrast(patches: np.ndarray, spec: PatchSpec) -> np.ndarray:
    """How much darker a finding is on ADC than its surroundings; nothing is fitted.

    Mean of a ring 8-16 mm from the finding minus mean of the disc within 5 mm, in the finding's own
    slice. A patch without ADC (constant) scores 0.

    Parameters
    ----------
    patches : (N, C, K, J, I) as ``spec`` describes them.

    Returns
    -------
    (N,) float64, larger where cancer is likelier.
    """
    if "ADC" not in spec.channels:
        raise InputError("the baseline adc-contrast on patches without ADC", "Add the channel ADC to the chain")
    slices, rows, columns = spec.shape
    width, height, _ = spec.size_mm["ADC"]
    y = (np.arange(rows) - (rows - 1) / 2) * height / rows
    x = (np.arange(columns) - (columns - 1) / 2) * width / columns
    radius = np.hypot(y[:, None], x[None, :])
    adc = np.asarray(patches, dtype=np.float64)[:, spec.channels.index("ADC"), slices // 2]
    ring = (radius > _RING_MM[0]) & (radius <= _RING_MM[1])
    if not ring.any():
        raise InputError(
            f"the baseline adc-contrast on ADC patches of {width:g} x {height:g} mm",
            f"Give ADC patches of at least {2 * _RING_MM[1]:g} mm",
        )
    return adc[:, ring].mean(axis=1) - adc[:, radius <= _CENTRE_RADIUS_MM].mean(axis=1)
