"""The meaning of file names: whether a file is an image or a mask, and which names mean the same image.

Masks and superpixels are recognised by their names (`X_segmentation.png`, `X_mask.png`, `X_superpixels.png`) or by
their folders (`GroundTruth`, `masks`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable
from typing import Final

import pandas as pd

from lesion_exp.archive import SEPARATOR, ZIP
from lesion_exp.file_kind import IMAGE_SUFFIXES

DOWNSAMPLED: Final = "_downsampled"
"""The end of 2,074 names of ISIC 2019. In copies, the files or one of the tables may lack it."""
NAME_SUFFIXES: Final = frozenset({*IMAGE_SUFFIXES, ".dcm"})
"""Endings of files that are not part of an image's name."""
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
"""The end of a mask's name, if there is also an image with the rest of the name, and the file is not a JPEG file (a
`wound_lesion.jpg` is a photograph)."""
JPEG_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".jpe", ".jfif"})
"""Endings of photographs; masks are rarely saved with lossy compression."""
_MASK_FOLDER: Final = re.compile(rf"(?:^|[_\-. ])(?:{_MASKS}|gt|segs?)(?:$|[_\-. \d])", re.IGNORECASE)
_BOTH: Final = re.compile(
    r"[_\-. ](?:and|with)[_\-. ]|[&+]|^(?:images|imgs|photos|pictures|input)[_\-. ]", re.IGNORECASE
)
"""Part of the name of a folder that contains both images and masks."""
_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


def clean_name(name: object) -> str:
    """Returns `name` as a text in the Unicode normal form NFC, without outer blanks, with slashes between folders."""
    text = str(name)
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return text.strip("\ufeff\u200b \t\r\n\xa0").replace("\\", "/").removeprefix("./")


def without_suffix(name: str) -> str:
    """Returns `name` without the ending of an image file, in upper or lower case. Other endings stay (`case.7`)."""
    stem, dot, ending = name.rpartition(".")
    return stem.rstrip() if stem and f"{dot}{ending.lower()}" in NAME_SUFFIXES else name


def image_key(name: object) -> str:
    """Returns a key that all names of one image share: `ISIC_1.JPG`, ` isic_1` and `ISIC_1_downsampled`."""
    return without_suffix(clean_name(name)).casefold().removesuffix(DOWNSAMPLED)


def plain_ids(names: pd.Series) -> pd.Series:
    """Returns the names of images without file endings and outer blanks; missing values stay missing."""
    return names.map(lambda name: without_suffix(clean_name(name)), na_action="ignore")


def is_image(locator: str) -> bool:
    """Whether the file has the ending of an image."""
    return suffix_of(locator) in IMAGE_SUFFIXES


def suffix_of(locator: str) -> str:
    """Returns the ending of a file's name in lower case, with its dot; empty if there is none."""
    return _parted(locator)[1].lower()


def stem_of(path: str) -> str:
    """Returns a file's name without its folders and its ending."""
    return _parted(path)[0]


def _parted(path: str) -> tuple[str, str]:
    """The stem and the ending of the name of a file, as pathlib has them; data sets have 100,000s of files."""
    name = path.rpartition("/")[2]
    dot = name.rfind(".")
    return (name[:dot], name[dot:]) if 0 < dot < len(name) - 1 else (name, "")


def mask_of(path: str, stems: Collection[str] = ()) -> str | None:
    """Returns the name of the image that a mask belongs to, or None if the file is not a mask by its name.

    Args:
        path: path of the file below the data set's root.
        stems: names of all images, without endings and case-folded.
    """
    *folders, name = path.replace(SEPARATOR, "/").split("/")
    stem = stem_of(name)
    if found := _MASK_PREFIX.search(stem):
        return stem[found.end() :]
    if found := _MASK_NAME.search(stem):
        return stem[: found.start()] or (folders[-1] if folders else stem)
    found = _MASK_BESIDE_IMAGE.search(stem)
    if found and suffix_of(name) not in JPEG_SUFFIXES and stem[: found.start()].casefold() in stems:
        return stem[: found.start()]
    return stem if any(map(_is_mask_folder, folders)) else None


def asks_for_masks(pattern: str) -> bool:
    """Whether a pattern of file names is one of masks, such as `*_mask.png` or `GroundTruth/*`."""
    return any(mask_of(re.sub(r"[*?]", put, pattern), stems=("x",)) is not None for put in ("x", ""))


def split_masks(paths: Iterable[str]) -> tuple[list[str], list[str]]:
    """Returns the images and the masks among the files at `paths`, which begin below the data set's root."""
    images = [path for path in paths if is_image(path)]
    stems = {stem_of(path).casefold() for path in images}
    masks = [path for path in images if mask_of(path, stems) is not None]
    found = set(masks)
    return [path for path in images if path not in found], masks


def _is_mask_folder(folder: str) -> bool:
    words = _CAMEL.sub("_", folder[: -len(ZIP)] if folder.lower().endswith(ZIP) else folder)
    return _MASK_FOLDER.search(words) is not None and not _BOTH.search(words)
