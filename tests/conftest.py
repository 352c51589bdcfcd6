"""What holds for every test."""

import gc
import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lesion_exp.next_command import own_repeated_words
from lesion_exp.tracking.store import Store, open_store
from tests.copied_tables import with_copied_tables
from tests.own_process import restored
from tests.pictures import unsaved_pictures, without_pictures

_SETTINGS = pytest.StashKey[str]()
"""An empty folder in the place of ~/.config."""


def pytest_configure(config: pytest.Config) -> None:
    """Whoever starts the tests in the background may have them ignore Ctrl-C; those of Ctrl-C need it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = tempfile.TemporaryDirectory()
    config.add_cleanup(folder.cleanup)
    config.stash[_SETTINGS] = folder.name


def pytest_collection_finish(session: pytest.Session) -> None:
    """Collections of garbage do not examine what the tests import, which takes up to a second each time."""
    gc.collect()
    gc.freeze()
    session.config.add_cleanup(gc.unfreeze)  # libraries report what is not collected at the end as leaked


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fixtures and tests use their own stores and data: none that the shell or a file of the user names, and none that
    a test before named."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.environ.pop("LESION_EXP_DATA", None)
    os.environ["XDG_CONFIG_HOME"] = item.config.stash[_SETTINGS]


@pytest.fixture(scope="session", autouse=True)
def _copied_tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Every new store of this process gets a copy of the tables of the first one, which takes seconds to make."""
    with with_copied_tables(tmp_path_factory.mktemp("tables")):
        yield


@pytest.fixture(scope="session")
def empty_root(_copied_tables: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose store has its tables."""
    root = tmp_path_factory.mktemp("empty")
    open_store(None, root)
    return root


@pytest.fixture
def root(empty_root: Path, tmp_path: Path) -> Path:
    """A project of a test's own with an empty store."""
    return Path(shutil.copytree(empty_root, tmp_path / "project"))


@pytest.fixture
def store(root: Path) -> Store:
    """The store of that project."""
    return open_store(None, root)


@pytest.fixture
def own_process() -> Iterator[None]:
    """Undoes what a command sets for its process: logging, warnings, SIGTERM."""
    with restored():
        yield


@pytest.fixture
def no_pictures() -> Iterator[None]:
    """For tests that do not look at a picture of the runs that they train."""
    with without_pictures():
        yield


@pytest.fixture
def no_saved_pictures() -> Iterator[None]:
    """For tests that do not look at a picture, but whose tables are unlike those of a training: they are drawn."""
    with unsaved_pictures():
        yield


@pytest.fixture(autouse=True)
def _no_messages_of_an_earlier_command() -> Iterator[None]:
    """A command that a test called in this process shows messages on a stream that is closed when the test ends, and
    its project and store are repeated in the commands of later messages."""
    _stop_showing_messages()
    with own_repeated_words():
        yield
    _stop_showing_messages()


def _stop_showing_messages() -> None:
    logging.captureWarnings(False)
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if type(handler) is not logging.StreamHandler]
