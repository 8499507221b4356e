"""What a training step is made of: order, windows, random changes, losses."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from XTLLib.data.geometry import Grid
from XTLLib.data.prepare import PreparedCase
from XTLLib.training import augment
from XTLLib.training.ahead import drawn_ahead, threads_beside
from XTLLib.training.augment import PlaneMotion, SpaceMotion, change_intensities
from XTLLib.training.losses import class_weight, classification_loss, segmentation_loss
from XTLLib.training.order import ShuffledPasses
from XTLLib.training.seeds import derive, generator, torch_seeded
from XTLLib.training.windows import WindowSource


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tensors this small are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def source(array: np.ndarray, mask: np.ndarray, spacing=(1.0, 1.0, 1.0)) -> WindowSource:
    grid = Grid(array.shape, np.diag([-spacing[0], -spacing[1], spacing[2], 1.0]))
    return WindowSource.of(PreparedCase(array[None].astype(np.float32), array != 0, grid, grid), mask)


def test_every_example_is_seen_once_a_pass_in_a_new_order():
    passes = ShuffledPasses(10, 5, seed=3)
    rounds = [np.concatenate([passes.examples(2 * n), passes.examples(2 * n + 1)]) for n in range(3)]
    assert passes.steps_per_pass == 2
    assert all(sorted(seen) == list(range(10)) for seen in rounds)
    assert not np.array_equal(rounds[0], rounds[1])
    # A step's examples do not depend on which steps were asked for before.
    assert np.array_equal(ShuffledPasses(10, 5, seed=3).examples(5), passes.examples(5))


def test_fewer_examples_than_a_batch_make_a_smaller_batch():
    passes = ShuffledPasses(3, 8, seed=0)
    assert passes.steps_per_pass == 1 and sorted(passes.examples(4)) == [0, 1, 2]


def test_seeds_differ_by_purpose_and_leave_the_global_state_alone():
    assert derive(0, "target", 1) != derive(0, "target", 2) != derive(1, "target", 2)
    before = torch.get_rng_state()
    with torch_seeded(5, "network"):
        first = torch.rand(3)
    with torch_seeded(5, "network"):
        assert torch.equal(first, torch.rand(3))
    assert torch.equal(before, torch.get_rng_state())


def test_a_small_lesion_is_drawn_as_often_as_a_large_one():
    array, mask = np.ones((20, 20, 20)), np.zeros((20, 20, 20), bool)
    mask[2:12, 2:12, 2:12] = True
    array[2:12, 2:12, 2:12] = 2
    mask[16, 16, 16] = True
    array[16, 16, 16] = 3
    case, rng = source(array, mask), generator(0)
    values = [case.draw(rng, (1, 1, 1), True, False)[0].item() for _ in range(400)]
    assert set(values) == {2.0, 3.0}
    assert values.count(3.0) == pytest.approx(200, abs=50)  # 5 SD of a fair coin
    elsewhere = [case.draw(rng, (1, 1, 1), False, False)[0].item() for _ in range(400)]
    assert elsewhere.count(3.0) < 5


def test_windows_stay_inside_and_show_the_image_unchanged():
    rng = np.random.default_rng(0)
    array, mask = rng.uniform(1, 2, (12, 14, 16)).astype(np.float16), np.zeros((12, 14, 16), bool)
    mask[0, 0, 0] = mask[11, 13, 15] = True
    case = source(array, mask)
    for _ in range(20):
        image, lesion = case.draw(rng, (8, 8, 8), True, False)
        assert image.shape == lesion.shape == (1, 8, 8, 8)
        assert lesion.sum() == 1 and image.dtype == torch.float32
        assert np.isin(image.numpy(), array.astype(np.float32)).all()


def test_a_case_smaller_than_the_window_gets_background_around_it():
    mask = np.zeros((3, 20, 20), bool)
    mask[1, 5, 5] = True
    case = source(np.full((3, 20, 20), 5.0), mask).at_least((8, 8, 8))
    assert case.shape == (8, 20, 20)
    image, lesion = case.draw(generator(1), (8, 8, 8), True, False)
    assert lesion.sum() == 1
    assert [bool(plane.any()) for plane in image[0]] == [False, False, True, True, True, False, False, False]
    assert case.lesions[0].tolist() == [[3, 5, 5]]


def test_a_moved_window_equals_known_rotations():
    rng = np.random.default_rng(0)
    array = rng.uniform(1, 2, (21, 21, 21)).astype(np.float16)
    case, centre = source(array, np.zeros(array.shape, bool)), np.array([10.0, 9.0, 11.0])
    box = array[6:15, 5:14, 7:16].astype(np.float32)
    same, _ = case.moved(centre, (9, 9, 9), np.eye(3))
    assert np.allclose(same[0].numpy(), box, atol=1e-4)
    quarter = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], float)  # (dk, dj, di) -> (dk, -di, dj)
    turned, _ = case.moved(centre, (9, 9, 9), quarter)
    assert np.allclose(turned[0].numpy(), np.rot90(box, -1, axes=(1, 2)), atol=1e-4)
    # The value at offset (0, 1, 0) of the window is the image at offset (0, 0, 1).
    assert turned[0, 4, 5, 4].item() == pytest.approx(float(array[10, 9, 12]), abs=1e-4)


def test_a_moved_window_between_voxels_and_beyond_the_border():
    ramp = np.broadcast_to(np.arange(1.0, 13.0)[:, None, None], (12, 12, 12))
    case = source(ramp, np.zeros(ramp.shape, bool))
    half, _ = case.moved(np.array([5.5, 6, 6]), (3, 3, 3), np.eye(3))
    assert np.allclose(half[0, :, 1, 1].numpy(), [5.5, 6.5, 7.5], atol=1e-3)
    stretched, _ = case.moved(np.array([6.0, 6, 6]), (3, 3, 3), np.diag([2.0, 1, 1]))
    assert np.allclose(stretched[0, :, 1, 1].numpy(), [5, 7, 9], atol=1e-3)
    outside, _ = case.moved(np.array([11.0, 6, 6]), (5, 3, 3), np.eye(3))
    assert np.allclose(outside[0, :, 1, 1].numpy(), [10, 11, 12, 0, 0], atol=1e-3)


def test_rotations_are_rotations_in_mm():
    spacing = (0.5, 0.5, 3.0)  # x, y, z
    matrix = SpaceMotion(degrees=20, scale=(1.0, 1.0)).draw(generator(4), spacing)
    in_mm = np.diag(spacing[::-1]) @ matrix @ np.diag(1 / np.array(spacing[::-1]))
    assert np.allclose(in_mm @ in_mm.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(in_mm) == pytest.approx(1.0)
    doubled = SpaceMotion(degrees=0, scale=(2.0, 2.0)).draw(generator(4), spacing)
    assert np.allclose(doubled, np.eye(3) / 2)


def test_plane_motions_flip_and_shift_as_they_say():
    images = torch.arange(2 * 3 * 4 * 4, dtype=torch.float32).reshape(2, 3, 1, 4, 4)
    still = PlaneMotion(0, (1.0, 1.0), 0.0)
    assert torch.allclose(still.apply(images, generator(0)), images, atol=1e-5)
    mirrored = PlaneMotion(0, (1.0, 1.0), 0.0, flips_columns=True)
    pairs = [pair for seed in range(8) for pair in zip(images, mirrored.apply(images, generator(seed)))]
    same = [torch.allclose(moved, image, atol=1e-4) for image, moved in pairs]
    flipped = [torch.allclose(moved, image.flip(-1), atol=1e-4) for image, moved in pairs]
    assert all(a != b for a, b in zip(same, flipped)) and any(same) and any(flipped)


def test_intensity_changes_spare_background_and_missing_channels():
    images = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 2, 8, 8)).astype(np.float32))
    images[:, :, :2] = 0
    images[1, 1] = 0.5
    changed = change_intensities(images.clone(), generator(2))
    assert (changed[:, :, :2][[0, 2]] == 0).all()
    assert (changed[1, 1] == 0.5).all()
    assert not torch.equal(changed[0, :, 2:], images[0, :, 2:])
    assert torch.equal(changed, change_intensities(images.clone(), generator(2)))
    assert torch.isfinite(changed).all()


def test_a_change_of_contrast_has_its_closed_form(monkeypatch):
    for name, value in {"_INTENSITY_SHARE": 1.0, "_LOG_GAMMA": (math.log(2),) * 2, "_NOISE": (0.0, 0.0)}.items():
        monkeypatch.setattr(augment, name, value)
    monkeypatch.setattr(augment, "_SCALE", (3.0, 3.0))
    monkeypatch.setattr(augment, "_SHIFT", (0.5, 0.5))
    images = torch.tensor([-1.0, 0.0, 1.0, 3.0]).reshape(1, 1, 4)
    # Squared between the smallest and the largest value, then 3 x + 0.5 * unit; the background stays.
    expected = [3 * (-1 + 4 * share**2) + 1 for share in (0, 0.5, 1)]
    changed = change_intensities(images, generator(0), unit=2.0)[0, 0].tolist()
    assert changed == pytest.approx([expected[0], 0.0, expected[1], expected[2]], abs=1e-5)
    assert images[0, 0].tolist() == [-1, 0, 1, 3]  # a new image, as others may want the first one again


def test_noise_has_the_sd_that_is_drawn_and_differs_between_channels(monkeypatch):
    for name, value in {"_LOG_GAMMA": (0.0, 0.0), "_SCALE": (1.0, 1.0), "_SHIFT": (0.0, 0.0)}.items():
        monkeypatch.setattr(augment, name, value)
    monkeypatch.setattr(augment, "_INTENSITY_SHARE", 1.0)
    monkeypatch.setattr(augment, "_NOISE", (0.1, 0.1))
    images = torch.ones(1, 2, 30, 30, 30)
    images[:, :, 0] = 2
    noise = (change_intensities(images, generator(0), unit=3.0) - images)[0].flatten(1).numpy()
    assert noise.mean(axis=1) == pytest.approx([0, 0], abs=0.01)
    assert noise.std(axis=1) == pytest.approx([0.3, 0.3], rel=0.02)
    assert abs(np.corrcoef(noise)[0, 1]) < 0.03


@pytest.mark.parametrize("threads", [1, 3])
def test_batches_drawn_ahead_come_in_order_whatever_the_number_of_threads(threads):
    def draw(number: int) -> tuple[int, int]:
        time.sleep(0.01 * (number % 3))  # a later one is ready first
        return number, torch.get_num_threads()

    with drawn_ahead(draw, range(4, 11), threads) as batches:
        drawn = list(batches)
    assert [number for number, _ in drawn] == list(range(4, 11))
    assert {count for _, count in drawn} == {1}


def test_threads_that_draw_leave_the_others_their_cores():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with drawn_ahead(lambda number: number, range(3), 3) as batches:
            assert list(batches) == [0, 1, 2] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert threads_beside(torch.device("cpu")) == 1 <= threads_beside(torch.device("cuda"))


def test_losses_have_their_closed_forms():
    logits, half = torch.zeros(2, 1, 4, 4, 4), torch.zeros(2, 1, 4, 4, 4)
    half[:, :, :2] = 1
    # p = 1/2 everywhere, half of it lesion: Dice = 2 (n/4) / (n/2 + n/2) = 1/2, cross entropy = log 2.
    assert segmentation_loss(logits, half).item() == pytest.approx(0.5 + math.log(2), abs=1e-4)
    # A window without lesion in the batch takes part in the batch's Dice only.
    half[1] = 0
    assert segmentation_loss(logits, half).item() == pytest.approx(1 - 1 / 3 + math.log(2), abs=1e-4)

    assert class_weight(10, 30) == 3.0 and class_weight(1, 1000) == 10.0
    loss = classification_loss(1, 3)(torch.zeros(4, 1), torch.tensor([[1.0], [0], [0], [0]]))
    assert loss.item() == pytest.approx((3 + 3) / 4 * math.log(2), abs=1e-6)


def test_the_segmentation_loss_is_monai_s():
    from monai.losses import DiceCELoss

    torch.manual_seed(0)
    logits, targets = torch.randn(3, 1, 6, 7, 8), (torch.rand(3, 1, 6, 7, 8) > 0.8).float()
    targets[1] = 0
    expected = DiceCELoss(sigmoid=True, batch=True)(logits, targets)
    assert segmentation_loss(logits, targets).item() == pytest.approx(expected.item(), abs=1e-5)
