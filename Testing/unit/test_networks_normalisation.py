"""BatchNorm policies: what stays, what is trained, and a recalibration that changes no output."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from XTLLib.errors import InputError
from XTLLib.networks.build import build_network
from XTLLib.networks.normalisation import batchnorms, is_folded, recalibrate_batchnorm, set_batchnorm
from XTLLib.networks.spec import NetworkSpec

torch.set_num_threads(1)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return build_network(NetworkSpec("segmentation", "mobilenet_v2", 2, "inflate"))


def statistics(module: nn.Module) -> list[torch.Tensor]:
    return [value.clone() for norm in batchnorms(module) for value in (norm.running_mean, norm.running_var)]


def one_step(network: nn.Module) -> None:
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    network(torch.randn(2, 2, 32, 32, 32)).square().mean().backward()
    optimiser.step()


def test_frozen_statistics_survive_training_while_weights_learn(network):
    set_batchnorm(network.backbone, "frozen")
    before, weights = statistics(network.backbone), [n.weight.clone() for n in batchnorms(network.backbone)]
    decoder = statistics(network.decoder)
    network.eval().train()
    assert not any(norm.training for norm in batchnorms(network.backbone))
    assert all(norm.training for norm in batchnorms(network.decoder))
    one_step(network)
    assert all(torch.equal(a, b) for a, b in zip(before, statistics(network.backbone)))
    assert not all(torch.equal(a, b) for a, b in zip(decoder, statistics(network.decoder)))
    learned = [not torch.equal(a, n.weight) for a, n in zip(weights, batchnorms(network.backbone))]
    assert sum(learned) > len(learned) / 2


def test_frozen_survives_a_copy_and_keeps_keys(network):
    keys = list(network.state_dict())
    set_batchnorm(network.backbone, "frozen")
    copied = copy.deepcopy(network).train()
    assert not any(norm.training for norm in batchnorms(copied.backbone))
    assert list(copied.state_dict()) == keys


def test_train_policy_undoes_frozen(network):
    network.train()
    set_batchnorm(network.backbone, "frozen")
    set_batchnorm(network.backbone, "train")
    assert all(norm.training for norm in batchnorms(network.backbone))
    before = statistics(network.backbone)
    one_step(network)
    assert not any(torch.equal(a, b) for a, b in zip(before, statistics(network.backbone)))


def test_unknown_policy(network):
    with pytest.raises(InputError, match=r"BatchNorm policy 'half'.*frozen or train"):
        set_batchnorm(network, "half")


def folded_network() -> nn.Sequential:
    """Convolutions whose BatchNorm only adds a bias, as in a de-quantised file."""
    torch.manual_seed(1)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 4, 3, bias=False), nn.BatchNorm2d(4)
    )
    for norm in batchnorms(network):
        nn.init.normal_(norm.bias)
    return network.train()


def test_folded_batchnorm_is_recognised(network):
    folded = folded_network()
    assert is_folded(folded)
    batchnorms(folded)[0].running_mean[0] = 0.1
    assert is_folded(folded)  # the second layer is
    batchnorms(folded)[1].running_var[0] = 0.9
    assert not is_folded(folded)
    assert not is_folded(nn.Conv2d(1, 1, 1))


def test_recalibration_keeps_the_output_and_takes_the_statistics_of_the_data():
    network = folded_network()
    batches = [5 + 3 * torch.randn(4, 3, 20, 20) for _ in range(3)]
    probe = 5 + 3 * torch.randn(2, 3, 20, 20)
    with torch.no_grad():
        before = copy.deepcopy(network).eval()(probe)
        recalibrate_batchnorm(network, batches)
        assert network.training
        after = copy.deepcopy(network).eval()(probe)
        torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)
        met = torch.cat([network[0](batch) for batch in batches]).transpose(0, 1).flatten(1)
        torch.testing.assert_close(network[1].running_mean, met.mean(1))
        torch.testing.assert_close(network[1].running_var, met.var(1, correction=0))
        # with batch statistics, as in training, the folded network gives something else; now it agrees
        everything = torch.cat(batches)
        torch.testing.assert_close(network(everything), network.eval()(everything), rtol=1e-3, atol=1e-3)


def test_recalibration_of_a_whole_network(network):
    network.eval()
    image = torch.randn(1, 2, 32, 32, 32)
    with torch.no_grad():
        before = network(image)
        recalibrate_batchnorm(network.backbone, [torch.randn(1, 2, 32, 32, 32)])
        assert not is_folded(network.backbone)
        torch.testing.assert_close(network(image), before, rtol=1e-3, atol=1e-4)


def test_recalibration_needs_data():
    with pytest.raises(InputError, match="at least one batch"):
        recalibrate_batchnorm(folded_network(), [])
