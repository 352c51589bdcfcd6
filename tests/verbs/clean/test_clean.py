import json
import os
import shlex
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from lesion_exp.cli import main
from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze
from lesion_exp.data.cache_names import FEATURES, SYNTHETIC, TEACHERS
from lesion_exp.data.lock import file_lock, hold, release
from lesion_exp.sweeps.ledger import SweepFacts, create_sweep, sweeps_in
from lesion_exp.sweeps.summary import digest, summarize
from lesion_exp.verbs import clean as module
from lesion_exp.verbs.clean import size_of

pytestmark = pytest.mark.usefixtures("own_process")

KEY = "0123456789abcdef"
STORE = f"store_{KEY}"
GRID = {
    "_target_": "lesion_exp.sweeps.search.grid.GridSearch",
    "metric": "val/balanced_accuracy",
    "direction": "maximize",
    "space": {},
}
OPTUNA = {
    "_target_": "lesion_exp.sweeps.search.optuna.OptunaSearch",
    "metric": "val/balanced_accuracy",
    "direction": "maximize",
    "num_cells": 3,
    "sampler": "random",
    "startup_cells": 2,
    "seed": 0,
    "pruner": "none",
    "pruner_startup_cells": 1,
    "warmup_epochs": 1,
    "max_epochs": 2,
}


@pytest.fixture
def project(store, monkeypatch):
    """A project with caches, and with live folders of runs in every state."""
    root = store.root
    monkeypatch.chdir(root)
    for path in (f"{STORE}/pixels.bin", f"features/{KEY}/features.bin", "synthetic/0123456789ab/images/1.jpg"):
        write(root / "data_cache" / path)
    (root / "data_cache" / f"{STORE}.lock").touch()
    return root


def write(path, num_bytes=1000):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * num_bytes)


def run_with(store, status, *, deleted=False, spool=False):
    """A run in a state, and its live folder."""
    client = store.client
    run_id = client.create_run(store.experiment_id("study")).info.run_id
    if status != "RUNNING":
        client.set_terminated(run_id, status)
    if deleted:
        client.delete_run(run_id)
    write(store.live / run_id / ("spool/000.jsonl" if spool else "last.ckpt"))
    return store.live / run_id


def sweep_of_one(project, name, search=GRID):
    job = freeze(compose(["dataset=synthetic"], root=project))
    nodes = {key: job.config[key] for key in ("tracking", "paths")}
    facts = SweepFacts(name, 0.0, (), (), ("seed",), launcher={}, search=search, store=nodes)
    (project / "sweeps").mkdir(exist_ok=True)
    return create_sweep(project / "sweeps", facts, [(job, ["seed=0"])], [])


def finish(sweep):
    for cell in sweep.cells():
        (cell.folder / "state.json").write_text(json.dumps({"status": "finished"}))


@contextmanager
def held(lock):
    """Another process holds `lock`, as `hold` does."""
    lines = "import sys; from pathlib import Path; from lesion_exp.data.lock import hold"
    script = f"{lines}; print(hold(Path(sys.argv[1])), flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "True\n"
        yield
        process.stdin.close()


def cleaned(capsys, *words):
    assert main(["clean", *words, "--json"]) == 0
    shown = capsys.readouterr()
    return {entry["path"]: entry for entry in json.loads(shown.out)["entries"]}, shown.err


def test_without_being_asked_it_removes_nothing_and_says_what_may_go(store, project, capsys):
    stopped = run_with(store, "KILLED")
    entries, told = cleaned(capsys)
    pixels = project / "data_cache" / STORE
    assert (entries[str(pixels)]["bytes"], entries[str(pixels)]["word"]) == (1000, "caches")
    assert entries[str(stopped)]["word"] is None
    assert f"lesion-exp resume run={stopped.name[:8]}" in entries[str(stopped)]["why"]
    assert "3.0 kB may go: lesion-exp clean remove=caches" in told
    assert pixels.exists()
    assert not any(entry["removed"] for entry in entries.values())
    assert main(["clean"]) == 0
    assert f"   1.0 kB  data_cache/{STORE}\n" in capsys.readouterr().out


def test_the_command_that_removes_more_names_the_same_folders(store, project, capsys, monkeypatch):
    elsewhere = project / "on another disk"
    (project / "data_cache").rename(elsewhere)
    (project / "below").mkdir()
    monkeypatch.chdir(project / "below")
    _, told = cleaned(capsys, f"paths.root={project}", f"paths.data_cache={elsewhere}")
    command = told.partition("3.0 kB may go: ")[2].partition("\n")[0]
    assert main(shlex.split(command)[1:]) == 0
    assert not (elsewhere / STORE).exists()
    assert "removed: 3 entries, 3.0 kB" in capsys.readouterr().err


