"""Asks within seconds whether a tracking server or database answers, where MLflow would retry for minutes."""

from __future__ import annotations

import os
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final

from lesion_exp.errors import ConfigError
from lesion_exp.privacy import without_secrets

if TYPE_CHECKING:
    from mlflow import MlflowClient

ANSWER_WITHIN_SECONDS: Final = 5.0
PATIENCE: Final = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}
"""MLflow asks a silent server eight times, two minutes each; a run has its spool and asks again by itself.

A minute is what a server may need to put a large file where it keeps them. Variables that the user has set stay.
"""
_PORTS: Final = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_GATEWAY_ERRORS: Final = (502, 503, 504)


def check_server(uri: str, key: str) -> MlflowClient:
    """A client of the MLflow server at `uri`, which has answered a question about its experiments.

    Raises:
        ConfigError: it does not answer within seconds, or refuses.
    """
    try:
        with closing(urllib.request.urlopen(without_secrets(uri) + "/health", timeout=ANSWER_WITHIN_SECONDS)):
            pass
    except urllib.error.HTTPError as error:
        if error.code in _GATEWAY_ERRORS:
            raise ConfigError(_unreachable(uri, key, f"it answers {error.code} {error.reason}")) from error
    except ssl.SSLError:
        pass  # it answers; which certificates are trusted is MLflow's setting
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        if not isinstance(reason, ssl.SSLError):
            raise ConfigError(_unreachable(uri, key, str(reason))) from error

    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    try:
        with _environment(MLFLOW_HTTP_REQUEST_MAX_RETRIES="0", MLFLOW_HTTP_REQUEST_TIMEOUT="10"):
            client = MlflowClient(uri)
            client.search_experiments(max_results=1)
    except MlflowException as error:
        raise ConfigError(
            f"expected an MLflow server at {without_secrets(uri)} ({key}) that lets you in; it says: "
            f"{without_secrets(str(error.message))[:500]}\nCheck the address, MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD or MLFLOW_TRACKING_TOKEN: jobs and ledgers keep no password."
        ) from error
    return client


def check_database(uri: str, key: str) -> MlflowClient:
    """A client of the MLflow database at `uri` (PostgreSQL, MySQL, SQL Server), which has been connected to once.

    Raises:
        ConfigError: driver missing, server silent, login refused, or tables of another MLflow.
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
        engine = sqlalchemy.create_engine(url)
        engine.connect().close()
        engine.dispose()
        return MlflowClient(uri)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"expected the driver of {without_secrets(uri)} ({key}) to be installed; the module {error.name!r} is "
            'missing. For PostgreSQL: pip install "psycopg[binary]".'
        ) from error
    except OSError as error:
        raise ConfigError(_unreachable(uri, key, str(error))) from error
    except (sqlalchemy.exc.SQLAlchemyError, MlflowException) as error:
        raise ConfigError(
            f"expected an MLflow database at {without_secrets(uri)} ({key}) that lets you in; it says: "
            f"{without_secrets(str(error))[:500]}\nCheck user, password and name; jobs and ledgers keep neither user "
            "nor password, MLFLOW_TRACKING_URI with the whole address of this database gives them again. "
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
