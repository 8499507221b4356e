"""Kernels of volumes and of other channels, against their definitions and against convolutions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from XTLLib.networks.kernels import (
    adapt_input_channels,
    centre_kernel,
    inflate_kernel,
    refit_depth,
    source_channels,
    stack_kernel,
)
from XTLLib.networks.spec import INPUT_CHANNELS

torch.set_num_threads(1)

ODD = st.sampled_from((1, 3, 5, 7))


def kernels(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_kernels_are_stacked_and_divided():
    kernel = kernels(5, 2, 3, 3)
    inflated = inflate_kernel(kernel, 3)
    assert inflated.shape == (5, 2, 3, 3, 3)
    for plane in range(3):
        torch.testing.assert_close(inflated[:, :, plane], kernel / 3)


def test_centre_kernel_is_in_the_middle():
    kernel = kernels(5, 2, 3, 3)
    centred = centre_kernel(kernel, 5)
    assert torch.equal(centred[:, :, 2], kernel)
    assert not centred[:, :, [0, 1, 3, 4]].any()


@pytest.mark.parametrize("in_channels", [1, 2, 3, 4])
def test_input_channels_share_the_grey_response(in_channels):
    kernel = torch.arange(1.0, 7.0).reshape(2, 3, 1, 1)  # sums over RGB: 6 and 15
    adapted = adapt_input_channels(kernel, in_channels)
    assert adapted.shape == (2, in_channels, 1, 1)
    torch.testing.assert_close(adapted.flatten(1), torch.tensor([[6.0], [15.0]]).repeat(1, in_channels) / in_channels)


def test_input_channels_by_the_sum_and_by_repeating():
    kernel = torch.tensor([[1.0, 2.0, 4.0]]).reshape(1, 3, 1, 1)
    assert adapt_input_channels(kernel, 2, "sum").flatten().tolist() == [7, 7]
    assert adapt_input_channels(kernel, 4, "repeat").flatten().tolist() == [0.75, 1.5, 3.0, 0.75]
    assert torch.equal(adapt_input_channels(kernel, 3, "repeat"), kernel)


@pytest.mark.parametrize("rule", INPUT_CHANNELS)
@given(source=st.integers(1, 4), channels=st.integers(1, 5))
def test_adapted_kernels_answer_as_the_source_does_to_its_own_channels(rule, source, channels):
    kernel, image = kernels(2, source, 3, 3).double(), kernels(1, channels, 6, 6).double()
    found = F.conv2d(image, adapt_input_channels(kernel, channels, rule))
    torch.testing.assert_close(found, F.conv2d(source_channels(image, source, rule), kernel))


@given(planes=ODD, size=ODD)
def test_sum_over_depth_is_the_2d_kernel(planes, size):
    kernel = kernels(3, 2, size, size).double()
    for made in (inflate_kernel(kernel, planes), centre_kernel(kernel, planes)):
        assert made.shape == (3, 2, planes, size, size)
        torch.testing.assert_close(made.sum(dim=2), kernel)


@pytest.mark.parametrize("rule", INPUT_CHANNELS)
@given(channels=st.integers(1, 5))
def test_stack_summed_over_depth_is_the_adapted_kernel(rule, channels):
    kernel = kernels(4, 3, 3, 3).double()
    stack = stack_kernel(kernel, channels, rule)
    assert stack.shape == (4, channels, 3, 3, 3)
    torch.testing.assert_close(stack.sum(dim=2), adapt_input_channels(kernel, channels, rule))


def test_stack_of_one_channel_has_the_colours_as_slices():
    kernel = kernels(4, 3, 3, 3)
    stack = stack_kernel(kernel, 1)
    slices = kernels(3, 6, 6)
    found = F.conv3d(slices[None, None], stack)
    torch.testing.assert_close(found[:, :, 0], F.conv2d(slices[None], kernel), rtol=1e-4, atol=1e-5)


@given(before=ODD, after=ODD, centred=st.booleans())
def test_refitted_depth_keeps_the_sum(before, after, centred):
    kernel = kernels(2, 3, before, 3, 3).double()
    made = refit_depth(kernel, after, centred=centred)
    assert made.shape == (2, 3, after, 3, 3)
    torch.testing.assert_close(made.sum(dim=2), kernel.sum(dim=2))


def test_refitted_depth_of_known_kernels():
    def refitted(planes: list[float], count: int, **settings) -> list[float]:
        return refit_depth(torch.tensor(planes).reshape(1, 1, -1, 1, 1), count, **settings).flatten().tolist()

    assert refitted([1, 2, 4], 1) == [7]
    assert refitted([3.0], 3) == [1, 1, 1]
    assert refitted([3.0], 3, centred=True) == [0, 3, 0]
    assert refitted([1, 2, 4, 8, 16, 32, 64], 3) == [7, 8, 112]
    assert refitted([1, 2, 4], 5) == [0, 1, 2, 4, 0]
