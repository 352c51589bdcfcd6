"""The verbs of the command, and their help; imports nothing but the standard library."""

from __future__ import annotations

import shutil
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lesion_exp.config.shipped_conf import conf_dir, default_options, documented_keys, option_names


@dataclass(frozen=True)
class Verb:
    """A verb with what its help needs."""

    name: str
    summary: str
    target: str
    """`module:function` that does it, imported when the verb is called."""
    examples: tuple[str, str]
    groups: tuple[str, ...] = ()
    keys: tuple[tuple[str, str], ...] = ()
    """Keys of its own, with their meaning."""
    flags: tuple[str, ...] = ()
    takes_names: bool = False
    """Whether arguments without `=` are names, of runs for example."""
    refused: tuple[str, ...] = ()
    """Keys of its groups that it does not take."""
    work: str = ""
    """What it does for a long time; empty for a verb that answers at once or waits for others."""
    stopped: str = ""
    """What is true where it is stopped, unless the place where it was stopped knows more; every verb says it."""

    @property
    def own_keys(self) -> tuple[str, ...]:
        """The names of its own keys, without those that stand for many such as `METHOD.KEY`."""
        names = [text.partition("=")[0] for text, _ in self.keys if "=" in text]
        return tuple(name for name in names if not any(part.isupper() for part in name.split(".")))


_ALL_GROUPS: Final = (
    "dataset", "split", "augmentation", "sampler", "backbone", "loss", "optimizer", "scheduler", "trainer",
    "evaluation", "metrics", "tracking", "experiment", "debug",
)  # fmt: skip
_DATA_GROUPS: Final = ("dataset", "split", "augmentation", "experiment")
_SHOWN_KEYS: Final = (
    "seed", "image_size", "test", "task.target", "loader.batch_size", "loader.num_workers", "dataset.root",
    "dataset.filter", "dataset.limit", "dataset.on_bad_image", "dataset.mask", "split.seed", "split.allow_leakage",
    "optimizer.lr", "backbone.weights", "backbone.metadata", "trainer.max_epochs", "trainer.devices",
    "trainer.precision", "trainer.ema_decay", "evaluation.tta", "tracking.uri", "tracking.experiment",
    "tracking.log_images",
)  # fmt: skip

