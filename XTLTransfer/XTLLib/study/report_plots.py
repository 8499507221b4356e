"""The plots of a study's report, as SVG that stands within an HTML page and follows its colours, light or dark."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import MissingPackageError
from .analysis import Analysis, ArmFigures
from .measures import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
# Stand-ins that become variables of the page's style.
_INK, _FAINT, _RULE = "#010203", "#040506", "#070809"
_VARIABLES = {_INK: "var(--ink)", _FAINT: "var(--faint)", _RULE: "var(--rule)"}
_WIDTH_INCHES = 7.3
_PANELS_A_ROW = 3
_FEWEST_FOR_A_BOX = 5
_STYLE = {
    "svg.fonttype": "none",  # text stays text
    "text.parse_math": False,  # a name may hold a dollar sign
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # measured in the widest, shown in the page's own
    "font.size": 8.5,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.titlesize": 9,
    "axes.titlecolor": _INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": _RULE,
    "grid.linewidth": 0.6,
    "text.color": _INK,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "legend.labelcolor": _INK,
}


def box_plot(analysis: Analysis) -> str:
    """The primary figure of each arm: its estimate with the interval above the values that it comes from.

    These are the units' in segmentation, and the seeds' and repetitions' in classification, where a single finding
    has no AUC.
    """
    arms = [arm for arm in analysis.arms if arm.estimate is not None]
    if not arms:
        return ""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for row, arm in enumerate(arms):
            values = values_behind(analysis, arm)
            colour = _colour(analysis, arm.name)
            _scatter(axes, values, row + 0.12, colour)
            if len(values) >= _FEWEST_FOR_A_BOX:
                _box(axes, values, row + 0.12)
            found = arm.estimate
            _interval(axes, found.value, found.low, found.high, row - 0.27, colour)
        _rows(axes, [arm.name for arm in arms])
        axes.set_xlabel(_quantity(analysis))
        _keep_intervals_in_view(axes, [(arm.estimate.low, arm.estimate.high) for arm in arms])

    return _drawn(draw, 0.6 + 0.46 * len(arms), f"{analysis.measure.title} of each arm")


def difference_plot(analysis: Analysis) -> str:
    """Every comparison: the difference with its interval, below it those of units (of test folds for AUC and AP)."""
    found = [comparison for comparison in analysis.comparisons if np.isfinite(comparison.difference)]
    if not found:
        return ""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.axvline(0.0, color=_INK, linewidth=0.9)
        for row, one in enumerate(found):
            behind = [d for _, d in one.unit_differences] or [d for *_, d in one.fold_differences]
            _scatter(axes, np.array(behind), row + 0.14, _FAINT)
            _interval(axes, one.difference, one.low, one.high, row - 0.25, _INK)
        _rows(axes, [f"{one.a} - {one.b}" for one in found])
        axes.set_xlabel(f"difference in {_quantity(analysis)}")
        _keep_intervals_in_view(axes, [(one.low, one.high) for one in found])

    return _drawn(draw, 0.6 + 0.46 * len(found), f"Differences in {analysis.measure.title}")


def roc_plot(analysis: Analysis) -> str:
    """A panel for each arm: its ROC curve with the pointwise band, the others' curves faint behind it."""
    arms = [arm for arm in analysis.arms if arm.band is not None]

    def panel(axes: Axes, arm: ArmFigures) -> None:
        axes.plot([0, 1], [0, 1], color=_FAINT, linewidth=0.7, linestyle=":")
        for other in arms:
            if other is not arm:
                axes.plot(*_from_nothing(other), color=_FAINT, linewidth=0.6)
        band, colour = arm.band, _colour(analysis, arm.name)
        axes.fill_between(band.false_positive_rate, band.low, band.high, color=colour, alpha=0.25, linewidth=0)
        axes.plot(*_from_nothing(arm), color=colour, linewidth=1.7)
        found = arm.estimate
        _write(axes, f"{analysis.measure.title} {found.value:.3f}\n{found.low:.3f} to {found.high:.3f}", 0.98, 0.06)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), title=arm.name, aspect="equal")

    return _panels(arms, panel, "1 - specificity", "sensitivity", "ROC curves")


