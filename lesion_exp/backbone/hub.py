"""Weights of the Hugging Face hub (`backbone.weights=hub:OWNER/NAME@REVISION`), which are loaded and not passed on."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from lesion_exp.backbone.shards import INDEX
from lesion_exp.errors import ConfigError, first_cases, not_installed

HUB: Final = "hub:"
NOT_STATED: Final = "not stated"
"""The licence of weights whose source names none."""
_SPEC: Final = re.compile(r"hub:(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?(:(?P<file>[\w./-]+))?")
_PATTERNS: Final = ("*.json", "*.safetensors", "*.bin", "*.pth", "*.pt", "README.md", "LICENSE*")
"""The files that are fetched: weights, descriptions of the preprocessing, and the licence, but no code."""
_USUAL: Final = (
    "model.safetensors", "open_clip_model.safetensors", "open_clip_pytorch_model.bin", "pytorch_model.bin",
    "model.safetensors.index.json", "pytorch_model.bin.index.json",
)  # fmt: skip
"""Files of weights in the order in which they are looked for."""
_WEIGHTS: Final = (".safetensors", ".bin", ".pth", ".pt", INDEX)


@dataclass(frozen=True)
class HubWeights:
    """Weights of the hub on this machine.

    Args:
        spec: their name with the commit that was fetched: `hub:OWNER/NAME@COMMIT` or `hub:OWNER/NAME@COMMIT:FILE`.
        file: the file of the weights; the other files of the model lie beside it.
        licence: the licence that the model card states.
    """

    spec: str
    file: Path
    licence: str


def hub_weights(weights: str) -> HubWeights:
    """Returns the weights that `weights` names, from the cache of huggingface_hub or fetched now.

    Raises:
        ConfigError: `weights` is no such name, huggingface_hub is not installed, the weights cannot be fetched, or it
            is not clear which file they are.
    """
    match = _SPEC.fullmatch(weights)
    if match is None:
        raise ConfigError(
            f"expected backbone.weights=hub:OWNER/NAME@REVISION, with :FILE if there are several, got {weights!r}; for "
            f"example backbone.weights=hub:timm/resnet18.a1_in1k"
        )
    folder = _fetched(match["name"], match["revision"])
    file = _weights_in(folder, match["file"], weights)
    commit = folder.name if re.fullmatch(r"[0-9a-f]{40}", folder.name) else match["revision"] or ""
    spec = HUB + match["name"] + (f"@{commit}" if commit else "") + (f":{match['file']}" if match["file"] else "")
    return HubWeights(spec, file, licence_in(folder))


def _fetched(name: str, revision: str | None) -> Path:
    try:
        hub: Any = importlib.import_module("huggingface_hub")
    except ModuleNotFoundError as error:
        raise not_installed("huggingface_hub", "backbone.weights=hub:") from error
    try:
        return Path(hub.snapshot_download(name, revision=revision, allow_patterns=list(_PATTERNS)))
    except Exception as error:  # the hub's client raises whatever the network provokes
        pinned = f" --revision {revision}" if revision else ""
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"expected the weights {name} of the Hugging Face hub, but they cannot be fetched: {reason}; fetch them "
            f"where there is a network with: hf download {name}{pinned} --local-dir DIR, and give their file: "
            f"backbone.weights=DIR/model.safetensors"
        ) from error


def _weights_in(folder: Path, file: str | None, weights: str) -> Path:
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.name.endswith(_WEIGHTS))
    if file is not None:
        if file not in found:
            raise ConfigError(
                f"expected one of the files of weights after the last colon of {weights}, got {file}; choose one of:\n"
                f"{first_cases(found, 8)}"
            )
        return folder / file
    usual = [name for name in _USUAL if name in found]
    if usual or len(found) == 1:
        return folder / [*usual, *found][0]
    raise ConfigError(
        f"expected one file of weights in {weights}, got {len(found)}; name one with {weights}:FILE:\n"
        f"{first_cases(found, 8)}"
    )


def licence_in(folder: Path) -> str:
    """Returns the licence that the front matter of the model card in `folder` states, `NOT_STATED` if there is none."""
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    if text.startswith("---"):
        try:
            head = yaml.safe_load(text.split("---", 2)[1])
        except yaml.YAMLError:
            head = None
        if isinstance(head, dict) and head.get("license"):
            name = head.get("license_name")
            return str(name if head["license"] == "other" and name else head["license"])
    return NOT_STATED
