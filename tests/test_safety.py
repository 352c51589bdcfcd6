"""Whatever comes from elsewhere is data: none of these files may run code or write outside the project."""

import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from lesion_exp.backbone.weights import read_state
from lesion_exp.cli import main
from lesion_exp.command.chosen_run import chosen_run
from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze, job_hash
from lesion_exp.errors import DataError, UserError
from lesion_exp.model.checkpoint_file import read_checkpoint, run_of_checkpoint, weights_hash
from lesion_exp.sweeps.launcher import launcher
from lesion_exp.tracking.find import find_run
from lesion_exp.training.checkpoint import newest_checkpoint
from lesion_exp.verbs.bundle.export import export_runs
from tests.untrained_run import untrained_run

FORBIDDEN = (
    "os.system",
    "posix.system",
    "os.popen",
    "subprocess.Popen",
    "subprocess.run",
    "torch.load",
    "torch.hub.load",
    "torch.optim.torch.load",
    "torch.optim.lr_scheduler.warnings.os.system",
    "pandas.read_pickle",
    "numpy.load",
    "pickle.loads",
    "builtins.eval",
    "builtins.exec",
    "builtins.__import__",
    "eval",
    "logging.os.system",
    "albumentations.core.serialization.load",
    "albumentations.core.utils.os.system",
    "torchvision.transforms.functional.torch.load",
    "pytorch_lightning.callbacks.os.system",
    "pytorch_lightning.Trainer.test",
    "mlflow.pyfunc.load_model",
    "hydra.utils.instantiate",
    "importlib.import_module",
    "lesion_exp.training.run.subprocess.Popen",
    "lesion_exp.dataset.loading.pd.read_pickle",
    "lesion_exp.split.file.pd.read_pickle",
    "lesion_exp.backbone.weights.os.system",
    "lesion_exp.backbone.weights.torch.load",
    "lesion_exp.loss.focal.Focal.__init__",
    "lesion_exp.training.checkpoint.read_checkpoint",
    "lesion_exp.sweeps.launcher.launcher.run_cell_process",
    "lesion_exp.sweeps.launcher.slurm.CellTask",
    "lesion_exp.dataset.folder.os.system",
    "albumentations.Lambda",
    "albumentations.FDA",
    "pytorch_lightning.callbacks.ModelCheckpoint",
    "torch.optim.lr_scheduler.LambdaLR",
)
PLACES = ("loss", "sampler", "augmentation.transforms", "optimizer", "trainer.callbacks", "tags", "dataset.columns")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder, in which commands run; a `canary` appears beside it when forbidden code runs."""
    monkeypatch.delenv("LESION_EXP_TRUST", raising=False)
    monkeypatch.setattr("lesion_exp.process.messages.show_messages", lambda: None)
    monkeypatch.setattr("lesion_exp.process.signals.end_on_sigterm", lambda: None)
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.chdir(root)
    return root


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


def write_job(path, root, change=lambda config: None):
    """A job file with its right hash, as somebody would write who knows the format."""
    job = freeze(compose(["print_config=false"], root=root))
    change(job.config)
    replace(job, job_hash=job_hash(job.config, job.files)).write(path)


def refused(capsys, *arguments):
    """The message of a command that must end with 2."""
    code = main(list(arguments))
    shown = capsys.readouterr()
    assert code == 2, shown.err
    assert "Traceback" not in shown.err
    return shown.err


@pytest.mark.parametrize(
    ("target", "place"),
    [("os.system", place) for place in PLACES]
    + [(target, PLACES[number % len(PLACES)]) for number, target in enumerate(FORBIDDEN[1:])],
)
def test_a_job_cannot_name_code_outside_the_allowlist(project, tmp_path, capsys, target, place):
    canary = tmp_path / "canary"
    node = {"_target_": target, "command": f"touch {canary}", "args": f"touch {canary}"}
    group, _, key = place.partition(".")

    def plant(config):
        config[group] = {**config[group], key: [node]} if key else node

    write_job(project / "job.yaml", project, plant)
    said = refused(capsys, "train", "job=job.yaml")
    assert "expected a registered option" in said or "where no option is allowed" in said
    assert f"got {target}" in said.replace("'", "")
    assert place.partition(".")[0] in said
    assert not canary.exists()
    assert not (project / "mlruns").exists()


@pytest.mark.parametrize("key", ["callbacks", "plugins", "logger", "model_registry", "default_root_dir", "barebones"])
def test_a_job_cannot_reach_what_the_trainer_makes_of_other_arguments(project, capsys, key):
    def plant(config):
        config["trainer"][key] = "my_account/model"

    write_job(project / "job.yaml", project, plant)
    assert f"expected a key of trainer, got trainer.{key}" in refused(capsys, "train", "job=job.yaml")


def test_nothing_in_a_frozen_job_is_looked_up(project, monkeypatch, capsys):
    monkeypatch.setenv("PLANTED", "looked up")
    write_job(project / "job.yaml", project, lambda config: config["tags"].update(by="${oc.env:PLANTED}"))
    assert main(["train", "job=job.yaml", "--cfg", "job"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["tags"] == {"by": "${oc.env:PLANTED}"}


@pytest.mark.parametrize("verb", ["predict", "reproduce", "explain"])
def test_a_bundle_cannot_name_code_either(project, tmp_path, monkeypatch, capsys, verb):
    """A bundle whose job was made by somebody who knows the format."""
    run, _ = untrained_run(project)
    attack = {"_target_": "lesion_exp.sweeps.launcher.launcher.run_cell_process", "folder": str(tmp_path)}

    def plant(config):
        config["augmentation"]["transforms"] = {"step": attack}

    write_job(run.store.artifact_dir(run.artifact_uri) / "config" / "job.yaml", project, plant)
    run.store.client.set_tag(run.run_id, "kind", "train")
    export_runs([find_run(run.store, run.run_id)], tmp_path / "run.zip")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    (elsewhere / "image.png").write_bytes(b"")
    with_input = [f"input={elsewhere / 'image.png'}", "output=out.csv"] if verb == "predict" else []
    monkeypatch.setattr(launcher, "run_cell_process", lambda *_, **__: pytest.fail("it was called"))
    said = refused(capsys, verb, f"{'bundle' if verb == 'reproduce' else 'run'}={tmp_path / 'run.zip'}", *with_input)
    assert "run_cell_process' in augmentation.transforms.step._target_" in said


@pytest.mark.parametrize("target", FORBIDDEN[:4])
def test_neither_can_a_command_or_a_folder_of_options(project, tmp_path, capsys, target):
    said = refused(capsys, "train", f"loss._target_={target}")
    assert target in said
    (tmp_path / "conf" / "loss").mkdir(parents=True)
    node = {"_target_": target, "command": f"touch {tmp_path / 'canary'}"}
    (tmp_path / "conf" / "loss" / "evil.yaml").write_text(yaml.safe_dump(node))
    assert target in refused(capsys, "train", f"--config-dir={tmp_path / 'conf'}", "loss=evil")
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("verb", ["train", "reproduce"])
@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch {canary}']",
        "config: !!python/object/apply:subprocess.Popen [['touch', '{canary}']]",
        "config: !!python/name:os.system ''",
        "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b, *b]\nd: &d [*c, *c, *c]\ne: &e [*d, *d, *d, *d]\n"
        "f: &f [*e, *e, *e, *e, *e, *e, *e]\ng: &g [*f, *f, *f, *f, *f, *f]\nh: &h [*g, *g, *g, *g, *g]\ni: [*h, *h]",
        "&a {config: *a, files: *a}",
    ],
)
def test_yaml_that_makes_objects_or_never_ends_is_refused(project, tmp_path, capsys, verb, text):
    (project / "job.yaml").write_text(text.replace("{canary}", str(tmp_path / "canary")))
    assert "expected a job" in refused(capsys, verb, "job=job.yaml")
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("name", ["root", "live", "data_cache"])
@pytest.mark.parametrize("place", ["/elsewhere", "{root}/../elsewhere"])
def test_a_job_from_elsewhere_writes_into_the_project_of_the_user(project, tmp_path, capsys, name, place):
    outside = place.format(root=project) if "{" in place else str(tmp_path) + place

    def plant(config):
        config["paths"][name] = outside
        config["tracking"]["uri"] = "http://127.0.0.1:9"

    write_job(project / "job.yaml", project, plant)
    assert main(["train", "job=job.yaml", "--cfg", "job"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert all(Path(path).is_relative_to(project) and ".." not in path for path in config["paths"].values())
    assert config["tracking"]["uri"] is None


def test_a_job_of_the_project_keeps_its_folders(project, tmp_path, monkeypatch, capsys):
    write_job(project / "sweeps" / "s1" / "job.yaml", project)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    for file, kept in ((project / "sweeps" / "s1" / "job.yaml", project), (tmp_path / "job.yaml", elsewhere)):
        write_job(file, project)
        assert main(["train", f"job={file}", "--cfg", "job"]) == 0
        assert yaml.safe_load(capsys.readouterr().out)["paths"]["root"] == str(kept)


def zipped_pickle(path, content):
    """A file in torch's format whose pickle is `content`."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(content))
        archive.writestr("archive/version", "3\n")


