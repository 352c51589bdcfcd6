import json
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from lesion_exp import cli
from lesion_exp.data.lock import is_held
from lesion_exp.errors import ConfigError
from lesion_exp.tracking import uploader
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.heartbeat import mark_dead_runs
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.tracking.spool import LOCK_FILE, SPOOL_DIR, Spool
from lesion_exp.tracking.store import Store, open_store
from lesion_exp.tracking.stored_run import download_artifact
from lesion_exp.tracking.sync import sync_runs


class Server:
    """A client of a store that is away while `away` is set; notes the calls that came through."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.away = threading.Event()
        self.calls: list[str] = []
        self.cut_after: int | None = None
        """Calls until the server goes away by itself."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            if self.cut_after is not None and len(self.calls) >= self.cut_after:
                self.away.set()
            if self.away.is_set():
                raise ConnectionError("the server is away")
            self.calls.append(name)
            return getattr(self._client, name)(*arguments, **keywords)

        return call


class RemoteStore(Store):
    """An embedded store whose artifacts can be reached through its server only."""

    def artifact_dir(self, artifact_uri: str) -> Path | None:
        return None

    def put_artifact(self, run_id: str, artifact_uri: str, source: Path, artifact_path: str) -> None:
        self.client.get_run(run_id)
        if artifact_path == "large.bin":
            error = OSError("413 Request Entity Too Large")
            error.response = SimpleNamespace(status_code=413)  # type: ignore[attr-defined]
            raise error
        target = Path(artifact_uri) / artifact_path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


