"""What nobody should send: a part of `scripts/hostile_files.py`, whose whole takes minutes."""

import importlib
import sys
from pathlib import Path

import pytest

from tests import own_process

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture(scope="module")
def hostile():
    sys.path.insert(0, str(SCRIPTS))
    try:
        yield importlib.import_module("hostile_files")
    finally:
        sys.path.remove(str(SCRIPTS))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_pictures_are_refused_or_read(hostile, tmp_path):
    found = hostile.pictures(tmp_path, 40, seed=3)
    assert found["faults"] == []
    assert found["refused"] > found["read"] > 2


@pytest.mark.slow
@pytest.mark.parametrize("family", ["tables", "bundles"])
def test_tables_and_bundles_are_refused_or_read(hostile, tmp_path, family):
    with own_process.restored():
        found = getattr(hostile, family)(tmp_path, 30, seed=3)
    assert found["faults"] == []
    assert found["refused"] > found["read"] > 0
