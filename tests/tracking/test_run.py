import logging
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mlflow.exceptions import MlflowException
from PIL import Image

from lesion_exp.errors import ConfigError
from lesion_exp.tracking import run as run_module
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.heartbeat import mark_dead_runs
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.tracking.run_writer import RunWriter, save_figure
from lesion_exp.tracking.store import Store
from lesion_exp.tracking.stored_run import Run, download_artifact


def start(store: Store, **options: Any) -> TrackedRun:
    return TrackedRun.start(store, "tests", "a run", **{"system_metrics_seconds": 0, **options})


def stored(store: Store, run: TrackedRun) -> Run:
    return find_run(store, run.run_id)


def history(store: Store, run: TrackedRun, key: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in store.client.get_metric_history(run.run_id, key)]


def test_run_is_running_then_finished(store: Store) -> None:
    with start(store) as run:
        assert stored(store, run).status == "RUNNING"
        assert time.time() - float(stored(store, run).tags["mlflow.heartbeat"]) < 60
    assert stored(store, run).status == "FINISHED"


def test_all_metrics_arrive_in_order(store: Store) -> None:
    with start(store, flush_seconds=60) as run:
        for step in range(2500):
            run.log_metrics({"train/loss": 1 / (step + 1), "val/accuracy": step}, step)
    assert history(store, run, "train/loss") == [(step, 1 / (step + 1)) for step in range(2500)]
    assert len(history(store, run, "val/accuracy")) == 2500


def test_metrics_are_sent_while_the_run_lives(store: Store) -> None:
    with start(store, flush_seconds=60, flush_every=10) as run:
        for step in range(10):
            run.log_metrics({"train/loss": 0.5}, step)
        deadline = time.monotonic() + 60
        while len(history(store, run, "train/loss")) < 10 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(history(store, run, "train/loss")) == 10


def test_a_store_that_is_away_for_a_while_loses_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    away = threading.Event()
    away.set()
    real = store.client.log_batch

    def log_batch(*arguments: Any, **keywords: Any) -> None:
        if away.is_set():
            raise ConnectionError("away")
        real(*arguments, **keywords)

    monkeypatch.setattr(store.client, "log_batch", log_batch)
    with start(store) as run:
        for step in range(5):
            run.log_metrics({"train/loss": step}, step)
        with pytest.raises(ConnectionError):
            run.flush()
        away.clear()
    assert history(store, run, "train/loss") == [(step, step) for step in range(5)]


def test_exception_marks_failed_with_error_tag_and_traceback(store: Store) -> None:
    run = start(store)
    run.log_metrics({"train/loss": 3.0}, 7)
    with pytest.raises(RuntimeError), run:
        raise RuntimeError("the loss is not finite")
    found = stored(store, run)
    assert found.status == "FAILED"
    assert found.tags["error"] == "RuntimeError: the loss is not finite"
    assert "Traceback" in download_artifact(found, "log.txt").read_text()
    assert history(store, run, "train/loss") == [(7, 3.0)]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_a_stopped_process_leaves_killed(store: Store, stop: type[BaseException]) -> None:
    with pytest.raises(stop), start(store) as run:
        raise stop
    assert stored(store, run).status == "KILLED"
    assert "error" not in stored(store, run).tags


def test_the_run_s_own_error_is_seen_though_the_store_fails_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **keywords: Any) -> None:
        raise ConnectionError("away")

    run = start(store)
    monkeypatch.setattr(store.client, "set_terminated", fail)
    with pytest.raises(RuntimeError, match="mine"), run:
        raise RuntimeError("mine")


def test_log_holds_what_was_logged_meanwhile(store: Store) -> None:
    logger = logging.getLogger("lesion_exp.anything")
    logger.warning("before")
    with start(store) as run:
        logger.warning("a class has one lesion")
    logger.warning("after")
    text = download_artifact(stored(store, run), "log.txt").read_text()
    assert "a class has one lesion" in text
    assert "before" not in text
    assert "after" not in text
    assert not run.live_dir.exists()


def test_heartbeat_is_renewed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr(run_module, "now_text", lambda: "1")
    with start(store) as run:
        store.client.set_tag(run.run_id, "mlflow.heartbeat", "0")
        deadline = time.monotonic() + 60
        while stored(store, run).tags["mlflow.heartbeat"] == "0" and time.monotonic() < deadline:
            time.sleep(0.02)
        assert stored(store, run).tags["mlflow.heartbeat"] == "1"


def test_dead_runs_are_marked_killed_and_living_ones_left_alone(store: Store) -> None:
    experiment = store.experiment_id("tests")
    last_beat = time.time() - 61
    dead = store.client.create_run(experiment, tags={"mlflow.heartbeat": str(last_beat)}).info.run_id
    foreign = store.client.create_run(experiment).info.run_id
    log = store.live / dead / "log.txt"
    log.parent.mkdir(parents=True)
    log.write_text("last words")
    with start(store) as alive:
        assert mark_dead_runs(store) == [dead]
        assert stored(store, alive).status == "RUNNING"
    killed = find_run(store, dead)
    assert killed.status == "KILLED"
    assert store.client.get_run(dead).info.end_time == int(last_beat * 1000)
    assert download_artifact(killed, "log.txt").read_text() == "last words"
    assert find_run(store, foreign).status == "RUNNING"


