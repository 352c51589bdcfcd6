"""Which image file a row of a table means, with a count of rows and files that find no partner."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

import pandas as pd

from lesion_exp.archive import SEPARATOR
from lesion_exp.dataset.findings import finding
from lesion_exp.dataset.image_names import asks_for_masks, clean_name, image_key, mask_of, without_suffix
from lesion_exp.dataset.path_patterns import as_override, fits, ignore_example, pattern_for
from lesion_exp.dataset.source_files import OTHER_ARCHIVES, SourceFiles, distinct
from lesion_exp.errors import DataError, first_cases

LEAST_SHARE: Final = 0.5
"""Of the rows or else of the files that must find a partner: a part of either may be missing, not most of both."""
_SHOWN_NAMES: Final = 3


class ImageNames:
    """Finds files by the names that tables give them: with or without folder and ending, in any case.

    `paths` are pairs of a path, with slashes, and what it stands for.
    """

    def __init__(self, paths: Iterable[tuple[str, str]]) -> None:
        self._by_key: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
        for path, locator in paths:
            folder, _, name = clean_name(path.replace(SEPARATOR, "/")).rpartition("/")
            self._by_key[image_key(name)].append((folder, name, locator))

    def find(self, given: object) -> list[str]:
        """The files that fit `given` best: its very name, else the name but for the ending, else but for the rest."""
        folder, _, name = clean_name(given).rpartition("/")
        close = self._by_key.get(image_key(name), [])
        if folder:
            close = [each for each in close if f"/{each[0]}".casefold().endswith(f"/{folder}".casefold())]
        best = min((_distance(name, other) for _, other, _ in close), default=0)
        return [locator for _, other, locator in close if _distance(name, other) == best]


def _distance(given: str, name: str) -> int:
    """How far the name of a file is from the one that a table gives, of two that have the same key."""
    if given == name:
        return 0
    stem, bare = PurePosixPath(name).stem, without_suffix(given)
    return 1 if stem in {given, bare} else 2 if bare.casefold() == stem.casefold() else 3


@dataclass(frozen=True)
class Choice:
    """Which files are images for a set, and what its user can type to choose among them."""

    images: str = "*"
    """Pattern of the files among which the images are (`dataset.images`)."""
    key: str = ""
    """Config key of that pattern, where the set has one."""
    suffix: str = ""
    """Comes after the id in a file's name (`_dermoscopic`)."""
    remedy: str = ""
    """What to do where the names do not fit, beside another dataset.root."""


def locate_images(ids: pd.Series, files: SourceFiles, choice: Choice = Choice()) -> pd.Series:
    """The locator of each row's image file, None where there is none; counts what found no partner on both sides.

    Raises:
        DataError: a row's name fits several files that differ; no row finds a file, or only few rows and few files do.
    """
    pool = [*files.images, *files.masks] if asks_for_masks(choice.images) else files.images
    chosen = [locator for locator in pool if fits(files.shorten(locator), choice.images)]
    names = ImageNames((files.shorten(locator), locator) for locator in chosen)
    given = [None if pd.isna(name) or not str(name).strip() else f"{clean_name(name)}" for name in ids]
    found = [[] if name is None else _candidates(names, name, choice.suffix) for name in given]
    located = _one_each(given, found, files, choice)
    _count(given, located, {each for several in found for each in several}, chosen, files, choice)
    return pd.Series(located, index=ids.index, dtype=object)


def locate_masks(ids: pd.Series, files: SourceFiles, kind: str = "") -> pd.Series:
    """The locator of each row's mask, None where there is none, counted as `locate_images` does.

    `kind` is how the names of the masks end (`_segmentation`), where there are other kinds of them as well; where no
    file is called so, those of all mask folders are taken.

    Raises:
        DataError: a row's name fits several masks that differ.
    """
    masks = [each for each in files.masks if PurePosixPath(each).stem.lower().endswith(kind)] or files.masks
    paths = [(f"{mask_of(files.shorten(each), _Everything()) or ''}", each) for each in masks]
    names = ImageNames(paths)
    given = [None if pd.isna(name) else clean_name(name) for name in ids]
    found = [[] if name is None else names.find(name) for name in given]
    located = _one_each(given, found, files, Choice())
    if masks:
        used = {each for several in found for each in several}
        _say("masks", given, located, [each for each in masks if each not in used], files)
    return pd.Series(located, index=ids.index, dtype=object)


