import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from lesion_exp.errors import ConfigError
from lesion_exp.tracking import ui
from lesion_exp.tracking.store import Store


def test_command_serves_this_machine_alone_and_hides_the_store_s_address(store: Store) -> None:
    command, variables = ui.ui_command(store, "7", port=5123)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--port") + 1] == "5123"
    assert command[command.index("--experiment") + 1] == "7"
    assert store.uri not in command
    assert variables["MLFLOW_BACKEND_STORE_URI"] == store.uri
    assert variables["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert variables["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_taken_port_is_refused(store: Store) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port={port + 1}"):
            ui.run_ui(store, "tests", port=port)


def test_server_that_does_not_start_is_reported_with_its_words(
    store: Store, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [sys.executable, "-c", "raise SystemExit('no such page')"]
    monkeypatch.setattr(ui, "ui_command", lambda *arguments: (broken, dict(os.environ)))
    with pytest.raises(ConfigError, match="no such page"):
        ui.run_ui(store, "tests", port=free_port)


def _hear_ctrl_c() -> None:
    """What a shell starts in the background, such as a whole test run, ignores SIGINT; its children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_page_answers_and_ends_when_told(root: Path, free_port: int, number: signal.Signals, code: int) -> None:
    port = free_port
    program = (
        "from pathlib import Path; from lesion_exp.tracking.store import open_store\n"
        "from lesion_exp.tracking.ui import run_ui\n"
        f"run_ui(open_store(None, Path({str(root)!r})), 'tests', port={port})\n"
    )
    checkout = Path(__file__).parents[2]
    page = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=checkout,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_hear_ctrl_c,
    )
    try:
        assert page.stderr is not None
        address = next(line for line in page.stderr if line.startswith("MLflow: "))
        assert f"http://127.0.0.1:{port}/#/experiments/" in address
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=30) as answer:
            assert answer.status == 200
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
            assert b"autoOpenedOnFirstLoad" in answer.read()
        page.send_signal(number)
        assert page.wait(timeout=60) == code
    finally:
        page.terminate()  # it ends the server that it started
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
