"""A stage's state on disk: enough to go on as if nothing had happened."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError
from ..files import atomic_file


@dataclass
class Checkpoint:
    """Where a stage stands after ``step`` steps.

    Random states are not part of it: all randomness of a step follows from the seed and the step
    (see ``seeds``).

    Attributes
    ----------
    key : of the stage; a checkpoint of another stage is refused.
    step : steps done.
    model, optimiser, schedule : their state dicts.
    best_model, best_metric, best_step : the weights with the best validation so far, if any.
    rows : the log so far: [step, loss, learning rate, metric or None].
    pending : losses since the last row.
    seconds : time spent until here.
    """

    key: str
    step: int
    model: dict[str, Any]
    optimiser: dict[str, Any]
    schedule: dict[str, Any]
    best_model: dict[str, Any] | None = None
    best_metric: float | None = None
    best_step: int | None = None
    rows: list[list[float | None]] = field(default_factory=list)
    pending: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        """Write to ``path``, which holds a whole checkpoint at any moment."""
        with atomic_file(path) as draft:
            torch.save({f.name: getattr(self, f.name) for f in fields(self)}, draft)

    @classmethod
    def load(cls, path: Path, key: str) -> Checkpoint | None:
        """The checkpoint at ``path``; None when there is none.

        Raises InputError when it cannot be read or belongs to another stage.
        """
        if not path.is_file():
            return None
        try:
            values = torch.load(path, map_location="cpu", weights_only=True)
            checkpoint = cls(**values)
        except (OSError, RuntimeError, EOFError, TypeError, pickle.UnpicklingError) as error:
            raise InputError(
                f"the checkpoint {path} cannot be read ({type(error).__name__})", "Delete it to begin the stage anew"
            ) from error
        if checkpoint.key != key:
            raise InputError(
                f"the checkpoint {path} belongs to another stage (its configuration, data or weights differ)",
                "Resume with the chain it was begun with, or name a new output folder",
            )
        return checkpoint


def save_weights(state: dict[str, torch.Tensor], path: Path) -> None:
    """Write a plain state dict, on CPU in the default memory layout."""
    with atomic_file(path) as draft:
        torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, draft)


def load_saved_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read what :func:`save_weights` wrote."""
    return torch.load(path, map_location="cpu", weights_only=True)
