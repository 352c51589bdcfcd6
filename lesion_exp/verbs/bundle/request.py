"""The options of `bundle import`; imports nothing heavy, since `--help` reads them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lesion_exp.option import Number, file, option


@dataclass(frozen=True)
class BundleImport:
    """The bundle to import, and its largest size."""

    input: Path | None = option(None, file("run.zip"), "import: the bundle; may be given without input=")
    max_gib: float = option(
        50.0, Number(above=True, example="100"), "import: the largest size of an unpacked bundle, GiB"
    )
