"""Fine-tuning policies: rates, momenta, what learns when, what is held back, and that a resumed run is the same."""

from __future__ import annotations

import io
import math

import pytest
import torch
from tiny_networks import TinyNetwork
from torch import nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR
from XTLLib.errors import InputError
from XTLLib.networks.normalisation import batchnorms
from XTLLib.networks.peft import apply_peft
from XTLLib.training.policy import Policy, make_policy, require_policy
from XTLLib.training.schedules import Exponential, HalfCosine, OneCycle, Plateau
from XTLLib.transfer.training import WindowTraining

torch.set_num_threads(1)


def batch(step: int) -> torch.Tensor:
    return torch.randn(6, 1, 16, 16, generator=torch.Generator().manual_seed(step))


def train(network: nn.Module, policy: Policy, first: int, end: int, clip: float | None = 1.0) -> None:
    """Steps as the engine makes them."""
    for step in range(first, end):
        policy.before_step(step)
        network.train()
        policy.optimiser.zero_grad(set_to_none=True)
        loss, penalty = (network(batch(step)) - 1).square().mean(), policy.penalty()
        (loss if penalty is None else loss + penalty).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(policy.trained, clip)
        policy.optimiser.step()
        policy.after_step()


def policy_of(network: nn.Module, steps: int = 20, **training) -> Policy:
    return make_policy(network, WindowTraining(**{"learning_rate": 0.01, **training}), steps, seed=0)


def group_of(policy: Policy, parameter: nn.Parameter) -> dict:
    return next(g for g in policy.optimiser.param_groups if any(p is parameter for p in g["params"]))


def state_of(network: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert list(a) == list(b)
    for key in a:
        assert torch.equal(a[key], b[key]), key


# --- schedules against torch's own ------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 4, 5, 37, 400])
def test_one_cycle_is_torchs_for_rates_and_momenta(steps):
    weight = nn.Parameter(torch.zeros(1))
    for optimiser in (AdamW([weight], lr=0.1), SGD([weight], lr=0.1, momentum=0.9)):
        theirs, ours = OneCycleLR(optimiser, 0.3, total_steps=max(steps, 4) + 1), OneCycle(steps)
        for step in range(steps):
            group = optimiser.param_groups[0]
            assert ours.rate(0.3, step) == group["lr"]
            assert ours.momentum(step) == (group["betas"][0] if "betas" in group else group["momentum"])
            optimiser.step()
            theirs.step()


def test_one_cycle_has_the_corners_of_romero_2020():
    cycle = OneCycle(1000)
    rates = [cycle.rate(1e-3, step) for step in range(1001)]
    assert rates[0] == pytest.approx(1e-3 / 25) and rates[1000] == pytest.approx(1e-3 / 25 * 1e-4)
    assert max(rates) == pytest.approx(1e-3, rel=1e-5) and rates.index(max(rates)) in (299, 300)
    assert (cycle.momentum(0), cycle.momentum(1000)) == (pytest.approx(0.95), pytest.approx(0.95))
    assert min(cycle.momentum(step) for step in range(1000)) == pytest.approx(0.85, abs=1e-6)


def test_cosine_is_torchs():
    optimiser = SGD([nn.Parameter(torch.zeros(1))], lr=0.2)
    theirs, ours = CosineAnnealingLR(optimiser, 50), HalfCosine(50)
    for step in range(50):
        assert ours.rate(0.2, step) == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-9)
        optimiser.step()
        theirs.step()


def test_the_range_test_rises_by_one_factor():
    rates = [Exponential(7, 1e-6).rate(1.0, step) for step in range(7)]
    assert rates == pytest.approx([1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1])


def test_plateau_drops_to_a_tenth_when_the_loss_rises_and_ends_below_1e_6():
    plateau = Plateau()
    losses = [0.9, 0.5, 0.5005, 0.6, 0.55, 0.56, 0.7]  # 0.5005: less than a rise of 0.001
    expected = [1e-3, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-6]
    for loss, rate in zip(losses, expected):
        plateau.after_validation(loss)
        assert plateau.rate(1e-3, 5) == pytest.approx(rate)
        assert not plateau.is_finished(1e-3)
    plateau.after_validation(0.8)
    assert plateau.is_finished(1e-3)


# --- rates and momenta in the optimiser -------------------------------------------------------------


