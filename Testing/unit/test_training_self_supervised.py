"""Self-supervised stages: what is hidden and what counts, views, losses in closed form, and that they learn."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from toys import write_patterned_mammograms, write_patterned_volumes
from XTLLib.data.datalist import Datalist
from XTLLib.data.prepare import Preparation
from XTLLib.networks.backbones import build_backbone
from XTLLib.progress import Progress
from XTLLib.training.losses import contrastive_loss, many_classes_loss, reconstruction_loss
from XTLLib.training.masking import hidden_blocks, masked_example
from XTLLib.training.seeds import generator
from XTLLib.training.self_supervised import ContrastiveTask, MaskedTask
from XTLLib.training.slices import SliceImages
from XTLLib.training.stages import PreparedStage, prepare_stage
from XTLLib.training.statistics import refresh_statistics
from XTLLib.training.unlabelled_cases import cases_of_a_batch, unique_images
from XTLLib.training.window_images import WindowImages
from XTLLib.transfer.chain import Chain, chain_from_dict

IMAGES = ("mammograms", "slices", "volumes")
METHODS = ("masked", "contrastive")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tensors this small are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def lists(tmp_path_factory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("patterns")
    return SimpleNamespace(
        volumes=write_patterned_volumes(folder / "volumes"),
        mammograms=write_patterned_mammograms(folder / "mammograms", training=6, validation=4),
    )


def chain_of(lists, method: str, images: str, stage: dict | None = None, **training) -> Chain:
    data = lists.mammograms if images == "mammograms" else lists.volumes
    stages = [
        {"kind": "initialisation", "weights": "random"},
        {
            "kind": "intermediate",
            "task": "self-supervised",
            "datalist": str(data),
            "method": method,
            "images": images,
            "image_size": 32,
            "window": [16, 16, 16],
            "mask_size": 4,
            "training": {"steps": 30, "batch_size": 4, "learning_rate": 3e-3, "encoder_rate": 1, **training},
            **(stage or {}),
        },
        {
            "kind": "target",
            "task": "segmentation",
            "datalist": str(lists.volumes),
            "channels": ["FLAIR"],
            "window": [16, 16, 16],
        },
    ]
    return chain_from_dict({"name": "toy", "backbone": "squeezenet1_0", "stages": stages})


def prepared(lists, method: str, images: str, stage: dict | None = None, **training) -> PreparedStage:
    chain = chain_of(lists, method, images, stage, **training)
    datalist = Datalist.load(chain.intermediates[0].datalist)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = build_backbone(chain.backbone)
    return prepare_stage(
        chain, chain.intermediates[0], datalist, backbone, is_learned=False, seed=5, progress=Progress()
    )


def trained(stage: PreparedStage, folder: Path):
    from XTLLib.training.engine import Engine

    engine = Engine(
        stage.network,
        stage.task,
        stage.training,
        seed=5,
        folder=folder,
        key="key",
        device=torch.device("cpu"),
        progress=Progress(),
        title="test",
    )
    return engine.run(False)


# --- what is hidden -----------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 12), st.integers(8, 24), st.integers(8, 24)),
    st.integers(2, 8),
    st.floats(0.05, 0.95),
    st.integers(0, 1000),
)
def test_hidden_blocks_are_blocks_and_never_all_or_nothing(shape, size, share, seed):
    hidden = hidden_blocks(shape, size, share, np.random.default_rng(seed)).numpy()
    assert hidden.shape == shape and hidden.any() and not hidden.all()
    for axis, n in enumerate(shape):
        # Along an axis the image changes between hidden and shown at the borders of blocks only.
        changes = np.flatnonzero(np.diff(hidden, axis=axis).any(axis=tuple(a for a in range(3) if a != axis)))
        assert len({int(place) % min(size, n) for place in changes}) <= 1


def test_the_share_of_hidden_voxels_is_as_asked():
    rng = np.random.default_rng(0)
    shares = [hidden_blocks((32, 32, 32), 4, 0.3, rng).float().mean().item() for _ in range(20)]
    assert np.mean(shares) == pytest.approx(0.3, abs=0.02)


def test_a_masked_example_hides_all_channels_and_counts_tissue_only():
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 1, 16, 16)).astype(np.float32))
    images[:, :, :, :4] = 0  # background
    shown, targets = masked_example(images, 4, 0.5, generator(0))
    truth, counts = targets.chunk(2, dim=1)
    assert torch.equal(truth, images)
    hidden = (shown == 0).all(dim=1, keepdim=True)
    assert torch.equal(counts.bool(), hidden & (images != 0))
    assert torch.equal(shown[~hidden.expand_as(shown)], images[~hidden.expand_as(shown)])
    assert 0.2 < counts[:, :, :, 4:].mean() < 0.8


# --- losses -------------------------------------------------------------------------------------------


def test_the_reconstruction_loss_is_the_mean_square_over_what_is_hidden():
    truth, counts = torch.zeros(1, 1, 1, 2, 2), torch.tensor([[[[[1.0, 0], [0, 1]]]]])
    output = torch.tensor([[[[[3.0, 100], [100, 1]]]]])
    assert reconstruction_loss(output, torch.cat([truth, counts], dim=1)).item() == pytest.approx((9 + 1) / 2)


def test_the_contrastive_loss_has_its_closed_form():
    vectors, images = torch.tensor([[2.0, 0], [5, 0], [0, 1], [0, 3]]), torch.tensor([0, 0, 1, 1])
    # Each view: its partner at similarity 1, the two others at 0.
    expected = math.log(math.exp(1 / 0.5) + 2) - 1 / 0.5
    assert contrastive_loss(vectors, images, 0.5).item() == pytest.approx(expected, abs=1e-6)
    # Vectors that are all alike: one of three.
    assert contrastive_loss(torch.ones(4, 2), images, 0.5).item() == pytest.approx(math.log(3), abs=1e-6)
    # The order of the views is no matter.
    order = torch.tensor([3, 0, 2, 1])
    assert contrastive_loss(vectors[order], images[order], 0.5).item() == pytest.approx(expected, abs=1e-6)


def test_all_classes_weigh_the_same_in_the_balanced_loss():
    targets = torch.eye(3)[[0, 0, 0, 0, 1, 1, 2, 2]]
    loss = many_classes_loss([4, 2, 2], balanced=True)
    # Logits that say nothing: log 3 times the mean weight, 8/3 over the class's count; 4 + 2 + 2 of them.
    assert loss(torch.zeros(8, 3), targets).item() == pytest.approx(math.log(3), abs=1e-6)
    one_wrong = torch.zeros(8, 3)
    one_wrong[:4, 0] = -20.0  # the whole frequent class
    rare = torch.zeros(8, 3)
    rare[6:, 2] = -20.0  # the whole rare class
    assert loss(one_wrong, targets).item() == pytest.approx(loss(rare, targets).item(), rel=1e-5)
    plain = many_classes_loss([4, 2, 2], balanced=False)
    assert plain(one_wrong, targets).item() == pytest.approx(2 * plain(rare, targets).item(), rel=0.1)


# --- images -------------------------------------------------------------------------------------------


def slices_of(lists, **changes) -> SliceImages:
    stage = chain_of(lists, "masked", "slices", **changes).intermediates[0]
    preparation = Preparation(("FLAIR", "T1"), "FLAIR")
    return SliceImages(stage, preparation, Datalist.load(lists.volumes), 0, Progress())


def test_slices_are_grey_images_of_one_channel_on_the_foreground(lists):
    images = slices_of(lists, augmentation=False)
    drawn = images.draw(0, generator(1))
    assert drawn.shape == (4, 3, 1, 32, 32)
    assert torch.equal(drawn[:, 0], drawn[:, 1]) and torch.equal(drawn[:, 0], drawn[:, 2])
    assert ((drawn != 0).float().mean((1, 2, 3, 4)) > 0.3).all()  # 24 x 24 of 32 x 32 at most
    # The held-out ones: 4 slices of 2 channels of 2 patients.
    assert images.held_out().shape[0] == len(images.held_out_patients) == 16
    assert set(images.held_out_patients) == {"p4", "p5"}


def test_a_slice_is_a_plane_of_the_prepared_volume(lists):
    from XTLLib.data.load import load_case

    datalist = Datalist.load(lists.volumes)
    prepare = Preparation(("FLAIR", "T1"), "FLAIR")
    planes = []
    for entry in datalist.training:
        image = prepare(load_case(entry, datalist)).image.astype(np.float16).astype(np.float32)
        planes += [plane for channel in image for plane in channel]
    drawn = slices_of(lists, augmentation=False).draw(0, generator(1))[:, 0, 0].numpy()
    for square in drawn:
        rows, columns = np.flatnonzero(square.any(1)), np.flatnonzero(square.any(0))
        inside = square[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert any(_is_part_of(inside, plane) for plane in planes)


def _is_part_of(part: np.ndarray, whole: np.ndarray) -> bool:
    windows = np.lib.stride_tricks.sliding_window_view(whole, part.shape)
    return bool((windows == part).all(axis=(2, 3)).any())


def test_views_are_of_one_image_each_and_differ(lists):
    chain = chain_of(lists, "contrastive", "volumes")
    images = WindowImages(
        chain.intermediates[0], Preparation(("FLAIR", "T1"), "FLAIR"), Datalist.load(lists.volumes), 0, Progress()
    )
    views = images.views(0, generator(0))
    assert views.shape == (8, 2, 16, 16, 16)
    assert not torch.equal(views[0], views[1])
    assert torch.equal(images.held_out_views(generator(3)), images.held_out_views(generator(3)))
    assert images.held_out().shape == (8, 2, 16, 16, 16)


def test_all_cases_take_part_in_a_batch_before_one_does_again():
    chosen = cases_of_a_batch(3, 8, generator(0))
    assert sorted(np.bincount(chosen)) == [2, 3, 3]
    assert sorted(chosen[:3]) == sorted(chosen[3:6]) == [0, 1, 2]


def test_labels_are_not_looked_at_and_images_of_findings_are_read_once(lists, tmp_path):
    datalist = Datalist.load(lists.volumes)
    (tmp_path / "no mask.nii").write_text("nothing")
    labelled = replace(
        datalist,
        task="segmentation",
        training=tuple(replace(e, label=str(tmp_path / "no mask.nii")) for e in datalist.training),
        validation=tuple(replace(e, label=str(tmp_path / "no mask.nii")) for e in datalist.validation),
    )
    stage = chain_of(lists, "masked", "volumes").intermediates[0]
    preparation = Preparation(("FLAIR", "T1"), "FLAIR")
    first = WindowImages(stage, preparation, datalist, 0, Progress()).draw(0, generator(0))
    assert torch.equal(first, WindowImages(stage, preparation, labelled, 0, Progress()).draw(0, generator(0)))
    twice = [*datalist.training, replace(datalist.training[0], case="again")]
    assert unique_images(twice) == list(datalist.training)


@pytest.mark.parametrize("images", IMAGES)
@pytest.mark.parametrize("method", METHODS)
def test_a_batch_is_a_function_of_its_number(lists, method, images):
    stage = prepared(lists, method, images)
    first = stage.task.batch(3)
    stage.task.batch(0)
    assert all(torch.equal(a, b) for a, b in zip(first, stage.task.batch(3)))
    assert not torch.equal(first[0], stage.task.batch(4)[0])
    output = stage.network(first[0])
    assert torch.isfinite(stage.task.loss(output, first[1]))
    assert len(first[0]) == len(first[1]) == (8 if method == "contrastive" else 4)


# --- figures ------------------------------------------------------------------------------------------


class Fixed(nn.Module):
    """Gives out what it was made with, part after part."""

    def __init__(self, values: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self._values, self._place = values, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        part = self._values[self._place : self._place + len(x)]
        self._place = (self._place + len(x)) % len(self._values)
        return part


def test_explained_variance_is_1_for_the_truth_and_0_for_the_mean(lists):
    task = prepared(lists, "masked", "volumes").task
    assert isinstance(task, MaskedTask)
    truth, counts = task._held_out[1].chunk(2, dim=1)
    perfect = task.validate(Fixed(truth))
    assert perfect.metric == pytest.approx(1.0) and perfect.loss == pytest.approx(0.0)
    means = torch.empty_like(truth)
    for patient in (slice(0, 4), slice(4, 8)):  # 4 windows of each
        means[patient] = truth[patient][counts[patient] > 0].mean()
    assert task.validate(Fixed(means)).metric == pytest.approx(0.0, abs=1e-6)
    figure = task.figure(Fixed(truth))
    assert figure.value == pytest.approx(1.0) and figure.count == 2


def test_retrieval_counts_views_that_are_nearest_among_other_patients(lists):
    task = prepared(lists, "contrastive", "mammograms").task
    assert isinstance(task, ContrastiveTask)
    own = torch.eye(4).repeat_interleave(2, dim=0)
    assert task.validate(Fixed(own)).metric == 1.0
    assert task.validate(Fixed(own.roll(1, dims=0))).metric == 0.0
    half = own.clone()
    half[[0, 2]] = half[[2, 0]]  # the first views of the first two images are exchanged
    assert task.validate(Fixed(half)).metric == 0.5
    # Volumes: windows of the same patient do not compete.
    task = prepared(lists, "contrastive", "volumes").task
    patients = torch.eye(2).repeat_interleave(8, dim=0)
    assert task.validate(Fixed(patients)).metric == 1.0


@pytest.mark.parametrize(("images", "least"), [("slices", 0.4), ("volumes", 0.4), ("mammograms", 0.15)])
def test_hidden_parts_of_waves_are_learned(lists, tmp_path, images, least):
    stage = prepared(lists, "masked", images, validations=1)
    fit = trained(stage, tmp_path)
    assert fit.best_metric > least and fit.last_loss < 0.5 * fit.first_loss


def test_views_of_waves_are_recognised(lists, tmp_path):
    stage = prepared(lists, "contrastive", "slices", steps=60, batch_size=12, learning_rate=3e-4, validations=1)
    untrained = copy.deepcopy(stage.network)
    refresh_statistics(untrained, (stage.task.batch(number)[0] for number in range(8)))
    before = stage.task.validate(untrained.eval())
    fit = trained(stage, tmp_path)
    assert fit.last_loss < 0.8 * fit.first_loss
    assert fit.best_loss < before.loss - 0.2
    assert fit.best_metric >= 0.3  # a guess: 1 of 9, as 8 slices are of another patient
