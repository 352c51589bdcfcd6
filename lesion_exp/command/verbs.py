"""The verbs of the command: what each does, and where its options are declared; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Final

from lesion_exp.choices import EVALUATED_PARTS
from lesion_exp.command.chosen_run import RUN_NAMES
from lesion_exp.option import Option, either, options_of


@dataclass(frozen=True)
class Verb:
    """A verb with what its help needs."""

    name: str
    summary: str
    target: str
    """`module:function` that does it, imported when the verb is called."""
    examples: tuple[str, str]
    groups: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    """`module:Class` below `lesion_exp`, of the dataclasses that declare its options."""
    config_keys: tuple[tuple[str, str], ...] = ()
    """Keys of the config that its help names before others, with what the verb has to say of them. `KEY` alone has the
    default of the YAML, and its meaning where none is said here."""
    words: tuple[tuple[str, str], ...] = ()
    """What else it takes, with its meaning: names without `=`, and keys of which there are many."""
    chosen: tuple[tuple[str, str], ...] = ()
    """Groups whose option the verb chooses itself, with that option."""
    flags: tuple[str, ...] = ()
    takes_names: bool = False
    """Whether arguments without `=` are names, of runs for example."""
    refused: tuple[str, ...] = ()
    """Keys of its groups that it does not take."""
    work: str = ""
    """What it does for a long time; empty for a verb that answers at once or waits for others."""
    stopped: str = ""
    """What is true where it is stopped, unless the place where it was stopped knows more; every verb says it."""

    def declared(self) -> list[Option]:
        """Its options; the modules that declare them, which are light, are imported."""
        return [option for target in self.options for option in options_of(_declaration(target))]

    @property
    def own_keys(self) -> tuple[str, ...]:
        """The keys that its help names beside those of its groups."""
        names = [text.partition("=")[0] for text, _ in self.config_keys]
        return (*(option.key for option in self.declared()), *names)


def _declaration(target: str) -> type:
    module, _, name = target.partition(":")
    found: type = getattr(import_module(f"lesion_exp.{module}"), name)
    return found


_ALL_GROUPS: Final = (
    "dataset", "split", "augmentation", "sampler", "backbone", "loss", "optimizer", "scheduler", "trainer",
    "evaluation", "metrics", "tracking", "experiment", "debug",
)  # fmt: skip
_DATA_GROUPS: Final = ("dataset", "split", "augmentation", "experiment")

VERBS: Final = {
    verb.name: verb
    for verb in (
        Verb(
            "prepare",
            "check a data set, count its classes, build its image store",
            "lesion_exp.command.actions:prepare",
            (
                "lesion-exp prepare dataset=ham10000 dataset.root=DIR",
                "lesion-exp prepare dataset=folder dataset.root=DIR dataset.on_bad_image=skip --json",
            ),
            _DATA_GROUPS,
            options=("command.arguments:JobFile",),
            flags=("--json",),
            work="preparing the data set",
            stopped="the images read so far are kept, and the same command goes on with them",
        ),
        Verb(
            "preview",
            "draw a grid of augmented images as the network will see them",
            "lesion_exp.command.actions:preview",
            (
                "lesion-exp preview augmentation=heavy",
                "lesion-exp preview dataset=ph2 dataset.root=DIR dataset.mask=overlay image_size=128",
            ),
            _DATA_GROUPS,
            options=("command.arguments:JobFile",),
            work="drawing the preview",
            stopped="the same command draws the preview anew; no other run is touched",
        ),
        Verb(
            "train",
            "train, test and log one run; with -m a sweep of runs",
            "lesion_exp.command.actions:train",
            (
                "lesion-exp train dataset=ham10000 dataset.root=DIR backbone=resnet18 sampler=weighted loss=focal "
                "trainer.max_epochs=3 seed=1",
                "lesion-exp train -m backbone=resnet18,resnet50 loss=cross_entropy,focal seed=1,2,3 launcher.workers=2",
            ),
            (*_ALL_GROUPS, "launcher", "search"),
            options=("command.arguments:JobFile", "command.sweep:CellOptions"),
            words=(
                (
                    "+metrics.NAME={_target_: CLASS}",
                    "log a further metric of every epoch: a class of torchmetrics.classification",
                ),
            ),
            flags=("-m",),
            work="training",
            stopped="no run had begun; the images read so far are kept for the next command",
        ),
        Verb(
            "sweep",
            "look at a sweep, go on with it, retry or cancel it",
            "lesion_exp.command.sweep:sweep",
            ("lesion-exp sweep status latest --watch", "lesion-exp sweep resume 20260101-1200"),
            ("tracking",),
            options=("command.sweep:SweepOptions",),
            words=(
                ("status SWEEP", "how each cell stands"),
                ("resume SWEEP", "run what is missing, go on with what stopped half-way"),
                ("retry SWEEP", "as resume, and once more what failed or was cancelled"),
                ("cancel SWEEP", "end the cells that run, leave out those that wait"),
                ("launcher.KEY=VALUE", "with resume and retry: from now on, such as launcher.workers=2"),
            ),
            flags=("--json", "--watch"),
            work="working on the sweep",
            stopped="the sweep is as it was; lesion-exp sweep status shows how each cell stands",
        ),
        Verb(
            "resume",
            "go on with a run that stopped, or train one longer",
            "lesion_exp.command.actions:resume",
            ("lesion-exp resume run=latest", "lesion-exp resume run=3f2a91c0 trainer.max_epochs=60"),
            ("tracking",),
            options=(
                "command.chosen_run:ChosenRun",
                "command.actions:LongerTraining",
                "command.chosen_run:MovedData",
            ),
            work="training",
            stopped="the run is as it was, and the same command goes on with it",
        ),
        Verb(
            "compare",
            "compare runs on the same images: differences, intervals, tests, a verdict",
            "lesion_exp.command.compare:compare",
            (
                "lesion-exp compare 3f2a91c0 best:test/balanced_accuracy",
                "lesion-exp compare 3f2a 91c0 77de against=77de",
            ),
            ("tracking",),
            options=("command.compare:CompareOptions",),
            config_keys=(("evaluation.bootstrap_draws", ""), ("evaluation.bootstrap_seed", "")),
            words=(("RUN RUN ...", f"two or more runs, each {RUN_NAMES}; seeds of one job are pooled"),),
            flags=("--json",),
            takes_names=True,
            work="comparing",
            stopped="the compared runs are as they were; the same command compares them anew",
        ),
        Verb(
            "sync",
            "send what runs kept while their MLflow server was away",
            "lesion_exp.command.sync:sync",
            ("lesion-exp sync", "lesion-exp sync run=3f2a91c0"),
            options=("command.sync:SyncOptions",),
            config_keys=(("tracking.uri=URI", "where their store is now; without it, where it was"),),
            flags=("--json",),
            work="sending runs",
            stopped="the server keeps what was sent, and the same command sends the rest",
        ),
        Verb(
            "reproduce",
            "run a job again; say what is equal and what is not",
            "lesion_exp.command.reproduce:reproduce",
            (
                "lesion-exp reproduce run=latest",
                "lesion-exp reproduce job=job.yaml dataset.root=DIR --check-only",
            ),
            ("tracking",),
            options=(
                "command.reproduce:ReproduceOptions",
                "verbs.reproduce.request:ReproductionRequest",
            ),
            words=(("dataset.sets.NAME=DIR", "where one of several data sets lies here"),),
            flags=("--json", "--check-only"),
            work="reproducing",
            stopped="the run that is reproduced is as it was; the same command begins again",
        ),
        Verb(
            "bundle",
            "runs as one file, from store to store",
            "lesion_exp.command.bundle:bundle",
            (
                "lesion-exp bundle export run=latest output=run.zip",
                "lesion-exp bundle import run.zip",
            ),
            ("tracking",),
            options=("command.bundle:BundleExport", "verbs.bundle.layout:BundleImport"),
            flags=("--json",),
            takes_names=True,
            work="moving runs",
            stopped="the runs in the store are as they were; the same command begins again",
        ),
        Verb(
            "evaluate",
            "judge runs: a part or another data set, tta, calibration, ensembles",
            "lesion_exp.command.evaluate:evaluate",
            (
                "lesion-exp evaluate run=latest tta=flips8",
                "lesion-exp evaluate run=[3f2a91c0,77de02b4] ensemble=mean --json",
            ),
            ("dataset", "evaluation"),
            options=("command.evaluate:EvaluateOptions",),
            config_keys=(
                ("split.part", f"the part: {either(EVALUATED_PARTS)}"),
                ("dataset=NAME", "evaluate on another data set, all of it"),
                ("dataset.root=DIR", "where that lies; without dataset=, where the run's own data lie now"),
                (
                    "split.allow_leakage=true",
                    "evaluate also on images that the run was trained on; the result is leaky",
                ),
                ("tracking.uri=URI", "the store of runs"),
            ),
            flags=("--json",),
            refused=("dataset.mask", "evaluation.tta"),
            work="evaluating",
            stopped="the judged runs and their states are as they were; the same command judges them anew",
        ),
        Verb(
            "leakage",
            "the leak meter: by how much the popular mistakes in splitting inflate scores",
            "lesion_exp.command.leakage:leakage",
            (
                "lesion-exp leakage dataset=ham10000 dataset.root=DIR image_size=64 trainer.max_epochs=10",
                "lesion-exp leakage experiment=demo --json",
            ),
            tuple(group for group in _ALL_GROUPS if group != "split"),
            options=("command.leakage:LeakageOptions",),
            config_keys=(
                ("split.held_out", ""),
                ("split.seed", "of the clean part and of every way's draw"),
                ("split.samples_per_class", ""),
                ("launcher.workers", "trainings at once"),
            ),
            chosen=(("split", "held_out"),),
            flags=("--json",),
            refused=("test",),
            work="measuring leakage",
            stopped="every network that is trained is kept, and the same command goes on",
        ),
        Verb(
            "shortcuts",
            "what a network may have learned beside the lesion: checks with verdicts",
            "lesion_exp.command.shortcuts:shortcuts",
            ("lesion-exp shortcuts run=latest", "lesion-exp shortcuts run=3f2a91c0 images=500 --json"),
            ("tracking",),
            options=(
                "command.chosen_run:ChosenRun",
                "command.shortcuts:ShortcutOptions",
                "command.chosen_run:MovedData",
            ),
            config_keys=(("evaluation.bootstrap_draws", ""), ("evaluation.bootstrap_seed", "")),
            flags=("--json",),
            work="checking for shortcuts",
            stopped="the run and its state are as they were; the same command checks it anew",
        ),
        Verb(
            "explain",
            "show where a run finds the evidence, and how much lies in the lesion",
            "lesion_exp.command.explain:explain",
            (
                "lesion-exp explain run=latest",
                "lesion-exp explain run=3f2a91c0 method=grad_cam,occlusion occlusion.window=0.1 part=test --json",
            ),
            ("tracking",),
            options=(
                "command.chosen_run:ChosenRun",
                "command.explain:ExplainOptions",
                "verbs.explain.request:ExplanationRequest",
            ),
            words=(("METHOD.KEY=VALUE", "a key of a method, as in conf/explanation/METHOD.yaml"),),
            flags=("--json",),
            work="explaining",
            stopped="the run and its state are as they were; methods that were done are kept",
        ),
        Verb(
            "report",
            "a run or a sweep as one HTML page, with reporting checklists filled",
            "lesion_exp.command.report:report",
            (
                "lesion-exp report run=latest",
                "lesion-exp report sweep=latest output=sweep.html",
            ),
            ("tracking",),
            options=("command.report:ReportOptions",),
            flags=("--json",),
            work="writing the report",
            stopped="the run is as it was; the same command writes the page anew",
        ),
        Verb(
            "predict",
            "predict images without labels: file, folder, pattern, zip or csv",
            "lesion_exp.command.predict:predict",
            (
                "lesion-exp predict run=latest input=FOLDER output=predictions.csv calibration=temperature top=3",
                "lesion-exp predict run=3f2a91c0 input=new.zip output=new.parquet rank=margin count=50 --json",
            ),
            options=("command.chosen_run:ChosenRun", "verbs.predict.request:PredictionRequest"),
            config_keys=(("tracking.uri=URI", "the store of runs"),),
            flags=("--json",),
            work="predicting",
            stopped="nothing was predicted yet; the same command begins anew",
        ),
        Verb(
            "label-errors",
            "name labels that a run has good reason to doubt (needs cleanlab)",
            "lesion_exp.command.label_errors:label_errors",
            (
                "lesion-exp label-errors run=latest output=suspected.csv",
                "lesion-exp label-errors run=3f2a91c0 part=both output=suspected.csv --json",
            ),
            ("tracking",),
            options=("command.chosen_run:ChosenRun", "command.label_errors:LabelErrorOptions"),
            flags=("--json",),
            work="looking for label errors",
            stopped="the run is as it was; the same command begins again",
        ),
        Verb(
            "export",
            "a run's network as ONNX, int8, torch.export, TorchScript or ExecuTorch, checked",
            "lesion_exp.command.export:export",
            (
                "lesion-exp export run=latest format=onnx output=exported",
                "lesion-exp export run=champion format=onnx_int8 output=exported calibration=temperature --json",
            ),
            ("tracking",),
            options=("command.chosen_run:ChosenRun", "verbs.export.request:ExportRequest"),
            flags=("--json",),
            work="exporting",
            stopped="the run is as it was, and no file was left that was not checked",
        ),
        Verb(
            "register",
            "put a run's model into MLflow's registry, under a name and an alias",
            "lesion_exp.command.register:register",
            (
                "lesion-exp register run=best:val/balanced_accuracy alias=champion",
                "lesion-exp register run=3f2a91c0 name=lesions alias=challenger --json",
            ),
            ("tracking",),
            options=("command.chosen_run:ChosenRun", "command.register:RegisterOptions"),
            flags=("--json",),
            work="registering",
            stopped="the run is as it was; lesion-exp ui shows whether the registry has the new version",
        ),
        Verb(
            "serve",
            "a run's network as a web page and an API, on this machine (extra serve)",
            "lesion_exp.command.serve:serve",
            ("lesion-exp serve run=latest", "lesion-exp serve run=best:val/balanced_accuracy port=8080 max_batch=32"),
            ("tracking",),
            options=(
                "command.chosen_run:ChosenRun",
                "verbs.serve.settings:ModelOptions",
                "verbs.serve.settings:Settings",
            ),
            stopped="the server had not started",
        ),
        Verb(
            "ui",
            "open MLflow's page on the store of this project",
            "lesion_exp.command.actions:ui",
            ("lesion-exp ui", "lesion-exp ui port=5001"),
            ("tracking",),
            options=("command.actions:PageAddress",),
            stopped="the page had not started; the store is as it was",
        ),
    )
}
FLAGS: Final = {
    "--help": "show this help",
    "--version": "show the version",
    "--config-dir DIR": "a folder with options of your own, laid out like conf/; may be repeated",
    "--trust PACKAGE": "allow _target_s of your own package; may be repeated",
    "--cfg job": "print the resolved config and do nothing",
    "--no-tree": "do not show the config at the start",
    "--full-tree": "show all of the config at the start, not only where it differs from the defaults",
    "-m": "a sweep: KEY=A,B tries several values; so do 'KEY=range(1,4)' and 'GROUP=glob(*)'",
    "--watch": "show it anew every few seconds until no cell is left",
    "--json": "print one JSON object on standard output",
    "--check-only": "compare the conditions and stop",
}
VERB_FLAGS: Final = ("--json", "-m", "--watch", "--check-only")
"""Flags that only the verbs take that name them."""
