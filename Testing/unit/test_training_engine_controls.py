"""What a chain file can ask of the training loop: each control against a closed form or a second way to compute it."""

from __future__ import annotations

import errno
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from toy_training import STEPS, ToyNetwork, ToyTask, stop_after, toy_engine
from XTLLib.errors import Cancelled, InputError, XTLError
from XTLLib.files import atomic_file, remove_drafts
from XTLLib.networks.normalisation import batchnorms
from XTLLib.training.distributed import Processes
from XTLLib.training.ema import MovingAverage
from XTLLib.training.mixup import mix
from XTLLib.training.order import BalancedPasses
from XTLLib.training.precision import Precision
from XTLLib.training.statistics import refresh_statistics
from XTLLib.training.task import Validation, require_validation
from XTLLib.transfer.training import WindowTraining

CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tensors this small are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class WithoutDropout(ToyNetwork):
    def __init__(self) -> None:
        torch.manual_seed(1)
        super().__init__()
        self.head = nn.Sequential(nn.Identity(), nn.Linear(4, 1))


def weights_of(engine) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in engine._network.state_dict().items()}


def logged(folder: Path) -> list[dict[str, str]]:
    header, *rows = [line.split("\t") for line in (folder / "log.tsv").read_text().splitlines()]
    return [dict(zip(header, row)) for row in rows]


# --- precision ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_a_cpu_trains_in_float32_only(name, tmp_path):
    with pytest.raises(InputError, match=f"the precision {name} on a CPU.*Set precision to auto or float32"):
        toy_engine(tmp_path, ToyTask(), precision=name)
    assert Precision("auto", CPU).name == Precision("float32", CPU).name == "float32"


def test_the_reason_for_it_still_holds():
    """torch's weight gradients of small bfloat16 3D convolutions on CPU are wrong by more than rounding."""

    def gradient(dtype: torch.dtype, channels: int, depth: int) -> torch.Tensor:
        rng = torch.Generator().manual_seed(0)
        shape = (1, channels, 2, 2, depth)
        x, g = (torch.randn(shape, generator=rng).to(dtype) for _ in range(2))
        weight = (torch.randn(channels, channels, 3, 3, 3, generator=rng) / 20).to(dtype).requires_grad_()
        nn.functional.conv3d(x, weight, padding=1).backward(g)
        return weight.grad.double()

    errors = []
    for channels in (16, 32):
        for depth in (1, 2):
            right = gradient(torch.float32, channels, depth)
            errors.append(float((gradient(torch.bfloat16, channels, depth) - right).norm() / right.norm()))
    if all(error < 0.1 for error in errors):
        flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
        if "avx512_bf16" not in flags:
            pytest.skip("this processor never had the wrong gradients")
        pytest.fail("torch has mended them: Precision may allow bfloat16 on CPU from this version on")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_a_gpu_learns_in_every_precision_and_resumes(name, tmp_path):
    fit = toy_engine(tmp_path / "whole", ToyTask(), device="cuda", precision=name).run(resume=False)
    assert fit.last_loss < 0.6 * fit.first_loss
    with pytest.raises(Cancelled):
        toy_engine(tmp_path / "parts", ToyTask(), stop_after(17), device="cuda", precision=name).run(resume=False)
    resumed = toy_engine(tmp_path / "parts", ToyTask(), device="cuda", precision=name).run(resume=True)
    assert resumed.last_loss == pytest.approx(fit.last_loss, rel=0.05)


# --- gradients ----------------------------------------------------------------------------------------


