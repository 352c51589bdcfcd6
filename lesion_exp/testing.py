"""Checks what every option of a config group must fulfil, shipped or of your own package; for use in tests.

    from lesion_exp.testing import check_option

    def test_my_loss():
        check_option("loss", "my_loss", config_dirs=["conf"])

Your own package must be trusted as on the command line: `LESION_EXP_TRUST=my_package`.
"""

from __future__ import annotations

import inspect
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytorch_lightning as pl
import torch
import yaml

from lesion_exp.augmentation.library import generators
from lesion_exp.config.compose import Bases, Composed, compose, config_folders
from lesion_exp.config.freeze import freeze, read_job
from lesion_exp.config.instantiate import check_targets, instantiate, resolve_target
from lesion_exp.config.registered import LIBRARY_OPTIONS, OFFERED, TARGET, TRANSFORM
from lesion_exp.config.shipped_conf import default_options
from lesion_exp.data.datamodule import LesionDataModule
from lesion_exp.errors import ConfigError
from lesion_exp.explanation.network import ExplainedNetwork
from lesion_exp.image_file import UInt8Array
from lesion_exp.sampler.sampler import IntArray, order_of_epoch
from lesion_exp.task import NetworkTask
from lesion_exp.training.build import Built, build
from lesion_exp.training.build_pretraining import build_pretraining
from lesion_exp.training.check_training import check_training
from lesion_exp.training.data import is_pretraining, load_data, split_data
from lesion_exp.training.run import UNREAD_KEYS
from lesion_exp.verbs.explain.request import make_explainer

SMALL_RUN: Final = (
    "dataset=synthetic",
    "dataset.num_lesions=60",
    "dataset.image_height=40",
    "dataset.image_width=48",
    "dataset.class_shares={nv:2,mel:1}",
    "image_size=32",
    "augmentation=light",
    "backbone=small_cnn",
    "backbone.width=4",
    "trainer=cpu",
    "trainer.precision=32-true",
    "trainer.max_epochs=1",
    "loader.num_workers=0",
    "loader.batch_size=8",
    "evaluation.bootstrap_draws=100",
)
"""Overrides of a run on generated lesions that takes about a second; the option and the caller's overrides follow."""
TRAINED: Final = (
    "dataset",
    "split",
    "augmentation",
    "sampler",
    "backbone",
    "loss",
    "optimizer",
    "scheduler",
    "pretrain",
    TRANSFORM,
)
"""Groups whose options take part in training."""
NUM_STEPS: Final = 2
NUM_EPOCHS: Final = 4
TRANSFORM_KEY: Final = "augmentation.transforms.checked"
"""The key of the config with the transform that is checked."""
EXPLANATION: Final = "explanation"
_KEY: Final = re.compile(r"^(?P<key>\w+):(?P<rest>.*\S.*)$")
"""A key of the top level with its value; keys below another are described by their own targets."""
_NOT_DESCRIBED: Final = frozenset({"defaults", "name", TARGET})
_KINDS: Final = (
    "; write both as the same kind of number, 1 or 1.0, since an override of a whole number must be whole, too"
)


