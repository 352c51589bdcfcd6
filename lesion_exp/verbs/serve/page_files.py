"""The files of the web pages, read once from the package."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import PurePosixPath
from typing import Final, NamedTuple

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class PageFile(NamedTuple):
    """A file as it is sent."""

    content: bytes
    media_type: str


def page_files() -> Mapping[str, PageFile]:
    """The files by their names."""
    folder = resources.files("lesion_exp.verbs.serve").joinpath("page")
    return {
        entry.name: PageFile(entry.read_bytes(), _TYPES[PurePosixPath(entry.name).suffix])
        for entry in folder.iterdir()
        if PurePosixPath(entry.name).suffix in _TYPES
    }
