"""The file that a prediction writes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lesion_exp.errors import ConfigError

SUFFIXES: Final = (".csv", ".parquet")


def folder_of(output: Path) -> Path:
    """Where the batches of `output` lie until it is whole."""
    return output.with_name(f"{output.name}.part")


def facts_path(output: Path) -> Path:
    """Where it stands how the probabilities in `output` were made: calibration, precision, test-time augmentation."""
    return output.with_name(f"{output.stem}_facts.json")


def check_output(output: Path) -> None:
    """Checks that results can be written there.

    Raises:
        ConfigError: another suffix, or a folder.
    """
    if output.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"expected output to end in {' or '.join(SUFFIXES)}, got {output}")
    if output.is_dir():
        raise ConfigError(f"expected a file as output, got the folder {output}; name a file in it")
