"""What differs from stage to stage: examples, loss and validation. The engine does the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from torch import Tensor, nn

from ..errors import InputError

if TYPE_CHECKING:
    from ..transfer.training import Training


@dataclass(frozen=True)
class Validation:
    """What the validation patients say about a network.

    Attributes
    ----------
    metric : the task's figure, higher is better. loss : the mean of the training's loss, without augmentation.
    """

    metric: float
    loss: float


class Task(Protocol):
    """The side of a stage that knows its data.

    Attributes
    ----------
    metric : name of the validation figure, higher is better. validations : how often it is worth its time.
    can_validate : whether there are validation patients that give the figure.
    steps : budget of the stage, in steps of the optimiser. Each takes ``training.accumulate`` batches, which
        the engine asks for: batch number ``step * accumulate + n``.
    """

    metric: str
    validations: int
    can_validate: bool
    steps: int

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        """Inputs (N, C, ...) and targets (N, ...) of batch ``number``, on CPU, float32.

        A function of the number alone. Several processes share a batch along the first axis.
        """
        ...

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """A scalar, of a whole batch."""
        ...

    def validate(self, network: nn.Module) -> Validation:
        """The figures on the validation patients, of a network in evaluation mode."""
        ...


def require_validation(task: Task, training: Training) -> None:
    """Raise InputError where a training waits for validations and there are no patients for them."""
    waits = {"schedule plateau": training.schedule == "plateau", "early_stopping": training.early_stopping is not None}
    waiting = [name for name, does in waits.items() if does]
    if waiting and not task.can_validate:
        raise InputError(
            f"{' and '.join(waiting)} of a stage that has too few validation patients",
            "Give more of them, or leave it out of the training",
        )
