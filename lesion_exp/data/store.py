"""The image store: all images of a table, decoded once to one size, in a memory-mapped file.

A store is a folder with `pixels.bin` (uint8, one image after the other); `masks.bin` and `clinical.bin` if they were
requested; `index.parquet` (one row per image: offset, height, width, content hash, perceptual hash, thumbnail, error);
and `meta.json`, which is written last, so that a folder without it is not a complete store. With
`dataset.store_size=none` photographs stay in their files: the index has their locators, and each reading decodes them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq

from lesion_exp.archive import file_of
from lesion_exp.data.lesion_masks import Squash
from lesion_exp.data.lock import file_lock
from lesion_exp.data.store_builder import (
    IS_TURNED,
    VERSION,
    StoreRequest,
    build_store,
    channels_of,
    companion_column,
    locator_column,
)
from lesion_exp.errors import DataError, told_if_full
from lesion_exp.image_file import UInt8Array, read_image

OTHER_DISK: Final = "set paths.data_cache=DIR to a folder on another disk"
"""What to do if the disk of the prepared data is full."""


class ImageStore:
    """Read access to a store. It opens quickly, and the page cache shares it between processes.

    Raises:
        DataError: the folder is not a complete store.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            meta = json.loads((folder / "meta.json").read_text())
            in_files = list(meta.get("in_files", []))
            planes = [*meta["bytes"], *in_files]
            extents = [f"{plane}_{what}" for plane in planes for what in ("offset", "height", "width")]
            index = pd.read_parquet(folder / "index.parquet", columns=["image_id", "error", *extents])
            places = pq.read_table(folder / "index.parquet", columns=[locator_column(plane) for plane in in_files])
            sizes = {plane: (folder / f"{plane}.bin").stat().st_size for plane in meta["bytes"]}
        except (OSError, ValueError, LookupError) as error:
            raise DataError(
                f"expected an image store in {folder}, but it is incomplete: {error}; delete that folder"
            ) from error
        if meta["version"] != VERSION or sizes != meta["bytes"] or len(index) != meta["images"]:
            raise DataError(
                f"expected the image store in {folder} to be unchanged, but its files differ; delete that folder"
            )
        failed = index.dropna(subset="error")
        self.errors = dict(zip(failed["image_id"].astype(str), failed["error"].astype(str), strict=True))
        """Image id -> why the image could not be decoded."""
        self.image_ids = pd.Index(index["image_id"])
        self._shapes = {p: index[[f"{p}_offset", f"{p}_height", f"{p}_width"]].to_numpy(np.int64) for p in planes}
        self._locators = {plane: places[locator_column(plane)].combine_chunks() for plane in in_files}
        self._short_side = int(meta["short_side"])
        self.squash = None if meta.get("squash") is None else Squash(*map(tuple, meta["squash"]))
        """The sizes of images and masks, if the images are taken for squashed copies."""
        self._mapped: dict[str, npt.NDArray[np.uint8]] = {}

    def rows(self, image_ids: pd.Series) -> npt.NDArray[np.int64]:
        """Returns the rows of `image_ids` in this store, int64 (N,), for `read`.

        Raises:
            DataError: the store does not have one of the images.
        """
        rows = self.image_ids.get_indexer(pd.Index(image_ids))
        if (rows < 0).any():
            raise DataError(
                f"expected images of the store in {self.folder}, got {image_ids[rows < 0].iloc[0]}; delete that folder"
            )
        return np.asarray(rows, dtype=np.int64)

    def extent(self, rows: npt.NDArray[np.int64]) -> tuple[int, int]:
        """Returns the greatest height and the greatest width, in pixels, of the images at `rows`."""
        height, width = self._shapes["pixels"][rows, 1:].max(axis=0)
        return int(height), int(width)

    def fingerprints(self, image_ids: pd.Series) -> pd.DataFrame:
        """Returns `sha256` of the file, `phash` and `thumbnail` (see `lesion_exp.fingerprint`) for each of `image_ids`.

        They are read from the disk on every call, so that processes that only read pixels do not need memory for them.
        """
        columns = pd.read_parquet(self.folder / "index.parquet", columns=["sha256", "phash", "thumbnail"])
        return columns.iloc[self.rows(image_ids)].reset_index(drop=True)

    def turned_images(self) -> list[str]:
        """Returns the ids of the images that EXIF turns, but not their masks, see `lesion_masks.may_be_turned`."""
        if "masks" not in self._shapes:
            return []
        index = pd.read_parquet(self.folder / "index.parquet", columns=["image_id", IS_TURNED])
        return list(map(str, index.loc[index[IS_TURNED], "image_id"]))

    @property
    def decodes(self) -> bool:
        """Whether photographs stay in their files and are decoded each time that they are read."""
        return bool(self._locators)

    def is_there(self) -> bool:
        """Returns whether the store still exists. It may be deleted at any time, and is then built again."""
        return (self.folder / "meta.json").exists()

    def companion_hashes(self, image_ids: pd.Series) -> pd.DataFrame:
        """Returns the SHA-256 of the mask and clinical photograph of each of `image_ids`, in columns named by plane."""
        planes = {companion_column(plane): plane for plane in self._shapes if plane != "pixels"}
        columns = pd.read_parquet(self.folder / "index.parquet", columns=["image_id", *planes])
        return columns.iloc[self.rows(image_ids)].reset_index(drop=True)[list(planes)].rename(columns=planes)

    def read(self, row: int, plane: str = "pixels") -> UInt8Array:
        """Returns a stored image, uint8 (H, W, 3) RGB, or for the plane `masks` uint8 (H, W) of 0 or 255.

        It is a view of the file, except for photographs that stay in their files.

        Raises:
            DataError: such a photograph cannot be decoded any more.
        """
        if plane in self._locators:
            return read_image(self._locators[plane][row].as_py(), self._short_side, reduced=True)
        offset, height, width = self._shapes[plane][row].tolist()  # numpy's integers are slow one by one
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
        return {**self.__dict__, "_mapped": {}}  # a worker opens its own mapping instead of copying this one


