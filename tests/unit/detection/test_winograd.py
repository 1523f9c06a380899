from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from detection.winograd import WinogradConvolution


def convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1).requires_grad_(False)


def pictures(batch: int, channels: int, height: int, width: int) -> torch.Tensor:
    return torch.randn(batch, channels, height, width).to(memory_format=torch.channels_last)


@settings(deadline=None, max_examples=40)
@given(
    batch=st.integers(1, 3),
    channels=st.sampled_from([16, 48, 64, 128]),
    outputs=st.sampled_from([32, 96]),
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    seed=st.integers(0, 2**32 - 1),
)
def test_equals_the_direct_convolution_in_float64(
    batch: int, channels: int, outputs: int, height: int, width: int, seed: int
) -> None:
    torch.manual_seed(seed)
    direct = convolution(channels, outputs)
    inputs = pictures(batch, channels, height, width)
    shortcut = pictures(batch, outputs, height, width)
    plain = nn.functional.conv2d(inputs.double(), direct.weight.double(), direct.bias.double(), padding=1)
    fast = WinogradConvolution(direct)
    found = {
        "plain": (fast(inputs), plain),
        "rectified": (fast(inputs, rectify=True), plain.relu()),
        "with a shortcut": (fast(inputs, residual=shortcut.clone()), plain + shortcut),
        "both": (fast(inputs, residual=shortcut.clone(), rectify=True), (plain + shortcut).relu()),
    }
    for name, (result, expected) in found.items():
        largest = float(plain.abs().max())
        np.testing.assert_allclose(result.numpy(), expected.numpy(), rtol=0, atol=1e-5 * largest, err_msg=name)


def test_pictures_that_are_not_channels_last_are_taken_too() -> None:
    torch.manual_seed(0)
    fast, inputs = WinogradConvolution(convolution(16, 32)), pictures(2, 16, 9, 7)
    torch.testing.assert_close(fast(inputs.contiguous()), fast(inputs), rtol=0, atol=0)


def test_a_sum_takes_the_place_of_what_is_added() -> None:
    torch.manual_seed(0)
    fast, inputs, shortcut = WinogradConvolution(convolution(16, 32)), pictures(2, 16, 9, 7), pictures(2, 32, 9, 7)
    expected = fast(inputs) + shortcut
    result = fast(inputs, residual=shortcut)
    assert result.data_ptr() == shortcut.data_ptr()
    torch.testing.assert_close(result, expected)


def test_what_is_not_finite_stays_visible() -> None:
    fast, inputs = WinogradConvolution(convolution(16, 32)), pictures(1, 16, 8, 8)
    inputs[0, 3, 2, 2] = torch.nan
    assert fast(inputs, rectify=True)[0, :, 2, 2].isnan().all()


def test_same_bits_in_every_batch_with_any_threads_and_in_several_at_once() -> None:
    torch.manual_seed(0)
    fast, inputs = WinogradConvolution(convolution(64, 128)), pictures(3, 64, 17, 22)
    expected = fast(inputs)
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        assert torch.equal(fast(inputs), expected)
        assert torch.equal(fast(inputs[1:2, :, :, :]), expected[1:2])
    finally:
        numba.set_num_threads(threads)
    with ThreadPoolExecutor(4) as pool:
        assert all(torch.equal(result, expected) for result in pool.map(lambda _: fast(inputs), range(12)))


@pytest.mark.parametrize(
    "other",
    [
        nn.Conv2d(16, 32, 3, padding=1, stride=2),
        nn.Conv2d(16, 32, 3),
        nn.Conv2d(16, 32, 1),
        nn.Conv2d(32, 32, 3, padding=1, groups=2),
        nn.Conv2d(16, 32, 3, padding=2, dilation=2),
        nn.Conv2d(16, 32, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(3, 32, 3, padding=1),
        nn.Conv2d(16, 40, 3, padding=1),
    ],
    ids=["stride", "padding", "size", "groups", "dilation", "reflection", "few inputs", "odd outputs"],
)
def test_other_convolutions_do_not_fit(other: nn.Conv2d) -> None:
    assert WinogradConvolution.fits(convolution(16, 32)) and not WinogradConvolution.fits(other)
