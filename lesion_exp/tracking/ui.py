"""Serves MLflow's page on a store, on this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from lesion_exp.errors import ConfigError
from lesion_exp.privacy import without_secrets
from lesion_exp.tracking.mlflow_page import STORE_VARIABLE
from lesion_exp.tracking.store import Store
from lesion_exp.tracking.view import runs_address, view_address

_READY_WITHIN_SECONDS: Final = 180.0
_STOP_WITHIN_SECONDS: Final = 10.0
_TAIL_LINES: Final = 15


def ui_command(
    store: Store, experiment_id: str, host: str = "127.0.0.1", port: int = 5000
) -> tuple[list[str], dict[str, str]]:
    """Returns arguments and environment of MLflow's server: one process, without job runner and telemetry.

    Its page opens with the runs of an experiment. The address of the store is passed by the environment, since it may
    contain a password, and all users can see arguments.
    """
    command = [sys.executable, "-m", "lesion_exp.tracking.mlflow_page", "--host", host, "--port", str(port)]
    command += ["--experiment", experiment_id]
    variables = {
        **os.environ,
        STORE_VARIABLE: store.uri,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    variables.pop("MLFLOW_TRACKING_URI", None)
    if store.artifacts:
        command += ["--default-artifact-root", str(store.artifacts)]
    return command, variables


def run_ui(store: Store, experiment: str, host: str = "127.0.0.1", port: int = 5000) -> None:
    """Serves the page until Ctrl-C or SIGTERM; prints its address on standard error once it answers.

    The address opens the runs of `experiment` in the view `view.view_state`. The page does not use a saved view for
    that, so that the choices of the user are kept (see `first_visit_script`).

    Raises:
        ConfigError: the port is taken, or MLflow's server does not start.
    """
    if store.is_server:
        page = view_address(without_secrets(store.uri), store.experiment_id(experiment))
        print(f"MLflow runs on its server: {page}", file=sys.stderr, flush=True)
        return
    _check_port(host, port)
    address = f"http://{host}:{port}"
    experiment_id = store.experiment_id(experiment)
    command, variables = ui_command(store, experiment_id, host, port)
    log = store.root / "mlruns" / "ui.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output, _sigterm_as_exit():
        # in a new session, so that Ctrl-C reaches this process only, which then ends the server in order
        server = subprocess.Popen(command, env=variables, stdout=output, stderr=output, start_new_session=True)
        try:
            _wait_until_ready(server, address, log)
            print(f"MLflow: {runs_address(address, experiment_id)}\nCtrl-C ends it.", file=sys.stderr, flush=True)
            server.wait()
            raise ConfigError(f"expected MLflow's page to stay until Ctrl-C; its server ended:\n{_tail(log)}")
        except KeyboardInterrupt:
            print("", file=sys.stderr)
        finally:
            _stop(server)


def _check_port(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"expected a free port for MLflow's page; {host}:{port} cannot be used: {error.strerror}. "
                f"Give another one, such as port={port + 1}, or open http://{host}:{port} if the page runs already."
            ) from error


def _wait_until_ready(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + _READY_WITHIN_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise ConfigError(f"expected MLflow's page to start; its server ended:\n{_tail(log)}")
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise ConfigError(
        f"expected MLflow's page to answer within {_READY_WITHIN_SECONDS:.0f} s; it does not. Its log, {log}, ends:\n"
        f"{_tail(log)}"
    )


def _stop(server: subprocess.Popen[bytes]) -> None:
    """Ends the server and its worker."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
            server.wait(timeout=_STOP_WITHIN_SECONDS)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    server.wait()


@contextmanager
def _sigterm_as_exit() -> Iterator[None]:
    """Turns SIGTERM into SystemExit within the block, so that the server is ended."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    former = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])
