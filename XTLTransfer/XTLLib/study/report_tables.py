"""The tables of a study's report, as rows of text that HTML, Markdown and a terminal show alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..metrics.transferability import CAUTION
from .analysis import Analysis, ArmFigures
from .comparisons import Comparison
from .estimates import Estimate
from .measures import CONVENTIONS, LESION_WISE, MEASURES, OVERLAP, RATES, Measure
from .report_words import conclusion, incompleteness, p_text, signed
from .result import LEFT_OUT


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes
    ----------
    title : above it. header : of the columns. rows : as many texts each.
    texts : how many columns from the left are words; the others are numbers. note : below it.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: int = 1
    note: str = ""


def result_tables(analysis: Analysis) -> Iterator[Table]:
    """Figures of the arms."""
    yield _primary(analysis)
    if analysis.result.task == "segmentation":
        yield _measures(analysis, "Overlap and surfaces", OVERLAP)
        yield _measures(analysis, "Lesion by lesion, 26-connected", LESION_WISE)
        yield _volumes(analysis)
        if any(arm.detection for arm in analysis.arms):
            yield _detection(analysis)


def comparison_tables(analysis: Analysis) -> Iterator[Table]:
    """Differences between arms; nothing when the study compares none."""
    if not analysis.comparisons:
        return
    yield _comparisons(analysis)
    tests = [(found, test) for found in analysis.comparisons for test in found.secondary]
    if tests:
        yield Table(
            "Secondary tests, unadjusted",
            ("comparison", "test", "p", f"{analysis.result.study.level:.0%} interval", ""),
            tuple((_pair(f), t.name, p_text(t.p_value), _bounds(t.low, t.high, f.measure), t.note) for f, t in tests),
            texts=2,
        )
    if analysis.further:
        yield _further(analysis)


def learning_table(analysis: Analysis) -> Table | None:
    """The primary figure of every arm at every training size; None with one size."""
    if not analysis.curve:
        return None
    sizes = analysis.result.sizes
    points = {(point.name, point.size): point.estimate for point in analysis.curve}
    return Table(
        f"{analysis.measure.title} by the number of training cases",
        ("arm", *("all" if size is None else str(size) for size in sizes)),
        tuple((arm.name, *(_cell(points[arm.name, s], analysis.measure) for s in sizes)) for arm in analysis.arms),
    )


def calibration_table(analysis: Analysis) -> Table | None:
    """Brier score and expected calibration error; None in segmentation."""
    if analysis.result.task != "classification":
        return None
    rows = []
    for arm in analysis.arms:
        if arm.calibration is None:
            why = "scores are no probabilities" if arm.estimate is not None else arm.reason
            rows.append((arm.name, "-", "-", "-", why))
            continue
        curve = arm.calibration.reliability
        brier = arm.calibration.brier
        rows.append(
            (
                arm.name,
                f"{brier.mean:.3f} ({brier.low:.3f} to {brier.high:.3f})",
                f"{curve.expected_error:.3f}",
                f"{curve.largest_error:.3f}",
                "",
            )
        )
    share = next((arm.cases.truth.mean() for arm in analysis.arms if arm.cases.cases), float("nan"))
    return Table(
        "Calibration",
        ("arm", "Brier", "ECE", "largest error", ""),
        tuple(rows),
        note=f"Brier score with its {analysis.result.study.level:.0%} interval; ten bins of equal width. "
        f"A constant forecast of the share of positives ({share:.3f}) has a Brier score of {share * (1 - share):.3f}.",
    )


def transferability_table(analysis: Analysis) -> Table | None:
    """The advisory scores of the arms' sources, and why an arm has none; None when the study did not ask for them."""
    arms = analysis.result.facts.get("transferability")
    if not isinstance(arms, Mapping) or not arms:
        return None
    columns = [key for key in dict.fromkeys(key for row in arms.values() for key in row) if key != LEFT_OUT]
    rows = []
    for name, row in arms.items():
        values = (row.get(column) for column in columns)
        rows.append((str(name), *("-" if value is None else f"{value:.3f}" for value in values)))
    reasons = "".join(
        f" Without scores: {name}, because {row[LEFT_OUT]}." for name, row in arms.items() if LEFT_OUT in row
    )
    return Table("Transferability scores, advisory", ("source", *columns), tuple(rows), note=CAUTION + reasons)


