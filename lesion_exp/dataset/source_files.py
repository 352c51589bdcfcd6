"""The files below a data set's root, zipped or unpacked, found by name wherever they lie."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Final

import pandas as pd

from lesion_exp.errors import DataError, first_cases
from lesion_exp.image_file import SEPARATOR, read_bytes

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


def read_csv(locator: str, **options: object) -> pd.DataFrame:
    """The delimited text at `locator` as a table; comma, semicolon or tab, whichever its first line holds most of.

    Raises:
        DataError: it is empty or no such text.
    """
    text = read_bytes(locator).decode("utf-8-sig", errors="replace")
    first_line = text.partition("\n")[0]
    if not first_line.strip():
        raise DataError(f"expected a table with a header at {locator}, but its first line is empty")
    delimiter = max(",;\t", key=first_line.count)
    try:
        frame: pd.DataFrame = pd.read_csv(io.StringIO(text), sep=delimiter, **options)  # type: ignore[call-overload]
    except (ValueError, pd.errors.ParserError) as error:
        raise DataError(f"expected a delimited table at {locator}, but reading it failed: {error}") from error
    frame.columns = [str(column).strip() for column in frame.columns]
    return frame


def require_columns(frame: pd.DataFrame, columns: Iterable[str], where: str) -> None:
    """Nothing, if `frame` has all `columns`.

    Raises:
        DataError: some are missing; the message lists them and what is there.
    """
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise DataError(
            f"expected the columns {', '.join(missing)} in {where}, got {', '.join(map(str, frame.columns))}; "
            f"is it the file of this data set, unchanged?"
        )


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