def test_the_default_is_adamw_and_one_cycle_with_two_rates():
    """The same weights, bit for bit, as torch's own parts put together."""
    theirs, ours, steps = TinyNetwork(), TinyNetwork(), 12
    policy = policy_of(ours, steps, encoder_rate=0.3, weight_decay=0.05)
    groups, peaks = [], []
    for part, peak in ((theirs.backbone, 0.01 * 0.3), (theirs.head, 0.01)):
        for decays in (True, False):
            members = [p for p in part.parameters() if (p.ndim > 1) == decays]
            groups.append({"params": members, "weight_decay": 0.05 if decays else 0.0})
            peaks.append(peak)
    optimiser = AdamW(groups)
    schedule = OneCycleLR(optimiser, peaks, total_steps=steps + 1)
    for step in range(steps):
        theirs.train()
        optimiser.zero_grad()
        (theirs(batch(step)) - 1).square().mean().backward()
        nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], 1.0)
        optimiser.step()
        schedule.step()
    train(ours, policy, 0, steps)
    assert_equal(ours.state_dict(), theirs.state_dict())


@pytest.mark.parametrize(
    ("training", "shares"),
    [
        ({"encoder_rate": 0.25}, {"stem": 0.25, "level1": 0.25, "level2": 0.25, "head": 1}),
        ({"discriminative": 0.5}, {"stem": 0.125, "level1": 0.25, "level2": 0.5, "head": 1}),
        ({"discriminative": 0.5, "layer_groups": "three"}, {"stem": 0.25, "level1": 0.25, "level2": 0.5, "head": 1}),
        ({"discriminative": 0.5, "frozen": ["level1"]}, {"stem": 0.125, "level2": 0.5, "head": 1}),
    ],
)
@pytest.mark.parametrize("schedule", ["one-cycle", "cosine", "constant"])
def test_groups_have_their_shares_of_the_rate_at_every_step(training, shares, schedule):
    network = TinyNetwork()
    policy = policy_of(network, 20, schedule=schedule, **training)
    features = network.backbone.features
    firsts = {"stem": features[0], "level1": features[3], "level2": features[6], "head": network.head}
    for step in range(20):
        policy.before_step(step)
        for name, share in shares.items():
            for parameter in firsts[name].parameters():
                assert group_of(policy, parameter)["lr"] == pytest.approx(share * policy.rate, rel=1e-12)
    assert len(policy.trained) == 2 + 4 * (len(shares) - 1)
    assert policy.rate == pytest.approx({"one-cycle": 0, "cosine": 0, "constant": 0.01}[schedule], abs=1e-3)


@pytest.mark.parametrize("optimiser", ["adamw", "adam"])
def test_momentum_cycling_reaches_the_betas_of_adam(optimiser):
    policy = policy_of(TinyNetwork(), 100, optimiser=optimiser)
    betas = []
    for step in range(100):
        policy.before_step(step)
        assert {group["betas"] for group in policy.optimiser.param_groups} == {
            policy.optimiser.param_groups[0]["betas"]
        }
        betas.append(policy.optimiser.param_groups[0]["betas"])
    assert betas[0] == (0.95, 0.999) and betas[99][0] == pytest.approx(0.95, abs=1e-3)
    lowest = min(betas)
    assert lowest[0] == pytest.approx(0.85, abs=1e-3) and 28 <= betas.index(lowest) <= 30


def test_momentum_cycling_reaches_sgd_and_other_schedules_leave_it():
    policy = policy_of(TinyNetwork(), 100, optimiser="sgd")
    assert policy.optimiser.param_groups[0]["momentum"] == 0.95
    policy.before_step(29)
    assert policy.optimiser.param_groups[0]["momentum"] == pytest.approx(0.85, abs=1e-3)
    assert policy.optimiser.param_groups[0]["nesterov"]
    policy = policy_of(TinyNetwork(), 100, schedule="cosine")
    policy.before_step(29)
    assert policy.optimiser.param_groups[0]["betas"] == (0.9, 0.999)


def test_weight_decay_spares_biases_and_normalisation():
    network = TinyNetwork()
    policy = policy_of(network, weight_decay=0.3)
    for name, parameter in network.named_parameters():
        decays = name.endswith("weight") and parameter.ndim > 1
        assert group_of(policy, parameter)["weight_decay"] == (0.3 if decays else 0.0), name


