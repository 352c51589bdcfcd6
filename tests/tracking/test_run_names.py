"""Names of runs are judged without MLflow as `find_run` judges them, and a wrong one is told before heavy imports."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from lesion_exp.command.verbs import VERBS
from lesion_exp.errors import ConfigError
from lesion_exp.sweeps.swept import find_swept
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.run_names import ORIGIN_TAG, check_names, check_sweep, read_only
from lesion_exp.tracking.store import Store, embedded_database

HEAVY = ("torch", "mlflow", "pandas", "pytorch_lightning", "albumentations", "sklearn")
COMMANDS = (
    "report run=NAME", "evaluate run=NAME", "evaluate run=folds:[NAME]", "compare NAME", "compare latest against=NAME",
    "predict run=NAME input=. output=o.csv", "export run=NAME format=onnx output=o", "register run=NAME",
    "serve run=NAME", "reproduce run=NAME", "explain run=NAME", "bundle export run=NAME output=o.zip",
    "audit dataset=synthetic run=NAME", "label-errors run=NAME output=o.csv", "resume run=NAME", "shortcuts run=NAME",
    "figures run=NAME",
)  # fmt: skip


@pytest.fixture
def database(store: Store) -> Path:
    found = embedded_database(None, store.root)
    assert found == store.database
    return found


def made(store: Store, name: str, **tags: str) -> str:
    run_id = str(store.client.create_run(store.experiment_id("tests"), run_name=name, tags=tags).info.run_id)
    store.client.set_terminated(run_id)
    return run_id


def test_names_that_find_a_run_pass(store: Store, database: Path, tmp_path: Path) -> None:
    run_id = made(store, "one", sweep_id="20260102-030405-abcd", **{ORIGIN_TAG: f"{7:032x}"})
    store.client.create_registered_model("lesions")
    version = store.client.create_model_version("lesions", "runs:/x", run_id).version
    store.client.set_registered_model_alias("lesions", "champion", version)
    store.client.set_registered_model_alias("lesions", "cnn", version)
    checkpoint = tmp_path / "best.ckpt"
    checkpoint.touch()
    left_to_find_run = ["best:val/loss", "lesions@champion", str(checkpoint)]
    names = [run_id, run_id[:4].upper(), f"{7:032x}", "20260102-030405-abcd", "champion", "latest", *left_to_find_run]
    check_names(database, names)
    check_names(database, [f"[{run_id}, latest]", f"folds:[{run_id[:8]},champion]", "cnn"])


@pytest.mark.parametrize(
    "name", ["one", "lates", "abc", "zzzz", "deleted", "nowhere.ckpt", "~no_such_user/a.ckpt", "a" * 300]
)
def test_other_names_are_refused_in_the_words_of_find_run(store: Store, database: Path, name: str) -> None:
    for given in ("one", "two", "one"):
        made(store, given)
    gone = made(store, "gone")
    store.client.delete_run(gone)
    name = gone if name == "deleted" else name
    with pytest.raises(ConfigError) as expected:
        find_run(store, name)
    with pytest.raises(ConfigError, match="^" + re.escape(str(expected.value)) + "$"):
        check_names(database, ["latest", name])


def test_a_store_without_a_run_is_left_as_it_is(store: Store, database: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as expected:
        find_run(store, "latest")
    with pytest.raises(ConfigError, match="^" + re.escape(str(expected.value)) + "$"):
        check_names(database, ["latest"])
    with pytest.raises(ConfigError, match="it has none yet"):
        check_names(tmp_path / "mlruns" / "mlflow.db", ["latest"])
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.parametrize("name", ["one", "2026", "99990102-030405-abcd", "deleted"])
@pytest.mark.parametrize("count", [0, 3])
def test_names_of_no_sweep_are_refused_in_the_words_of_find_swept(
    store: Store, database: Path, name: str, count: int
) -> None:
    ids = [made(store, f"sweep {n}", kind="sweep", sweep_id=f"2025010{n}-030405-abcd") for n in range(1, count + 1)]
    for known in (*ids, *(run_id[:6].upper() for run_id in ids), "latest"):
        check_sweep(database, known)
    if count:
        check_sweep(database, "20250102-0304")
    gone = made(store, "gone", kind="sweep")
    store.client.delete_run(gone)
    name = gone if name == "deleted" else name
    with pytest.raises(ConfigError) as expected:
        find_swept(store, store.root / "sweeps", name)
    with pytest.raises(ConfigError, match="^" + re.escape(str(expected.value)) + "$"):
        check_sweep(database, name)


def test_a_folder_may_have_any_name(store: Store, database: Path, tmp_path: Path) -> None:
    made(store, "one")
    moved = tmp_path / "a#b 100%41?" / "mlflow.db"
    moved.parent.mkdir()
    with read_only(database) as source, sqlite3.connect(moved) as target:
        source.backup(target)
    with pytest.raises(ConfigError, match="got 'zzzz'"):
        check_names(moved, ["latest", "zzzz"])
    assert [path.name for path in tmp_path.glob("a*")] == [moved.parent.name]


def test_a_file_that_is_no_database_is_left_to_the_opening_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("no database" * 100)
    check_names(tmp_path / "mlflow.db", ["latest"])
    check_sweep(tmp_path / "mlflow.db", "20250102-0304")


def test_the_verbs_import_nothing_heavy_for_a_wrong_name(store: Store) -> None:
    made(store, "one")
    tested = {command.split(" ", maxsplit=1)[0] for command in COMMANDS}
    named = {name for name, verb in VERBS.items() if "run" in verb.own_keys and name != "sync"}  # of runs on disk
    assert named <= tested, "each verb that names a run is tested"
    script = (
        "import sys\nfrom lesion_exp.cli import main\n"
        f"for command in {COMMANDS}:\n"
        "    assert main(command.replace('NAME', 'abcdef').split()) == 2, command\n"
        f"    assert not [name for name in {HEAVY} if name in sys.modules], command\n"
        "for command in ('report sweep=99990102', 'table sweep=99990102 rows=loss'):\n"
        "    assert main(command.split()) == 2, command\n"
        f"    assert not [name for name in {HEAVY} if name in sys.modules], command\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=store.root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("expected a run id, a prefix of at least 4 letters") == len(COMMANDS)
    assert done.stderr.count("'99990102' names 0 sweeps") == 2
