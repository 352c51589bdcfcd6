"""Features of a frozen network, computed once for each image and read from a memory-mapped file.

A folder contains `features.bin` (one row for each row of the image store, in the same order) and `meta.json`, which is
written last. The rows have the number type in which the network computed them, so that reading them changes no bit.
`tests/training/test_stored_precision.py` tests that storing two bytes per number changes the result of a probe by only
a small part of its confidence interval. A folder `building_KEY` contains an interrupted computation; its
`progress.json` states how many batches are done.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lesion_exp.choices import FLIPS8, NONE
from lesion_exp.data.lesion_dataset import LesionDataset, Sample
from lesion_exp.data.lock import file_lock
from lesion_exp.data.store import OTHER_DISK
from lesion_exp.errors import DataError, told_if_full

VERSION: Final = 1
"""Version of the layout and of the computation of the features. If it changes, features are computed again."""
_TYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_FILE, _META, _PROGRESS = "features.bin", "meta.json", "progress.json"
_SECONDS_BETWEEN: Final = 10.0
"""Seconds between two writes of the progress of a computation."""

Rows = npt.NDArray[np.int64]
Batches = Iterable[tuple[Rows, Tensor]]
"""Rows of the image store and their features, floating point (N, F)."""


class CachedFeatures:
    """Read access to the features of the images of a store.

    Raises:
        DataError: the files in the folder are missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            meta = json.loads((folder / _META).read_text(encoding="utf-8"))
            self._shape, self._type = (int(meta["rows"]), int(meta["width"])), _TYPES[meta["type"]]
            size = (folder / _FILE).stat().st_size
        except (OSError, ValueError, LookupError) as error:
            raise DataError(
                f"expected features in {folder}, but they cannot be read: {error}; delete that folder"
            ) from error
        if size != self._shape[0] * self._shape[1] * self._type.itemsize:
            raise DataError(
                f"expected the features in {folder} to be unchanged, but their size differs; delete that folder"
            )
        self._mapped: npt.NDArray[Any] | None = None

    def read(self, rows: Rows) -> Tensor:
        """Returns the features at `rows` of the image store, (N, F), in the number type of the computation."""
        if self._mapped is None:
            self._mapped = np.memmap(self.folder / _FILE, _same_size(self._type), "r", shape=self._shape)
        return torch.from_numpy(np.asarray(self._mapped[rows])).view(self._type)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": None}  # a mapping is reopened in the worker, not copied to it


@dataclass(frozen=True)
class ViewFeatures:
    """The features of every view of the images that a run reads."""

    plain: CachedFeatures
    """Of the images as evaluation shows them."""
    training: tuple[CachedFeatures, ...]
    """Of the views of which an epoch of training shows one, in their order; `plain` alone if there is one view."""
    flips: tuple[CachedFeatures, ...] = ()
    """Of the 8 flips and quarter turns, for test-time augmentation; empty if the run has no use for them."""

    def of_tta(self, tta: str) -> tuple[CachedFeatures, ...]:
        """Returns the features of the views of test-time augmentation; empty if they were not kept."""
        kept = {NONE: (self.plain,), FLIPS8: self.flips}
        return kept.get(tta, ())


class FeatureDataset(Dataset[Sample]):
    """The samples of `images`, with features instead of pixels; it reads a whole batch at once.

    Args:
        images: the images.
        views: the features of their views. In training a sample has those of the view of its epoch, (F,); otherwise
            those of all views, (V, F), or of the only one, (F,).
    """

    def __init__(self, images: LesionDataset, views: Sequence[CachedFeatures]) -> None:
        self.images = images
        self.views = tuple(views)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        return cast(Sample, {name: values[0] for name, values in self.__getitems__([key]).items()})  # type: ignore[index]

    def __getitems__(self, keys: list[tuple[int, int]]) -> Sample:
        """Returns the batch of the samples at `keys`. PyTorch's loader calls this method if a dataset has it."""
        positions = torch.tensor([position for _, position in keys])
        batch = Sample(features=self._features(keys), label=self.images.labels[positions], index=positions)
        if self.images.metadata is not None:
            batch["metadata"] = self.images.metadata[positions]
        for name, values in self.images.extras.items():
            batch[name] = values[positions]  # type: ignore[literal-required]
        return batch

    def _features(self, keys: Sequence[tuple[int, int]]) -> Tensor:
        rows = self.images.rows[[position for _, position in keys]]
        if len(self.views) == 1:
            return self.views[0].read(rows)
        if not self.images.training:
            return torch.stack([view.read(rows) for view in self.views], dim=1)
        seen = [self.images.view_at(epoch, position) for epoch, position in keys]
        shown = np.array([0 if view is None else view.number for view in seen])
        features = self.views[0].read(rows)
        for number, view in enumerate(self.views):
            features[shown == number] = view.read(rows[shown == number])
        return features


