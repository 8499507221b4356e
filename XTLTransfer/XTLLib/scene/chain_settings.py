"""The usual choices of a chain that a panel shows: those of the chain, until the user changes one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .previewer import ChainChoice

NAMES = ("backbone", "conversion", "seed", "sourceBudget", "targetBudget", "learningRate")
FOUND = 0.0  # the learning rate that says: by a range test
WEIGHTS = ("", "imagenet", "random")
"""Where a chain begins; "" leaves it to the chain."""


class ChainSettings:
    """Keeps the parameters of ``NAMES`` those of the chain while ``useChainSettings`` asks for that.

    ``useChainSettings`` is taken back as soon as the user changes one of them.
    """

    def __init__(self) -> None:
        self._shown: dict[str, Any] | None = None

    def follow(self, parameters: Any, own: Mapping[str, Any] | None) -> None:
        """Called after every change of the parameters. ``own`` : of the answer about the chain, or None."""
        if own is None or not parameters.useChainSettings:
            self._shown = None
            return
        values = _values_of(own)
        now = {name: getattr(parameters, name) for name in NAMES}
        if self._shown == values and now != values:  # they were the chain's, and the chain is the same
            self._shown = None
            parameters.useChainSettings = False
            return
        self._shown = values
        if now != values:
            modifying = parameters.StartModify()  # else the first looks like a change beside the second
            for name, value in values.items():
                setattr(parameters, name, value)
            parameters.EndModify(modifying)

    def forget(self) -> None:
        """Another parameter node comes."""
        self._shown = None


def base_of(parameters: Any, has_source: bool) -> tuple[str, ...]:
    """What completes a chain file: chosen data, and weights to begin with. ``has_source`` : of the chain."""
    chosen = []
    if parameters.weights:
        chosen.append(f"stages.initialisation={{kind: initialisation, weights: {parameters.weights}}}")
    if has_source and str(parameters.sourceData) != ".":
        chosen.append(f"stages.intermediate.datalist={_quoted(parameters.sourceData)}")
    if str(parameters.targetData) != ".":
        chosen.append(f"stages.target.datalist={_quoted(parameters.targetData)}")
    return tuple(chosen)


def changes_of(parameters: Any, own: Mapping[str, Any] | None) -> tuple[str, ...]:
    """What the user wants otherwise than the chain has it, as words KEY=VALUE."""
    if own is None or parameters.useChainSettings:
        return ()
    keys = {"backbone": "backbone", "conversion": "conversion", "seed": "seed"}
    keys["targetBudget"] = f"stages.target.training.{own['stages'][-1]['unit']}"
    keys["learningRate"] = "stages.target.training.learning_rate"
    if len(own["stages"]) > 2:
        keys["sourceBudget"] = f"stages.intermediate.training.{own['stages'][1]['unit']}"
    values = _values_of(own)
    return tuple(
        f"{key}={_written(name, getattr(parameters, name))}"
        for name, key in keys.items()
        if getattr(parameters, name) != values[name]
    )


def choice_of(parameters: Any, path: str, own: Mapping[str, Any] | None) -> ChainChoice:
    """The whole of a choice: chain file, its completion, its changes and the output folder."""
    has_source = own is not None and len(own["stages"]) > 2
    out = "" if str(parameters.outputFolder) == "." else str(parameters.outputFolder)
    return ChainChoice(path, base_of(parameters, has_source), changes_of(parameters, own), out)


def _values_of(own: Mapping[str, Any]) -> dict[str, Any]:
    stages = own["stages"]
    rate = stages[-1]["learning_rate"]
    return {
        **{key: own[key] for key in ("backbone", "conversion", "seed")},
        "sourceBudget": stages[1]["budget"] if len(stages) > 2 else 0,
        "targetBudget": stages[-1]["budget"],
        "learningRate": FOUND if rate is None else rate,
    }


def _quoted(path: Any) -> str:
    """A path as YAML that no character of it can change."""
    return "'{}'".format(str(path).replace("'", "''"))


def _written(name: str, value: Any) -> str:
    if name == "learningRate":
        return "find" if value == FOUND else f"{value:.7f}"  # YAML reads 1e-05 as a text
    return str(value)
