"""The sentences of a study's report: question, conclusions, what is missing, methods, citation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..inference.results import RESEARCH_NOTE
from ..metrics.bootstrap import DIFFERENCE_DRAWS, INTERVAL_DRAWS
from ..metrics.paired import EXACT_UNITS, SAMPLED_FLIPS
from .analysis import Analysis
from .comparisons import Comparison
from .config import LEARNED_BASELINES
from .estimates import RANKED

NO_EQUIVALENCE = "This is not evidence that the two are equal."
CITATION = (
    "XTL, the software of this report, with the version and the hashes below.",
    "The idea it carries out: Lee J, Nishikawa RM. IEEE Access 2020;8:210194-210205, doi 10.1109/ACCESS.2020.3038909.",
    "The data and the weights under the terms that the section on the data names.",
)


def question(analysis: Analysis) -> str:
    """What the study asks: its own words, or what its comparisons say."""
    study, measure = analysis.result.study, analysis.measure
    if study.question:
        return study.question
    better = "higher" if measure.higher_is_better else "lower"
    if study.comparisons:
        pairs = ", ".join(f"with {a} than with {b}" for a, b in study.comparisons)
        return f"Is the {measure.title} of patients that no stage has seen {better} {pairs}?"
    return f"Which {measure.title} does each arm reach on patients that it has not seen?"


def conclusion(found: Comparison, alpha: float) -> str:
    """A comparison in words that follow from its interval alone; what Holm's correction adds stands behind them."""
    measure = found.measure
    if found.verdict == "not determined":
        return f"{found.a} against {found.b}: not determined, {found.reason or 'no interval'}."
    level = f"{found.level:.0%} interval"
    if np.isinf(found.low) or np.isinf(found.high):
        return (
            f"{found.a} against {found.b}: undecided. {found.units} units are too few for a {level}; "
            f"the observed difference in {measure.title} is {signed(found.difference, measure.decimals)}. "
            f"{NO_EQUIVALENCE}"
        )
    bounds = f"{signed(found.low, measure.decimals)} to {signed(found.high, measure.decimals)}"
    if found.verdict == "undecided":
        return (
            f"{found.a} against {found.b}: undecided. The data are compatible with a difference in {measure.title} of "
            f"{bounds} ({level}; estimate {signed(found.difference, measure.decimals)}). {NO_EQUIVALENCE}"
        )
    direction = "higher" if found.difference > 0 else "lower"
    text = (
        f"{found.a} is {found.verdict} than {found.b}: {measure.title} {direction} by "
        f"{abs(found.difference):.{measure.decimals}f} ({level} of the difference {bounds})."
    )
    if found.adjusted_p > alpha:
        text += (
            f" With Holm's correction for all comparisons of this study p = {p_text(found.adjusted_p)}, above "
            f"{alpha:g}: taken together with the others this one may be chance."
        )
    return text


def incompleteness(analysis: Analysis) -> str:
    """One line for the top of a report that lacks something; "" when nothing is missing."""
    runs = [gap for gap in analysis.gaps if not gap.case]
    scores = [gap for gap in analysis.gaps if gap.case]
    if not analysis.gaps:
        return ""
    parts = []
    if runs:
        parts.append(f"{_count(len(runs), 'run')} gave no scores")
    if scores:
        parts.append(f"{_count(len(scores), 'score')} {'is' if len(scores) == 1 else 'are'} missing or no number")
    affected = sorted({case for arm in analysis.arms for case in arm.cases.left_out})
    return (
        f"This study is incomplete: {' and '.join(parts)}. A case that lacks one of an arm's planned runs is left out "
        f"of that arm's figures and of its comparisons ({_count(len(affected), 'case')} in all); no mean is "
        "taken over the runs that remain. Everything missing is named under Failures."
    )


def unit_words(analysis: Analysis) -> str:
    """Plural of the unit of analysis."""
    return f"{analysis.result.study.unit}s"


def methods(analysis: Analysis) -> str:
    """A paragraph for a paper, of this study's settings and nothing else."""
    return " ".join(_methods(analysis))


