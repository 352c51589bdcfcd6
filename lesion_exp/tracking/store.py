"""Opens the MLflow store that a command writes to and reads from."""

from __future__ import annotations

import logging
import os
import re
import shutil
import socket
import ssl
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final, cast

from lesion_exp.errors import ConfigError, install_command
from lesion_exp.privacy import URI_VARIABLE, with_credentials, without_secrets
from lesion_exp.tracking.database_file import has_current_tables
from lesion_exp.tracking.embedded import local_path, open_embedded, store_lock
from lesion_exp.tracking.view import view_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

ANSWER_WITHIN_SECONDS: Final = 5.0
PATIENCE: Final = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}
"""Limits for MLflow, which by default asks a silent server eight times and waits two minutes each time.

A run retries by itself, from its spool. A server may need a minute to store a large file. Variables that the user has
set are kept.
"""
_PORTS: Final = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_GATEWAY_ERRORS: Final = (502, 503, 504)
_HOST_REFUSED: Final = "Invalid Host header"
"""What an MLflow server says to a request for an address that it was not told to accept."""
_SQLITE: Final = ("sqlite", "sqlite+pysqlite")
_DATABASES: Final = ("postgresql", "mysql", "mssql")
_OF_THE_POOL: Final = (
    "MLFLOW_SQLALCHEMYSTORE_POOLCLASS",
    "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE",
    "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW",
)
"""MLflow's settings of the connections to a database that stay open; it keeps several in each process by default, and
PostgreSQL accepts 100 in all.
"""
_SERVERS: Final = ("http", "https")
_UNUSABLE_IN_A_URI: Final = "?#%"


@dataclass(frozen=True)
class Store:
    """An open store of runs."""

    uri: str
    client: MlflowClient
    root: Path
    live: Path
    """Folder with a subfolder for each active run, named by its id, for checkpoints and data to be uploaded."""
    artifacts: Path | None
    """Folder of the artifacts of new experiments; None if a server decides it."""
    database: Path | None = None
    """The SQLite file of an embedded store; None for other stores."""
    moved_from: Path | None = None
    """Folder that the database still records for artifacts that are in `artifacts` now."""

    @property
    def is_server(self) -> bool:
        """Whether the store is an MLflow server, not a database."""
        return _scheme(self.uri) in _SERVERS

    def experiment_id(self, name: str) -> str:
        """Returns the id of the experiment `name`, which is created if necessary, with the views of `view.view_tags`.

        Raises:
            ConfigError: an experiment of that name was deleted, which blocks the name.
        """
        from mlflow.exceptions import MlflowException

        with store_lock(self.database) if self.database else nullcontext():
            found = self.client.get_experiment_by_name(name)
            if found is None:
                try:
                    return str(self.client.create_experiment(name, self._experiment_location(name), view_tags()))
                except MlflowException as error:
                    if error.error_code != "RESOURCE_ALREADY_EXISTS":
                        raise
                    found = self.client.get_experiment_by_name(name)
        if found is None or found.lifecycle_stage == "deleted":
            raise ConfigError(
                f"expected an experiment that can be written, but {name!r} was deleted in this store. "
                "Restore it with `mlflow experiments restore`, or choose another tracking.experiment."
            )
        for tag, text in view_tags(found.tags).items():
            self.client.set_experiment_tag(found.experiment_id, tag, text)
        return str(found.experiment_id)

    def experiment_ids(self) -> list[str]:
        """Returns the ids of all experiments that are not deleted."""
        ids: list[str] = []
        token = None
        while True:
            page = self.client.search_experiments(max_results=1000, page_token=token)
            ids += [experiment.experiment_id for experiment in page]
            token = page.token
            if not token:
                return ids

    def artifact_dir(self, artifact_uri: str) -> Path | None:
        """Returns the folder of a run's artifacts on this machine; None if they are on a server."""
        path = local_path(artifact_uri)
        if path and self.artifacts and self.moved_from and path.is_relative_to(self.moved_from):
            return self.artifacts / path.relative_to(self.moved_from)
        return path

    def put_artifact(self, run_id: str, artifact_uri: str, source: Path, artifact_path: str) -> None:
        """Copies the file `source` to the artifact `artifact_path` of a run; readers never see a partial file."""
        folder = self.artifact_dir(artifact_uri)
        if folder is None:
            self._upload(run_id, source, PurePosixPath(artifact_path))
            return
        target = folder / artifact_path
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.part")
        shutil.copyfile(source, partial)
        partial.replace(target)

    def _upload(self, run_id: str, source: Path, path: PurePosixPath) -> None:
        parent = str(path.parent) if path.parent.name else None
        if source.name == path.name:
            self.client.log_artifact(run_id, str(source), parent)
            return
        with tempfile.TemporaryDirectory() as folder:  # MLflow uploads a file under its own name
            renamed = Path(folder) / path.name
            renamed.symlink_to(source.resolve())
            self.client.log_artifact(run_id, str(renamed), parent)

    def _experiment_location(self, name: str) -> str | None:
        return str(self.artifacts / (re.sub(r"[^\w-]+", "_", name) or "_")) if self.artifacts else None


