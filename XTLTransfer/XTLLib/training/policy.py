"""The fine-tuning policy of a stage: what learns from when on, at which rate, and what holds it back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from ..errors import InputError
from ..networks.build import build_network
from ..networks.groups import LayerGroup, layer_groups, require_group_names
from ..networks.normalisation import set_batchnorm
from ..networks.spec import NetworkSpec
from .losses import l2sp
from .schedules import Constant, HalfCosine, OneCycle, Plateau, Schedule

if TYPE_CHECKING:
    from ..transfer.training import Training

_MOMENTUM = 0.9


@dataclass(frozen=True, eq=False)
class _Part:
    """A layer group under a policy.

    Attributes
    ----------
    parameters : those that may ever learn. rate : share of the head's rate.
    first_step : from which the group learns; None for never.
    batchnorm : "train" or "frozen", once it learns.
    """

    group: LayerGroup
    parameters: tuple[nn.Parameter, ...]
    rate: float
    first_step: int | None
    batchnorm: Literal["frozen", "train"]

    @property
    def learns_ever(self) -> bool:
        return self.first_step is not None and bool(self.parameters)

    def set_learning(self, learns: bool) -> None:
        for parameter in self.parameters:
            parameter.requires_grad_(learns)
        for module in self.group.modules:
            set_batchnorm(module, self.batchnorm if learns else "frozen")


class Policy:
    """Drives the optimiser of one training; made by :func:`make_policy`.

    Before every step of the optimiser ``before_step``, after it ``after_step``. What learns and how fast is a
    function of the step (under "plateau" also of the validations so far), so that a resumed training goes on as
    it would have.

    Attributes
    ----------
    optimiser : holds all that may ever learn, from the beginning; what does not learn yet has no gradient.
    trained : the same parameters, for clipping: encoder before head, and of each first those with more than
        one axis.
    """

    def __init__(self, network: nn.Module, parts: tuple[_Part, ...], training: Training, schedule: Schedule) -> None:
        self._network, self._parts, self._schedule = network, parts, schedule
        self._peak = None if training.learning_rate == "find" else float(training.learning_rate)
        self._strength, self._step = training.l2sp, 0
        self._learning: list[bool] | None = None
        anchored = training.l2sp > 0
        groups, self._rates = [], []
        for part in parts:
            if not part.learns_ever:
                continue
            is_pulled = anchored and (part is not parts[-1] or training.l2sp_head)
            for decays in (True, False):
                members = [p for p in part.parameters if (p.ndim > 1) == decays]
                if members:
                    # What is pulled towards its own beginning is not pulled towards zero as well.
                    decay = training.weight_decay if decays and not is_pulled else 0.0
                    groups.append({"params": members, "weight_decay": decay})
                    self._rates.append(part.rate)
        self.optimiser = _optimiser(training.optimiser, groups)
        encoder = [p for part in parts[:-1] if part.learns_ever for p in part.parameters]
        head = [p for p in parts[-1].parameters if parts[-1].learns_ever]
        self.trained = [
            p for side in (encoder, head) for decays in (True, False) for p in side if (p.ndim > 1) == decays
        ]
        self._anchored = [*encoder, *(head if training.l2sp_head else [])] if anchored else []
        self._anchors = [p.detach().clone() for p in self._anchored]
        self.before_step(0)

    def before_step(self, step: int) -> None:
        """Free and freeze layer groups, with their BatchNorm statistics, and set the rates of a step (from 0)."""
        self._step = step
        learning = [part.first_step is not None and step >= part.first_step for part in self._parts]
        if learning != self._learning:
            for part, learns in zip(self._parts, learning):
                part.set_learning(learns)
            self._network.train(self._network.training)  # what has been freed takes the network's mode
            self._learning = learning
        if self._peak is None:
            return
        momentum = self._schedule.momentum(step)
        for group, rate in zip(self.optimiser.param_groups, self._rates):
            group["lr"] = self._schedule.rate(self._peak * rate, step)
            if momentum is not None and "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])
            elif momentum is not None:
                group["momentum"] = momentum

    @property
    def wants_rate(self) -> bool:
        """Whether the rate is still to be found (``learning_rate: find``) and given by ``take_rate``."""
        return self._peak is None

    def take_rate(self, peak: float) -> None:
        """The largest rate of the head, as found; from then on it is part of the policy's state."""
        self._peak = peak
        self.before_step(self._step)

    def penalty(self) -> Tensor | None:
        """What is to be added to the loss of a step: L2-SP; None without it."""
        learning = [(p, a) for p, a in zip(self._anchored, self._anchors) if p.requires_grad]
        return self._strength * l2sp(learning) if learning else None

    def after_step(self) -> None:
        """The optimiser has made the step; the next one is due."""
        self._step += 1

    def after_validation(self, metric: float, loss: float | None) -> None:
        """Tell the figures of a validation: its metric, higher is better, and its loss where there is one."""
        if isinstance(self._schedule, Plateau):
            self._schedule.after_validation(-metric if loss is None else loss)

    @property
    def finished(self) -> bool:
        """Whether a plateau's rate has become too small to learn anything more."""
        return isinstance(self._schedule, Plateau) and not self.wants_rate and self._schedule.is_finished(self._peak)

    @property
    def rate(self) -> float:
        """The head's learning rate, of the last ``before_step``."""
        return self.optimiser.param_groups[-1]["lr"]

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed training needs, the optimiser's state included."""
        schedule = self._schedule.state_dict() if isinstance(self._schedule, Plateau) else {}
        return {
            "optimiser": self.optimiser.state_dict(),
            "schedule": schedule,
            "peak": self._peak,
            "anchors": self._anchors,
            "step": self._step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave, of a policy of the same network and training."""
        self.optimiser.load_state_dict(state["optimiser"])
        if isinstance(self._schedule, Plateau):
            self._schedule.load_state_dict(state["schedule"])
        self._peak = state["peak"]
        for anchor, saved in zip(self._anchors, state["anchors"], strict=True):
            anchor.copy_(saved)
        self.before_step(state["step"])


def make_policy(
    network: nn.Module, training: Training, steps: int, *, seed: int = 0, schedule: Schedule | None = None
) -> Policy:
    """The policy of a training over ``steps`` steps of the optimiser.

    Parameters
    ----------
    network : on its device, with the weights that come in: L2-SP pulls towards the encoder's as they are now.
        With ``training.peft``, as ``apply_peft`` left it: what needs no gradient then never learns.
    training : where its ``learning_rate`` is "find", the policy waits for ``take_rate`` (see ``lr_finder``).
    seed : unused as yet: nothing of a policy is random.
    schedule : in place of the training's.

    An encoder whose ``encoder_rate`` is 0 stays as it came, whatever the rest says.

    Raises
    ------
    InputError : a name in ``frozen`` is no layer group, ``unfreeze`` has more shares than there are groups to
        free, or nothing is left to learn.
    """
    return Policy(network, _parts(network, training, steps), training, schedule or _schedule(training, steps))


def require_policy(training: Training, backbone: str) -> None:
    """Raise the InputError that ``make_policy`` would raise for networks on a backbone, without making one.

    No optimiser is made either: with its first one, torch loads its compiler, which takes a second.
    """
    with torch.device("meta"):
        network = build_network(NetworkSpec("mammogram-classification", backbone))
    _parts(network, training, 1)


def _parts(network: nn.Module, training: Training, steps: int) -> tuple[_Part, ...]:
    """The layer groups with what the training asks of each; what never learns needs no gradient from here on."""
    groups = layer_groups(network, training.layer_groups)
    require_group_names(training.frozen, groups, "frozen")
    frozen = set(training.frozen)
    if training.encoder_rate == 0:
        frozen |= {group.name for group in groups[:-1]}
    first_steps = _first_steps(groups, frozen, training.unfreeze, steps)
    parts = []
    for before_head, group in zip(reversed(range(len(groups))), groups):
        is_head = before_head == 0
        parts.append(
            _Part(
                group,
                _may_learn(group, training.peft, is_head),
                _rate(training, before_head),
                first_steps[group.name],
                "train" if is_head else _batchnorm(training),
            )
        )
    for part in parts:
        if part.first_step is None:
            for parameter in part.group.parameters:
                parameter.requires_grad_(False)
    if not any(part.learns_ever for part in parts):
        raise InputError("frozen names every layer group", "Leave out the groups that are to learn")
    return tuple(parts)


def _first_steps(
    groups: tuple[LayerGroup, ...], frozen: set[str], shares: tuple[float, ...], steps: int
) -> dict[str, int | None]:
    """Group -> the step from which it learns, None for never. Gradual unfreezing goes from the head backwards."""
    free = [group.name for group in reversed(groups) if group.name not in frozen]
    if len(shares) >= len(free) > 0 and shares:
        raise InputError(
            f"unfreeze has {len(shares)} shares, and there are {len(free) - 1} layer groups to free",
            "Give as many shares as groups at most",
        )
    first: dict[str, int | None] = dict.fromkeys((group.name for group in groups), None)
    for place, name in enumerate(free):
        first[name] = 0 if place == 0 or not shares else int(shares[min(place, len(shares)) - 1] * steps)
    return first


def _may_learn(group: LayerGroup, peft: str, is_head: bool) -> tuple[nn.Parameter, ...]:
    if peft == "none" or is_head:
        return group.parameters
    return tuple(parameter for parameter in group.parameters if parameter.requires_grad)


def _rate(training: Training, before_head: int) -> float:
    """Share of the head's rate, ``before_head`` groups before the head."""
    if before_head == 0:
        return 1.0
    return training.encoder_rate if training.discriminative is None else training.discriminative**before_head


def _batchnorm(training: Training) -> Literal["frozen", "train"]:
    return "frozen" if training.peft == "linear-probe" else training.batchnorm


def _schedule(training: Training, steps: int) -> Schedule:
    if training.schedule == "one-cycle":
        return OneCycle(steps)
    if training.schedule == "cosine":
        return HalfCosine(steps)
    return Plateau() if training.schedule == "plateau" else Constant()


def _optimiser(name: str, groups: list[dict[str, Any]]) -> Optimizer:
    """The optimiser of groups whose rates are set before every step."""
    if name == "sgd":
        return SGD(groups, lr=0.0, momentum=_MOMENTUM, nesterov=True)
    return {"adamw": AdamW, "adam": Adam}[name](groups, lr=0.0)
