"""The page of a cohort whose truth is known: ROC curve, reliability, and what an operating point would give."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..metrics.calibration import reliability_curve
from ..metrics.operating_points import operating_points
from ..metrics.roc_curve import roc_band
from .accuracy import CALIBRATION_BINS, Accuracy, with_truth
from .report import FAINT, INK, draw_heading, draw_table, new_page, save_page

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LINE = "#0072b2"


def write_accuracy_report(
    accuracy: Accuracy, rows: Sequence[Mapping[str, Any]], path: str | os.PathLike, bundle_name: str
) -> Path:
    """Draw how good the probabilities of a cohort are, as a PNG; ``rows`` as accuracy_of takes them.

    Raises MissingPackageError when matplotlib is not installed.
    """
    known = with_truth(rows)
    truth = np.array([row["truth"] for row in known], dtype=bool)
    probability = np.array([row["probability"] for row in known], dtype=float)
    patients = [row["patient"] for row in known]
    figure = new_page()
    area = accuracy.auc
    draw_heading(
        figure,
        f"Accuracy on {len(known)} findings of {area.patients} patients: AUC {area.auc:.3f} "
        f"({area.level:.0%} interval {area.low:.3f} to {area.high:.3f})",
        f"{area.positives} clinically significant.  Intervals: bootstrap over patients, {area.draws:,} draws.  "
        "The figures hold for patients that the model was not trained on.",
    )
    _draw_roc(figure.add_axes((0.06, 0.41, 0.36, 0.43)), probability, truth, patients)
    _draw_reliability(figure.add_axes((0.52, 0.41, 0.36, 0.43)), probability, truth, accuracy)
    # As high as other tables, whose lines keep their distance; what is below the page is empty.
    _draw_points(figure.add_axes((0.06, -0.49, 0.88, 0.79)), accuracy, known, probability, truth)
    figure.text(0.98, 0.018, f"Model: {bundle_name}", color=FAINT, fontsize=9, ha="right", va="bottom")
    return save_page(figure, path)


def _draw_roc(axes: Axes, probability: np.ndarray, truth: np.ndarray, patients: Sequence[str]) -> None:
    band = roc_band(probability, truth, patients)
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8, linestyle=":")
    axes.fill_between(band.false_positive_rate, band.low, band.high, color=_LINE, alpha=0.2, linewidth=0)
    axes.plot(band.false_positive_rate, band.true_positive_rate, color=_LINE, linewidth=1.8)
    _dress(axes, "ROC curve, with a pointwise band", "1 - specificity", "sensitivity")


def _draw_reliability(axes: Axes, probability: np.ndarray, truth: np.ndarray, accuracy: Accuracy) -> None:
    curve = reliability_curve(probability, truth, CALIBRATION_BINS, "count")
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8, linestyle=":")
    axes.vlines(curve.predicted, curve.low, curve.high, color=_LINE, linewidth=1.2)
    axes.plot(curve.predicted, curve.observed, color=_LINE, linewidth=1.0, marker="o", markersize=5)
    brier = accuracy.brier
    words = f"Brier score {brier.mean:.3f} ({brier.low:.3f} to {brier.high:.3f})\n"
    words += f"expected calibration error {accuracy.expected_error:.3f}"
    axes.text(0.98, 0.04, words, transform=axes.transAxes, ha="right", va="bottom", fontsize=9, color=INK)
    title = f"Reliability, {len(curve.count)} bins with Wilson intervals"
    _dress(axes, title, "predicted probability", "observed share of significant findings")


def _dress(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.set_title(title, fontsize=11, color=INK, loc="left")
    axes.set_xlabel(x, fontsize=9.5, color=INK)
    axes.set_ylabel(y, fontsize=9.5, color=INK)
    axes.tick_params(labelsize=8.5)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_points(
    axes: Axes, accuracy: Accuracy, known: Sequence[Mapping[str, Any]], probability: np.ndarray, truth: np.ndarray
) -> None:
    own = [] if accuracy.own is None else [(accuracy.own.rule, accuracy.own)]
    chosen = operating_points(probability, truth, [row["patient"] for row in known])
    rows = []
    for name, point in [*own, *((f"{point.rule}, chosen on these findings", point) for point in chosen)]:
        figures = ("sensitivity", "specificity", "ppv", "npv")
        texts = (_with_interval(getattr(point, figure), getattr(point, f"{figure}_interval")) for figure in figures)
        rows.append((name, f"{point.threshold:.3f}", *texts))
    header = ("operating point", "threshold", "sensitivity", "specificity", "PPV", "NPV")
    draw_table(axes, header, rows, (0.30, 0.10, 0.15, 0.15, 0.15, 0.15))


def _with_interval(value: float, interval: tuple[float, float]) -> str:
    if not np.isfinite(value):
        return "–"
    return f"{value:.2f} ({interval[0]:.2f} to {interval[1]:.2f})"
