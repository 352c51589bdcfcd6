"""The card in a file of weights of this project, which names its run. Cards of safetensors are read without torch."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open

log = logging.getLogger(__name__)


def card_of(file: Path) -> Mapping[str, Any]:
    """Returns the card in a checkpoint or a safetensors file of this project; empty for other files."""
    try:
        if file.suffix == ".safetensors":
            with safe_open(str(file), framework="np") as opened:
                return dict(json.loads((opened.metadata() or {}).get("lesion_exp", "{}")))
        import torch  # only for checkpoints, because verbs that read tables alone call this function as well

        loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # a broken file, or one of an old format; reading its weights raises the error
        log.debug("%s has no card that can be read", file, exc_info=True)
        return {}
    found = loaded.get("lesion_exp") if isinstance(loaded, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def run_of_weights(file: Path) -> str | None:
    """Returns the id of the run that made a file of weights; None for other files."""
    run_id = card_of(file).get("run_id") if file.is_file() else None
    return str(run_id) if run_id else None