def check_option(
    group: str,
    option: str,
    *overrides: str,
    config_dirs: Sequence[str | Path] = (),
    root: Path | None = None,
    train: bool = True,
) -> None:
    """Checks an option of a config group.

    1. The keys of its YAML are the parameters of its target, each with the same default (1 is not 1.0, since a whole
       number refuses fractions) and with a comment. A class of
       a library may have more parameters.
    2. It can be built with its defaults. An unknown key and a value of the wrong type are refused.
    3. A job with the option is the same after it was written to a file and read again.
    4. Two training steps with it change the weights, and the loss is finite. The orders of a sampler follow from their
       generator and are equally long in each epoch; the pixels of a transform follow from its generators; a method of
       explanation gives a map for each image.

    Args:
        group: a config group, such as `loss` or `augmentation/transform`.
        option: the name of its YAML.
        overrides: further overrides, for keys without a default and for other options that this one requires.
        config_dirs: folders with your own YAMLs, as `--config-dir`.
        root: a folder in which generated images are kept from call to call; None is a temporary one.
        train: whether to make the fourth check, which is not possible for a data set without files.

    Raises:
        AssertionError: a check fails; the message says which one and why.
        ConfigError: the option cannot be composed or built at all.
    """
    folders = config_folders([Path(folder) for folder in config_dirs])
    bases: Bases = {}
    with tempfile.TemporaryDirectory(prefix="lesion_exp_option_") as temporary:
        small = [text for text in SMALL_RUN if re.split(r"[.=]", text)[0] != group]
        key = TRANSFORM_KEY if group == TRANSFORM else group
        chosen = f"+{group}@{key}={option}" if group == TRANSFORM else f"{group}={option}"
        given = (chosen, *small, *overrides)
        place = root or Path(temporary)
        file = next(path for folder in reversed(folders) if (path := folder / group / f"{option}.yaml").is_file())
        is_in_jobs = group in default_options(folders[0]) or group == TRANSFORM
        composed = compose(given if is_in_jobs else small, config_dirs=folders[1:], root=place, bases=bases)
        written = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        node = _node_at(composed.config, key) or written
        problems = [*_signature(group, key, node, written), *_comments(file)]
        assert not problems, f"{group}={option} ({file.name}): " + "; ".join(problems)
        _check_unknown_key(key, node)
        if group not in TRAINED:
            instantiate(node, group)
        if is_in_jobs:
            fixed = {name: node[name] for name, value in written.items() if name in node and not _follows(value)}
            _check_kinds(key, fixed, given, folders, place, bases)
            _check_round_trip(composed, Path(temporary) / "job.yaml")
        if train:
            if group in TRAINED:
                _check_training(composed if group == "scheduler" else _without_warmup(composed))
            if group == "sampler":
                _check_orders(composed)
            if group == TRANSFORM:
                _check_pixels(node)
            if group == EXPLANATION:
                _check_maps(option, folders, composed)


def _node_at(config: Mapping[str, Any], key: str) -> Any:
    for name in key.split("."):
        config = config.get(name) or {}
    return config


def _signature(group: str, key: str, node: Mapping[str, Any], written: Mapping[str, Any]) -> Iterator[str]:
    target = resolve_target(node[TARGET], key)
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(target).parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD and name not in OFFERED.get(group, ())
    }
    own = set(node) - {TARGET} - set(UNREAD_KEYS.get(group, ()))
    if extra := sorted(own - set(parameters)):
        yield f"the keys {', '.join(extra)} are not parameters of {node[TARGET]}"
    is_librarys = any(str(node[TARGET]).startswith(f"{name}.") for name in LIBRARY_OPTIONS.get(group, ()))
    required = {name for name, parameter in parameters.items() if parameter.default is parameter.empty}
    arguments = set(list(parameters)[:2]) if group == "loss" and inspect.isfunction(target) else set()
    if lacking := sorted((required if is_librarys else set(parameters)) - own - arguments):
        yield f"the parameters {', '.join(lacking)} of {node[TARGET]} are not in the YAML"
    for name in sorted(own & set(written) & set(parameters)):
        default, value = parameters[name].default, written[name]
        has_default = default is not inspect.Parameter.empty and not is_librarys
        if has_default and not _follows(value) and not _is_same(_plain(default), value):
            both = f"{name} is {value!r} in the YAML and {default!r} in the signature"
            yield f"{both}{_KINDS if _plain(default) == value else ''}"


def _follows(value: object) -> bool:
    """Whether the value is taken from another key, or must be given."""
    return isinstance(value, str) and ("${" in value or value == "???")


def _plain(value: object) -> object:
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def _is_same(default: object, value: object) -> bool:
    """Whether two defaults are equal and the same kind of number, which decides which values an override may have."""
    if isinstance(default, list) and isinstance(value, list):
        return len(default) == len(value) and all(map(_is_same, default, value))
    numbers = (bool, int, float)
    same_kind = type(default) is type(value) or not (isinstance(default, numbers) and isinstance(value, numbers))
    return default == value and same_kind


def _comments(file: Path) -> Iterator[str]:
    for line in file.read_text(encoding="utf-8").splitlines():
        match = _KEY.match(line)
        if match is not None and match["key"] not in _NOT_DESCRIBED and " # " not in f" {match['rest']}":
            yield f"the key {match['key']} has no comment with its meaning and unit"


def _check_unknown_key(key: str, node: Mapping[str, Any]) -> None:
    config: dict[str, Any] = {**node, "no_such_key": 1}
    for name in reversed(key.split(".")):
        config = {name: config}
    try:
        check_targets(config, UNREAD_KEYS)
    except ConfigError:
        return
    raise AssertionError(f"an unknown key in {key} is not refused; its target takes **kwargs")


