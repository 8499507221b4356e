"""The training loop on networks so small that every step is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from toy_training import STEPS, ToyTask, stop_after, toy_engine
from XTLLib.errors import Cancelled, InputError, XTLError
from XTLLib.progress import Progress
from XTLLib.training.checkpoint import Checkpoint
from XTLLib.training.statistics import refresh_statistics


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tensors this small are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_loss_falls_and_the_log_tells(tmp_path):
    fit = toy_engine(tmp_path, ToyTask()).run(resume=False)
    assert fit.last_loss < 0.5 * fit.first_loss and fit.steps == STEPS
    lines = (tmp_path / "log.tsv").read_text().splitlines()
    assert lines[0] == "step\tloss\tlearning_rate\tvalidation AUC\tvalidation loss"
    assert [line.split("\t")[0] for line in lines[1:]] == ["1", "10", "20", "30", "40"]


def test_the_best_weights_are_kept_and_the_later_of_equals(tmp_path):
    task = ToyTask([0.5, 0.8, 0.8, 0.6])
    subject = toy_engine(tmp_path, task)
    fit = subject.run(resume=False)
    assert (fit.best_metric, fit.best_step) == (0.8, 30)
    assert torch.equal(subject._network.head[1].weight, task.seen[2])
    assert not torch.equal(task.seen[2], task.seen[3])


@pytest.mark.parametrize("figures", [(), (0.5, 0.9, 0.7, 0.6)])
@pytest.mark.parametrize("stop", [3, 10, 25])
def test_interrupted_and_resumed_equals_uninterrupted(tmp_path, figures, stop):
    whole = toy_engine(tmp_path / "whole", ToyTask(figures))
    whole.run(resume=False)
    with pytest.raises(Cancelled):
        toy_engine(tmp_path / "parts", ToyTask(figures), stop_after(stop)).run(resume=False)
    torch.manual_seed(123)  # nothing may depend on the global random state
    resumed_task = ToyTask(figures)
    resumed_task.seen = [torch.zeros(1)] * sum(stop + 1 >= n for n in (10, 20, 30, 40))
    resumed = toy_engine(tmp_path / "parts", resumed_task)
    resumed.run(resume=True)
    for name, value in whole._network.state_dict().items():
        assert torch.equal(value, resumed._network.state_dict()[name]), name
    assert (tmp_path / "whole" / "log.tsv").read_text() == (tmp_path / "parts" / "log.tsv").read_text()


def test_the_checkpoint_is_plain_data_of_this_stage(tmp_path):
    with pytest.raises(Cancelled):
        toy_engine(tmp_path, ToyTask(), stop_after(4)).run(resume=False)
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert content["step"] == 5
    with pytest.raises(InputError, match="belongs to another stage"):
        toy_engine(tmp_path, ToyTask(), key="other").run(resume=True)
    (tmp_path / "checkpoint.pt").write_bytes(b"cut off")
    with pytest.raises(InputError, match=r"checkpoint\.pt cannot be read"):
        Checkpoint.load(tmp_path / "checkpoint.pt", "toy")


def test_a_loss_that_is_no_number_is_an_error_with_a_remedy(tmp_path):
    with pytest.raises(XTLError, match=r"no longer a number after 1 steps.*Lower learning_rate"):
        toy_engine(tmp_path, ToyTask(loss_scale=math.inf)).run(resume=False)


def test_training_leaves_the_global_random_state_alone(tmp_path):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    toy_engine(tmp_path, ToyTask([0.5] * 4)).run(resume=False)
    assert torch.equal(before, torch.get_rng_state())


def test_progress_goes_from_step_to_step_with_figures(tmp_path):
    events = []
    toy_engine(tmp_path, ToyTask([0.1, 0.9, 0.2, 0.3]), Progress(events.append)).run(resume=False)
    assert [event.fraction for event in events] == pytest.approx([(n + 1) / STEPS for n in range(STEPS)])
    assert events[-1].figures["validation AUC"] == 0.9 and "loss" in events[-1].figures


def test_an_encoder_with_rate_0_stays_as_it_came(tmp_path):
    subject = toy_engine(tmp_path, ToyTask(), encoder_rate=0)
    before = {name: p.clone() for name, p in subject._network.named_parameters()}
    subject.run(resume=False)
    same = {name for name, p in subject._network.named_parameters() if torch.equal(p, before[name])}
    assert same == {name for name in before if name.startswith("backbone")}


def test_refreshed_statistics_are_those_of_the_batches():
    norm = nn.BatchNorm2d(2)
    network = nn.Sequential(norm).eval()
    batches = [torch.randn(16, 2, 5, 5) * 3 + 4 for _ in range(4)]
    refresh_statistics(network, batches)
    means = torch.stack([batch.mean((0, 2, 3)) for batch in batches]).mean(0)
    variances = torch.stack([batch.var((0, 2, 3)) for batch in batches]).mean(0)
    assert torch.allclose(norm.running_mean, means, atol=1e-5) and torch.allclose(
        norm.running_var, variances, rtol=1e-4
    )
    assert norm.momentum == 0.1 and not network.training


def test_refreshing_spares_frozen_statistics():
    from XTLLib.networks.normalisation import set_batchnorm

    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    set_batchnorm(network, "frozen")
    refresh_statistics(network, [torch.randn(4, 1, 5, 5)])
    assert (network[1].running_mean == 0).all() and (network[1].running_var == 1).all()