@pytest.fixture
def server(store: Store, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(uploader, "LONGEST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(uploader, "_FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(uploader.time, "sleep", lambda seconds: None)
    return Server(store.client)


@pytest.fixture
def remote(store: Store, server: Server) -> Store:
    return RemoteStore(**vars(replace(store, client=server)))


def start(store: Store, **options: Any) -> TrackedRun:
    return TrackedRun.start(store, "tests", "a run", **{"system_metrics_seconds": 0, "flush_seconds": 0.02, **options})


def log_everything(run: TrackedRun, begin: int, end: int) -> None:
    """What a training does between two steps."""
    for step in range(begin, end):
        run.log_metrics({"train/loss": 1 / (step + 1), "val/accuracy": step / 7}, step)
    run.log_params({"found": {f"lr_{begin}": 0.1}})
    run.set_tags({"stage": f"to {end}", f"tag_{begin}": True})
    run.log_text(f"{begin} {end}", f"notes/{begin}.txt")
    table = pd.DataFrame({"image_id": ["a", "b"]})
    run.log_dataset(table, f"images {begin}", fingerprint="f" * 40, source="/data", context="training")


def everything(store: Store, run_id: str) -> dict[str, Any]:
    """All that a store knows of a run, but ids and times."""
    run = find_run(store, run_id)
    names = ("train/loss", "val/accuracy")
    folder = Path(run.artifact_uri)
    return {
        "status": run.status,
        "params": run.params,
        "tags": {name: tag for name, tag in run.tags.items() if name != "mlflow.heartbeat"},
        "points": {name: [(p.step, p.value) for p in store.client.get_metric_history(run_id, name)] for name in names},
        "files": {
            path.relative_to(folder).as_posix(): path.read_text() if path.name != "log.txt" else ""
            for path in folder.rglob("*")
            if path.is_file()
        },
        "inputs": sorted(i.dataset.name for i in store.client.get_run(run_id).inputs.dataset_inputs),
    }


@pytest.fixture
def undisturbed(store: Store, remote: Store) -> dict[str, Any]:
    with start(remote) as run:
        for begin in (0, 100, 200):
            log_everything(run, begin, begin + 100)
    assert not run.unsent
    return everything(store, run.run_id)


def same_store(store: Store) -> Callable[[str], Store]:
    return lambda uri: store


def test_an_outage_in_the_middle_changes_nothing(
    store: Store, remote: Store, server: Server, undisturbed: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with start(remote) as run:
        log_everything(run, 0, 100)
        server.away.set()
        log_everything(run, 100, 200)
        deadline = time.monotonic() + 30
        while "is unavailable; the run continues" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.01)
        server.away.clear()
        log_everything(run, 200, 300)
    assert not run.unsent
    assert everything(store, run.run_id) == undisturbed
    assert caplog.text.count("is unavailable; the run continues") == 1
    assert not run.live_dir.exists()


def test_a_run_that_ends_while_its_server_is_away_is_sent_by_sync(
    store: Store, remote: Store, server: Server, undisturbed: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with start(remote) as run:
        log_everything(run, 0, 100)
        run.flush()
        server.away.set()
        log_everything(run, 100, 200)
        log_everything(run, 200, 300)
        (run.live_dir / "last.ckpt").write_bytes(b"weights")
    run.clear_live_dir()
    assert run.unsent
    assert "lesion-exp sync" in caplog.text
    assert [path.name for path in run.live_dir.iterdir()] == [SPOOL_DIR]
    assert find_run(store, run.run_id).status == "RUNNING"
    ended = time.time()
    server.away.clear()
    time.sleep(0.05)
    (outcome,) = sync_runs(remote.live, same_store(remote))
    assert (outcome.state, outcome.counts["metrics"], outcome.counts["params"]) == ("sent", 400, 2)
    assert "400 metrics" in outcome.line()
    assert "3 files" in outcome.line()
    assert everything(store, run.run_id) == undisturbed
    assert store.client.get_run(run.run_id).info.end_time <= ended * 1000
    assert not run.live_dir.exists()
    assert sync_runs(remote.live, same_store(remote)) == []


@pytest.mark.parametrize("calls", [1, 2, 4, 6, 9])
def test_a_sync_that_is_cut_anywhere_is_taken_up_by_the_next(
    store: Store, remote: Store, server: Server, undisturbed: dict[str, Any], calls: int
) -> None:
    run = ended_while_away(remote, server)
    server.away.clear()
    server.calls, server.cut_after = [], calls
    (outcome,) = sync_runs(remote.live, same_store(remote))
    assert (outcome.state, outcome.reason) == ("failed", "the server is away")
    server.away.clear()
    server.cut_after = None
    (outcome,) = sync_runs(remote.live, same_store(remote))
    assert outcome.state == "sent"
    assert everything(store, run.run_id) == undisturbed


def ended_while_away(remote: Store, server: Server) -> TrackedRun:
    with start(remote) as run:
        server.away.set()
        for begin in (0, 100, 200):
            log_everything(run, begin, begin + 100)
    assert run.unsent
    return run


@pytest.mark.slow
def test_a_sync_that_is_killed_doubles_nothing(store: Store, root: Path) -> None:
    program = f"""
        import os, signal
        from pathlib import Path
        from lesion_exp.tracking.run import TrackedRun
        from lesion_exp.tracking.store import open_store
        from lesion_exp.tracking.sync import sync_runs
        store = open_store(None, Path({str(root)!r}))
        run = TrackedRun.start(store, "tests", "a run", flush_seconds=3600, flush_every=10**6,
                               system_metrics_seconds=0)
        real, whole = store.client.log_batch, False
        def log_batch(*arguments, **keywords):
            if not whole:
                raise ConnectionError("nothing is sent before all is logged")
            real(*arguments, **keywords)
            if max(len(given) for given in (*arguments[1:], *keywords.values()) if isinstance(given, list)) == 1000:
                os.kill(os.getpid(), signal.SIGKILL)
        store.client.log_batch = log_batch
        for step in range(1500):
            run.log_metrics({{"train/loss": step}}, step)
        whole = True
        run.finish("FINISHED")
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert ended.returncode == -signal.SIGKILL
    (run,) = store.client.search_runs([store.experiment_id("tests")])
    run_id = run.info.run_id
    sent = store.client.get_metric_history(run_id, "train/loss")
    assert 1000 <= len(sent) < 1500  # a batch of 1,000, and what was tried before all was logged
    (outcome,) = sync_runs(store.live, same_store(store))
    assert outcome.state == "sent"
    points = store.client.get_metric_history(run_id, "train/loss")
    assert [point.step for point in points] == list(range(1500))
    assert find_run(store, run_id).status == "FINISHED"


def test_two_syncs_and_a_living_run_do_not_meet(remote: Store, server: Server) -> None:
    run = ended_while_away(remote, server)
    server.away.clear()
    held = Spool(run.live_dir / SPOOL_DIR)
    (outcome,) = sync_runs(remote.live, same_store(remote))
    assert (outcome.state, held.waiting > 0) == ("alive", True)
    held.close()
    assert [outcome.state for outcome in sync_runs(remote.live, same_store(remote))] == ["sent"]


def test_a_run_that_was_resumed_elsewhere_keeps_its_state(store: Store, remote: Store, server: Server) -> None:
    run = ended_while_away(remote, server)
    server.away.clear()
    store.client.set_tag(run.run_id, "mlflow.heartbeat", str(time.time() + 10))
    (outcome,) = sync_runs(remote.live, same_store(remote))
    assert outcome.state == "alive"
    assert find_run(store, run.run_id).status == "RUNNING"


def test_calls_return_at_once_while_the_server_hangs(
    store: Store, remote: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lesion_exp.tracking.run._PATIENCE_SECONDS", 0.2)
    hung, freed = threading.Event(), threading.Event()

    def hang(*arguments: Any, **keywords: Any) -> None:
        hung.set()
        freed.wait(60)
        raise ConnectionError("timed out")

    run = start(remote)
    object.__setattr__(remote, "client", SimpleNamespace(log_batch=hang, get_run=hang, set_tag=hang))
    run.log_metrics({"train/loss": 1.0}, 0)
    assert hung.wait(30)
    began = time.monotonic()
    folder = run.live_dir / SPOOL_DIR
    for step in range(1, 1001):
        run.log_metrics({"train/loss": 1.0}, step)
    run.set_tags({"stage": "late"})
    run.log_text("kept", "notes/a.txt")
    run.finish("FINISHED")
    assert time.monotonic() - began < 5
    assert run.unsent
    assert is_held(folder.with_name(LOCK_FILE))
    freed.set()
    deadline = time.monotonic() + 30
    while is_held(folder.with_name(LOCK_FILE)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert Spool(folder).waiting == 1005  # metrics, tag, text, log and state


def test_a_run_that_ends_waits_for_a_large_file_on_its_way(
    store: Store, remote: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lesion_exp.tracking.run._PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(uploader, "SLOWEST_BYTES_A_SECOND", 10)
    under_way = threading.Event()
    real = RemoteStore.put_artifact

    def slow(self: RemoteStore, *arguments: Any) -> None:
        under_way.set()
        threading.Event().wait(0.6)
        real(self, *arguments)

    monkeypatch.setattr(RemoteStore, "put_artifact", slow)
    with start(remote) as run:
        run.log_text("x" * 100, "checkpoints/best.ckpt")
        assert under_way.wait(30)
        monkeypatch.setattr(RemoteStore, "put_artifact", real)
    assert not run.unsent
    assert find_run(store, run.run_id).status == "FINISHED"


def test_what_the_store_refuses_is_set_aside_and_the_rest_arrives(
    store: Store, remote: Store, caplog: pytest.LogCaptureFixture
) -> None:
    with start(remote, params={"seed": 1}) as run:
        run.log_params({"seed": 2})
        run.set_tags({"stage": "done"})
        run.log_text("x", "large.bin")
        run.log_text("kept", "notes/a.txt")
        run.log_metrics({"train/loss": 1.0}, 0)
    found = find_run(store, run.run_id)
    assert (found.status, found.params["seed"], found.metrics["train/loss"]) == ("FINISHED", "1", 1.0)
    assert (found.tags["stage"], download_artifact(found, "notes/a.txt").read_text()) == ("done", "kept")
    assert "The store refuses large.bin" in caplog.text
    (outcome,) = sync_runs(remote.live, same_store(store))  # another server, which takes large files
    assert outcome.state == "refused"
    assert download_artifact(found, "large.bin").read_text() == "x"
    assert "1 entries" in outcome.reason


def test_what_is_meant_for_a_deleted_run_is_not_thrown_away(store: Store, remote: Store, server: Server) -> None:
    run = ended_while_away(remote, server)
    server.away.clear()
    store.client.delete_run(run.run_id)
    (outcome,) = sync_runs(remote.live, same_store(remote))
    assert outcome.state == "failed"
    assert "deleted" in outcome.reason
    store.client.restore_run(run.run_id)
    assert [outcome.state for outcome in sync_runs(remote.live, same_store(remote))] == ["sent"]


def test_what_a_killed_process_had_not_sent_is_sent_when_its_run_is_marked(store: Store) -> None:
    experiment = store.experiment_id("tests")
    run_id = store.client.create_run(experiment, tags={"mlflow.heartbeat": "1"}).info.run_id
    spool = Spool(store.live / run_id / SPOOL_DIR)
    spool.add("metrics", time=5, step=3, values={"train/loss": 0.5})
    assert mark_dead_runs(store) == []  # its process lives, only its store was away
    spool.close()
    assert mark_dead_runs(store) == [run_id]
    found = find_run(store, run_id)
    assert (found.status, found.metrics) == ("KILLED", {"train/loss": 0.5})
    assert not (store.live / run_id / SPOOL_DIR).exists()


def test_verb_sends_says_so_and_refuses_an_unknown_run(
    store: Store, remote: Store, server: Server, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ended_while_away(remote, server)
    paths = f"paths.root={root}"
    assert cli.main(["sync", paths, "run=beef"]) == 2
    assert run.run_id in capsys.readouterr().err
    assert cli.main(["sync", paths, f"run={run.run_id[:6]}", "--json"]) == 0
    (sent,) = json.loads(capsys.readouterr().out)["runs"]
    assert (sent["run_id"], sent["state"], sent["sent"]["metrics"]) == (run.run_id, "sent", 600)
    assert find_run(store, run.run_id).status == "FINISHED"
    assert cli.main(["sync", paths]) == 0
    assert "nothing to send" in capsys.readouterr().out


def test_verb_says_that_the_server_is_still_away(
    root: Path, tmp_path: Path, free_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    spool = Spool(root / "mlruns" / "live" / ("a" * 32) / SPOOL_DIR)
    spool.describe({"run_id": "a" * 32, "run_name": "x", "store": f"http://127.0.0.1:{free_port}"})
    spool.add("tags", values={"stage": "done"})
    spool.close()
    assert cli.main(["sync", f"paths.root={root}"]) == 2
    captured = capsys.readouterr()
    assert "does not answer" in captured.err
    assert "Traceback" not in captured.err
    assert Spool(root / "mlruns" / "live" / ("a" * 32) / SPOOL_DIR).waiting == 1


def test_verb_sends_to_a_store_that_has_moved(
    store: Store, remote: Store, server: Server, root: Path, free_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ended_while_away(remote, server)
    header = run.live_dir / SPOOL_DIR / "run.json"
    header.write_text(json.dumps({**json.loads(header.read_text()), "store": f"http://127.0.0.1:{free_port}"}))
    assert cli.main(["sync", f"paths.root={root}"]) == 2
    assert cli.main(["sync", f"paths.root={root}", f"tracking.uri={store.uri}"]) == 0
    assert f"{run.run_id}  sent" in capsys.readouterr().out
    assert find_run(store, run.run_id).status == "FINISHED"


def test_a_run_does_not_start_on_a_server_that_is_away(root: Path, free_port: int) -> None:
    with pytest.raises(ConfigError, match="does not answer"):
        open_store(f"http://127.0.0.1:{free_port}", root)