class _Everything(frozenset[str]):
    def __contains__(self, name: object) -> bool:
        return True


def _candidates(names: ImageNames, name: str, suffix: str) -> list[str]:
    return names.find(f"{without_suffix(name)}{suffix}" if suffix else name)


def _one_each(
    given: Sequence[str | None], found: Sequence[list[str]], files: SourceFiles, choice: Choice
) -> list[str | None]:
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:  # copies are compared by their bytes
        different = list(pool.map(distinct, found))
    unclear = [(name, each) for name, each in zip(given, different, strict=True) if len(each) > 1]
    if unclear:
        cases = [f"{name}: {', '.join(map(files.shorten, each))}" for name, each in unclear]
        raise DataError(
            f"expected one file for each name of an image, but {len(unclear):,} of {len(given):,} names fit several "
            f"files that differ:\n{first_cases(cases)}\nsay which are meant{_how(unclear[0][1], files, choice)}"
        )
    copies = sum(len(each) > 1 for each in found)
    if copies:
        finding(
            f"{copies:,} files of {files.name} are there more than once, with the same content; one of each is read"
        )
    return [each[0] if each else None for each in different]


def _how(locators: Sequence[str], files: SourceFiles, choice: Choice) -> str:
    paths = [files.shorten(locator) for locator in locators]
    ways = []
    if choice.key:
        pattern = pattern_for(paths[0], *paths[1:])
        ways.append(as_override(choice.key, pattern))
    if ignoring := ignore_example(paths):
        ways.append(ignoring)
    return f", for example with {' or '.join(ways)}" if ways else "; give each a name of its own"


def _count(
    given: Sequence[str | None],
    located: Sequence[str | None],
    used: set[str],
    chosen: Sequence[str],
    files: SourceFiles,
    choice: Choice,
) -> None:
    files.say_left_out()
    num_found = sum(locator is not None for locator in located)
    num_used = sum(locator in used for locator in chosen)
    if num_found < LEAST_SHARE * len(given) and num_used < LEAST_SHARE * max(len(chosen), 1):
        raise DataError(_refusal(given, num_found, chosen, files, choice))
    if files.masks and chosen is not files.masks and not asks_for_masks(choice.images):
        finding(
            f"{len(files.masks):,} files of {files.name} are masks or superpixels by their names or folders, and no "
            f"images",
            map(files.shorten, files.masks),
        )
    _say("image files", given, located, [locator for locator in chosen if locator not in used], files)


def _say(
    what: str,
    given: Sequence[str | None],
    located: Sequence[str | None],
    unclaimed: Sequence[str],
    files: SourceFiles,
) -> None:
    missing = [str(name) for name, locator in zip(given, located, strict=True) if locator is None]
    text = (
        f"{len(given) - len(missing):,} of {len(given):,} rows of {files.name} have their {what}; {len(unclaimed):,} "
        f"{what} belong to no row"
    )
    cases = [f"no file: {name}" for name in missing[:3]] + [f"no row: {files.shorten(each)}" for each in unclaimed[:2]]
    finding(text, cases, "warning" if missing else "info")


def _refusal(
    given: Sequence[str | None], num_found: int, chosen: Sequence[str], files: SourceFiles, choice: Choice
) -> str:
    rows = ", ".join(repr(name) for name in given[:_SHOWN_NAMES])
    there = ", ".join(files.shorten(locator) for locator in chosen[:_SHOWN_NAMES])
    packed = [path for path in map(files.shorten, files.locators) if path.lower().endswith(OTHER_ARCHIVES)]
    masks = f" beside {len(files.masks):,} masks" if files.masks else ""
    if packed:
        remedy = f"unpack {', '.join(packed[:3])} (only zips are read as they are)"
    else:
        remedy = "set dataset.root=DIR to the folder that holds the images too, zipped or unpacked"
    return (
        f"expected the image files of {len(given):,} rows of {files.name} below {files.root}, but only {num_found:,} "
        f"are there: the rows name {rows}{' with ' + choice.suffix if choice.suffix else ''}, and the "
        f"{len(chosen):,} image files{masks} are called {there or 'nothing'}; "
        f"{choice.remedy + ', or ' if choice.remedy and chosen else ''}{remedy}"
    )