def test_caches_go_when_asked_and_their_locks_stay(store, project, capsys):
    stopped = run_with(store, "FAILED")
    entries, told = cleaned(capsys, "remove=caches")
    left = {path.name for path in (project / "data_cache").rglob("*") if not path.is_dir()}
    assert left == {f"{STORE}.lock", f"{KEY}.lock"}
    assert "removed: 3 entries, 3.0 kB" in told
    assert stopped.is_dir()
    assert sum(entry["removed"] for entry in entries.values()) == 3


def test_what_a_run_needs_that_is_running_stays(store, project, capsys):
    running = run_with(store, "RUNNING")
    entries, _ = cleaned(capsys, "remove=caches,live,sweeps")
    assert (project / "data_cache" / STORE / "pixels.bin").exists()
    assert f"run {running.name[:8]} is running" in entries[str(project / "data_cache" / "features" / KEY)]["why"]
    assert running.is_dir()


def test_of_live_folders_only_those_go_that_nothing_can_need(store, project, capsys):
    stays = [run_with(store, "KILLED"), run_with(store, "FAILED"), run_with(store, "FINISHED", spool=True)]
    stranger = store.live / ("0" * 32)
    write(stranger / "last.ckpt")
    deleted = run_with(store, "KILLED", deleted=True)
    entries, _ = cleaned(capsys, "remove=live")
    assert all(path.is_dir() for path in (*stays, stranger))
    assert "lesion-exp sync" in entries[str(stays[2])]["why"]
    assert not deleted.exists()
    assert entries[str(deleted)]["removed"]


def test_a_sweep_goes_when_no_cell_is_left(store, project, capsys):
    done, left = (sweep_of_one(project, name) for name in ("1-done", "2-left"))
    finish(done)
    entries, _ = cleaned(capsys)
    assert (entries[str(done.folder)]["word"], entries[str(left.folder)]["word"]) == ("sweeps", None)
    assert entries[str(left.folder)]["why"] == "1 cell is left: lesion-exp sweep resume 2-left needs it"
    assert "latest will mean another sweep" in entries[str(done.folder)]["why"]
    assert hold(done.lock)
    entries, _ = cleaned(capsys, "remove=sweeps")
    release(done.lock)
    assert entries[str(done.folder)]["why"] == "it is running"
    cleaned(capsys, "remove=sweeps")
    assert [sweep.folder for sweep in sweeps_in(project / "sweeps")] == [left.folder]


def test_a_mistake_names_what_can_be_removed(project, capsys):
    assert main(["clean", "remove=cache"]) == 2
    assert "did you mean 'caches'" in capsys.readouterr().err


def test_only_what_this_software_made_goes_from_the_folder_of_caches(store, project, capsys):
    cache = project / "scratch"
    mine = ["thesis.tex", "store_1/a", f"copies_{KEY}.csv", f"my_{STORE}/a", "features/mine/a", "synthetic/photo.jpg"]
    made = [
        f"{STORE}/pixels.bin", f"building_{STORE}/note", f"copies_{KEY}.parquet", f"copies_{KEY}.unfinished",
        f"features/{KEY}/a", f"features/building_{KEY}/a", f"teachers/{KEY}/a", "synthetic/0123456789ab/a",
    ]  # fmt: skip
    for path in (*mine, *made, "previews/1.png", "features.lock"):
        write(cache / path)
    entries, _ = cleaned(capsys, f"paths.data_cache={cache}", "remove=caches")
    assert [path for path in (*mine, "previews/1.png", "features.lock") if not (cache / path).exists()] == []
    assert [path for path in made if (cache / path).exists()] == []
    assert entries[str(cache / "thesis.tex")]["what"] == "not made by this software"
    assert entries[str(cache / "features" / "mine")]["word"] is None
    assert entries[str(cache / "previews")]["why"] == "results; nothing makes them again"


@pytest.mark.parametrize("name", ["live", "jobs", "sweeps"])
def test_a_folder_of_the_project_below_the_caches_stays_whatever_its_name(store, project, capsys, name):
    folder = project / "data_cache" / f"store_{'a' * 16}" / "inner"
    write(folder / "last.ckpt")
    entries, _ = cleaned(capsys, f"paths.{name}={folder}", "remove=caches,live,sweeps")
    assert (folder / "last.ckpt").exists()
    assert entries[str(folder.parent)]["what"] == "not made by this software"
    assert not (project / "data_cache" / STORE).exists()


