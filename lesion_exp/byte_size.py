"""Numbers of bytes in words: of files in powers of 1000, of memory in powers of 1024, as systems show them."""

from __future__ import annotations

from typing import Final

_GIB: Final = 2**30


def file_size(num_bytes: float) -> str:
    """Returns the size of files or of a disk in words, such as `12.3 MB`."""
    size, units = num_bytes / 1, ("B", "kB", "MB", "GB", "TB")
    for unit in units[:-1]:
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} {units[-1]}"


def memory_size(num_bytes: float) -> str:
    """Returns the size of memory, or of what a limit in GiB concerns, in words: `512 MiB`, `1.5 GiB`."""
    if num_bytes < _GIB:
        return f"{num_bytes / 2**20:,.0f} MiB"
    return f"{num_bytes / _GIB:,.1f} GiB" if num_bytes < 100 * _GIB else f"{num_bytes / _GIB:,.0f} GiB"