class HalvesTask(ToyTask):
    """Each batch of the toy task as two."""

    def batch(self, number):
        images, targets = super().batch(number // 2)
        half = slice(4 * (number % 2), 4 * (number % 2) + 4)
        return images[half], targets[half]


def test_accumulated_batches_are_one_large_batch(tmp_path):
    common = {"batchnorm": "frozen", "optimiser": "sgd", "weight_decay": 0.0}
    large = toy_engine(tmp_path / "large", ToyTask(), network=WithoutDropout(), **common)
    small = toy_engine(tmp_path / "small", HalvesTask(), network=WithoutDropout(), accumulate=2, **common)
    before = weights_of(large)
    fits = [engine.run(resume=False) for engine in (large, small)]
    for name, value in weights_of(large).items():
        assert torch.allclose(value, weights_of(small)[name], rtol=1e-4, atol=1e-6), name
    assert not torch.allclose(before["head.1.weight"], weights_of(large)["head.1.weight"], atol=1e-2)
    assert fits[0].first_loss == pytest.approx(fits[1].first_loss, rel=1e-5) and fits[1].steps == STEPS


@pytest.mark.parametrize("clip", [None, 1e-3])
def test_a_step_is_as_long_as_the_clipped_gradient_says(tmp_path, clip):
    rate, settings = 0.01, {"optimiser": "sgd", "schedule": "constant", "weight_decay": 0.0, "encoder_rate": 1.0}
    network, task = WithoutDropout(), ToyTask(steps=1)
    network.train()
    task.loss(network(task.batch(0)[0]), task.batch(0)[1]).backward()
    gradient = math.sqrt(sum(float(p.grad.square().sum()) for p in network.parameters()))
    network = WithoutDropout()
    before = [p.detach().clone() for p in network.parameters()]
    toy_engine(tmp_path, task, network=network, clip_norm=clip, learning_rate=rate, **settings).run(resume=False)
    went = math.sqrt(sum(float((p.detach() - b).square().sum()) for p, b in zip(network.parameters(), before)))
    # Nesterov momentum 0.9: its first step is 1.9 times the gradient.
    assert went == pytest.approx(rate * 1.9 * min(gradient, clip or math.inf), rel=1e-3)
    assert gradient > 1e-2


# --- moving average -----------------------------------------------------------------------------------


def test_the_moving_average_is_its_recurrence():
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 1.0)
    average, expected = MovingAverage(network, 0.5), 1.0
    for step, value in enumerate((3.0, -2.0, 7.0, 0.5, 4.0, 1.0, 9.0, 8.0, -5.0), 1):
        nn.init.constant_(network.weight, value)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert float(average.state_dict()["weight"]) == pytest.approx(expected, rel=1e-6)
    with average.in_place():
        assert network.weight.item() == pytest.approx(expected, rel=1e-6)
    assert network.weight.item() == -5.0


def test_the_average_is_validated_and_kept_with_statistics_of_its_own(tmp_path):
    task = ToyTask([0.1, 0.2, 0.3, 0.4])
    engine = toy_engine(tmp_path, task, ema=0.9)
    engine.run(resume=False)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    kept = weights_of(engine)
    assert torch.equal(task.seen[-1], state["average"]["head.1.weight"])
    for name, value in state["average"].items():
        assert torch.equal(kept[name], value) and not torch.equal(kept[name], state["model"][name])
    twin = ToyNetwork()
    twin.load_state_dict(kept)
    refresh_statistics(twin, (task.batch(STEPS + n)[0] for n in range(8)))
    for mine, theirs in zip(batchnorms(twin), batchnorms(engine._network)):
        assert torch.allclose(mine.running_mean, theirs.running_mean, atol=1e-5)
        assert torch.allclose(mine.running_var, theirs.running_var, rtol=1e-4)


# --- what is kept, and when to end --------------------------------------------------------------------


def test_early_stopping_ends_after_validations_without_gain(tmp_path):
    task = ToyTask([0.5, 0.8, 0.7, 0.8, 0.9, 0.9, 0.9, 0.9])
    fit = toy_engine(tmp_path, task, validations=8, early_stopping=2).run(resume=False)
    assert (fit.steps, fit.best_step, fit.best_metric) == (20, 20, 0.8)
    again = ToyTask([0.9] * 8)
    resumed = toy_engine(tmp_path, again, validations=8, early_stopping=2).run(resume=True)
    assert (resumed.steps, resumed.best_step, again.seen) == (20, 20, [])


