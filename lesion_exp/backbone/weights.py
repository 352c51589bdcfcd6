"""Finds and reads files of pretrained weights, and loads them into a network."""

from __future__ import annotations

import logging
import os
import socket
import urllib.error
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lesion_exp.backbone.foreign_weights import Found, stands_beside
from lesion_exp.backbone.lora import merged_state
from lesion_exp.backbone.options import meant_weights, shared_options
from lesion_exp.backbone.preprocessing import Preprocessing, said_by_card
from lesion_exp.backbone.shards import INDEX, shards_of
from lesion_exp.errors import ConfigError, first_cases

log = logging.getLogger(__name__)

FOLDER_VARIABLE: Final = "LESION_EXP_WEIGHTS"
DOWNLOAD_SECONDS: Final = 10.0
_PREFIXES: Final = ("module.", "_orig_mod.")
_OWN_PREFIX: Final = "backbone."
_OWN_BODY: Final = "backbone.body.network."
"""Names in every checkpoint of this project begin with it; other libraries have names below `backbone.head.`, too."""
_COMPUTED: Final = ("num_batches_tracked", "relative_position_index")
"""Buffers that a network computes itself: files may lack them."""
_CONTAINERS: Final = ("state_dict", "model", "model_state_dict", "module")
"""Keys of checkpoints that contain the weights."""


