"""The page of a segmentation: axial slices through the largest lesions, and the lesion table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..data.geometry import Grid
from ..metrics.components import bounding_box
from .report import FAINT, MARK, dark_rim, draw_heading, draw_table, dress_picture, write_on_picture
from .results import SegmentationResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROWS, _COLUMNS = 2, 3
_TABLE_ROWS = 15
_MARGIN_MM = 8.0


def draw_lesions(figure: Figure, result: SegmentationResult) -> None:
    """Fill the page."""
    total_ml = sum(lesion.volume_mm3 for lesion in result.lesions) / 1000.0
    count = len(result.lesions)
    draw_heading(
        figure,
        "MS lesions" if count else "MS lesions: none found",
        f"{count} lesion{'' if count == 1 else 's'}, {total_ml:.2f} ml in total.  Lesion: probability ≥ "
        f"{result.threshold:.2g}, 26-connected, at least {result.minimum_volume_mm3:g} mm³.  "
        f"Shown: {result.case.reference}, axial, patient's right at the left.",
    )
    grid = result.label.grid
    image = grid.to_along_lps(result.case.channels[result.case.reference].array)
    label = grid.to_along_lps(result.label.array)
    grid = grid.along_lps()
    box = head_box(image, grid)
    image, label, grid = image[box], label[box], grid.crop(box)
    slices = slices_to_show(label, _ROWS * _COLUMNS)
    low, high = np.percentile(image[image > 0], (1, 99.7)) if (image > 0).any() else (0.0, 1.0)
    pictures = figure.add_gridspec(
        _ROWS, _COLUMNS, left=0.02, right=0.60, top=0.87, bottom=0.065, wspace=0.03, hspace=0.04
    )
    for number, k in enumerate(slices):
        axes = figure.add_subplot(pictures[number // _COLUMNS, number % _COLUMNS], facecolor="black")
        _draw_slice(axes, image[k], label[k], grid, k, (float(low), float(high)))
    _draw_table(figure.add_axes((0.625, 0.075, 0.355, 0.79)), result)


def slices_to_show(label: np.ndarray, count: int) -> list[int]:
    """Slice numbers k, increasing, of a label map (K, J, I): through the largest lesions, then spread evenly.

    A lesion that a chosen slice already shows takes no slice of its own.
    """
    chosen: list[int] = []
    values, where = np.unique(label[label > 0]), np.argwhere(label > 0)
    identifiers = label[label > 0]
    for value in values:  # identifiers run by decreasing volume
        ks = where[identifiers == value, 0]
        if not set(chosen).intersection(ks.tolist()):
            chosen.append(int(np.bincount(ks).argmax()))
        if len(chosen) == count:
            break
    spread = np.linspace(0, label.shape[0] - 1, count + 2)[1:-1].round().astype(int).tolist()
    chosen += [k for k in dict.fromkeys(spread) if k not in chosen]
    return sorted(chosen[:count])


def _draw_slice(axes: Axes, image: np.ndarray, label: np.ndarray, grid: Grid, k: int, window) -> None:
    x_mm, y_mm, _ = grid.spacing_mm
    axes.imshow(image, cmap="gray", vmin=window[0], vmax=window[1], aspect=y_mm / x_mm, interpolation="bilinear")
    if (label > 0).any():
        axes.contour(label > 0, levels=[0.5], colors=MARK, linewidths=1.0)
    values = np.unique(label[label > 0])
    for value in values[values <= _TABLE_ROWS]:
        ji = np.argwhere(label == value)
        j, i = ji[ji[:, 1].argmax()]  # beside its leftmost point, which lies at the right of the picture
        axes.annotate(
            str(value),
            (i, j),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=MARK,
            fontsize=8.5,
            weight="bold",
            path_effects=dark_rim(),
        )
    dress_picture(axes, (x_mm, y_mm), image.shape, 20.0)
    centre = grid.index_to_ras([(image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2, k])
    write_on_picture(axes, 0.985, 0.03, f"S {centre[2]:+.0f} mm", ha="right")


def _draw_table(axes: Axes, result: SegmentationResult) -> None:
    header = ("\nlesion", "R\nmm", "A\nmm", "S\nmm", "volume\nmm³", "diameter\nmm", "probability\nmean", "\nmax")
    widths = (0.09, 0.11, 0.11, 0.11, 0.155, 0.14, 0.175, 0.11)
    shown = result.lesions[:_TABLE_ROWS]
    rows = [
        (
            str(lesion.identifier),
            *(f"{mm:.1f}" for mm in lesion.position_ras),
            f"{lesion.volume_mm3:.1f}",
            f"{lesion.longest_diameter_mm:.1f}",
            f"{lesion.mean_probability:.2f}",
            f"{lesion.maximum_probability:.2f}",
        )
        for lesion in shown
    ]
    draw_table(axes, header, rows, widths)
    hidden = result.lesions[_TABLE_ROWS:]
    if not result.lesions:
        axes.text(0.0, 0.87, "No voxel group reached threshold and size.", color=FAINT, fontsize=10, va="top")
    elif hidden:
        rest = sum(lesion.volume_mm3 for lesion in hidden)
        axes.text(
            0.0, 0.08, f"and {len(hidden)} smaller ones, {rest:.0f} mm³ together (lesions.tsv)", color=FAINT, fontsize=9
        )


def head_box(image: np.ndarray, grid: Grid) -> tuple[slice, slice, slice]:
    """The box of what is brighter than air, with a margin."""
    box = bounding_box(image > 0.05 * np.percentile(image, 99.5)) or tuple(slice(0, n) for n in image.shape)
    margins = [round(_MARGIN_MM / mm) for mm in grid.spacing_mm[::-1]]
    return tuple(slice(max(0, p.start - m), min(n, p.stop + m)) for p, m, n in zip(box, margins, image.shape))
