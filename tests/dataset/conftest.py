"""Where real data lies, for the tests that use it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def _real(name: str) -> Path:
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("LESION_EXP_REAL_DATA", default)) / name
    if not folder.is_dir():
        pytest.skip(f"real data: {folder} is not there; set LESION_EXP_REAL_DATA to the folder that holds {name}")
    return folder


@pytest.fixture(scope="session")
def real_ham10000() -> Path:
    """Folder with the zips, the masks and the metadata of HAM10000."""
    return _real("ham10000")


@pytest.fixture(scope="session")
def real_ph2() -> Path:
    """Folder with PH2Dataset.zip."""
    return _real("ph2")
