"""What a study compares, as one YAML file describes it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..transfer.chain import Chain, load_chain
from ..transfer.yaml_model import StrictModel, load_model

BaselineName = Literal["flair-threshold", "adc-contrast"]

_PATH_KEYS = {"datalist": (), "chain": ()}


class Arm(StrictModel):
    """One chain under comparison.

    Attributes
    ----------
    name : what tables call it, for example XTL.
    chain : path of the chain file; its target datalist is replaced by the study's folds.
    intermediate : false leaves out the chain's intermediate stages (TL from the file of XTL).
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    chain: str
    intermediate: bool = True

    def load(self) -> Chain:
        """The arm's chain. Raises InputError as load_chain does."""
        chain = load_chain(self.chain)
        return chain if self.intermediate else chain.without_intermediate()


class Study(StrictModel):
    """Arms and baselines on the same patient-grouped folds of one datalist.

    Attributes
    ----------
    name : of the study.
    datalist : path of the target datalist; all its entries are divided into folds, whatever its parts.
    folds : number of patient-grouped, stratified folds; every case is tested once per seed.
    seeds : each seed deals its own weights, order and augmentation; the folds stay the same.
    arms, baselines : what is compared.
    comparisons : pairs (a, b) of names; the difference a - b is estimated.
    """

    name: str
    datalist: str
    folds: int = Field(5, ge=2)
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)
    arms: Annotated[tuple[Arm, ...], Field(min_length=1)]
    baselines: tuple[BaselineName, ...] = ()
    comparisons: tuple[tuple[str, str], ...] = ()

    @model_validator(mode="after")
    def _names_fit(self) -> Study:
        names = [arm.name for arm in self.arms] + list(self.baselines)
        if len(set(names)) < len(names):
            raise ValueError(f"a name stands twice among arms and baselines ({', '.join(names)})")
        unknown = sorted({name for pair in self.comparisons for name in pair} - set(names))
        if unknown:
            raise ValueError(f"a comparison names {', '.join(unknown)}, which is neither an arm nor a baseline")
        return self


def load_study(path: str | os.PathLike) -> Study:
    """Read a study file. Paths in it are relative to it. Raises InputError naming file, line and key."""
    return load_model(Path(path), Study, _PATH_KEYS)
