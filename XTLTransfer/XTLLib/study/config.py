"""What a study compares, as one YAML file describes it. Every default is a project choice."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator

from ..transfer.chain import BackboneName, Chain, ConversionRule, chain_from_dict, load_chain
from ..transfer.presets import PRESETS
from ..transfer.stages import FROZEN_RANDOM, IMAGENET, RANDOM
from ..transfer.yaml_model import StrictModel, load_model

BaselineName = Literal["radiomics-lr", "svm", "adc-contrast", "flair-threshold"]
MetricName = Literal[
    "auc", "ap", "dice", "iou", "ppv", "tpr", "avd", "hd95", "assd", "ltpr", "lfpr", "lesion-f1", "isbi"
]
Unit = Literal["patient", "case", "finding"]

ALL: Literal["all"] = "all"
LEARNED_BASELINES: tuple[BaselineName, ...] = ("radiomics-lr", "svm")  # the others draw nothing at random
BASELINE_TASKS: Mapping[BaselineName, str] = {
    "radiomics-lr": "classification",
    "svm": "classification",
    "adc-contrast": "classification",
    "flair-threshold": "segmentation",
}
METRICS: Mapping[str, tuple[MetricName, ...]] = {  # by task, the default one first
    "classification": ("auc", "ap"),
    "segmentation": ("dice", "iou", "ppv", "tpr", "avd", "hd95", "assd", "ltpr", "lfpr", "lesion-f1", "isbi"),
}

_WORDS = (IMAGENET, RANDOM, FROZEN_RANDOM)
_PATH_KEYS = {"datalist": (), "chain": (), "weights": _WORDS}


def _kind_of_chain(value: Any) -> str:
    return "path" if isinstance(value, str) else "written out"


class Arm(StrictModel):
    """One chain under comparison.

    Attributes
    ----------
    name : what tables call it, for example XTL.
    chain : path of the chain file, or the chain itself; its target datalist is replaced by the study's folds, its
        seed by the study's.
    intermediate : false leaves out the chain's intermediate stages (TL from the file of XTL).
    weights : takes the place of the chain's initialisation: a path, ``imagenet``, ``random`` or ``frozen-random``.
    backbone, conversion : take the place of the chain's.
    training : keys of the target stage's training that take the place of the chain's. Those that are no budget
        are then under comparison themselves; with ``preset``, that of the chain goes.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    chain: Annotated[Annotated[str, Tag("path")] | Annotated[Chain, Tag("written out")], Discriminator(_kind_of_chain)]
    intermediate: bool = True
    weights: str | None = None
    backbone: BackboneName | None = None
    conversion: ConversionRule | None = None
    training: dict[str, Any] = {}

    def load(self) -> Chain:
        """The arm's chain. Raises InputError as load_chain does, and when an override does not fit the chain."""
        chain = load_chain(self.chain) if isinstance(self.chain, str) else self.chain
        chain = chain if self.intermediate else chain.without_intermediate()
        if not (self.weights or self.backbone or self.conversion or self.training):
            return chain
        values = chain.model_dump(exclude_unset=True)
        values["name"] = self.name
        values |= {key: getattr(self, key) for key in ("backbone", "conversion") if getattr(self, key) is not None}
        stages = list(values["stages"])
        if self.weights is not None:
            stages[0] = {"kind": "initialisation", "weights": self.weights}
        if self.training:
            stages[-1] = {**stages[-1], "training": _merged(stages[-1].get("training", {}), self.training)}
        return chain_from_dict({**values, "stages": stages}, f"the arm {self.name}")


