"""The files that a table names by path: absolute, relative to the table, or relative to the root."""

from __future__ import annotations

import os
import posixpath
from collections import defaultdict
from pathlib import Path

from lesion_exp.archive import file_of, split_locator
from lesion_exp.dataset.image_names import clean_name, without_suffix
from lesion_exp.dataset.source_files import SourceFiles


class TablePaths:
    """Finds files by their paths as the table at `table_locator` writes them, zipped or not.

    Of a path that is not there, another ending or other capitals are tried.
    """

    def __init__(self, files: SourceFiles, table_locator: str) -> None:
        self._table_dir = Path(files.root if split_locator(table_locator)[0] else table_locator).parent
        self._above = posixpath.dirname(_inside(files, table_locator))
        self._exact: dict[str, list[str]] = defaultdict(list)
        self._close: dict[str, list[str]] = defaultdict(list)
        for locator in files.locators:
            for path in {files.shorten(locator), _inside(files, locator)}:
                self._exact[clean_name(path)].append(locator)
                self._close[_bare(path)].append(locator)

    def find(self, path: str) -> list[str]:
        """The files that `path` may mean."""
        text = clean_name(path)
        if posixpath.isabs(text):
            return [text] if os.path.isfile(file_of(text)) else []  # noqa: PTH113 - also of names too long for a disk
        places = dict.fromkeys((posixpath.normpath(posixpath.join(self._above, text)), posixpath.normpath(text)))
        for known, key in ((self._exact, str), (self._close, _bare)):
            found = dict.fromkeys(locator for place in places for locator in known.get(key(place), ()))
            if found:
                return list(found)
        beside = self._table_dir / text
        return [str(beside.resolve())] if text.startswith("../") and os.path.isfile(beside) else []  # noqa: PTH113


def _inside(files: SourceFiles, locator: str) -> str:
    """The path in the innermost zip, or below the root."""
    container, member = split_locator(locator)
    return member if container else files.shorten(locator)


def _bare(path: str) -> str:
    return without_suffix(clean_name(path)).casefold()
