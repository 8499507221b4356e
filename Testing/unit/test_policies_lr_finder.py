"""The learning-rate range test: its choice on known curves, and that it leaves everything as it was."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from tiny_networks import TinyNetwork
from XTLLib.errors import Cancelled, XTLError
from XTLLib.progress import Progress
from XTLLib.training.engine import Engine
from XTLLib.training.lr_finder import RangeTest, find_learning_rate
from XTLLib.training.task import Validation
from XTLLib.transfer.training import WindowTraining

torch.set_num_threads(1)

RATES = np.logspace(-6, 0, 100)


def batch(number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images with or without a bright row."""
    images = torch.randn(8, 1, 16, 16, generator=torch.Generator().manual_seed(number))
    images[::2, :, 4:8] += 3
    return images, torch.tensor([[1.0], [0.0]] * 4)


def loss_of(network, number):
    images, targets = batch(number)
    return torch.nn.functional.binary_cross_entropy_with_logits(network(images), targets)


@pytest.mark.parametrize("best", [1e-4, 1e-3, 1e-2])
def test_the_steepest_descent_of_a_curve_that_is_known(best):
    """A logistic fall is steepest in its middle; after it the loss explodes, which is no descent."""
    decades = np.log10(RATES)
    curve = 1 / (1 + np.exp(4 * (decades - np.log10(best)))) + np.exp(8 * (decades + 0.3))
    noise = np.random.default_rng(0).normal(0, 0.02, RATES.size)
    assert RangeTest.of(RATES, curve).steepest == pytest.approx(best, rel=0.2)
    assert RangeTest.of(RATES, curve + noise).steepest == pytest.approx(best, rel=0.6)


def test_lines_are_fitted_exactly_where_the_curve_is_one():
    test = RangeTest.of(RATES, 2 - 0.25 * np.log10(RATES))
    np.testing.assert_allclose(test.slopes, -0.25, rtol=1e-9)
    np.testing.assert_allclose(test.smoothed, test.losses, rtol=1e-9)


def test_a_loss_that_only_rises_has_no_such_rate():
    with pytest.raises(XTLError, match=r"no rate at which the loss falls.*Give learning_rate a number"):
        _ = RangeTest.of(RATES, np.log10(RATES) + 7).steepest


@pytest.mark.parametrize(
    "training", [{}, {"optimiser": "sgd", "l2sp": 0.01, "discriminative": 0.3, "unfreeze": (0.2,)}]
)
def test_it_leaves_the_network_as_it_was_and_its_table_behind(tmp_path, training):
    training = WindowTraining(learning_rate="find", **training)
    network = TinyNetwork().eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    random = torch.get_rng_state()
    rate = find_learning_rate(network, training, loss_of, seed=1, folder=tmp_path)
    assert torch.equal(random, torch.get_rng_state())
    assert not network.training and all(p.grad is None and p.requires_grad for p in network.parameters())
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert rate == find_learning_rate(network, training, loss_of, seed=1, folder=tmp_path)
    with open(tmp_path / "lr_finder.tsv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    rates = [float(row["learning_rate"]) for row in rows]
    np.testing.assert_allclose(rates, RATES[: len(rates)], rtol=1e-6)
    assert float(rows[0]["loss"]) == pytest.approx(loss_of(network.train(), 0).item(), rel=1e-6)
    chosen = rows[int(np.argmin(np.abs(np.log(rates) - np.log(rate))))]
    assert float(chosen["slope_per_decade"]) < 0 and 1e-5 < rate < 1


def test_the_plot_shows_up_where_matplotlib_is(tmp_path):
    pytest.importorskip("matplotlib")
    RangeTest.of(RATES, 1 / (1 + np.exp(4 * (np.log10(RATES) + 3)))).save(tmp_path)
    assert (tmp_path / "lr_finder.png").read_bytes().startswith(b"\x89PNG")


def test_images_that_give_no_number_end_it(tmp_path):
    with pytest.raises(XTLError, match=r"ended at once.*extreme values"):
        find_learning_rate(
            TinyNetwork(),
            WindowTraining(learning_rate="find"),
            lambda network, number: loss_of(network, number) * float("nan"),
            seed=0,
            folder=tmp_path,
        )


class ToyTask:
    metric, validations, steps, can_validate = "validation AUC", 2, 6, False

    def batch(self, number):
        return batch(number)

    def loss(self, logits, targets):
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)

    def validate(self, network):
        return Validation(0.5, 0.5)


def test_the_engine_trains_at_the_rate_found_also_when_it_goes_on(tmp_path):
    def engine(folder, progress=None):
        (tmp_path / folder).mkdir(exist_ok=True)
        training = WindowTraining(learning_rate="find", schedule="constant", steps=6, peft="lora", l2sp=0.01)
        where = {"folder": tmp_path / folder, "key": "toy", "device": torch.device("cpu"), "title": "toy"}
        return Engine(TinyNetwork(), ToyTask(), training, seed=0, progress=progress or Progress(), **where)

    whole = engine("whole")
    whole.run(resume=False)
    lines = (tmp_path / "whole" / "log.tsv").read_text().splitlines()
    with open(tmp_path / "whole" / "lr_finder.tsv", encoding="utf-8") as stream:
        rates = [float(line.split("\t")[0]) for line in stream.readlines()[1:]]
    rate = float(lines[-1].split("\t")[2])
    assert min(abs(rate / other - 1) for other in rates) < 1e-6

    reports = iter(range(100))
    with pytest.raises(Cancelled):
        engine("parts", Progress(None, lambda: next(reports) >= 2)).run(resume=False)
    (tmp_path / "parts" / "lr_finder.tsv").unlink()
    resumed = engine("parts")
    resumed.run(resume=True)
    assert not (tmp_path / "parts" / "lr_finder.tsv").exists()  # the rate came with the checkpoint
    expected = TinyNetwork().state_dict()
    for (key, a), (other, b) in zip(whole._network.state_dict().items(), resumed._network.state_dict().items()):
        assert key == other and key in expected and torch.equal(a, b), key
