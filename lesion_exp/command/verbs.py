"""The verbs of the command line: what each does, and where its options are declared. It imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Final

from lesion_exp.choices import EVALUATED_PARTS
from lesion_exp.command.chosen_run import RUN_NAMES
from lesion_exp.option import Option, either, options_of


@dataclass(frozen=True)
class Verb:
    """A verb with everything that its help shows."""

    name: str
    summary: str
    target: str
    """`module:function` that runs the verb; it is imported when the verb is called."""
    examples: tuple[str, str]
    groups: tuple[str, ...] = ()
    """Groups of the config that it reads; none for a verb that composes no job."""
    options: tuple[str, ...] = ()
    """The dataclasses that declare its options, as `module:Class` below `lesion_exp`."""
    config_keys: tuple[tuple[str, str], ...] = ()
    """Keys of the config that its help shows before the others, each with its meaning for this verb. `KEY` alone is
    shown with the default of the YAML, and an empty meaning stands for the comment of the YAML."""
    words: tuple[tuple[str, str], ...] = ()
    """Other arguments with their meaning: names without `=`, and patterns of keys such as `launcher.KEY=VALUE`."""
    chosen: tuple[tuple[str, str], ...] = ()
    """Groups whose option the verb chooses itself, with that option."""
    without_default: tuple[str, ...] = ()
    """Groups of which the verb uses an option only if it is named, so that its help marks none as the default."""
    flags: tuple[str, ...] = ()
    """Names in `FLAGS`, beside those that every verb has."""
    takes_names: bool = False
    """Whether arguments without `=` are names, for example of runs."""
    reads_store: bool = True
    """Whether it reads the store of runs, or the project that has it."""
    refused: tuple[str, ...] = ()
    """Keys of its groups that it does not accept."""
    work: str = ""
    """What a progress line calls its work; empty for a verb that answers at once or waits for requests."""
    stopped: str = ""
    """What a message says after the verb was stopped, unless the exception carries a more precise note."""

    def declared(self) -> list[Option]:
        """Its options. The modules that declare them are imported; they are light."""
        return [option for target in self.options for option in options_of(_declaration(target))]

    @property
    def own_keys(self) -> tuple[str, ...]:
        """The keys that its help shows beside those of its groups."""
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
SHOWN_CONFIG: Final = ("--cfg job", "--no-tree", "--full-tree")
"""Flags about the config of a job, which the verb shows at the start."""
_MOVED_SET: Final = (
    "dataset.sets.NAME=DIR",
    "folder where NAME, one of the several data sets of the run, is now, if it has moved",
)

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
            flags=(*SHOWN_CONFIG, "--json"),
            work="preparing the data set",
            stopped="the images read so far are kept, and the same command continues with them",
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
            flags=SHOWN_CONFIG,
            work="drawing the preview",
            stopped="the same command draws the preview again; no other run is changed",
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
            options=("command.arguments:JobFile", "command.sweep:CellOptions", "command.sweep:ShownCell"),
            words=(
                (
                    "+metrics.NAME={_target_: CLASS}",
                    "log a further metric for every epoch: a class of torchmetrics.classification",
                ),
            ),
            flags=(*SHOWN_CONFIG, "-m"),
            work="working on the run",
            stopped="no run was started; the images read so far are kept for the next command",
        ),
        Verb(
            "plan",
            "write a preset for a data set, this machine and a budget of time, with the reason of each choice",
            "lesion_exp.command.plan:plan",
            (
                "lesion-exp plan dataset=ham10000 dataset.root=DIR hours=1",
                "lesion-exp plan dataset=ph2 dataset.root=DIR task.target=malignant hours=0.2 output=ph2_plan --json",
            ),
            ("dataset", "split", "trainer"),
            options=("verbs.plan.request:PlanRequest",),
            config_keys=(("task.target", ""), ("seed", "")),
            flags=("--json",),
            refused=("trainer.max_epochs", "trainer.devices", "trainer.ema_decay"),
            work="making a plan",
            stopped="no plan was written; the images read so far are kept, and the same command continues with them",
        ),
        Verb(
            "sweep",
            "show a sweep, resume it, retry what failed, or cancel it",
            "lesion_exp.command.sweep:sweep",
            ("lesion-exp sweep status latest --watch", "lesion-exp sweep resume 20260101-1200"),
            options=("command.sweep:SweepOptions",),
            words=(
                ("status SWEEP", "show the state of each cell"),
                ("resume SWEEP", "run the cells that have not run yet, and continue those that stopped"),
                ("retry SWEEP", "as resume, and run again the cells that failed or were cancelled"),
                ("cancel SWEEP", "stop the cells that are running, and do not start those that are waiting"),
                (
                    "launcher.KEY=VALUE",
                    "with resume and retry: change a setting of the launcher, such as launcher.workers=2",
                ),
            ),
            flags=("--json", "--watch"),
            work="working on the sweep",
            stopped="the sweep is unchanged; sweep status with the same keys shows the state of each cell",
        ),
        Verb(
            "resume",
            "continue a run that stopped, or train a run longer",
            "lesion_exp.command.actions:resume",
            ("lesion-exp resume run=latest", "lesion-exp resume run=3f2a91c0 trainer.max_epochs=60"),
            options=(
                "command.chosen_run:ChosenRun",
                "command.actions:LongerTraining",
                "command.actions:OtherProcesses",
                "trained_runs.moved_data:MovedTraining",
            ),
            words=(_MOVED_SET,),
            work="working on the run",
            stopped="the run is unchanged, and the same command continues it",
        ),
        Verb(
            "compare",
            "compare runs on the same images: differences, intervals, tests and conclusions",
            "lesion_exp.command.compare:compare",
            (
                "lesion-exp compare 3f2a91c0 best:test/balanced_accuracy",
                "lesion-exp compare 3f2a 91c0 77de against=77de",
            ),
            options=("command.compare:CompareOptions", "command.compare:ComparisonFormat"),
            config_keys=(("evaluation.bootstrap_draws", ""), ("evaluation.bootstrap_seed", "seed of the resamples")),
            words=(
                ("RUN RUN ...", f"two or more runs, each {RUN_NAMES}; runs that differ only in their seed are pooled"),
            ),
            flags=("--cfg job", "--json"),
            takes_names=True,
            work="comparing",
            stopped="the compared runs are unchanged; the same command compares them again",
        ),
        Verb(
            "sync",
            "send to an MLflow server what runs stored while it could not be reached",
            "lesion_exp.command.sync:sync",
            ("lesion-exp sync", "lesion-exp sync run=3f2a91c0"),
            options=("command.sync:SyncOptions",),
            config_keys=(
                ("tracking.uri=URI", "the MLflow store to send to; without it, the one that each run was started with"),
            ),
            flags=("--json",),
            work="sending runs",
            stopped="what was sent is stored, and the same command sends the rest",
        ),
        Verb(
            "reproduce",
            "run a job again and report what is equal and what differs",
            "lesion_exp.command.reproduce:reproduce",
            (
                "lesion-exp reproduce run=latest",
                "lesion-exp reproduce job=job.yaml dataset.root=DIR --check-only",
            ),
            options=(
                "command.reproduce:ReproduceOptions",
                "verbs.reproduce.request:ReproductionRequest",
            ),
            words=(_MOVED_SET,),
            flags=("--json", "--check-only"),
            work="reproducing",
            stopped="the run to reproduce is unchanged; the same command starts again",
        ),
        Verb(
            "bundle",
            "export runs to one file, or import them into another store",
            "lesion_exp.command.bundle:bundle",
            (
                "lesion-exp bundle export run=latest output=run.zip",
                "lesion-exp bundle import run.zip",
            ),
            options=("command.bundle:BundleExport", "verbs.bundle.request:BundleImport"),
            flags=("--json",),
            takes_names=True,
            work="exporting or importing runs",
            stopped="the runs in the store are unchanged; the same command starts again",
        ),
        Verb(
            "evaluate",
            "evaluate runs: on a part or another data set, with tta or calibration, or as an ensemble",
            "lesion_exp.command.evaluate:evaluate",
            (
                "lesion-exp evaluate run=latest tta=flips8",
                "lesion-exp evaluate 'run=[3f2a91c0,77de02b4]' ensemble=mean --json",
            ),
            ("dataset", "evaluation"),
            without_default=("dataset",),
            options=("command.evaluate:EvaluateOptions", "trained_runs.moved_data:MovedFiles"),
            words=(_MOVED_SET,),
            config_keys=(
                ("split.part", f"part of the data: {either(EVALUATED_PARTS)}"),
                ("dataset=NAME", "evaluate on the whole of another data set"),
                (
                    "dataset.root=DIR",
                    "folder of that data set; without dataset=, the folder where the run's own data are now",
                ),
                (
                    "split.allow_leakage=true",
                    "evaluate also on images that the run was trained on; the result is marked as leaky",
                ),
                ("tracking.uri=URI", "the store of runs"),
            ),
            flags=("--cfg job", "--json"),
            refused=("dataset.mask", "evaluation.tta"),
            work="evaluating",
            stopped="the evaluated runs are unchanged; the same command evaluates them again",
        ),
        Verb(
            "import",
            "make a run of predictions in a file, such as a challenge submission, and evaluate it",
            "lesion_exp.command.import_predictions:import_predictions",
            (
                "lesion-exp import predictions=submission.csv truth=ISIC2018_Task3_Test_GroundTruth.csv name=winner",
                "lesion-exp import predictions=theirs.csv like=3f2a91c0 columns='{image_id: file, prediction: dx}'",
            ),
            ("dataset", "evaluation"),
            without_default=("dataset",),
            options=("verbs.evaluate.import_request:ImportRequest",),
            config_keys=(
                ("dataset=NAME", "the data set with the true classes; its image files need not be there"),
                ("dataset.root=DIR", "folder of that data set"),
                ("tracking.uri=URI", "the store of runs"),
            ),
            flags=("--cfg job", "--json"),
            refused=("dataset.mask", "evaluation.tta"),
            work="importing predictions",
            stopped="the other runs are unchanged; the same command imports the file again",
        ),
        Verb(
            "leakage",
            "measure by how much common mistakes in splitting inflate the scores (the leak meter)",
            "lesion_exp.command.leakage:leakage",
            (
                "lesion-exp leakage dataset=ham10000 dataset.root=DIR image_size=64 trainer.max_epochs=10",
                "lesion-exp leakage experiment=demo --json",
            ),
            tuple(group for group in _ALL_GROUPS if group != "split"),
            options=("command.leakage:LeakageOptions", "command.sweep:ShownCell"),
            config_keys=(
                ("split.held_out", ""),
                ("split.seed", "seed of the draw of the clean part and of each split"),
                ("split.samples_per_class", ""),
                ("launcher.workers", "number of trainings at the same time"),
            ),
            chosen=(("split", "held_out"),),
            flags=(*SHOWN_CONFIG, "--json"),
            refused=("test",),
            work="measuring leakage",
            stopped="the trained networks are kept, and the same command continues",
        ),
        Verb(
            "audit",
            "audit a split, also a published one, for leakage, and measure its effect on given scores",
            "lesion_exp.command.audit:audit",
            (
                "lesion-exp audit dataset=ham10000 dataset.root=DIR split=file split.path=parts.csv output=audit.html",
                "lesion-exp audit dataset=ham10000 dataset.root=DIR train_ids=train.txt,val.txt test_ids=test.txt "
                "predictions=predictions.csv --json",
            ),
            ("dataset", "split"),
            options=("command.audit:AuditOptions",),
            config_keys=(
                (
                    "split=NAME",
                    "the split: file with split.path=FILE, a csv or parquet with a column of images and one of their "
                    "parts, or a folder with folders train and test; official, the parts of the data set, such as its "
                    "folders train and test; or any other",
                ),
                ("task.target", ""),
                ("evaluation.bootstrap_draws", ""),
                ("evaluation.bootstrap_seed", "seed of the resamples"),
            ),
            flags=("--cfg job", "--json"),
            work="auditing the split",
            stopped="nothing was changed; the same command audits again",
        ),
        Verb(
            "shortcuts",
            "check whether a network relies on anything beside the lesion",
            "lesion_exp.command.shortcuts:shortcuts",
            ("lesion-exp shortcuts run=latest", "lesion-exp shortcuts run=3f2a91c0 images=500 --json"),
            options=(
                "command.chosen_run:ChosenRun",
                "command.shortcuts:ShortcutOptions",
                "trained_runs.moved_data:MovedData",
            ),
            words=(_MOVED_SET,),
            config_keys=(("evaluation.bootstrap_draws", ""), ("evaluation.bootstrap_seed", "seed of the resamples")),
            flags=("--cfg job", "--json"),
            work="checking for shortcuts",
            stopped="the run is unchanged; the same command checks it again",
        ),
        Verb(
            "explain",
            "draw saliency maps, and measure how much of them lies inside the lesion",
            "lesion_exp.command.explain:explain",
            (
                "lesion-exp explain run=latest",
                "lesion-exp explain run=3f2a91c0 method=grad_cam,occlusion occlusion.window=0.1 part=test --json",
            ),
            options=(
                "command.chosen_run:ChosenRun",
                "command.explain:ExplainOptions",
                "verbs.explain.request:ExplanationRequest",
                "trained_runs.moved_data:MovedData",
            ),
            words=(
                ("METHOD.KEY=VALUE", "a setting of a method; conf/explanation/METHOD.yaml lists them"),
                _MOVED_SET,
            ),
            flags=("--json",),
            work="explaining",
            stopped="the run is unchanged; the results of completed methods are kept",
        ),
        Verb(
            "report",
            "write a run or a sweep as one HTML page, with reporting checklists filled in",
            "lesion_exp.command.report:report",
            (
                "lesion-exp report run=latest",
                "lesion-exp report sweep=latest output=sweep.html",
            ),
            options=("command.report:ReportOptions",),
            flags=("--json",),
            work="writing the report",
            stopped="the run is unchanged; the same command writes the page again",
        ),
        Verb(
            "table",
            "write the results of a sweep as a table for a paper: means and intervals, the best where a test shows it",
            "lesion_exp.command.table:table",
            (
                "lesion-exp table sweep=latest rows=backbone columns=loss metric=test/balanced_accuracy format=latex",
                "lesion-exp table sweep=latest rows=backbone,loss metric=val/accuracy,val/f1_macro output=all.md",
            ),
            options=("command.table:TableOptions",),
            work="making the table",
            stopped="the sweep is unchanged; the same command makes the table again",
        ),
        Verb(
            "figures",
            "draw the figures of a run again, from its predictions, also as PDF and SVG",
            "lesion_exp.command.figures:figures",
            (
                "lesion-exp figures run=latest format=pdf",
                "lesion-exp figures run=3f2a91c0 format=svg,png output=paper/figures",
            ),
            options=("command.chosen_run:ChosenRun", "command.figures:FiguresOptions"),
            flags=("--json",),
            work="drawing figures",
            stopped="the run is unchanged; the same command draws the figures again",
        ),
        Verb(
            "predict",
            "predict images without labels: a file, folder, pattern, zip, csv or data set",
            "lesion_exp.command.predict:predict",
            (
                "lesion-exp predict run=latest input=FOLDER output=predictions.csv calibration=temperature top=3",
                "lesion-exp predict run=3f2a91c0 input=new.zip output=new.parquet rank=margin count=50 --json",
            ),
            ("dataset",),
            without_default=("dataset",),
            options=("command.chosen_run:ChosenRun", "verbs.predict.request:PredictionRequest"),
            config_keys=(
                ("dataset=NAME", "predict all images of a data set, in place of input=; its ids and lesions are kept"),
                ("dataset.root=DIR", "folder of that data set"),
            ),
            flags=("--json",),
            work="predicting",
            stopped="nothing has been predicted yet; the same command starts again",
        ),
        Verb(
            "label-errors",
            "list labels that are probably wrong, by a run's predictions (needs cleanlab)",
            "lesion_exp.command.label_errors:label_errors",
            (
                "lesion-exp label-errors run=latest output=suspected.csv",
                "lesion-exp label-errors run=3f2a91c0 part=both output=suspected.csv --json",
            ),
            options=("command.chosen_run:ChosenRun", "command.label_errors:LabelErrorOptions"),
            flags=("--json",),
            work="looking for label errors",
            stopped="the run is unchanged; the same command starts again",
        ),
        Verb(
            "export",
            "write a run's network as ONNX, int8, torch.export, TorchScript or ExecuTorch, and check it",
            "lesion_exp.command.export:export",
            (
                "lesion-exp export run=latest format=onnx output=exported",
                "lesion-exp export run=champion format=onnx_int8 output=exported calibration=temperature --json",
            ),
            options=(
                "command.chosen_run:ChosenRun",
                "verbs.export.request:ExportRequest",
                "trained_runs.moved_data:MovedData",
            ),
            words=(_MOVED_SET,),
            flags=("--json",),
            work="exporting",
            stopped="the run is unchanged, and a file that was not checked yet is removed",
        ),
        Verb(
            "register",
            "put a run's model into MLflow's registry, under a name and an alias",
            "lesion_exp.command.register:register",
            (
                "lesion-exp register run=best:val/balanced_accuracy alias=champion",
                "lesion-exp register run=3f2a91c0 name=lesions alias=challenger --json",
            ),
            options=("command.chosen_run:ChosenRun", "command.register:RegisterOptions"),
            flags=("--json",),
            work="registering",
            stopped="the run is unchanged; lesion-exp ui shows whether the registry of the store has the new version",
        ),
        Verb(
            "serve",
            "serve a run's network as a web page and an API on this machine (needs the extra serve)",
            "lesion_exp.command.serve:serve",
            ("lesion-exp serve run=latest", "lesion-exp serve run=best:val/balanced_accuracy port=8080 max_batch=32"),
            options=(
                "command.chosen_run:ChosenRun",
                "verbs.serve.settings:ModelOptions",
                "verbs.serve.settings:Settings",
            ),
            stopped="the server had not started",
        ),
        Verb(
            "doctor",
            "examine installation, machine, disks, store and data folder before an expensive run",
            "lesion_exp.command.doctor:doctor",
            ("lesion-exp doctor", "lesion-exp doctor dataset=ham10000 dataset.root=DIR --json"),
            groups=("dataset", "trainer", "tracking", "paths"),
            flags=("--json",),
            stopped="nothing was changed; the same command examines again",
        ),
        Verb(
            "clean",
            "show what lies on the disk, how large it is and what may go; remove it only if asked",
            "lesion_exp.command.clean:clean",
            ("lesion-exp clean", "lesion-exp clean remove=caches,sweeps"),
            options=("command.clean:CleanOptions",),
            flags=("--json",),
            stopped="what was removed is gone, and the same command removes the rest",
        ),
        Verb(
            "completion",
            "print the script with which bash, zsh or fish completes verbs, groups, options, keys and runs",
            "lesion_exp.command.completion:completion",
            ('eval "$(lesion-exp completion bash)"', "lesion-exp completion fish"),
            words=(
                ("bash", 'a line for ~/.bashrc: eval "$(lesion-exp completion bash)"'),
                ("zsh", 'a line for ~/.zshrc, after compinit: eval "$(lesion-exp completion zsh)"'),
                ("fish", "a file: lesion-exp completion fish > ~/.config/fish/completions/lesion-exp.fish"),
            ),
            takes_names=True,
            reads_store=False,
            stopped="nothing was changed",
        ),
        Verb(
            "schema",
            "print or write JSON schemas with which an editor completes and checks presets and YAMLs",
            "lesion_exp.command.schema:schema",
            ("lesion-exp schema output=schemas", "lesion-exp schema --config-dir my_conf output=schemas"),
            options=("command.schema:SchemaOptions",),
            words=(("NAME", "print the schema of one kind of file: preset, config, or a group such as loss"),),
            takes_names=True,
            reads_store=False,
            work="reading the options",
            stopped="the same command writes the schemas again",
        ),
        Verb(
            "ui",
            "start MLflow's web page for the store of this project",
            "lesion_exp.command.actions:ui",
            ("lesion-exp ui", "lesion-exp ui port=5001"),
            options=("command.actions:PageAddress",),
            flags=("--cfg job",),
            stopped="the page is closed; the store is unchanged",
        ),
    )
}
FLAGS: Final = {
    "--help": "show this help",
    "--version": "show the version",
    "--config-dir DIR": "a folder with options of your own, laid out like conf/; may be repeated",
    "--trust PACKAGE": "allow classes and functions of your own package as _target_; may be repeated",
    "--cfg job": "print the resolved config and stop; of a sweep, its cells",
    "--no-tree": "do not show the config at the start",
    "--full-tree": "show the whole config at the start, not only what differs from the defaults",
    "-m": "run a sweep: KEY=A,B tries several values; so do 'KEY=range(1,4)' and 'GROUP=glob(*)'",
    "--watch": "refresh every few seconds until no cell is left",
    "--json": "print one JSON object on standard output",
    "--check-only": "compare software, machine and data with those of the run, and do not train",
}
VERB_FLAGS: Final = ("--json", "-m", "--watch", "--check-only")
"""Flags that only the verbs accept that name them; those about the config are accepted by all."""