def _check_kinds(
    place: str, node: Mapping[str, Any], given: Sequence[str], folders: Sequence[Path], root: Path, bases: Bases
) -> None:
    for key, value in node.items():
        if key in {TARGET, "name"} or value is None or isinstance(value, (Mapping, list)):
            continue
        try:
            compose([*given, f"{place}.{key}={{wrong:1}}"], config_dirs=folders[1:], root=root, bases=bases)
        except ConfigError:
            continue
        raise AssertionError(f"expected {place}.{key} (default {value!r}) to refuse a mapping")


def _check_round_trip(composed: Composed, path: Path) -> None:
    job = freeze(composed)
    job.write(path)
    again = read_job(path)
    assert again.config == job.config, "the job in the file differs from the frozen one"
    assert again.job_hash == job.job_hash, "the job in the file has another hash"


def _built(composed: Composed) -> Built:
    job = freeze(composed)
    split = split_data(job.config, load_data(job.config))
    check_training(job.config, split)
    return build(job.config, split)


def _check_orders(composed: Composed) -> None:
    datamodule = _built(composed).datamodule
    table = datamodule.parts["train"]

    def order(epoch: int) -> IntArray:
        return order_of_epoch(datamodule.sampler, table, np.random.default_rng([0, epoch]))

    assert np.array_equal(order(0), order(0)), "expected the order of an epoch to follow from rng alone, got two orders"
    lengths = sorted({len(order(epoch)) for epoch in range(NUM_EPOCHS)})
    assert len(lengths) == 1, f"expected the order of every epoch to be equally long, got {lengths[0]} to {lengths[-1]}"


def _check_pixels(node: Mapping[str, Any]) -> None:
    made = instantiate(node, TRANSFORM_KEY)
    image = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)

    def pixels(seed: int) -> UInt8Array:
        made.set_random_state(*generators((seed,)))
        return np.asarray(made(force_apply=True, image=image)["image"])

    for seed in range(NUM_EPOCHS):
        assert np.array_equal(pixels(seed), pixels(seed)), (
            "expected the pixels to follow from self.random_generator and self.py_random alone, got two results"
        )


def _check_maps(option: str, folders: Sequence[Path], composed: Composed) -> None:
    explainer = make_explainer(option, folders)
    built = _built(composed)
    batch = next(iter(built.datamodule.val_dataloader()))
    classifier = built.classifier.eval()
    network = ExplainedNetwork(classifier, classifier.backbone.body)
    maps = explainer(network, classifier.normalize(batch["image"][:2]), torch.tensor([0, 1]))
    wanted = (2, *batch["image"].shape[2:])
    assert maps.shape == wanted, f"expected maps of the shape {wanted}, got {tuple(maps.shape)}"
    assert bool(torch.isfinite(maps).all()), "expected finite values in every map, got others"


def _task_of(composed: Composed) -> tuple[NetworkTask, LesionDataModule]:
    job = freeze(composed)
    if not is_pretraining(job.config):
        built = _built(composed)
        return built.classifier, built.datamodule
    split = split_data(job.config, load_data(job.config))
    check_training(job.config, split)
    pretraining = build_pretraining(job.config, split)
    return pretraining.task, pretraining.datamodule


def _without_warmup(composed: Composed) -> Composed:
    """The job without a warm-up of the learning rate, which would be longer than its training."""
    schedule = composed.config["scheduler"]
    if "warmup_epochs" not in schedule:
        return composed
    return replace(composed, config={**composed.config, "scheduler": {**schedule, "warmup_epochs": 0.0}})


def _check_training(composed: Composed) -> None:
    task, data = _task_of(composed)
    before = [weights.detach().clone() for weights in task.parameters()]
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=NUM_STEPS,
        limit_val_batches=1,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, data)
    assert trainer.global_step >= 1, "expected at least one training step, got none"
    loss = trainer.callback_metrics["train/loss_step"]
    assert bool(torch.isfinite(loss)), f"expected a finite loss, got {loss}"
    pairs = zip(before, task.parameters(), strict=True)
    assert any(not torch.equal(old, new) for old, new in pairs), "expected weights that change, but none changed"
    assert all(bool(torch.isfinite(new).all()) for new in task.parameters()), "expected finite weights, got others"