@pytest.mark.parametrize(("keep", "step"), [("metric", 10), ("loss", 30), ("last", 40)])
def test_the_weights_that_are_kept(tmp_path, keep, step):
    task = ToyTask([(0.9, 0.5), (0.7, 0.4), (0.6, 0.3), (0.5, 0.35)])
    engine = toy_engine(tmp_path, task, keep=keep)
    fit = engine.run(resume=False)
    place = step // 10 - 1
    assert (fit.best_step, fit.best_metric, fit.best_loss) == (step, *task.figures[place])
    assert torch.equal(weights_of(engine)["head.1.weight"], task.seen[place])
    rows = {row["step"]: row["validation loss"] for row in logged(tmp_path)}
    assert rows == {"1": "", "10": "0.5", "20": "0.4", "30": "0.3", "40": "0.35"}


def test_a_figure_that_is_no_number_is_never_the_best(tmp_path):
    task = ToyTask([math.nan, 0.2, math.nan, 0.1])
    assert toy_engine(tmp_path, task).run(resume=False).best_step == 20


def test_a_chain_can_say_how_often_it_validates(tmp_path):
    task = ToyTask([0.5] * 10)
    toy_engine(tmp_path, task, validations=10).run(resume=False)
    assert len(task.seen) == 10


def test_a_plateau_ends_the_training(tmp_path):
    task = ToyTask([(0.5, 1.0 + n) for n in range(20)])
    fit = toy_engine(tmp_path, task, validations=20, schedule="plateau", learning_rate=5e-5).run(resume=False)
    # The loss rises from the second validation on: 5e-6 after it, 5e-7 after the third, which is below 1e-6.
    assert fit.steps == 6


def test_what_waits_for_validations_needs_patients_for_them():
    with pytest.raises(InputError, match="schedule plateau and early_stopping of a stage"):
        require_validation(ToyTask(), WindowTraining(schedule="plateau", early_stopping=3))
    require_validation(ToyTask([0.5]), WindowTraining(schedule="plateau", early_stopping=3))
    require_validation(ToyTask(), WindowTraining())


# --- resume -------------------------------------------------------------------------------------------


class SelfMadeFigures(ToyTask):
    """Validation figures that follow from the weights, so that they are the same in a resumed training."""

    @torch.no_grad()
    def validate(self, network):
        loss = float(self.loss(network(self.batch(999)[0]), self.batch(999)[1]))
        return Validation(round(1 - loss, 2), loss)


FEATURES = {
    "average": {"ema": 0.8, "keep": "loss"},
    "accumulation": {"accumulate": 3},
    "plateau": {"schedule": "plateau", "validations": 10},
    "early stopping": {"early_stopping": 2, "validations": 10},
    "unfreezing": {"unfreeze": (0.5,), "l2sp": 0.1},
    "momentum": {"optimiser": "sgd", "clip_norm": None, "keep": "last"},
}


@pytest.mark.parametrize("stop", [2, 21])
@pytest.mark.parametrize("feature", FEATURES)
def test_interrupted_and_resumed_is_the_same_with_every_feature(tmp_path, feature, stop):
    settings = FEATURES[feature]
    whole = toy_engine(tmp_path / "whole", SelfMadeFigures([1]), **settings)
    expected = whole.run(resume=False)
    for attempt in range(2):  # twice, so that a checkpoint of a resumed training counts as well
        with pytest.raises(Cancelled):
            task = SelfMadeFigures([1])
            toy_engine(tmp_path / "parts", task, stop_after(stop), **settings).run(resume=attempt > 0)
        if stop > 20:
            break
    resumed = toy_engine(tmp_path / "parts", SelfMadeFigures([1]), **settings)
    fit = resumed.run(resume=True)
    assert (fit.steps, fit.best_step, fit.last_loss) == (expected.steps, expected.best_step, expected.last_loss)
    for name, value in weights_of(whole).items():
        assert torch.equal(value, weights_of(resumed)[name]), name
    assert (tmp_path / "whole" / "log.tsv").read_text() == (tmp_path / "parts" / "log.tsv").read_text()


def test_drafts_of_a_killed_process_are_deleted(tmp_path):
    for name in (".77.xtl-part.checkpoint.pt", ".77.xtl-part.log.tsv", ".b.part.txt"):
        (tmp_path / name).write_text("half")
    (tmp_path / ".bundle.abc.xtl-part").mkdir()
    remove_drafts(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".b.part.txt"]


