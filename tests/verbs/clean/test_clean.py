import json

import pytest

from lesion_exp.cli import main
from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze
from lesion_exp.data.lock import hold, release
from lesion_exp.sweeps.ledger import SweepFacts, create_sweep, sweeps_in
from lesion_exp.verbs.clean import in_words

pytestmark = pytest.mark.usefixtures("own_process")


@pytest.fixture
def project(store, monkeypatch):
    """A project with caches, and with live folders of runs in every state."""
    root = store.root
    monkeypatch.chdir(root)
    for path in ("data_cache/store_1/pixels.bin", "data_cache/features/a.npy", "data_cache/synthetic/x/1.jpg"):
        write(root / path)
    (root / "data_cache" / "store_1.lock").touch()
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


def sweep_of_one(project, name):
    job = freeze(compose(["dataset=synthetic"], root=project))
    nodes = {key: job.config[key] for key in ("tracking", "paths")}
    facts = SweepFacts(name, 0.0, (), (), ("seed",), launcher={}, search={}, store=nodes)
    (project / "sweeps").mkdir(exist_ok=True)
    return create_sweep(project / "sweeps", facts, [(job, ["seed=0"])], [])


def cleaned(capsys, *words):
    assert main(["clean", *words, "--json"]) == 0
    shown = capsys.readouterr()
    return {entry["path"]: entry for entry in json.loads(shown.out)["entries"]}, shown.err


def test_without_being_asked_it_removes_nothing_and_says_what_may_go(store, project, capsys):
    stopped = run_with(store, "KILLED")
    entries, told = cleaned(capsys)
    pixels = project / "data_cache" / "store_1"
    assert (entries[str(pixels)]["bytes"], entries[str(pixels)]["word"]) == (1000, "caches")
    assert entries[str(stopped)]["word"] is None
    assert f"lesion-exp resume run={stopped.name[:8]}" in entries[str(stopped)]["why"]
    assert "3.0 kB may go: lesion-exp clean remove=caches" in told
    assert pixels.exists()
    assert not any(entry["removed"] for entry in entries.values())
    assert main(["clean"]) == 0
    assert "   1.0 kB  data_cache/store_1\n" in capsys.readouterr().out


def test_caches_go_when_asked_and_their_locks_stay(store, project, capsys):
    stopped = run_with(store, "FAILED")
    entries, told = cleaned(capsys, "remove=caches")
    assert {path.name for path in (project / "data_cache").iterdir()} == {"store_1.lock"}
    assert "removed: 3 entries, 3.0 kB" in told
    assert stopped.is_dir()
    assert sum(entry["removed"] for entry in entries.values()) == 3


def test_what_a_run_needs_that_is_running_stays(store, project, capsys):
    running = run_with(store, "RUNNING")
    entries, _ = cleaned(capsys, "remove=caches,live,sweeps")
    assert (project / "data_cache" / "store_1" / "pixels.bin").exists()
    assert f"run {running.name[:8]} is running" in entries[str(project / "data_cache" / "features")]["why"]
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
    for cell in done.cells():
        (cell.folder / "state.json").write_text(json.dumps({"status": "finished"}))
    entries, _ = cleaned(capsys)
    assert (entries[str(done.folder)]["word"], entries[str(left.folder)]["word"]) == ("sweeps", None)
    assert "sweep resume" in entries[str(left.folder)]["why"]
    assert hold(done.lock)
    entries, _ = cleaned(capsys, "remove=sweeps")
    release(done.lock)
    assert entries[str(done.folder)]["why"] == "it is running"
    cleaned(capsys, "remove=sweeps")
    assert [sweep.folder for sweep in sweeps_in(project / "sweeps")] == [left.folder]


def test_a_mistake_names_what_can_be_removed(project, capsys):
    assert main(["clean", "remove=cache"]) == 2
    assert "did you mean 'caches'" in capsys.readouterr().err


def test_sizes_in_words():
    assert [in_words(size) for size in (0, 999, 1000, 12_345_678, 5 * 10**12)] == [
        "0 B", "999 B", "1.0 kB", "12.3 MB", "5.0 TB"
    ]  # fmt: skip