def test_resumed_run_continues_metrics_and_log_without_doubling(store: Store) -> None:
    run = start(store)
    logging.getLogger("lesion_exp").warning("first half")
    for step in range(6):
        run.log_metrics({"train/loss": float(step)}, step)
    with pytest.raises(KeyboardInterrupt), run:
        raise KeyboardInterrupt
    with TrackedRun.resume(store, run.run_id, system_metrics_seconds=0) as resumed:
        assert stored(store, resumed).status == "RUNNING"
        logging.getLogger("lesion_exp").warning("second half")
        for step in range(4, 9):
            resumed.log_metrics({"train/loss": float(step)}, step)
    assert history(store, run, "train/loss") == [(step, float(step)) for step in range(9)]
    text = download_artifact(stored(store, run), "log.txt").read_text()
    assert text.index("first half") < text.index("second half")


def test_resuming_clears_the_error_of_before(store: Store) -> None:
    with pytest.raises(OSError, match="disk full"), start(store) as run:
        raise OSError("disk full")
    with TrackedRun.resume(store, run.run_id, system_metrics_seconds=0):
        pass
    assert stored(store, run).status == "FINISHED"
    assert "error" not in stored(store, run).tags


def test_a_living_run_cannot_be_resumed(store: Store) -> None:
    with start(store) as run, pytest.raises(ConfigError, match="RUNNING"):
        TrackedRun.resume(store, run.run_id)


