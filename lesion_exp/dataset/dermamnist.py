"""Reads DermaMNIST: HAM10000 scaled to small squares, in one npz file, with an official split."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from lesion_exp.archive import SEPARATOR, file_of, split_locator
from lesion_exp.dataset import ham10000
from lesion_exp.dataset.source_files import SourceFiles
from lesion_exp.dataset.table import OFFICIAL_PARTS, DatasetInfo, map_labels, standardize
from lesion_exp.errors import ConfigError, DataError

CLASSES: Final = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
"""The class of each number in the file. The order is not that of the ISIC challenges."""
SIZES: Final = (28, 64, 128, 224)
"""Published sides of the images in pixels."""
PARTS: Final = ("train", "val", "test")

INFO: Final = DatasetInfo(
    name="dermamnist",
    title="DermaMNIST",
    view="dermoscopic",
    citation=(
        "Yang et al., MedMNIST v2, Scientific Data 10:41 (2023); Tschandl, Rosendahl and Kittler, Scientific Data "
        "5:180161 (2018)"
    ),
    licence="CC BY-NC 4.0",
    where="https://medmnist.com: dermamnist.npz (28 px), dermamnist_64.npz, dermamnist_128.npz or dermamnist_224.npz",
    published_counts=ham10000.INFO.published_counts,
)


def read_dermamnist(root: str, size: int | None = None, ignore: Sequence[str] = ()) -> pd.DataFrame:
    """Returns the table of DermaMNIST.

    `official_split` is the part. The file has no lesion ids, and 641 lesions have images both in `train` and in `test`,
    so metrics on the official split are too optimistic.

    Args:
        root: folder with the npz file.
        size: side of the images in pixels, 28, 64, 128 or 224; None: the largest that exists.
        ignore: patterns of files that are not read.

    Raises:
        DataError: the file is missing or is not in the published format.
        ConfigError: the size was not published.
    """
    if size is not None and (isinstance(size, bool) or size not in SIZES):
        raise ConfigError(f"expected dataset.size to be one of {', '.join(map(str, SIZES))} or null, got {size!r}")
    path = _choose(SourceFiles(root, INFO.title, ignore), size)
    frame = pd.concat([_read_part(path, part) for part in PARTS], ignore_index=True)
    codes = {str(number): code for number, code in enumerate(CLASSES)}
    return standardize(map_labels(frame, "number", codes).drop(columns="number"), INFO.name)


def _choose(files: SourceFiles, size: int | None) -> str:
    """Returns the path of the npz file of `size` pixels, or of the largest; `dermamnist.npz` is that of 28 pixels."""
    sizes = SIZES if size is None else (size,)
    names = ["dermamnist.npz" if side == 28 else f"dermamnist_{side}.npz" for side in sorted(sizes, reverse=True)]
    path = files.require(*names)
    if split_locator(path)[0]:
        raise DataError(
            f"expected {Path(path).name} unpacked below {files.root}, got it inside a zip; unzip {file_of(path)}"
        )
    return path


def _read_part(path: str, part: str) -> pd.DataFrame:
    try:
        with zipfile.ZipFile(path) as archive:
            num_images = _shape(archive, f"{part}_images")[0]
        with np.load(path, allow_pickle=False) as arrays:
            labels: npt.NDArray[np.integer] = np.asarray(arrays[f"{part}_labels"])
    except (
        LookupError,
        ValueError,
        TypeError,
        OSError,
        EOFError,
        MemoryError,
        RuntimeError,
        zipfile.BadZipFile,
    ) as error:
        raise DataError(
            f"expected {part}_images and {part}_labels in {path}, but they cannot be read: {error}; download it again"
        ) from error
    if labels.shape not in {(num_images, 1), (num_images,)}:
        raise DataError(
            f"expected one label for each of the {num_images} images of {part} in {path}, got labels of shape "
            f"{labels.shape}; download the file again"
        )
    numbers = range(num_images)
    return pd.DataFrame(
        {
            "image_id": [f"dermamnist_{part}_{number:05d}" for number in numbers],
            "image_path": [f"{path}{SEPARATOR}{part}_images/{number}" for number in numbers],
            "number": labels.reshape(-1).astype(str),
            "official_split": OFFICIAL_PARTS[part],
        }
    )


def _shape(archive: zipfile.ZipFile, key: str) -> tuple[int, ...]:
    """Returns the shape of an array from its header, without reading the pixels, which may be gigabytes."""
    with archive.open(f"{key}.npy") as member:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, _ = read(member)
    return tuple(int(length) for length in shape)
