"""Where pretrained weights come from, and how they are fitted into a network."""

from __future__ import annotations

import logging
import os
import socket
import urllib.error
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lesion_exp.backbone.preprocessing import Preprocessing, said_by_card
from lesion_exp.errors import ConfigError, first_cases

log = logging.getLogger(__name__)

FOLDER_VARIABLE: Final = "LESION_EXP_WEIGHTS"
DOWNLOAD_SECONDS: Final = 10.0
_PREFIXES: Final = ("module.", "_orig_mod.")
_OWN_PREFIX: Final = "backbone."


def imagenet_file(url: str) -> Path:
    """The file of ImageNet weights that `url` names: placed by the user, cached by torch hub, or downloaded now.

    Raises:
        ConfigError: it is in none of these places; the message says which file to place where.
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
            f"download {name} on a machine with a network and place it in {hub}, or in the folder that the environment "
            f"variable {FOLDER_VARIABLE} names"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
    return hub / name


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a weights file: a plain state_dict, a checkpoint that holds one, or safetensors.

    Only tensors are read, never code (`weights_only`). Prefixes of wrappers are taken off.

    Raises:
        ConfigError: there is no such file, or it holds something else.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(f"expected backbone.weights to be none, imagenet or a file, got {path}; no file is there")
    try:
        if file.suffix == ".safetensors":
            loaded: Any = load_file(str(file))
        else:
            loaded = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise whatever a broken or foreign file provokes
        raise ConfigError(f"expected weights in {file}, but only tensors are read and this fails: {error}") from error
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
            break
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise ConfigError(f"expected a state_dict (names and tensors) in {file}, got {type(loaded).__name__}")
    return {_without_wrappers(str(key)): value for key, value in loaded.items()}


def said_by_checkpoint(file: Path) -> Preprocessing | None:
    """What a checkpoint of this project says its images were prepared with; None for other files."""
    if file.suffix == ".safetensors":
        return None
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # a file of an old format, or a broken one: what reads its weights says so
        log.debug("%s has no card that can be read", file, exc_info=True)
        return None
    return said_by_card(loaded.get("lesion_exp")) if isinstance(loaded, Mapping) else None


def own_state(state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """The backbone's part of `state` if it is a checkpoint of this project, else None."""
    own = {key.removeprefix(_OWN_PREFIX): value for key, value in state.items() if key.startswith(_OWN_PREFIX)}
    return own or None


def load_into(network: nn.Module, state: Mapping[str, Tensor], head: str, source: str) -> None:
    """Copies `state` into `network`; the layer `head` is left as it is where its shape differs or it is missing.

    Raises:
        ConfigError: other layers differ; the message lists the first.
    """
    expected = network.state_dict()
    is_head = {key: key == head or key.startswith(f"{head}.") for key in {*expected, *state}}
    fits = {key: value for key, value in state.items() if key in expected and value.shape == expected[key].shape}
    body = {key for key in expected if not is_head[key] and not key.endswith("num_batches_tracked")}
    problems = [f"{key}: missing in the file" for key in sorted(body - set(state))]
    problems += [
        f"{key}: {tuple(state[key].shape)} in the file, {tuple(expected[key].shape)} in the network"
        for key in sorted(body & set(state) - set(fits))
    ]
    problems += [f"{key}: not in the network" for key in sorted(set(state) - set(expected)) if not is_head[key]]
    if problems:
        raise ConfigError(
            f"expected weights of the same architecture in {source}, but {len(problems)} layers differ:\n"
            f"{first_cases(problems, 8)}\nchoose the backbone that the file was made with"
        )
    network.load_state_dict(fits, strict=False)
    if not any(is_head[key] for key in fits):
        log.info("weights of %s loaded; the head (%s) starts anew: its classes differ", source, head)


def _without_wrappers(key: str) -> str:
    for prefix in _PREFIXES:
        key = key.replace(prefix, "") if key.startswith(prefix) or f".{prefix}" in key else key
    return key
