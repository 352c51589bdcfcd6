import json
import shutil
import zipfile

import pytest
from mlflow.exceptions import INVALID_PARAMETER_VALUE, MlflowException

from lesion_exp.cli import main
from lesion_exp.command.chosen_run import chosen_run
from lesion_exp.errors import ConfigError, DataError
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.heartbeat import mark_dead_runs
from lesion_exp.tracking.run_writer import RunWriter
from lesion_exp.tracking.stored_run import artifact_names, download_artifact, read_history
from lesion_exp.verbs.bundle import layout
from lesion_exp.verbs.bundle.export import export_runs, with_children
from lesion_exp.verbs.bundle.importing import import_bundle


@pytest.fixture
def exported(make_run):
    """Makes a run in a store and exports it."""

    def make(store, path, **tags):
        run = make_run(store, **tags)
        export_runs([run], path)
        return run

    return make


def contents(run):
    known = run.store.client.get_run(run.run_id)
    own = {"bundle_run_id", "bundle_content", "mlflow.heartbeat"}
    return {
        "name": run.name,
        "status": run.status,
        "times": (known.info.start_time, known.info.end_time),
        "experiment": run.store.client.get_experiment(run.experiment_id).name,
        "history": repr(read_history(run)),
        "params": run.params,
        "tags": {name: text for name, text in run.tags.items() if name not in own},
        "inputs": [entry.to_dictionary() for entry in known.inputs.dataset_inputs],
        "artifacts": {name: download_artifact(run, name).read_bytes() for name in artifact_names(run)},
    }


def num_runs(store):
    return len(store.client.search_runs(store.experiment_ids()))


def test_a_run_arrives_as_it_was(stores, tmp_path, exported):
    run = exported(stores[0], tmp_path / "run.zip", dataset="ham", **{"mlflow.heartbeat": "5"})
    (made,) = import_bundle(stores[1], tmp_path / "run.zip")
    assert (made.state, made.origin_id, made.name) == ("imported", run.run_id, "a run")
    assert made.run_id != run.run_id
    assert contents(find_run(stores[1], made.run_id)) == contents(run)
    assert len(read_history(run)["val/accuracy"]) == 2
    assert find_run(stores[1], run.run_id[:8]).run_id == made.run_id


@pytest.mark.parametrize("name", ["my_run", "RUN.ZIP"])
def test_a_bundle_of_any_name_names_its_run(stores, tmp_path, whole_bundle, name):
    content, run_id = whole_bundle
    (tmp_path / name).write_bytes(content)
    assert chosen_run(stores[0], str(tmp_path / name)).tags["bundle_run_id"] == run_id


def test_importing_twice_does_nothing(stores, tmp_path, exported):
    exported(stores[0], tmp_path / "run.zip")
    (first,) = import_bundle(stores[1], tmp_path / "run.zip")
    (second,) = import_bundle(stores[1], tmp_path / "run.zip")
    assert (second.run_id, second.state) == (first.run_id, "already here")
    assert num_runs(stores[1]) == 1


def test_a_run_is_not_imported_where_it_was_trained_even_after_a_journey(stores, tmp_path, exported):
    run = exported(stores[0], tmp_path / "run.zip")
    (there,) = import_bundle(stores[1], tmp_path / "run.zip")
    export_runs([find_run(stores[1], there.run_id)], tmp_path / "back.zip")
    assert (tmp_path / "back.zip").read_bytes() == (tmp_path / "run.zip").read_bytes()
    (back,) = import_bundle(stores[0], tmp_path / "back.zip")
    assert (back.run_id, back.state) == (run.run_id, "already here")
    assert num_runs(stores[0]) == 1


