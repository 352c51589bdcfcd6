"""Gradients of depthwise convolutions in bfloat16: equal to those in float32 up to the rounding of bfloat16.

On a CPU that does not compute in bfloat16, torch's own gradients are farther from those in float32 than that.
"""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from lesion_exp.backbone.depthwise import fast_depthwise_gradients

EPSILON = torch.finfo(torch.bfloat16).eps


def gradients_of(conv: nn.Conv2d, images: Tensor, upstream: Tensor, *, fast: bool) -> list[Tensor]:
    shown = images.clone().requires_grad_()
    context = fast_depthwise_gradients(conv) if fast else fast_depthwise_gradients(nn.Identity())
    with context:
        output = conv(shown)
    parameters = [shown, *conv.parameters()]
    return [gradient.float() for gradient in torch.autograd.grad(output, parameters, upstream.to(output.dtype))]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "height", "width"),
    [
        (3, 1, 1, 9, 7),
        (3, 2, 1, 9, 8),
        (3, 2, 0, 8, 9),
        (5, 1, 2, 9, 6),
        (5, 2, 2, 9, 8),
        (5, 2, 0, 11, 10),
        (5, 2, 1, 10, 11),
        (5, 3, 2, 13, 12),
        (7, 1, 3, 9, 8),
        (7, 2, 3, 10, 9),
        (9, 1, 4, 10, 11),
    ],
)
def test_the_gradients_are_those_of_float32(
    kernel: int, stride: int, padding: int, height: int, width: int, layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 16, kernel, stride, padding, groups=16).to(torch.bfloat16)
    images = torch.randn(4, 16, height, width).to(torch.bfloat16).to(memory_format=layout)
    upstream = torch.randn_like(conv(images))
    fast = gradients_of(conv, images, upstream, fast=True)
    native = gradients_of(conv, images, upstream, fast=False)
    exact = gradients_of(conv.float(), images.float(), upstream, fast=False)
    for ours, theirs, true in zip(fast, native, exact, strict=True):
        rounding = EPSILON * true.abs().max()
        assert (ours - true).abs().max() <= max(rounding, (theirs - true).abs().max())


def test_a_convolution_of_all_channels_keeps_its_own_gradient() -> None:
    network = nn.Sequential(nn.Conv2d(4, 4, 5, groups=4), nn.Conv2d(4, 4, 5), nn.Conv2d(4, 4, 5, groups=2))
    network.to(torch.bfloat16)
    images = torch.randn(1, 4, 16, 16, dtype=torch.bfloat16)
    with fast_depthwise_gradients(network):
        depthwise = network[0](images)
        others = [network[1](images), network[2](images)]
    assert type(depthwise.grad_fn).__name__ == "_DepthwiseConvolutionBackward"
    assert {type(output.grad_fn).__name__ for output in others} == {"ConvolutionBackward0"}


def test_float32_keeps_its_own_gradient_except_under_autocast() -> None:
    conv = nn.Conv2d(4, 4, 5, groups=4)
    images = torch.randn(1, 4, 8, 8)
    with fast_depthwise_gradients(conv):
        plain = conv(images)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = conv(images)
        with torch.no_grad():
            quiet = conv(images)
    assert type(plain.grad_fn).__name__ == "ConvolutionBackward0"
    assert type(mixed.grad_fn).__name__ == "_DepthwiseConvolutionBackward"
    assert quiet.grad_fn is None
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(mixed, conv(images)), "the output is that of torch to the bit"


def test_weights_get_float32_gradients_from_a_step_in_mixed_precision() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 8, 5, 2, 2, groups=8)
    images = torch.randn(2, 8, 12, 12)
    found = []
    for network in (conv, nn.Identity()):
        conv.zero_grad()
        with fast_depthwise_gradients(network), torch.autocast("cpu", torch.bfloat16):
            conv(images).float().square().sum().backward()
        assert conv.weight.grad is not None
        assert conv.weight.grad.dtype == torch.float32
        found.append(conv.weight.grad.clone())
    assert not torch.equal(found[0], torch.zeros_like(found[0]))
    assert (found[0] - found[1]).abs().max() <= 2 * EPSILON * found[1].abs().max()


def test_a_network_without_such_layers_is_left_alone() -> None:
    assert isinstance(fast_depthwise_gradients(nn.Conv2d(3, 8, 3)), nullcontext)
    assert isinstance(fast_depthwise_gradients(nn.Identity()), nullcontext)
    assert isinstance(fast_depthwise_gradients(nn.Conv2d(4, 4, 3, groups=4, device="meta")), nullcontext)
