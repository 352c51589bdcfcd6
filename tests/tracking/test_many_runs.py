"""Questions about a store with many runs read as many of them as the answer needs."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy

from lesion_exp.data.data_fingerprint import PART_TAG
from lesion_exp.errors import ConfigError
from lesion_exp.sweeps.swept import find_swept
from lesion_exp.tracking import find, stored_run
from lesion_exp.tracking.find import READS_TAG, count_test_set_reads, find_run, find_tagged
from lesion_exp.tracking.heartbeat import clear_finished
from lesion_exp.tracking.store import Store, open_store
from lesion_exp.tracking.stored_run import MEMBERS_TAG, MODES_TAG, members_of

MANY = 120
DATA: Any = SimpleNamespace(parts={"images": "these"}, before="before")


def add_runs(store: Store, count: int, *, begun: int = 0, metric: str = "test/accuracy", **tags: str) -> list[str]:
    """Finished runs, one second apart; the value of the metric is largest in the middle. Returns their ids."""
    ids = [f"{begun + number:032x}" for number in range(count)]
    experiment = int(store.experiment_id("tests"))
    with closing(sqlite3.connect(store.database or "")) as connection, connection:
        connection.executemany(
            "INSERT INTO runs (run_uuid, start_time, artifact_uri, experiment_id, name, user_id, status, "
            "lifecycle_stage) VALUES (?, ?, ?, ?, 'one', 'me', 'FINISHED', 'active')",
            [(run_id, int(run_id, 16) * 1000, f"{store.root}/none", experiment) for run_id in ids],
        )
        connection.executemany(
            "INSERT INTO latest_metrics (run_uuid, key, value, timestamp, step, is_nan) VALUES (?, ?, ?, 0, 0, 0)",
            [(run_id, metric, -abs(number - count // 2)) for number, run_id in enumerate(ids)],
        )
        connection.executemany(
            "INSERT INTO tags (run_uuid, key, value) VALUES (?, ?, ?)",
            [(run_id, name, text) for run_id in ids for name, text in tags.items()],
        )
    return ids


@pytest.fixture
def read(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of runs that each search has returned."""
    found: list[int] = []
    search = store.client.search_runs

    def counted(*arguments: Any, **options: Any) -> Any:
        page = search(*arguments, **options)
        found.append(len(page))
        return page

    monkeypatch.setattr(store.client, "search_runs", counted)
    return found


