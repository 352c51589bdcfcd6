"""Verbs that compute from kept tables never import torch; verbs that predict import no more than they need."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lesion_exp.command.verbs import VERBS
from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze
from lesion_exp.config.shipped_conf import conf_dir
from lesion_exp.sweeps.driver import drive
from lesion_exp.sweeps.ledger import create_sweep
from lesion_exp.sweeps.plan import plan_sweep
from lesion_exp.tracking.run_writer import RunWriter
from lesion_exp.tracking.store import open_store
from lesion_exp.training.run import train
from tests.pictures import without_pictures
from tests.sweeps.conftest import ScriptedLauncher
from tests.tiny import TINY
from tests.untrained_run import untrained_run, validation_table
from tests.verbs.table.test_table import sweep_in

HEAVY = ("torch", "torchvision", "pytorch_lightning", "torchmetrics", "albumentations")
TABLES = {
    "import", "evaluate", "compare", "report", "figures", "table", "bundle", "sweep", "label-errors", "completion",
}  # fmt: skip
"""Verbs that compute from kept tables."""
NETWORKS = {
    "train", "resume", "reproduce", "predict", "explain", "shortcuts", "export", "serve", "leakage", "plan", "preview",
    "doctor", "schema",
}  # fmt: skip
"""Verbs that use a network, look at how one would run, or read the signatures of all options."""
IMAGES = {"prepare", "audit"}
"""Verbs that read images, which may search for copies."""
STORE = {"register", "sync", "ui", "clean"}
"""Verbs that deal with the store; register writes a model that a run lacks."""
CHILD = """
import json, sys
from lesion_exp.cli import main

for words in json.loads(sys.argv[1]):
    if words[0] == "serve":
        from lesion_exp.verbs.serve import server

        server._Server.run = lambda self, sockets: None  # which answers until it is stopped
    code = main(words)
    print(json.dumps([words, code, sorted(set(json.loads(sys.argv[2])) & set(sys.modules))]), file=sys.stderr)
"""


def test_every_verb_is_judged():
    assert sorted([*TABLES, *NETWORKS, *IMAGES, *STORE]) == sorted(VERBS)


@pytest.fixture(scope="module")
def project(empty_root, tmp_path_factory):
    """A project with a run that has a job and predictions, and with predictions to import."""
    root = shutil.copytree(empty_root, tmp_path_factory.mktemp("kept") / "project")
    run, _ = untrained_run(root)
    table = validation_table().assign(lesion_id=None, patient_id=None)  # which imported predictions lack
    for part in ("val", "test"):
        with RunWriter.of(run).new_file(f"predictions/{part}.parquet") as path:
            table.to_parquet(path)
    table.rename(columns={f"p_{name}": name for name in table["label"].unique()}).drop(columns="label").to_csv(
        root / "theirs.csv", index=False
    )
    table[["image_id", "label"]].to_csv(root / "truth.csv", index=False)
    return root, run.run_id


def imported(root, *commands, packages=HEAVY):
    """What each command returned, and which of `packages` its process had imported by its end."""
    asked = [
        [*words.split(), f"paths.root={root}"] if words != "completion bash" else words.split() for words in commands
    ]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(asked), json.dumps(packages)], cwd=root, capture_output=True, text=True
    )
    found = [json.loads(line) for line in done.stderr.splitlines() if line.startswith('[["')]
    assert len(found) == len(commands), done.stderr
    return {" ".join(words[:-1]): (code, names) for words, code, names in found}, done.stderr


def test_verbs_on_kept_tables_do_not_import_torch(project):
    root, run_id = project
    draws = "evaluation.bootstrap_draws=100"
    made, messages = imported(root, f"import predictions=theirs.csv truth=truth.csv name=theirs {draws}")
    assert list(made.values()) == [(0, [])], messages
    store = open_store(None, root)
    (theirs,) = store.client.search_runs(
        [one.experiment_id for one in store.client.search_experiments()], "attributes.run_name = 'theirs'"
    )
    other = theirs.info.run_id
    answers, messages = imported(
        root,
        "completion bash",
        f"evaluate run={run_id} {draws}",
        f"evaluate run=[{run_id},{other}] ensemble=mean {draws}",
        f"compare {run_id} {other} {draws}",
        f"report run={run_id}",
        f"figures run={run_id} format=svg output=figures",
        f"bundle export run={run_id} output=run.zip",
        "bundle import run.zip",
    )
    assert answers == dict.fromkeys(answers, (0, [])), messages


def test_a_table_of_a_sweep_is_made_without_torch(empty_root, tmp_path):
    root = shutil.copytree(empty_root, tmp_path / "project")
    sweep_in(open_store(None, root))
    words = "rows=loss columns=optimizer.lr metric=test/accuracy evaluation.bootstrap_draws=100"
    answers, messages = imported(root, f"table sweep=latest {words}")
    assert answers == dict.fromkeys(answers, (0, [])), messages


def test_no_torch_is_imported_to_say_that_there_is_no_sweep_or_that_a_run_has_finished(project):
    root, run_id = project
    open_store(None, root).client.set_tag(run_id, "kind", "train")
    sweeps = ("sweep status", "table sweep=latest rows=loss columns=seed metric=val/accuracy")
    answers, messages = imported(root, *sweeps, "resume latest", f"resume run={run_id}")
    assert answers == dict.fromkeys(answers, (2, [])), messages
    assert f"lesion-exp reproduce run={run_id}" in messages


def test_a_sweep_that_has_ended_is_shown_and_its_folder_listed_without_torch(project):
    root, _ = project
    plan = plan_sweep([*TINY, "backbone=small_cnn", "seed=1,2"], root=root)
    sweep = create_sweep(root / "sweeps", plan.facts, plan.cells, [conf_dir()])
    drive(sweep, ScriptedLauncher(lambda text: 0.5), open_store(None, root))
    answers, messages = imported(root, "sweep status", "sweep status --json", "sweep resume", "sweep retry", "clean")
    assert answers == dict.fromkeys(answers, (0, [])), messages


def test_a_run_is_read_from_python_without_torch(project):
    root, run_id = project
    code = f"""