_JOB_KEYS: Final = ("seed", "image_size", "task", "loader")
"""Beginnings of keys that count for verbs that compose a job."""

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
            (
                ("job=FILE", "run a frozen job file instead of composing a config"),
                (
                    "+metrics.NAME={_target_: CLASS}",
                    "log a further metric of every epoch: a class of torchmetrics.classification",
                ),
                ("force=true", "with -m: run cells again that the store holds as finished"),
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
            (
                ("status SWEEP", "how each cell stands"),
                ("resume SWEEP", "run what is missing, go on with what stopped half-way"),
                ("retry SWEEP", "as resume, and once more what failed or was cancelled"),
                ("cancel SWEEP", "end the cells that run, leave out those that wait"),
                ("launcher.KEY=VALUE", "with resume and retry: from now on, such as launcher.workers=2"),
                ("SWEEP", "a sweep's id, its run's id, the beginning of one, or latest (the default)"),
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
            (
                ("run=RUN", "an id, the beginning of one, or latest"),
                (
                    "trainer.max_epochs=N",
                    "train longer, to N epochs: a new run goes on from the last checkpoint",
                ),
                ("trainer.max_steps=N", "the same by optimizer steps"),
                ("dataset.root=DIR", "where the data lie now, if they have moved"),
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
            (
                ("RUN RUN ...", "ids, beginnings of ids, latest or best:METRIC; seeds of one job are pooled"),
                ("against=RUN", "compare all others with this run; without it, every pair"),
                ("split.part=test", "the part: test or val; without it, test where every run has it, else val"),
                ("evaluation.bootstrap_draws=2000", "resamples of lesions behind each interval"),
                ("evaluation.bootstrap_seed=0", "their seed"),
            ),
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
            (),
            (
                ("run=RUN", "an id or the beginning of one; without it, every run that waits"),
                ("tracking.uri=URI", "where their store is now; without it, where it was"),
            ),
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
            (
                ("run=RUN", "an id, the beginning of one, latest, best:METRIC, an alias, a checkpoint or a job file"),
                ("job=FILE", "a frozen job; its first run in the store is what is compared with"),
                ("bundle=FILE", "an exported run; it is imported into the store first"),
                ("dataset.root=DIR", "where the data lie here; so for split.path, backbone.weights, dataset.sets.NAME"),
                ("tolerance=0.01", "difference of a metric (by its size, if above 1) that is no divergence yet"),
            ),
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
            (
                ("run=RUN", "export: an id, latest, best:METRIC, ..., several as [A,B], or a sweep's id"),
                ("output=FILE", "export: the bundle to write"),
                ("input=FILE", "import: the bundle; the bare name does as well"),
                ("max_gib=50", "import: the largest size of an unpacked bundle, GiB"),
            ),
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
            (
                ("run=RUN", "an id, its beginning, latest, best:METRIC; several: [A,B]; a cross-validation: folds:RUN"),
                ("split.part=test", "the part: test or val"),
                ("tta=none", "none, flips8 or multicrop; another than the run's needs its images"),
                ("calibration=temperature", "fitted on validation: none, temperature, vector or isotonic"),
                ("ensemble=mean", "of several runs: mean, rank, stacked, soup (weights), pooled (folds)"),
                ("dataset=NAME", "judge on another data set, all of it"),
                ("dataset.root=DIR", "where that lies; without dataset=, where the run's own data lie now"),
                ("split.allow_leakage=true", "judge also on images that the run was trained on; the result is leaky"),
                ("tracking.uri=URI", "the store of runs"),
            ),
            flags=("--json",),
            refused=("dataset.mask", "evaluation.tta"),
            work="evaluating",
            stopped="the judged runs and their states are as they were; the same command judges them anew",
        ),
        Verb(
            "leakage",
            "the leak meter: what the popular mistakes in splitting buy",
            "lesion_exp.command.leakage:leakage",
            (
                "lesion-exp leakage dataset=ham10000 dataset.root=DIR image_size=64 trainer.max_epochs=10",
                "lesion-exp leakage experiment=demo --json",
            ),
            tuple(group for group in _ALL_GROUPS if group != "split"),
            (
                ("split.held_out=0.15", "share of the images, by whole groups, that every way is also tested on"),
                ("split.seed=0", "of the clean part and of every way's draw"),
                ("split.samples_per_class=N", "rows of each class after resampling; without it, the largest class"),
                ("sweep=SWEEP", "go on with an earlier leak meter, or show it again: an id, its beginning, latest"),
                ("launcher.workers=N", "trainings at once"),
                ("force=true", "train again what the store holds as finished"),
            ),
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
            (
                ("run=RUN", "an id, the beginning of one, latest, best:METRIC, ..."),
                ("split.part=test", "the part: test or val"),
                ("images=N", "show the network lesions drawn up to so many images; without it, all of the part"),
                ("dataset.root=DIR", "where the run's data lie now, if they have moved"),
                ("evaluation.bootstrap_draws=2000", "resamples of lesions behind each interval"),
                ("evaluation.bootstrap_seed=0", "their seed, and that of what is drawn"),
            ),
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
            (
                ("run=RUN", "an id, the beginning of one, latest, best:METRIC, an alias, a bundle or a checkpoint"),
                (
                    "method=A,B",
                    "grad_cam, grad_cam_plus_plus, integrated_gradients (these three if none is named), "
                    "occlusion, lime, shap; method=list says what each does",
                ),
                ("METHOD.KEY=VALUE", "a key of a method, as in conf/explanation/METHOD.yaml"),
                ("part=test", "the part: test or val; without it, test if the run has read it, else val"),
                ("count=6", "images a row of a gallery"),
                ("images=N", "images behind the figures, drawn from the part; without it, by the method's cost"),
                ("checkpoint=best", "the weights: best or last"),
                ("dataset.root=DIR", "where the run's data lie now, if they have moved"),
                ("tracking.log_images=false", "no galleries: pictures of patients stay out of the store"),
            ),
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
            (
                ("run=RUN", "an id, the beginning of one, latest, best:METRIC, an alias, a checkpoint or a bundle"),
                ("sweep=SWEEP", "a sweep's id, its run's id, the beginning of one, or latest"),
                ("output=FILE.html", "where to write it; without it, only with the run, as its artifact report.html"),
            ),
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
            (),
            (
                ("run=RUN", "an id, its beginning, latest, best:METRIC, an alias, a bundle or a checkpoint file"),
                ("input=PATH", "an image, a folder with all below it, 'a pattern', a zip, or a csv with image_path"),
                ("output=FILE", "what is written, .csv or .parquet: image, prediction, p_<class>, error"),
                (
                    "calibration=none",
                    "temperature, vector or isotonic, fitted on validation; none: as in the run's tables",
                ),
                ("tta=none", "none, flips8 or multicrop; without it, as the run was evaluated"),
                ("top=K", "columns top1 to topK: the likeliest classes"),
                ("gradcam=DIR", "draws where the evidence for each prediction lies; column gradcam names the picture"),
                ("rank=entropy", "entropy, margin or coreset: writes the images to label next to FILE_to_label.csv"),
                ("count=100", "with rank=: how many"),
                (
                    "columns='{site: localization}'",
                    "how the csv calls image_path, image_id, age, sex, site, mask_path",
                ),
                ("checkpoint=best", "the run's weights: best or last"),
                ("force=true", "start over, and replace FILE where it is there"),
                ("loader.num_workers=auto", "processes that decode images"),
                ("loader.batch_size=N", "images at once; without it, as the run was evaluated"),
                ("trainer.devices=1", "how many devices, [0,1] or auto"),
                ("trainer.accelerator=auto", "auto, cpu or gpu"),
                ("trainer.precision=auto", "auto, 32-true, bf16-mixed or 16-mixed; without it, as the run was trained"),
                ("tracking.uri=URI", "the store of runs"),
            ),
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
            (
                ("run=RUN", "an id, latest, best:METRIC, ...; also pooled folds: each image by a network new to it"),
                ("output=FILE.csv", "row_id, image_id, label, suggested and score, the surest errors first"),
                ("part=val", "the predictions that the run keeps of val, test or both"),
                (
                    "min_balanced_accuracy=0.7",
                    "below it the network is too weak to judge; without it, two thirds of the way from guessing to 1",
                ),
            ),
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
            (
                ("run=RUN", "an id, the beginning of one, latest, best:METRIC, an alias, a bundle or a checkpoint"),
                ("format=FORMAT", "onnx, onnx_int8 (extra export), torch_export, torchscript, executorch (its extra)"),
                ("output=DIR", "folder for the file, and a json that says what goes in and what comes out"),
                (
                    "preprocessing=inside",
                    "inside: takes photographs of any size; outside (executorch): squares",
                ),
                ("calibration=none", "none, temperature or vector, as fitted on validation"),
                ("tta=none", "none, flips8 or multicrop: each image costs 1, 8 or 9"),
                ("check_images=200", "images of the test part (validation, if the run has not read it) to compare on"),
                ("tolerance=0.001", "largest difference of a probability; a file with a larger one ends with 1"),
                ("max_accuracy_lost=0.02", "of onnx_int8, instead of tolerance"),
                ("calibration_images=256", "images of the training part from which onnx_int8 takes its ranges"),
                ("dataset.root=DIR", "where the run's data lie now, if they have moved"),
                ("force=true", "replace a file that is there"),
            ),
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
            (
                ("run=RUN", "an id, the beginning of one, latest, best:METRIC, ..."),
                ("alias=champion", "what the run is called from now on wherever a run is named: run=champion"),
                ("name=NAME", "of the registered model; without it, the name of the run's experiment"),
            ),
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
            (
                ("run=RUN", "an id, its beginning, latest, best:METRIC, an alias, a bundle or a checkpoint file"),
                ("host=127.0.0.1", "address to listen on; set an API key where others can reach it"),
                ("port=8000", "port to listen on; 0: any free one"),
                ("calibration=none", "none, temperature, vector or isotonic, as fitted on validation"),
                ("conformal=aps", "aps (sets are never empty) or lac (the smallest on average)"),
                ("grad_cam.layer=layer3", "another layer than the last for the heat maps: finer for small images"),
                ("checkpoint=best", "the run's weights: best or last"),
                (
                    "api_key=KEY",
                    "asked of clients (X-API-Key); better in LESION_EXP_API_KEY, which no list of processes shows",
                ),
                ("max_upload_mb=32", "of one request, MiB"),
                ("max_waiting_mb=256", "of all requests at once, MiB"),
                ("max_pixels=40000000", "of one image"),
                ("max_images=16", "in one request"),
                ("queue=64", "images at once, read, waiting or in the network; more are refused with 429"),
                ("timeout_s=30", "seconds within which a request is answered"),
                ("max_batch=16", "images that go through the network together; 1: each alone"),
                ("max_wait_ms=10", "milliseconds that an image waits for others that are on their way"),
                (
                    "max_client_connections=64",
                    "of one address at once; raise it behind a proxy, whose clients share one",
                ),
                (
                    "allowed_hosts=NAME,NAME",
                    "further names by which clients call the server, beside localhost and host=; a proxy's own",
                ),
            ),
            stopped="the server had not started",
        ),
        Verb(
            "ui",
            "open MLflow's page on the store of this project",
            "lesion_exp.command.actions:ui",
            ("lesion-exp ui", "lesion-exp ui port=5001"),
            ("tracking",),
            (("host=127.0.0.1", "address to listen on"), ("port=5000", "port to listen on")),
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


def general_help() -> str:
    """What `lesion-exp --help` prints."""
    verbs = "\n".join(f"  {verb.name:<12} {verb.summary}" for verb in VERBS.values())
    return (
        "lesion-exp: experiments on images of skin lesions (research use only)\n\n"
        "usage: lesion-exp VERB [GROUP=OPTION] [KEY=VALUE] [flags]\n\n"
        f"{verbs}\n\n"
        "lesion-exp VERB --help lists the groups and keys of a verb.\n"
        "A first run on generated lesions: lesion-exp train experiment=demo\n"
    )


def verb_help(verb: Verb) -> str:
    """What `lesion-exp VERB --help` prints: examples, groups with their options, keys with defaults and meaning."""
    conf = conf_dir()
    width = min(shutil.get_terminal_size((80, 24)).columns, 120)
    defaults, keys = default_options(conf), documented_keys(conf)
    lines = [f"lesion-exp {verb.name}: {verb.summary}", "", "examples:", *(f"  {line}" for line in verb.examples), ""]
    if verb.groups:
        lines.append("groups (GROUP=OPTION, the default in [brackets]):")
        for group in verb.groups:
            options = [f"[{o}]" if o == defaults.get(group) else o for o in option_names(group, [conf])]
            lines += _entry(group, " ".join(options), width, 14)
        lines.append("")
    of_a_job = _JOB_KEYS if "experiment" in verb.groups else ()
    own = {text.partition("=")[0] for text, _ in verb.keys}
    shown = [key for key in _SHOWN_KEYS if key.split(".")[0] in {*verb.groups, *of_a_job}]
    shown = [key for key in shown if key not in own and key not in verb.refused]
    if not verb.groups or verb.groups == ("tracking",):
        shown = [key for key in shown if key.startswith("tracking.uri")]
    lines.append("keys (KEY=VALUE), with their defaults:")
    for text, meaning in verb.keys:
        lines += _entry(text, meaning, width, 34)
    for key in shown:
        default, meaning = keys.get(key, ("", ""))
        value = "FOLDER" if key == "dataset.root" else default
        lines += _entry(f"{key}={value}", meaning, width, 34)
    if verb.groups:
        here = conf.relative_to(Path.cwd()) if conf.is_relative_to(Path.cwd()) else conf
        lines.append(f"  every key of a choice, with its meaning, stands in {here}/GROUP/OPTION.yaml")
    lines += ["", "flags:"]
    for flag, meaning in FLAGS.items():
        if flag not in VERB_FLAGS or flag in verb.flags:
            lines += _entry(flag, meaning, width, 22)
    return "\n".join(lines) + "\n"


def _entry(name: str, text: str, width: int, column: int) -> list[str]:
    indent = " " * (column + 2)
    head = f"  {name:<{column - 1}} "
    if len(head) > len(indent):
        return [head.rstrip(), *textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent)]
    return textwrap.wrap(text or "-", width, initial_indent=head, subsequent_indent=indent) or [head.rstrip()]
