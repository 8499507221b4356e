"""What differs from stage to stage: examples, loss and validation. The engine does the rest."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn


class Task(Protocol):
    """The side of a stage that knows its data.

    Attributes
    ----------
    metric : name of the validation figure, higher is better. validations : how often it is worth its time.
    can_validate : whether there are validation patients that give the figure.
    steps : budget of the stage.
    """

    metric: str
    validations: int
    can_validate: bool
    steps: int

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs (N, C, ...) and targets of a step, on CPU, float32; a function of the step alone."""
        ...

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """A scalar."""
        ...

    def validate(self, network: nn.Module) -> float:
        """The figure on the validation patients, of a network in evaluation mode."""
        ...
