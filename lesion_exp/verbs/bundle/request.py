"""What somebody wants imported: the options of `bundle import`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lesion_exp.option import Number, file, option


@dataclass(frozen=True)
class BundleImport:
    """What `bundle import` is asked for."""

    input: Path | None = option(None, file("run.zip"), "import: the bundle; its name without input= is taken as well")
    max_gib: float = option(
        50.0, Number(above=True, example="100"), "import: the largest size of an unpacked bundle, GiB"
    )