def terminal_text(analysis: Analysis) -> str:
    """The result for a terminal: what is missing, the arms, the comparisons, the power."""
    tables = [_primary(analysis), *([_comparisons(analysis)] if analysis.comparisons else [])]
    lines = [incompleteness(analysis)] if analysis.gaps else []
    for table in tables:
        lines += ["", *_lines(table, str)] if lines else _lines(table, str)
    lines += ["", *(conclusion(found, analysis.result.study.alpha) for found in analysis.comparisons)]
    return "\n".join([*lines, "", analysis.power])


def markdown_lines(table: Table) -> list[str]:
    """A table in Markdown, without its title; nothing of a name is taken for markup."""
    return _lines(table, markdown_text)


def markdown_text(text: str) -> str:
    """A text of a stranger as one line of Markdown."""
    line = " ".join(str(text).split())
    for character, written in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("[", "\\["), ("`", "\\`")):
        line = line.replace(character, written)
    return line


def _lines(table: Table, written: Callable[[str], str]) -> list[str]:
    lines = [f"| {' | '.join(map(written, row))} |" for row in (table.header, *table.rows)]
    lines.insert(1, f"|{'---|' * len(table.header)}")
    return [*lines, "", written(table.note)] if table.note else lines


def _primary(analysis: Analysis) -> Table:
    study, measure = analysis.result.study, analysis.measure
    is_classification = analysis.result.task == "classification"
    rows = []
    for arm in analysis.arms:
        found = arm.estimate
        runs = " ".join(f"{value:.{measure.decimals}f}" for *_, value in arm.by_run) if len(arm.by_run) > 1 else ""
        positives = (str(int(arm.cases.truth.sum())),) if is_classification and arm.cases.truth is not None else ()
        rows.append(
            (
                arm.name,
                "-" if found is None else f"{found.value:.{measure.decimals}f}",
                arm.reason if found is None else _bounds(found.low, found.high, measure, sign=False),
                runs,
                str(len(arm.cases.cases)),
                *positives,
                str(len(set(arm.cases.patients))),
                str(len(arm.cases.left_out)),
            )
        )
    header = ("arm", measure.title, f"{study.level:.0%} interval", "each seed and repetition", "cases")
    many = len(study.seeds) * study.repeats > 1
    rows = rows if many else [(*row[:3], *row[4:]) for row in rows]
    header = header if many else (*header[:3], *header[4:])
    return Table(
        f"{measure.title} of held-out cases",
        (*header, *(("positive",) if is_classification else ()), "patients", "left out"),
        tuple(rows),
        note=f"{measure.title}: {measure.definition}."
        + ("" if is_classification else f" Mean over {study.unit}s.")
        + (_averaging(is_classification) if many else ""),
    )


def _averaging(is_classification: bool) -> str:
    if is_classification:
        return (
            " The scores of a finding are averaged over seeds and repetitions first, so that the figure is that of an "
            "ensemble; the single runs stand beside it."
        )
    return " Figures of a case are averaged over seeds and repetitions first."


def _measures(analysis: Analysis, title: str, names: Sequence[str]) -> Table:
    measures = [MEASURES[name] for name in names if any(name in arm.measures for arm in analysis.arms)]
    rows = tuple(
        (arm.name, *(_cell(arm.measures.get(measure.name), measure) for measure in measures)) for arm in analysis.arms
    )
    left_out = [
        f"{arm.name} {measure.title}: {found.left_out} of {found.left_out + found.cases}"
        for arm in analysis.arms
        for measure in measures
        if (found := arm.measures.get(measure.name)) is not None and found.left_out > len(arm.cases.left_out)
    ]
    note = "; ".join(f"{measure.title} {measure.definition}" for measure in measures) + "."
    if left_out:
        words = ", ".join(left_out)
        note += f" Cases without a finite value of a figure are left out of it ({words}), which flatters the arm."
    header = tuple(f"{measure.title}{f' {measure.unit}' if measure.unit else ''}" for measure in measures)
    return Table(title, ("arm", *header), rows, note=note)


