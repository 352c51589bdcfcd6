"""Faster gradients of depthwise convolutions in bfloat16 on CPUs.

oneDNN has fast kernels for the output of a depthwise convolution, for the gradient of its input with stride 1, and for
the gradient of a kernel of 3 x 3. Its other kernels take 10 to 100 times as long in bfloat16, so that a training step
of an EfficientNet takes three times as long. This module computes the other gradients with the fast kernels. The sums
are the same, added in another order:

- the gradient of the input with stride s is the convolution, with the kernel turned by 180 degrees, of the gradient of
  the output with s - 1 zeros between its values;
- the gradient of a larger kernel is composed of the gradients of kernels of 3 x 3 on shifted inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Pair = tuple[int, int]

KERNEL: Final = 3
"""Side of the largest kernel whose gradient oneDNN computes fast."""


def fast_depthwise_gradients(network: nn.Module) -> AbstractContextManager[Any]:
    """Returns a context in which the gradients of the depthwise convolutions of `network` are computed faster.

    The context does nothing for a network that has no such convolutions, is not on a CPU or is compiled, and for
    convolutions in another type than bfloat16.
    """
    weights = next(network.parameters(), None)
    if weights is None or weights.device.type != "cpu" or network._compiled_call_impl is not None:
        return nullcontext()
    return _Replacing() if any(map(_is_depthwise, network.modules())) else nullcontext()


def _is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and 1 < module.groups == module.in_channels == module.out_channels


class _Replacing(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.conv2d and len(args) == 7 and not kwargs:
            inputs, weight, bias, stride, padding, dilation, groups = args
            if _is_slow(inputs, weight, padding, dilation, groups):
                cast = [None if tensor is None else tensor.to(torch.bfloat16) for tensor in (inputs, weight, bias)]
                return _DepthwiseConvolution.apply(*cast, _pair(stride), _pair(padding))
        return func(*args, **(kwargs or {}))


def _is_slow(inputs: Tensor, weight: Tensor, padding: Any, dilation: Any, groups: int) -> bool:
    in_bfloat16 = inputs.dtype == weight.dtype == torch.bfloat16 or (
        torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    )
    height, width = weight.shape[2:]
    return (
        in_bfloat16
        and torch.is_grad_enabled()
        and 1 < groups == weight.shape[0] == inputs.shape[1]
        and inputs.ndim == 4
        and height == width
        and height % 2 == 1
        and height >= KERNEL
        and not isinstance(padding, str)
        and max(_pair(padding)) < height
        and _pair(dilation) == (1, 1)
    )


def _pair(value: int | Sequence[int]) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


class _DepthwiseConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.stride, ctx.padding = stride, padding
        return torch.conv2d(inputs, weight, bias, stride, padding, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        inputs, weight = ctx.saved_tensors
        for_inputs, for_weight, for_bias, *_ = ctx.needs_input_grad
        (gradient,) = gradients
        if inputs.is_contiguous(memory_format=torch.channels_last):
            gradient = gradient.contiguous(memory_format=torch.channels_last)
        return (
            _gradient_of_inputs(gradient, inputs, weight, ctx.stride, ctx.padding) if for_inputs else None,
            _gradient_of_weight(gradient, inputs, weight, ctx.stride, ctx.padding) if for_weight else None,
            gradient.sum((0, 2, 3), dtype=torch.float32).to(gradient.dtype) if for_bias else None,
            None,
            None,
        )


def _gradient_of_inputs(gradient: Tensor, inputs: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
    if stride == (1, 1):
        return _native(gradient, inputs, weight, stride, padding, (True, False, False))[0]
    size = weight.shape[-1]
    height, width = (side + 2 * pad - size + 1 for side, pad in zip(inputs.shape[2:], padding, strict=True))
    spread = torch.zeros_like(gradient[:, :, :1, :1].expand(-1, -1, height, width), memory_format=_format(gradient))
    spread[:, :, :: stride[0], :: stride[1]] = gradient
    border = [size - 1 - pad for pad in padding]
    return torch.conv2d(spread, weight.flip(2, 3), None, 1, border, 1, len(weight))


def _gradient_of_weight(gradient: Tensor, inputs: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
    only_weight = (False, True, False)
    size = weight.shape[-1]
    if size == KERNEL:
        return _native(gradient, inputs, weight, stride, padding, only_weight)[1]
    padded = F.pad(inputs, (padding[1], padding[1], padding[0], padding[0]))
    height, width = ((side - 1) * step + KERNEL for side, step in zip(gradient.shape[2:], stride, strict=True))
    part = weight[:, :, :KERNEL, :KERNEL].contiguous()
    whole = torch.empty_like(weight)
    for i in range(0, size - 1, KERNEL - 1):
        for j in range(0, size - 1, KERNEL - 1):
            shifted = padded[:, :, i : i + height, j : j + width]
            found = _native(gradient, shifted, part, stride, (0, 0), only_weight)[1]
            whole[:, :, i : i + KERNEL, j : j + KERNEL] = found
    return whole


def _native(
    gradient: Tensor, inputs: Tensor, weight: Tensor, stride: Pair, padding: Pair, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor, Tensor, Tensor]:
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        gradient, inputs, weight, None, stride, padding, (1, 1), False, (0, 0), len(weight), wanted
    )
    return found


def _format(tensor: Tensor) -> torch.memory_format:
    channels_last = tensor.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format