class ClientOnFirstUse:
    """Stands for the MlflowClient of the embedded store at `uri`, which is made when it is first used.

    Importing MLflow takes seconds, and many commands only read the files of a run.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._making = threading.Lock()
        self._client: MlflowClient | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked for by copy and pickle, which find nothing of this kind in a client
            raise AttributeError(name)
        from mlflow import MlflowClient

        with self._making:
            if self._client is None:
                self._client = MlflowClient(self._uri)
        return getattr(self._client, name)


def open_store(uri: str | None, root: Path, live: Path | None = None) -> Store:
    """Opens the store at `uri` (the key tracking.uri), else at MLFLOW_TRACKING_URI, else `<root>/mlruns/mlflow.db`.

    An SQLite store is created or migrated under a lock, so that any number of processes can open it at once; its
    artifacts are in the folder `artifacts` beside the database file. `live` is the folder of active runs,
    `<root>/mlruns/live` by default. User and password can be given by the environment (see `privacy`).

    Raises:
        ConfigError: the URI names no usable store, or its server does not answer.
    """
    quiet_mlflow()
    root = root.expanduser().resolve()
    live = live.expanduser().resolve() if live else root / "mlruns" / "live"
    database = embedded_database(uri, root)
    if database is not None:
        return _open_sqlite(database, root, live)
    given, key = _asked(uri)
    asked = with_credentials(given)
    scheme = _scheme(asked)
    if scheme in _SERVERS:
        return Store(asked.rstrip("/"), check_server(asked.rstrip("/"), key), root, live, artifacts=None)
    if scheme.split("+")[0] in _DATABASES:
        client = check_database(asked, key, root / "mlruns" / "server")
        return Store(asked, client, root, live, artifacts=root / "mlruns" / "artifacts")
    raise ConfigError(_refusal(asked, key, scheme))


def check_address(uri: str | None, root: Path) -> None:
    """Checks that `open_store(uri, root)` may open a store, as far as that goes without importing MLflow.

    Raises:
        ConfigError: the URI names no usable store, or its server does not answer.
    """
    if embedded_database(uri, root) is not None:
        return
    given, key = _asked(uri)
    scheme = _scheme(given)
    if scheme in _SERVERS:
        check_answer(given.rstrip("/"), key)
    elif scheme.split("+")[0] not in _DATABASES:
        raise ConfigError(_refusal(given, key, scheme))


def embedded_database(uri: str | None, root: Path) -> Path | None:
    """Returns the SQLite file of the store that `open_store(uri, root)` opens; None for a server or another database.

    Raises:
        ConfigError: the URI of an SQLite store names no file, or the path has characters that MLflow cannot name.
    """
    asked, key = _asked(uri)
    if asked and _scheme(asked) not in _SQLITE:
        return None
    database = _sqlite_path(asked, key) if asked else root.expanduser().resolve() / "mlruns" / "mlflow.db"
    if any(character in str(database) for character in _UNUSABLE_IN_A_URI):
        raise ConfigError(
            f"expected a path without the characters {' '.join(_UNUSABLE_IN_A_URI)} for the store of runs, because "
            f"MLflow reads it as a URI; got {database}. Set paths.root or tracking.uri to another folder."
        )
    return database


def _asked(uri: str | None) -> tuple[str, str]:
    """Returns the address that the user gives, empty if there is none, and the key or variable that contains it."""
    return (uri, "tracking.uri") if uri else (os.environ.get(URI_VARIABLE, ""), URI_VARIABLE)


def _scheme(uri: str) -> str:
    return uri.split(":", 1)[0] if ":" in uri else ""


def quiet_mlflow() -> None:
    """Disables MLflow's telemetry and its less important messages; has to be called before MLflow is imported.

    Variables that the user has set are kept.
    """
    for name, value in {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_UV_AUTO_DETECT": "false",  # the project files of the current folder do not belong in a model's folder
        "GIT_PYTHON_REFRESH": "quiet",
    }.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _open_sqlite(database: Path, root: Path, live: Path) -> Store:
    uri = f"sqlite:///{database}"
    artifacts = database.parent / "artifacts"
    with store_lock(database):
        client, moved_from = open_embedded(database, artifacts, lambda: ClientOnFirstUse(uri))
    return Store(uri, cast("MlflowClient", client), root, live, artifacts, database, moved_from)


def _sqlite_path(uri: str, key: str) -> Path:
    """Returns the file of an SQLite URI, as SQLAlchemy reads it; options after `?` are ignored."""
    path, _, options = uri.partition(":")[2].removeprefix("///").partition("?")
    if not uri.partition(":")[2].startswith("///") or path in ("", ":memory:") or path.startswith("file:"):
        raise ConfigError(
            f"expected a file in {key}, such as sqlite:////folder/mlflow.db (four slashes before an absolute path); "
            f"got {uri!r}, which names none."
        )
    if options:
        log.warning("the options %s of %s are ignored, because the store sets its own", options, key)
    return Path(path).expanduser().resolve()


def _refusal(uri: str, key: str, scheme: str) -> str:
    known = "sqlite:////folder/mlflow.db, http(s)://server:5000 or postgresql://user@server/database"
    if scheme in ("", "file"):
        folder = (local_path(uri) or Path(uri)).expanduser().resolve()
        return (
            f"expected {known} in {key}; got {uri!r}, a plain folder, in which MLflow no longer stores runs. "
            f"Use sqlite:///{folder}/mlflow.db, or leave {key} out for the store of this project."
        )
    return f"expected {known} in {key}; got {without_secrets(uri)!r}. Leave it out for the store of this project."


def check_answer(uri: str, key: str) -> None:
    """Checks that something answers at `uri`, the address of a server; `key` names the setting in messages.

    Raises:
        ConfigError: nothing answers within seconds.
    """
    try:
        with closing(urllib.request.urlopen(without_secrets(uri) + "/health", timeout=ANSWER_WITHIN_SECONDS)):
            pass
    except urllib.error.HTTPError as error:
        if error.code in _GATEWAY_ERRORS:
            raise ConfigError(_unreachable(uri, key, f"it answers {error.code} {error.reason}")) from error
    except ssl.SSLError:
        pass  # it answers; MLflow's settings decide which certificates are trusted
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        if not isinstance(reason, ssl.SSLError):
            raise ConfigError(_unreachable(uri, key, str(reason))) from error


def check_server(uri: str, key: str) -> MlflowClient:
    """Connects to the MLflow server at `uri` and returns a client; `key` names the setting in messages.

    Raises:
        ConfigError: the server does not answer within seconds, or refuses access.
    """
    check_answer(uri, key)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    try:
        with _environment(MLFLOW_HTTP_REQUEST_MAX_RETRIES="0", MLFLOW_HTTP_REQUEST_TIMEOUT="10"):
            client = MlflowClient(uri)
            client.search_experiments(max_results=1)
    except MlflowException as error:
        said = without_secrets(str(error.message))[:500]
        remedy = (
            "Check the address, MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD or MLFLOW_TRACKING_TOKEN. Jobs "
            "and ledgers contain no password."
        )
        if _HOST_REFUSED in said:
            address = urllib.parse.urlsplit(uri).netloc.rpartition("@")[2]
            remedy = f"Start the server with --allowed-hosts {address},localhost:PORT"
        raise ConfigError(
            f"expected an MLflow server at {without_secrets(uri)} ({key}) that grants access; it says: {said}\n{remedy}"
        ) from error
    return client


def check_database(uri: str, key: str, lock: Path) -> MlflowClient:
    """Connects to the MLflow database at `uri` (PostgreSQL, MySQL, SQL Server) and returns a client.

    While a process makes the tables it holds `store_lock(lock)`; processes that find them do not wait for each other.
    The client has a connection only while it reads or writes, unless the user has set `_OF_THE_POOL`.

    Raises:
        ConfigError: the driver is missing, the server does not answer or refuses access, or the tables are those of
            another version of MLflow.
    """
    import sqlalchemy
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        url = sqlalchemy.make_url(uri)
        url.get_dialect().import_dbapi()
        port = url.port or _PORTS[url.get_backend_name()]
        with socket.create_connection((url.host or "localhost", port), timeout=ANSWER_WITHIN_SECONDS):
            pass
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool)
        engine.connect().close()
        is_set = any(name in os.environ for name in _OF_THE_POOL)
        with _environment(**({} if is_set else {_OF_THE_POOL[0]: "NullPool"})):
            if not has_current_tables(engine):
                with store_lock(lock):
                    if not has_current_tables(engine):
                        MlflowClient(uri)  # makes the tables
            return MlflowClient(uri)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"expected the driver of {without_secrets(uri)} ({key}) to be installed; the module {error.name!r} is "
            f"missing. For PostgreSQL: {install_command('psycopg[binary]')}"
        ) from error
    except OSError as error:
        raise ConfigError(_unreachable(uri, key, str(error))) from error
    except (sqlalchemy.exc.SQLAlchemyError, MlflowException) as error:
        raise ConfigError(
            f"expected an MLflow database at {without_secrets(uri)} ({key}) that grants access; it says: "
            f"{without_secrets(str(error))[:500]}\nCheck user, password and the name of the database. Jobs and ledgers "
            "contain neither user nor password, so set MLFLOW_TRACKING_URI to the whole address of this database. "
            "`mlflow db upgrade URI` brings the tables of an older MLflow up to date."
        ) from error


def _unreachable(uri: str, key: str, reason: str) -> str:
    return (
        f"expected a tracking server at {without_secrets(uri)} ({key}); it does not answer: {reason}. "
        "Start it, check the address, or leave it out for the store of this project."
    )


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    former = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in former.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