def test_the_plateau_sees_validations_and_says_when_it_is_over():
    policy = policy_of(TinyNetwork(), 20, schedule="plateau", learning_rate=1e-5, discriminative=1.0)
    for loss, rate in ((0.5, 1e-5), (0.6, 1e-6), (0.4, 1e-6), (0.5, 1e-7)):
        policy.after_validation(0.9, loss)
        policy.before_step(7)
        assert [group["lr"] for group in policy.optimiser.param_groups] == pytest.approx([rate] * 8)
        assert policy.finished == (rate < 1e-6)
    without_loss = policy_of(TinyNetwork(), 20, schedule="plateau", learning_rate=1e-5)
    for metric in (0.5, 0.6, 0.3):
        without_loss.after_validation(metric, None)
    without_loss.before_step(1)
    assert without_loss.rate == pytest.approx(1e-6)


# --- what learns when -------------------------------------------------------------------------------


def test_groups_are_freed_at_their_shares_of_the_budget():
    """Three groups before the head, shares 0.25 and 0.5 of 8 steps: level2 at step 2, level1 and stem at step 4."""
    network = TinyNetwork()
    policy = policy_of(network, 8, unfreeze=(0.25, 0.5), weight_decay=0.1)
    assert len(policy.trained) == len(list(network.parameters()))  # in the optimiser from the beginning
    features = network.backbone.features
    parts = {"stem": features[0:3], "level1": features[3:6], "level2": features[6:9], "head": network.head}
    frees = {"head": 0, "level2": 2, "level1": 4, "stem": 4}
    for step in range(8):
        before = {name: state_of(part) for name, part in parts.items()}
        train(network, policy, step, step + 1)
        for name, part in parts.items():
            learns = step >= frees[name]
            changed = {key for key, value in part.state_dict().items() if not torch.equal(value, before[name][key])}
            assert changed == (set(before[name]) if learns else set()), (step, name)


@pytest.mark.parametrize("shares", [(0.0,), (0.1, 0.2, 0.3)])
def test_the_last_share_frees_all_that_remain(shares):
    network = TinyNetwork()
    policy = policy_of(network, 10, unfreeze=shares)
    policy.before_step(math.ceil(10 * shares[-1]))
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_frozen_groups_never_learn_nor_does_their_batchnorm():
    network = TinyNetwork()
    before = state_of(network)
    policy = policy_of(network, 6, frozen=["stem", "level2"], unfreeze=[0.5])
    train(network, policy, 0, 6)
    for key, value in network.backbone.features.state_dict().items():
        assert torch.equal(value, before[f"backbone.features.{key}"]) == (key[0] not in "34"), key


@pytest.mark.parametrize("update", [{}, {"discriminative": 0.5}])
def test_an_encoder_of_rate_0_stays_as_it_came(update):
    network = TinyNetwork()
    before = state_of(network.backbone)
    training = WindowTraining(encoder_rate=0).model_copy(update=update)
    policy = make_policy(network, training, 5, seed=0)
    train(network, policy, 0, 5)
    assert_equal(before, network.backbone.state_dict())
    assert [id(p) for p in policy.trained] == [id(p) for p in network.head.parameters()]


def test_a_network_from_a_stage_that_froze_it_learns_again():
    network = TinyNetwork()
    policy_of(network, 5, frozen=["stem", "level1"])
    policy = policy_of(network, 5)
    network.train()
    assert all(norm.training for norm in batchnorms(network))
    assert len(policy.trained) == len(list(network.parameters()))
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_frozen_statistics_with_weights_that_learn():
    network = TinyNetwork()
    before = state_of(network)
    train(network, policy_of(network, 4, batchnorm="frozen"), 0, 4)
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]) == ("running" in key or "tracked" in key), key


def test_a_linear_probe_trains_the_head_alone():
    network = TinyNetwork()
    before = state_of(network.backbone)
    apply_peft(network, "linear-probe")
    train(network, policy_of(network, 4, peft="linear-probe"), 0, 4)
    assert_equal(before, network.backbone.state_dict())


def test_fine_tuning_of_few_parameters_takes_those_that_learn():
    network = TinyNetwork()
    report = apply_peft(network, "ssf")
    policy = policy_of(network, 4, peft="ssf")
    assert sum(parameter.numel() for parameter in policy.trained) == report.trainable
    kernel = network.backbone.features[0].parametrizations.weight.original
    before = kernel.clone()
    train(network, policy, 0, 4)
    assert torch.equal(kernel, before)


