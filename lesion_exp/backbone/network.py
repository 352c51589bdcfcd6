"""The network that an option of the group `backbone` returns, and the same network before its last layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isqrt

from torch import Tensor, nn

from lesion_exp.errors import ConfigError

State = Mapping[str, Tensor]
"""Names and tensors, as `nn.Module.state_dict` gives them."""
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_STACKS = frozenset({"features", "encoder", "layers", "blocks", "stages", "trunk_output", "model"})
"""Names under which networks keep their layers one level down."""


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


class FeatureExtractor(nn.Module):
    """A network whose last linear layer was taken off.

    Args:
        network: images float32 (N, C, S, S) -> features float32 (N, num_features).
        num_features: length of a feature vector.
        is_convolutional: whether the layout channels-last pays.
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
        """Tokens of a transformer before those of the image: of its class, registers."""

    def forward(self, images: Tensor) -> Tensor:
        """Features, float32 (N, num_features), of images float32 (N, C, S, S)."""
        features: Tensor = self.network(images)
        return features.flatten(1)

    def cam_layer(self) -> nn.Module:
        """The module whose output is the last feature map."""
        module = self.network.get_submodule(self.cam_path)
        return module[-1] if isinstance(module, nn.ModuleList) else module  # a list itself is never called

    def feature_maps(self, output: Tensor) -> Tensor:
        """A layer's `output`, maps (N, C, h, h) or (N, h, h, C) or tokens (N, T, C), as maps (N, C, h, h).

        Raises:
            ConfigError: it is none of these.
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

    def layers(self) -> list[list[nn.Parameter]]:
        """The parameters in groups from the input to the output, each parameter once."""
        groups: list[list[nn.Parameter]] = []
        seen: set[int] = set()
        own = list(self.network.parameters(recurse=False))
        for module in _stages(self.network):
            group = [parameter for parameter in module.parameters() if id(parameter) not in seen]
            seen.update(map(id, group))
            if group:
                groups.append(group)
        rest = [p for p in self.network.parameters() if id(p) not in seen and id(p) not in set(map(id, own))]
        if own or rest:
            groups = [[*own, *rest, *(groups[0] if groups else [])], *groups[1:]]  # tokens, positions: at the input
        return groups


def _stages(network: nn.Module) -> Iterator[nn.Module]:
    for name, child in network.named_children():
        if name in _STACKS or isinstance(child, _CONTAINERS):
            yield from _stages(child) if name in _STACKS else iter([child])
        else:
            yield child