def open_or_compute(folder: Path, num_rows: int, compute: Callable[[int], Batches]) -> CachedFeatures:
    """Returns the features in `folder`; if they are missing, computes them while other processes wait.

    An interrupted computation is continued: `compute` is called with the number of batches that were written, and
    yields the batches that follow, in the same order. Rows that it leaves out (images that cannot be read) stay 0.

    Raises:
        ConfigError: the disk is full.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(folder.with_name(f"{folder.name}.lock")):
        if not (folder / _META).exists():
            shutil.rmtree(folder, ignore_errors=True)
            unfinished = folder.with_name(f"building_{folder.name}")
            unfinished.mkdir(exist_ok=True)
            with told_if_full(folder.parent, OTHER_DISK):
                _write(unfinished, num_rows, compute)
            unfinished.replace(folder)
    return CachedFeatures(folder)


def kept_features(folder: Path) -> tuple[int, int]:
    """Returns the number of computations in `folder`, interrupted ones included, and their size in bytes."""
    sizes = [file.stat().st_size for file in folder.glob(f"*/{_FILE}")]
    return len(sizes), sum(sizes)


def _write(folder: Path, num_rows: int, compute: Callable[[int], Batches]) -> None:
    mapped: npt.NDArray[Any] | None = None
    meta = _progress(folder, num_rows)
    done = int(meta["batches"]) if meta else 0
    written = time.monotonic()
    try:
        for rows, features in compute(done):
            values = features.detach().cpu().contiguous()
            if mapped is None:
                kind, width = values.dtype, values.shape[1]
                found = {"version": VERSION, "rows": num_rows, "width": width, "type": str(kind)[len("torch.") :]}
                assert not meta or found == {key: meta[key] for key in found}, "the key of the folder names its type"
                meta = found
                if not done:
                    _take_room(folder / _FILE, num_rows * width * kind.itemsize)
                mapped = np.memmap(folder / _FILE, _same_size(kind), "r+", shape=(num_rows, width))
            mapped[rows] = values.view(torch.int16 if values.dtype.itemsize == 2 else torch.int32).numpy()
            done += 1
            if time.monotonic() - written > _SECONDS_BETWEEN:
                _keep_progress(folder, mapped, {**meta, "batches": done})
                written = time.monotonic()
    except BaseException:
        if mapped is not None:
            _keep_progress(folder, mapped, {**meta, "batches": done})
        raise
    assert meta, "no image has features"
    if isinstance(mapped, np.memmap):
        mapped.flush()
    (folder / _PROGRESS).unlink(missing_ok=True)
    kept = {key: value for key, value in meta.items() if key != "batches"}
    (folder / _META).write_text(f"{json.dumps(kept)}\n", encoding="utf-8")


def _take_room(path: Path, size: int) -> None:
    """Makes a file and reserves its `size` bytes on the disk: writing a mapped page without space kills the process."""
    with path.open("wb") as file:
        file.truncate(size)
        if hasattr(os, "posix_fallocate"):  # not on macOS
            os.posix_fallocate(file.fileno(), 0, size)


def _keep_progress(folder: Path, mapped: npt.NDArray[Any], progress: Mapping[str, Any]) -> None:
    """Writes the features before the number of their batches, so that the number is never too large."""
    assert isinstance(mapped, np.memmap), "it was opened as one"
    mapped.flush()
    partial = folder / f"{_PROGRESS}.part"
    partial.write_text(json.dumps(progress), encoding="utf-8")
    partial.replace(folder / _PROGRESS)


def _progress(folder: Path, num_rows: int) -> dict[str, Any]:
    """Returns the progress of an interrupted computation; empty if there is none that can be continued."""
    try:
        found = json.loads((folder / _PROGRESS).read_text(encoding="utf-8"))
        size = num_rows * int(found["width"]) * _TYPES[found["type"]].itemsize
        fits = found["version"] == VERSION and found["rows"] == num_rows and int(found["batches"]) > 0
        return found if fits and (folder / _FILE).stat().st_size == size else {}
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def _same_size(kind: torch.dtype) -> type[np.int16] | type[np.int32]:
    """Returns the integer type of the same size, since NumPy has no bfloat16."""
    return np.int16 if kind.itemsize == 2 else np.int32
