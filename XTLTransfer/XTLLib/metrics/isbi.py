"""The raw score of the ISBI 2015 longitudinal MS lesion challenge (Carass et al. 2017, NeuroImage 148:77).

S = Dice/8 + PPV/8 + (1 - LFPR)/4 + LTPR/4 + r/4, with r the Pearson correlation of predicted and manual
lesion volumes across scans. The challenge then rescaled S so that a second rater scored 90; the constants of
that rescaling were not published with the score, so S is given raw and is not comparable with the
challenge's figures of 90 and above.
"""

from __future__ import annotations

import numpy as np

from ..errors import InputError


def isbi_score(dice, ppv, ltpr, lfpr, volume_correlation: float | None = None) -> np.ndarray | float:
    """The raw score S of one scan or of many; 1 is perfect.

    Parameters
    ----------
    dice, ppv, ltpr, lfpr : numbers or (n,) arrays, 0 to 1, of each scan; NaN gives NaN.
    volume_correlation : r, one number for all scans, -1 to 1 (:func:`volume_correlation`). None or NaN (fewer than
        three scans, or volumes without spread) leaves r out and multiplies the rest by 4/3, so that 1 stays perfect.

    Returns
    -------
    float for numbers, (n,) for arrays.
    """
    figures = {name: np.asarray(v, dtype=np.float64) for name, v in zip(_NAMES, (dice, ppv, ltpr, lfpr))}
    for name, values in figures.items():
        if ((values < 0) | (values > 1)).any():
            raise InputError(f"an ISBI score of a {name} outside 0 to 1", "Give shares, not percentages")
    rest = figures["Dice"] / 8 + figures["PPV"] / 8 + (1.0 - figures["LFPR"]) / 4 + figures["LTPR"] / 4
    if volume_correlation is None or np.isnan(volume_correlation):
        score = rest * 4.0 / 3.0
    else:
        score = rest + volume_correlation / 4.0
    return float(score) if np.ndim(score) == 0 else score


def volume_correlation(predicted_ml: np.ndarray, reference_ml: np.ndarray) -> float:
    """Pearson's r of predicted and reference lesion volumes across scans.

    Parameters
    ----------
    predicted_ml, reference_ml : (n,) volumes of the same scans; any unit, scans without lesions count as 0.

    Returns
    -------
    NaN with fewer than three scans (two are always on one line) or when one of both has no spread.
    """
    predicted, reference = (np.asarray(v, dtype=np.float64).ravel() for v in (predicted_ml, reference_ml))
    if predicted.size != reference.size:
        raise InputError(
            f"{predicted.size} predicted and {reference.size} reference volumes", "Give both volumes of each scan"
        )
    if predicted.size < 3 or np.ptp(predicted) == 0 or np.ptp(reference) == 0:
        return float("nan")
    a, b = predicted - predicted.mean(), reference - reference.mean()
    return float(np.clip((a @ b) / np.sqrt((a @ a) * (b @ b)), -1.0, 1.0))


_NAMES = ("Dice", "PPV", "LTPR", "LFPR")