def test_resumed_run_keeps_its_parameters_and_says_so(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    with start(store, params={"optimizer": {"lr": 0.1}}) as run:
        pass
    with TrackedRun.resume(store, run.run_id, system_metrics_seconds=0) as resumed:
        resumed.log_params({"optimizer": {"lr": 0.2}, "seed": 1})
    assert stored(store, run).params == {"optimizer.lr": "0.1", "seed": "1"}
    assert "the parameter optimizer.lr of this run stays 0.1" in caplog.text


def test_many_and_long_parameters(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    params = {"loss": {f"weight_{number}": number for number in range(250)}, "filter": "x" * 7000, "edge": "y" * 6000}
    with start(store, params=params) as run:
        pass
    found = stored(store, run).params
    assert len(found) == 252
    assert found["loss.weight_249"] == "249"
    assert found["filter"] == "7000 characters (see config/job.yaml)"
    assert found["edge"] == "y" * 6000
    assert "filter has 7000 characters" in caplog.text


def test_files_of_a_run(store: Store, tmp_path: Path) -> None:
    table = pd.DataFrame({"image_id": ["a", "b"], "label": ["mel", "nv"], "p_mel": [0.75, 0.25]})
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot([1, 2])
    (tmp_path / "job.yaml").write_text("seed: 1\n")
    with start(store) as run:
        run.log_json({"lesions": 3, "ü": [1]}, "split/audit.json")
        run.log_table(table, "predictions/test.parquet")
        run.log_figure(figure, "curves/roc_test.png", "test part")
        run.log_file(tmp_path / "job.yaml", "config/frozen.yaml")
    (footer,) = figure.texts
    assert footer.get_text() == f"run {run.name} ({run.run_id[:8]}), test part"
    assert store.client.get_run(run.run_id).info.run_name == run.name == RunWriter(store, run.run_id, "").name
    found = stored(store, run)
    assert download_artifact(found, "split/audit.json").read_text() == '{\n  "lesions": 3,\n  "ü": [\n    1\n  ]\n}\n'
    pd.testing.assert_frame_equal(pd.read_parquet(download_artifact(found, "predictions/test.parquet")), table)
    assert download_artifact(found, "curves/roc_test.png").read_bytes().startswith(b"\x89PNG")
    assert download_artifact(found, "config/frozen.yaml").read_text() == "seed: 1\n"
    listed = {entry.path for entry in store.client.list_artifacts(run.run_id)}
    assert listed == {"split", "predictions", "curves", "config", "log.txt"}


@pytest.mark.parametrize("loc", ["outside lower center", "outside right upper"])
def test_the_footer_stands_below_all_of_the_figure(tmp_path: Path, loc: str) -> None:
    """Also below a legend of the figure, and below a title that hangs out of it."""
    figure = Figure(figsize=(3, 2), layout="constrained")
    (line,) = figure.subplots().plot([1, 2], color="#FF0000", linewidth=6, label="a line")
    figure.text(0.5, -0.2, "hangs", color="#0000FF")
    figure.legend(handles=[line], loc=loc)
    figure.draw_without_rendering()
    planned_at = figure.legends[0].get_window_extent().bounds
    save_figure(figure, tmp_path / "a.png", "run demo, test part")
    assert figure.legends[0].get_window_extent().bounds == pytest.approx(planned_at)
    pixels = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    strong = (pixels.max(axis=2) - pixels.min(axis=2)) > 150  # the line, the legend, the title
    last = int(np.flatnonzero(strong.any(axis=1))[-1])
    below = np.flatnonzero((pixels[last + 1 :] < 200).all(axis=2).any(axis=1))
    assert len(below) > 5, "the footer"
    assert below[0] > 1, "with a gap above it"


def test_a_figure_that_is_saved_twice_has_one_footer(tmp_path: Path) -> None:
    figure = Figure(figsize=(3, 2), layout="constrained")
    figure.subplots().plot([1, 2])
    for name in ("a.pdf", "b.png", "c.png"):
        save_figure(figure, tmp_path / name, "run demo, test part")
    assert [text.get_text() for text in figure.texts] == ["run demo, test part"]
    first, second = (np.asarray(Image.open(tmp_path / name)) for name in ("b.png", "c.png"))
    np.testing.assert_array_equal(first, second)


def test_a_figure_is_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    draw = Axes.draw
    monkeypatch.setattr(Axes, "draw", lambda self, renderer: drawn.append(self) or draw(self, renderer))
    figure = Figure(figsize=(3, 2), layout="constrained")
    axes = figure.subplots()
    save_figure(figure, tmp_path / "a.png", "run demo, test part")
    assert drawn == [axes]


def test_dataset_is_an_input_with_the_fingerprint_as_digest(store: Store) -> None:
    table = pd.DataFrame({"image_id": ["a", "b"], "age": [40.0, None], "label": ["mel", "nv"]})
    fingerprint = "0123456789abcdef" * 4
    with start(store) as run:
        run.log_dataset(
            table, "ham10000", fingerprint=fingerprint, source="/data/ham", context="training", profile={"mel": 1}
        )
    (entry,) = store.client.get_run(run.run_id).inputs.dataset_inputs
    assert entry.dataset.name == "ham10000"
    assert entry.dataset.digest == fingerprint[:36]
    assert '"num_rows": 2' in entry.dataset.profile
    assert [(tag.key, tag.value) for tag in entry.tags] == [("mlflow.data.context", "training")]


def test_a_dataset_that_another_run_enters_at_the_same_time_does_not_make_the_store_unavailable(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log_inputs, calls = store.client.log_inputs, []

    def refuse_once(run_id: str, **inputs: Any) -> None:
        calls.append(run_id)
        if len(calls) == 1:
            raise MlflowException("(sqlite3.IntegrityError) UNIQUE constraint failed: datasets.experiment_id")
        log_inputs(run_id, **inputs)

    monkeypatch.setattr(store.client, "log_inputs", refuse_once)
    with start(store) as run:
        run.log_dataset(pd.DataFrame({"image_id": ["a"]}), "ham", fingerprint="f" * 36, source="/d", context="training")
    assert len(calls) == 2
    (entry,) = store.client.get_run(run.run_id).inputs.dataset_inputs
    assert entry.dataset.name == "ham"
    assert "unavailable" not in caplog.text


def test_class_names_that_mlflow_refuses_are_logged_under_names_that_tell_them(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    with start(store) as run:
        run.log_metrics({"test/recall/nevus (atypical)": 0.5, "test/recall/mélanome": 0.25}, 0)
    assert stored(store, run).metrics == {"test/recall/nevus _x28_atypical_x29_": 0.5, "test/recall/mélanome": 0.25}
    assert "nevus (atypical)" in caplog.text


def test_tags_are_text_and_booleans_as_in_yaml(store: Store) -> None:
    with start(store, tags={"job_hash": "abc"}) as run:
        run.set_tags({"leaky": False, "split.fold": 2})
    found = stored(store, run).tags
    assert (found["leaky"], found["split.fold"], found["job_hash"]) == ("false", "2", "abc")


def test_load_of_the_machine_is_recorded(store: Store) -> None:
    with start(store, system_metrics_seconds=0.05) as run:
        deadline = time.monotonic() + 60
        while not stored(store, run).metrics and time.monotonic() < deadline:
            time.sleep(0.05)
    metrics = stored(store, run).metrics
    assert 0 <= metrics["system/system_memory_usage_percentage"] <= 100
    assert metrics["system/process_memory_usage_megabytes"] > 10


def test_a_figure_is_compressed_quickly_and_has_all_of_its_pixels(tmp_path: Path) -> None:
    figure = Figure()
    figure.subplots().plot([0, 1, 0])
    save_figure(figure, tmp_path / "a.png", "run demo, test part")
    content = (tmp_path / "a.png").read_bytes()
    beginning = content.index(b"IDAT") + 4
    assert content[beginning : beginning + 2] == b"\x78\x5e", "zlib's mark of the levels 2 to 5"
    with Image.open(tmp_path / "a.png") as written:
        quick = np.asarray(written.convert("RGB"))
        written.save(tmp_path / "b.png")  # by the default level
    with Image.open(tmp_path / "b.png") as again:
        assert np.array_equal(quick, np.asarray(again.convert("RGB")))
