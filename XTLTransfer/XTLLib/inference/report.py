"""``report.png``: one page with the pictures and the figures of a result."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import MissingPackageError
from ..files import atomic_file
from .results import RESEARCH_NOTE, ClassificationResult, SegmentationResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..data.volume import Volume
    from .longitudinal import LongitudinalResult

MARK = "#ffb000"  # lesions and findings in the pictures: visible on grey, also to colour-blind readers
INK, FAINT = "#1a1a1a", "#6b6b6b"
_PAGE_INCHES = (13.0, 7.6)
_DPI = 130


def write_report(result: SegmentationResult | ClassificationResult, path: str | os.PathLike) -> Path:
    """Draw a result as a PNG: axial pictures in patient space, seen from the feet (the patient's right at the
    left), each pixel as wide and as high as it is in mm; beside them the table.

    Raises MissingPackageError when matplotlib is not installed.
    """
    from .report_findings import draw_findings
    from .report_lesions import draw_lesions

    figure = new_page()
    if isinstance(result, SegmentationResult):
        draw_lesions(figure, result)
    else:
        draw_findings(figure, result)
    figure.text(0.98, 0.018, f"Model: {result.bundle_name}", color=FAINT, fontsize=9, ha="right", va="bottom")
    return save_page(figure, path)


def write_history_report(result: LongitudinalResult, images: Sequence[Volume], path: str | os.PathLike) -> Path:
    """Draw a comparison over time as a PNG; ``images`` are those of the time points, unmoved.

    Raises MissingPackageError when matplotlib is not installed.
    """
    from .report_history import draw_history

    figure = new_page()
    moved = [
        image if registration is None else registration.apply(image)
        for image, registration in zip(images, (None, *result.registrations))
    ]
    draw_history(figure, result, moved)
    return save_page(figure, path)


def new_page() -> Figure:
    """An empty page with the note that it is no medical device's output."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError.of("reports", "matplotlib", "scene") from error
    figure = Figure(figsize=_PAGE_INCHES, facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(0.02, 0.018, f"{RESEARCH_NOTE}.", color=INK, fontsize=10, weight="bold", va="bottom")
    return figure


def save_page(figure: Figure, path: str | os.PathLike) -> Path:
    """Write a page as PNG; the file appears whole or not at all."""
    path = Path(path)
    with atomic_file(path) as draft:
        figure.savefig(draft, dpi=_DPI, format="png")
    return path


def draw_heading(figure: Figure, title: str, line: str) -> None:
    """The page's title and one line of figures below it."""
    figure.text(0.02, 0.955, title, color=INK, fontsize=17, weight="bold", va="center")
    figure.text(0.02, 0.912, line, color=FAINT, fontsize=10.5, va="center")


def draw_table(axes: Axes, header: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[float]) -> None:
    """A plain table: header, a line, rows; texts right-aligned at the ends of ``widths`` (shares of the axes)."""
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    step = min(0.052, 0.92 / (len(rows) + 1))
    ends = [sum(widths[: n + 1]) for n in range(len(widths))]
    for text, end in zip(header, ends):
        axes.text(end, 1.0, text, ha="right", va="top", fontsize=8.5, color=FAINT, linespacing=1.1)
    axes.plot([0, 1], [0.925, 0.925], color=INK, linewidth=0.8)
    for number, row in enumerate(rows):
        for text, end in zip(row, ends):
            axes.text(end, 0.905 - number * step, text, ha="right", va="top", fontsize=9.5, color=INK)


def dress_picture(axes: Axes, mm_per_pixel: tuple[float, float], shape: tuple[int, int], scale_mm: float) -> None:
    """Turn the axes off, write R and A where they are, and draw a bar of ``scale_mm`` at the lower left."""
    height, width = shape
    axes.set_axis_off()
    write_on_picture(axes, 0.015, 0.5, "R", ha="left", va="center")
    write_on_picture(axes, 0.5, 0.985, "A", ha="center", va="top")
    x, y = 0.04 * width, 0.95 * height
    axes.plot([x, x + scale_mm / mm_per_pixel[0]], [y, y], color="black", linewidth=3.2)
    axes.plot([x, x + scale_mm / mm_per_pixel[0]], [y, y], color="white", linewidth=1.6)
    write_on_picture(axes, 0.04, 0.065, f"{scale_mm:g} mm", ha="left", va="bottom")


def write_on_picture(axes: Axes, x: float, y: float, text: str, **style) -> None:
    """White letters with a dark rim, legible on any grey; x, y as shares of the axes."""
    axes.text(x, y, text, color="white", fontsize=8, transform=axes.transAxes, path_effects=dark_rim(), **style)


def dark_rim() -> list:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2.0, foreground="black")]
