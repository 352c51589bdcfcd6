"""The verbs that `endurance.py kills` kills: what each does, what a user types afterwards, and what must then hold."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from lesion_exp.cli import main
from lesion_exp.sweeps.launcher.launcher import Ended, Launcher

JOB = (
    "experiment=demo", "image_size=32", "dataset.num_lesions=90", "dataset.image_height=48", "dataset.image_width=64",
    "backbone=small_cnn", "trainer=cpu", "trainer.precision=32-true", "trainer.max_epochs=2", "loader.num_workers=0",
    "trainer.checkpoint_every_steps=2", "evaluation.bootstrap_draws=100", "tracking.log_images=false",
    "tracking.log_model=false", "tracking.flush_seconds=0.2", "tracking.system_metrics_seconds=0.5",
    "print_config=false",
)  # fmt: skip
WITH_TIME = ("time/", "system/")
OWN_TAGS = ("mlflow.heartbeat", "mlflow.runName", "mlflow.sitting", "test_readings", "mlflow.note.content")
OF_ANOTHER_PLACE = ("paths.", "dataset.root")


def call(*arguments: str) -> int:
    """The exit code of `lesion-exp ARGUMENTS`; SIGTERM ends this process as it does a command's."""
    code = main(list(arguments))
    if code not in (0, 1, 2):
        sys.exit(code)
    return code


def need(*arguments: str) -> None:
    if code := call(*arguments):
        raise RuntimeError(f"lesion-exp {' '.join(arguments)} ended with code {code}")


def open_here(folder: Path, uri: str | None = None) -> Any:
    from lesion_exp.tracking.store import open_store

    return open_store(uri, folder, folder / "mlruns" / "live")


def runs_in(store: Any) -> list[Any]:
    return list(store.client.search_runs(store.experiment_ids(), max_results=1000))


def a_minute_passes(folder: Path) -> Any:
    """The store once runs without a sign of life count as dead, and a verb has read it."""
    from lesion_exp.tracking.embedded import HEARTBEAT_TAG
    from lesion_exp.tracking.heartbeat import clear_finished, mark_dead_runs

    store = open_here(folder)
    for found in runs_in(store):
        if found.info.status == "RUNNING" and HEARTBEAT_TAG in found.data.tags:
            store.client.set_tag(found.info.run_id, HEARTBEAT_TAG, f"{time.time() - 120:.0f}")
    mark_dead_runs(store)
    clear_finished(store)
    return store


def facts_of(store: Any, run_id: str) -> dict[str, Any]:
    """The content of a run, without what depends on time and place."""
    from lesion_exp.tracking.find import find_run
    from lesion_exp.tracking.stored_run import artifact_names, read_history

    run = find_run(store, run_id)
    history = read_history(run)
    doubled = [name for name, points in history.items() if len({point.step for point in points}) < len(points)]
    points = {
        name: [(point.step, repr(point.value)) for point in points]
        for name, points in history.items()
        if not name.startswith(WITH_TIME)
    }
    return {
        "status": run.status,
        "doubled": doubled,
        "points": points,
        "params": {name: text for name, text in run.params.items() if not name.startswith(OF_ANOTHER_PLACE)},
        "tags": {name: text for name, text in run.tags.items() if name not in OWN_TAGS},
        "artifacts": sorted(artifact_names(run)),
    }


