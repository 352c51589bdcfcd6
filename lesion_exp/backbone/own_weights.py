"""Starts a network from a file of this project, whose run may have had other inputs or another head."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from lesion_exp.backbone.backbone import Backbone
from lesion_exp.backbone.class_token import CLASS_TOKEN, gives_class_token
from lesion_exp.backbone.foreign_weights import Found, find_weights, num_fitting
from lesion_exp.backbone.network import State
from lesion_exp.backbone.options import SHARED_KEYS, InputsAndOutputs, SharedOptions
from lesion_exp.backbone.surgery import first_convolution, with_channels
from lesion_exp.backbone.weights import load_into
from lesion_exp.backbone.weights_card import card_of
from lesion_exp.errors import ConfigError
from lesion_exp.terminal import shell_words

log = logging.getLogger(__name__)

_BODY: Final = "body.network."
_CLINICAL: Final = "clinical_body.network."
_AFTER_THE_BODIES: Final = ("gate", "embedding", "head")
"""Parts of a `Backbone`, each after those whose outputs it reads."""
_SHIPPED: Final = "lesion_exp.backbone."
"""Before the name of a shipped option in its target, of `torchvision` and `timm` for all networks of the library."""
_PLAIN: Final = re.compile(r"(?!(?:null|true|false|nan|inf)$)[a-z_][\w.-]*", re.IGNORECASE)
"""Texts that Hydra reads as texts without quotes."""


class OwnWeights:
    """The weights in a file of this project, for a network whose size, mask, attention, views or metadata may differ.

    Args:
        state: the tensors of the file by the names of a `Backbone`.
        file: the file.
        shared: the keys of `conf/backbone` of the network that starts from it.
        shape: its inputs and outputs.
        head: dotted name of the last layer of the library's network.
        renamed: the function with which the library of the network reads files, which resizes positions.
    """

    def __init__(
        self,
        state: State,
        file: Path,
        shared: SharedOptions,
        shape: InputsAndOutputs,
        head: str,
        renamed: Callable[[State], State],
    ) -> None:
        self._state = state
        self._shared = shared
        self._head = head
        self._renamed = renamed
        card = card_of(file)
        self._config: Mapping[str, Any] = card.get("config") or {}
        self._others = _trained_for_others(card, shape)
        self._before: dict[str, Tensor] = {}

    def check_attention(self, network: nn.Module) -> None:
        """Checks that `network`, as the library makes it, gets the attention with which its layers were trained.

        Whether the file has the layers of this network, and not of another one, is seen from their shapes, since
        attention changes their names.

        Raises:
            ConfigError: attention was added to the network of the file, and none or another is to be added to this one.
        """
        shared = self._shared
        attention = (self._config.get("backbone") or {}).get("attention", shared.attention)
        if attention in ("none", shared.attention) or shared.weights_partial:
            return
        left_out = tuple(f"{name}." for name in (self._head, first_convolution(network)[0]) if name)
        own = {name: shape for name, shape in _shapes(network.state_dict()).items() if not name.startswith(left_out)}
        if not Counter(own.values()) - Counter(_shapes(self._below(_BODY)).values()):
            raise ConfigError(
                f"expected backbone.attention={attention}, with which the weights of {shared.weights} were trained, "
                f"got {shared.attention}; set backbone.attention={attention}"
            )

    def is_for(self, network: nn.Module) -> bool:
        """Returns whether `network`, as the library makes it, has all names of the file: no attention was added."""
        return set(self._found(network, _BODY).state) <= set(network.state_dict())

    def load_body(self, network: nn.Module) -> None:
        """Loads the body into the library's network, which has its first convolution and its last layer already.

        Raises:
            ConfigError: the layers differ.
        """
        self._load(network, self._found(network, _BODY))
        self._before = dict(network.state_dict(keep_vars=True))

    def load_rest(self, backbone: Backbone) -> None:
        """Loads the body of the clinical photographs, and each part after the bodies that is the same in the file.

        A second body that the file does not have starts as the first one. A part is new if its shape differs, if it was
        trained for other classes or other columns of metadata, or if a part whose output it reads is new.

        Raises:
            ConfigError: the layers of the second body differ.
        """
        second = backbone.clinical_body
        clinical = self._below(_CLINICAL)
        if second is not None and clinical:
            found = self._found(second.network, _CLINICAL, self._moved(backbone.body.network))
            self._load(second.network, found)
        kept: list[str] = []
        new: list[str] = []
        left = ["clinical_body"] if clinical and second is None else []
        same = True
        for name in _AFTER_THE_BODIES:
            part, given = getattr(backbone, name), self._below(f"{name}.")
            expected = {} if part is None else part.state_dict()
            same = same and _shapes(given) == _shapes(expected) and name not in self._others
            if same and part is not None:
                part.load_state_dict(given)
            if expected:
                (kept if same else new).append(name)
            if given and not same:
                why = f"; {self._others[name]}" if name in self._others else ""
                left.append(f"{name} ({len(given)}{why})")
        log.info(
            "layers after the body: of the file: %s; new: %s; in the file and not used: %s",
            *(", ".join(names) or "none" for names in (kept, new, left)),
        )

    def _found(self, network: nn.Module, place: str, moved: Mapping[str, str] | None = None) -> Found:
        """Returns the tensors below `place` for `network`, as they are if all of them fit, else read by its library.

        The head, and what was added since the names of the file were `moved`, stays as it is.
        """
        expected = network.state_dict()
        later = set(expected) - set(moved.values()) if moved else set()
        is_head = {name: bool(self._head) and name.startswith(f"{self._head}.") for name in expected}
        state = {name: tensor for name, tensor in expected.items() if is_head[name] or name in later}
        state |= {(moved or {}).get(name, name): tensor for name, tensor in self._below(place).items()}
        path, convolution = first_convolution(network)
        first = state.get(f"{path}.weight")
        if convolution is not None and first is not None and first.ndim == 4 and convolution.groups == 1:
            state[f"{path}.weight"] = with_channels(first, convolution.in_channels)
        if num_fitting(state, expected) == len(state):
            return Found(state)
        return find_weights(state, expected, self._renamed)

    def _load(self, network: nn.Module, found: Found) -> None:
        shared = self._shared
        load_into(
            network, found, self._head, shared.weights, partial=shared.weights_partial, made_with=self._made_with()
        )

    def _moved(self, network: nn.Module) -> dict[str, str]:
        """Returns the names that the loaded weights have in `network` since attention was added to it."""
        names = {id(tensor): name for name, tensor in network.state_dict(keep_vars=True).items()}
        return {name: names[id(tensor)] for name, tensor in self._before.items() if id(tensor) in names}

    def _below(self, place: str) -> dict[str, Tensor]:
        return {name.removeprefix(place): tensor for name, tensor in self._state.items() if name.startswith(place)}

    def _made_with(self) -> str:
        """Returns the overrides that choose the network and the size of the file's run, for messages."""
        node = self._config.get("backbone") or {}
        target = str(node.get("_target_", ""))
        option = target.removeprefix(_SHIPPED).partition(".")[0]
        chosen = {"backbone": option} if target.startswith(_SHIPPED) else {}
        chosen |= {f"backbone.{key}": value for key, value in node.items() if key not in SHARED_KEYS and key[0] != "_"}
        chosen |= {"backbone.attention": node["attention"]} if node.get("attention", "none") != "none" else {}
        chosen |= {key: self._config[key] for key in ("image_size",) if key in self._config}
        words = shell_words(f"{key}={_in_hydra(value)}" for key, value in chosen.items())
        own = f"your option with _target_ {target}" if target and not target.startswith(_SHIPPED) else ""
        found = ", ".join(filter(None, (own, words)))
        return f" ({found})" if found else ""


def _trained_for_others(card: Mapping[str, Any], shape: InputsAndOutputs) -> dict[str, str]:
    """Returns the parts in a file with this `card` that were not trained for what `shape` says, with the reason."""
    others: dict[str, str] = {}
    classes, metadata = tuple(map(str, card.get("classes") or ())), card.get("metadata")
    if classes and shape.classes and classes != shape.classes:
        ours = ", ".join(shape.classes)
        others["head"] = f"its classes are {', '.join(classes)} and those of this run are {ours}"
    if metadata and shape.metadata and metadata != shape.metadata:
        others |= dict.fromkeys(("gate", "embedding"), "its sexes and sites are not those of this run")
    backbone = (card.get("config") or {}).get("backbone") or {}
    if gives_class_token(backbone) and not card.get(CLASS_TOKEN):
        why = "an earlier version trained it with the mean over the patches"
        others = dict.fromkeys(("gate", "head"), why) | others
    return others


def _shapes(state: State) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}


def _in_hydra(value: Any) -> str:
    """Returns `value` as it is written in an override."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_in_hydra(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_in_hydra, value)) + "]"
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        return value
    return json.dumps(value, ensure_ascii=False)