def test_a_full_disk_leaves_the_file_that_was_there(tmp_path):
    path = tmp_path / "weights.pt"
    path.write_text("good")
    message = r"weights\.pt cannot be written \(No space left.*Make room"
    with pytest.raises(XTLError, match=message), atomic_file(path) as draft:
        draft.write_text("hal")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["good"]
    with pytest.raises(PermissionError), atomic_file(path):
        raise PermissionError(errno.EACCES, "no")


# --- examples -----------------------------------------------------------------------------------------


def test_mixup_blends_images_and_targets_alike():
    targets = torch.eye(3)[torch.tensor([0, 1, 2, 0, 1, 2])]
    images = targets[:, :, None, None].expand(-1, -1, 2, 2)  # so that an image says what its target is
    shares = set()
    for number in range(20):
        mixed, soft = mix(images, targets, 0.4, np.random.default_rng(number))
        assert torch.equal(mixed, soft[:, :, None, None].expand_as(mixed))
        assert torch.allclose(soft.sum(1), torch.ones(6)) and bool((soft >= 0).all())
        shares |= {round(float(value), 6) for value in soft.flatten()}
        # Cross entropy on the blend is the blend of cross entropies.
        rng = np.random.default_rng(number)
        share, other = float(rng.beta(0.4, 0.4)), torch.from_numpy(rng.permutation(6))
        logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(number))
        both = [nn.functional.cross_entropy(logits, t) for t in (targets, targets[other])]
        blend = share * both[0] + (1 - share) * both[1]
        assert float(nn.functional.cross_entropy(logits, soft)) == pytest.approx(float(blend), rel=1e-5)
    assert len(shares) > 10


def test_classes_take_turns_and_each_is_seen_whole():
    labels = np.array([0] * 9 + [1] * 3)
    passes = BalancedPasses(labels, 4, seed=5)
    assert passes.steps_per_pass == 3
    drawn = [passes.examples(step) for step in range(9)]
    assert all(labels[chosen].sum() == 2 for chosen in drawn)
    in_order = np.concatenate(drawn)
    common, rare = in_order[labels[in_order] == 0], in_order[labels[in_order] == 1]
    assert sorted(common[:9]) == sorted(common[9:]) == list(range(9))
    assert all(sorted(rare[n : n + 3]) == [9, 10, 11] for n in range(0, 18, 3))
    assert np.array_equal(BalancedPasses(labels, 4, seed=5).examples(7), drawn[7])
    other = [BalancedPasses(labels, 4, seed=6).examples(step) for step in range(9)]
    assert not np.array_equal(np.concatenate(other), in_order)


@given(st.integers(1, 8), st.integers(0, 30))
def test_the_shares_of_processes_are_the_batch(size, more):
    batch = torch.arange(size + more)
    shares = [Processes(rank, size).share(batch) for rank in range(size)]
    assert torch.equal(torch.cat(shares), batch)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_batch_smaller_than_the_processes_is_refused():
    with pytest.raises(InputError, match="a batch of 2 for 3 processes"):
        Processes(0, 3).share(torch.zeros(2))


# --- TensorBoard --------------------------------------------------------------------------------------


def test_the_curves_are_there_for_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with pytest.raises(Cancelled):
        toy_engine(tmp_path, ToyTask([0.5, 0.6, 0.7, 0.8]), stop_after(24)).run(resume=False)
    task = ToyTask([0.5, 0.6, 0.7, 0.8])
    task.seen = [torch.zeros(1)] * 2
    toy_engine(tmp_path, task).run(resume=True)
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"loss", "learning_rate", "validation AUC", "validation loss"}
    for name in ("loss", "learning_rate", "validation AUC", "validation loss"):
        expected = [(int(row["step"]), float(row[name])) for row in logged(tmp_path) if row[name]]
        found = [(event.step, event.value) for event in events.Scalars(name)]
        assert [step for step, _ in found] == [step for step, _ in expected]
        assert [value for _, value in found] == pytest.approx([value for _, value in expected], rel=1e-6)
