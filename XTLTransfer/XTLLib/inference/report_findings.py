"""The page of a classification: every channel around the findings, and their probabilities."""

from __future__ import annotations

from functools import partial
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np

from ..data.geometry import Grid
from ..data.volume import Volume, resample
from .classify import BALL_RADIUS_MM
from .finding_words import words_on_findings
from .report import FAINT, INK, MARK, draw_heading, draw_table, dress_picture
from .results import ClassificationResult, RatedFinding

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PICTURED = 4
_TABLE_ROWS = 15
_FIELD_MM, _PIXEL_MM = 64.0, 0.5
_LEFT, _TOP, _WIDTH, _HEIGHT = 0.075, 0.855, 0.56, 0.79  # of the pictures, shares of the page
_ANSWERS = {None: "–", True: "yes", False: "no"}
_TABLE_LEFT = 0.665
_OPACITY = 0.75  # of the strongest evidence
_LETTERS_A_PAGE, _LINE_STEP, _NAME_LETTERS = 205, 0.032, 12
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
    reference = result.case.reference
    columns = [(name, "") for name in (reference, *(name for name in result.case.channels if name != reference))]
    columns += [(reference, kind) for kind in dict.fromkeys(k for maps in result.evidence.values() for k in maps)]
    side = min(
        _WIDTH / len(columns), _HEIGHT * _page_ratio(figure) / max(len(pictured), 2)
    )  # share of the page's width
    axes_of_reference = result.case.grid.along_lps()
    for row, rated in enumerate(pictured):
        for column, (name, kind) in enumerate(columns):
            left, top = _LEFT + column * side, _TOP - row * side / _page_ratio(figure)
            box = (
                left,
                top - _FILLED * side / _page_ratio(figure),
                _FILLED * side,
                _FILLED * side / _page_ratio(figure),
            )
            axes = figure.add_axes(box, facecolor="black")
            shown = result.evidence.get(rated.row, {}).get(kind)
            _draw_crop(axes, result.case.channels[name], axes_of_reference, rated, shown)
            if row == 0:
                axes.set_title(kind or name, fontsize=11, color=INK, pad=5)
            if column == 0:
                axes.text(
                    -0.07,
                    0.5,
                    "\n".join([*wrap(_short(rated.finding.identifier), 6), f"{rated.probability:.0%}"]),
                    transform=axes.transAxes,
                    ha="right",
                    va="center",
                    fontsize=11,
                    weight="bold",
                    color=INK,
                )
    left = min(_TABLE_LEFT, _LEFT + len(columns) * side + 0.05)
    table = figure.add_axes((left, 0.075, 0.98 - left, 0.79))
    end = _draw_table(table, by_probability)
    _draw_words(table, result, end, int(_LETTERS_A_PAGE * (0.98 - left)))


def _page_ratio(figure: Figure) -> float:
    width, height = figure.get_size_inches()
    return float(height / width)


def _draw_crop(axes: Axes, volume: Volume, oriented: Grid, rated: RatedFinding, evidence: Volume | None) -> None:
    from matplotlib.patches import Circle

    pixels = round(_FIELD_MM / _PIXEL_MM)
    directions = oriented.ijk_to_ras[:3, :3] / np.array(oriented.spacing_mm)
    affine = np.eye(4)
    affine[:3, :3] = directions * np.array([_PIXEL_MM, _PIXEL_MM, oriented.spacing_mm[2]])
    middle = np.array([(pixels - 1) / 2, (pixels - 1) / 2, 0.0])
    affine[:3, 3] = np.array(rated.finding.position_ras) - affine[:3, :3] @ middle
    plane = Grid((1, pixels, pixels), affine)
    crop = resample(volume, plane).array[0]
    low, high = np.percentile(crop, (1, 99))
    axes.imshow(crop, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), interpolation="bilinear")
    if evidence is not None:
        values = resample(evidence, plane).array[0]
        most = max(float(np.abs(evidence.array).max()), 1e-12)
        opacity = _OPACITY * np.clip(np.abs(values) / most, 0, 1)
        axes.imshow(values, cmap="RdBu_r", vmin=-most, vmax=most, alpha=opacity, interpolation="bilinear")
    axes.add_patch(Circle(middle[:2], BALL_RADIUS_MM / _PIXEL_MM, fill=False, color=MARK, linewidth=1.3))
    dress_picture(axes, (_PIXEL_MM, _PIXEL_MM), crop.shape, 10.0)


def _draw_table(axes: Axes, ratings: list[RatedFinding]) -> float:
    """Returns where the next line below it would stand, as a share of the axes."""
    columns = [
        ("\nfinding", 0.2, lambda rated: _short(rated.finding.identifier)),
        ("\nzone", 0.09, lambda rated: rated.finding.zone or "–"),
        *((f"{name}\nmm", 0.13, partial(_coordinate, axis=axis)) for axis, name in enumerate("RAS")),
        ("proba-\nbility", 0.12, lambda rated: f"{rated.probability:.2f}"),
    ]
    if any(rated.interval is not None for rated in ratings):
        columns.append(("lowest to\nhighest", 0.25, lambda rated: _range(rated.interval)))
    if any(rated.is_significant is not None for rated in ratings):
        columns.append(("signi-\nficant", 0.12, lambda rated: _ANSWERS[rated.is_significant]))
    shown = ratings[:_TABLE_ROWS]
    scale = 1.0 / sum(width for _, width, _ in columns)
    draw_table(
        axes,
        [header for header, _, _ in columns],
        [tuple(text(rated) for _, _, text in columns) for rated in shown],
        [width * scale for _, width, _ in columns],
    )
    end = 0.905 - 0.052 * len(shown)
    if len(ratings) > _TABLE_ROWS:
        axes.text(0.0, end, f"and {len(ratings) - _TABLE_ROWS} more (lesions.tsv)", color=FAINT, fontsize=9, va="top")
        end -= 0.05
    return end - 0.02


def _draw_words(axes: Axes, result: ClassificationResult, top: float, letters: int) -> None:
    """What the class means, notes and warnings, as many as there is room for."""
    lines: list[str] = []
    for words in words_on_findings(result):
        lines += [f"{'• ' if number == 0 else '  '}{line}" for number, line in enumerate(wrap(words, letters))]
    room = max(0, int(top / _LINE_STEP))
    if len(lines) > room:
        lines = [*lines[: max(0, room - 1)], "  ... (lesions.tsv)"]
    for number, line in enumerate(lines):
        axes.text(0.0, top - number * _LINE_STEP, line, color=INK, fontsize=8.5, va="top")


def _coordinate(rated: RatedFinding, axis: int) -> str:
    return f"{rated.finding.position_ras[axis]:.1f}"


def _range(interval: tuple[float, float] | None) -> str:
    return "–" if interval is None else f"{interval[0]:.2f} – {interval[1]:.2f}"


def _short(name: str) -> str:
    return name if len(name) <= _NAME_LETTERS else f"{name[: _NAME_LETTERS - 1]}…"