def compared(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Compares a run with the expected one; returns what is lost or doubled."""
    faults = [f"doubled: points of {name}" for name in found["doubled"]]
    parts = ("status", "points", "params", "tags", "artifacts")
    return faults + [
        f"lost: {part} {difference(found[part], wanted[part])}" for part in parts if found[part] != wanted[part]
    ]


def difference(found: Any, wanted: Any) -> str:
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = [key for key in {**found, **wanted} if found.get(key) != wanted.get(key)]
        return str({key: (found.get(key), wanted.get(key)) for key in keys[:4]})
    if isinstance(found, list):
        return f"missing {sorted(set(wanted) - set(found))}, more {sorted(set(found) - set(wanted))}"
    return f"{found}, not {wanted}"


def litter(folder: Path) -> list[str]:
    """Files that no finished command may leave: live folders, partial files, locks of dead processes."""
    live = [path for path in (folder / "mlruns" / "live").glob("*") if path.is_dir()]
    halves = [path for path in folder.rglob("*.part") if path.name.startswith(".")]
    return [f"unusable: {path.relative_to(folder)} was left" for path in (*live, *halves)]


def make_templates(folder: Path) -> None:
    """What the trials copy: two stores, one of an older MLflow, a project with a run, its bundle and predictions."""
    for name in ("empty", "old", "project"):
        (folder / name).mkdir()
    open_here(folder / "empty")
    shutil.copytree(folder / "empty/mlruns", folder / "project/mlruns")
    make_old(folder / "old", folder / "empty")
    os.chdir(folder / "project")
    need("train", *job(folder))
    store = open_here(folder / "project")
    (run,) = runs_in(store)
    keep(folder / "trained.json", facts_of(store, run.info.run_id))
    images = folder / "project/images"
    images.mkdir()
    for path in sorted((folder / "cache").rglob("*.jpg"))[:24]:
        shutil.copy(path, images)
    need("bundle", "export", "run=latest", f"output={folder}/run.zip")
    need("predict", "run=latest", "input=images", f"output={folder}/predictions.csv", *PREDICT)
    for name, command in (("registered", REGISTER), ("evaluated", EVALUATE)):
        copy = folder / name
        shutil.copytree(folder / "project", copy)
        os.chdir(copy)
        need(*command)
        store = open_here(copy)
        keep(folder / f"{name}.json", facts_of(store, runs_in(store)[0].info.run_id))


def job(templates: Path) -> tuple[str, ...]:
    return (*JOB, f"paths.data_cache={templates}/cache")


def keep(path: Path, facts: dict[str, Any]) -> None:
    path.write_text(json.dumps(facts))


def kept(path: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(path.read_text())
    facts["points"] = {name: [tuple(point) for point in points] for name, points in facts["points"].items()}
    return facts


def make_old(folder: Path, empty: Path) -> None:
    from alembic import command
    from mlflow import MlflowClient
    from mlflow.store.db import utils

    shutil.copytree(empty / "mlruns", folder / "mlruns")
    uri = f"sqlite:///{folder}/mlruns/mlflow.db"
    client = MlflowClient(uri)
    client.log_metric(client.create_run("0").info.run_id, "val/loss", 0.5)
    engine = utils.create_sqlalchemy_engine(uri)
    config = utils._get_alembic_config(uri)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "-3")
    engine.dispose()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Verb:
    """A verb: `act` is killed, then `go_on_and_judge` does what a user would and returns what is wrong."""

    name = ""
    template = "project"
    share = 4
    """Kills of it, in proportion to those of the others."""

    def prepare(self, folder: Path, templates: Path) -> None:
        shutil.copytree(templates / self.template, folder)
        self.templates = templates

    def act(self, folder: Path) -> None:
        raise NotImplementedError

    def go_on_and_judge(self, folder: Path, templates: Path) -> list[str]:
        raise NotImplementedError


class Create(Verb):
    name, share = "create", 2

    def prepare(self, folder: Path, templates: Path) -> None:
        folder.mkdir()

    def act(self, folder: Path) -> None:
        open_here(folder)

    def go_on_and_judge(self, folder: Path, templates: Path) -> list[str]:
        store = open_here(folder)
        run_id = store.client.create_run(store.experiment_id("first")).info.run_id
        store.client.set_terminated(run_id)
        return judged_database(folder, None) + [f"unusable: {name}" for name in extra_names(folder, {"mlflow.db"})]


class Migrate(Verb):
    name, template, share = "migrate", "old", 3

    def act(self, folder: Path) -> None:
        open_here(folder)

    def go_on_and_judge(self, folder: Path, templates: Path) -> list[str]:
        open_here(folder)
        backups = [path for path in (folder / "mlruns").glob("mlflow.db.*") if path.suffix != ".lock"]
        faults = [] if len(backups) == 1 else [f"lost: backups {backups}"]
        faults += [fault for backup in backups for fault in judged_database(folder, 0.5, backup.name)]
        faults += [f"unusable: {name}" for name in extra_names(folder, {"mlflow.db", *(path.name for path in backups)})]
        return faults + judged_database(folder, 0.5)


def judged_database(folder: Path, value: float | None, name: str = "mlflow.db") -> list[str]:
    with closing(sqlite3.connect(folder / "mlruns" / name)) as connection:
        whole = connection.execute("PRAGMA integrity_check").fetchone()[0]
        values = [row[0] for row in connection.execute("SELECT value FROM metrics")]
    faults = [] if whole == "ok" else [f"unusable: {name}: {whole}"]
    return faults + ([] if value is None or values == [value] else [f"lost: {name} holds {values}"])


def extra_names(folder: Path, wanted: set[str]) -> set[str]:
    ours = {f"{name}{end}" for name in wanted for end in ("", "-wal", "-shm", ".lock")}
    return {path.name for path in (folder / "mlruns").iterdir()} - ours - {"artifacts", "live"}


class Train(Verb):
    name, template, share = "train", "empty", 2

    def act(self, folder: Path) -> None:
        need("train", *job(self.templates))

    def go_on_and_judge(self, folder: Path, templates: Path) -> list[str]:
        store = a_minute_passes(folder)
        found = runs_in(store)
        if not found:
            need("train", *job(templates))
        elif found[0].info.status != "FINISHED":
            need("resume", "run=latest")
        store = a_minute_passes(folder)
        found = runs_in(store)
        faults = [f"doubled: {len(found)} runs"] if len(found) != 1 else []
        return (
            faults + compared(facts_of(store, found[0].info.run_id), kept(templates / "trained.json")) + litter(folder)
        )


class ForkLauncher(Launcher):
    """Cells as forks of this process, which has imported everything."""

    fail_fast = False

    def __init__(self) -> None:
        self.cells: dict[int, Any] = {}

    @property
    def capacity(self) -> int:
        return 1

    def open(self, sweep: Any) -> None:
        pass

    def start(self, cells: Sequence[Any]) -> None:
        for cell in cells:
            parent = os.getpid()
            if (pid := os.fork()) == 0:
                become_cell(cell, parent)
            self.cells[pid] = cell

    def wait(self, seconds: float) -> list[Ended]:
        deadline = time.monotonic() + seconds
        while self.cells and time.monotonic() < deadline:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid:
                return [Ended(self.cells.pop(pid))]
            time.sleep(0.02)
        return []

    def stop(self) -> None:
        for pid in self.cells:
            os.kill(pid, signal.SIGTERM)

    def close(self) -> None:
        self.stop()


def become_cell(cell: Any, parent: int) -> None:
    from lesion_exp.process.signals import end_on_sigterm, end_with_parent
    from lesion_exp.sweeps.run_cell import run_cell

    code = 1
    try:
        end_on_sigterm()
        end_with_parent(parent)
        code = run_cell(cell)
    except SystemExit as error:
        code = int(error.code or 0)
    finally:
        os._exit(code)


class Sweep(Verb):
    """A sweep of two cells; its driver is killed, which takes the cells with it."""

    name, template, share = "sweep", "empty", 2

    def act(self, folder: Path) -> None:
        from lesion_exp.process.signals import end_on_sigterm

        end_on_sigterm()
        self.drive(folder, self.make(folder))

    def make(self, folder: Path) -> Any:
        from lesion_exp.sweeps.ledger import create_sweep
        from lesion_exp.sweeps.plan import plan_sweep

        plan = plan_sweep([*job(self.templates), "trainer.max_epochs=1", "seed=1,2"], root=folder)
        plan.check()
        return create_sweep(folder / "sweeps", plan.facts, plan.cells, [])

    def drive(self, folder: Path, sweep: Any) -> None:
        from lesion_exp.sweeps.driver import drive

        drive(sweep, ForkLauncher(), sweep.project.store)

    def go_on_and_judge(self, folder: Path, templates: Path) -> list[str]:
        from lesion_exp.sweeps.driver import conclude
        from lesion_exp.sweeps.ledger import find_sweep, sweeps_in

        wait_for_cells(folder)
        a_minute_passes(folder)
        sweep = find_sweep(folder / "sweeps", "latest") if sweeps_in(folder / "sweeps") else self.make(folder)
        if {cell.state().status for cell in sweep.cells()} != {"finished"}:
            self.drive(folder, sweep)
        conclude(sweep, sweep.project.store)
        return self.judge(folder, sweep) + litter(folder)

    def judge(self, folder: Path, sweep: Any) -> list[str]:
        store = a_minute_passes(folder)
        runs = runs_in(store)
        by_cell = Counter(run.data.tags.get("sweep_cell", "parent") for run in runs)
        wanted = {"parent": 1, **{f"{cell.number:04d}": 1 for cell in sweep.cells()}}
        faults = [] if by_cell == wanted else [f"doubled: runs {dict(by_cell)}"]
        faults += [f"lost: run {run.info.run_id} is {run.info.status}" for run in runs if run.info.status != "FINISHED"]
        for run in runs:
            facts = facts_of(store, run.info.run_id)
            faults += [f"doubled: points of {name}" for name in facts["doubled"]]
            if run.data.tags["kind"] == "sweep":
                lacks = {"sweep/cells.csv", "sweep/sweep.json"} - set(facts["artifacts"])
                lacks |= {"best_cell"} - set(facts["tags"])
                lacks |= {"sweep.overrides", "best/val/balanced_accuracy"} - {*facts["params"], *facts["points"]}
                faults += [f"lost: {name} of the sweep" for name in sorted(lacks)]
            else:
                lost = set(kept(self.templates / "trained.json")["params"]) - set(facts["params"])
                faults += [f"lost: parameters {sorted(lost)[:5]}"] if lost else []
        states = [cell.state() for cell in sweep.cells()]
        faults += [f"lost: cell is {state.status}" for state in states if state.status != "finished"]
        return faults


def wait_for_cells(folder: Path) -> None:
    """Waits for cells whose driver was killed, which get SIGTERM by the kernel and some time to close their runs."""
    from lesion_exp.data.lock import is_held

    while any(is_held(path) for path in folder.glob("sweeps/*/cells/*/lock")):
        time.sleep(0.05)


class SweepCell(Sweep):
    """A sweep of two cells; the process of the first is killed, and the sweep is resumed."""

    name = "cell"

    def act(self, folder: Path) -> None:
        from lesion_exp.process.signals import end_on_sigterm
        from lesion_exp.sweeps.parent_run import ParentRun
        from lesion_exp.sweeps.run_cell import run_cell

        end_on_sigterm()
        sweep = self.make(folder)
        with ParentRun(sweep, sweep.project.store) as parent:
            code = run_cell(parent.sweep.cells()[0])
        if code != 0:
            sys.exit(code)


class Evaluate(Verb):
    name, share = "evaluate", 3

    def act(self, folder: Path) -> None:
        need(*EVALUATE)

    def go_on_and_judge(self, folder: Path, templates: Path) -> list[str]:
        need(*EVALUATE)
        store = a_minute_passes(folder)
        return compared(facts_of(store, runs_in(store)[0].info.run_id), kept(templates / "evaluated.json"))


class Register(Verb):
    name = "register"

    def act(self, folder: Path) -> None:
        need(*REGISTER)

    def go_on_and_judge(self, folder: Path, templates: Path) -> list[str]:
        from lesion_exp.model.save_model import has_model
        from lesion_exp.tracking.find import find_run

        need(*REGISTER)
        store = open_here(folder)
        run = find_run(store, "champion")
        (model,) = store.client.search_registered_models()
        versions = store.client.search_model_versions(f"name = '{model.name}'")
        faults = [] if len(versions) == 1 else [f"doubled: {len(versions)} versions"]
        faults += [] if has_model(run) else ["lost: a part of the model"]
        return faults + compared(facts_of(store, run.run_id), kept(templates / "registered.json")) + litter(folder)


class Predict(Verb):
    name = "predict"
    command = ("predict", "run=latest", "input=images", "output=out.csv")

    def act(self, folder: Path) -> None:
        need(*self.command, *PREDICT)

    def go_on_and_judge(self, folder: Path, templates: Path) -> list[str]:
        output, wanted = folder / "out.csv", digest(templates / "predictions.csv")
        left = [path for path in folder.glob("*out.csv*") if path != output]
        if left or not output.exists() or digest(output) != wanted:  # else it was done when it was killed
            need(*self.command, *PREDICT)
        faults = [] if digest(output) == wanted else ["lost: predictions differ"]
        return faults + [f"unusable: {path.name} was left" for path in folder.glob("*out.csv*") if path != output]


class Export(Verb):
    name = "export"

    def act(self, folder: Path) -> None:
        need("bundle", "export", "run=latest", "output=again.zip")

    def go_on_and_judge(self, folder: Path, templates: Path) -> list[str]:
        need("bundle", "export", "run=latest", "output=again.zip")
        faults = [] if digest(folder / "again.zip") == digest(templates / "run.zip") else ["lost: the bundle differs"]
        return faults + litter(folder)


class Import(Verb):
    name, template = "import", "empty"

    def act(self, folder: Path) -> None:
        need("bundle", "import", f"{self.templates}/run.zip")

    def go_on_and_judge(self, folder: Path, templates: Path) -> list[str]:
        states = [run.info.status for run in runs_in(a_minute_passes(folder))]
        faults = ["unusable: a run stays RUNNING"] if "RUNNING" in states else []
        need("bundle", "import", f"{templates}/run.zip")
        store = open_here(folder)
        runs = runs_in(store)
        faults += [] if len(runs) == 1 else [f"doubled: {len(runs)} runs"]
        found = facts_of(store, runs[0].info.run_id)
        found["tags"] = {name: text for name, text in found["tags"].items() if not name.startswith("bundle_")}
        wanted = kept(templates / "trained.json")
        del wanted["tags"]["mlflow.user"]  # a bundle names nobody
        return faults + compared(found, wanted) + litter(folder)


EVALUATE = ("evaluate", "run=latest", "split.part=val", "evaluation.bootstrap_draws=120")
REGISTER = ("register", "run=latest", "alias=champion")
PREDICT = ("loader.batch_size=4", "loader.num_workers=0")
VERBS = (Create(), Migrate(), Train(), Sweep(), SweepCell(), Evaluate(), Register(), Predict(), Export(), Import())
