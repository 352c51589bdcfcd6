"""What a job's config says of the inputs of its network: how images are stored and how they become samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from lesion_exp.data.store_builder import StoreRequest
from lesion_exp.errors import ConfigError

if TYPE_CHECKING:  # imports torch, which most verbs that read a table do not need
    from lesion_exp.data.lesion_dataset import SampleOptions

SAMPLE_KEYS: Final = frozenset({"mask", "mask_margin", "view", "store_size"})
FROM_FILES: Final = "none"
"""The value of `dataset.store_size` with which photographs stay in their files."""
STORE_HEADROOM: Final = 1.25
"""Ratio of the stored short side to `image_size`, so that crops of the augmentation still have enough pixels."""


def sample_options(config: Mapping[str, Any]) -> SampleOptions:
    """How `config` (of a whole job) makes a sample from a stored image.

    Raises:
        ConfigError: masks are asked for with clinical photographs, which have none.
    """
    from lesion_exp.data.lesion_dataset import SampleOptions

    node = config["dataset"]
    clinical = node["view"] == "both"
    if node["view"] != "dermoscopic" and node["mask"] != "none":
        raise ConfigError(
            f"expected dataset.mask=none with dataset.view={node['view']}, got {node['mask']}: "
            f"lesion masks are drawn on dermoscopic images"
        )
    return SampleOptions(node["mask"], node["mask_margin"], clinical, config["seed"])


def store_request(config: Mapping[str, Any]) -> StoreRequest:
    """Returns what the image store has to contain for `config` (of a whole job)."""
    node = config["dataset"]
    size = node["store_size"]
    short_side = round(config["image_size"] * STORE_HEADROOM) if size in {"auto", FROM_FILES} else int(size)
    return StoreRequest(
        short_side, masks=node["mask"] != "none", clinical=node["view"] == "both", from_files=size == FROM_FILES
    )
