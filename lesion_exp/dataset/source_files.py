"""The files below a data set's root, zipped or unpacked, found by name wherever they lie."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Final

from lesion_exp.errors import DataError, first_cases
from lesion_exp.image_file import SEPARATOR

OTHER_ARCHIVES: Final = (".rar", ".7z", ".tar", ".gz", ".tgz", ".bz2", ".xz")


class SourceFiles:
    """Every file below `root`, also inside its zips, as locators (see `image_file`).

    An unpacked file goes before its zipped twin. Folders of the operating system (`__MACOSX`, hidden files) are
    left out.

    Raises:
        DataError: `root` is not a folder, or a zip in it is broken.
    """

    def __init__(self, root: str | Path, name: str = "the data set") -> None:
        self.root = Path(root).expanduser().absolute()
        self.name = name
        if not self.root.is_dir():
            raise DataError(
                f"expected a folder with the files of {name} at dataset.root, but "
                f"{'a file' if self.root.is_file() else 'nothing'} is at {self.root}; "
                f"set dataset.root=DIR to the folder that holds the downloaded zips or the unpacked files"
            )
        self.locators: list[str] = []
        archives: list[str] = []
        for path in sorted(files_below(self.root)):
            (archives if path.suffix.lower() == ".zip" else self.locators).append(str(path))
        for archive in archives:
            self.locators.extend(f"{archive}{SEPARATOR}{member}" for member in archive_members(archive))

    def find(self, *patterns: str) -> list[str]:
        """Locators whose file name (path, where the pattern holds a `/`) matches one of `patterns`, case ignored."""
        lowered = [pattern.lower() for pattern in patterns]
        return [locator for locator in self.locators if any(_matches(locator, pattern) for pattern in lowered)]

    def require(self, *patterns: str) -> str:
        """The first locator that matches, patterns tried in order.

        Raises:
            DataError: none does; the message says what was looked for and what is there.
        """
        for pattern in patterns:
            found = self.find(pattern)
            if found:
                return found[0]
        listed = [self.shorten(locator) for locator in self.locators]
        packed = [name for name in listed if name.lower().endswith(OTHER_ARCHIVES)]
        remedy = (
            f"unpack {', '.join(packed[:3])} (only zips are read as they are)"
            if packed
            else "set dataset.root=DIR to the folder with the download"
        )
        raise DataError(
            f"expected {' or '.join(patterns)} of {self.name} somewhere below {self.root} (also inside zips), found "
            f"{len(self.locators)} other files{':' if listed else ''}\n{first_cases(listed)}\n"
            f"{remedy}"
        )

    def by_stem(self, *patterns: str) -> dict[str, str]:
        """Locators that match, keyed by file name without ending; of twins the first found."""
        found: dict[str, str] = {}
        for locator in self.find(*patterns):
            found.setdefault(PurePosixPath(_inner(locator)).stem, locator)
        return found

    def shorten(self, locator: str) -> str:
        """`locator` relative to the root, for messages."""
        return locator.removeprefix(str(self.root)).lstrip("/")


def files_below(root: Path) -> Iterator[Path]:
    """Files below `root`, through links to folders too (data often lies on another disk), each folder once."""
    seen: set[str] = set()
    for folder, names, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        names[:] = [] if real in seen else [name for name in names if not _is_clutter((name,))]
        if real in seen:
            continue
        seen.add(real)
        yield from (Path(folder, file) for file in files if not _is_clutter((file,)) and Path(folder, file).is_file())


def archive_members(archive: str) -> list[str]:
    """The files in the zip at `archive`, sorted, without those of the operating system.

    Raises:
        DataError: it cannot be opened.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            names = [info.filename for info in opened.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"expected a zip at {archive}, but it cannot be opened: {error}; download it again") from error
    return sorted(name for name in names if not _is_clutter(PurePosixPath(name).parts))


def _is_clutter(parts: tuple[str, ...]) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def _inner(locator: str) -> str:
    return locator.rpartition(SEPARATOR)[2] if SEPARATOR in locator else locator


def _matches(locator: str, pattern: str) -> bool:
    inner = _inner(locator).lower()
    if "/" in pattern:
        return fnmatch(inner, f"*/{pattern}") or fnmatch(inner, pattern)
    return fnmatch(PurePosixPath(inner).name, pattern)
