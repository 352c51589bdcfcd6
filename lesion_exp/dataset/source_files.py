"""Finds the files below a data set's root by their names, in any folder or zip."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Final

from lesion_exp.archive import ZIP, is_clutter, members_of, size_and_checksum, size_of
from lesion_exp.dataset.findings import record_finding
from lesion_exp.dataset.image_names import is_image, split_masks, suffix_of
from lesion_exp.dataset.path_patterns import as_override, fits, ignore_example, pattern_for
from lesion_exp.errors import ConfigError, DataError, first_cases

OTHER_ARCHIVES: Final = (".rar", ".7z", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst")
TABLE_ENDINGS: Final = (".csv", ".tab", ".tsv", ".txt", "")
"""Endings of published tables; all are read alike."""
DOCUMENTS: Final = frozenset(
    {*TABLE_ENDINGS[:-1], ".xlsx", ".xls", ".parquet", ".json", ".xml", ".yaml", ".yml", ".md", ".rst", ".pdf", ".html"}
    | {".htm", ".doc", ".docx", ".py", ".ipynb", ".m", ".mat", ".npz", ".npy", ".hdf5", ".h5", ".log", ".db", ".ini"}
    | {".url", ".lnk", ".zip"}
)
"""Endings of files that lie beside images and are not images."""
_UNDECODED: Final = re.compile("[\udc80-\udcff]")
"""Bytes of a file's name that are not UTF-8, as Python represents them."""
_MOST_PATTERNS: Final = 20
"""Patterns that a message lists."""
NOTES: Final = frozenset({"readme", "license", "licence", "changelog", "md5sums", "sha256sums", "makefile"})
"""Names of documents without an ending."""


class SourceFiles:
    """All files below a folder, and inside its zips and the zips in them, as locators (see `lesion_exp.archive`).

    Unpacked files come before zipped ones. Files of the operating system (`__MACOSX`, hidden files) are left out.

    Args:
        root: the folder.
        name: the data set, for messages.
        ignore: patterns of files to leave out (see `path_patterns`).

    Raises:
        DataError: `root` is not a folder, a zip in it cannot be read, or a file's name is not UTF-8.
        ConfigError: no file matches a pattern of `ignore`.
    """

    def __init__(self, root: str | Path, name: str = "the data set", ignore: str | Sequence[str] = ()) -> None:
        self.root = Path(root).expanduser().absolute()
        self.name = name
        if not self.root.is_dir():
            raise DataError(no_folder(self.root, name, "dataset.root"))
        self._unused = Counter[str](dict.fromkeys([ignore] if isinstance(ignore, str) else ignore or (), 0))
        files = [str(path) for path in sorted(files_below(self.root)) if not self._is_ignored(str(path))]
        self.locators = [path for path in files if suffix_of(path) != ZIP]
        for path in files:
            if suffix_of(path) == ZIP:
                self.locators += [each for each in self._members(path) if not self._is_ignored(each)]
        self._known: set[str] = set()
        self.read_masks: set[str] = set()
        """The masks that rows of the data set have, by their locators; known once the masks are located."""
        self._check_names()
        for pattern, count in self._unused.items():
            if not count:
                raise ConfigError(
                    f"expected the patterns of dataset.ignore to fit files below {self.root}, but {pattern!r} fits "
                    f"none; correct it, or leave it out"
                )
            record_finding(f"{count:,} files of {name} are left out, because dataset.ignore lists {pattern!r}")

    def _check_names(self) -> None:
        """Checks that all names are UTF-8, because no table can contain others and programs show them differently."""
        names = [name for each in self.locators if _UNDECODED.search(name := self.shorten(each))]
        if not names:
            return
        shown = [os.fsencode(name).decode("utf-8", "backslashreplace") for name in names]
        patterns = [f"./{_UNDECODED.sub('?', glob.escape(name))}" for name in names[:_MOST_PATTERNS]]
        leave_out = as_override("dataset.ignore", patterns) if len(names) <= _MOST_PATTERNS else "dataset.ignore"
        raise DataError(
            f"expected names in UTF-8 below {self.root}, but those of {len(names):,} files are not:\n"
            f"{first_cases(shown)}\nrename them, or leave them out with {leave_out}"
        )

    def find(self, *patterns: str) -> list[str]:
        """Returns the locators of the files that match one of `patterns` (see `path_patterns`)."""
        return [each for each in self.locators if any(fits(self.shorten(each), pattern) for pattern in patterns)]

    def require(self, *patterns: str, key: str = "", without: str = "") -> str:
        """Returns the file that matches the first of `patterns` with a match. Tables may have any usual ending.

        Args:
            patterns: names or paths, in order of preference.
            key: the config key that names the file, if there is one; then its ending is taken literally.
            without: how the user can go on without the file, if that is possible.

        Raises:
            DataError: there is no such file, or there are several that differ.
        """
        for pattern in (*patterns, *(() if key else _other_endings(patterns))):
            found = self.find(pattern)
            if found:
                locator = self._only(found, pattern, key)
                self._known.add(locator)
                if pattern not in patterns:
                    record_finding(f"{self.shorten(locator)} is read instead of {patterns[0]}")
                return locator
        raise DataError(self._absent(patterns, without))

    def mark_known(self, *patterns: str) -> None:
        """Marks the files that match one of `patterns`: `record_left_out` does not count them."""
        self._known.update(self.find(*patterns))

    @cached_property
    def images(self) -> list[str]:
        """The image files, except those that are masks or superpixels by their names."""
        return self._pictures[0]

    @cached_property
    def masks(self) -> list[str]:
        """The image files that are masks or superpixels by their names."""
        return self._pictures[1]

    def record_left_out(self) -> None:
        """Records how many files are neither images nor tables in use nor marked, since some may be meant as images."""
        rest = [each for each in self.locators if not is_image(each) and each not in self._known]
        others = Counter(suffix_of(each) or "without an ending" for each in rest)
        if not others:
            return
        strange = [each for each in rest if not is_document(each)]
        counts = ", ".join(f"{count:,} {ending}" for ending, count in others.most_common())
        record_finding(
            f"files of {self.name} that are left out, since by their names they are not images: {counts}",
            map(self.shorten, strange),
            "warning" if strange else "info",
        )

    def shorten(self, locator: str) -> str:
        """Returns `locator` relative to the root, for messages and patterns."""
        return locator.removeprefix(str(self.root)).lstrip("/")

    @cached_property
    def _pictures(self) -> tuple[list[str], list[str]]:
        by_path = {self.shorten(each): each for each in self.locators}
        images, masks = split_masks(by_path)
        return [by_path[path] for path in images], [by_path[path] for path in masks]

    def _is_ignored(self, locator: str) -> bool:
        hits = [pattern for pattern in self._unused if fits(self.shorten(locator), pattern)]
        self._unused.update(hits)
        return bool(hits)

    def _members(self, path: str) -> list[str]:
        try:
            return list(members_of(path))
        except DataError as error:
            leave_out = as_override("dataset.ignore", [pattern_for(self.shorten(path))])
            raise DataError(f"{error}, or leave it out with {leave_out}") from error

    def _only(self, found: list[str], pattern: str, key: str) -> str:
        different = distinct(found)
        if len(different) == 1:
            return different[0]
        paths = [self.shorten(each) for each in different]
        choose = as_override(key, f"./{glob.escape(paths[0])}") if key else ignore_example(paths)
        raise DataError(
            f"expected one file {pattern} of {self.name} below {self.root}, got {len(paths)} with different contents:\n"
            f"{first_cases(paths, 10)}\nchoose one{f', for example with {choose}' if choose else ''}"
        )

    def _absent(self, patterns: Sequence[str], without: str) -> str:
        listed = [self.shorten(each) for each in self.locators]
        packed = [path for path in listed if path.lower().endswith(OTHER_ARCHIVES)]
        stems = {PurePosixPath(pattern).stem.lower() for pattern in patterns}
        near = [path for path in listed if is_document(path) and _is_near(PurePosixPath(path).stem, stems)]
        if packed:
            remedy = f"unpack {', '.join(packed[:3])} (only zips are read as they are)"
        elif near and suffix_of(near[0]) in TABLE_ENDINGS:
            remedy = f"rename {near[0]} to {patterns[0]}"
        elif near:
            remedy = f"save {near[0]} as {patterns[0]}"
        else:
            remedy = "set dataset.root=DIR to the folder with the download"
        return (
            f"expected {' or '.join(patterns)} of {self.name} somewhere below {self.root} (also inside zips), found "
            f"{other_files(listed)}\n{without + ', or ' if without else ''}{remedy}"
        )


