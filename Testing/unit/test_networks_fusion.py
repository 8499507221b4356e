"""Late fusion of channels, and the zone as an additional input."""

from __future__ import annotations

import json

import pytest
import torch
from XTLLib.data.zones import ZONE_INDEX, ZONES
from XTLLib.errors import InputError
from XTLLib.networks.backbones import build_backbone
from XTLLib.networks.branches import Branches
from XTLLib.networks.build import build_network, convert_network
from XTLLib.networks.classification import ClassificationNetwork
from XTLLib.networks.folding import folded
from XTLLib.networks.groups import layer_groups
from XTLLib.networks.normalisation import FrozenBatchNorm3d, batchnorms, set_batchnorm
from XTLLib.networks.peft import apply_peft, merge_peft
from XTLLib.networks.peft_adapters import adapter_rank
from XTLLib.networks.spec import NetworkSpec
from XTLLib.training.policy import make_policy
from XTLLib.transfer.training import PatchTraining

torch.set_num_threads(1)

GROUPS = ((0, 2), (1,))


def spec_of(backbone: str = "resnet18", **changes) -> NetworkSpec:
    settings = {
        "in_channels": 3,
        "patch_shape": (1, 64, 64),
        "fusion": "late",
        "groups": GROUPS,
        "conversion": "inflate",
    }
    return NetworkSpec("classification", backbone, **{**settings, **changes})


@pytest.fixture(scope="module")
def source():
    torch.manual_seed(0)
    backbone = build_backbone("resnet18").eval()
    for norm in batchnorms(backbone):  # statistics that show whether they travel
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.5, 2)
    return backbone


def test_late_fusion_is_separate_networks_side_by_side(source):
    network, report = convert_network(spec_of(), source)
    network.eval()
    x = torch.randn(2, 3, 1, 64, 64)
    separate = []
    for group in GROUPS:
        alone, _ = convert_network(spec_of(fusion="early", groups=(), in_channels=len(group)), source)
        separate.append(alone.eval().features(x[:, list(group)]))
    with torch.no_grad():
        assert torch.allclose(network.features(x), torch.cat(separate, dim=1), rtol=1e-4, atol=1e-5)
    assert network.head.linear.in_features == 2 * 512
    parts = sum(p.numel() for branch in network.backbone.branches for p in branch.parameters())
    total = sum(p.numel() for p in network.parameters())
    assert (report.parameters, report.in_channels) == (total, 3)
    assert report.carried_share == pytest.approx(parts / total) and 0 < report.max_relative_error < 1e-3


def test_branches_have_weights_of_their_own(source):
    network, _ = convert_network(spec_of(), source)
    first, second = network.backbone.branches
    assert torch.equal(first.layer4[1].conv2.weight, second.layer4[1].conv2.weight)  # from one source ...
    before = {key: value.clone() for key, value in source.state_dict().items()}
    network.train()
    x = torch.randn(2, 3, 1, 64, 64)
    x[:, 1] = 0
    network(x).square().sum().backward()
    with torch.no_grad():
        first.layer4[1].conv2.weight -= first.layer4[1].conv2.weight.grad
    assert not torch.equal(first.layer4[1].conv2.weight, second.layer4[1].conv2.weight)  # ... but not shared
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in before.items())


def test_a_branch_sees_its_own_channels_only(source):
    network, _ = convert_network(spec_of(), source)
    network.eval()
    x = torch.randn(1, 3, 1, 64, 64)
    other = x.clone()
    other[:, 1] += 1
    with torch.no_grad():
        a, b = network.features(x)[0], network.features(other)[0]
    assert torch.equal(a[:512], b[:512]) and not torch.equal(a[512:], b[512:])


def test_a_volumetric_stage_before_hands_its_backbone_to_every_branch(source):
    earlier, _ = convert_network(spec_of(fusion="early", groups=()), source)
    network, _ = convert_network(spec_of(), earlier.backbone)
    assert [branch.in_channels for branch in network.backbone.branches] == [2, 1]
    assert torch.equal(network.backbone.branches[1].layer1[0].conv1.weight, earlier.backbone.layer1[0].conv1.weight)


@pytest.mark.parametrize("grouping", ["levels", "three"])
def test_layer_groups_hold_all_branches_and_each_parameter_once(grouping):
    network = build_network(spec_of(zones=True))
    groups = layer_groups(network, grouping)
    single = layer_groups(build_network(spec_of(fusion="early", groups=())), grouping)
    assert [group.name for group in groups] == [group.name for group in single]
    ids = [id(p) for group in groups for p in group.parameters]
    assert sorted(ids) == sorted(id(p) for p in network.parameters())
    stem = {id(branch.conv1.weight) for branch in network.backbone.branches}
    assert stem <= {id(p) for p in groups[0].parameters}
    parts = network.parameter_groups()
    assert len(parts["encoder"]) + len(parts["head"]) == len(ids)


def test_policies_reach_every_branch():
    network = build_network(spec_of("squeezenet1_0"))
    training = PatchTraining(discriminative=0.5, frozen=("stem",), l2sp=0.1, learning_rate=1e-3)
    policy = make_policy(network, training, 10)
    for branch in network.backbone.branches:
        assert not branch.features[0].weight.requires_grad and branch.features[3].squeeze.weight.requires_grad
    assert policy.penalty().item() == 0
    with torch.no_grad():
        network.backbone.branches[1].features[3].squeeze.bias += 1
    assert policy.penalty().item() > 0
    resnet = build_network(spec_of())
    set_batchnorm(resnet.backbone, "frozen")
    assert all(isinstance(norm, FrozenBatchNorm3d) for norm in batchnorms(resnet)) and len(batchnorms(resnet)) == 40


