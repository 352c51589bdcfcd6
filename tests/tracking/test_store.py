import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from lesion_exp.errors import ConfigError
from lesion_exp.tracking import database_file
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.tracking.store import Store, open_store
from lesion_exp.tracking.stored_run import download_artifact
from tests.copied_tables import MAKE_TABLES


def test_default_store_lies_under_root_and_writes_ahead(store: Store, root: Path) -> None:
    assert store.uri == f"sqlite:///{root}/mlruns/mlflow.db"
    assert store.artifacts == root / "mlruns" / "artifacts"
    assert store.live == root / "mlruns" / "live"
    with closing(sqlite3.connect(root / "mlruns" / "mlflow.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_new_store_of_a_test_is_the_one_that_mlflow_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Other tests get a copy (`tests/copied_tables.py`), since MLflow takes seconds."""
    contents = []
    for name in ("copied", "made"):
        database = open_store(None, tmp_path / name).database
        assert database is not None
        with closing(sqlite3.connect(database)) as connection:
            statements = [text.replace(str(tmp_path / name), "ROOT") for text in connection.iterdump()]
        assert any("ROOT/mlruns/artifacts/0" in text for text in statements)
        timeless = [re.sub(r"\b1\d{12}\b", "TIME", text) for text in statements]
        # MLflow makes constraints and indices in another order each time
        contents.append(sorted(sorted(line.strip(" \t,") for line in text.splitlines()) for text in timeless))
        monkeypatch.setattr(database_file, "_make_tables", MAKE_TABLES)
    assert contents[0] == contents[1]
    assert "moved" not in caplog.text


def test_key_wins_over_environment_and_environment_over_default(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere, keyed = root.parent / "elsewhere", root.parent / "keyed"
    shutil.copytree(root / "mlruns", elsewhere)
    shutil.copytree(root / "mlruns", keyed)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{elsewhere}/mlflow.db")
    assert open_store(None, root).database == elsewhere / "mlflow.db"
    store = open_store(f"sqlite:///{keyed}/mlflow.db", root)
    assert store.database == keyed / "mlflow.db"
    assert store.artifacts == keyed / "artifacts"


def test_experiment_is_made_once_with_artifacts_beside_the_database(store: Store) -> None:
    number = store.experiment_id("skin lesions/2018")
    assert store.experiment_id("skin lesions/2018") == number
    experiment = store.client.get_experiment(number)
    assert experiment.artifact_location == str(store.artifacts / "skin_lesions_2018")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


def test_deleted_experiment_is_refused(store: Store) -> None:
    store.client.delete_experiment(store.experiment_id("gone"))
    with pytest.raises(ConfigError, match="'gone' was deleted"):
        store.experiment_id("gone")


@pytest.mark.parametrize("uri", ["file:///data/runs", "/data/runs", "./runs"])
def test_plain_folder_is_refused_with_the_uri_to_use(uri: str, root: Path) -> None:
    with pytest.raises(ConfigError, match=r"plain folder[\s\S]*Use sqlite:////.*runs/mlflow\.db"):
        open_store(uri, root)


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///:memory:", "sqlite:mlflow.db"])
def test_sqlite_without_a_file_is_refused(uri: str, root: Path) -> None:
    with pytest.raises(ConfigError, match="expected a file in tracking"):
        open_store(uri, root)


def test_unknown_scheme_is_refused_without_showing_the_password(root: Path) -> None:
    with pytest.raises(ConfigError, match="expected sqlite") as caught:
        open_store("oracle://me:secret@server/runs", root)
    assert "secret" not in str(caught.value)


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("these are my notes, " * 100)
    with pytest.raises(ConfigError, match="expected an SQLite database"):
        open_store(f"sqlite:///{tmp_path}/notes.db", tmp_path)
    assert (tmp_path / "notes.db").read_text().startswith("these are my notes")


def test_path_that_no_uri_can_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="without the characters"):
        open_store(None, tmp_path / "what?")


@pytest.mark.parametrize("scheme", ["http", "postgresql"])
def test_unreachable_server_is_refused_at_once(scheme: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    with socket.socket() as taken:  # bound but not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        uri = f"{scheme}://me:secret@127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError) as caught:
            open_store(uri, root)
    assert not pauses, "it tried again"
    assert "secret" not in str(caught.value)
    assert ("does not answer" in str(caught.value)) or ("pip install" in str(caught.value))


def test_server_that_is_no_mlflow_is_refused(root: Path) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(ConfigError, match="expected an MLflow server"):
            open_store(f"http://127.0.0.1:{server.server_port}", root)
        server.shutdown()


def test_a_server_that_refuses_the_address_is_answered_with_its_option(root: Path) -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"" if self.path == "/health" else b"Invalid Host header - possible DNS rebinding attack detected"
            self.send_response(403 if body else 200)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_port}"
        with pytest.raises(ConfigError, match=rf"Start the server with --allowed-hosts {address},localhost:PORT$"):
            open_store(f"http://{address}", root)
        server.shutdown()


def test_telemetry_is_off(store: Store) -> None:
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def make_run(store: Store, text: str = "kept") -> str:
    with TrackedRun.start(store, "moves", "a run", system_metrics_seconds=0) as run:
        run.log_text(text, "notes/a.txt")
    return run.run_id


def test_moved_store_finds_its_artifacts(store: Store, root: Path, tmp_path: Path) -> None:
    run_id = make_run(store)
    moved = open_store(None, root.rename(tmp_path / "moved here"))
    run = find_run(moved, run_id)
    assert run.artifact_uri.startswith(str(tmp_path / "moved here"))
    assert download_artifact(run, "notes/a.txt").read_text() == "kept"
    later = find_run(moved, make_run(moved, "new"))
    assert download_artifact(later, "notes/a.txt").is_relative_to(tmp_path / "moved here")
    assert moved.client.get_experiment(moved.experiment_id("moves")).artifact_location.startswith(
        str(tmp_path / "moved")
    )


def test_copy_of_a_store_leaves_the_original_alone(store: Store, root: Path, tmp_path: Path) -> None:
    run_id = make_run(store)
    copy = open_store(None, Path(shutil.copytree(root, tmp_path / "copy")))
    assert find_run(copy, run_id).artifact_uri.startswith(str(tmp_path / "copy"))
    assert find_run(store, run_id).artifact_uri.startswith(str(root))


def test_while_a_run_lives_paths_are_translated_and_not_rewritten(store: Store, root: Path, tmp_path: Path) -> None:
    run_id = make_run(store)
    with TrackedRun.start(store, "moves", "alive", system_metrics_seconds=0):
        mirror = open_store(None, Path(shutil.copytree(root, tmp_path / "mirror")))
        run = find_run(mirror, run_id)
        assert run.artifact_uri.startswith(str(root))
        assert download_artifact(run, "notes/a.txt") == tmp_path / "mirror" / "mlruns/artifacts/moves" / run_id / (
            "artifacts/notes/a.txt"
        )


def test_foreign_database_keeps_its_paths(tmp_path: Path, store: Store, root: Path) -> None:
    run_id = make_run(store)
    with closing(sqlite3.connect(root / "mlruns/mlflow.db")) as connection, connection:
        connection.execute("UPDATE experiments SET artifact_location = 's3://bucket/0' WHERE experiment_id = 0")
    moved = open_store(None, Path(shutil.copytree(root, tmp_path / "copy")))
    assert find_run(moved, run_id).artifact_uri.startswith(str(root))


def test_older_schema_is_migrated_and_the_former_state_kept(store: Store, root: Path) -> None:
    database = root / "mlruns/mlflow.db"
    from alembic import command
    from mlflow.store.db import utils

    run_id = make_run(store)
    config = utils._get_alembic_config(f"sqlite:///{database}")
    newest = utils._get_latest_schema_revision()
    engine = utils.create_sqlalchemy_engine(f"sqlite:///{database}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "-1")
    older = utils._get_schema_version(engine)
    engine.dispose()
    assert older != newest
    open_store(None, root)
    assert utils._get_schema_version(engine) == newest
    assert (root / "mlruns" / f"mlflow.db.{older}").exists()
    assert find_run(store, run_id).status == "FINISHED"


def test_store_of_a_newer_mlflow_is_refused(root: Path) -> None:
    database = root / "mlruns/mlflow.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    with pytest.raises(ConfigError, match="which it cannot read"):
        open_store(None, root)
    assert sorted(path.name for path in database.parent.glob("mlflow.db*f*f")) == []


@pytest.mark.slow
def test_many_processes_may_open_a_store_that_does_not_exist(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from lesion_exp.tracking.store import open_store\n"
        "from lesion_exp.tracking.run import TrackedRun\n"
        f"store = open_store(None, Path({str(tmp_path)!r}))\n"
        "with TrackedRun.start(store, 'crowd', sys.argv[1], system_metrics_seconds=0) as run:\n"
        "    for step in range(50): run.log_metrics({'train/loss': step}, step)\n"
    )
    checkout = Path(__file__).parents[2]
    crowd = [
        subprocess.Popen([sys.executable, "-c", code, str(number)], cwd=checkout, stderr=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    for process in crowd:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    store = open_store(None, tmp_path)
    runs = store.client.search_runs(store.experiment_ids())
    assert sorted(run.info.run_name for run in runs) == [str(number) for number in range(4)]
    for run in runs:
        assert run.info.status == "FINISHED"
        assert len(store.client.get_metric_history(run.info.run_id, "train/loss")) == 50
