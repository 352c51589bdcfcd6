"""The network that an option of the group `backbone` returns, and the feature extractor that is made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isqrt

from torch import Tensor, nn

from lesion_exp.errors import ConfigError

State = Mapping[str, Tensor]
"""Names and tensors, as `nn.Module.state_dict` gives them."""
_STACKS = frozenset({"features", "encoder", "layers", "blocks", "stages", "trunk_output", "model"})
"""Names of the modules in which networks nest their layers."""


def _unchanged(state: State) -> State:
    return state


@dataclass(frozen=True)
class Network:
    """A network of images, with facts that its modules do not show; an option may also return the module alone.

    Args:
        module: the network, from images float32 (N, 3, S, S) to logits (N, any number). Its last linear layer is
            replaced by the head of the run. A module without a linear layer returns features (N, F) instead.
        head: dotted name of that linear layer; None: the last linear layer of the module.
        cam_path: dotted name of the module that makes the last feature map; None: the last convolution.
        is_convolutional: whether it has feature maps throughout, so that the memory layout channels-last is faster and
            attention blocks can be inserted; None: true if it has no attention layer.
        imagenet: a function from the value of `backbone.weights` (`imagenet`, or `imagenet:NAME` if there are several)
            to the ImageNet weights; None if there are none.
        renamed: a function from the tensors of a file of weights to the same tensors under the names of `module`.
        wrong_size: the message that refuses images of this size for a training, because the network would ignore their
            right and lower edge; empty if it would not.
    """

    module: nn.Module
    head: str | None = None
    cam_path: str | None = None
    is_convolutional: bool | None = None
    imagenet: Callable[[str], State] | None = None
    renamed: Callable[[State], State] = _unchanged
    wrong_size: str = ""


class FeatureExtractor(nn.Module):
    """A network whose last linear layer was removed.

    Args:
        network: the network, from images float32 (N, C, S, S) to features float32 (N, num_features).
        num_features: length of a feature vector.
        is_convolutional: whether the memory layout channels-last is faster.
        cam_path: dotted name, inside `network`, of the module that makes the last feature map.
    """

    def __init__(self, network: nn.Module, num_features: int, *, is_convolutional: bool, cam_path: str) -> None:
        super().__init__()
        self.network = network
        self.num_features = num_features
        self.is_convolutional = is_convolutional
        self.cam_path = cam_path
        class_tokens = 1 if hasattr(network, "class_token") else 0
        self.num_prefix_tokens = int(getattr(network, "num_prefix_tokens", class_tokens))
        """Number of tokens of a transformer before those of the image: the class token and the registers."""

    def forward(self, images: Tensor) -> Tensor:
        """Returns the features, float32 (N, num_features), of images float32 (N, C, S, S)."""
        features: Tensor = self.network(images)
        return features.flatten(1)

    def cam_layer(self) -> nn.Module:
        """Returns the module whose output is the last feature map."""
        module = self.network.get_submodule(self.cam_path)
        return module[-1] if isinstance(module, nn.ModuleList) else module  # a list itself is never called

    def feature_maps(self, output: Tensor) -> Tensor:
        """Returns the `output` of a layer, (N, C, h, h), (N, h, h, C) or tokens (N, T, C), as maps (N, C, h, h).

        Raises:
            ConfigError: the output is none of these.
        """
        if output.ndim == 4:
            channels_last = output.shape[2] != output.shape[3] and output.shape[1] == output.shape[2]
            return output.permute(0, 3, 1, 2) if channels_last else output
        if output.ndim == 3:
            tokens = output[:, self.num_prefix_tokens :]
            side = isqrt(tokens.shape[1])
            if side and side**2 == tokens.shape[1]:
                return tokens.transpose(1, 2).reshape(len(tokens), -1, side, side)
        raise ConfigError(
            f"expected a layer that makes feature maps or a square of tokens, got one that makes "
            f"{tuple(output.shape)}; name another layer, or explain this network with integrated_gradients or occlusion"
        )

    def layers(self) -> dict[str, list[nn.Parameter]]:
        """Returns the parameters in groups from the input to the output, each parameter once, by names of modules."""
        groups: dict[str, list[nn.Parameter]] = {}
        seen: set[int] = set()
        own = list(self.network.parameters(recurse=False))
        for name, module in _stages(self.network):
            group = [parameter for parameter in module.parameters() if id(parameter) not in seen]
            seen.update(map(id, group))
            if group:
                groups[name] = group
        rest = [p for p in self.network.parameters() if id(p) not in seen and id(p) not in set(map(id, own))]
        if own or rest:
            first = next(iter(groups), "network")
            groups = {first: [], **groups}
            groups[first] = [*own, *rest, *groups[first]]  # tokens, positions: at the input
        return groups


def _stages(network: nn.Module, place: str = "") -> Iterator[tuple[str, nn.Module]]:
    for name, child in network.named_children():
        if name in _STACKS:
            yield from _stages(child, f"{place}{name}.")
        else:
            yield f"{place}{name}", child


def not_a_multiple(patch: int, name: str, image_size: int) -> str:
    """Returns the message that `image_size` is no multiple of the side of the patches of the network `name`.

    It is empty if `image_size` is a multiple.
    """
    if not image_size % patch:
        return ""
    below = max(image_size // patch, 1) * patch
    return (
        f"expected image_size to be a multiple of {patch} for {name}, got {image_size}; use {below} or {below + patch}"
    )
