"""Builds an image store: decodes every image of a table, and continues where a killed process stopped."""

from __future__ import annotations

import io
import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lesion_exp.archive import file_of
from lesion_exp.cores import usable_cores
from lesion_exp.data.lesion_masks import Squash, may_be_turned, squash_of
from lesion_exp.errors import DataError
from lesion_exp.fingerprint import fingerprint
from lesion_exp.image_file import (
    UInt8Array,
    check_mask,
    content_hash,
    decode,
    file_hash,
    fit,
    fitted_shape,
    read_bytes,
    read_image,
    read_mask,
)

VERSION: Final = 3
"""Version of the format; a store of another version is built again."""
BATCH: Final = 8
"""Images per task of a decoding thread. Tasks of a single image would spend too much time on synchronisation."""
AHEAD: Final = 4
"""Tasks per thread that may be finished before their images are written. It limits the memory."""
CHUNK: Final = 1024
"""Number of images after which the files are flushed to the disk and recorded in a note, so that an interrupted build
does not decode them again."""

IS_TURNED: Final = "is_turned"
"""Column of the index of a store with masks: whether EXIF turns the image but not its mask."""


@dataclass(frozen=True)
class StoreRequest:
    """The contents of a store."""

    short_side: int
    """Length in pixels to which the shorter side of an image is scaled down."""
    masks: bool = False
    """Whether the store has lesion masks."""
    clinical: bool = False
    """Whether the store has clinical photographs."""
    from_files: bool = field(default=False, repr=False)  # the repr is part of the names of stores
    """Whether photographs stay in their files, which are decoded each time that they are read. The store then has the
    index and lesion masks."""

    @property
    def planes(self) -> tuple[str, ...]:
        """The kinds of pictures of an image: the image itself, its lesion mask, the clinical photograph."""
        return ("pixels", *(("masks",) if self.masks else ()), *(("clinical",) if self.clinical else ()))

    @property
    def in_files(self) -> tuple[str, ...]:
        """The planes that stay in their files."""
        return tuple(plane for plane in self.planes if plane != "masks") if self.from_files else ()

    @property
    def kept(self) -> tuple[str, ...]:
        """The planes whose pixels are in the store, each in a file."""
        return tuple(plane for plane in self.planes if plane not in self.in_files)


@dataclass(frozen=True)
class _Entry:
    planes: dict[str, UInt8Array]
    """The pictures that are kept."""
    shapes: dict[str, tuple[int, int]]
    """Height and width in pixels of every picture as it is read."""
    locators: dict[str, str]
    """The places of the pictures that stay in their files."""
    sha256: str
    phash: int
    thumbnail: bytes
    companions: dict[str, str]
    """Plane -> SHA-256 of the mask or clinical photograph."""
    error: str | None
    """Why the image could not be decoded."""
    is_turned: bool = False
    """Whether EXIF turns the image but not its mask, see `may_be_turned`."""


