"""What is wrong with a command is said before torch is imported."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from typing import NamedTuple
from zipfile import ZipFile

import pytest

from lesion_exp.command.verbs import VERBS
from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze
from lesion_exp.config.project import Project
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.tracking.run_writer import RunWriter
from lesion_exp.tracking.stored_run import MEMBERS_TAG
from tests.untrained_run import untrained_run, validation_table

CHILD = """
import json, os, sys
from pathlib import Path

HEAVY = {"torch", "torchvision", "pytorch_lightning", "lightning_fabric", "torchmetrics", "albumentations"}


class Imported(BaseException):
    pass


class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in HEAVY:
            raise Imported(name)


sys.meta_path.insert(0, Watch())
from lesion_exp.cli import main
from lesion_exp.config.compose import compose

for options in ([], ["experiment=demo"]):  # what every command does is done once, before the processes part
    compose(options, root=Path.cwd())
import lesion_exp.training.first_checks
import lesion_exp.trained_runs.trained_run

for text, absent in json.loads(sys.stdin.read()):
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.dup2(writing, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.modules.update(dict.fromkeys(absent))
        try:
            code = main(text.split())
        except Imported as error:
            print(f"{error} was imported", file=sys.stderr)
            code = 99
        sys.stderr.flush()
        os._exit(code)
    os.close(writing)
    with open(reading, encoding="utf-8") as messages:
        said = messages.read()
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    print(json.dumps([text, code, said]), flush=True)
"""


class Wrong(NamedTuple):
    """A command with a mistake; words in capitals stand for runs of the project, see `named_runs`."""

    words: str
    said: str
    absent: tuple[str, ...] = ()
    """Packages that are made unavailable."""


HAM = "dataset=ham10000 dataset.root"
FOLDERS = [
    *(Wrong(f"{verb} {HAM}=nowhere", "nothing is at") for verb in ("prepare", "preview", "train", "plan", "leakage")),
    *(Wrong(f"{verb} {HAM}=empty", "HAM10000_metadata") for verb in ("prepare", "preview", "train", "plan", "leakage")),
    Wrong(f"train -m {HAM}=nowhere seed=1,2", "nothing is at"),
    Wrong(f"train -m {HAM}=empty seed=1,2", "HAM10000_metadata"),
    Wrong(f"audit {HAM}=empty", "HAM10000_metadata"),
    Wrong(f"evaluate run=RUN {HAM}=nowhere", "nothing is at"),
    Wrong(f"import predictions=theirs.csv {HAM}=nowhere", "nothing is at"),
    Wrong(f"predict run=RUN {HAM}=nowhere output=new.csv", "nothing is at"),
    Wrong(f"predict run=RUN {HAM}=empty output=new.csv", "HAM10000_metadata"),
    *(
        Wrong(f"{words} dataset.root={folder}", said)
        for words in (
            "explain run=FINISHED",
            "shortcuts run=FINISHED",
            "export run=FINISHED format=torchscript output=exported",
            "resume run=STOPPED",
            "resume run=STOPPED trainer.max_epochs=9",
        )
        for folder, said in (("nowhere", "nothing is at"), ("empty", "HAM10000_metadata"))
    ),
    *(Wrong(f"reproduce run=FINISHED dataset.root=nowhere{flag}", "nothing is at") for flag in ("", " --check-only")),
    Wrong("reproduce run=FINISHED split.path=nowhere.csv", "whose file or folder this job reads"),
]
"""Folders of data that are not there, or that lack the files of the data set."""
ON_A_RUN = (
    "predict run={} input=theirs.csv output=new.csv", "serve run={} port=0", "explain run={}",
    "export run={} format=torchscript output=exported", "evaluate run={}", "report run={}", "figures run={}",
    "label-errors run={} output=suspected.csv", "shortcuts run={}", "register run={} alias=first",
    "bundle export run={} output=run.zip", "compare RUN {}", "audit experiment=demo run={}", "reproduce run={}",
    "import predictions=theirs.csv like={}",
)  # fmt: skip
WITH_A_NETWORK = (*ON_A_RUN[:4], "shortcuts run={}", "register run={} alias=first")
RUNS = [
    *(Wrong(words.format("nowhere"), "expected a run id") for words in ON_A_RUN),
    *(Wrong(words.format("model@alias"), "expected a registered model") for words in ON_A_RUN),
    *(Wrong(words.format("text.ckpt"), "expected a checkpoint") for words in ON_A_RUN[:4]),
    *(Wrong(words.format("best:nothing"), "expected a metric") for words in ON_A_RUN[:6]),
    *(Wrong(words.format("STOPPED"), "expected a run that has finished") for words in WITH_A_NETWORK),
    *(Wrong(words.format("ENSEMBLE"), "expected a run that was trained") for words in WITH_A_NETWORK[1:]),
    Wrong(WITH_A_NETWORK[0].format("ENSEMBLE"), "predict with one of its runs"),
    *(Wrong(f"{verb} run=ENSEMBLE", "expected a run that trains") for verb in ("resume", "reproduce")),
    Wrong("resume run=FINISHED", "has finished"),
    Wrong("reproduce run=STOPPED", "expected a finished run"),
    Wrong("evaluate run=[RUN,nowhere] ensemble=mean", "expected a run id"),
    Wrong("sync run=nowhere", "nowhere"),
    Wrong("train experiment=demo backbone.weights=run:nowhere", "expected a run id"),
    *(Wrong(f"sweep {action} nowhere", "expected a sweep") for action in ("status", "resume", "retry", "cancel")),
    Wrong("report sweep=nowhere", "expected a sweep"),
    Wrong("table sweep=nowhere rows=seed", "expected a sweep"),
    Wrong("leakage sweep=nowhere", "expected"),
]
FILES = [
    Wrong("predict run=RUN input=nowhere output=new.csv", "found nothing"),
    Wrong("predict run=RUN input=empty output=new.csv", "found none"),
    Wrong("predict run=RUN input=nowhere/*.jpg output=new.csv", "found none"),
    Wrong("predict run=RUN input=notes.zip output=new.csv", "found none"),
    Wrong("predict run=RUN input=other.csv output=new.csv", "expected the columns image_path"),
    Wrong("predict run=RUN input=theirs.csv output=truth.csv", "truth.csv exists"),
    Wrong("predict run=RUN input=theirs.csv output=text.ckpt/new.csv", "is a file"),
    Wrong("bundle import nowhere.zip", "there is no file"),
    Wrong("import predictions=nowhere.csv truth=truth.csv", "nowhere.csv"),
    Wrong("audit experiment=demo predictions=nowhere.csv", "nowhere.csv"),
    Wrong("train experiment=demo split=file split.path=nowhere.csv", "there is no file"),
    Wrong("train experiment=demo backbone.weights=nowhere.pt", "there is no file"),
    Wrong("train job=nowhere.yaml", "nowhere.yaml"),
    Wrong("reproduce job=nowhere.yaml", "nowhere.yaml"),
    Wrong("train --config-dir nowhere", "there is no folder"),
    Wrong("report run=RUN output=text.ckpt/page.html", "make the folder first"),
    Wrong("figures run=RUN output=text.ckpt", "to be a folder"),
    Wrong("table sweep=latest rows=seed output=nowhere/table.md", "make the folder first"),
    Wrong("export run=RUN format=torchscript output=text.ckpt/exported", "is a file"),
    Wrong("schema output=text.ckpt/schemas", "expected"),
]
"""Files and folders to read or to write."""
PACKAGES = [
    Wrong("train experiment=demo optimizer=lion", "pytorch_optimizer", ("pytorch_optimizer",)),
    Wrong("train experiment=demo backbone=timm backbone.name=resnet18", "package timm", ("timm",)),
    Wrong("train experiment=demo backbone=resnet18 backbone.tune=lora", "peft", ("peft",)),
    Wrong("train experiment=pretrain", "lightly", ("lightly",)),
    Wrong("train -m experiment=demo optimizer=lion seed=1,2", "pytorch_optimizer", ("pytorch_optimizer",)),
    Wrong("train -m experiment=demo search=optuna optimizer.lr=interval(1e-4,1e-2)", "optuna", ("optuna",)),
    Wrong("train -m experiment=demo launcher=ray seed=1,2", "ray", ("ray",)),
    Wrong("leakage experiment=demo optimizer=lion", "pytorch_optimizer", ("pytorch_optimizer",)),
    Wrong("serve run=RUN port=0", "fastapi", ("fastapi",)),
    Wrong("explain run=RUN method=lime", "lime", ("lime",)),
    Wrong("explain run=RUN method=shap", "shap", ("shap",)),
    Wrong("export run=RUN format=onnx output=exported", "onnx", ("onnx",)),
    Wrong("export run=RUN format=executorch output=exported", "executorch", ("executorch",)),
    Wrong("evaluate run=[RUN,RUN] ensemble=stacked stack=lgbm", "lightgbm", ("lightgbm",)),
    Wrong("label-errors run=RUN output=suspected.csv", "cleanlab", ("cleanlab",)),
]
OPTIONS = [
    *(
        Wrong(f"train experiment=demo {words}", said)
        for words, said in (
            ("trainer.max_epochs=0", "at least 1"),
            ("optimizer.lr=abc", "optimizer.lr"),
            ("loss=nowhere", "nowhere"),
            ("loss=focal loss.gamma=-1", "loss.gamma"),
            ("loss.label_smoothing=2", "loss.label_smoothing"),
            ("scheduler=cosine scheduler.warmup_epochs=-1", "scheduler.warmup_epochs"),
            ("backbone.dropout=2", "dropout"),
            ("trainer.accelerator=tpu", "trainer.accelerator"),
            ("split=kfold split.fold=9", "fold"),
            ("trainer.limit_val_batches=-1", "limit_val_batches"),
            ("tracking.uri=nowhere", "tracking.uri"),
            ("tracking.uri=http://127.0.0.1:9", "127.0.0.1:9"),
            ("los=focal", "loss"),
            ("evaluation.tta=9", "tta"),
        )
    ),
    Wrong("train -m experiment=demo loss.label_smoothing=0.1,2", "loss.label_smoothing"),
    Wrong("train -m experiment=demo seed=1", "several values"),
    Wrong("leakage experiment=demo loss.label_smoothing=2", "loss.label_smoothing"),
    Wrong("plan experiment=demo hours=-1", "hours"),
    Wrong("prepare experiment=demo dataset.on_bad_image=some", "on_bad_image"),
    Wrong("preview experiment=demo augmentation=nowhere", "nowhere"),
    Wrong("predict run=RUN input=theirs.csv output=new.csv rank=best", "rank"),
    Wrong("predict run=RUN input=theirs.csv output=new.csv calibration=isotonic", "expected a calibration"),
    Wrong("serve run=RUN port=99999", "port"),
    Wrong("serve run=RUN host=300.1.1.1", "expected a free address"),
    Wrong("serve run=RUN port=0 calibration=isotonic", "expected a calibration"),
    Wrong("explain run=RUN method=nowhere", "nowhere"),
    Wrong("explain run=RUN method=occlusion occlusion.windw=1", "window"),
    Wrong("explain run=RUN method=grad_cam occlusion.window=0.1", "add occlusion"),
    Wrong("export run=RUN format=onyx output=exported", "format"),
    Wrong("evaluate run=RUN ensemble=best", "ensemble"),
    Wrong("compare RUN latest format=word", "format"),
    Wrong("shortcuts run=RUN images=0", "images"),
    Wrong("register run=RUN name=", "name"),
    Wrong("register run=RUN alias=latest", "expected an alias"),
    Wrong("register run=RUN name=a/b", "expected a name"),
    Wrong("figures run=RUN format=gif", "format"),
    Wrong("table sweep=latest", "rows"),
    Wrong("label-errors run=RUN output=suspected.txt", "output"),
    Wrong("bundle expor", "export"),
    Wrong("report", "neither"),
    Wrong("import predictions=theirs.csv", "expected one of"),
    Wrong("audit experiment=demo train_ids=truth.csv", "test_ids"),
    Wrong("reproduce", "expected one of"),
    Wrong("sweep stat", "status"),
    Wrong("clean remove=all", "remove"),
    Wrong("completion fish-shell", "expected"),
    Wrong("schema nowhere", "nowhere"),
    Wrong("ui port=99999", "port"),
    Wrong("sync tracking.ur=http://x", "tracking.ur"),
    Wrong("doctor --cfg job", "doctor trains nothing"),
]
COMMANDS = [*FOLDERS, *RUNS, *FILES, *PACKAGES, *OPTIONS]


def test_every_verb_is_asked():
    assert {wrong.words.partition(" ")[0] for wrong in COMMANDS} == set(VERBS)


def named_runs(root):
    """The ids of runs: one with a network, two without weights on HAM10000, of which one stopped, and an ensemble."""
    run, config = untrained_run(root)
    for part in ("val", "test"):
        with RunWriter.of(run).new_file(f"predictions/{part}.parquet") as path:
            validation_table().to_parquet(path)
    job = freeze(compose(["dataset=ham10000", f"dataset.root={root}", "backbone=small_cnn", "trainer=cpu"], root=root))
    store, found = Project.from_config(config).store, {"RUN": run.run_id}
    for name in ("FINISHED", "STOPPED"):
        with (
            TrackedRun.start(store, "study", name, {"kind": "train"}, system_metrics_seconds=0) as started,
            started.new_file("config/job.yaml") as path,
        ):
            job.write(path)
        found[name] = started.run_id
    store.client.set_terminated(found["STOPPED"], "KILLED")
    tags = {"kind": "ensemble", "ensemble": "mean", MEMBERS_TAG: f"{found['RUN']},{found['FINISHED']}"}
    with TrackedRun.start(store, "study", "both", tags, system_metrics_seconds=0) as started:
        found["ENSEMBLE"] = started.run_id
    return found


@pytest.fixture(scope="module")
def answers(request, empty_root, tmp_path_factory):
    """The exit code and the messages of each command that is to be tested."""
    own = [item for item in request.session.items if getattr(item, "module", None) is request.module]
    commands = [item.callspec.params["wrong"] for item in own if hasattr(item, "callspec")]
    root = shutil.copytree(empty_root, tmp_path_factory.mktemp("refused") / "project")
    names, table = named_runs(root), validation_table()
    for path in root.rglob("*isotonic*"):
        path.unlink()
    (root / "empty").mkdir()
    (root / "text.ckpt").write_text("no checkpoint")
    table[["image_id"]].to_csv(root / "theirs.csv", index=False)
    table[["image_id", "label"]].to_csv(root / "truth.csv", index=False)
    table[["label"]].to_csv(root / "other.csv", index=False)
    with ZipFile(root / "notes.zip", "w") as archive:
        archive.writestr("notes.txt", "no image")
    pattern = re.compile("|".join(names))
    asked = [(pattern.sub(lambda found: names[found[0]], wrong.words), wrong.absent) for wrong in commands]
    done = subprocess.run(
        [sys.executable, "-c", CHILD], cwd=root, input=json.dumps(asked), capture_output=True, text=True, check=False
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(asked), done.stderr
    return {wrong: (code, said) for wrong, (_, code, said) in zip(commands, found, strict=True)}


@pytest.mark.slow
@pytest.mark.parametrize("wrong", COMMANDS, ids=lambda wrong: wrong.words)
def test_a_mistake_is_said_before_torch_is_imported(answers, wrong):
    code, said = answers[wrong]
    assert code == 2, said
    assert "lesion-exp: " in said
    assert "expected" in said
    assert wrong.said in said
