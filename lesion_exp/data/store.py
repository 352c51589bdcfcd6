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
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from lesion_exp.data.lock import file_lock
from lesion_exp.errors import DataError
from lesion_exp.fingerprint import fingerprint
from lesion_exp.image_file import SEPARATOR, UInt8Array, content_hash, decode, fit, read_bytes, read_image, read_mask

VERSION: Final = 1
WINDOW: Final = 512
"""Images that are decoded ahead of the writer: bounds the memory of building a store."""
PLANES: Final = ("pixels", "masks", "clinical")


@dataclass(frozen=True)
class StoreRequest:
    """What a store has to hold: the short side in pixels, and which pictures beside the image itself."""

    short_side: int
    masks: bool = False
    clinical: bool = False


@dataclass(frozen=True)
class _Entry:
    planes: dict[str, UInt8Array]
    sha256: str
    phash: int
    thumbnail: bytes
    error: str | None


class ImageStore:
    """Read access to a built store; cheap to open, shared between processes by the page cache.

    Raises:
        DataError: the folder is no complete store.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            meta = json.loads((folder / "meta.json").read_text())
            index = pd.read_parquet(folder / "index.parquet")
        except (OSError, ValueError) as error:
            raise DataError(f"expected an image store in {folder}, but it is incomplete: {error}") from error
        sizes = {plane: (folder / f"{plane}.bin").stat().st_size for plane in meta["bytes"]}
        if meta["version"] != VERSION or sizes != meta["bytes"] or len(index) != meta["images"]:
            raise DataError(
                f"expected the image store in {folder} as it was written, but it differs; delete that folder"
            )
        self.index = index.set_index("image_id")
        self._rows = {image_id: row for row, image_id in enumerate(index["image_id"])}
        self._shapes = {p: index[[f"{p}_offset", f"{p}_height", f"{p}_width"]].to_numpy(np.int64) for p in sizes}
        self._mapped: dict[str, npt.NDArray[np.uint8]] = {}

    @property
    def errors(self) -> dict[str, str]:
        """Why an image could not be decoded, by image id."""
        failed = self.index["error"].dropna()
        return {str(key): str(reason) for key, reason in failed.items()}

    def rows(self, image_ids: pd.Series) -> npt.NDArray[np.int64]:
        """The rows of `image_ids` in this store, for `read`."""
        return np.asarray([self._rows[key] for key in image_ids], dtype=np.int64)

    def read(self, row: int, plane: str = "pixels") -> UInt8Array:
        """A view of the stored image, uint8 (H, W, 3) RGB; for `masks` uint8 (H, W) of 0 or 255."""
        offset, height, width = self._shapes[plane][row]
        channels = 1 if plane == "masks" else 3
        flat = self._plane(plane)[offset : offset + height * width * channels]
        return flat.reshape((height, width) if channels == 1 else (height, width, channels))

    def _plane(self, plane: str) -> npt.NDArray[np.uint8]:
        if plane not in self._mapped:
            path = self.folder / f"{plane}.bin"
            empty = path.stat().st_size == 0
            self._mapped[plane] = np.zeros(0, np.uint8) if empty else np.memmap(path, dtype=np.uint8, mode="r")
        return self._mapped[plane]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": {}}  # a mapping is reopened in the worker, not copied to it


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
            building = Path(tempfile.mkdtemp(prefix="building_", dir=cache_dir))
            try:
                _build(table, request, building, progress)
                building.replace(folder)
            finally:
                shutil.rmtree(building, ignore_errors=True)
    return ImageStore(folder)


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
    path = locator.partition(SEPARATOR)[0]
    if path not in known:
        try:
            status = os.stat(path)  # noqa: PTH116 - one call for 400,000 files
            known[path] = f"{status.st_size}.{status.st_mtime_ns}"
        except OSError:
            known[path] = "absent"
    return known[path]


def _build(
    table: pd.DataFrame, request: StoreRequest, folder: Path, progress: Callable[[int, int], None] | None
) -> None:
    planes = ["pixels", *(["masks"] if request.masks else []), *(["clinical"] if request.clinical else [])]
    records: list[dict[str, Any]] = []
    with ExitStack() as stack:
        files: dict[str, IO[bytes]] = {p: stack.enter_context((folder / f"{p}.bin").open("wb")) for p in planes}
        for image_id, entry in zip(table["image_id"], _entries(table, request), strict=True):
            record: dict[str, Any] = {
                "image_id": image_id,
                "sha256": entry.sha256,
                "phash": entry.phash,
                "thumbnail": entry.thumbnail,
                "error": entry.error,
            }
            for plane in planes:
                pixels = entry.planes.get(plane, np.zeros((0, 0, 3), np.uint8))
                record[f"{plane}_offset"] = files[plane].tell()
                record[f"{plane}_height"], record[f"{plane}_width"] = pixels.shape[:2]
                files[plane].write(np.ascontiguousarray(pixels).data)
            records.append(record)
            if progress is not None:
                progress(len(records), len(table))
        sizes = {plane: file.tell() for plane, file in files.items()}
    index = pd.DataFrame.from_records(records)
    index["phash"] = index["phash"].astype(np.uint64)
    index["error"] = index["error"].astype(object)
    index.to_parquet(folder / "index.parquet", index=False)
    meta = {"version": VERSION, "images": len(records), "bytes": sizes, "short_side": request.short_side}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


def _entries(table: pd.DataFrame, request: StoreRequest) -> Iterator[_Entry]:
    """The decoded images in the table's order; Pillow, OpenCV and hashlib let threads run side by side."""
    jobs = table.reindex(columns=["image_path", "mask_path", "clinical_path"]).itertuples(index=False, name=None)
    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        waiting: list[Future[_Entry]] = [pool.submit(_decode, job, request) for job in islice(jobs, WINDOW)]
        waiting.reverse()
        while waiting:
            entry = waiting.pop().result()
            job = next(jobs, None)
            if job is not None:
                waiting.insert(0, pool.submit(_decode, job, request))
            yield entry


def _decode(locators: tuple[Any, Any, Any], request: StoreRequest) -> _Entry:
    image_path, mask_path, clinical_path = locators
    try:
        encoded = read_bytes(image_path)
        if image_path.partition(SEPARATOR)[0].endswith(".npz"):
            image = read_image(image_path)
        else:
            image = decode(encoded, name=image_path)
        phash, thumbnail = fingerprint(image)  # before scaling: the split must not depend on the image size
        pixels = fit(image, request.short_side)
        planes = {"pixels": pixels}
        if request.masks:
            if mask_path is None or pd.isna(mask_path):
                raise DataError("it has no lesion mask, which dataset.mask needs")
            planes["masks"] = read_mask(mask_path, (pixels.shape[0], pixels.shape[1]))
        if request.clinical:
            if clinical_path is None or pd.isna(clinical_path):
                raise DataError("it has no clinical photograph, which dataset.view=both needs")
            planes["clinical"] = read_image(clinical_path, request.short_side)
    except DataError as error:
        return _Entry({}, "", 0, b"", str(error))
    return _Entry(planes, content_hash(encoded), phash, thumbnail, None)
