"""The meaning of file names: whether a file is an image or a mask. `image_ids` says which names mean the same image.

Masks and superpixels are recognised by their names (`X_segmentation.png`, `X_mask.png`, `X_superpixels.png`) or by
their folders (`GroundTruth`, `masks`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final

from lesion_exp.archive import SEPARATOR, ZIP
from lesion_exp.file_kind import IMAGE_SUFFIXES

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


def is_image(locator: str) -> bool:
    """Returns whether the file has the ending of an image."""
    return suffix_of(locator) in IMAGE_SUFFIXES


def suffix_of(locator: str) -> str:
    """Returns the ending of a file's name in lower case, with its dot; empty if there is none."""
    return _parted(locator)[1].lower()


def stem_of(path: str) -> str:
    """Returns a file's name without its folders and its ending."""
    return _parted(path)[0]


def _parted(path: str) -> tuple[str, str]:
    """Returns the stem and the ending of the name of a file, as pathlib has them; data sets have 100,000s of files."""
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
    """Returns whether a pattern of file names is one of masks, such as `*_mask.png` or `GroundTruth/*`."""
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