def _from_nothing(arm: ArmFigures) -> tuple[np.ndarray, np.ndarray]:
    """An arm's curve with its beginning, where nothing is called positive."""
    return np.r_[0.0, arm.band.false_positive_rate], np.r_[0.0, arm.band.true_positive_rate]


def calibration_plot(analysis: Analysis) -> str:
    """A panel for each arm whose scores are probabilities: observed against predicted risk, with Wilson intervals."""
    arms = [arm for arm in analysis.arms if arm.calibration is not None]

    def panel(axes: Axes, arm: ArmFigures) -> None:
        curve, colour = arm.calibration.reliability, _colour(analysis, arm.name)
        axes.plot([0, 1], [0, 1], color=_FAINT, linewidth=0.7, linestyle=":")
        axes.vlines(curve.predicted, curve.low, curve.high, color=colour, linewidth=1.1, alpha=0.7)
        axes.plot(curve.predicted, curve.observed, color=colour, linewidth=0.9)
        sizes = 10 + 90 * curve.count / curve.count.sum()
        axes.scatter(curve.predicted, curve.observed, s=sizes, color=colour, zorder=3, linewidth=0)
        _write(axes, f"Brier {arm.calibration.brier.mean:.3f}\nECE {curve.expected_error:.3f}", 0.98, 0.06)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), title=arm.name, aspect="equal")

    return _panels(arms, panel, "predicted probability", "observed share", "Calibration")


def learning_plot(analysis: Analysis) -> str:
    """The primary figure by the number of training cases, with intervals; "" with one size."""
    points = [point for point in analysis.curve if point.estimate is not None]
    if not points:
        return ""
    sizes = analysis.result.sizes
    places = {size: size_place(analysis, size) for size in sizes}
    names = [arm.name for arm in analysis.arms]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.grid(axis="y")
        for number, name in enumerate(names):
            own = [point for point in points if point.name == name]
            shift = 1.0 + 0.035 * (number - (len(names) - 1) / 2)  # intervals of one size side by side
            x = [places[point.size] * shift for point in own]
            colour = _colour(analysis, name)
            for at, point in zip(x, own):
                if np.isfinite([point.estimate.low, point.estimate.high]).all():
                    axes.plot([at, at], [point.estimate.low, point.estimate.high], color=colour, linewidth=1.1)
            marker = MARKERS[number % len(MARKERS)]
            y = [point.estimate.value for point in own]
            axes.plot(x, y, color=colour, linewidth=1.4, marker=marker, markersize=4.5, label=name)
        axes.set_xscale("log")
        axes.set_xticks(list(places.values()), [_size_word(size, places[size]) for size in sizes])
        axes.minorticks_off()
        axes.set(xlabel="training cases", ylabel=_quantity(analysis))
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=8, borderaxespad=0)

    return _drawn(draw, 3.1, "Learning curve")


def values_behind(analysis: Analysis, arm: ArmFigures) -> np.ndarray:
    """What an arm's box is made of: values of units, or of seeds and repetitions in classification."""
    if arm.cases.truth is not None:
        return np.array([value for *_, value in arm.by_run if np.isfinite(value)])
    from ..metrics.paired import unit_means
    from .estimates import units_of

    return unit_means(arm.cases.values, units_of(arm.cases, analysis.result.study))[0]


def size_place(analysis: Analysis, size: int | None) -> float:
    """Training cases as a number: all of them are the cases that a fold is not tested on."""
    if size is not None:
        return float(size)
    study = analysis.result.study
    cases = len({score.case for score in analysis.result.scores})
    return max(1.0, round(cases * (study.folds - 1) / study.folds))


def _size_word(size: int | None, place: float) -> str:
    return f"all\n(about {place:.0f})" if size is None else str(size)


