"""``report.png`` of ``xtl demo``: phantoms, results of both arms, curves and the table on one page."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.datalist import Datalist
from ..data.geometry import Grid
from ..data.mammogram import read_mammogram
from ..data.volume import Volume, resample
from ..errors import MissingPackageError
from ..files import atomic_file
from ..inference.results import RESEARCH_NOTE
from .demo_arms import ClassificationOutcome, SegmentationOutcome
from .demo_table import NOTE, comparison_rows, initialisation_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, FAINT = "#1a1a1a", "#6b6b6b"
COLOURS = {"TL": "#0072b2", "XTL": "#d55e00", "truth": "#f0e442"}  # told apart by colour-blind readers
_PAGE_INCHES = (15.0, 11.0)
_DPI = 110
_BRAIN_MM, _PROSTATE_MM = 176.0, 80.0
_RADIUS_MM = 5.0


def write_demo_report(
    path: Path,
    mammograms: Datalist,
    segmentation: Mapping[str, SegmentationOutcome],
    classification: Mapping[str, ClassificationOutcome],
    weights: Path | None,
) -> None:
    """Draw the page. Raises MissingPackageError when matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError.of("reports", "matplotlib", "scene") from error

    figure = Figure(figsize=_PAGE_INCHES, facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(0.02, 0.975, "XTL demonstration on phantoms", fontsize=17, weight="bold", color=INK, va="center")
    figure.text(0.98, 0.975, f"{NOTE} {RESEARCH_NOTE}.", fontsize=10, color=INK, ha="right", va="center")
    pictures = figure.add_gridspec(2, 6, left=0.02, right=0.98, top=0.925, bottom=0.40, wspace=0.06, hspace=0.10)
    _draw_mammograms([figure.add_subplot(pictures[0, n]) for n in range(3)], mammograms)
    _draw_brain([figure.add_subplot(pictures[0, 3 + n]) for n in range(3)], segmentation)
    _draw_prostate([figure.add_subplot(pictures[1, n]) for n in range(3)], classification)
    lower = figure.add_gridspec(1, 2, left=0.545, right=0.98, top=0.63, bottom=0.43, wspace=0.25)
    _draw_roc(figure.add_subplot(lower[0, 0]), classification)
    _draw_dice(figure.add_subplot(lower[0, 1]), segmentation)
    curves = figure.add_gridspec(1, 2, left=0.545, right=0.98, top=0.33, bottom=0.07, wspace=0.25)
    _draw_losses(figure.add_subplot(curves[0, 0]), segmentation, "Training on brain phantoms", "loss (Dice + CE)")
    _draw_losses(figure.add_subplot(curves[0, 1]), classification, "Training on prostate phantoms", "loss (BCE)")
    table = figure.add_axes((0.02, 0.05, 0.48, 0.32))
    _draw_table(table, comparison_rows(segmentation, classification), initialisation_text(weights))
    with atomic_file(path) as draft:
        figure.savefig(draft, dpi=_DPI, format="png")


def _draw_mammograms(panels: list[Axes], datalist: Datalist) -> None:
    """A film of each severity, with a dotted ring around the abnormality."""
    from matplotlib.patches import Circle

    for axes, severity in zip(panels, ("normal", "benign", "malignant")):
        entry = next((e for e in datalist.entries if e.attributes.get("severity") == severity), datalist.entries[0])
        axes.imshow(read_mammogram(entry.images["MG"]), cmap="gray")
        if "circles_px" in entry.attributes:
            x, y, radius = map(float, entry.attributes["circles_px"].split())
            axes.add_patch(Circle((x, y), 2 * radius, fill=False, color=COLOURS["truth"], linewidth=1.0, linestyle=":"))
        axes.set_axis_off()
        axes.set_title(f"mammogram: {entry.attributes['severity']}", fontsize=9, color=INK)


def _draw_brain(panels: list[Axes], segmentation: Mapping[str, SegmentationOutcome]) -> None:
    """FLAIR of the first unseen case in the slice with most lesion: truth, TL, XTL."""
    outcome = segmentation["XTL"]
    case, name = outcome.results[0].case, outcome.entries[0].case
    grid = case.grid.along_lps()
    truth = case.grid.to_along_lps(case.mask.array)
    slice_number = int(truth.sum(axis=(1, 2)).argmax())
    middle = grid.index_to_ras([(grid.shape[2] - 1) / 2, (grid.shape[1] - 1) / 2, slice_number])
    plane = _plane_around(grid, middle, _BRAIN_MM, 1.0)
    picture = _on(case.channels[case.reference], plane)
    masks = {
        "truth": (_on(Volume(case.mask.array.astype(np.float32), case.mask.grid), plane), "true lesions"),
        **{
            arm: (
                _on(_mask_of(found.results[0].label), plane),
                f"{arm}, Dice {found.dice[0]:.2f}",
            )
            for arm, found in segmentation.items()
        },
    }
    for axes, key in zip(panels, ("truth", "TL", "XTL")):
        mask, title = masks[key]
        axes.imshow(picture, cmap="gray", vmax=np.percentile(picture, 99.7), interpolation="bilinear")
        if (mask > 0.5).any():
            axes.contour(mask, levels=[0.5], colors=COLOURS[key], linewidths=1.2)
        axes.set_axis_off()
        axes.set_title(f"{name}: {title}", fontsize=9, color=INK)


def _draw_prostate(panels: list[Axes], classification: Mapping[str, ClassificationOutcome]) -> None:
    """Channels of the unseen patient around the finding that XTL rates highest, with all findings near the slice."""
    from matplotlib.patches import Circle

    results = {arm: outcome.result for arm, outcome in classification.items()}
    case = results["XTL"].case
    likeliest = max(results["XTL"].findings, key=lambda rated: rated.probability)
    centre = np.array(likeliest.finding.position_ras)
    plane = _plane_around(case.grid.along_lps(), centre, _PROSTATE_MM, 0.5)
    for axes, (name, volume) in zip(panels, case.channels.items()):
        picture = _on(volume, plane)
        axes.imshow(picture, cmap="gray", vmax=np.percentile(picture, 99.5), interpolation="bilinear")
        axes.set_axis_off()
        axes.set_title(f"{case.patient}, {name}", fontsize=9, color=INK)
        for tl, xtl in zip(results["TL"].findings, results["XTL"].findings):
            i, j, k = plane.ras_to_index(np.array(xtl.finding.position_ras))
            if abs(k) * plane.spacing_mm[2] > _RADIUS_MM:
                continue
            colour = "#ff5050" if xtl.finding.significant else "#40d0ff"
            axes.add_patch(Circle((i, j), _RADIUS_MM / plane.spacing_mm[0], fill=False, color=colour, linewidth=1.4))
            text, is_left = f"TL {tl.probability:.2f}\nXTL {xtl.probability:.2f}", i < picture.shape[1] / 2
            axes.annotate(
                text,
                (i, j),
                (-14 if is_left else 14, 0),
                textcoords="offset points",
                ha="right" if is_left else "left",
                va="center",
                color=colour,
                fontsize=8,
                weight="bold",
            )
    key = "unseen by both arms; red: truly significant, blue: not"
    panels[0].text(0, -0.02, key, transform=panels[0].transAxes, va="top", fontsize=8)


def _draw_roc(axes: Axes, classification: Mapping[str, ClassificationOutcome]) -> None:
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8, linestyle=":")
    for arm, outcome in classification.items():
        order = np.argsort(-outcome.probabilities, kind="stable")
        positive = outcome.truth[order] == 1
        sensitivity = np.r_[0, np.cumsum(positive) / positive.sum()]
        false_alarms = np.r_[0, np.cumsum(~positive) / (~positive).sum()]
        label = f"{arm}, AUC {outcome.auc.auc:.2f}"
        axes.step(false_alarms, sensitivity, where="post", color=COLOURS[arm], linewidth=1.6, label=label)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    _dress(axes, "Unseen prostate findings", "1 - specificity", "sensitivity")


