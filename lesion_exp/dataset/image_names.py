"""What the name of a file tells: whether it is an image or a mask, and which image a name in a table means.

Masks and superpixels are told by their names (`X_segmentation.png`, `X_mask.png`, `X_superpixels.png`) or by the
folders that they lie in (`GroundTruth`, `masks`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable
from pathlib import PurePosixPath
from typing import Final

import pandas as pd

from lesion_exp.archive import SEPARATOR, ZIP
from lesion_exp.file_kind import IMAGE_SUFFIXES

DOWNSAMPLED: Final = "_downsampled"
"""ISIC 2019 has it at the end of 2,074 names; copies leave it out of the files or of one of the tables."""
NAME_SUFFIXES: Final = frozenset({*IMAGE_SUFFIXES, ".dcm"})
"""Endings that belong to a file and not to the name of its image."""
_MASKS: Final = (
    r"(?:binary[_\- ]?)?(?:masks?|masken?|masques?|m[aá]scaras?|mascher[ae]|segmentations?|segmentierung(?:en)?"
    r"|superpixels?|ground[_\- ]?truth)"
)
_MASK_NAME: Final = re.compile(
    rf"(?:^|[_\-. ]){_MASKS}(?:[_\- ]?\d+)?$|[_\-. ]attribute[_\-]\w+$|[_\-. ]r\d+[_\-]label\w*$", re.IGNORECASE
)
_MASK_PREFIX: Final = re.compile(rf"^{_MASKS}[_\-. ]", re.IGNORECASE)
_MASK_BESIDE_IMAGE: Final = re.compile(
    r"(?:[_\-. ](?:lesion|seg|gt|contours?|labels?|binary|bw|annotations?)|[_\-. ]?(?:mask|segmentation|seg))$",
    re.IGNORECASE,
)
"""The end of a mask's name where the image of the remaining name is there as well, and the file is no JPEG: a
`wound_lesion.jpg` is a photograph."""
JPEG_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".jpe", ".jfif"})
"""Endings of photographs: masks are rarely saved with loss."""
_MASK_FOLDER: Final = re.compile(rf"(?:^|[_\-. ])(?:{_MASKS}|gt|segs?)(?:$|[_\-. \d])", re.IGNORECASE)
_BOTH: Final = re.compile(
    r"[_\-. ](?:and|with)[_\-. ]|[&+]|^(?:images|imgs|photos|pictures|input)[_\-. ]", re.IGNORECASE
)
"""In the name of a folder that holds images as well."""
_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


def clean_name(name: object) -> str:
    """`name` as text in Unicode's composed form, without outer blanks, with slashes between folders."""
    text = unicodedata.normalize("NFC", str(name)).strip("\ufeff\u200b \t\r\n\xa0").replace("\\", "/")
    return text.removeprefix("./")


def without_suffix(name: str) -> str:
    """`name` without the ending of an image file, whatever its case; other endings stay (`case.7`)."""
    stem, dot, ending = name.rpartition(".")
    return stem.rstrip() if stem and f"{dot}{ending.lower()}" in NAME_SUFFIXES else name


def image_key(name: object) -> str:
    """What names of one image have in common: `ISIC_1.JPG`, ` isic_1` and `ISIC_1_downsampled` have the same key."""
    return without_suffix(clean_name(name)).casefold().removesuffix(DOWNSAMPLED)


def plain_ids(names: pd.Series) -> pd.Series:
    """Names of images without the endings of files and outer blanks; missing ones stay missing."""
    return names.map(lambda name: without_suffix(clean_name(name)), na_action="ignore")


def is_image(locator: str) -> bool:
    """Whether the file is an image by its ending."""
    return suffix_of(locator) in IMAGE_SUFFIXES


def suffix_of(locator: str) -> str:
    """The ending of a file's name, in lower case, with its dot; empty where it has none."""
    return PurePosixPath(locator).suffix.lower()


def mask_of(path: str, stems: Collection[str] = ()) -> str | None:
    """The name of the image that the mask or superpixels at `path` belong to; None where it is no mask by its name.

    `path` begins below the data set's root. `stems` are the names without ending, case-folded, of all images.
    """
    *folders, name = path.replace(SEPARATOR, "/").split("/")
    stem = PurePosixPath(name).stem
    if found := _MASK_PREFIX.search(stem):
        return stem[found.end() :]
    if found := _MASK_NAME.search(stem):
        return stem[: found.start()] or (folders[-1] if folders else stem)
    found = _MASK_BESIDE_IMAGE.search(stem)
    if found and suffix_of(name) not in JPEG_SUFFIXES and stem[: found.start()].casefold() in stems:
        return stem[: found.start()]
    return stem if any(map(_is_mask_folder, folders)) else None


def asks_for_masks(pattern: str) -> bool:
    """Whether a pattern of file names asks for masks by name, such as `*_mask.png` or `GroundTruth/*`."""
    return any(mask_of(re.sub(r"[*?]", put, pattern), stems=("x",)) is not None for put in ("x", ""))


def split_masks(paths: Iterable[str]) -> tuple[list[str], list[str]]:
    """The images among the files at `paths`, which begin below the data set's root, and the masks among them."""
    pictures = [path for path in paths if is_image(path)]
    stems = {PurePosixPath(path).stem.casefold() for path in pictures}
    marks = [mask_of(path, stems) is not None for path in pictures]
    images = [path for path, mask in zip(pictures, marks, strict=True) if not mask]
    return images, [path for path, mask in zip(pictures, marks, strict=True) if mask]


def _is_mask_folder(folder: str) -> bool:
    words = _CAMEL.sub("_", folder[: -len(ZIP)] if folder.lower().endswith(ZIP) else folder)
    return _MASK_FOLDER.search(words) is not None and not _BOTH.search(words)
