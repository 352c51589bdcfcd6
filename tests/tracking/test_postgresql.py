"""A store in a PostgreSQL database, with a server of PostgreSQL that the tests start."""

import math
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from lesion_exp.tracking import embedded
from lesion_exp.tracking.brief_runs import BriefRun, read_finished
from lesion_exp.tracking.embedded import store_lock
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.run_writer import RunWriter
from lesion_exp.tracking.store import Store, open_store
from scripts.postgres_server import postgres_server, programs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(programs() is None, reason="needs the programs of PostgreSQL: apt-get install postgresql"),
    pytest.mark.skipif(find_spec("psycopg") is None, reason="needs the driver of PostgreSQL: the extra postgresql"),
]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with postgres_server() as (uri, _):
        yield open_store(uri, tmp_path_factory.mktemp("project"))


def test_processes_that_find_the_tables_do_not_wait_for_each_other(
    database: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "LONGEST_WAIT_SECONDS", 0.1)
    with store_lock(database.root / "mlruns" / "server"):
        assert open_store(database.uri, database.root).experiment_ids() == ["0"]


def test_the_best_run_by_a_result_in_files_is_found(database: Store) -> None:
    experiment = database.experiment_id("tests")
    ids = []
    for score, kind in ((0.4, "train"), (0.8, "train"), (0.9, "comparison")):
        info = database.client.create_run(experiment, tags={"kind": kind, "leaky": "false", "other": "x"}).info
        ids.append(info.run_id)
        entry = {"balanced_accuracy": {"value": score}}
        RunWriter(database, info.run_id, info.artifact_uri).log_json(entry, "evaluation/test/isic.json")
        database.client.log_metric(info.run_id, "test/own", math.nan if kind == "train" else score)
        database.client.set_terminated(info.run_id)
    deleted = database.client.create_run(experiment).info.run_id
    database.client.set_terminated(deleted)
    database.client.delete_run(deleted)
    database.client.create_run(experiment)
    assert find_run(database, "best:isic/balanced_accuracy").run_id == ids[1]
    found = read_finished(database, "test/own", ("kind", "leaky"))
    assert [run.run_id for run in found] == ids[::-1], "no deleted run, and none that is running"
    assert found[0] == BriefRun(ids[2], found[0].artifact_uri, 0.9, {"kind": "comparison", "leaky": "false"})
    assert found[1].metric is not None
    assert math.isnan(found[1].metric)
    assert Path(found[0].artifact_uri).is_dir()


def test_a_process_keeps_no_connection_open(database: Store) -> None:
    import psycopg

    database.client.search_runs([database.experiment_id("tests")])
    asked = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid != pg_backend_pid()"
    with psycopg.connect(database.uri) as connection:
        for _ in range(50):  # a connection that was closed takes a moment to end
            (others,) = connection.execute(asked).fetchone() or (None,)
            if others == 0:
                break
            time.sleep(0.1)
    assert others == 0