class Study(StrictModel):
    """Arms and baselines on the same patient-grouped folds of one datalist.

    Attributes
    ----------
    name : of the study. question : what it asks, in a sentence, for the report.
    datalist : path of the target datalist; all its entries are divided into folds, whatever its parts.
    folds : number of patient-grouped, stratified folds; every case is tested once per seed, repeat and size.
    repeats : how often the patients are dealt into folds anew.
    seeds : each seed deals its own weights, order and augmentation; the folds stay the same.
    sizes : training cases to learn from, ``all`` or numbers: a learning curve. Smaller parts lie within larger
        ones, hold whole patients, keep the share of the classes, and are the same for every arm and seed.
    arms, baselines : what is compared.
    comparisons : pairs (a, b) of names; the difference a - b is estimated, with Holm's correction over the pairs.
    unit : of analysis; what is resampled and what a test pairs.
    primary_metric : null takes AUC or Dice.
    alpha : of the tests, two-sided. level : of the intervals.
    draws : of the bootstrap; null takes 2,000 for intervals and 10,000 for differences.
    allow_different_budgets : whether the arms' target training may differ in what no arm says in the study file.
    transferability : whether the sources are scored before they are trained on, as advisory columns.
    """

    name: str = Field(min_length=1)
    question: str = ""
    datalist: str
    folds: int = Field(5, ge=2)
    repeats: int = Field(1, ge=1)
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)
    sizes: Annotated[tuple[Annotated[int, Field(ge=1)] | Literal["all"], ...], Field(min_length=1)] = (ALL,)
    arms: tuple[Arm, ...]
    baselines: tuple[BaselineName, ...] = Field((), validate_default=True)
    comparisons: tuple[tuple[str, str], ...] = ()
    unit: Unit = "patient"
    primary_metric: MetricName | None = None
    alpha: float = Field(0.05, gt=0, lt=0.5)
    level: float = Field(0.95, gt=0.5, lt=1)
    draws: int | None = Field(None, ge=200)
    allow_different_budgets: bool = False
    transferability: bool = False

    @field_validator("seeds", "sizes", "comparisons")
    @classmethod
    def _is_said_once(cls, values: tuple) -> tuple:
        if len(set(values)) < len(values):
            raise ValueError(f"a value stands twice in {list(values)}")
        return values

    @field_validator("comparisons")
    @classmethod
    def _compares_two(cls, pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        for first, second in pairs:
            if first == second:
                raise ValueError(f"{first} is compared with itself")
        return pairs

    @field_validator("arms")
    @classmethod
    def _has_arms(cls, arms: tuple[Arm, ...]) -> tuple[Arm, ...]:
        if not arms:  # not by min_length, which hides what is wrong with an arm
            raise ValueError("a study has one arm or more")
        return arms

    @field_validator("baselines")
    @classmethod
    def _names_differ(cls, baselines: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        names = [*_names(info.data.get("arms", ())), *baselines]
        if len({name.lower() for name in names}) < len(names):  # some file systems do not tell a from A
            raise ValueError(f"a name stands twice among arms and baselines ({', '.join(names)})")
        return baselines

    @field_validator("comparisons")
    @classmethod
    def _names_are_known(cls, pairs: tuple[tuple[str, str], ...], info: ValidationInfo) -> tuple[tuple[str, str], ...]:
        if "arms" not in info.data or "baselines" not in info.data:
            return pairs  # what is wrong with these is said first
        names = [*_names(info.data["arms"]), *info.data["baselines"]]
        unknown = sorted({name for pair in pairs for name in pair} - set(names))
        if unknown:
            raise ValueError(
                f"a comparison names {', '.join(unknown)}, which is neither an arm nor a baseline ({', '.join(names)})"
            )
        return pairs

    @property
    def names(self) -> tuple[str, ...]:
        """Arms, then baselines, in the order of the file."""
        return (*_names(self.arms), *self.baselines)

    @property
    def training_sizes(self) -> tuple[int | None, ...]:
        """``sizes`` from the smallest to all, which is None."""
        numbers: list[int | None] = sorted(size for size in self.sizes if size != ALL)
        return tuple(numbers + [None] * (ALL in self.sizes))

    def arm(self, name: str) -> Arm | None:
        """The arm of this name; None for a baseline."""
        return next((arm for arm in self.arms if arm.name == name), None)

    def metric_of(self, task: str) -> MetricName:
        """The primary metric of a study of this task; with ``-`` as ``_`` it is the name of a score's value."""
        return self.primary_metric or METRICS[task][0]


def load_study(path: str | os.PathLike) -> Study:
    """Read a study file. Paths in it are relative to it. Raises InputError naming file, line and key."""
    return load_model(Path(path), Study, _PATH_KEYS)


def _names(arms: Sequence[Arm]) -> tuple[str, ...]:
    return tuple(arm.name for arm in arms)


def _merged(training: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Training with changes; a new preset takes the place of the old one's values."""
    kept = dict(training)
    if "preset" in changes:
        old = PRESETS.get(kept.pop("preset", None), {})
        kept = {key: value for key, value in kept.items() if key not in old or value != old[key]}
    return {**kept, **changes}
