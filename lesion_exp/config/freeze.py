"""A job: one frozen, fully resolved config with a hash, in memory or as a file, here or on another machine."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Final

import yaml

from lesion_exp.backbone.class_token import CLASS_TOKEN, gives_class_token
from lesion_exp.backbone.shards import INDEX, shards_of
from lesion_exp.config.command_words import config_dir_words, trust_words
from lesion_exp.config.compose import Composed
from lesion_exp.config.named_run import TEACHER_WEIGHTS
from lesion_exp.config.overrides import stored_overrides
from lesion_exp.config.project import Project
from lesion_exp.config.watched import usual_monitor
from lesion_exp.errors import ConfigError
from lesion_exp.privacy import address, redacted, without_secrets
from lesion_exp.terminal import shell_words
from lesion_exp.version import __version__

log = logging.getLogger(__name__)
FORMAT: Final = 2
FORMAT_WITHOUT_KINDS: Final = 1
"""Format of jobs whose hash did not distinguish a share of batches (1.0) from a number (1); they can still be read."""
NOT_HASHED: Final = (
    "paths",
    "tracking",
    "launcher",
    "tags",
    "print_config",
    "loader.num_workers",
    "loader.evaluation_batch_size",
    "dataset.root",
    "evaluation.ensemble",
    "trainer.log_every_n_steps",
    "backbone.weights_run",
)
"""Keys that cannot change a result, such as paths, where runs are recorded, and the number of loader processes."""
SHARE_OR_COUNT: Final = frozenset(
    {
        "limit_train_batches",
        "limit_val_batches",
        "limit_test_batches",
        "limit_predict_batches",
        "overfit_batches",
        "val_check_interval",
        "hole_height_range",
        "hole_width_range",
    }
)
"""Parameters of Lightning's Trainer and of albumentations to which 1.0 is the whole and 1 is one batch or pixel."""
ONE_MEANING: Final = ("lesion_exp.", "torch.optim.", "pytorch_optimizer.", "albumentations.", "torchvision.")
"""Prefixes of targets to whose other parameters 1 and 1.0 mean the same; for other packages this is not known."""
LATER_KEYS: Final[Mapping[str, Mapping[str, Any]]] = {
    "dataset": {"pseudo_labels": None, "pseudo_weight": 1.0, "patient_effect": 0.0},
    "augmentation": {"interpolation": "bilinear", "crop_share": 1.0, "views": None},
    "split": {"train_share": 1.0, "share_seed": 0, "near_duplicates": "hashes"},
    "trainer": {"activation_checkpointing": False},
    "backbone": {
        "preprocessing": None,
        "weights_partial": False,
        "licence": None,
        "tune": "full",
        "head": "linear",
        "knn": {"k": 20, "temperature": 0.07},
        "lora": {"rank": 8, "alpha": 16.0, "dropout": 0.0, "layers": None},
    },
}
"""Keys below a group that older jobs do not have, with the values that correspond to their absence. Such values do not
count in the hash, so that a config that an older version froze still has its hash."""
_FOLDER: Final = "lesion_exp.dataset.folder.read_folder"
MOST_VALUES: Final = 100_000
"""Greatest number of values in a job file."""
_SETS: Final = "dataset.sets."
FILES: Final = ("backbone.weights", "split.path", "dataset.pseudo_labels")
"""Keys that may name a file, of which the content counts in the hash and not the name."""