@pytest.mark.parametrize("kind", ["ssf", "lora", "adapters", "bias", "linear-probe"])
def test_parameter_efficient_fine_tuning_begins_as_the_same_function(kind):
    torch.manual_seed(0)
    network = build_network(spec_of("squeezenet1_0", patch_shape=(1, 32, 32), input_scale=1.0)).eval()
    x = torch.randn(1, 3, 1, 32, 32)
    with torch.no_grad():
        before = network(x)
        report = apply_peft(network, kind)
        assert report.trainable < report.total
        assert torch.allclose(network(x), before, atol=1e-6)
        merge_peft(network)
        assert torch.allclose(network(x), before, atol=1e-5)
    if kind == "adapters":
        assert adapter_rank(network.backbone) == 4
        again = build_network(spec_of("squeezenet1_0", patch_shape=(1, 32, 32), adapters=4))
        again.load_state_dict(network.state_dict())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_folding_and_export_keep_the_logits(source):
    network, _ = convert_network(spec_of(zones=True), source)
    network.eval()
    plain = folded(network, 3)
    assert not batchnorms(plain)
    x, other = torch.randn(2, 3, 1, 64, 64), torch.randn(3, 3, 1, 64, 64)
    with torch.no_grad():
        expected = network(other)
        assert torch.allclose(plain(other), expected, rtol=1e-3, atol=1e-4)
        traced = torch.jit.trace(network, x, check_trace=False)
        assert torch.allclose(traced(other), expected, rtol=1e-4, atol=1e-5)
        sizes = ({0: torch.export.Dim("batch", min=1, max=64)},)
        exported = torch.export.export(network, (x,), dynamic_shapes=sizes).module()
        assert torch.allclose(exported(other), expected, rtol=1e-4, atol=1e-5)


def test_a_description_comes_back_and_builds_the_same_keys():
    spec = spec_of("squeezenet1_0", zones=True)
    again = NetworkSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec and again.groups == GROUPS
    network = build_network(again)
    assert isinstance(network.backbone, Branches) and network.head.linear.in_features == 2 * 512 + 4
    old = {key: value for key, value in spec.to_dict().items() if key not in ("fusion", "groups", "zones")}
    assert NetworkSpec.from_dict(old).fusion == "early"


@pytest.mark.parametrize(
    "changes",
    [
        {"groups": ()},
        {"groups": ((0, 1, 2),)},
        {"groups": ((0, 1), (1, 2))},
        {"groups": ((0,), (1,))},
        {"groups": ((0, 1, 2), ())},
        {"groups": ((0, 1), (3,))},
        {"groups": ((0, 1), (-1,))},
        {"fusion": "early"},
        {"fusion": "middle"},
        {"zones": 1},
        {"in_channels": 40, "groups": tuple((n,) for n in range(40))},
    ],
)
def test_groups_that_do_not_fit_are_refused(changes):
    with pytest.raises(InputError):
        spec_of(**changes)


def test_other_kinds_have_neither():
    for changes in ({"fusion": "late", "groups": ((0,), (1,))}, {"zones": True}):
        with pytest.raises(InputError, match="fusion or zones"):
            NetworkSpec("segmentation", "resnet18", in_channels=2, conversion="inflate", **changes)


# --- zones --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def zoned() -> ClassificationNetwork:
    torch.manual_seed(1)
    return build_network(
        NetworkSpec("classification", "squeezenet1_0", 2, "inflate", patch_shape=(1, 32, 32), zones=True, dropout=0.5)
    ).eval()


@torch.no_grad()
def test_a_zone_adds_its_own_weight_to_the_logit(zoned):
    x = torch.randn(1, 2, 1, 32, 32).expand(5, -1, -1, -1, -1)
    added = (zoned(x, torch.arange(5)) - zoned(x))[:, 0]
    assert ZONE_INDEX == {"": 0, "PZ": 1, "TZ": 2, "AS": 3, "SV": 4} and len(ZONES) == 4
    weights = zoned.head.linear.weight[0, -4:]
    assert added[0] == 0  # an unknown zone is as none
    assert torch.allclose(added[1:] / weights, (added[1] / weights[0]).expand(4), rtol=1e-2)
    assert added[1] / weights[0] > 0


@torch.no_grad()
def test_without_zones_the_features_alone_decide(zoned):
    x = torch.randn(3, 2, 1, 32, 32)
    expected = zoned.features(x) @ zoned.head.linear.weight[:, :-4].T + zoned.head.linear.bias
    assert torch.allclose(zoned(x), expected, atol=1e-6)


@torch.no_grad()
def test_zones_may_come_as_a_channel(zoned):
    x, zones = torch.randn(4, 2, 1, 32, 32), torch.tensor([0, 3, 4, 1])
    plane = zones.float().reshape(4, 1, 1, 1, 1).expand(-1, -1, 1, 32, 32)
    assert torch.equal(zoned(torch.cat([x, plane], dim=1)), zoned(x, zones))


def test_dropout_leaves_the_zone_alone(zoned):
    x = torch.zeros(200, 2, 1, 32, 32)
    network = build_network(
        NetworkSpec("classification", "squeezenet1_0", 2, "inflate", patch_shape=(1, 32, 32), zones=True, dropout=0.9)
    ).train()
    seen = []
    network.head.linear.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network(x, torch.full((200,), 2))
    assert (seen[0][:, -3] > 0).all() and not seen[0][:, -4].any() and not seen[0][:, -2:].any()


def test_a_network_that_knows_no_zones_does_not_look_at_them():
    network = build_network(
        NetworkSpec("classification", "squeezenet1_0", 2, "inflate", patch_shape=(1, 32, 32))
    ).eval()
    x = torch.randn(1, 2, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(x, torch.tensor([3])), network(x))
