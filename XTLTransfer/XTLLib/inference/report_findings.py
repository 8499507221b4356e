"""The page of a classification: every channel around the findings, and their probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..data.geometry import Grid
from ..data.volume import Volume, resample
from .classify import BALL_RADIUS_MM
from .report import FAINT, INK, MARK, draw_heading, draw_table, dress_picture
from .results import ClassificationResult, RatedFinding

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PICTURED = 4
_TABLE_ROWS = 15
_FIELD_MM, _PIXEL_MM = 64.0, 0.5
_LEFT, _TOP, _WIDTH, _HEIGHT = 0.075, 0.855, 0.56, 0.79  # of the pictures, shares of the page
_FILLED = 0.97  # of a picture's share; the rest parts it from the next one


def draw_findings(figure: Figure, result: ClassificationResult) -> None:
    """Fill the page."""
    count = len(result.findings)
    by_probability = sorted(result.findings, key=lambda rated: -rated.probability)
    pictured = by_probability[:_PICTURED]
    which = "all findings" if len(pictured) == count else f"the {len(pictured)} likeliest findings"
    draw_heading(
        figure,
        "Prostate findings: probability of clinically significant cancer",
        f"{count} finding{'' if count == 1 else 's'}.  Shown: {which}, {_FIELD_MM:g} x {_FIELD_MM:g} mm, axial to "
        f"{result.case.reference}, patient's right at the left; the ring has a radius of {BALL_RADIUS_MM:g} mm.",
    )
    names = [result.case.reference, *(name for name in result.case.channels if name != result.case.reference)]
    side = min(_WIDTH / len(names), _HEIGHT * _page_ratio(figure) / max(len(pictured), 2))  # share of the page's width
    axes_of_reference = result.case.grid.along_lps()
    for row, rated in enumerate(pictured):
        for column, name in enumerate(names):
            left, top = _LEFT + column * side, _TOP - row * side / _page_ratio(figure)
            box = (
                left,
                top - _FILLED * side / _page_ratio(figure),
                _FILLED * side,
                _FILLED * side / _page_ratio(figure),
            )
            axes = figure.add_axes(box, facecolor="black")
            _draw_crop(axes, result.case.channels[name], axes_of_reference, rated)
            if row == 0:
                axes.set_title(name, fontsize=11, color=INK, pad=5)
            if column == 0:
                axes.text(
                    -0.07,
                    0.5,
                    f"{rated.finding.identifier}\n{rated.probability:.0%}",
                    transform=axes.transAxes,
                    ha="right",
                    va="center",
                    fontsize=11,
                    weight="bold",
                    color=INK,
                )
    _draw_table(figure.add_axes((0.67, 0.075, 0.31, 0.79)), by_probability)


def _page_ratio(figure: Figure) -> float:
    width, height = figure.get_size_inches()
    return float(height / width)


def _draw_crop(axes: Axes, volume: Volume, oriented: Grid, rated: RatedFinding) -> None:
    from matplotlib.patches import Circle

    pixels = round(_FIELD_MM / _PIXEL_MM)
    directions = oriented.ijk_to_ras[:3, :3] / np.array(oriented.spacing_mm)
    affine = np.eye(4)
    affine[:3, :3] = directions * np.array([_PIXEL_MM, _PIXEL_MM, oriented.spacing_mm[2]])
    middle = np.array([(pixels - 1) / 2, (pixels - 1) / 2, 0.0])
    affine[:3, 3] = np.array(rated.finding.position_ras) - affine[:3, :3] @ middle
    crop = resample(volume, Grid((1, pixels, pixels), affine)).array[0]
    low, high = np.percentile(crop, (1, 99))
    axes.imshow(crop, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), interpolation="bilinear")
    axes.add_patch(Circle(middle[:2], BALL_RADIUS_MM / _PIXEL_MM, fill=False, color=MARK, linewidth=1.3))
    dress_picture(axes, (_PIXEL_MM, _PIXEL_MM), crop.shape, 10.0)


def _draw_table(axes: Axes, ratings: list[RatedFinding]) -> None:
    header = ("\nid", "\nfinding", "\nzone", "R\nmm", "A\nmm", "S\nmm", "\nprobability")
    widths = (0.07, 0.16, 0.12, 0.15, 0.15, 0.15, 0.20)
    rows = [
        (
            str(rated.row),
            rated.finding.identifier,
            rated.finding.zone or "–",
            *(f"{mm:.1f}" for mm in rated.finding.position_ras),
            f"{rated.probability:.3f}",
        )
        for rated in ratings[:_TABLE_ROWS]
    ]
    draw_table(axes, header, rows, widths)
    if len(ratings) > _TABLE_ROWS:
        axes.text(0.0, 0.08, f"and {len(ratings) - _TABLE_ROWS} more (lesions.tsv)", color=FAINT, fontsize=9)