def test_the_names_are_those_that_the_makers_give(project, capsys):
    """A data set that is drawn, prepared and searched for copies leaves nothing that is unknown."""
    from lesion_exp.training.data import load_data, split_data

    shutil.rmtree(project / "data_cache")
    words = ["dataset=synthetic", "dataset.num_lesions=40", "image_size=32", "split.near_duplicates=features"]
    config = freeze(compose(words, root=project)).config
    split_data(config, load_data(config))
    entries, _ = cleaned(capsys)
    cached = {path: entry for path, entry in entries.items() if Path(path).is_relative_to(project / "data_cache")}
    assert {entry["what"] for entry in cached.values()} == {
        "prepared images", "generated images", "copies that were found"
    }  # fmt: skip
    assert {entry["word"] for entry in cached.values()} == {"caches"}


@pytest.mark.parametrize(
    ("entry", "lock"),
    [
        (STORE, f"{STORE}.lock"),
        (f"building_{STORE}", f"{STORE}.lock"),
        (f"copies_{KEY}.unfinished", f"copies_{KEY}.lock"),
        (f"{FEATURES}/building_{KEY}", f"{FEATURES}/{KEY}.lock"),
        (f"{TEACHERS}/{KEY}", f"{TEACHERS}/{KEY}.lock"),
    ],
)
def test_an_entry_stays_while_its_maker_holds_its_lock(project, capsys, entry, lock):
    path, other = project / "data_cache" / entry, project / "data_cache" / SYNTHETIC / "0123456789ab"
    write(path / "a")
    with file_lock(project / "data_cache" / lock):
        entries, _ = cleaned(capsys, "remove=caches")
    assert (path / "a").exists()
    assert (entries[str(path)]["word"], entries[str(path)]["why"]) == (None, "another process makes or reads it")
    assert not other.exists(), "nobody holds that one"
    cleaned(capsys, "remove=caches")
    assert not path.exists()


def test_a_lock_and_running_runs_are_asked_for_again_just_before_the_removal(store, project, capsys, monkeypatch):
    listed = module._kept

    def something_begins(given):
        run_with(store, "RUNNING")
        return listed(given)

    monkeypatch.setattr(module, "_kept", something_begins)
    entries, _ = cleaned(capsys, "remove=caches")
    assert (project / "data_cache" / STORE / "pixels.bin").exists()
    assert "is running and may read it" in entries[str(project / "data_cache" / STORE)]["why"]


def test_images_that_are_being_drawn_stay_for_an_hour(project, capsys):
    drawn = project / "data_cache" / SYNTHETIC / f".building-{'b' * 32}"
    write(drawn / "images" / "1.jpg")
    assert "may be drawing it" in cleaned(capsys, "remove=caches")[0][str(drawn)]["why"]
    assert drawn.exists()
    for path in (drawn / "images", drawn):
        os.utime(path, (0, 0))
    cleaned(capsys, "remove=caches")
    assert not drawn.exists()


def test_a_search_that_would_add_cells_is_not_done(project, capsys):
    sweep = sweep_of_one(project, "1-adaptive", OPTUNA)
    finish(sweep)
    entries, _ = cleaned(capsys, "remove=sweeps")
    assert entries[str(sweep.folder)]["why"] == "2 cells are left: lesion-exp sweep resume 1-adaptive needs it"
    assert sweep.folder.exists()
    sweep.cancel_file.touch()
    cleaned(capsys, "remove=sweeps")
    assert not sweep.folder.exists()


def test_a_sweep_whose_run_is_not_finished_stays(project, capsys):
    sweep = sweep_of_one(project, "1-done").with_parent("0" * 32)
    finish(sweep)
    assert "lesion-exp sweep status 1-done" in cleaned(capsys, "remove=sweeps")[0][str(sweep.folder)]["why"]
    assert sweep.folder.exists()
    sweep.note_conclusion(digest(summarize(sweep)))
    cleaned(capsys, "remove=sweeps")
    assert not sweep.folder.exists()


def test_a_ledger_that_cannot_be_read_stays_and_does_not_hide_the_others(project, capsys):
    broken, done = (sweep_of_one(project, name) for name in ("1-broken", "2-done"))
    finish(done)
    (broken.folder / "sweep.json").write_text("{")
    entries, _ = cleaned(capsys, "remove=sweeps")
    assert "cannot be read" in entries[str(broken.folder)]["why"]
    assert (broken.folder.exists(), done.folder.exists()) == (True, False)


