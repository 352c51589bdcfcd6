"""Adds matrices of low rank to the frozen weights of a network, by the library peft, and merges them into the weights.

Hu et al. 2021, arXiv:2106.09685: a layer with weights W computes W x + (alpha / rank) B A x, of which A and B alone are
trained. Merging gives an ordinary network with the weights W + (alpha / rank) B A, which can be read without peft.
"""

from __future__ import annotations

import importlib.util
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from lesion_exp.backbone.options import LoRAOptions
from lesion_exp.backbone.surgery import replace, run_once
from lesion_exp.errors import ConfigError, not_installed

log = logging.getLogger(__name__)

PACKAGE: Final = "peft"
_ADDED: Final = re.compile(r"^(?:(.*)\.)?lora_([AB])\.default\.weight$")
_OPENED: Final = "opened_in_proj"
"""The linear layer of `_OpenAttention` that stands for the parameter `in_proj_weight` of torch's layer."""


def check_peft() -> None:
    """Checks that peft is installed.

    Raises:
        ConfigError: peft is not installed.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        raise not_installed(PACKAGE, "backbone.tune=lora")


def add_lora(network: nn.Module, options: LoRAOptions, in_channels: int, image_size: int) -> None:
    """Adds the matrices to layers of `network`. Its output does not change, because B begins at zero.

    The layers are linear layers and convolutions that are called. torch's attention reads the weights of its layers
    without calling them, so it is replaced by an equal attention that calls its layers.

    Args:
        network: images float32 (N, in_channels, image_size, image_size) -> features; changed in place.
        options: rank, factor, dropout and layers.
        in_channels: number of channels of the image that is sent through to find the layers that are called.
        image_size: side of this image in pixels.

    Raises:
        ConfigError: peft is not installed, or a name in `options.layers` fits no layer that can have matrices.
    """
    check_peft()
    _open_attention(network)
    fitting = {name: layer for name, layer in _called(network, in_channels, image_size) if _can_have(layer)}
    chosen = _chosen(fitting, options)
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,  # type: ignore[arg-type, unused-ignore]
        lora_dropout=options.dropout,
        target_modules="|".join(map(re.escape, chosen)),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they concern language models
        inject_adapter_in_model(config, network)
    added = sum(weights.numel() for weights in lora_weights(network))
    log.info("LoRA of rank %d was added to %d layers: %s trained weights", options.rank, len(chosen), f"{added:,}")


def lora_weights(network: nn.Module) -> Iterator[nn.Parameter]:
    """Yields the matrices that `add_lora` added."""
    yield from (weights for name, weights in network.named_parameters() if _ADDED.match(name))


def merge_lora(network: nn.Module, scaling: float) -> None:
    """Adds the matrices to the weights of their layers, and removes everything else that `add_lora` added."""
    state = network.state_dict()
    for name in {match[1] for match in map(_ADDED.match, state) if match}:
        layer: Any = network.get_submodule(name).base_layer
        with torch.no_grad():
            layer.weight += _product(state, name, scaling)
        replace(network, name, layer)
    for name, layer in list(network.named_modules()):
        if isinstance(layer, _OpenAttention):
            replace(network, name, layer.closed())


def merged_state(state: Mapping[str, Tensor], scaling: float) -> dict[str, Tensor]:
    """Returns the state after `merge_lora`, from the state of a network with matrices; other states unchanged."""
    added = {match[1] for match in map(_ADDED.match, state) if match}
    if not added:
        return dict(state)
    merged = {}
    for key, tensor in state.items():
        if _ADDED.match(key):
            continue
        owner, found, kind = key.rpartition(".base_layer.")
        if found and owner in added:
            key = f"{owner}.{kind}"
            tensor = tensor + _product(state, owner, scaling) if kind == "weight" else tensor
        merged[key.replace(f"{_OPENED}.", "in_proj_")] = tensor
    return merged


def _product(state: Mapping[str, Tensor], layer: str, scaling: float) -> Tensor:
    """Returns the term that is added to the weights (out, in, ...) of a layer.

    For a convolution, A has the size of its kernel and B is 1 x 1.
    """
    a, b = (state[f"{layer}.lora_{which}.default.weight"] for which in "AB")
    return scaling * (b.flatten(1) @ a.flatten(1)).view(len(b), *a.shape[1:])


def _called(network: nn.Module, in_channels: int, image_size: int) -> list[tuple[str, nn.Module]]:
    """Returns the layers whose `forward` is called; a network may read the weights of other layers."""
    called: list[nn.Module] = []
    hooks = [module.register_forward_hook(lambda layer, *_: called.append(layer)) for module in network.modules()]
    try:
        run_once(network, in_channels, image_size)
    finally:
        for hook in hooks:
            hook.remove()
    seen = set(map(id, called))
    return [(name, module) for name, module in network.named_modules() if id(module) in seen]


def _can_have(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):  # peft's convolution knows neither groups, when merged, nor dilation
        return layer.groups == 1 and set(layer.dilation) == {1} and layer.padding_mode == "zeros"
    return isinstance(layer, nn.Linear)


def _chosen(fitting: Mapping[str, nn.Module], options: LoRAOptions) -> list[str]:
    if options.layers is None:
        chosen = list(fitting)
        if not chosen:
            raise ConfigError(
                "expected a network with linear layers or ungrouped convolutions for backbone.tune=lora; use "
                "backbone.tune=head"
            )
        return chosen
    kinds = sorted({name.rpartition(".")[2] for name in fitting})
    found = []
    for wanted in options.layers:
        named = [name for name in fitting if name == wanted or name.endswith(f".{wanted}")]
        if not named:
            raise ConfigError(
                f"expected names of layers that can have LoRA in backbone.lora.layers, got {wanted}; the last parts of "
                f"the names in this network are {', '.join(kinds)}"
            )
        found += named
    return list(dict.fromkeys(found))


class _OpenAttention(nn.Module):
    """torch's self-attention with layers that are called; its output is that of `attention`."""

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.num_heads, self.dropout, self.batch_first = attention.num_heads, attention.dropout, attention.batch_first
        width, weight, bias = attention.embed_dim, attention.in_proj_weight, attention.in_proj_bias
        opened = nn.Linear(width, 3 * width, bias=bias is not None, device="meta")
        opened.weight, opened.bias = weight, bias
        setattr(self, _OPENED, opened)
        linear = nn.Linear(width, width, bias=attention.out_proj.bias is not None, device="meta")
        linear.weight, linear.bias = attention.out_proj.weight, attention.out_proj.bias
        self.out_proj = linear
        self._attention = [attention]  # in a list: no module, so that its weights are not counted twice
        self.train(attention.training)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = True, **others: Any
    ) -> tuple[Tensor, None]:
        """Returns the output, of the shape of `query`, (N, T, D) or (T, N, D), and None for the attention weights.

        Raises:
            ConfigError: the call has other keys or values, wants attention weights, or has a mask.
        """
        if key is not query or value is not query or need_weights or any(mask is not None for mask in others.values()):
            raise ConfigError(
                "expected self-attention without a mask for backbone.tune=lora, got another kind of attention; set "
                "backbone.tune=last:2 or backbone.tune=full"
            )
        sequence = query if self.batch_first else query.transpose(0, 1)
        count, length, width = sequence.shape
        joined: Tensor = getattr(self, _OPENED)(sequence)
        heads = joined.view(count, length, 3, self.num_heads, width // self.num_heads).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        attended = functional.scaled_dot_product_attention(heads[0], heads[1], heads[2], dropout_p=dropout)
        output: Tensor = self.out_proj(attended.transpose(1, 2).reshape(count, length, width))
        return (output if self.batch_first else output.transpose(0, 1)), None

    def closed(self) -> nn.MultiheadAttention:
        """Returns torch's layer with the weights of this layer."""
        attention, opened = self._attention[0], getattr(self, _OPENED)
        attention.in_proj_weight, attention.in_proj_bias = opened.weight, opened.bias
        attention.out_proj.weight, attention.out_proj.bias = self.out_proj.weight, self.out_proj.bias
        return attention


def _open_attention(network: nn.Module) -> None:
    for name, layer in list(network.named_modules()):
        if isinstance(layer, nn.MultiheadAttention) and _attends_to_itself(layer):
            replace(network, name, _OpenAttention(layer))


def _attends_to_itself(layer: nn.MultiheadAttention) -> bool:
    return bool(layer._qkv_same_embed_dim) and layer.bias_k is None and not layer.add_zero_attn
