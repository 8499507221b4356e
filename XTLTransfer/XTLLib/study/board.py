"""How a study's runs stand while it is at work: what a table, a line or a window shows."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from .runs import PlannedRun

_TELL_EVERY_S = 0.5


@dataclass
class ArmCount:
    """The runs of one arm. ``figures`` : the primary metric of each finished run that has one by itself."""

    planned: int = 0
    finished: int = 0
    failed: int = 0
    figures: list[float] = field(default_factory=list)

    @property
    def mean(self) -> float | None:
        """Over the finished runs: how it goes, not what the report will say."""
        return sum(self.figures) / len(self.figures) if self.figures else None


@dataclass
class Board:
    """State of a study at work.

    Attributes
    ----------
    arms : name -> its counts, in the order of the study. metric : that ``mean`` is of.
    running : name of a run -> (fraction, what it is at).
    kept : runs that were finished before. places : runs at the same time.
    """

    arms: dict[str, ArmCount]
    metric: str
    kept: int = 0
    places: int = 1
    running: dict[str, tuple[float, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, runs: Sequence[PlannedRun], metric: str) -> Board:
        """A board on which nothing has begun."""
        arms: dict[str, ArmCount] = {}
        for run in runs:
            arms.setdefault(run.arm, ArmCount()).planned += 1
        return cls(arms, metric)

    @property
    def planned(self) -> int:
        """All runs."""
        return sum(arm.planned for arm in self.arms.values())

    @property
    def finished(self) -> int:
        """Runs with an outcome, those of before among them."""
        return sum(arm.finished for arm in self.arms.values())

    @property
    def failed(self) -> int:
        """Runs without one."""
        return sum(arm.failed for arm in self.arms.values())

    @property
    def fraction(self) -> float:
        """How much is done of what there was to do when this session began; what the ETA goes by."""
        to_do = self.planned - self.kept
        under_way = sum(fraction for fraction, _ in self.running.values())
        return 1.0 if to_do == 0 else min(1.0, (self.finished + self.failed - self.kept + under_way) / to_do)

    @property
    def line(self) -> str:
        """All of it in a line."""
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.finished} of {self.planned} runs finished{failed}"

    def means(self) -> Mapping[str, float]:
        """The mean so far of every arm that has one, as a progress event's figures."""
        return {f"{name} {self.metric}": arm.mean for name, arm in self.arms.items() if arm.mean is not None}


def board_teller() -> Callable[[Board], None]:
    """Tells a parent process how every arm stands: lines ``{"type": "board", ...}`` on stdout, not too many."""
    told: tuple[float, tuple[int, int]] | None = None

    def tell(board: Board) -> None:
        nonlocal told
        now, counts = time.monotonic(), (board.finished, board.failed)
        if told is not None and (told[1] == counts or now - told[0] < _TELL_EVERY_S) and board.fraction < 1:
            return
        told = now, counts
        arms = [
            {"arm": name, "planned": arm.planned, "finished": arm.finished, "failed": arm.failed, "mean": arm.mean}
            for name, arm in board.arms.items()
        ]
        sys.stdout.write(json.dumps({"type": "board", "metric": board.metric, "arms": arms}) + "\n")
        sys.stdout.flush()

    return tell


def figure_of_run(values: Mapping[str, Mapping[str, float]], metric: str) -> float | None:
    """The primary metric of one run's test cases; None where they do not suffice for it.

    Parameters
    ----------
    values : of a RunOutcome. metric : as a study names it.
    """
    if metric in ("auc", "ap"):
        import numpy as np

        from ..metrics.precision_recall import average_precision
        from ..metrics.roc import auc

        truth = np.array([figures["truth"] for figures in values.values()]) > 0.5
        scores = np.array([figures["score"] for figures in values.values()])
        if truth.all() or not truth.any():
            return None
        return float((auc if metric == "auc" else average_precision)(scores, truth))
    key = metric.replace("-", "_")
    known = [figures[key] for figures in values.values() if math.isfinite(figures.get(key, math.nan))]
    return sum(known) / len(known) if known else None