def _mapping(path: Path) -> npt.NDArray[np.uint8]:
    return np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)  # slices faster than a memmap


def open_or_build(
    table: pd.DataFrame,
    request: StoreRequest,
    cache_dir: Path,
    progress: Callable[[int, int], None] | None = None,
) -> ImageStore:
    """Opens the store of a table's images, and builds it first if it does not exist.

    Args:
        table: a table with the columns of `dataset.table`.
        request: what the store must contain.
        cache_dir: folder of all stores.
        progress: is called with the number of images done and in total.

    Raises:
        ConfigError: the disk is full.
    """
    cache_dir.mkdir(parents=True, exist_ok=True)
    folder = cache_dir / f"store_{_key(table, request)}"
    with file_lock(cache_dir / f"{folder.name}.lock"):
        if not (folder / "meta.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
            building = cache_dir / f"building_{folder.name}"  # the next process continues it if this one dies
            with told_if_full(cache_dir, f"{OTHER_DISK}; images that are decoded already are used"):
                build_store(table, request, building, progress)
            building.replace(folder)
    return ImageStore(folder)


def is_built(table: pd.DataFrame, request: StoreRequest, cache_dir: Path) -> bool:
    """Returns whether a store of these images in their present state exists, so that `open_or_build` decodes
    nothing.
    """
    return (cache_dir / f"store_{_key(table, request)}" / "meta.json").exists()


def _key(table: pd.DataFrame, request: StoreRequest) -> str:
    digest = hashlib.sha256(f"{VERSION} {request}{' from files' if request.from_files else ''}".encode())
    columns = ["image_path"]
    if request.masks:
        columns.append("mask_path")
        digest.update(b" checked again")  # stores of earlier versions may contain masks that were read in another way
    if request.clinical:
        columns.append("clinical_path")
    stamps: dict[str, str] = {}
    for row in table[["image_id", *columns]].itertuples(index=False):
        digest.update(str(row[0]).encode())
        for locator in row[1:]:
            digest.update(f"|{locator}|{_stamp(locator, stamps)}".encode())
    return digest.hexdigest()[:16]


def _stamp(locator: str | None, known: dict[str, str]) -> str:
    """Returns size and modification time of the file that contains the image, so that a new version is decoded."""
    if not isinstance(locator, str):  # None, or NaN in a column of texts
        return "none"
    path = file_of(locator)
    if path not in known:
        try:
            status = os.stat(path)  # noqa: PTH116 - one call for 400,000 files
            known[path] = f"{status.st_size}.{status.st_mtime_ns}"
        except OSError:
            known[path] = "absent"
    return known[path]
