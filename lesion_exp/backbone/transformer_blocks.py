"""The blocks of a transformer, and how a training recomputes what lies between them to save memory."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from lesion_exp.backbone.backbone import Backbone, without_running
from lesion_exp.backbone.depthwise import fast_depthwise_gradients
from lesion_exp.errors import ConfigError

_FEWEST_BLOCKS: Final = 2


def transformer_blocks(network: nn.Module, asked_by: str, instead: str) -> list[nn.Module]:
    """Returns the blocks of `network` from the input to the output: the modules that an attention layer is part of.

    Args:
        network: a network, or a part of one.
        asked_by: the override that needs the blocks, for the message.
        instead: the override that does without them, for the message.

    Raises:
        ConfigError: there are fewer than two blocks with attention layers.
    """
    attentions = [name for name, module in network.named_modules() if _is_attention(module)]
    outermost = [name for name in attentions if not any(name.startswith(f"{other}.") for other in attentions)]
    parents = dict.fromkeys(name.rpartition(".")[0] for name in outermost)
    names = [name for name in parents if name and not any(other.startswith(f"{name}.") for other in parents)]
    if len(names) < _FEWEST_BLOCKS:
        raise ConfigError(
            f"expected a transformer for {asked_by}, such as backbone=vit_b_16, got a network without repeated blocks "
            f"that contain an attention layer; set {instead}"
        )
    return [network.get_submodule(name) for name in names]


def _is_attention(module: nn.Module) -> bool:
    return isinstance(module, nn.MultiheadAttention) or "Attention" in type(module).__name__


def checkpoint_activations(network: Backbone) -> None:
    """Has `network` keep only the inputs of its transformer blocks for the backward pass, which computes the rest anew.

    Outputs and gradients are the same, with dropout, too: a block is computed again with the same random numbers, and
    leaves the statistics of batch normalisation as they are. Names of weights do not change. Without gradients nothing
    is kept or computed again. Source: Chen et al. 2016, arXiv:1604.06174.

    Raises:
        ConfigError: the network has no transformer blocks.
    """
    key = "trainer.activation_checkpointing"
    for block in transformer_blocks(network, f"{key}=true", f"{key}=false"):
        block.forward = functools.partial(_recomputed, block, block.forward)


def _recomputed(block: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)

    def compute(*inputs: Any, **named: Any) -> Any:
        with fast_depthwise_gradients(block):  # a context of the whole step has ended when this is called again
            return forward(*inputs, **named)

    contexts = functools.partial(_contexts, block)
    return checkpoint(compute, *args, use_reentrant=False, context_fn=contexts, **kwargs)


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """The contexts of the first and of the second computation."""
    return nullcontext(), without_running(block)