@dataclass(frozen=True)
class Job:
    """Everything that determines a run. The code that runs it reads neither `conf/` nor the command line."""

    config: dict[str, Any]
    overrides: tuple[str, ...]
    job_hash: str
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 (16 digits) of the file of each key of `FILES` that names one."""
    replaced: tuple[str, ...] = ()
    """Shipped config files that were replaced by files of the user, such as `loss/focal.yaml`."""
    options: Mapping[str, str] = field(default_factory=dict)
    """The option of each config group, such as `loss: focal`; not part of the hash, since the config has its keys."""

    @property
    def project(self) -> Project:
        """The project whose folders and store the config names."""
        return Project.from_config(self.config)

    @property
    def command(self) -> str:
        """The command that makes the job, with the words that the user's own options need."""
        own = [*config_dir_words(self.overrides, self.replaced), *trust_words(self.config)]
        return shell_words(["lesion-exp", "train", *self.overrides, *own])

    def check_files(self) -> None:
        """Checks that every file that the job names still has the content with which the job was frozen.

        Raises:
            ConfigError: a file does not exist, or has other content.
        """
        for key, digest in self.files.items():
            path = Path(str(_get(self.config, key)))
            found = _digest(path) if path.is_file() else None
            if found != digest:
                state = "does not exist" if found is None else f"has other content ({found})"
                raise ConfigError(
                    f"expected the file of {key} with the content with which the job was frozen ({digest}), but {path} "
                    f"{state}; put the file back, or make a new job; resume and reproduce take {key}=FILE, where "
                    f"the file is now"
                )

    def write(self, path: Path) -> None:
        """Writes the job as YAML. The file appears when it is complete."""
        overrides = stored_overrides(self.overrides)
        again = shell_words(["lesion-exp", "train", f"job={path.name}", *trust_words(self.config)])
        head = f"# A frozen job of lesion_exp {__version__}; run it again with: {again}\n"
        body = {
            "format": FORMAT,
            "job_hash": self.job_hash,
            "version": __version__,
            "overrides": overrides,
            "files": self.files,
            "replaced": list(self.replaced),
            "options": dict(self.options),
            "config": with_places(self.config, self.files, redacted),
        }
        made = f"# It was made by: {replace(self, overrides=tuple(overrides)).command}\n"
        text = f"{head}{made}{yaml.safe_dump(body, sort_keys=False, width=120)}"
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)


def freeze(composed: Composed) -> Job:
    """Freezes a composed config into a job without the secrets in it, and warns of each secret that is left out.

    The user and password in the store's address stay in the environment of this process and its children.
    """
    files = file_digests(composed.config)
    named = copy.deepcopy(composed.config)
    if isinstance(named["tracking"]["uri"], str):
        named["tracking"]["uri"] = address(named["tracking"]["uri"])
    config = without_secrets(named)
    for key in _changed_keys(named, config, ""):
        log.warning("%s contains the value of a variable that is named like a secret; the job stores *** instead", key)
    overrides = tuple(without_secrets(list(composed.overrides)))
    return Job(config, overrides, job_hash(config, files), files, composed.replaced, composed.options)


def with_places(config: Mapping[str, Any], files: Mapping[str, str], change: Callable[[str], str]) -> dict[str, Any]:
    """Returns a copy of a job's `config` with `change` applied to each path and address that the hash leaves out.

    These are the keys below `paths`, the store's address, the folders of the data set, and the files that the job knows
    by their content (`files`).
    """
    copied = copy.deepcopy(dict(config))
    places = [(copied["paths"], name) for name in copied["paths"]]
    places += [(copied["tracking"], "uri"), (copied["dataset"], "root")]
    sets = copied["dataset"].get("sets")
    if isinstance(sets, dict):
        places += [(value, "root") if isinstance(value, dict) else (sets, name) for name, value in sets.items()]
    for key in files:
        *parents, leaf = key.split(".")
        places.append((_get(copied, ".".join(parents)), leaf))
    for node, leaf in places:
        if isinstance(node, dict) and isinstance(node.get(leaf), str):
            node[leaf] = change(node[leaf])
    return copied


def _expanded(path: str) -> str:
    return str(Path(path).expanduser()) if path.startswith("~/") or path == "~" else path


def _changed_keys(before: Any, after: Any, prefix: str) -> list[str]:
    if isinstance(before, dict):
        pairs = zip(before.items(), after.values(), strict=True)
        return [key for (name, old), new in pairs for key in _changed_keys(old, new, f"{prefix}.{name}".lstrip("."))]
    return [prefix] if before != after else []


def file_digests(config: Mapping[str, Any]) -> dict[str, str]:
    """Returns the SHA-256 (16 digits) of the existing file of each key of `FILES` in `config`."""
    named = {key: Path(str(_get(config, key))) for key in FILES if _get(config, key) is not None}
    return {key: _digest(path) for key, path in named.items() if path.is_absolute() and path.is_file()}