def no_folder(root: Path, name: str, key: str, typed: str = "") -> str:
    """Returns the message about a root of the data set `name` that is not a folder.

    Args:
        root: the root.
        name: the data set.
        key: the key that gives the root.
        typed: the key to type for another root; empty: `key`.
    """
    return (
        f"expected a folder with the files of {name} at {key}, but {'a file' if root.is_file() else 'nothing'} is at "
        f"{root}; set {typed or key}=DIR to the folder that holds its files, unpacked or in zips"
    )


def other_files(paths: Sequence[str]) -> str:
    """Returns a text with the number of files that were found instead of the expected ones, and the first of them."""
    if not paths:
        return "no file there"
    return f"{len(paths):,} other file{'s' * (len(paths) > 1)}:\n{first_cases(paths)}"


def is_document(locator: str) -> bool:
    """Returns whether the file is by its name a document, such as a table, and not an image."""
    return suffix_of(locator) in DOCUMENTS or PurePosixPath(locator).name.lower() in NOTES


def distinct(locators: Sequence[str]) -> list[str]:
    """Returns `locators` without copies of a file that came before.

    Files are equal if their sizes and checksums are. For zipped files both are known without unpacking.
    """
    if len(locators) < 2:
        return list(locators)
    sizes = Counter(map(size_of, locators))
    kept: dict[tuple[int, int | str], str] = {}
    for locator in locators:
        size = size_of(locator)
        kept.setdefault((size, locator) if sizes[size] == 1 else size_and_checksum(locator), locator)
    return list(kept.values())


def files_below(root: Path) -> Iterator[Path]:
    """Yields the files below `root`. Links to folders are followed, because data often lie on another disk."""
    seen: set[str] = set()
    for folder, names, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        names[:] = [] if real in seen else [name for name in names if not is_clutter((name,))]
        if real in seen:
            continue
        seen.add(real)
        yield from (Path(folder, file) for file in files if not is_clutter((file,)) and Path(folder, file).is_file())


def _is_near(stem: str, wanted: Collection[str]) -> bool:
    """Returns whether a file's name without its ending is one of `wanted`, apart from what browsers and copying
    append.
    """
    bare = re.sub(r"(?:\s*\(\d+\)|[\s_-]+copy|\.csv)+$", "", stem.lower())
    return bare in wanted


def _other_endings(patterns: Sequence[str]) -> list[str]:
    stems = [pattern[: -len(ending)] for pattern in patterns for ending in (".csv", ".tab") if pattern.endswith(ending)]
    others = [f"{stem}{ending}" for stem in dict.fromkeys(stems) for ending in TABLE_ENDINGS]
    return [other for other in others if other not in patterns]