def _draw_dice(axes: Axes, segmentation: Mapping[str, SegmentationOutcome]) -> None:
    for shift, (arm, outcome) in zip((-0.2, 0.2), segmentation.items()):
        axes.bar(np.arange(len(outcome.dice)) + shift, outcome.dice, 0.38, color=COLOURS[arm], label=arm)
    entries = next(iter(segmentation.values())).entries
    axes.set_xticks(range(len(entries)), [entry.case for entry in entries])
    axes.set_ylim(0, 1.25)
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.legend(frameon=False, fontsize=8, loc="upper right", ncols=2)
    _dress(axes, "Unseen brain phantoms", "", "Dice")


def _draw_losses(axes: Axes, outcomes: Mapping[str, Any], title: str, quantity: str) -> None:
    for arm, outcome in outcomes.items():
        last = outcome.trained.log[-1]["stage"]
        rows = [row for row in outcome.trained.log if row["stage"] == last]
        first = rows[0]["step"] - 1
        steps, losses = [row["step"] - first for row in rows], [row["loss"] for row in rows]
        axes.plot(steps, losses, color=COLOURS[arm], linewidth=1.6, label=arm)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)
    _dress(axes, title, "step", quantity)


def _dress(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=10, color=INK)
    axes.set_xlabel(x, fontsize=9, color=INK)
    axes.set_ylabel(y, fontsize=9, color=INK)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_table(axes: Axes, rows: list[tuple[str, str, str]], note: str) -> None:
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    lines = textwrap.wrap(note, 105)
    step = 0.98 / (len(rows) + 2 + len(lines))
    for arm, x in (("TL", 0.80), ("XTL", 1.0)):
        axes.text(x, 1.0, arm, ha="right", va="top", fontsize=10, weight="bold", color=COLOURS[arm])
    for number, (what, tl, xtl) in enumerate(rows, 1):
        y, heading = 1.0 - number * step, not (tl or xtl)
        axes.text(0.0, y, what.strip(), va="top", fontsize=9.5, color=INK, weight="bold" if heading else "normal")
        for text, x in ((tl, 0.80), (xtl, 1.0)):
            axes.text(x, y, text, ha="right", va="top", fontsize=9.5, color=INK)
    for number, line in enumerate(lines):
        y = 1.0 - (len(rows) + 1.4 + number) * step
        axes.text(0.0, y, line, va="top", fontsize=8.5, color=FAINT)


def _plane_around(oriented: Grid, centre: np.ndarray, field_mm: float, pixel_mm: float) -> Grid:
    """A square of one slice along the axes of ``oriented``, with its middle at a point (RAS mm)."""
    pixels = round(field_mm / pixel_mm)
    affine = oriented.ijk_to_ras.copy()
    affine[:3, :3] *= np.array([pixel_mm, pixel_mm, oriented.spacing_mm[2]]) / np.array(oriented.spacing_mm)
    affine[:3, 3] = centre - affine[:3, :3] @ np.array([(pixels - 1) / 2, (pixels - 1) / 2, 0.0])
    return Grid((1, pixels, pixels), affine)


def _on(volume: Volume, plane: Grid) -> np.ndarray:
    return resample(volume, plane).array[0]


def _mask_of(label: Volume) -> Volume:
    return Volume((label.array > 0).astype(np.float32), label.grid, label.name)
