"""The ready-made recipes do what their papers say, on the backbones of the papers, in the engine itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_networks import TinyNetwork
from torch import Tensor, nn
from XTLLib.networks.build import build_network
from XTLLib.networks.normalisation import batchnorms
from XTLLib.networks.spec import NetworkSpec
from XTLLib.progress import Progress
from XTLLib.training.engine import Engine
from XTLLib.training.policy import make_policy
from XTLLib.training.task import Validation
from XTLLib.transfer.chain import load_chain
from XTLLib.transfer.training import PatchTraining

torch.set_num_threads(1)

STEPS = 10
# Romero et al. 2020: names of what is before and after the cut of the backbone, by their layer lists.
EARLY = {
    "densenet121": ("conv0", "norm0", "denseblock1", "transition1", "denseblock2"),
    "resnet50": ("conv1", "bn1", "layer1", "layer2"),
}


def network_of(backbone: str) -> nn.Module:
    torch.manual_seed(0)
    return build_network(NetworkSpec("mammogram-classification", backbone))


def parts_of(network: nn.Module, backbone: str) -> dict[str, list[nn.Module]]:
    layers = network.backbone.features if backbone == "densenet121" else network.backbone
    named = dict(layers.named_children())
    return {
        "early": [named[name] for name in EARLY[backbone]],
        "late": [module for name, module in named.items() if name not in EARLY[backbone]],
        "head": [network.head],
    }


class FilmTask:
    """Two images a batch; the validation's losses are given, and it keeps what it was shown."""

    metric, steps, can_validate = "validation AUC", STEPS, True

    def __init__(self, losses: list[float], channels: int = 3) -> None:
        self._channels = channels
        self.losses, self.validations = losses, len(losses)
        self.seen: list[dict[str, Tensor]] = []

    def batch(self, number):
        generator = torch.Generator().manual_seed(number)
        return torch.randn(2, self._channels, 32, 32, generator=generator), torch.tensor([[0.0], [1.0]])

    def loss(self, logits, targets):
        return nn.functional.binary_cross_entropy_with_logits(logits, targets)

    def validate(self, network):
        self.seen.append({key: value.clone() for key, value in network.state_dict().items()})
        # The metric rises throughout; the loss does not say the same.
        return Validation(0.1 * len(self.seen), self.losses[len(self.seen) - 1])


def engine(network, task, training, folder, progress=None) -> Engine:
    where = {"folder": folder, "key": "toy", "device": torch.device("cpu"), "title": "toy"}
    return Engine(network, task, training, seed=0, progress=progress or Progress(), **where)


@pytest.mark.parametrize("backbone", EARLY)
def test_romero_2020_rates_and_betas(backbone):
    """(a^2, a, 1) with a = 1/3 under one cycle up to 1e-3, Adam's first beta from 0.95 to 0.85 and back."""
    network = network_of(backbone)
    policy = make_policy(network, PatchTraining(preset="romero2020"), 1000, seed=0)
    assert type(policy.optimiser) is torch.optim.Adam
    factors = {"early": 1 / 9, "late": 1 / 3, "head": 1.0}
    group_of = {id(p): group for group in policy.optimiser.param_groups for p in group["params"]}
    # Corners of the cycle: 30 % up from 1e-3 / 25, 70 % down to 1e-3 / 25 * 1e-4.
    for step, rate, beta in ((0, 4e-5, 0.95), (300, 1e-3, 0.85), (1000, 4e-9, 0.95)):
        policy.before_step(step)
        for name, modules in parts_of(network, backbone).items():
            for parameter in (p for module in modules for p in module.parameters()):
                group = group_of[id(parameter)]
                assert group["lr"] == pytest.approx(factors[name] * rate, rel=1e-2)
                assert group["betas"] == (pytest.approx(beta, abs=1e-4), 0.999)
                assert group["weight_decay"] == 0
    assert len(group_of) == len(list(network.parameters()))


