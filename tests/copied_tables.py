"""Stores whose tables are copied: MLflow takes seconds to make those of each new store."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from lesion_exp.tracking import database_file

MAKE_TABLES = database_file._make_tables
"""Has MLflow make the tables, as each new store of a user."""


def copying(folder: Path) -> Callable[[Path, Path], None]:
    """Makes the tables of one store in `folder`, when they are first asked for, and copies them for each other one."""
    first, first_artifacts = folder / "mlflow.db", folder / "artifacts"

    def copy(database: Path, artifacts: Path) -> None:
        if not first.exists():
            MAKE_TABLES(first, first_artifacts)
        shutil.copyfile(first, database)
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute(
                "UPDATE experiments SET artifact_location = replace(artifact_location, ?, ?)",
                (f"{first_artifacts}/", f"{artifacts}/"),
            )

    return copy


@contextmanager
def with_copied_tables(folder: Path) -> Iterator[None]:
    """New stores of this process get copied tables."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database_file, "_make_tables", copying(folder))
        yield
