"""The facts by which a plan is made: those of a data set with its split, and those of this machine."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from lesion_exp.dataset.table import UNKNOWN
from lesion_exp.image_file import file_and_image_size
from lesion_exp.split.groups import near_duplicate_pairs
from lesion_exp.training.data import SplitData

METADATA: Final = ("age", "sex", "site")
PROBE_SECONDS: Final = 1.0
"""Work by which it is measured how much of a core this process gets."""
MOST_HEADERS: Final = 100
"""Training images whose sizes are read."""


@dataclass(frozen=True)
class DataFacts:
    """The facts of a data set and its split. None of them comes from the pixels of a test image, except that the
    near-duplicates of an image are kept in its part."""

    dataset: str
    split: str
    """The option of the group `split`."""
    images: int
    lesions: int | None
    """None if no image has a lesion id."""
    patients: int | None
    counts: Mapping[str, int]
    """Images of each class in the training part."""
    groups: Mapping[str, int]
    """Groups of each class in all parts: what must stay together counts once."""
    parts: Mapping[str, int]
    """Images in the parts train, val and test."""
    width: int
    """Median of the training images, pixels, like `height`."""
    height: int
    masks: float
    """Share of the images that have a lesion mask."""
    missing: Mapping[str, float]
    """Share of the images without age, sex and site."""
    near_duplicates: int
    """Pairs of images that are nearly or exactly equal."""
    sources: Mapping[str, int]
    """Images of each source, if there are several."""
    is_split_chosen: bool = False
    """Whether the user chose the split, so that the plan keeps it."""

    @property
    def imbalance(self) -> float:
        """Training images of the largest class for one of the smallest."""
        return max(self.counts.values()) / max(min(self.counts.values()), 1)


@dataclass(frozen=True)
class Machine:
    """The device on which the trainer of the config trains."""

    device: str
    on_gpu: bool
    num_gpus: int
    precision: str
    memory: int
    """Free memory of the device in bytes; without a GPU, of the machine."""
    slowdown: float = 1.0
    """The time that work on one core takes, over the time in which that core works on it: above 1 if other programs
    use the machine."""


@dataclass(frozen=True)
class Situation:
    """Everything that the rules know before a speed is measured."""

    facts: DataFacts
    machine: Machine
    has_weights: bool
    """Whether the ImageNet weights that are packages are installed."""
    reading: float
    """Seconds in which the table is read and split."""
    budget: float
    """Seconds for the whole training."""


def data_facts(config: Mapping[str, Any], split: SplitData, option: str, *, is_split_chosen: bool = False) -> DataFacts:
    """Returns the facts of the data set that `config` (of a whole job) names, split by an `option` of `split`."""
    table = split.table
    train = table[table["split"] == "train"]
    images = table.drop_duplicates("image_id")
    sizes = _sizes(train["image_path"])
    parts = table["split"].value_counts()
    return DataFacts(
        dataset=str(config["dataset"]["name"]),
        split=option,
        images=len(images),
        lesions=_named(images, "lesion_id"),
        patients=_named(images, "patient_id"),
        counts={name: int((train["label"] == name).sum()) for name in split.classes},
        groups={str(name): int(count) for name, count in table.groupby("label")["group"].nunique().items()},
        parts={part: int(parts.get(part, 0)) for part in ("train", "val", "test")},
        width=int(np.median(sizes[:, 0])),
        height=int(np.median(sizes[:, 1])),
        masks=float(images["mask_path"].notna().mean()),
        missing={name: float((images[name].isna() | (images[name] == UNKNOWN)).mean()) for name in METADATA},
        near_duplicates=len(near_duplicate_pairs(images, config["split"]["near_duplicate_threshold"])),
        sources=_sources(images),
        is_split_chosen=is_split_chosen,
    )


def this_machine(trainer: Mapping[str, Any]) -> Machine:
    """Returns the device of this machine on which the node `trainer` of a config trains."""
    import psutil
    import torch

    from lesion_exp.model.precision import has_gpu, resolve_precision

    slowdown = _slowdown()
    on_gpu = has_gpu(trainer["accelerator"])
    precision = resolve_precision(trainer["precision"], trainer["accelerator"])
    if on_gpu:
        name, count, (free, _) = torch.cuda.get_device_name(0), torch.cuda.device_count(), torch.cuda.mem_get_info(0)
        return Machine(name, True, count, precision, free, slowdown)
    threads = torch.get_num_threads()
    device = f"CPU with {threads} thread{'' if threads == 1 else 's'}"
    return Machine(device, False, 0, precision, psutil.virtual_memory().available, slowdown)


def _slowdown() -> float:
    wall, own = time.monotonic(), time.thread_time()
    while time.thread_time() - own < PROBE_SECONDS:
        sum(range(10_000))
    return max((time.monotonic() - wall) / (time.thread_time() - own), 1.0)


def _sizes(locators: pd.Series) -> np.ndarray:
    """Width and height in pixels, int64 (N, 2), of at most `MOST_HEADERS` images, evenly drawn from the table."""
    chosen = np.unique(np.linspace(0, len(locators) - 1, MOST_HEADERS).astype(int))
    return np.array([file_and_image_size(locators.iloc[position])[1:] for position in chosen])


def _named(images: pd.DataFrame, column: str) -> int | None:
    return int(images[column].nunique()) or None


def _sources(images: pd.DataFrame) -> dict[str, int]:
    counts = images["source"].value_counts()
    return {str(name): int(count) for name, count in counts.items()} if len(counts) > 1 else {}
