"""Names that people know from other programs, and the keys of this one, for messages about a wrong key."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from lesion_exp.config.shipped_conf import documented_keys, group_names, option_names

_MLFLOW: Final = "runs are logged to MLflow: tracking.uri=ADDRESS tracking.experiment=NAME tracking.run_name=NAME"
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "optimizer.lr={}": ("lr", "learning_rate", "base_lr", "lr0", "max_lr"),
    "optimizer.weight_decay={}": ("wd", "decay", "l2"),
    "optimizer={}": ("optim", "opt", "optimiser", "optimizer_name"),
    "scheduler={}": ("sched", "lr_scheduler", "lr_schedule", "schedule"),
    "loss={}": ("criterion", "loss_fn", "loss_function", "objective"),
    "trainer.max_epochs={}": ("epochs", "epoch", "num_epochs", "n_epochs", "max_epoch", "max_epochs"),
    "trainer.max_steps={}": ("steps", "num_steps", "iterations", "max_iter"),
    "trainer.devices={}": ("gpus", "num_gpus", "n_gpus", "ngpus", "nproc_per_node", "world_size"),
    "'trainer.devices=[{}]'": ("gpu_id", "gpu_ids", "device_id", "cuda_device"),
    "trainer.devices={0} for so many GPUs, or 'trainer.devices=[{0}]' for the GPU with that index": ("gpu",),
    "trainer.num_nodes={}": ("nodes", "nnodes"),
    "trainer.accelerator={}": ("device",),
    "trainer.precision=16-mixed": ("amp", "fp16", "half", "mixed_precision", "use_amp"),
    "trainer.precision=bf16-mixed": ("bf16",),
    "trainer.gradient_clip_val={}": ("clip", "grad_clip", "clip_grad", "clip_grad_norm", "max_norm"),
    "trainer.accumulate_grad_batches={}": (
        "accumulate", "accum", "accum_steps", "grad_accum", "gradient_accumulation_steps",
    ),
    "trainer.ema_decay={}": ("ema", "model_ema", "model_ema_decay"),
    "trainer.early_stopping.patience={}": ("early_stopping", "early_stop", "es_patience"),
    "trainer.monitor={}": ("monitor", "metric_for_best_model", "best_metric", "checkpoint_metric", "eval_metric"),
    "loader.batch_size={}": ("batch", "bs", "batchsize", "train_batch_size", "per_device_train_batch_size"),
    "loader.evaluation_batch_size={}": ("val_batch_size", "test_batch_size", "eval_batch_size"),
    "loader.num_workers={}": ("workers", "n_workers", "nworkers", "j", "dataloader_num_workers"),
    "backbone={}": ("model", "model_name", "arch", "architecture", "network", "net", "encoder", "model_type"),
    "backbone.weights=FILE": ("checkpoint", "ckpt", "checkpoint_path", "init_checkpoint", "pretrained_path"),
    "backbone.tune=head": ("freeze", "freeze_backbone", "frozen", "linear_probe"),
    "backbone.dropout={}": ("dropout", "drop_rate", "drop", "dropout_rate"),
    "dataset={}": ("dataset_name", "data_name", "ds"),
    "dataset.root={}": (
        "data", "data_dir", "data_root", "data_path", "datadir", "dataset_path", "dataset_dir", "image_dir", "img_dir",
        "images", "imgs", "train_dir", "input_dir",
    ),
    "dataset.limit={}": ("subset", "num_samples", "max_samples", "n_samples"),
    "image_size={}": ("img_size", "imgsz", "size", "resolution", "input_size", "crop_size", "imagesize"),
    "augmentation={}": ("aug", "augment", "augmentations", "transforms", "transform", "data_augmentation"),
    "augmentation/mix=mixup augmentation.mix.mixup_alpha={}": ("mixup_alpha",),
    "augmentation/mix=mixup": ("mixup",),
    "augmentation/mix=cutmix": ("cutmix",),
    "loss.label_smoothing={}": ("smoothing",),
    "loss.class_weights=balanced": ("class_weight", "weighted_loss", "balanced", "pos_weight"),
    "sampler=weighted": ("weighted_sampler", "weightedrandomsampler", "balanced_sampler", "oversampling"),
    "split=kfold split.num_folds={}": ("folds", "n_folds", "k_folds", "kfold", "n_splits", "cv"),
    "split=kfold split.fold={}": ("fold_index", "fold_id", "val_fold", "test_fold"),
    "'split.ratios={{train: 0.7, val: 0.15, test: 0.15}}'": (
        "test_size", "val_size", "val_split", "test_split", "validation_split", "split_ratio", "val_ratio",
    ),
    "seed={}": ("random_state", "random_seed", "manual_seed", "rng"),
    "evaluation.tta=flips8": ("test_time_augmentation", "use_tta"),
    "tracking.experiment={}": ("experiment_name", "project", "project_name", "exp_name", "exp"),
    "tracking.run_name={}": ("name", "run", "run_id", "run_name_suffix"),
    "tracking.uri={}": ("mlflow_uri", "mlflow_tracking_uri", "tracking_uri"),
    "paths.root={}": ("output_dir", "out_dir", "output", "save_dir", "save_path", "work_dir", "log_dir", "logdir"),
}  # fmt: skip
"""The override here, with `{}` for the value -> its names in other programs."""
_SENTENCES: Final[Mapping[str, tuple[str, ...]]] = {
    _MLFLOW: ("wandb", "use_wandb", "wandb_project", "tensorboard", "logger", "loggers", "neptune", "comet", "clearml"),
    "the classes are those of the data set's labels: leave it out": (
        "num_classes", "n_classes", "nb_classes", "classes",
    ),
    "lesion-exp resume run=ID continues a run": (
        "resume", "resume_from", "resume_from_checkpoint", "ckpt_path", "auto_resume",
    ),
    "processes share a run by trainer.devices=N, machines by trainer.num_nodes=N": (
        "distributed", "ddp", "local_rank", "dist_url",
    ),
    "they follow from backbone.weights; augmentation.mean=[R,G,B] and augmentation.std=[R,G,B] replace them": (
        "normalize", "norm_mean", "norm_std",
    ),
}  # fmt: skip
_TAKES_VALUE: Final = re.compile(r"\{0?\}")
_OFF: Final = frozenset({"false", "0", "none", "null"})
"""Values with which users switch something off."""
_SIMILAR: Final = re.compile(r"did you mean '(?P<group>\w+\.)?(\w+\.)*(?P<leaf>\w+)'")
"""The beginning of a text that names similar keys, with the first of them."""
_ALIKE: Final = 0.8
"""Similarity of two names that differ in a few letters, from 0 to 1."""
HABITS: Final[Mapping[str, str]] = {
    name: meaning for table in (_NAMES, _SENTENCES) for meaning, names in table.items() for name in names
}
"""Name in other programs -> the override here, or a sentence."""


def usual_name(key: str, value: str, conf: Path) -> str:
    """Returns the end of a message about the unknown `key` with `value`: the right key; empty if it is not known.

    The right key is known if other programs use the name, or if exactly one key of all options ends in it.

    Args:
        key: the key as it was typed; the part after the last dot counts.
        value: its value as it was typed, empty if there is none.
        conf: the folder of the shipped config.
    """
    leaf = key.rpartition(".")[2].replace("-", "_")
    if leaf in {"pretrained", "imagenet", "pretrain"}:
        return f"write backbone.weights={'none' if value.lower() in _OFF else 'imagenet'}"
    meaning = HABITS.get(leaf.lower(), "")
    if meaning:
        if meaning in _SENTENCES:
            return meaning
        is_off = not _TAKES_VALUE.search(meaning) and value.lower() in _OFF
        return f"{meaning} switches it on: leave it out" if is_off else f"write {_filled(meaning, value, conf)}"
    found = keys_that_end_in(leaf, conf)
    if key in found:  # of an option that was not chosen
        found = {key: found[key]}
    usual = [full for full, option in found.items() if not option]
    if len(usual) == 1:
        found = {usual[0]: ""}
    if len(found) == 1:
        [(full, option)] = found.items()
        only_with = f" (with {option})" if option else ""
        return f"write {full}={value or 'VALUE'}{only_with}"
    if found:
        return f"it is the last part of several keys: {', '.join(sorted(found)[:4])}"
    return ""


def better_hint(key: str, value: str, near: str, conf: Path) -> str:
    """Returns the better end of a message about the unknown `key`: `near`, which names similar keys, or `usual_name`.

    The similar keys are better if they include the key of `usual_name`, because then the user mistyped it. They also
    come first if they are in the group that was typed and the usual key is not; if the first is nearly the name that
    was typed (`loss.eps`: `loss.epsilon`), they are the whole answer.
    """
    meant = usual_name(key, value, conf)
    full = meant.removeprefix("write ").partition("=")[0].lstrip("'")
    if not meant or f"{full!r}" in near:
        return near
    group, dot, _ = key.partition(".")
    similar = _SIMILAR.match(near)
    if not dot or similar is None or re.match(rf"{re.escape(group)}([./]|$)", full):
        return meant
    if similar["group"] not in (None, f"{group}."):
        return meant
    return near if _is_nearly(key.rpartition(".")[2], similar["leaf"]) else f"{near} Otherwise, {meant}"


def _is_nearly(typed: str, name: str) -> bool:
    """Returns whether one of two names begins with the other, or they differ in a few letters."""
    begins = min(len(typed), len(name)) > 1 and (typed.startswith(name) or name.startswith(typed))
    return begins or difflib.SequenceMatcher(None, typed, name).ratio() >= _ALIKE


def keys_that_end_in(leaf: str, conf: Path) -> dict[str, str]:
    """Returns the keys of all options whose last part is `leaf`, each with an option that has it.

    The option is an empty text for keys of the default options.
    """
    found = {key: "" for key in documented_keys(conf) if key.rpartition(".")[2] == leaf}
    for group in group_names([conf]):
        for option in option_names(group, [conf]) if "/" not in group and group not in {"experiment", "debug"} else ():
            for key in _keys_with(conf, group, option):
                if key.rpartition(".")[2] == leaf:
                    found.setdefault(key, f"{group}={option}")
    return found


def _keys_with(conf: Path, group: str, option: str) -> Iterable[str]:
    return (key for key in documented_keys(conf, {group: option}) if key.startswith(f"{group}."))


def _filled(meaning: str, value: str, conf: Path) -> str:
    """`meaning` with `value`, or with a word in its place if the key has no such value."""
    key = meaning.partition("=")[0].lstrip("'")
    default, _ = documented_keys(conf).get(key, ("", ""))
    if value.lower() in {"", "true", "false", "null", "none"}:
        value = "VALUE"
    elif _is_number(default) and "(" not in value and not all(map(_is_number, value.split(","))):
        value = "NUMBER"
    return meaning.format(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