def build_store(
    table: pd.DataFrame, request: StoreRequest, folder: Path, progress: Callable[[int, int], None] | None
) -> None:
    """Builds the store of a table's images in `folder`, and uses what an earlier call for the same table left there.

    Args:
        table: a table with the columns of `dataset.table`.
        request: what the store must contain.
        folder: the folder, created if it does not exist.
        progress: is called with the number of images done and in total.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done, ends = _trusted(folder, request)
    number = done // CHUNK
    squash = squash_of(table) if request.masks else None
    with ExitStack() as stack:
        files = {plane: stack.enter_context(_open_at(folder, plane, ends[plane])) for plane in request.kept}
        notary = stack.enter_context(ThreadPoolExecutor(max_workers=1))  # decoding does not wait for the disk
        noted: list[Future[None]] = []
        records: list[dict[str, Any]] = []
        entries = _entries(table.iloc[done:], request, squash)
        for image_id, entry in zip(table["image_id"].iloc[done:], entries, strict=True):
            records.append(_write(str(image_id), entry, files, request))
            done += 1
            if progress is not None:
                progress(done, len(table))
            if len(records) == CHUNK or done == len(table):
                noted.append(notary.submit(_note, folder, number + len(noted), records, files, request))
                records = []
        for note in noted:
            note.result()
        sizes = {plane: file.tell() for plane, file in files.items()}
    _join_notes(folder, request)
    meta = {"version": VERSION, "images": done, "bytes": sizes, "short_side": request.short_side, "squash": squash}
    if request.from_files:
        meta["in_files"] = request.in_files
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
    for path in folder.glob("note_*.parquet"):
        path.unlink()


def _trusted(folder: Path, request: StoreRequest) -> tuple[int, dict[str, int]]:
    """Returns the number of images that an earlier call recorded, and the size of each file of pixels with them.

    Notes after the first that is missing, damaged or not full are removed.
    """
    done, ends = 0, dict.fromkeys(request.kept, 0)
    for place, path in enumerate(sorted(folder.glob("note_*.parquet"))):
        try:
            note = pd.read_parquet(path)
            after = {plane: _end(note, plane) for plane in request.kept}
            whole = done == place * CHUNK and path.name == _note_name(place) and len(note) == CHUNK
            whole = whole and all((folder / f"{plane}.bin").stat().st_size >= end for plane, end in after.items())
        except (OSError, ValueError, LookupError):
            whole = False
        if whole:
            done, ends = done + CHUNK, after
        else:
            path.unlink()
    return done, ends


def _join_notes(folder: Path, request: StoreRequest) -> None:
    """Joins the notes to `index.parquet`, one after the other, so that they are never in memory together."""
    with pq.ParquetWriter(folder / "index.parquet", _schema(request)) as writer:
        for path in sorted(folder.glob("note_*.parquet")):
            writer.write_table(pq.read_table(path))


def _schema(request: StoreRequest) -> pa.Schema:
    extents = [f"{plane}_{what}" for plane in request.planes for what in ("offset", "height", "width")]
    return pa.schema(
        [
            ("image_id", pa.string()),
            ("sha256", pa.string()),
            ("phash", pa.uint64()),
            ("thumbnail", pa.binary()),
            ("error", pa.string()),
            *((companion_column(plane), pa.string()) for plane in request.planes if plane != "pixels"),
            *((extent, pa.int64()) for extent in extents),
            *((locator_column(plane), pa.string()) for plane in request.in_files),
            *(((IS_TURNED, pa.bool_()),) if request.masks else ()),
        ]
    )


def companion_column(plane: str) -> str:
    """Returns the column of a store's index with the SHA-256 of the files that `plane` was decoded from."""
    return f"{plane}_sha256"


def locator_column(plane: str) -> str:
    """Returns the column of a store's index with the locators of the files in which the pictures of `plane` stay."""
    return f"{plane}_locator"


def _open_at(folder: Path, plane: str, end: int) -> io.FileIO:
    """Opens the file of `plane` for writing at the position `end`, and truncates it there."""
    path = folder / f"{plane}.bin"
    path.touch()
    file = path.open("r+b", buffering=0)  # images are large, so a buffer would only add a copy
    file.truncate(end)
    file.seek(0, os.SEEK_END)
    return file


def _end(note: pd.DataFrame, plane: str) -> int:
    """Returns the size in bytes of the file of `plane` after the last image of `note`."""
    offset, height, width = (int(note[f"{plane}_{what}"].iloc[-1]) for what in ("offset", "height", "width"))
    return offset + height * width * channels_of(plane)


def channels_of(plane: str) -> int:
    """Returns the number of values per pixel: one for masks, three for images."""
    return 1 if plane == "masks" else 3


