"""The part of a network before its head: images in, one feature vector an image out."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_STACKS = frozenset({"features", "encoder", "layers", "blocks", "stages", "trunk_output", "model"})
"""Names under which networks keep their layers one level down."""


class Body(nn.Module):
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

    def forward(self, images: Tensor) -> Tensor:
        """Features, float32 (N, num_features), of images float32 (N, C, S, S)."""
        features: Tensor = self.network(images)
        return features.flatten(1)

    def cam_layer(self) -> nn.Module:
        """The module whose output is the last feature map."""
        return self.network.get_submodule(self.cam_path)

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