# --- L2-SP ------------------------------------------------------------------------------------------


def test_l2sp_is_half_the_squared_distance_from_where_the_encoder_started():
    network = TinyNetwork()
    policy = policy_of(network, l2sp=0.4, weight_decay=0.1, frozen=["level1"])
    assert policy.penalty().item() == 0
    parameter, frozen = network.backbone.features[0].weight, network.backbone.features[3].weight
    with torch.no_grad():
        parameter += 0.5
        frozen += 1  # is not asked for
        network.head.weight += 3
    penalty = policy.penalty()
    penalty.backward()
    assert penalty.item() == pytest.approx(0.4 / 2 * 36 * 0.25)  # 4 x 1 x 3 x 3 weights
    torch.testing.assert_close(parameter.grad, torch.full_like(parameter, 0.4 * 0.5))
    assert network.head.weight.grad is None
    assert (
        group_of(policy, parameter)["weight_decay"] == 0
        and group_of(policy, network.head.weight)["weight_decay"] == 0.1
    )
    assert policy_of(TinyNetwork()).penalty() is None


# --- resume -----------------------------------------------------------------------------------------

RECIPES = [
    {},
    {"optimiser": "sgd", "schedule": "cosine", "discriminative": 0.5},
    {"optimiser": "adam", "unfreeze": (0.25, 0.5), "layer_groups": "three", "weight_decay": 0.1},
    {"l2sp": 0.1, "unfreeze": (0.5,), "frozen": ("stem",)},
    {"schedule": "plateau"},
]


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("stop", [3, 6])
def test_a_resumed_training_ends_in_the_same_weights(recipe, stop):
    def validated(policy):
        policy.after_validation(0.5, 1.0)
        policy.after_validation(0.5, 2.0)

    whole = TinyNetwork()
    policy = policy_of(whole, 12, **recipe)
    train(whole, policy, 0, 2)
    validated(policy)
    train(whole, policy, 2, 12)

    first = TinyNetwork()
    policy = policy_of(first, 12, **recipe)
    train(first, policy, 0, 2)
    validated(policy)
    train(first, policy, 2, stop)
    file = io.BytesIO()
    torch.save({"model": first.state_dict(), "policy": policy.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)

    resumed = TinyNetwork(seed=1)  # other weights, so that those of the checkpoint have to come through
    policy = policy_of(resumed, 12, **recipe)
    resumed.load_state_dict(saved["model"])
    policy.load_state_dict(saved["policy"])
    train(resumed, policy, stop, 12)
    assert_equal(whole.state_dict(), resumed.state_dict())


# --- a rate that is to be found, and bad input ------------------------------------------------------


def test_a_rate_that_is_found_becomes_part_of_the_state():
    policy = policy_of(TinyNetwork(), 10, learning_rate="find", schedule="constant", encoder_rate=0.5)
    assert policy.wants_rate and not policy.finished
    policy.take_rate(0.02)
    assert not policy.wants_rate
    assert {group["lr"] for group in policy.optimiser.param_groups} == {0.02, 0.01}
    again = policy_of(TinyNetwork(), 10, learning_rate="find", schedule="constant", encoder_rate=0.5)
    again.load_state_dict(policy.state_dict())
    assert not again.wants_rate and again.rate == 0.02


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"frozen": ["levl2"]}, r"frozen: there is no layer group levl2; .* nearest is level2"),
        ({"unfreeze": (0.1, 0.2, 0.3, 0.4)}, r"unfreeze has 4 shares, and there are 3 layer groups to free"),
        ({"unfreeze": (0.1, 0.2), "layer_groups": "three", "frozen": ["early"]}, r"2 shares, and there are 1 layer"),
        ({"frozen": ["stem", "level1", "level2", "head"]}, r"frozen names every layer group"),
    ],
)
def test_bad_input(training, message):
    with pytest.raises(InputError, match=message):
        policy_of(TinyNetwork(), **training)


def test_a_chain_is_asked_before_anything_runs():
    training = WindowTraining(frozen=["late"], layer_groups="three", unfreeze=(0.1,), l2sp=0.1)
    require_policy(training, "squeezenet1_0")
    with pytest.raises(InputError, match=r"no layer group level4; .* nearest is level3"):
        require_policy(WindowTraining(frozen=["level4"]), "squeezenet1_0")
