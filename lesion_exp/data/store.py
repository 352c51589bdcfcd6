"""The image store: every image of a table decoded once, at one size, in one memory-mapped file.

Layout of a folder: `pixels.bin` (uint8, images one after the other), `masks.bin` and `clinical.bin` where they were
asked for, `index.parquet` (a row an image: offset, height, width, content hash, perceptual hash, thumbnail, error) and
`meta.json`, which is written last: a folder without it is not a store.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lesion_exp.archive import file_of
from lesion_exp.data.lock import file_lock
from lesion_exp.data.store_builder import VERSION, StoreRequest, build_store, channels_of, companion_column
from lesion_exp.errors import DataError
from lesion_exp.image_file import UInt8Array


class ImageStore:
    """Read access to a built store; cheap to open, shared between processes by the page cache.

    Raises:
        DataError: the folder is no complete store.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            meta = json.loads((folder / "meta.json").read_text())
            extents = [f"{plane}_{what}" for plane in meta["bytes"] for what in ("offset", "height", "width")]
            index = pd.read_parquet(folder / "index.parquet", columns=["image_id", "error", *extents])
        except (OSError, ValueError) as error:
            raise DataError(f"expected an image store in {folder}, but it is incomplete: {error}") from error
        sizes = {plane: (folder / f"{plane}.bin").stat().st_size for plane in meta["bytes"]}
        if meta["version"] != VERSION or sizes != meta["bytes"] or len(index) != meta["images"]:
            raise DataError(
                f"expected the image store in {folder} as it was written, but it differs; delete that folder"
            )
        failed = index.dropna(subset="error")
        self.errors = dict(zip(failed["image_id"].astype(str), failed["error"].astype(str), strict=True))
        """Why an image could not be decoded, by image id."""
        self.image_ids = pd.Index(index["image_id"])
        self._shapes = {p: index[[f"{p}_offset", f"{p}_height", f"{p}_width"]].to_numpy(np.int64) for p in sizes}
        self._mapped: dict[str, npt.NDArray[np.uint8]] = {}

    def rows(self, image_ids: pd.Series) -> npt.NDArray[np.int64]:
        """The rows of `image_ids` in this store, for `read`.

        Raises:
            DataError: one of them is not in it.
        """
        rows = self.image_ids.get_indexer(pd.Index(image_ids))
        if (rows < 0).any():
            raise DataError(
                f"expected images of the store in {self.folder}, got {image_ids[rows < 0].iloc[0]}; delete that folder"
            )
        return np.asarray(rows, dtype=np.int64)

    def extent(self, rows: npt.NDArray[np.int64]) -> tuple[int, int]:
        """Height and width in pixels that hold each of the images at `rows`."""
        height, width = self._shapes["pixels"][rows, 1:].max(axis=0)
        return int(height), int(width)

    def fingerprints(self, image_ids: pd.Series) -> pd.DataFrame:
        """A row for each of `image_ids`: `sha256` of the file, and `phash` and `thumbnail` as `fingerprint` makes them.

        They are read from the disk anew: what only reads pixels, such as a loader's process, need not hold them.
        """
        columns = pd.read_parquet(self.folder / "index.parquet", columns=["sha256", "phash", "thumbnail"])
        return columns.iloc[self.rows(image_ids)].reset_index(drop=True)

    def companion_hashes(self, image_ids: pd.Series) -> pd.DataFrame:
        """The SHA-256 of the files beside each of `image_ids`, a column for each plane but that of the images."""
        planes = {companion_column(plane): plane for plane in self._shapes if plane != "pixels"}
        columns = pd.read_parquet(self.folder / "index.parquet", columns=["image_id", *planes])
        return columns.iloc[self.rows(image_ids)].reset_index(drop=True)[list(planes)].rename(columns=planes)

    def read(self, row: int, plane: str = "pixels") -> UInt8Array:
        """A view of the stored image, uint8 (H, W, 3) RGB; for `masks` uint8 (H, W) of 0 or 255."""
        offset, height, width = self._shapes[plane][row]
        channels = channels_of(plane)
        flat = self._plane(plane)[offset : offset + height * width * channels]
        return flat.reshape((height, width) if channels == 1 else (height, width, channels))

    def _plane(self, plane: str) -> npt.NDArray[np.uint8]:
        if plane not in self._mapped:
            path = self.folder / f"{plane}.bin"
            empty = path.stat().st_size == 0
            self._mapped[plane] = np.zeros(0, np.uint8) if empty else _mapping(path)
        return self._mapped[plane]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": {}}  # a mapping is reopened in the worker, not copied to it


def _mapping(path: Path) -> npt.NDArray[np.uint8]:
    return np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)  # a memmap is slow to slice


def open_or_build(
    table: pd.DataFrame,
    request: StoreRequest,
    cache_dir: Path,
    progress: Callable[[int, int], None] | None = None,
) -> ImageStore:
    """The store of `table`'s images under `cache_dir`, built if it is not there; `progress` receives (done, total)."""
    cache_dir.mkdir(parents=True, exist_ok=True)
    folder = cache_dir / f"store_{_key(table, request)}"
    with file_lock(cache_dir / f"{folder.name}.lock"):
        if not (folder / "meta.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
            building = cache_dir / f"building_{folder.name}"  # stays if this process dies, and is gone on with
            build_store(table, request, building, progress)
            building.replace(folder)
    return ImageStore(folder)


def is_built(table: pd.DataFrame, request: StoreRequest, cache_dir: Path) -> bool:
    """Whether `open_or_build` would find the store of these images as they are now, and decode nothing."""
    return (cache_dir / f"store_{_key(table, request)}" / "meta.json").exists()


def _key(table: pd.DataFrame, request: StoreRequest) -> str:
    digest = hashlib.sha256(f"{VERSION} {request}".encode())
    columns = ["image_path"]
    if request.masks:
        columns.append("mask_path")
    if request.clinical:
        columns.append("clinical_path")
    stamps: dict[str, str] = {}
    for row in table[["image_id", *columns]].itertuples(index=False):
        digest.update(str(row[0]).encode())
        for locator in row[1:]:
            digest.update(f"|{locator}|{_stamp(locator, stamps)}".encode())
    return digest.hexdigest()[:16]


def _stamp(locator: str | None, known: dict[str, str]) -> str:
    """Size and time of change of the file that holds the image: a changed file is decoded again."""
    if not isinstance(locator, str):  # None, or NaN where pandas made a text column of it
        return "none"
    path = file_of(locator)
    if path not in known:
        try:
            status = os.stat(path)  # noqa: PTH116 - one call for 400,000 files
            known[path] = f"{status.st_size}.{status.st_mtime_ns}"
        except OSError:
            known[path] = "absent"
    return known[path]
