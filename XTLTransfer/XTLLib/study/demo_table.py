"""The comparison table of ``xtl demo``, for a terminal, a file and the report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..metrics.roc import weighted_auc
from ..metrics.score_difference import score_difference
from .demo_arms import ClassificationOutcome, SegmentationOutcome

NOTE = "Phantoms prove that the machinery works, and nothing medical."
_FROM_RANDOM = (
    "Initialisation: random, as no ImageNet weights were given (--weights FILE). TL is then simply training from "
    "scratch, and XTL starts from mammogram phantoms only."
)
Row = tuple[str, str, str]


def comparison_rows(
    segmentation: Mapping[str, SegmentationOutcome], classification: Mapping[str, ClassificationOutcome]
) -> list[Row]:
    """Rows (what, TL, XTL); a row without figures is a heading."""
    tl, xtl = segmentation["TL"], segmentation["XTL"]
    rows: list[Row] = [(f"MS segmentation, {len(tl.dice)} unseen phantoms", "", "")]
    for number, entry in enumerate(tl.entries):
        grids = entry.attributes.get("grids", "")
        rows.append((f"  Dice {entry.case} ({grids})", f"{tl.dice[number]:.3f}", f"{xtl.dice[number]:.3f}"))
    rows.append(("  Dice, mean", f"{tl.mean_dice:.3f}", f"{xtl.mean_dice:.3f}"))
    rows.append(_seconds(tl, xtl))
    a, b = classification["TL"], classification["XTL"]
    rows += [
        (
            f"Prostate classification, {a.truth.size} findings ({int(a.truth.sum())} significant) of "
            f"{a.auc.patients} unseen phantoms",
            "",
            "",
        ),
        ("  AUC", f"{a.auc.auc:.3f}", f"{b.auc.auc:.3f}"),
        ("  95 % interval, patient bootstrap", *(f"{o.auc.low:.3f} to {o.auc.high:.3f}" for o in (a, b))),
        _seconds(a, b),
        ("Mammogram classification, shared by both targets", "", ""),
        ("  training, s", "-", f"{xtl.trained.mammogram_seconds:.0f}"),
    ]
    auc = xtl.trained.record.stages[1].metrics.get("validation AUC")
    if auc is not None:
        rows.append(("  validation AUC", "-", f"{float(auc):.3f}"))
    return rows


def comparison_text(
    segmentation: Mapping[str, SegmentationOutcome],
    classification: Mapping[str, ClassificationOutcome],
    weights: Path | None,
    out: Path,
    seconds: float,
) -> str:
    """The table with what has to be known to read it."""
    rows = comparison_rows(segmentation, classification)
    width = max(len(what) for what, *figures in rows if any(figures))
    lines = ["", f"{'':{width}}  {'TL':>16}  {'XTL':>16}"]
    lines += [f"{what:{width}}  {tl:>16}  {xtl:>16}" if tl or xtl else what for what, tl, xtl in rows]
    a, b = classification["XTL"], classification["TL"]
    difference = score_difference(weighted_auc, a.probabilities, b.probabilities, a.truth, a.patients)
    lines += [
        "",
        f"AUC difference XTL - TL {difference.difference:+.3f}, 95 % interval {difference.low:+.3f} to "
        f"{difference.high:+.3f}, 10,000 bootstrap draws of patients.",
        initialisation_text(weights),
        NOTE,
        "",
        f"scene    {out / 'scene.mrb'}",
        f"report   {out / 'report.png'}",
        f"bundles  {out / 'bundles'}",
        f"{seconds:.0f} s in all",
    ]
    return "\n".join(lines)


def initialisation_text(weights: Path | None) -> str:
    """Where the weights came from, in a sentence."""
    return _FROM_RANDOM if weights is None else f"Initialisation: {Path(weights).name}."


def _seconds(tl, xtl) -> Row:
    return ("  training of the target, s", f"{tl.trained.target_seconds:.0f}", f"{xtl.trained.target_seconds:.0f}")