def _drawn(draw: Callable[[Figure], None], height: float, label: str) -> str:
    try:
        import matplotlib
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError.of("plots", "matplotlib", "study") from error
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": label}):
        figure = Figure(figsize=(_WIDTH_INCHES, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return _for_a_page(stream.getvalue(), label)


def _for_a_page(svg: str, label: str) -> str:
    """An SVG file as an element of a page: no address, no name that two of them could share, the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    prefix = re.sub(r"\W", "", label).lower()
    svg = re.sub(r'(\sid="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r"font: ([\d.]+px) 'DejaVu Sans'[^;\"]*", r"font-size: \1", svg)  # matplotlib before 3.10
    svg = re.sub(r"font-family: [^;\"]*;?", "", svg)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    for stand_in, variable in _VARIABLES.items():
        svg = svg.replace(stand_in, variable)
    head = re.match(r'<svg[^>]*?viewBox="([^"]*)"[^>]*>', svg)
    return f'<svg viewBox="{head.group(1)}" role="img" aria-label="{label}">{svg[head.end() :]}'.rstrip()


def _panels(arms: Sequence[ArmFigures], panel: Callable[[Axes, ArmFigures], None], x: str, y: str, label: str) -> str:
    if not arms:
        return ""
    rows = -(-len(arms) // _PANELS_A_ROW)

    def draw(figure: Figure) -> None:
        grid = figure.add_gridspec(rows, _PANELS_A_ROW)
        for number, arm in enumerate(arms):
            row, column = divmod(number, _PANELS_A_ROW)
            axes = figure.add_subplot(grid[row, column])
            axes.set_xticks([0, 0.5, 1])
            axes.set_yticks([0, 0.5, 1])
            panel(axes, arm)
            axes.set_xlabel(x)
            if column == 0:
                axes.set_ylabel(y)

    return _drawn(draw, 2.6 * rows, label)


def _rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.6)  # the first at the top
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")


def _scatter(axes: Axes, values: np.ndarray, row: float, colour: str) -> None:
    """Values as points, spread a little so that equal ones are seen."""
    spread = np.random.default_rng(0).uniform(-0.11, 0.11, len(values))
    axes.scatter(values, row + spread, s=11, color=colour, alpha=0.75, linewidth=0)


def _box(axes: Axes, values: np.ndarray, row: float) -> None:
    """Quartiles, and whiskers to the furthest values within 1.5 times their distance."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    reach = 1.5 * (high - low)
    first, last = values[values >= low - reach].min(), values[values <= high + reach].max()
    axes.plot([first, low], [row, row], color=_INK, linewidth=0.9)
    axes.plot([high, last], [row, row], color=_INK, linewidth=0.9)
    top, bottom = row - 0.15, row + 0.15
    axes.plot([low, high, high, low, low], [top, top, bottom, bottom, top], color=_INK, linewidth=0.9)
    axes.plot([middle, middle], [top, bottom], color=_INK, linewidth=1.8)


def _interval(axes: Axes, value: float, low: float, high: float, row: float, colour: str) -> None:
    if np.isfinite([low, high]).all():
        axes.plot([low, high], [row, row], color=colour, linewidth=2.2, solid_capstyle="butt")
    axes.plot([value], [row], marker="D", markersize=5, color=colour)


def _keep_intervals_in_view(axes: Axes, bounds: Sequence[tuple[float, float]]) -> None:
    """Say of intervals without ends that they are so: nothing is drawn for them."""
    if any(np.isinf(pair).any() for pair in bounds):
        _write(axes, "no interval: too few units", 0.99, 0.02)


def _write(axes: Axes, text: str, x: float, y: float) -> None:
    axes.text(x, y, text, transform=axes.transAxes, ha="right", va="bottom", fontsize=8, color=_INK)


def _quantity(analysis: Analysis) -> str:
    measure = analysis.measure
    return f"{measure.title}{f' ({measure.unit})' if measure.unit else ''}"


def _colour(analysis: Analysis, name: str) -> str:
    return COLOURS[analysis.result.names.index(name) % len(COLOURS)]