@pytest.mark.parametrize("kind", ["saved", "zipped", "bare"])
@pytest.mark.parametrize(
    "read",
    [read_checkpoint, run_of_checkpoint, weights_hash, read_state],
    ids=["checkpoint", "its run", "weights hash", "weights file"],
)
def test_a_pickle_in_a_checkpoint_is_refused(tmp_path, kind, read):
    path, canary = tmp_path / "evil.ckpt", tmp_path / "canary"
    content = {"state_dict": {"weight": Evil(canary)}, "lesion_exp": {"run_id": Evil(canary)}}
    if kind == "saved":
        torch.save(content, path)
    elif kind == "zipped":
        zipped_pickle(path, content)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match="expected"):
        read(path)
    assert not canary.exists()
    torch.load(path, weights_only=False) if kind == "saved" else pickle.loads(pickle.dumps(content))
    assert canary.exists(), "the file would have run code"


def test_a_checkpoint_with_a_pickle_names_no_run(project, tmp_path):
    torch.save({"state_dict": {"weight": Evil(tmp_path / "canary")}}, project / "evil.ckpt")
    with pytest.raises(DataError, match="without running code"):
        chosen_run(None, "evil.ckpt")  # refused before any store is asked
    assert not (tmp_path / "canary").exists()


def test_a_whole_checkpoint_is_found_whatever_it_holds_but_not_run(tmp_path):
    torch.save({"state_dict": {"weight": Evil(tmp_path / "canary")}}, tmp_path / "last.ckpt")
    assert newest_checkpoint(tmp_path) == tmp_path / "last.ckpt"
    assert not (tmp_path / "canary").exists()


def test_a_job_with_another_hash_is_refused(project, capsys):
    write_job(project / "job.yaml", project)
    text = (project / "job.yaml").read_text().replace("seed: 0", "seed: 1")
    (project / "job.yaml").write_text(text)
    assert "was changed" in refused(capsys, "train", "job=job.yaml")


def test_a_job_that_lacks_keys_names_them(project, capsys):
    def plant(config):
        del config["trainer"]["ema_decay"]
        del config["seed"]

    write_job(project / "job.yaml", project, plant)
    said = refused(capsys, "train", "job=job.yaml")
    assert "trainer.ema_decay" in said
    assert "- seed" in said
