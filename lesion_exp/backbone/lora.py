"""Matrices of low rank beside the frozen weights of a network, by the library peft, and how they are merged into them.

Hu et al. 2021, arXiv:2106.09685: a layer with weights W computes W x + (alpha / rank) B A x, of which A and B alone are
trained. Merged weights are W + (alpha / rank) B A, in a network as it was before: nothing that reads one needs peft.
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
        ConfigError: it is not.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        raise not_installed(PACKAGE, "backbone.tune=lora")


def add_lora(network: nn.Module, options: LoRAOptions, in_channels: int, image_size: int) -> None:
    """Adds the matrices to layers of `network`, which computes what it did before: B begins at zero.

    Linear layers and convolutions that are called can have them. torch's attention reads the weights of its layers
    without calling them, so it is replaced by one that computes the same with layers.

    Args:
        network: images float32 (N, in_channels, image_size, image_size) -> features; changed in place.
        options: rank, factor, dropout and layers.
        in_channels: of the images with which the layers are found that are called.
        image_size: of these images, pixels.

    Raises:
        ConfigError: peft is not installed, or a name in `options.layers` fits no layer that can have them.
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
        warnings.simplefilter("ignore")  # of the dialects of language models, which play no part here
        inject_adapter_in_model(config, network)
    added = sum(weights.numel() for weights in lora_weights(network))
    log.info("LoRA of rank %d in %d layers: %s weights", options.rank, len(chosen), f"{added:,}")


def lora_weights(network: nn.Module) -> Iterator[nn.Parameter]:
    """The matrices that `add_lora` added."""
    yield from (weights for name, weights in network.named_parameters() if _ADDED.match(name))


def merge_lora(network: nn.Module, scaling: float) -> None:
    """Adds the matrices to the weights of their layers and takes them out; undoes `add_lora` in all other respects."""
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
    """The state of the network that `merge_lora` makes, from that of the one with matrices; another one unchanged."""
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
    """What is added to the weights (out, in, ...) of a layer: of a convolution, A has its kernel and B is 1 x 1."""
    a, b = (state[f"{layer}.lora_{which}.default.weight"] for which in "AB")
    return scaling * (b.flatten(1) @ a.flatten(1)).view(len(b), *a.shape[1:])


def _called(network: nn.Module, in_channels: int, image_size: int) -> list[tuple[str, nn.Module]]:
    """The layers whose `forward` an image goes through; a network may read the weights of others."""
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
                f"their names here: {', '.join(kinds)}"
            )
        found += named
    return list(dict.fromkeys(found))


class _OpenAttention(nn.Module):
    """torch's attention of a sequence to itself, with layers that are called; computes what `attention` does."""

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
        """The attended sequence, of the shape of `query`, (N, T, D) or (T, N, D), and no weights of the attention.

        Raises:
            ConfigError: another sequence, weights or a mask are asked for.
        """
        if key is not query or value is not query or need_weights or any(mask is not None for mask in others.values()):
            raise ConfigError(
                "expected layers of attention from a sequence to itself without a mask for backbone.tune=lora, got "
                "others; use backbone.tune=last:N or full"
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
        """torch's layer with the weights of this one."""
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
