"""A network as one file that holds no code: its weights in safetensors, its card in the header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lesion_exp.errors import DataError
from lesion_exp.model.model_card import Card

CARD_KEY: Final = "lesion_exp"
"""Of the header's metadata: the card as JSON."""
_FORMAT: Final = {"format": "pt"}


def write_weights(path: Path, weights: Mapping[str, Tensor], card: Card) -> None:
    """Writes `weights` (named as in a checkpoint, so that `backbone.weights=` takes the file, too) with `card`."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    save_file(tensors, str(path), metadata={**_FORMAT, CARD_KEY: json.dumps(card)})


def read_weights(path: Path) -> tuple[dict[str, Tensor], Card]:
    """The weights and the card that `write_weights` wrote.

    Raises:
        DataError: another file, or a damaged one.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            text = (file.metadata() or {}).get(CARD_KEY)
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (OSError, SafetensorError) as error:
        raise DataError(f"expected weights of lesion-exp train in safetensors at {path}, but: {error}") from error
    if text is None:
        raise DataError(
            f"expected safetensors with the card of a network of lesion-exp train at {path}, got weights without one"
        )
    card: Card = json.loads(text)
    return weights, card
