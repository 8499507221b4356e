"""What a study leaves to be reported: its settings, the score of every held-out case, and the facts around them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .scores import Score

if TYPE_CHECKING:
    from .config import Study

FORMAT = 1  # of results.json
LEFT_OUT = "left_out"  # of the transferability of an arm: why it has no scores


@dataclass(frozen=True, eq=False)
class StudyResult:
    """The scores of a study that has come to its end.

    Attributes
    ----------
    study : what was compared. task : segmentation or classification.
    scores : of every arm, seed, repetition, fold, size and held-out case; NaN where a run gave no number.
    facts : JSON-able; all of it is optional, and what is not there is found out from the study file, or left out.

        ===============  ================================================================================
        date             the day of the report, "2026-01-31"
        versions         package -> version. device : what the runs were computed on
        datalist         name, layout, licence, description, cases, patients, positives, hash
        arms             arm -> {"hash", "stages": rows of :mod:`.facts`, "seconds" of all its runs}
        runs             run -> {"key": content hash, "seconds"}
        failures         [{"run", "error"}], runs that ended without scores, with one line each
        power            statement made before the study ran
        transferability  arm -> {score: value}, or {"left_out": reason}
        ===============  ================================================================================
    """

    study: Study
    task: str
    scores: tuple[Score, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Arms and baselines in the order of the study."""
        return [arm.name for arm in self.study.arms] + list(self.study.baselines)

    @property
    def sizes(self) -> list[int | None]:
        """Numbers of training cases that were tried, increasing, None (all of them) last."""
        found = {score.size for score in self.scores}
        return sorted(found, key=lambda size: (size is None, size or 0)) or [None]

    @property
    def table_text(self) -> str:
        """The result for a terminal."""
        from .analysis import analyse
        from .report_tables import terminal_text

        return terminal_text(analyse(self))

    def of(self, name: str, size: int | None = None) -> list[Score]:
        """Scores of one arm or baseline that learned from ``size`` cases."""
        return [score for score in self.scores if score.arm == name and score.size == size]

    def largest_size(self, name: str) -> int | None:
        """The largest training size with which an arm was run; None is all cases."""
        sizes = [size for size in self.sizes if any(s.arm == name and s.size == size for s in self.scores)]
        return sizes[-1] if sizes else self.sizes[-1]
