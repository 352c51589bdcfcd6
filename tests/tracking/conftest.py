import shutil
import socket
from pathlib import Path

import pytest

from lesion_exp.tracking.store import Store, open_store


@pytest.fixture(autouse=True)
def no_uri_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root whose store has its tables; they take seconds to make, so tests copy it."""
    root = tmp_path_factory.mktemp("empty")
    open_store(f"sqlite:///{root}/mlruns/mlflow.db", root)
    return root


@pytest.fixture
def root(empty_store: Path, tmp_path: Path) -> Path:
    """A root of a test's own with an empty store."""
    return Path(shutil.copytree(empty_store, tmp_path / "project"))


@pytest.fixture
def store(root: Path) -> Store:
    return open_store(None, root)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
