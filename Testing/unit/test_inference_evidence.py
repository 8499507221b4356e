"""Evidence maps against networks whose evidence is known: by closed form, by corner, by place in the patient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from voxel_grids import rotation
from XTLLib.bundle.load import Bundle
from XTLLib.data.case import Case, Finding
from XTLLib.data.geometry import Grid
from XTLLib.data.patches import PatchSpec
from XTLLib.data.volume import Volume
from XTLLib.errors import InputError
from XTLLib.inference.classify import classify_case
from XTLLib.inference.evidence import CellMap, grad_cam, occlusion, place
from XTLLib.networks.backbones import Backbone
from XTLLib.networks.branches import Branches
from XTLLib.networks.classification import ClassificationNetwork
from XTLLib.networks.spec import NetworkSpec


class _Look(Backbone):
    """Each stage sees every second pixel of the one before, unchanged; ``halvings`` 0 sees all."""

    name = "look"

    def __init__(self, channels: int, halvings: int = 0) -> None:
        super().__init__()
        self.in_channels = channels
        self.stage_channels = (channels,)
        self.layers = nn.Sequential(*(self._layer(channels, 2) for _ in range(halvings)), self._layer(channels, 1))

    @staticmethod
    def _layer(channels: int, stride: int) -> nn.Conv3d:
        layer = nn.Conv3d(channels, channels, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False)
        nn.init.zeros_(layer.weight)
        with torch.no_grad():
            layer.weight[range(channels), range(channels), 0, 1, 1] = 1
        return layer

    def forward(self, x):
        return [self.layers(x)]


def network(backbone, weights) -> ClassificationNetwork:
    made = ClassificationNetwork(backbone).eval()
    with torch.no_grad():
        made.head.linear.weight[:] = torch.tensor([weights])
    return made


def test_the_map_of_a_linear_network_is_its_closed_form():
    """Of averages and a linear layer: logit = sum over cells of w . A / cells, so the map is that summand."""
    patches = torch.rand(3, 2, 2, 6, 5, generator=torch.Generator().manual_seed(0))
    weights = [1.5, -0.75]
    expected = (torch.tensor(weights)[None, :, None, None, None] * patches).sum(1) / (2 * 6 * 5)
    for maps, wanted in zip(grad_cam(network(_Look(2), weights), patches), expected):
        (cells,) = maps
        np.testing.assert_allclose(cells.values, wanted.relu().numpy(), atol=1e-7)
        assert cells.channels == (0, 1)
        assert cells.first.tolist() == [0, 0, 0] and cells.step.tolist() == [1, 1, 1]
    positive = network(_Look(2), [1.5, 0.75])
    total = [maps[0].values.sum() for maps in grad_cam(positive, patches)]
    np.testing.assert_allclose(total, positive(patches).detach()[:, 0], rtol=1e-5)


def test_late_fusion_has_a_map_for_each_branch():
    fused = network(Branches([_Look(1), _Look(2)], [(1,), (0, 2)]), [2.0, 1.0, -1.0])
    patches = torch.rand(1, 3, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    (maps,) = grad_cam(fused, patches)
    assert [cells.channels for cells in maps] == [(1,), (0, 2)]
    np.testing.assert_allclose(maps[0].values, 2 * patches[0, 1] / 16, rtol=1e-5)
    np.testing.assert_allclose(maps[1].values, ((patches[0, 0] - patches[0, 2]) / 16).relu(), atol=1e-7)


def test_enlarged_inputs_and_strides_are_counted_back_to_samples():
    """Cell n of three halvings looks at index 8 n of an input that shows each sample twice."""
    made = ClassificationNetwork(_Look(1, halvings=3), input_scale=2.0).eval()
    ((cells,),) = grad_cam(made, torch.rand(1, 1, 1, 32, 32))
    assert cells.step.tolist() == [1, 4, 4]
    np.testing.assert_allclose(cells.first, [0, -0.25, -0.25])  # the middle of the left one of the two


def _mean_of_corner(patches: np.ndarray) -> np.ndarray:
    return patches[:, 1, 0, :2, :2].mean(axis=(1, 2))


def test_only_boxes_over_the_corner_that_is_looked_at_count():
    patch = np.full((3, 1, 8, 8), 0.9, np.float32)
    first, second = occlusion(_mean_of_corner, patch, [(0, 2), (1,)], 0.5)
    assert not first.values.any()  # other channels may be hidden at no cost
    along = np.array([0.75, 0.75, 0.25, 0, 0, 0, 0, 0])  # mean over the two boxes that hold a cell, of the share hidden
    np.testing.assert_allclose(second.values[0], 0.4 * np.outer(along, along), atol=1e-6)
    assert second.channels == (1,) and second.step.tolist() == [1, 1, 1] and second.first.tolist() == [0, 0, 0]


def test_cells_of_several_samples_cover_the_patch():
    patch = np.random.default_rng(0).random((1, 8, 32, 30)).astype(np.float32)
    (cells,) = occlusion(lambda patches: patches.mean(axis=(1, 2, 3, 4)), patch, [(0,)], 0.5)
    assert cells.values.shape == (3, 5, 5)
    np.testing.assert_allclose(cells.step, [8 / 3, 6.4, 6])
    np.testing.assert_allclose(cells.first, [(8 / 3 - 1) / 2, 2.7, 2.5])


def grid_at(shape, spacing, seed, centre=(0.0, 0.0, 0.0)) -> Grid:
    """Turned by at most some 20 degrees."""
    q, _ = np.linalg.qr(np.eye(3) + 0.12 * (rotation(seed) - np.eye(3)))
    affine = np.eye(4)
    affine[:3, :3] = q * np.sign(np.diag(q)) @ np.diag([-1.0, -1.0, 1.0]) * spacing
    affine[:3, 3] = np.array(centre) - affine[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return Grid(shape, affine)


def test_a_map_is_placed_by_its_lattice_and_ends_with_it():
    lattice = grid_at((1, 4, 4), (2.0, 2.0, 3.0), 3)
    values = np.arange(16, dtype=np.float32).reshape(1, 4, 4) + 1
    cells = CellMap(values, np.zeros(3), np.ones(3), (0,))
    np.testing.assert_allclose(place([(cells, lattice)], lattice), values, rtol=1e-5)
    np.testing.assert_allclose(place([(cells, lattice)] * 2, lattice), 2 * values, rtol=1e-5)
    fine = grid_at((9, 60, 60), (0.5, 0.5, 0.5), 8)
    placed = place([(cells, lattice)], fine)
    volume = np.count_nonzero(placed) * fine.voxel_volume_mm3
    assert volume == pytest.approx(4 * 4 * lattice.voxel_volume_mm3, rel=0.06)
    far = grid_at((3, 5, 5), (1.0, 1.0, 1.0), 0, (200.0, 0.0, 0.0))
    assert not place([(cells, lattice)], far).any()


def test_a_slice_is_seen_on_thicker_slices_too():
    lattice = grid_at((1, 4, 4), (2.0, 2.0, 3.0), 3)
    cells = CellMap(np.ones((1, 4, 4), np.float32), np.zeros(3), np.ones(3), (0,))
    for offset in (-4.9, 0.0, 4.9):
        thick = grid_at((1, 20, 20), (1.0, 1.0, 10.0), 3, (0, 0, offset))
        assert place([(cells, lattice)], thick).any()


def _bundle(spec: NetworkSpec, patches: PatchSpec, *members) -> Bundle:
    return Bundle(
        Path("nowhere"), "m", "", "classification", spec, None, patches, 0.5, 0.0, "", {}, {},
        _network=members[0], _further=tuple(members[1:]),
    )  # fmt: skip


def _positions(grid: Grid) -> np.ndarray:
    return grid.index_to_ras(np.moveaxis(np.indices(grid.shape)[::-1], 0, -1))


def _case_with_spot(seed: int, spot: np.ndarray, finding: tuple[float, float, float]) -> Case:
    grids = {
        "T2W": grid_at((14, 64, 64), (0.8, 0.8, 2.5), seed),
        "ADC": grid_at((16, 40, 40), (1.5, 1.5, 2.5), seed + 1, (1.0, -1.0, 0.5)),
    }
    channels = {}
    for name, grid in grids.items():
        distance = np.linalg.norm(_positions(grid) - spot, axis=-1)
        noise = np.random.default_rng(seed).normal(0, 10, grid.shape)
        image = 200 + noise + 70 * np.exp(-((distance / 3) ** 2))  # seven SD above the rest at its middle
        channels[name] = Volume(image.astype(np.float32), grid, name)
    return Case("p", channels, "T2W", findings=(Finding("1", finding),))


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 10**6),
    st.tuples(st.floats(-5, 5), st.floats(-5, 5), st.floats(-2, 2)),
    st.tuples(*[st.floats(-5, 5)] * 2),
)
def test_both_maps_have_their_maximum_at_the_spot_on_oblique_grids(seed, finding, offset):
    """A network that counts brightness is shown to look at the bright spot, within a cell."""
    spot = np.add(finding, (*offset, 0.0))
    case = _case_with_spot(seed, spot, finding)
    sizes = {"T2W": (16.0, 16.0, 10.0), "ADC": (16.0, 16.0, 10.0)}
    patches = PatchSpec(("T2W", "ADC"), (3, 10, 10), sizes, "robust", "T2W")
    spec = NetworkSpec("classification", "resnet18", 2, "inflate", patch_shape=(3, 10, 10))
    counting = network(_Look(2), [0.5, 0.5])
    result = classify_case(case, _bundle(spec, patches, counting), device="cpu", evidence=("grad-cam", "occlusion"))
    assert set(result.evidence) == {1} and set(result.evidence[1]) == {"grad-cam", "occlusion"}
    for kind, volume in result.evidence[1].items():
        assert volume.grid is case.grid and volume.array.dtype == np.float32 and volume.name == kind
        top = volume.array >= volume.array.max() - 1e-6
        found = case.grid.index_to_ras(np.argwhere(top)[:, ::-1].mean(axis=0))
        cell = np.array((1.6, 1.6, 10 / 3)) * (1 if kind == "grad-cam" else 2)  # mm; of occlusion two samples wide
        assert np.linalg.norm((found - spot) / cell, ord=np.inf) < 1
        outside = np.linalg.norm(_positions(case.grid) - np.array(finding), axis=-1) > np.linalg.norm((8, 8, 5)) + 1
        assert not volume.array[outside].any()


def test_extents_of_different_size_put_the_same_spot_in_the_same_place():
    """Late fusion: 12 mm of one channel beside 30 mm of another; each branch is shown in its own millimetres."""
    finding, spot = (1.0, -2.0, 0.0), np.array((4.0, 0.5, 0.0))
    case = _case_with_spot(5, spot, finding)
    patches = PatchSpec(("T2W", "ADC"), (1, 24, 24), {"T2W": (12.0, 12.0, 2.5), "ADC": (30.0, 30.0, 2.5)}, "robust")
    spec = NetworkSpec(
        "classification", "resnet18", 2, "inflate", patch_shape=(1, 24, 24), fusion="late", groups=((0,), (1,))
    )
    for weights in ([1.0, 0.0], [0.0, 1.0], [1.0, 1.0]):
        late = network(Branches([_Look(1), _Look(1)], [(0,), (1,)]), weights)
        result = classify_case(case, _bundle(spec, patches, late), evidence=["grad-cam"], device="cpu")
        shown = result.evidence[1]["grad-cam"]
        peak = np.unravel_index(shown.array.argmax(), shown.array.shape)
        found = case.grid.index_to_ras(np.array(peak)[::-1])
        assert np.linalg.norm((found - spot)[:2]) < 2.0


def test_members_are_averaged_and_the_rest_is_refused():
    finding = (0.0, 0.0, 0.0)
    case = _case_with_spot(2, np.array((3.0, 1.0, 0.0)), finding)
    patches = PatchSpec(("T2W", "ADC"), (1, 8, 8), dict.fromkeys(("T2W", "ADC"), (16.0, 16.0, 2.5)), "robust")
    spec = NetworkSpec("classification", "resnet18", 2, "inflate", patch_shape=(1, 8, 8))
    one, other = network(_Look(2), [2.0, 0.0]), network(_Look(2), [0.0, 1.0])
    kinds = ("grad-cam", "occlusion")
    single = [classify_case(case, _bundle(spec, patches, net), evidence=kinds, device="cpu") for net in (one, other)]
    for bundles in (_bundle(spec, patches, one, other), [_bundle(spec, patches, net) for net in (one, other)]):
        both = classify_case(case, bundles, evidence=kinds, device="cpu")
        for kind in kinds:
            mean = (single[0].evidence[1][kind].array + single[1].evidence[1][kind].array) / 2
            np.testing.assert_allclose(both.evidence[1][kind].array, mean, atol=1e-6)
    with pytest.raises(InputError, match=r"the evidence 'shap'\. Give some of grad-cam, occlusion"):
        classify_case(case, _bundle(spec, patches, one), evidence=["shap"])
    assert classify_case(case, _bundle(spec, patches, one)).evidence == {}
