"""Finds the image file of each row of a table, and counts the rows without a file and the files without a row."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

import pandas as pd

from lesion_exp.archive import SEPARATOR
from lesion_exp.cores import usable_cores
from lesion_exp.dataset.findings import record_finding
from lesion_exp.dataset.image_names import JPEG_SUFFIXES, asks_for_masks, mask_of, stem_of
from lesion_exp.dataset.path_patterns import as_override, fits, ignore_example, pattern_for
from lesion_exp.dataset.source_files import OTHER_ARCHIVES, SourceFiles, distinct
from lesion_exp.errors import DataError, first_cases
from lesion_exp.image_ids import clean_name, image_key, without_suffix

LEAST_SHARE: Final = 0.5
"""Share of the rows that must have a file, or else of the files that must have a row. Below both shares, the table and
the files do not belong together."""
_SHOWN_NAMES: Final = 3
IMAGES: Final = "image files"
"""The name in messages of the files without which a data set cannot be used, unlike masks."""

Find = Callable[[str], list[str]]
"""A function from a name in a table to the locators of the files that it may mean."""


class ImageNames:
    """Finds files by the names that tables give them: with or without folder and ending, in upper or lower case.

    Args:
        paths: pairs of a path, with slashes, and its locator.
    """

    def __init__(self, paths: Iterable[tuple[str, str]]) -> None:
        self._by_key: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
        for path, locator in paths:
            folder, _, name = clean_name(path.replace(SEPARATOR, "/")).rpartition("/")
            self._by_key[image_key(name)].append((folder, name, locator))

    def find(self, given: str) -> list[str]:
        """Returns the files whose names are most similar to `given`; those with the very name if there are any."""
        folder, _, name = clean_name(given).rpartition("/")
        close = self._by_key.get(image_key(name), [])
        if folder:
            close = [each for each in close if f"/{each[0]}".casefold().endswith(f"/{folder}".casefold())]
        best = min((_distance(name, other) for _, other, _ in close), default=0)
        return [locator for _, other, locator in close if _distance(name, other) == best]


def _distance(given: str, name: str) -> int:
    """Returns how different two names with the same `image_key` are, 0 (equal) to 3; `name` has an ending."""
    if given == name:
        return 0
    stem, bare = stem_of(name), without_suffix(given)
    return 1 if stem in {given, bare} else 2 if bare.casefold() == stem.casefold() else 3


@dataclass(frozen=True)
class Choice:
    """The files that may be images of a data set, and how the user can change the choice."""

    images: str = "*"
    """The pattern that image files match."""
    key: str = ""
    """The config key of that pattern, if the data set has one."""
    remedy: str = ""
    """The advice in messages if the names do not match, apart from setting dataset.root."""


DEFAULT: Final = Choice()


def images_among(files: SourceFiles, choice: Choice = DEFAULT) -> list[str]:
    """Returns the image files that `choice` allows. Masks are among them only if its pattern names masks."""
    asked = asks_for_masks(choice.images)
    unread = [each for each in files.masks if each not in files.read_masks]
    if unread and not asked:
        record_finding(
            f"{len(unread):,} files of {files.name} count as masks or superpixels by their names or folders, and "
            f"not as images",
            map(files.shorten, unread),
        )
    pool = [*files.images, *(files.masks if asked else [])]
    return pool if choice.images == "*" else [each for each in pool if fits(files.shorten(each), choice.images)]


def locate_images(
    ids: pd.Series, files: SourceFiles, choice: Choice = DEFAULT, others: Sequence[pd.Series] = ()
) -> pd.Series:
    """Returns the locator of each row's image file, None if there is none; see `locate_files`.

    Args:
        ids: names of images; missing if a row has none.
        files: the files of the data set.
        choice: which files may be images.
        others: further columns that name images, whose files do not count as files without a row.

    Raises:
        DataError: as for `locate_files`.
    """
    pool = images_among(files, choice)
    names = ImageNames((files.shorten(locator), locator) for locator in pool)
    claimed = {locator for column in others for name in column.dropna() for locator in names.find(str(name))}
    return locate_files(ids, names.find, [each for each in pool if each not in claimed], files, choice)


def locate_beside(names: pd.Series, files: SourceFiles, what: str) -> pd.Series:
    """Returns the locator of each row's second photograph, None if there is none.

    Args:
        names: names of images; missing if a row has none.
        files: the files of the data set.
        what: what messages call the photographs.

    Raises:
        DataError: a name means several files that differ.
    """
    known = ImageNames((files.shorten(locator), locator) for locator in files.images)
    return _located(names, known.find, [], files, DEFAULT, what)


def locate_masks(ids: pd.Series, files: SourceFiles, ending: str = "") -> pd.Series:
    """Returns the locator of each row's mask, None if there is none.

    It has to be called before `locate_images`, which records how many files that look like masks are not read.

    Args:
        ids: names of images.
        files: the files of the data set.
        ending: the end of the masks' names (`_segmentation`), for data sets with several kinds of masks. If no file has
            this ending, all masks are used.

    Raises:
        DataError: a name means several masks that differ.
    """
    masks = [each for each in files.masks if stem_of(each).lower().endswith(ending)] or files.masks
    names = ImageNames((mask_of(files.shorten(each), _EVERYTHING) or "", each) for each in masks)
    files.read_masks.update(locator for name in ids.dropna() for locator in names.find(str(name)))
    return _located(ids, names.find, masks, files, DEFAULT, "masks", optional=True)


def locate_files(
    ids: pd.Series, find: Find, pool: Sequence[str], files: SourceFiles, choice: Choice, what: str = IMAGES
) -> pd.Series:
    """Returns the locator of each row's file, None if there is none, and records how many rows and files are unmatched.

    Args:
        ids: names of images; missing if a row has none.
        find: a function from a name to the files that it may mean.
        pool: the files that should have a row.
        files: the files of the data set.
        choice: the advice for messages.
        what: what messages call the files.

    Raises:
        DataError: a name means several files that differ; or no row has a file; or less than half of the rows and less
            than half of the files have a match.
    """
    if what == IMAGES:
        files.record_left_out()
    return _located(ids, find, pool, files, choice, what)


class _Everything(frozenset[str]):
    """The set of all names."""

    def __contains__(self, name: object) -> bool:
        return True


_EVERYTHING: Final = _Everything()


def _located(
    ids: pd.Series,
    find: Find,
    pool: Sequence[str],
    files: SourceFiles,
    choice: Choice,
    what: str,
    *,
    optional: bool = False,
) -> pd.Series:
    given = [None if pd.isna(name) or not clean_name(name) else clean_name(name) for name in ids]
    found = [[] if name is None else find(name) for name in given]
    located = choose_one(given, found, files, choice)
    used = {locator for several in found for locator in several}
    unclaimed = [locator for locator in pool if locator not in used]
    if what == IMAGES:
        _check_enough(given, located, pool, unclaimed, files, choice)
        _warn_of_shared_files(given, located, files)
    if pool or not optional:
        _record_counts(what, given, located, unclaimed, files)
    return pd.Series(located, index=ids.index, dtype=object)


def choose_one(
    given: Sequence[str | None], found: Sequence[list[str]], files: SourceFiles, choice: Choice
) -> list[str | None]:
    """Returns one file for each name, None if there is none. Of copies with the same content, the first is returned.

    Args:
        given: the names.
        found: the files that each name may mean.
        files: the files of the data set.
        choice: the advice for messages.

    Raises:
        DataError: a name means several files that differ.
    """
    with ThreadPoolExecutor(usable_cores()) as pool:  # copies are compared by their bytes
        several = [each for each in found if len(each) > 1]
        compared = iter(pool.map(distinct, several))
        different = [next(compared) if len(each) > 1 else each for each in found]
    unclear = [(name, each) for name, each in zip(given, different, strict=True) if len(each) > 1]
    if unclear:
        cases = [f"{name}: {', '.join(map(files.shorten, each))}" for name, each in unclear]
        remedy = _how_to_choose(_usual_first(unclear[0][1], found), files, choice)
        raise DataError(
            f"expected one file for each image name of {files.name}, but {len(unclear):,} of {len(given):,} names fit "
            f"several files that differ:\n{first_cases(cases)}\n{remedy}"
        )
    if several:
        record_finding(f"{len(several):,} files of {files.name} have copies with the same content; one of each is read")
    return [each[0] if each else None for each in different]


def _usual_first(locators: Sequence[str], found: Sequence[list[str]]) -> list[str]:
    """Sorts `locators` by the number of images in the same folder and format, JPEG first among equals."""
    usual = Counter(map(_place, (locator for several in found for locator in several)))
    return sorted(locators, key=lambda locator: (-usual[_place(locator)], _place(locator)[1] not in JPEG_SUFFIXES))


def _place(locator: str) -> tuple[str, str]:
    return locator.rpartition("/")[0], PurePosixPath(locator).suffix.lower()


def _how_to_choose(locators: Sequence[str], files: SourceFiles, choice: Choice) -> str:
    paths = [files.shorten(locator) for locator in locators]
    ways = [as_override(choice.key, pattern_for(paths[0], *paths[1:]))] if choice.key else []
    if ignoring := ignore_example(paths):
        ways.append(ignoring)
    return f"choose the files, for example with {' or '.join(ways)}" if ways else "give each file a different name"


def _check_enough(
    given: Sequence[str | None],
    located: Sequence[str | None],
    pool: Sequence[str],
    unclaimed: Collection[str],
    files: SourceFiles,
    choice: Choice,
) -> None:
    packed = [path for path in map(files.shorten, files.locators) if path.lower().endswith(OTHER_ARCHIVES)]
    if not pool and not packed:
        return  # `loading` refuses a table without any image
    num_found = sum(locator is not None for locator in located)
    num_claimed = len(pool) - len(unclaimed)
    if num_found >= LEAST_SHARE * len(given) or (num_found and num_claimed >= LEAST_SHARE * len(pool)):
        return
    rows = ", ".join(repr(name) for name in given[:_SHOWN_NAMES])
    there = ", ".join(files.shorten(locator) for locator in pool[:_SHOWN_NAMES])
    masks = f" (beside {len(files.masks):,} masks)" if files.masks else ""
    if packed:
        remedy = f"unpack {', '.join(packed[:3])} (only zips are read as they are)"
    else:
        remedy = "set dataset.root=DIR to the folder that holds the images too, zipped or unpacked"
    raise DataError(
        f"expected the image files of {len(given):,} rows of {files.name} below {files.root}, but {num_found:,} are "
        f"there: the rows name {rows}, the {len(pool):,} image files{masks} are {there or 'none'}; "
        f"{choice.remedy + ', or ' if choice.remedy and pool else ''}{remedy}"
    )


def _warn_of_shared_files(given: Sequence[str | None], located: Sequence[str | None], files: SourceFiles) -> None:
    """Warns about rows that spell the name of one file differently, since its photograph counts twice."""
    by_file: dict[str, dict[str, None]] = defaultdict(dict)
    for name, locator in zip(given, located, strict=True):
        if name is not None and locator is not None:
            by_file[locator][name] = None
    cases = [f"{', '.join(names)}: {files.shorten(file)}" for file, names in by_file.items() if len(names) > 1]
    if cases:
        record_finding(
            f"{len(cases):,} image files of {files.name} are named by several rows, which spell the name differently; "
            f"each of these rows counts as an image: keep one row for each file in the table",
            cases,
            level="warning",
        )


def _record_counts(
    what: str,
    given: Sequence[str | None],
    located: Sequence[str | None],
    unclaimed: Sequence[str],
    files: SourceFiles,
) -> None:
    missing = [
        "(a row without a name)" if name is None else name
        for name, locator in zip(given, located, strict=True)
        if locator is None
    ]
    text = f"{what} of {files.name}: {len(given) - len(missing):,} of {len(given):,} rows have a file"
    if unclaimed:
        text += f", {len(unclaimed):,} {'file belongs' if len(unclaimed) == 1 else 'files belong'} to no row"
    cases = [f"no file: {name}" for name in missing[:3]] + [f"no row: {files.shorten(each)}" for each in unclaimed[:2]]
    record_finding(text, cases, "warning" if missing else "info")