@pytest.mark.parametrize("backbone", EARLY)
def test_romero_2020_frees_groups_with_their_statistics_and_keeps_its_own_weights(backbone, tmp_path):
    """The late group learns from 10 % of the steps on, the early one from 20 %; not even statistics before that."""
    network, task = network_of(backbone), FilmTask([0.3, 0.8])
    incoming = {key: value.clone() for key, value in network.state_dict().items()}
    parts = parts_of(network, backbone)
    changed_at: dict[str, int] = {}
    statistics_at: dict[str, int] = {}
    before = {name: [v.clone() for m in modules for v in m.state_dict().values()] for name, modules in parts.items()}
    means = {
        name: [norm.running_mean.clone() for module in modules for norm in batchnorms(module)]
        for name, modules in parts.items()
    }
    steps = iter(range(STEPS))

    def look(_):
        step = next(steps)
        for name, modules in parts.items():
            now = [value for module in modules for value in module.state_dict().values()]
            if any(not torch.equal(a, b) for a, b in zip(now, before[name], strict=True)):
                changed_at.setdefault(name, step)
            now = [norm.running_mean for module in modules for norm in batchnorms(module)]
            if any(not torch.equal(a, b) for a, b in zip(now, means[name], strict=True)):
                statistics_at.setdefault(name, step)

    training = PatchTraining(preset="romero2020", mixup=None)
    fit = engine(network, task, training, tmp_path, Progress(look)).run(resume=False)
    assert changed_at == {"head": 0, "late": 1, "early": 2}
    assert statistics_at == {"late": 1, "early": 2}
    # What is evaluated and kept are this run's own weights, of the lowest validation loss.
    assert fit.best_loss == 0.3 and fit.best_step == STEPS // 2 and len(task.seen) == 2
    for key, value in network.state_dict().items():
        assert torch.equal(value, task.seen[0][key]), key
    first = next(key for key in incoming if key.startswith("backbone") and key.endswith("weight"))
    assert not torch.equal(incoming[first], task.seen[0][first])
    assert not torch.equal(task.seen[0][first], task.seen[1][first])


def test_regular_has_one_rate_that_falls_when_the_loss_rises(tmp_path):
    network, task = network_of("densenet121"), FilmTask([0.5, 0.4, 0.6, 0.7])
    rates = []
    subject = engine(network, task, PatchTraining(preset="regular"), tmp_path, Progress(lambda _: rates.append(now())))

    def now() -> set[float]:
        assert all(parameter.requires_grad for parameter in network.parameters())
        return {round(group["lr"], 12) for group in subject._policy.optimiser.param_groups}

    fit = subject.run(resume=False)
    # Validations after steps 2, 5, 8 and 10; the loss rises at the last two.
    assert rates == [{1e-3}] * 8 + [{1e-4}] * 2
    assert type(subject._policy.optimiser) is torch.optim.Adam and subject._policy.rate == 1e-4
    assert fit.best_loss == 0.4 and fit.best_step == 5
    for key, value in network.state_dict().items():
        assert torch.equal(value, task.seen[1][key]), key


def test_regular_ends_before_its_budget_below_1e_6(tmp_path):
    task = FilmTask([0.1, 0.2, 0.3, 0.4, 0.5], channels=1)
    training = PatchTraining(preset="regular", learning_rate=1e-4)
    fit = engine(TinyNetwork(), task, training, tmp_path).run(resume=False)
    assert fit.steps == 8 and len(task.seen) == 4  # 1e-5, 1e-6, 1e-7


@pytest.mark.parametrize(("name", "stages"), [("romero2020-prostate", 2), ("romero2020-ms", 1)])
def test_the_example_chains_use_the_recipe(name, stages):
    chain = load_chain(Path(__file__).resolve().parents[2] / "Resources" / "Chains" / f"{name}.yaml")
    assert [stage.training.preset for stage in chain.trained] == ["romero2020"] * stages
    for stage in chain.trained:
        assert stage.training.unfreeze == (0.1, 0.2) and stage.training.keep == "loss"