def test_a_running_run_is_not_said_to_wait_for_its_server(store, project, capsys):
    here, elsewhere = (run_with(store, "RUNNING", spool=True) for _ in range(2))
    finished = run_with(store, "FINISHED")
    with held(here / "lock"), held(finished / "lock"):
        entries, _ = cleaned(capsys, "remove=live")
    assert entries[str(here)]["why"] == "a process works on its run, or sends its results"
    assert entries[str(elsewhere)]["why"] == "its run is running"
    assert (entries[str(finished)]["word"], finished.exists()) == (None, True)


def test_what_an_interruption_left_can_go_in_every_folder(store, project, capsys):
    left = [
        project / "data_cache" / f".removed-7-{STORE}", project / "data_cache" / FEATURES / f".removed-7-{KEY}",
        store.live / f".removed-7-{'c' * 32}", project / "sweeps" / ".removed-7-20260101-120000-abcd",
    ]  # fmt: skip
    for path in left:
        write(path / "a")
    mine = project / "data_cache" / ".removed-7-thesis"
    write(mine / "a")
    entries, _ = cleaned(capsys)
    assert [entries[str(path)]["word"] for path in left] == ["caches", "caches", "live", "sweeps"]
    entries, _ = cleaned(capsys, "remove=caches,live,sweeps")
    assert [path for path in left if path.exists()] == []
    assert all(entries[str(path)]["removed"] for path in left)
    assert mine.exists()


def test_a_link_is_removed_and_not_followed(store, project, capsys, tmp_path):
    elsewhere = tmp_path / "other_disk"
    write(elsewhere / "a")
    store_link = project / "data_cache" / f"store_{'d' * 16}"
    deleted = run_with(store, "KILLED", deleted=True)
    shutil.rmtree(deleted)
    for link in (store_link, deleted):
        link.symlink_to(elsewhere)
    entries, _ = cleaned(capsys, "remove=caches,live")
    assert not os.path.lexists(store_link)
    assert not os.path.lexists(deleted)
    assert [path.name for path in elsewhere.iterdir()] == ["a"]
    assert entries[str(store_link)]["bytes"] < 1000


def test_an_error_halfway_says_what_was_removed_before_it(project, capsys, monkeypatch):
    rename = Path.rename

    def refused(path, target):
        if path.name == STORE:
            raise PermissionError(13, "Permission denied", str(path))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refused)
    assert main(["clean", "remove=caches"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "Permission denied" in told
    assert "Removed before it: 1 entry, 1.0 kB" in told
    assert f"features/{KEY}" in told


def test_what_vanishes_meanwhile_is_passed_over(project, capsys, monkeypatch):
    gone, listed = project / "data_cache" / STORE, module._kept

    def something_else_removes(given):
        shutil.rmtree(gone)
        return listed(given)

    monkeypatch.setattr(module, "_kept", something_else_removes)
    entries, _ = cleaned(capsys, "remove=caches")
    assert (entries[str(gone)]["removed"], entries[str(gone)]["why"]) == (False, "it vanished meanwhile")
    assert not (project / "data_cache" / FEATURES / KEY).exists()
    assert size_of(gone) == 0


def test_the_list_needs_neither_torch_nor_lightning():
    script = "import sys, lesion_exp.verbs.clean, lesion_exp.sweeps.summary; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "lesion_exp.verbs.clean" in loaded
    assert {"torch", "pytorch_lightning"}.isdisjoint(loaded)


def test_the_commands_that_need_what_stays_find_it(store, project, capsys, monkeypatch, tmp_path):
    stopped, sent_later = run_with(store, "KILLED"), run_with(store, "FINISHED", spool=True)
    left = sweep_of_one(project, "1-left")
    monkeypatch.chdir(tmp_path)
    entries, _ = cleaned(capsys, f"paths.root={project}", "--trust=my_package")
    for folder, words in (
        (stopped, ["resume", f"run={stopped.name[:8]}"]),
        (sent_later, ["sync"]),
        (left.folder, ["sweep", "resume", "1-left"]),
    ):
        command = entries[str(folder)]["why"].partition(": ")[2]
        found = shlex.split(command.removesuffix(" needs it").removesuffix(" sends them"))
        assert found == ["lesion-exp", *words, f"paths.root={project}", "--trust=my_package"]