def _methods(analysis: Analysis) -> Iterator[str]:
    study, task, measure = analysis.result.study, analysis.result.task, analysis.measure
    ranked = measure.name in RANKED
    arms, baselines = len(study.arms), len(study.baselines)
    compared = _count(arms, "arm") + (f" and {_count(baselines, 'baseline')}" if baselines else "")
    strata = "stratified by each patient's worst label" if task == "classification" else "of sizes as equal as can be"
    repeated = f", repeated {study.repeats} times with new folds" if study.repeats > 1 else ""
    yield (
        f"We compared {compared} by {study.folds}-fold cross-validation{repeated}; folds were grouped by patient, "
        f"{strata}, and the same for all arms."
    )
    fixed = [name for name in study.baselines if name not in LEARNED_BASELINES]
    seeds = ", ".join(map(str, study.seeds))
    yield (
        f"Every arm was trained with {_count(len(study.seeds), 'random seed')} ({seeds}) on the same training cases"
        + (
            f"; {', '.join(fixed)}, which draw{'s' if len(fixed) == 1 else ''} nothing at random, once."
            if fixed
            else "."
        )
    )
    sizes = study.training_sizes
    if len(sizes) > 1 or sizes[0] is not None:
        words = ", ".join("all" if size is None else str(size) for size in sizes)
        yield (
            f"Training sizes were {words} cases, smaller sets nested in larger ones and made of whole patients; "
            "comparisons are made at the largest."
        )
    runs = len(study.seeds) * study.repeats
    things = "findings' scores" if task == "classification" else "figures"
    if runs > 1:
        over = "seeds and repetitions" if study.repeats > 1 and len(study.seeds) > 1 else (
            "seeds" if len(study.seeds) > 1 else "repetitions")  # fmt: skip
        yield f"Held-out {things} were averaged over {over} for each case before anything else was computed" + (
            ": the figures are those of the networks' mean score, as of an ensemble; those of each run stand beside."
            if ranked
            else "."
        )
    else:
        yield f"Each case was tested once, by a network that had not seen its patient; these {things} were analysed."
    level = f"{study.level:.0%}"
    if ranked:
        interval, difference = study.draws or INTERVAL_DRAWS, study.draws or DIFFERENCE_DRAWS
        yield (
            f"The primary figure was the {measure.title} ({measure.definition}) of all held-out findings, with {level} "
            f"percentile intervals from {interval:,} bootstrap draws of {unit_words(analysis)}; differences were "
            f"tested on {difference:,} draws that both arms shared, two-sided p = 2 (draws on the smaller side of 0 "
            "+ 1) / (draws + 1)."
        )
    else:
        units = max((len(set(c.unit_differences)) for c in analysis.comparisons), default=0)
        how = "all sign changes" if units <= EXACT_UNITS else f"{SAMPLED_FLIPS:,} random sign changes"
        yield (
            f"The primary figure was the {measure.title} ({measure.definition}), averaged for each {study.unit}; the "
            f"{study.unit} was the unit of analysis. Differences were tested by a two-sided sign-flip test"
            + (f" over {how}" if units else "")
            + f"; the {level} intervals are the shifts that this test does not reject (Hartigan 1969), for single "
            "arms as well."
        )
        yield "Effect sizes are the mean difference over its standard deviation, with noncentral-t intervals."
    if study.comparisons:
        yield (
            f"p-values of the {_count(len(study.comparisons), 'planned comparison')} were adjusted by Holm's method; "
            f"the level was {study.alpha:g}."
        )
        secondary = ["DeLong's test"] if measure.name == "auc" else [] if ranked else ["Wilcoxon's signed-rank test"]
        if study.repeats > 1:
            secondary.append("the corrected resampled t-test of Nadeau and Bengio")
        if secondary:
            yield f"Secondary: {' and '.join(secondary)}, unadjusted."
    if task == "classification":
        yield "Calibration is described by the Brier score and by ten bins of equal width."
    else:
        yield (
            "Overlap and surface figures were computed on the reference grid of each case, lesions being 26-connected "
            "unless a convention says otherwise; a figure of two empty masks is perfect."
        )
    if analysis.gaps:
        yield "Some runs or scores are missing; cases without all planned runs of an arm were left out and are named."
    yield f"All settings are project choices, recorded with the hashes of chains and data. {RESEARCH_NOTE}."


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def signed(value: float, decimals: int) -> str:
    """A difference with its sign; infinity as a word."""
    if np.isnan(value):
        return "-"
    if np.isinf(value):
        return "+infinity" if value > 0 else "-infinity"
    return f"{value:+.{decimals}f}"


def p_text(p_value: float) -> str:
    """A p-value with as many digits as it deserves."""
    if np.isnan(p_value):
        return "-"
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"