def read_job(path: Path) -> Job:
    """Reads a job from a file that `Job.write` wrote.

    Raises:
        ConfigError: the file cannot be read or is not a job, or its config was changed and no longer has its hash.
    """
    try:
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"expected a job file at job={path}, but it cannot be read: {error.strerror}; correct the path"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"expected a job file in YAML at job={path}, but it cannot be parsed: {error}; name another file"
        ) from error
    keys = {"format", "job_hash", "config", "overrides", "files"}
    if (
        _is_endless(body)
        or not isinstance(body, dict)
        or not keys <= set(body)
        or not all(isinstance(body[key], dict) for key in ("config", "files"))
        or not isinstance(body["overrides"], list)
        or not all(isinstance(body["config"].get(node), dict) for node in ("paths", "tracking", "dataset", "trainer"))
        or not all(isinstance(body["config"]["paths"].get(name), str) for name in ("root", "data_cache", "live"))
    ):
        raise ConfigError(
            f"expected a job (with {', '.join(sorted(keys))}) at job={path}, got another file; name the "
            f"config/job.yaml of a run, or a file of the folder jobs"
        )
    if body["format"] not in (FORMAT_WITHOUT_KINDS, FORMAT):
        raise ConfigError(
            f"expected a job of format {FORMAT}, got {body['format']} in {path}; use the version that made it"
        )
    body["config"]["tracking"].setdefault("log_model", False)  # jobs from before there were models
    body["config"].setdefault("metrics", {})  # jobs from before metrics could be added
    body["config"]["trainer"].setdefault("monitor", usual_monitor(body["config"]))  # before it could be chosen
    if isinstance(split := body["config"].get("split"), dict):  # jobs from before a share could be trained on
        body["config"]["split"] = split | {key: usual for key, usual in LATER_KEYS["split"].items() if key not in split}
    files = {str(key): str(digest) for key, digest in body["files"].items()}
    body["config"] = with_places(body["config"], files, _expanded)
    kinds = body["format"] != FORMAT_WITHOUT_KINDS
    found = job_hash(body["config"], files, kinds=kinds)
    if body["job_hash"] != found and body["job_hash"] not in _earlier_hashes(body["config"], files, kinds=kinds):
        raise ConfigError(
            f"expected the job in {path} as it was frozen, but its config was changed: hash {found}, recorded "
            f"{body['job_hash']}; make a new job with lesion-exp train and the overrides in the file"
        )
    replaced = body.get("replaced")
    texts = [tuple(map(str, found)) if isinstance(found, list) else () for found in (body["overrides"], replaced)]
    digest = job_hash(body["config"], files)
    return Job(body["config"], texts[0], digest, files, texts[1], chosen_options(body))


def chosen_options(body: Mapping[str, Any]) -> dict[str, str]:
    """Returns the option of each config group in the `body` of a job file.

    Jobs of earlier versions do not record them. The name is then that of the module of a shipped target, or the last
    part of another target.
    """
    options, config = body.get("options"), body.get("config")
    if isinstance(options, dict):
        return {str(group): str(option) for group, option in options.items()}
    targets = {str(group): node.get("_target_") for group, node in config.items() if isinstance(node, dict)} if (
        isinstance(config, dict)) else {}  # fmt: skip
    parts = {group: ["", *str(target).split(".")] for group, target in targets.items() if isinstance(target, str)}
    return {group: names[-2] if names[1] == "lesion_exp" else names[-1] for group, names in parts.items()}


def _is_endless(body: Any) -> bool:
    """Returns whether the file has more values than any config: references in YAML may multiply, or refer to
    themselves.
    """
    waiting, count = [body], 0
    while waiting and count <= MOST_VALUES:
        value = waiting.pop()
        count += 1
        waiting += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return count > MOST_VALUES


