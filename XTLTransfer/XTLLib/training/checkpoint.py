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
    model, policy : their state dicts; the policy's holds the optimiser's.
    average : the moving average of the weights, if any.
    scaler : state of the loss scaling in float16.
    best_model, best_metric, best_loss, best_step : the weights kept so far and their validation, if any.
    record, idle : highest figure of those that decide what is kept, and validations since it rose.
    rows : the log so far, see ``logs.write_log``.
    pending : losses since the last row.
    seconds : time spent until here.
    """

    key: str
    step: int = 0
    model: dict[str, Any] = field(default_factory=dict)
    policy: dict[str, Any] = field(default_factory=dict)
    average: dict[str, Any] | None = None
    scaler: dict[str, Any] = field(default_factory=dict)
    best_model: dict[str, Any] | None = None
    best_metric: float | None = None
    best_loss: float | None = None
    best_step: int | None = None
    record: float | None = None
    idle: int = 0
    rows: list[list[float | None]] = field(default_factory=list)
    pending: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        """Write to ``path``, which holds a whole checkpoint at any moment, also when the disk fills up.

        Raises XTLError when there is no room for it.
        """
        _save({f.name: getattr(self, f.name) for f in fields(self)}, path)

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
    """Write a plain state dict, on CPU in the default memory layout. Raises XTLError when there is no room."""
    _save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, path)


def load_saved_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read what :func:`save_weights` wrote."""
    return torch.load(path, map_location="cpu", weights_only=True)


def _save(values: Any, path: Path) -> None:
    with atomic_file(path) as draft, open(draft, "wb") as stream:
        try:
            torch.save(values, stream)
        except RuntimeError as error:
            # Closing a file that could not be written whole, torch puts its own error over the system's.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