def test_the_same_run_gives_the_same_bytes_and_nothing_pickled(stores, tmp_path, exported):
    run = exported(stores[0], tmp_path / "one.zip")
    done = export_runs([run], tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    assert done.num_bytes == (tmp_path / "two.zip").stat().st_size
    assert not list(tmp_path.glob(".*"))
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        own = [name for name in archive.namelist() if f"/{layout.ARTIFACTS}/" not in name]
        assert all(name.endswith((".json", ".jsonl")) for name in own)


def test_what_the_store_refuses_is_told(stores, tmp_path, monkeypatch, exported):
    exported(stores[0], tmp_path / "run.zip")

    def refuse(*_, **__):
        raise MlflowException("no such digest", INVALID_PARAMETER_VALUE)

    monkeypatch.setattr(stores[1].client, "log_inputs", refuse)
    with pytest.raises(DataError, match="it says: no such digest"):
        import_bundle(stores[1], tmp_path / "run.zip")


def test_nothing_is_imported_from_a_bundle_that_is_damaged_or_needs_more_room(
    stores, tmp_path, monkeypatch, whole_bundle
):
    content, _ = whole_bundle
    (tmp_path / "run.zip").write_bytes(content)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(ConfigError, match="free some space"):
        import_bundle(stores[1], tmp_path / "run.zip")
    (tmp_path / "run.zip").write_bytes(content[:-100])
    with pytest.raises(DataError, match="damaged"):
        import_bundle(stores[1], tmp_path / "run.zip")
    assert num_runs(stores[1]) == 0


@pytest.mark.parametrize("broken", ["log_batch", "log_inputs", "set_terminated", "put_artifact"])
def test_an_interrupted_import_is_completed(stores, tmp_path, monkeypatch, broken, exported):
    run = exported(stores[0], tmp_path / "run.zip")
    target = stores[1]

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        owner = type(target) if broken == "put_artifact" else target.client
        patched.setattr(owner, broken, stop)
        with pytest.raises(KeyboardInterrupt):
            import_bundle(target, tmp_path / "run.zip")
    stopped = find_run(target, run.run_id)
    with pytest.raises(ConfigError, match="import of these was interrupted"):
        export_runs([stopped], tmp_path / "torn.zip")
    target.client.set_tag(stopped.run_id, "mlflow.heartbeat", "5")  # a minute later
    mark_dead_runs(target)
    assert find_run(target, run.run_id).status == "KILLED"
    (made,) = import_bundle(target, tmp_path / "run.zip")
    assert made.state == "completed"
    assert contents(find_run(target, made.run_id)) == contents(run)
    assert num_runs(target) == 1


def test_a_sweep_travels_with_its_cells_nested(stores, tmp_path, make_run):
    source, target = stores
    parent = make_run(source, "sweep", sweep_id="s1")
    cells = [make_run(source, f"cell {n}", sweep_id="s1", **{layout.PARENT_TAG: parent.run_id}) for n in range(2)]
    runs = with_children([parent])
    assert {run.run_id for run in runs} == {parent.run_id, *(cell.run_id for cell in cells)}
    export_runs(runs, tmp_path / "sweep.zip")
    made = {entry.name: entry.run_id for entry in import_bundle(target, tmp_path / "sweep.zip")}
    for n in range(2):
        assert find_run(target, made[f"cell {n}"]).tags[layout.PARENT_TAG] == made["sweep"]


def test_a_cell_alone_finds_its_parent_once_that_is_there(stores, tmp_path, caplog, make_run, exported):
    source, target = stores
    parent = make_run(source, "sweep")
    cell = exported(source, tmp_path / "cell.zip", name="cell", **{layout.PARENT_TAG: parent.run_id})
    (made,) = import_bundle(target, tmp_path / "cell.zip")
    assert layout.PARENT_TAG not in find_run(target, made.run_id).tags
    assert "has no parent" in caplog.text
    export_runs([parent, cell], tmp_path / "both.zip")
    first, second = import_bundle(target, tmp_path / "both.zip")
    assert (first.state, second.state) == ("imported", "already here")
    assert find_run(target, made.run_id).tags[layout.PARENT_TAG] == first.run_id


def test_a_link_to_a_run_that_is_reproduced_becomes_that_of_the_new_id(stores, tmp_path, make_run):
    source, target = stores
    first = make_run(source, "first")
    again = make_run(source, "again", reproduces=first.run_id)
    export_runs([first, again], tmp_path / "two.zip")
    made = import_bundle(target, tmp_path / "two.zip")
    assert find_run(target, made[1].run_id).tags["reproduces"] == made[0].run_id


def test_another_export_of_a_run_changes_nothing_but_is_told(stores, tmp_path, caplog, exported):
    run = exported(stores[0], tmp_path / "one.zip")
    (made,) = import_bundle(stores[1], tmp_path / "one.zip")
    stores[0].client.set_tag(run.run_id, "note", "new")
    export_runs([find_run(stores[0], run.run_id)], tmp_path / "two.zip")
    assert import_bundle(stores[1], tmp_path / "two.zip")[0].state == "already here"
    assert "from another export" in caplog.text
    assert "note" not in find_run(stores[1], made.run_id).tags


def test_what_cannot_be_exported_is_refused(stores, tmp_path, make_run):
    alive = make_run(stores[0], status="RUNNING")
    with pytest.raises(ConfigError, match=f"have ended.*\n.*{alive.run_id}"):
        export_runs([alive], tmp_path / "run.zip")
    ended = make_run(stores[0])
    (tmp_path / "thesis.txt").write_text("thesis")
    with pytest.raises(ConfigError, match="choose another name"):
        export_runs([ended], tmp_path / "thesis.txt")
    assert (tmp_path / "thesis.txt").read_text() == "thesis"
    with pytest.raises(ConfigError, match="folder that exists"):
        export_runs([ended], tmp_path / "none" / "run.zip")
    assert not list(tmp_path.glob("*.zip"))


def test_the_command_moves_several_runs(stores, tmp_path, monkeypatch, capsys, make_run):
    monkeypatch.setattr("lesion_exp.process.messages.show_messages", lambda: None)
    monkeypatch.setattr("lesion_exp.process.signals.end_on_sigterm", lambda: None)
    ids = [make_run(stores[0], name).run_id for name in ("one", "two")]
    monkeypatch.chdir(stores[0].root)
    assert main(["bundle", "export", f"run=[{ids[0]},{ids[1][:12]}]", "output=two.zip"]) == 0
    path = capsys.readouterr().out.strip()
    assert path == str(stores[0].root / "two.zip")
    monkeypatch.chdir(stores[1].root)
    assert main(["bundle", "import", path, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)["runs"]
    assert [entry["origin_id"] for entry in made] == ids
    assert main(["bundle", "import", f"input={path}"]) == 0
    shown = capsys.readouterr()
    assert shown.out.split() == [entry["run_id"] for entry in made]
    assert "nothing to do" in shown.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "bundle import FILE"),
        (("exprot",), "did you mean 'export'"),
        (("export", "output=a.zip"), "run="),
        (("export", "run=latest"), "output="),
        (("import",), "one bundle"),
        (("import", "a.zip", "input=b.zip"), "one bundle"),
        (("import", "a.zip", "max_gib=0"), "max_gib"),
    ],
)
def test_a_mistake_in_the_command_is_refused(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert main(["bundle", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_ids_of_other_runs_are_those_of_the_store_where_they_were_trained(stores, tmp_path, caplog, make_run):
    home, away = stores
    network = make_run(home, "network")
    export_runs([network], tmp_path / "network.zip")
    (there,) = import_bundle(away, tmp_path / "network.zip")
    made = make_run(away, "stack", ensemble="stacked", members=there.run_id)
    away.client.log_param(made.run_id, "loss.teacher", there.run_id)
    RunWriter.of(made).log_json({"predicts": [[there.run_id]]}, "ensemble/stacking.json")
    stack, beside = find_run(away, made.run_id), find_run(away, there.run_id)
    export_runs([stack, beside], tmp_path / "both.zip")
    assert "bundle export" not in caplog.text
    back = find_run(home, import_bundle(home, tmp_path / "both.zip")[0].run_id)
    assert back.run_id != stack.run_id
    assert back.tags["members"] == back.params["loss.teacher"] == network.run_id
    content = json.loads(download_artifact(back, "ensemble/stacking.json").read_text())
    assert content == {"predicts": [[network.run_id]]}
    export_runs([stack], tmp_path / "alone.zip")
    assert f"learned from run {there.run_id}, which the bundle does not have" in caplog.text
    assert f"predicts with the networks of other runs, of which the bundle lacks {there.run_id}" in caplog.text


def test_the_members_of_an_ensemble_have_the_ids_of_their_new_store(stores, tmp_path, make_run):
    source, target = stores
    networks = [make_run(source, f"network {n}") for n in range(2)]
    joined = make_run(source, "joined", ensemble="mean", members=",".join(run.run_id for run in networks))
    export_runs([joined, *networks], tmp_path / "all.zip")
    first, *others = import_bundle(target, tmp_path / "all.zip")
    imported = find_run(target, first.run_id)
    assert imported.members == [made.run_id for made in others]
    export_runs([imported, *(find_run(target, made.run_id) for made in others)], tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "all.zip").read_bytes()
