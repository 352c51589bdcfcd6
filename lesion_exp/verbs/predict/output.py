"""The file that a prediction writes."""

from __future__ import annotations

from pathlib import Path


def folder_of(output: Path) -> Path:
    """Where the batches of `output` lie until it is whole."""
    return output.with_name(f"{output.name}.part")


def facts_path(output: Path) -> Path:
    """Where it stands how the probabilities in `output` were made: calibration, precision, test-time augmentation."""
    return output.with_name(f"{output.stem}_facts.json")
