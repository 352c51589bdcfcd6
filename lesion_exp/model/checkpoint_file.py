"""Checkpoint and weights files: integrity checks, safe reading and writing, and a hash of the weights."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lesion_exp.errors import DataError
from lesion_exp.model.model_card import Card

CARD_KEY: Final = "lesion_exp"
"""The entry of the header's metadata that contains the card as JSON."""
_FORMAT: Final = {"format": "pt"}


def is_whole(path: Path) -> bool:
    """Returns whether the checkpoint at `path` exists and every part of it has its checksum."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint of this project: tensors and plain values. No code in the file is run.

    Raises:
        DataError: the file is damaged or no checkpoint, or it contains objects that only its own code could build.
    """
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever a broken or foreign file provokes
        reason = str(error).strip().splitlines()
        named = next((line.strip() for line in reason if "GLOBAL" in line or "Unsupported" in line), "")
        raise DataError(
            f"expected a checkpoint of tensors and plain values at {path}, but it cannot be read without running code "
            f"from it: {named or (reason or [type(error).__name__])[0]}; take one that lesion-exp train saved"
        ) from error
    if not isinstance(loaded, dict) or not isinstance(loaded.get("state_dict"), dict):
        raise DataError(f"expected a checkpoint of lesion-exp train at {path}, got a file without its state_dict")
    return loaded


def portable(content: dict[str, Any]) -> dict[str, Any]:
    """Returns the `content` of a checkpoint, without the folders of this machine in the states of callbacks."""
    return {**content, "callbacks": _without_folders(content.get("callbacks", {}))}


def _without_folders(value: Any) -> Any:
    if isinstance(value, str):
        return Path(value).name if Path(value).is_absolute() else value
    if isinstance(value, dict):
        return {_without_folders(key): _without_folders(inner) for key, inner in value.items()}
    return value


def run_of_checkpoint(path: Path) -> str:
    """Returns the id of the run that saved a checkpoint.

    Raises:
        DataError: see `read_checkpoint`; or the checkpoint names no run.
    """
    card = read_checkpoint(path).get("lesion_exp")
    run_id = card.get("run_id") if isinstance(card, dict) else None
    if not isinstance(run_id, str):
        raise DataError(f"expected a checkpoint that names its run, but {path} does not; name the run: run=ID")
    return run_id


def weights_hash(path: Path) -> str:
    """Returns the `state_hash` of the weights and buffers in a checkpoint."""
    return state_hash(read_checkpoint(path)["state_dict"])


def state_hash(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 (16 digits) of weights and buffers: their names, types, shapes and bits, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()[:16]


def write_weights(path: Path, weights: Mapping[str, Tensor], card: Card) -> None:
    """Writes `weights`, named as in a checkpoint, and `card` as safetensors; `backbone.weights=` reads the file."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    save_file(tensors, str(path), metadata={**_FORMAT, CARD_KEY: json.dumps(card)})


def read_weights(path: Path) -> tuple[dict[str, Tensor], Card]:
    """Reads the weights and the card that `write_weights` wrote.

    Raises:
        DataError: the file is damaged, or `write_weights` did not write it.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            text = (file.metadata() or {}).get(CARD_KEY)
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"expected weights of lesion-exp train in safetensors at {path}, but the file cannot be read: {error}; "
            f"take checkpoints/best.safetensors of a run"
        ) from error
    if text is None:
        raise DataError(
            f"expected safetensors with the card of a network of lesion-exp train at {path}, got weights without a "
            f"card; take checkpoints/best.safetensors of a run"
        )
    card: Card = json.loads(text)
    return weights, card
