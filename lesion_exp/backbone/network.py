"""What an option of the group `backbone` returns: a classification network, and what is known of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

State = Mapping[str, Tensor]
"""Names and tensors, as `nn.Module.state_dict` gives them."""


def _unchanged(state: State) -> State:
    return state


@dataclass(frozen=True)
class Network:
    """A network of images, with what cannot be read off its modules; an option may also return the module alone.

    Args:
        module: images float32 (N, 3, S, S) -> logits (N, any number). The linear layer in which it ends is replaced by
            the head of the run. A module without a linear layer gives features (N, F) instead.
        head: dotted name of that linear layer; None is the last one.
        cam_path: dotted name of the module that makes the last feature map; None is the last convolution.
        is_convolutional: whether it has feature maps throughout, so that the memory layout channels-last is faster and
            attention blocks can be inserted; None: it has no attention layer.
        imagenet: returns its ImageNet weights, for `backbone.weights=imagenet`, or `imagenet:NAME` of several; it is
            given that text. None: there are none.
        renamed: turns the names in a file of weights into those of `module`.
    """

    module: nn.Module
    head: str | None = None
    cam_path: str | None = None
    is_convolutional: bool | None = None
    imagenet: Callable[[str], State] | None = None
    renamed: Callable[[State], State] = _unchanged