def _volumes(analysis: Analysis) -> Table:
    def row(arm: ArmFigures) -> tuple[str, ...]:
        if arm.volumes is None:
            return (arm.name, *["-"] * 5)
        reference, predicted = np.array(arm.volumes.reference), np.array(arm.volumes.predicted)
        return (
            arm.name,
            f"{reference.mean():.2f}",
            f"{predicted.mean():.2f}",
            signed(float((predicted - reference).mean()), 2),
            _number(arm.volumes.correlation),
            _number(arm.volumes.isbi),
        )

    return Table(
        "Lesion volumes",
        ("arm", "reference ml", "predicted ml", "difference ml", "r across scans", "ISBI raw with r"),
        tuple(map(row, analysis.arms)),
        note="Means over scans. r: Pearson's correlation of predicted and reference volumes, which needs three scans. "
        "ISBI raw: Dice/8 + PPV/8 + (1-LFPR)/4 + LTPR/4 + r/4; the challenge's figures of 90 and above are rescaled "
        "and not comparable.",
    )


def _detection(analysis: Analysis) -> Table:
    rate_of = Measure("rate", "rate")
    rows = [
        (arm.name, convention, *(_cell(arm.detection.get((convention, rate)), rate_of) for rate in RATES))
        for arm in analysis.arms
        for convention in CONVENTIONS
    ]
    return Table(
        "Lesions found, by three conventions",
        ("arm", "convention", "sensitivity", "precision", "F1"),
        tuple(rows),
        texts=2,
        note="any-overlap (ISBI): one common voxel, 26-connected. anima (MSSEG): overlap above 10 % and the outside "
        "rules, 6-connected, lesions above 3 mm³. iou-0.10 (PI-CAI): paired one to one at IoU 0.10, 26-connected.",
    )


def _comparisons(analysis: Analysis) -> Table:
    study, measure = analysis.result.study, analysis.measure
    with_effect = any(found.effect is not None for found in analysis.comparisons)
    rows = []
    for found in analysis.comparisons:
        effect = found.effect
        words = () if not with_effect else ("-",) if effect is None else (_effect(effect.d, effect.low, effect.high),)
        rows.append(
            (
                _pair(found),
                signed(found.difference, measure.decimals),
                _bounds(found.low, found.high, measure),
                p_text(found.p_value),
                p_text(found.adjusted_p),
                *words,
                str(found.units),
                str(found.left_out),
                found.verdict,
            )
        )
    tests = sorted({found.test for found in analysis.comparisons if found.test})
    note = f"Test: {'; '.join(tests)}." if tests else ""
    if with_effect:
        note += " Effect: mean of the differences over their standard deviation, with its interval."
    elif measure.name == "auc":
        note += " A difference of AUC is its own effect size: how much likelier a pair of findings is in order."
    note += " Conclusion: first against second, worded from the interval alone."
    return Table(
        f"Differences in {measure.title}",
        (
            "comparison",
            "difference",
            f"{study.level:.0%} interval",
            "p",
            "p, Holm",
            *(("effect",) if with_effect else ()),
            f"{study.unit}s",
            "left out",
            "conclusion",
        ),
        tuple(rows),
        note=note.strip(),
    )


def _further(analysis: Analysis) -> Table:
    measures = list(dict.fromkeys(found.measure for found in analysis.further))
    found = {(f.a, f.b, f.measure.name): f for f in analysis.further}
    pairs = analysis.result.study.comparisons
    rows = []
    for measure in measures:
        cells = []
        for a, b in pairs:
            one = found.get((a, b, measure.name))
            shown = "-"
            if one is not None:
                shown = f"{signed(one.difference, measure.decimals)} ({_bounds(one.low, one.high, measure)})"
            cells.append(shown)
        rows.append((f"{measure.title}{f' {measure.unit}' if measure.unit else ''}", *cells))
    return Table(
        "Differences in the other figures",
        ("", *(f"{a} - {b}" for a, b in pairs)),
        tuple(rows),
        note="Described with intervals and not tested: no conclusion rests on them. Of AVD, HD95, ASSD and LFPR less "
        "is better.",
    )


def _pair(found: Comparison) -> str:
    return f"{found.a} - {found.b}"


def _cell(found: Estimate | None, measure: Measure) -> str:
    if found is None:
        return "-"
    return f"{found.value:.{measure.decimals}f} ({_bounds(found.low, found.high, measure, sign=False)})"


def _bounds(low: float, high: float, measure: Measure, sign: bool = True) -> str:
    if np.isnan(low) or np.isnan(high):
        return "-"
    if np.isinf(low) and np.isinf(high):
        return "too few units"
    return " to ".join(signed(v, measure.decimals) if sign else f"{v:.{measure.decimals}f}" for v in (low, high))


def _effect(d: float, low: float, high: float) -> str:
    return signed(d, 2) + ("" if np.isnan(low) else f" ({signed(low, 2)} to {signed(high, 2)})")


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"
