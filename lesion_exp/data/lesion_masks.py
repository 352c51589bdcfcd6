"""The masks of a table's lesions: which of them fit their images, and what should be looked at."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import pandas as pd

from lesion_exp.cores import usable_cores
from lesion_exp.dataset.findings import record_finding
from lesion_exp.errors import DataError, first_cases
from lesion_exp.image_file import (
    check_mask,
    file_and_image_size,
    have_same_proportions,
    orientation_of,
    read_bytes,
    read_mask,
)
from lesion_exp.progress import Stage

if TYPE_CHECKING:
    from lesion_exp.data.store import ImageStore

log = logging.getLogger(__name__)

_LOOK: Final = "look at them with lesion-exp preview and dataset.mask=overlay"
_MIRRORED_OR_UPSIDE_DOWN: Final = frozenset({2, 3, 4})
"""EXIF orientations that leave the proportions of an image as they are."""


class Squash(NamedTuple):
    """The sizes of images and masks of different proportions, each width and height in pixels."""

    images: tuple[int, int]
    masks: tuple[int, int]

    def to_dict(self) -> dict[str, list[int]]:
        """Returns plain values, for `from_dict`."""
        return {name: list(size) for name, size in self._asdict().items()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Sequence[int]]) -> Squash:
        """Returns the sizes that `to_dict` wrote."""
        (width, height), (mask_width, mask_height) = plain["images"], plain["masks"]
        return cls((width, height), (mask_width, mask_height))

    @classmethod
    def of_files(cls, image_path: str, mask_path: str) -> Squash:
        """Returns the sizes of an image and its mask, from the headers of their files.

        Raises:
            DataError: a file cannot be read.
        """
        return cls(file_and_image_size(image_path)[1:], file_and_image_size(mask_path)[1:])

    def in_words(self) -> str:
        """Returns what is assumed of the masks, and what to look at."""
        (width, height), (mask_width, mask_height) = self
        return (
            f"all images have {width} x {height} pixels, and all masks {mask_width} x {mask_height}, which are other "
            f"proportions. The images are taken for squashed copies, and the masks are squashed alike; if the images "
            f"were cropped, crop the masks too, and {_LOOK}"
        )


def squash_of(table: pd.DataFrame) -> Squash | None:
    """Returns the sizes of images and masks if the images are squashed copies of those on which the masks were drawn.

    All images then have one size, and all masks another, whose proportions are neither those of the images nor those of
    images that are turned by 90 degrees. Files that cannot be read do not count. Returns None for other data sets.

    Args:
        table: rows with `image_path` and `mask_path`.
    """
    found: Squash | None = None
    for image, mask in table[["image_path", "mask_path"]].dropna().itertuples(index=False, name=None):
        try:
            sizes = Squash.of_files(image, mask)
        except DataError:
            continue
        fits = any(have_same_proportions(sizes.images, each) for each in (sizes.masks, sizes.masks[::-1]))
        if fits or found not in (None, sizes):
            return None
        found = sizes
    return found


def may_be_turned(encoded: bytes, mask_path: str, shape: tuple[int, int]) -> bool:
    """Returns whether EXIF turns a photograph but not its mask, in a way that their proportions do not show.

    Args:
        encoded: the bytes of the photograph.
        mask_path: the locator of the mask, which fits the photograph.
        shape: height and width of the photograph.
    """
    orientation = orientation_of(encoded)
    if orientation == 1 or orientation_of(read_bytes(mask_path)) == orientation:
        return False
    return orientation in _MIRRORED_OR_UPSIDE_DOWN or have_same_proportions(shape, shape[::-1])


def record_mask_findings(table: pd.DataFrame, store: ImageStore) -> None:
    """Records findings about the masks in `store` that a person should look at: those that were stretched, and those
    of photographs that EXIF turns.
    """
    if store.squash is not None:
        record_finding(store.squash.in_words(), level="warning")
    turned = table.loc[table["image_id"].isin(store.turned_images()), "image_id"]
    if len(turned):
        record_finding(
            f"photographs that their EXIF orientation turns, with masks that are not turned: {len(turned):,}. The "
            f"masks are right if they were drawn on the turned photographs; {_LOOK}",
            turned,
            level="warning",
        )


class UsableMasks(NamedTuple):
    """The lesion masks that fit their images. Read them with `any_proportions`, since the images may be squashed."""

    places: Mapping[str, str]
    """The locators of the masks by image id."""
    notes: tuple[str, ...] = ()
    """What is assumed of the masks, in sentences without full stops."""


def usable_masks(rows: pd.DataFrame, store: ImageStore, table: pd.DataFrame) -> UsableMasks:
    """Returns the lesion masks of `rows` that fit their images.

    Masks that cannot be read, fit no image or have no lesion are left out, and a warning counts and names them. Another
    warning says if the images are taken for squashed copies, which depends on all images of the data set, unless that
    of the store was given already.

    Args:
        rows: the rows of the images, with `mask_path` if the data set has masks.
        store: the decoded images.
        table: the rows of all images of the data set.
    """
    if "mask_path" not in rows or rows["mask_path"].isna().all():
        return UsableMasks({})
    masked = rows[rows["mask_path"].notna()].drop_duplicates("image_id")
    squash = store.squash
    if squash is None:  # else `record_mask_findings` has said it
        squash = squash_of(table)
        if squash is not None:
            record_finding(squash.in_words(), level="warning")
    names, places = masked["image_id"].astype(str).tolist(), masked["mask_path"].tolist()

    def fault_of(mask_path: str, row: np.int64) -> str:
        try:
            shape = store.extent(np.array([row]))
            check_mask(read_mask(mask_path, shape, any_proportions=squash is not None), mask_path)
        except DataError as error:
            return str(error)
        return ""

    faults: list[str] = []
    with (
        Stage("reading", len(names), "lesion masks", announced=False) as stage,
        ThreadPoolExecutor(usable_cores()) as pool,
    ):
        for fault in pool.map(fault_of, places, store.rows(masked["image_id"])):
            faults.append(fault)
            stage.advance()
    cases = [f"{name}: {fault}" for name, fault in zip(names, faults, strict=True) if fault]
    if cases:
        log.warning(
            "%s of %s lesion masks cannot be used, so their images count as images without a mask:\n%s",
            f"{len(cases):,}",
            f"{len(names):,}",
            first_cases(cases),
        )
    usable = {name: place for name, place, fault in zip(names, places, faults, strict=True) if not fault}
    return UsableMasks(usable, () if squash is None else (squash.in_words(),))
