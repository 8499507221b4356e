"""The page of a comparison over time: the same slices at the first and the last time point, coloured by status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..data.volume import Volume, resample
from .longitudinal import STATUSES, LongitudinalResult
from .report import FAINT, INK, draw_heading, draw_table, dress_picture, write_on_picture
from .report_lesions import head_box

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SLICES = 3
_TABLE_ROWS = 16
COLORS: Mapping[str, str] = {
    "new": "#d61c1c",
    "enlarging": "#fa991a",
    "stable": "#bfbfbf",
    "shrinking": "#59a6f2",
    "resolved": "#1f45ad",
}


def draw_history(figure: Figure, result: LongitudinalResult, images: Sequence[Volume]) -> None:
    """Fill the page. ``images`` are those of the time points, where their registrations put them."""
    counts = ",  ".join(f"{result.count(status)} {status}" for status in STATUSES)
    loads = " to ".join(f"{volume / 1000:.2f}" for volume in result.total_volumes_mm3)
    draw_heading(
        figure, f"MS lesions from {result.names[0]} to {result.names[-1]}", f"{counts}.  Lesion load {loads} ml."
    )
    grid = result.status.grid
    shown = (images[0], images[-1])
    arrays = [grid.to_along_lps(resample(image, grid).array) for image in shown]
    status = grid.to_along_lps(result.status.array)
    labels = [grid.to_along_lps(result.labels[time].array) for time in (0, -1)]
    grid = grid.along_lps()
    box = head_box(arrays[0], grid)
    grid = grid.crop(box)
    arrays, labels, status = [a[box] for a in arrays], [a[box] for a in labels], status[box]
    slices = _slices(status)
    places = figure.add_gridspec(2, _SLICES, left=0.02, right=0.60, top=0.84, bottom=0.065, wspace=0.03, hspace=0.04)
    x_mm, y_mm, _ = grid.spacing_mm
    for row, (array, label, name) in enumerate(zip(arrays, labels, (result.names[0], result.names[-1]))):
        low, high = np.percentile(array[array > 0], (1, 99.7)) if (array > 0).any() else (0.0, 1.0)
        for column, k in enumerate(slices):
            axes = figure.add_subplot(places[row, column], facecolor="black")
            axes.imshow(array[k], cmap="gray", vmin=low, vmax=high, aspect=y_mm / x_mm, interpolation="bilinear")
            for number, state in enumerate(STATUSES, start=1):
                here = (status[k] == number) & (label[k] > 0)
                if here.any():
                    axes.contour(here, levels=[0.5], colors=COLORS[state], linewidths=1.2)
            dress_picture(axes, (x_mm, y_mm), array[k].shape, 20.0)
            centre = grid.index_to_ras([(array.shape[2] - 1) / 2, (array.shape[1] - 1) / 2, k])
            write_on_picture(axes, 0.985, 0.03, f"S {centre[2]:+.0f} mm", ha="right")
            if column == 0:
                write_on_picture(axes, 0.03, 0.93, name, ha="left", weight="bold")
    _legend(figure, result)
    _table(figure, result)


def _slices(status: np.ndarray) -> list[int]:
    """The slices with the most changed voxels, apart from each other; then those with most lesions."""
    changed = (status > 0) & (status != 1 + STATUSES.index("stable"))
    weight = changed.sum(axis=(1, 2)) * 1000.0 + (status > 0).sum(axis=(1, 2))
    chosen: list[int] = []
    for k in np.argsort(-weight, kind="stable").tolist():
        if all(abs(k - other) > max(1, len(weight) // 12) for other in chosen):
            chosen.append(k)
        if len(chosen) == _SLICES:
            break
    return sorted(chosen)


def _legend(figure: Figure, result: LongitudinalResult) -> None:
    for number, state in enumerate(STATUSES):
        x = 0.02 + 0.115 * number
        figure.text(x, 0.868, "■", color=COLORS[state], fontsize=12, va="center")
        figure.text(x + 0.015, 0.868, f"{state} ({result.count(state)})", color=INK, fontsize=9.5, va="center")


def _table(figure: Figure, result: LongitudinalResult) -> None:
    axes = figure.add_axes((0.625, 0.075, 0.355, 0.79))
    header = ("\nlesion", "\nstatus", "R\nmm", "A\nmm", "S\nmm", "first\nmm³", "last\nmm³", "change\n%")
    widths = (0.09, 0.17, 0.11, 0.11, 0.11, 0.14, 0.14, 0.13)
    rows = [
        (
            str(h.identifier),
            h.status,
            *(f"{mm:.1f}" for mm in h.position_ras),
            f"{h.volumes_mm3[0]:.0f}",
            f"{h.volumes_mm3[-1]:.0f}",
            "" if np.isnan(h.change_percent) else f"{h.change_percent:+.0f}",
        )
        for h in result.histories[:_TABLE_ROWS]
    ]
    draw_table(axes, header, rows, widths)
    hidden = len(result.histories) - _TABLE_ROWS
    if hidden > 0:
        axes.text(0.0, 0.035, f"and {hidden} more (comparison.tsv)", color=FAINT, fontsize=9)
    elif not result.histories:
        axes.text(0.0, 0.87, "No lesion at any time point.", color=FAINT, fontsize=10, va="top")
