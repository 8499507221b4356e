"""Lookup tables and windows of DICOM images (part 3, C.11.1 and C.11.2), on arrays.

pydicom has functions for both. They are not used as its tables of 8-bit entries wrap beyond the 256th
entry, tables of 12-bit modality values are refused, and a negative rescale slope turns a windowed image
upside down (pydicom 3.0). Where pydicom is right, a test holds both to be equal.
"""

from __future__ import annotations

import numpy as np


def look_up(values: np.ndarray, item, dataset) -> tuple[np.ndarray, float]:
    """``values`` through the table of a LUT sequence's item (float32), and the largest value that it can give.

    Values before the first one that is mapped get the first entry, values after the last one the last.
    """
    count, first, bits = (int(number) for number in item.LUTDescriptor)
    count = count or 1 << 16
    if first >= 1 << 15 and int(dataset.get("PixelRepresentation") or 0):
        first -= 1 << 16  # a signed number that was written as an unsigned one
    data = item.LUTData
    if isinstance(data, bytes):
        is_little = getattr(dataset, "original_encoding", (None, True))[1] is not False
        kind = "u1" if len(data) < 2 * count else "<u2" if is_little else ">u2"
        data = np.frombuffer(data, kind)
    table = np.asarray(data, dtype=np.float32).ravel()[:count]
    index = np.clip(np.rint(values).astype(np.int64) - first, 0, len(table) - 1)
    return table[index], 2.0**bits - 1


def apply_voi(
    values: np.ndarray, dataset, function: str = "LINEAR"
) -> tuple[np.ndarray, tuple[float, float] | None, list[str]]:
    """``values`` as the first VOI LUT or else the first window shows them.

    Parameters
    ----------
    function : of the window: LINEAR, LINEAR_EXACT or SIGMOID.

    Returns
    -------
    the values, float32; the range that they can have, None when there is no VOI; notes on a window that
    cannot be used, which leaves the values as they are.
    """
    if dataset.get("VOILUTSequence"):
        shown, largest = look_up(values, dataset.VOILUTSequence[0], dataset)
        if np.ptp(shown) > 0:
            return shown, (0.0, largest), []
        return values, None, ["its VOI table shows one grey only and was left out"]
    centre, width = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
    if centre is None or width is None:
        return values, None, []
    shown = _windowed(values, centre, width, function)
    if shown is None or np.ptp(shown) == 0:
        return (
            values,
            None,
            [f"its window ({function}, centre {centre:g}, width {width:g}) shows nothing and was left out"],
        )
    return shown, (0.0, 1.0), []


def _windowed(values: np.ndarray, centre: float, width: float, function: str) -> np.ndarray | None:
    """0..1, or None for a width or a function that the standard does not allow."""
    if not np.isfinite((centre, width)).all() or width <= 0:
        return None
    if function == "SIGMOID":
        return (1 / (1 + np.exp(np.clip(-4 * (values - np.float64(centre)) / width, -60, 60)))).astype(np.float32)
    if function == "LINEAR":
        if width <= 1:
            return None
        centre, width = centre - 0.5, width - 1
    elif function != "LINEAR_EXACT":
        return None
    return np.clip((values - np.float64(centre)) / width + 0.5, 0, 1).astype(np.float32)


def _first(value) -> float | None:
    """The first of a DICOM number of any multiplicity."""
    if value is None or value == "":
        return None
    if not isinstance(value, (str, int, float)):
        value = next(iter(value), None)
    return None if value is None else float(value)
