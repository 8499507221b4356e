"""What an adaptation came to, in a form that a process can tell another one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..transfer.figure import Figure


@dataclass(frozen=True)
class PartFigures:
    """How a model does on cases, or on a part of a case, that it did not learn from.

    Attributes
    ----------
    dice : mean over cases, on the working grid; with an interval where there are several patients.
    lesion_f1 : mean over cases, 26-connected; one shared voxel makes a lesion found.
    lesions, cases : how many there are.
    """

    dice: Figure
    lesion_f1: Figure
    lesions: int
    cases: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able data."""
        return {**asdict(self), "dice": self.dice.to_dict(), "lesion_f1": self.lesion_f1.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PartFigures:
        """The figures that :meth:`to_dict` gave."""
        values = {name: Figure(**data[name]) for name in ("dice", "lesion_f1")}
        return cls(**values, lesions=int(data["lesions"]), cases=int(data["cases"]))


@dataclass(frozen=True)
class AdaptationOutcome:
    """What came of an adaptation.

    Attributes
    ----------
    bundle : folder of the adapted model; None when it was refused, and nothing was written.
    before, after : on the held-out part, both at the threshold of the incoming bundle; None without one.
    held_out : what was held out, in words.
    refused : the adapted model is no better than the one that came in.
    threshold_before, threshold : smallest probability of a lesion voxel, of the incoming and the adapted model.
    replay_before, replay_after : on held-out cases of the source data, what was forgotten; None without them.
    seconds : of the whole adaptation. notes : what a reader has to know, in sentences.
    """

    bundle: Path | None
    before: PartFigures | None
    after: PartFigures | None
    held_out: str
    refused: bool
    threshold_before: float
    threshold: float
    replay_before: PartFigures | None = None
    replay_after: PartFigures | None = None
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able data."""
        values = {name: getattr(self, name) for name in AdaptationOutcome.__dataclass_fields__}
        for name in _FIGURES:
            values[name] = None if values[name] is None else values[name].to_dict()
        return {**values, "bundle": None if self.bundle is None else str(self.bundle), "notes": list(self.notes)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AdaptationOutcome:
        """The outcome that :meth:`to_dict` gave; unknown keys are left alone."""
        values = {name: data[name] for name in AdaptationOutcome.__dataclass_fields__ if name in data}
        for name in _FIGURES:
            values[name] = None if values.get(name) is None else PartFigures.from_dict(values[name])
        bundle = None if values["bundle"] is None else Path(values["bundle"])
        return cls(**{**values, "bundle": bundle, "notes": tuple(values.get("notes", ()))})

    def __str__(self) -> str:
        """In one line."""
        if self.before is None or self.after is None:
            return "adapted, without a held-out part to say what it came to"
        words = f"Dice {self.before.dice} -> {self.after.dice}, lesion F1 {self.before.lesion_f1} -> "
        words += f"{self.after.lesion_f1} on {self.held_out}"
        if self.replay_before is not None and self.replay_after is not None:
            words += f"; on the source data Dice {self.replay_before.dice} -> {self.replay_after.dice}"
        return words


_FIGURES = ("before", "after", "replay_before", "replay_after")