def _write(image_id: str, entry: _Entry, files: dict[str, io.FileIO], request: StoreRequest) -> dict[str, Any]:
    record: dict[str, Any] = {
        "image_id": image_id,
        "sha256": entry.sha256,
        "phash": entry.phash,
        "thumbnail": entry.thumbnail,
        "error": entry.error,
        **{companion_column(plane): entry.companions.get(plane, "") for plane in request.planes if plane != "pixels"},
        **{locator_column(plane): entry.locators.get(plane, "") for plane in request.in_files},
        **({IS_TURNED: entry.is_turned} if request.masks else {}),
    }
    for plane in request.planes:
        record[f"{plane}_height"], record[f"{plane}_width"] = entry.shapes.get(plane, (0, 0))
        record[f"{plane}_offset"] = files[plane].tell() if plane in files else 0
        if plane in entry.planes:
            left = np.ascontiguousarray(entry.planes[plane]).reshape(-1).data
            while left:
                left = left[files[plane].write(left) :]
    return record


def _note(
    folder: Path, number: int, records: list[dict[str, Any]], files: dict[str, io.FileIO], request: StoreRequest
) -> None:
    """Records the images of a chunk in a note. It is written atomically, after the pixels are on the disk."""
    note = pa.Table.from_pylist(records, schema=_schema(request))
    for file in files.values():
        os.fsync(file.fileno())
    unfinished = folder / "unfinished"
    pq.write_table(note, unfinished)
    unfinished.replace(folder / _note_name(number))


def _note_name(number: int) -> str:
    return f"note_{number:06d}.parquet"


def _entries(table: pd.DataFrame, request: StoreRequest, squash: Squash | None) -> Iterator[_Entry]:
    """Yields the decoded images in the table's order. Threads suffice, since the libraries release the GIL."""
    jobs = table.reindex(columns=["image_path", "mask_path", "clinical_path"]).itertuples(index=False, name=None)
    threads = usable_cores()
    with ThreadPoolExecutor(max_workers=threads) as pool:
        batches = iter(lambda: list(islice(jobs, BATCH)), [])
        waiting: deque[Future[list[_Entry]]] = deque(
            pool.submit(_decode_all, batch, request, squash) for batch in islice(batches, AHEAD * threads)
        )
        while waiting:
            entries = waiting.popleft().result()
            if (batch := next(batches, None)) is not None:
                waiting.append(pool.submit(_decode_all, batch, request, squash))
            yield from entries


def _decode_all(batch: list[tuple[Any, Any, Any]], request: StoreRequest, squash: Squash | None) -> list[_Entry]:
    return [_decode(locators, request, squash) for locators in batch]


def _decode(places: tuple[Any, Any, Any], request: StoreRequest, squash: Squash | None) -> _Entry:
    image_path, mask_path, clinical_path = places
    try:
        encoded = read_bytes(image_path)
        if file_of(image_path).lower().endswith(".npz"):
            image = read_image(image_path)
        else:
            image = decode(encoded, name=image_path)
        phash, thumbnail = fingerprint(image)  # before scaling, because the split must not depend on the image size
        shapes = {"pixels": fitted_shape(image.shape[0], image.shape[1], request.short_side)}
        locators = {"pixels": str(image_path)} if request.from_files else {}
        planes = {} if request.from_files else {"pixels": fit(image, request.short_side)}
        companions = {}
        is_turned = False
        if request.masks:
            if mask_path is None or pd.isna(mask_path):
                raise DataError("it has no lesion mask, which dataset.mask needs")
            mask = read_mask(mask_path, shapes["pixels"], any_proportions=squash is not None)
            planes["masks"] = check_mask(mask, mask_path)
            is_turned = may_be_turned(encoded, mask_path, shapes["pixels"])
            companions["masks"] = file_hash(mask_path)
            shapes["masks"] = shapes["pixels"]
        if request.clinical:
            if clinical_path is None or pd.isna(clinical_path):
                raise DataError("it has no clinical photograph, which dataset.view=both needs")
            clinical = read_image(clinical_path, request.short_side)
            shapes["clinical"] = (clinical.shape[0], clinical.shape[1])
            companions["clinical"] = file_hash(clinical_path)
            if request.from_files:
                locators["clinical"] = str(clinical_path)
            else:
                planes["clinical"] = clinical
    except DataError as error:
        return _Entry({}, {}, {}, "", 0, b"", {}, str(error))
    return _Entry(planes, shapes, locators, content_hash(encoded), phash, thumbnail, companions, None, is_turned)