def job_hash(
    config: dict[str, Any],
    files: Mapping[str, str],
    *,
    kinds: bool = True,
    licence_of_file: bool = False,
    unused_seed: bool = False,
    class_token: bool = True,
) -> str:
    """Returns the SHA-256 (16 digits) of everything in `config` that can change a result.

    The order of keys matters in `augmentation` only, where it is the order of the transforms. 1 and 1.0 are the same
    except where their meanings differ: below the keys `SHARE_OR_COUNT`, and in parameters of unknown packages.

    Args:
        config: the config of a whole job.
        files: digests of the files that the job names, by key; they are hashed instead of the paths.
        kinds: False makes 1 and 1.0 the same everywhere, as in jobs of `FORMAT_WITHOUT_KINDS`.
        licence_of_file: whether the licence of a file of weights counts, as in jobs from before it was looked for.
        unused_seed: whether the seed of the draw of training images counts where all are taken, as in earlier jobs.
        class_token: whether it counts that the features of a network are its class token; those of earlier jobs were
            not.
    """
    kept = copy.deepcopy(config)
    for key, digest in files.items():
        *parents, leaf = key.split(".")
        _get(kept, ".".join(parents))[leaf] = digest
    for key in NOT_HASHED:
        *parents, leaf = key.split(".")
        node: Any = kept
        for parent in parents:
            node = node.get(parent, {})
        node.pop(leaf, None)
    loss = kept.get("loss")
    if isinstance(loss, dict) and loss.get(TEACHER_WEIGHTS):  # which run they come from does not matter
        loss.pop("teacher", None)
    sets = kept.get("dataset", {}).get("sets")
    if isinstance(sets, dict):  # the folders of a combined set are paths, too
        kept["dataset"]["sets"] = {
            name: {key: part for key, part in value.items() if key != "root"} if isinstance(value, dict) else None
            for name, value in sets.items()
        }
    dataset = kept.get("dataset")
    if isinstance(dataset, dict) and dataset.get("_target_") == _FOLDER and dataset.get("labels") is None:
        dataset.pop("labels", None)  # as in jobs from before class folders could be mapped
    split = kept.get("split")
    if isinstance(split, dict) and split.get("train_share") == 1 and not unused_seed:
        split.pop("share_seed", None)
    trainer = kept.get("trainer")
    if isinstance(trainer, dict) and trainer.get("monitor") == usual_monitor(kept):  # as in jobs from before the key
        trainer.pop("monitor")
    if not kept.get("metrics"):  # as in jobs from before there was this group
        kept.pop("metrics", None)
    backbone = kept.get("backbone")
    if isinstance(backbone, dict) and (
        str(backbone.get("weights", "")).startswith("imagenet") or ("backbone.weights" in files and not licence_of_file)
    ):
        backbone.pop("licence", None)  # jobs of before did not name it, and these weights are the same
    if isinstance(backbone, dict) and class_token and gives_class_token(backbone):
        backbone[CLASS_TOKEN] = True
    kept |= {group: _without(kept[group], usual) for group, usual in LATER_KEYS.items() if group in kept}
    ordered = json.dumps(_canonical(kept.pop("augmentation", None), kinds=kinds))
    rest = json.dumps(_canonical(kept, kinds=kinds), sort_keys=True)
    return hashlib.sha256(f"{rest}{ordered}".encode()).hexdigest()[:16]


def _earlier_hashes(config: dict[str, Any], files: Mapping[str, str], *, kinds: bool) -> set[str]:
    """Returns the hashes that earlier versions may have recorded for the job with `config`."""
    return {
        job_hash(config, files, kinds=kinds, licence_of_file=licence, unused_seed=seed, class_token=token)
        for licence, seed, token in product((True, False), repeat=3)
    }


def _without(node: Any, usual: Mapping[str, Any]) -> Any:
    """Returns `node` without the keys, at any depth, whose values are the `usual` ones."""
    if not isinstance(node, dict):
        return node
    kept = {key: value for key, value in node.items() if key not in usual or value != usual[key]}
    return {key: _without(value, usual) for key, value in kept.items()}


