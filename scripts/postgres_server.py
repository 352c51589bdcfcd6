"""Starts a PostgreSQL server in a temporary folder, for benchmarks and tests; a server of the system is not touched."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

USER = "lesion_exp"
DATABASE = "runs"
ACCOUNT = "postgres"
"""The account under which the server runs if this process is root's, for whom PostgreSQL refuses to run."""


def programs() -> Path | None:
    """Returns the folder of PostgreSQL's programs; None if there are none."""
    if found := shutil.which("pg_ctl"):
        return Path(found).resolve().parent
    return next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


@contextmanager
def postgres_server() -> Iterator[tuple[str, psutil.Process]]:
    """Starts a server with PostgreSQL's own settings; yields the address of its empty database, and its process."""
    found = programs()
    if found is None:
        raise SystemExit("expected the programs of PostgreSQL (pg_ctl, initdb), found none; apt-get install postgresql")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    with tempfile.TemporaryDirectory(prefix="postgres_") as name:
        account = ACCOUNT if os.geteuid() == 0 else None
        if account:
            shutil.chown(name, account)
        data, log = f"{name}/data", f"{name}/log"

        def call(program: str, *words: str) -> None:
            silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            subprocess.run([found / program, *words], check=True, user=account, group=account, cwd=name, **silent)

        call("initdb", "-D", data, "-U", USER, "--auth", "trust", "--no-sync")
        settings = f"-c port={port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={name}"
        call("pg_ctl", "-D", data, "-l", log, "-w", "-o", settings, "start")
        try:
            call("createdb", "-h", "127.0.0.1", "-p", port, "-U", USER, DATABASE)
            number = int(Path(data, "postmaster.pid").read_text().splitlines()[0])
            yield f"postgresql://{USER}@127.0.0.1:{port}/{DATABASE}", psutil.Process(number)
        finally:
            call("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