def test_one_run_of_many_is_found_without_reading_the_others(store: Store, read: list[int]) -> None:
    ids = add_runs(store, MANY, kind="train")
    assert find_run(store, "latest").run_id == ids[-1]
    assert find_run(store, "best:test/accuracy").run_id == ids[MANY // 2]
    tagged = find_tagged(store, {"kind": "train"})
    assert tagged is not None
    assert tagged.run_id == ids[-1]
    assert sum(read) < 15
    read.clear()
    assert find_run(store, ids[3]).run_id == ids[3]
    assert read == [], "a whole id needs no search"


def test_all_of_many_runs_are_read_in_few_searches(store: Store, read: list[int]) -> None:
    ids = add_runs(store, MANY)
    assert [run.run_id for run in find.runs_where(store, "")] == ids[::-1]
    assert len(read) < 6


def test_best_reads_on_while_the_runs_are_leaky_and_takes_the_newest_of_equal_ones(store: Store) -> None:
    leaky = add_runs(store, 9, leaky="true")
    honest = add_runs(store, 9, begun=100, leaky="false")
    with closing(sqlite3.connect(store.database or "")) as connection, connection:
        connection.execute("UPDATE latest_metrics SET value = 1.0 WHERE run_uuid IN (?, ?)", (leaky[2], leaky[5]))
        connection.execute("UPDATE latest_metrics SET value = 0.5 WHERE run_uuid IN (?, ?)", (honest[3], honest[6]))
    assert find_run(store, "best:test/accuracy").run_id == honest[6]
    with closing(sqlite3.connect(store.database or "")) as connection, connection:
        connection.execute("UPDATE tags SET value = 'true' WHERE key = 'leaky'")
    assert find_run(store, "best:test/accuracy").run_id == leaky[5]


def test_the_smallest_value_of_a_loss_is_the_best(store: Store, read: list[int]) -> None:
    ids = add_runs(store, MANY, metric="test/loss")
    assert find_run(store, "best:test/loss").run_id == ids[0]
    assert sum(read) < 10


def test_reads_of_a_test_part_are_counted_from_the_newest_runs(
    store: Store, read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find, "COUNTED", 3)
    tags = {f"{PART_TAG}images": "these", "split_hash": "s"}
    for number in range(10):
        assert count_test_set_reads(store, DATA, "s") == number
        add_runs(store, 1, begun=number, **tags, **{READS_TAG: str(number + 1)})
    assert max(read) == 3


def test_the_newest_sweep_of_many_is_found_without_reading_the_others(store: Store, read: list[int]) -> None:
    ids = add_runs(store, MANY, kind="sweep", sweep_id="s")
    assert find_swept(store, store.root / "sweeps", "latest").parent.run_id == ids[-1]
    assert sum(read) < 15


def test_many_live_folders_are_one_question(store: Store, read: list[int]) -> None:
    ids = add_runs(store, 2)
    for run_id in [*ids, *(f"{number:032x}" for number in range(50, 80))]:
        (store.live / run_id).mkdir(parents=True)
    assert clear_finished(store) == ids
    assert len(read) == 1


@pytest.fixture
def queries() -> Iterator[list[str]]:
    """The queries that all databases get."""
    asked: list[str] = []

    def note(*given: Any) -> None:
        asked.append(str(given[2]))

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "before_cursor_execute", note)
    yield asked
    sqlalchemy.event.remove(sqlalchemy.engine.Engine, "before_cursor_execute", note)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The artifacts of runs that are looked up."""
    paths: list[str] = []
    fetch = stored_run.fetch_artifact

    def counted(store: Store, run_id: str, artifact_uri: str, path: str) -> Path | None:
        paths.append(f"{run_id} {path}")
        return fetch(store, run_id, artifact_uri, path)

    monkeypatch.setattr(stored_run, "fetch_artifact", counted)
    monkeypatch.setattr("lesion_exp.tracking.brief_runs.fetch_artifact", counted)
    return paths


def give_file(store: Store, run_id: str, value: float) -> None:
    """Gives a run a file with a result that is no metric in MLflow."""
    path = store.root / run_id / "evaluation" / "test" / "isic.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"balanced_accuracy": {"value": value}}))
    with closing(sqlite3.connect(store.database or "")) as connection, connection:
        connection.execute("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", (str(store.root / run_id), run_id))


def test_the_best_of_many_by_a_result_in_files_reads_one_file_of_each_trained_run_and_no_other_values(
    store: Store, read: list[int], queries: list[str], opened: list[str]
) -> None:
    asked = []
    for begun, count in ((0, 10), (1000, MANY)):
        ids = add_runs(store, count, begun=begun, kind="train")
        for number in (3, 5, 8):
            give_file(store, ids[number], 0.9 + begun / 1e6 - abs(number - 5) / 100)
        add_runs(store, 5, begun=begun + 500, kind="ensemble")
        opened.clear()
        queries.clear()
        assert find_run(store, "best:isic/balanced_accuracy").run_id == ids[5]
        asked.append(len(queries))
        assert read == [], "no search"
    assert asked[0] == asked[1] < 20
    assert len(opened) == 10 + MANY
    assert {name.split()[1] for name in opened} == {"evaluation/test/isic.json"}


def test_a_misspelt_metric_among_many_runs_is_refused_without_reading_all_values(store: Store, read: list[int]) -> None:
    add_runs(store, 3 * MANY, kind="train")
    with pytest.raises(ConfigError, match=r"best:.*'test/acuracy'.*did you mean 'test/accuracy'"):
        find_run(store, "best:test/acuracy")
    assert sum(read) < find.RECENT + 200


def test_the_direction_of_an_added_metric_is_read_from_tags_alone(store: Store, read: list[int]) -> None:
    ids = add_runs(store, MANY, metric="test/own", kind="train", **{MODES_TAG: '{"own": "min"}'})
    assert find_run(store, "best:test/own").run_id == ids[0]
    assert sum(read) < 15
    add_runs(store, 1, begun=1000, metric="test/own", kind="train", **{MODES_TAG: '{"own": "max"}'})
    with pytest.raises(ConfigError, match="the runs disagree"):
        find_run(store, "best:test/own")


@pytest.mark.parametrize("spec", ["20260101-0000", "0" * 31])
def test_an_older_sweep_of_many_is_found_without_reading_the_others(store: Store, read: list[int], spec: str) -> None:
    for number in range(MANY):
        add_runs(store, 1, begun=16 + number, kind="sweep", sweep_id=f"2025{number:04d}-000000-0000")
    (run_id,) = add_runs(store, 1, begun=3, kind="sweep", sweep_id="20260101-000000-0000")
    assert find_swept(store, store.root / "sweeps", spec).parent.run_id == run_id
    assert sum(read) < 15
    read.clear()
    with pytest.raises(ConfigError, match=r"'1999' names 0 sweeps"):
        find_swept(store, store.root / "sweeps", "1999")
    assert sum(read) < 30


def test_runs_with_a_tag_are_chosen_without_reading_the_others(store: Store, read: list[int]) -> None:
    for number in range(MANY):
        add_runs(store, 1, begun=number, **{MEMBERS_TAG: f"{number},{number + 1}" if number % 2 else ""})
    ids = {"7", "8", "9", "10", "11"}
    found = find.runs_with_tag(store, MEMBERS_TAG, lambda text: ids.issuperset(members_of(text)))
    assert [run.members for run in found] == [["9", "10"], ["7", "8"]]
    assert read == [], "no search"


def test_runs_are_sorted_by_a_metric_without_comparing_each_run_with_all_values(
    store: Store, queries: list[str]
) -> None:
    """As MLflow's page sorts them; SQLite says how it will work."""
    done = []
    for begun, count in ((0, 200), (1000, 100), (2000, 600)):
        add_runs(store, count, begun=begun)
        opened_again = open_store(None, store.root)
        queries.clear()
        order = ["metrics.`test/accuracy` DESC"]
        page = opened_again.client.search_runs(store.experiment_ids(), order_by=order, max_results=4)
        assert len(page) == 4
        (search,) = [text for text in queries if "SELECT DISTINCT runs" in text and "LEFT OUTER JOIN" in text]
        with closing(sqlite3.connect(store.database or "")) as connection:
            given = ["test/accuracy" if "key" in part[-30:] else 0 for part in search.split("?")[:-1]]
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {search}", given)]
            (rows,) = connection.execute("SELECT max(CAST(stat AS INTEGER)) FROM sqlite_stat1 WHERE tbl = 'runs'")
        done.append(rows[0])
        assert not [step for step in plan if step.startswith("SCAN anon")], plan
        assert [step for step in plan if step.startswith("SEARCH anon")], plan
    assert done == [200, 200, 900], "statistics are gathered when the number of runs has doubled"