def _canonical(value: Any, *, kinds: bool, keeps: bool = False) -> Any:
    """Returns `value` with one spelling for each meaning; with `keeps`, a whole number and a float have two
    meanings.
    """
    if isinstance(value, dict):
        target = value.get("_target_")
        keeps = keeps or (kinds and isinstance(target, str) and not target.startswith(ONE_MEANING))
        return {
            str(key): _canonical(inner, kinds=kinds, keeps=keeps or (kinds and key in SHARE_OR_COUNT))
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_canonical(inner, kinds=kinds, keeps=keeps) for inner in value]
    is_whole = isinstance(value, float) and value.is_integer()
    return int(value) if is_whole and (value == 0 or not keeps) else value  # 0 and 0.0 are none


def _get(config: Mapping[str, Any], key: str) -> Any:
    node: Any = config
    for name in key.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node


def _digest(path: Path) -> str:
    def of_file(file: Path) -> str:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()

    parts = shards_of(path) if path.name.endswith(INDEX) else []
    if parts:  # an index names files of weights, whose content it does not tell
        return hashlib.sha256("".join(map(of_file, [path, *parts])).encode()).hexdigest()[:16]
    return of_file(path)[:16]


def relocated(job: Job, project: Project, places: Mapping[str, Path]) -> Job:
    """Returns `job` with the folders and the store of `project`.

    Args:
        job: any job; its hash does not change.
        project: the project in which the job is to run.
        places: new paths by key, see `with_new_places`.

    Raises:
        ConfigError: a key in `places` names no file or folder of the job.
    """
    config = copy.deepcopy(job.config)
    root, cache = config["dataset"].get("root"), config["paths"]["data_cache"]
    if root is not None and Path(root).is_relative_to(cache):  # generated images
        config["dataset"]["root"] = str(project.data_cache / Path(root).relative_to(cache))
    config["paths"] = project.as_paths()
    config["tracking"]["uri"] = None if project.store_uri is None else address(project.store_uri)
    _find_weights(config["backbone"], project)
    return with_new_places(replace(job, config=config), places)


def place_keys(job: Job) -> tuple[str, ...]:
    """Returns the keys of `job` that name a folder of its data, or a file that it knows by its content.

    They are `dataset.root`, `dataset.sets.NAME` for each of several data sets, and the keys of `Job.files`.
    """
    dataset = job.config["dataset"]
    sets = dataset.get("sets")
    folders = ["dataset.root"] if "root" in dataset else []
    folders += [f"{_SETS}{name}" for name in sets] if isinstance(sets, dict) else []
    return (*folders, *job.files)


def with_new_places(job: Job, places: Mapping[str, Path]) -> Job:
    """Returns `job` with the paths `places` at their keys, which are among `place_keys`; its hash does not change.

    Raises:
        ConfigError: a key in `places` names no file or folder of the job.
    """
    check_place_keys(places, place_keys(job), "this job")
    config = copy.deepcopy(job.config)
    for key, place in places.items():
        node, leaf = config["dataset"].get("sets"), key.removeprefix(_SETS)
        if leaf == key:
            *parents, leaf = key.split(".")
            node = _get(config, ".".join(parents))
        if isinstance(node[leaf], dict):
            node, leaf = node[leaf], "root"
        node[leaf] = str(place.expanduser().absolute())
    return replace(job, config=config)


def check_place_keys(places: Mapping[str, Path], known: Sequence[str], reader: str) -> None:
    """Checks that the keys of `places` are among the `known` ones, those of the files and folders of `reader`.

    Raises:
        ConfigError: another key is among them.
    """
    for key, place in places.items():
        if key not in known:
            remedy = f"those are {', '.join(known)}" if known else "leave it out"
            raise ConfigError(f"expected a key whose file or folder {reader} reads, got {key}={place}; {remedy}")


def _find_weights(node: dict[str, Any], project: Project) -> None:
    """Sets the file of the weights of another run to where the store has it now, if it is no longer where it was."""
    run_id = node.get("weights_run")
    if run_id is None or Path(str(node["weights"])).is_file():
        return
    from lesion_exp.tracking import artifacts
    from lesion_exp.tracking.find import find_run

    try:
        found = find_run(project.store, str(run_id)).fetch(artifacts.checkpoint())
    except ConfigError:
        return  # the code that reads the file raises the error
    if found is not None:
        node["weights"] = str(found.absolute())