import json, sys
import lesion_exp
run = lesion_exp.open_run({run_id!r})
found = [len(lesion_exp.runs()) > 0, len(run.predictions("test")), len(run._repr_html_()) > 0]
found += ["accuracy" in lesion_exp.evaluate({run_id!r}, "evaluation.bootstrap_draws=100")._repr_html_()]
print(json.dumps([found, sorted(set({HEAVY!r}) & set(sys.modules))]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found, heavy = json.loads(done.stdout.splitlines()[-1])
    assert found == [True, 140, True, True]
    assert heavy == []


PREDICTING = ("pytorch_lightning", "lightning_fabric", "torchmetrics", "albumentations")
"""Packages that no verb needs which predicts with a network whose images are prepared without transforms."""
BACKBONE = ("torchvision", "timm")
"""Packages that a network of this package does not need."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A project with a run that was trained with transforms, and with images to predict."""
    root = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch, without_pictures():
        patch.chdir(root)
        overrides = ["backbone=small_cnn", "augmentation=standard", "trainer.max_epochs=1", "tracking.log_model=false"]
        composed = compose([*TINY, *overrides], root=root)
        run_id = train(freeze(composed)).run_id
    files = sorted(Path(composed.config["dataset"]["root"]).rglob("*.jpg"))[:3]
    (root / "images").mkdir()
    for file in files:
        shutil.copy(file, root / "images")
    return root, run_id


@pytest.mark.slow
def test_verbs_that_predict_import_nothing_that_only_training_needs(trained):
    root, run_id = trained
    answers, messages = imported(
        root,
        f"predict run={run_id} input=images output=predictions.csv",
        f"serve run={run_id} port=0",
        f"evaluate run={run_id} tta=flips8 evaluation.bootstrap_draws=100",
        f"explain run={run_id} method=grad_cam images=3",
        f"export run={run_id} format=torchscript output=exported check_images=3",
        packages=(*PREDICTING, *BACKBONE),
    )
    assert answers == dict.fromkeys(answers, (0, [])), messages


@pytest.mark.slow
def test_verbs_on_one_run_open_the_embedded_store_without_mlflow(trained):
    root, run_id = trained
    served = [f"serve run={name} port=0" for name in (run_id, run_id[:6], "latest")]
    answers, messages = imported(root, *served, packages=("mlflow", "sqlalchemy", "sklearn"))
    assert answers == dict.fromkeys(answers, (0, [])), messages
    answers, messages = imported(
        root, "predict run=latest input=images output=others.csv", packages=("mlflow", "sqlalchemy", "matplotlib")
    )
    assert answers == dict.fromkeys(answers, (0, [])), messages