def imagenet_file(url: str) -> Path:
    """Returns the file of ImageNet weights at `url`: placed by the user, cached by torch hub, or downloaded now.

    Raises:
        ConfigError: the file is in none of these places; the message says which file to place where.
    """
    name = url.rpartition("/")[2]
    hub = Path(torch.hub.get_dir()) / "checkpoints"
    folders = [Path(os.environ[FOLDER_VARIABLE])] if FOLDER_VARIABLE in os.environ else []
    for folder in [*folders, hub]:
        if (folder / name).is_file():
            return folder / name
    before = socket.getdefaulttimeout()
    try:
        socket.setdefaulttimeout(DOWNLOAD_SECONDS)
        hub.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(hub / name), progress=False)
    except (OSError, urllib.error.URLError) as error:
        raise ConfigError(
            f"expected the ImageNet weights {name}, but they are not on this machine and cannot be fetched ({error}); "
            f"download {url} on a machine with a network and place it in {hub}, or in the folder that the environment "
            f"variable {FOLDER_VARIABLE} names"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
    return hub / name


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Returns the tensors of a file of weights.

    The file is a state_dict, a checkpoint that contains one, a safetensors file, or the index of several files. Only
    tensors are read, never code (`weights_only`). Prefixes of wrappers are removed, and LoRA of a checkpoint of this
    project is merged into its weights.

    Raises:
        ConfigError: there is no such file, or it contains something else.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(
            f"expected backbone.weights to be none, imagenet or a file, but there is no file at "
            f"{path}{meant_weights(str(path)) or '; correct the path'}"
        )
    if file.name.endswith(INDEX):
        return {name: tensor for part in shards_of(file) for name, tensor in read_state(part).items()}
    from pytorch_lightning.utilities.parsing import AttributeDict

    try:
        if file.suffix == ".safetensors":
            loaded: Any = load_file(str(file))
        else:
            with torch.serialization.safe_globals([Namespace, AttributeDict]):  # mere containers of numbers and texts
                loaded = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise whatever a broken or foreign file provokes
        raise ConfigError(
            f"expected a file of tensors at {file}, but it cannot be read: {error}; save the weights alone with "
            f"torch.save(network.state_dict(), FILE), and give that file"
        ) from error
    card = loaded.get("lesion_exp") if isinstance(loaded, Mapping) else None
    for key in _CONTAINERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
            break
    state = dict(_tensors(loaded)) if isinstance(loaded, Mapping) else {}
    if not state:
        raise ConfigError(
            f"expected a state_dict (names and tensors) in {file}, got {type(loaded).__name__}; save the weights alone "
            f"with torch.save(network.state_dict(), FILE), and give that file"
        )
    if isinstance(card, Mapping) and isinstance(card.get("config"), Mapping):
        state = merged_state(state, shared_options(card["config"]["backbone"]).lora.scaling)
    return {_without_wrappers(key): value for key, value in state.items()}


def _tensors(loaded: Mapping[Any, Any]) -> Iterator[tuple[str, Tensor]]:
    """Yields the tensors of a state_dict, or of the state_dicts of several networks with their keys as prefixes."""
    if all(isinstance(value, Tensor) for value in loaded.values()):
        yield from ((str(key), value) for key, value in loaded.items())
        return
    for key, value in loaded.items():
        if isinstance(value, Mapping) and value and all(isinstance(inner, Tensor) for inner in value.values()):
            yield from ((f"{key}.{name}", tensor) for name, tensor in value.items())


def said_by_checkpoint(file: Path) -> Preprocessing | None:
    """Returns the preprocessing in the card of a checkpoint of this project; None for other files."""
    if file.suffix == ".safetensors":
        return None
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # a broken file, or one of an old format; reading its weights raises the error
        log.debug("%s has no card that can be read", file, exc_info=True)
        return None
    return said_by_card(loaded.get("lesion_exp")) if isinstance(loaded, Mapping) else None


def own_state(state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Returns the backbone's part of `state` if it is a checkpoint of this project, else None."""
    if not any(key.startswith(_OWN_BODY) for key in state):
        return None
    return {key.removeprefix(_OWN_PREFIX): value for key, value in state.items() if key.startswith(_OWN_PREFIX)}


def load_into(
    network: nn.Module, found: Found, head: str, source: str, *, partial: bool = False, made_with: str = ""
) -> None:
    """Copies the `found` weights into `network`; its layer `head` stays as it is if its weights are missing or differ.

    Args:
        network: changed in place.
        found: the weights, with the names of the network.
        head: the name of its last layer.
        source: what messages call the file.
        partial: whether the layers that fit are loaded although others differ.
        made_with: what is added to the advice to choose the backbone of the file.

    Raises:
        ConfigError: other layers differ, or with `partial` no layer fits; the message names the first ones.
    """
    state, expected = found.state, network.state_dict()
    is_head = {key: bool(head) and (key == head or key.startswith(f"{head}.")) for key in {*expected, *state}}
    fits = {key: value for key, value in state.items() if key in expected and value.shape == expected[key].shape}
    body = {key for key in expected if not is_head[key] and key.rpartition(".")[2] not in _COMPUTED}
    foreign = [key for key in (*sorted(set(state) - set(expected)), *found.beside) if not is_head.get(key)]
    problems = [
        f"{key}: {tuple(state[key].shape)} in the file, {tuple(expected[key].shape)} in the network"
        for key in sorted(body & set(state) - set(fits))
    ]
    problems += [f"{key}: not in the network" for key in foreign if not stands_beside(key)]
    problems += [f"{key}: missing in the file" for key in sorted(body - set(state))]
    matched = len(body & set(fits))
    below = f" below {found.prefix.rstrip('.')}" if found.prefix else ""
    summary = f"{matched} of {len(body)} tensors of the network match by name and shape{below}"
    if problems and not (partial and matched):
        remedy = ", or take what fits with backbone.weights_partial=true" if matched else ""
        raise ConfigError(
            f"expected weights of the same architecture in {source}, but {summary}, and {len(problems)} layers "
            f"differ:\n{first_cases(problems, 8)}\nchoose the backbone that the file was made with{made_with}{remedy}"
        )
    network.load_state_dict(fits, strict=False)
    left = [*(name for name in foreign if stands_beside(name)), *(f"{copy}*" for copy in found.copies)]
    log.info("weights of %s: %s%s", source, summary, _parts_in_words("; not needed: ", left))
    if problems:
        log.warning(
            "only a part of %s was loaded; %d layers differ:\n%s", source, len(problems), first_cases(problems, 8)
        )


def _parts_in_words(start: str, names: Sequence[str]) -> str:
    """Returns a text about the tensors of a file that are not used, by the beginnings of their names."""
    counts = Counter(".".join(name.split(".")[:2]) if "." in name else name for name in names)
    shown = ", ".join(f"{part} ({count})" for part, count in counts.most_common(6))
    return f"{start}{shown}{', ...' if len(counts) > 6 else ''}" if names else ""


def _without_wrappers(key: str) -> str:
    for prefix in _PREFIXES:
        key = key.replace(prefix, "") if key.startswith(prefix) or f".{prefix}" in key else key
    return key
