"""Features of a frozen network, computed once an image and read from a memory-mapped file.

Layout of a folder: `features.bin` (a row for each row of the image store, one after the other) and `meta.json`, which
is written last. The rows have the type in which the network computed them, so that reading them changes no bit.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lesion_exp.data.lesion_dataset import LesionDataset, Sample
from lesion_exp.data.lock import file_lock
from lesion_exp.errors import DataError

VERSION: Final = 1
"""Of the layout, and of how images become features: another one computes them anew."""
_TYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_FILE, _META = "features.bin", "meta.json"

Rows = npt.NDArray[np.int64]
Batches = Iterable[tuple[Rows, Tensor]]
"""Rows of the image store and their features, floating point (N, F)."""


class CachedFeatures:
    """Read access to the features of the images of a store.

    Raises:
        DataError: the folder does not hold them as they were written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            meta = json.loads((folder / _META).read_text(encoding="utf-8"))
            self._shape, self._type = (int(meta["rows"]), int(meta["width"])), _TYPES[meta["type"]]
            size = (folder / _FILE).stat().st_size
        except (OSError, ValueError, LookupError) as error:
            raise DataError(f"expected features in {folder}, but they cannot be read: {error}; delete it") from error
        if size != self._shape[0] * self._shape[1] * self._type.itemsize:
            raise DataError(f"expected the features in {folder} as they were written, but they differ; delete it")
        self._mapped: npt.NDArray[Any] | None = None

    def read(self, rows: Rows) -> Tensor:
        """The features at `rows` of the image store, (N, F), of the type in which they were computed."""
        if self._mapped is None:
            self._mapped = np.memmap(self.folder / _FILE, _same_size(self._type), "r", shape=self._shape)
        return torch.from_numpy(np.asarray(self._mapped[rows])).view(self._type)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": None}  # a mapping is reopened in the worker, not copied to it


class FeatureDataset(Dataset[Sample]):
    """The samples of `images` with features in the place of the pictures, a batch at a time."""

    def __init__(self, images: LesionDataset, features: CachedFeatures) -> None:
        self.images = images
        self.features = features

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        return cast(Sample, {name: values[0] for name, values in self.__getitems__([key]).items()})  # type: ignore[index]

    def __getitems__(self, keys: list[tuple[int, int]]) -> Sample:
        """The batch of the samples at `keys`; a loader asks for it where a dataset has this method."""
        positions = torch.tensor([position for _, position in keys])
        batch = Sample(
            features=self.features.read(self.images.rows[positions.numpy()]),
            label=self.images.labels[positions],
            index=positions,
        )
        if self.images.metadata is not None:
            batch["metadata"] = self.images.metadata[positions]
        return batch


def open_or_compute(folder: Path, num_rows: int, compute: Callable[[], Batches]) -> CachedFeatures:
    """The features in `folder`; where they are absent, `compute` gives them, and other processes wait.

    Rows that it leaves out, which are those of images that cannot be read, stay 0.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(folder.with_name(f"{folder.name}.lock")):
        if not (folder / _META).exists():
            unfinished = folder.with_name(f"building_{folder.name}")
            for old in (folder, unfinished):
                shutil.rmtree(old, ignore_errors=True)
            unfinished.mkdir()
            _write(unfinished, num_rows, compute())
            unfinished.replace(folder)
    return CachedFeatures(folder)


def _write(folder: Path, num_rows: int, batches: Batches) -> None:
    mapped: npt.NDArray[Any] | None = None
    meta: dict[str, Any] = {"version": VERSION, "rows": num_rows}
    for rows, features in batches:
        values = features.detach().cpu().contiguous()
        if mapped is None:
            kind, width = values.dtype, values.shape[1]
            meta |= {"width": width, "type": str(kind).removeprefix("torch.")}
            mapped = np.memmap(folder / _FILE, _same_size(kind), "w+", shape=(num_rows, width))
        mapped[rows] = values.view(torch.int16 if values.dtype.itemsize == 2 else torch.int32).numpy()
    assert isinstance(mapped, np.memmap), "no image has features"
    mapped.flush()
    (folder / _META).write_text(f"{json.dumps(meta)}\n", encoding="utf-8")


def _same_size(kind: torch.dtype) -> type[np.int16] | type[np.int32]:
    """The bits as whole numbers: numpy has no bfloat16."""
    return np.int16 if kind.itemsize == 2 else np.int32
