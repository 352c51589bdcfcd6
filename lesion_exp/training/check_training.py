"""Checks that a job can train on its data from the first step to the last, before a run is opened."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pytorch_lightning as pl
import torch
from torch import Tensor

from lesion_exp.backbone.options import InputsAndOutputs, SharedOptions, shared_options
from lesion_exp.config.registered import TARGET
from lesion_exp.data.datamodule import LesionDataModule
from lesion_exp.errors import ConfigError, DataError, UserError
from lesion_exp.loss.base import Loss, check_loss, check_weights
from lesion_exp.loss.cross_entropy import CrossEntropy
from lesion_exp.model.classifier import make_loss, remembers, solves_exactly
from lesion_exp.model.inputs import sample_options
from lesion_exp.model.network import make_backbone
from lesion_exp.sampler.by_source import is_of_no_source
from lesion_exp.scheduler.schedule import ENDLESS, TrainingLength
from lesion_exp.taxonomy import malignancy
from lesion_exp.training.added_metrics import try_added_metrics
from lesion_exp.training.build import check_optimisation, make_datamodule, metadata_encoder
from lesion_exp.training.data import SplitData, is_pretraining
from lesion_exp.training.part_evaluation import check_evaluation
from lesion_exp.training.trainer import check_trainer, num_devices_and_nodes, num_processes
from lesion_exp.training.tune import FIRST_BATCH
from lesion_exp.training.watched_metrics import check_watched

log = logging.getLogger(__name__)

PATCHES: Final = (32, 16, 14, 224)
"""Common divisors of the image sizes that networks accept, pixels."""
SMALLEST_IMAGE: Final = 16
_TRIED_IMAGES: Final = 2
"""Images in the batch that a network is tried with, unless all its batches are smaller."""
_PASSED: Final[set[str]] = set()
"""Keys of the trials that networks have passed."""
_ONE_IMAGE: Final = "Expected more than 1 value per channel"
"""Part of the message of torch's batch normalisation for a batch from which it cannot compute a deviation."""


def check_training(config: Mapping[str, Any], split: SplitData) -> list[str]:
    """Checks that the job `config` can train on `split` from its first step to the last; returns warnings.

    Raises:
        DataError: a part that is needed has no image.
        ConfigError: the training has no step or no validation, a metric that is watched does not exist, the network
            does not accept its batches, or values contradict each other.
    """
    if is_pretraining(config):
        from lesion_exp.training.check_pretraining import check_pretraining

        return check_pretraining(config, split)
    trainer = check_trainer(config["trainer"])
    _check_parts(config, split)
    check_evaluation(config, split)
    try_added_metrics(config, len(split.classes))
    in_val = set(split.table.loc[split.table["split"] == "val", "label"])
    check_watched(config, [name for name in split.classes if name in in_val])
    data = make_datamodule(config, split)
    check_dealt(config, data, ("val", "test") if config["test"] else ("val",))
    warnings = []
    loss = make_loss(config["loss"], data.class_counts())
    check_loss(loss, f"loss={config['loss'][TARGET]}")
    if data.weights() is not None:
        check_weights(loss, f"loss={config['loss'][TARGET]}")
    if config["trainer"]["find_batch_size"]:  # the length of an epoch is not known yet
        check_optimisation(config)
        batch_size = min(FIRST_BATCH, data.images_per_epoch())
    else:
        ranks = num_processes(config["trainer"])
        length = length_on(config, trainer, data, ranks)
        check_validations(config, trainer, length, data, ranks)
        check_optimisation(config, length)
        loss.set_epoch(0, length.num_epochs)
        batch_size = data.smallest_batch(ranks)
        if batch_size < data.batch_size:
            warnings.append(small_batch(data, batch_size, ranks))
    warnings += weighed_class(config["loss"], split.classes)
    node = config["backbone"]
    if remembers(node):
        _check_neighbours(config, data, loss)
    elif solves_exactly(config["optimizer"]):
        _check_probe(config, data, loss)
    warnings += _not_read(node)
    warnings += one_source(config["sampler"], data)
    if node.get("tune", "full") != "full" and node.get("weights", "none") == "none":
        warnings.append(
            f"backbone.tune={node['tune']} freezes random weights, because backbone.weights=none; set "
            f"backbone.weights=imagenet, or name a file of weights"
        )
    metadata_width = data.metadata.width if data.metadata else 0
    Trial(config, len(split.classes), metadata_width, min(batch_size, _TRIED_IMAGES)).check()
    return warnings


def share_trial(config: Mapping[str, Any], split: SplitData) -> None:
    """Tries the network of the job `config` for `check_training` in the processes that are forked from this one.

    No device is asked for, no image is read and nothing is computed (see `Trial.check_without_computing`), since a
    process that has done so cannot be forked safely. Networks of other packages are not tried: their code may do it.
    """
    if is_pretraining(config) or not str(config["backbone"][TARGET]).startswith("lesion_exp."):
        return
    encoder = metadata_encoder(config, split.table)
    Trial(config, len(split.classes), encoder.width if encoder else 0, _TRIED_IMAGES).check_without_computing()


def _check_probe(config: Mapping[str, Any], data: LesionDataModule, loss: Loss) -> None:
    """Checks that what the job trains is a logistic regression on features that are computed once."""
    node, num_epochs = config["backbone"], int(config["trainer"]["max_epochs"] or ENDLESS)
    wanted = {
        "backbone.tune=head": node.get("tune") == "head",
        "backbone.head=linear": node.get("head", "linear") == "linear",
        "backbone.metadata=none": node.get("metadata", "none") == "none",
        "backbone.dropout=0": not node.get("dropout", 0.0),
        "optimizer.decay_norms_and_biases=false": not config["optimizer"]["decay_norms_and_biases"],
        "trainer.max_epochs=10": num_epochs != ENDLESS,
        "sampler=shuffle": num_epochs == 1 or data.alike_in_epochs(),
    }
    missing = [override for override, is_met in {**wanted, **_at_once(config, data, loss)}.items() if not is_met]
    if missing:
        raise ConfigError(
            f"expected a logistic regression on the features of a frozen network for optimizer=logistic_path; set "
            f"{' '.join(missing)}, or use optimizer=adamw"
        )


def _check_neighbours(config: Mapping[str, Any], data: LesionDataModule, loss: Loss) -> None:
    """Checks that a head can store the training images, and that there are more of them than `backbone.knn.k`."""
    wanted = {"sampler=shuffle": data.each_once(), **_at_once(config, data, loss)}
    missing = [override for override, is_met in wanted.items() if not is_met]
    if missing:
        raise ConfigError(
            f"expected the features of a frozen network, each image once and alike, for backbone.head=knn; set "
            f"{' '.join(missing)}, or use backbone.head=linear"
        )
    k, images = int(config["backbone"]["knn"]["k"]), data.images_per_epoch()
    if k >= images:
        raise ConfigError(
            f"expected backbone.knn.k below {images}, the number of images that the head stores, got {k}; set "
            f"backbone.knn.k={max(images // 4, 1)}"
        )


def _at_once(config: Mapping[str, Any], data: LesionDataModule, loss: Loss) -> dict[str, bool]:
    """What a head needs that is set by one step on all training images, and whether the job has it."""
    trainer = config["trainer"]
    return {
        "augmentation.views=null": data.pipeline.views is None,
        "augmentation=none": data.pipeline.views is not None or data.pipeline.is_fixed,
        "dataset.pseudo_weight=1": data.weights() is None,
        "loss=cross_entropy loss.label_smoothing=0": isinstance(loss, CrossEntropy) and not loss.label_smoothing,
        "trainer.devices=1": num_processes(trainer) == 1,
        "trainer.accumulate_grad_batches=1": trainer["accumulate_grad_batches"] == 1,
        "trainer.gradient_clip_val=null": not trainer["gradient_clip_val"],
        "trainer.ema_decay=null": trainer["ema_decay"] is None,
        "trainer.find_lr=false trainer.find_batch_size=false": not (trainer["find_lr"] or trainer["find_batch_size"]),
    }


def _not_read(node: Mapping[str, Any]) -> list[str]:
    """Warnings about keys below `backbone` that were changed, but that the head or the tuning does not read."""
    shared, usual = shared_options(node), SharedOptions()
    texts = []
    if shared.head != "knn" and shared.knn != usual.knn:
        texts.append(f"backbone.knn has no effect with backbone.head={shared.head}; backbone.head=knn reads it")
    if shared.tune != "lora" and shared.lora != usual.lora:
        texts.append(f"backbone.lora has no effect with backbone.tune={shared.tune}; backbone.tune=lora reads it")
    return texts


def one_source(node: Mapping[str, Any], data: LesionDataModule) -> list[str]:
    """Returns a warning if `sampler=by_source` has nothing to balance, as all training images are of one source.

    Args:
        node: the node `sampler`.
        data: the data of the job.
    """
    rows = data.parts["train"]
    sources = rows["source"][~is_of_no_source(rows)].unique()
    if not str(node[TARGET]).endswith(".BySource") or not node.get("power", 1.0) or len(sources) != 1:
        return []
    return [
        f"sampler=by_source draws as sampler=shuffle does, since all training images are of one source, {sources[0]}; "
        f"with dataset=combined, each of dataset.sets is a source"
    ]


def weighed_class(node: Mapping[str, Any], classes: Sequence[str]) -> list[str]:
    """Logs which class a number in `loss.pos_weight` weighs; returns a warning if that is the benign one of the two.

    Args:
        node: the node `loss`.
        classes: the classes, in class order.
    """
    key, labels = "loss.pos_weight", node.get("labels")
    if isinstance(labels, Mapping):  # of a student
        key, node = "loss.labels.pos_weight", labels
    weight = node.get("pos_weight")
    if not str(node[TARGET]).endswith(".BinaryCrossEntropy") or not isinstance(weight, int | float) or weight == 1:
        return []
    log.info("%s=%g is the weight of the class %s", key, weight, classes[1])
    if weight < 1 or not malignancy(classes[0]) or malignancy(classes[1]) is not False:
        return []
    return [
        f"{key}={weight:g} is the weight of {classes[1]}, the second class in alphabetical order, which is benign, "
        f"while {classes[0]} is malignant; set {key}={1 / weight:.3g} to give {classes[0]} the greater weight, or "
        f"{key}=balanced"
    ]


def _check_parts(config: Mapping[str, Any], split: SplitData) -> None:
    counts = split.table["split"].value_counts()
    for part in ("val", "test") if config["test"] else ("val",):
        if not counts.get(part, 0):
            other = ", or set test=false" if part == "test" else ""
            raise DataError(
                f"expected images in the {part} part, got none (train {counts.get('train', 0)}); use more images or "
                f"another split, such as split=grouped split.ratios.{part}=0.15{other}"
            )


def check_dealt(config: Mapping[str, Any], data: LesionDataModule, parts: Sequence[str]) -> None:
    """Checks that each process of the job `config` gets an image of each of `parts`, which is evaluated on all of them.

    Raises:
        ConfigError: there are fewer images than processes.
    """
    devices, nodes = num_devices_and_nodes(config["trainer"])
    for part in parts:
        count = len(data.parts[part])
        if count < devices * nodes:
            other = ", or set test=false" if part == "test" else ""
            fewer = f"set trainer.devices={count // nodes} or less" if count >= nodes else "start fewer processes"
            raise ConfigError(
                f"expected at least {devices * nodes} images in the {part} part, one for each process, got {count}; "
                f"{fewer}, or use more images{other}"
            )


def training_length(config: Mapping[str, Any], split: SplitData) -> TrainingLength:
    """Returns the length of the training of the job `config` on `split`."""
    return length_on(
        config, check_trainer(config["trainer"]), make_datamodule(config, split), num_processes(config["trainer"])
    )


def length_on(config: Mapping[str, Any], trainer: pl.Trainer, data: LesionDataModule, ranks: int) -> TrainingLength:
    """Returns the length of the training of the job `config` with the loaders of `data` on `ranks` processes."""
    key = "trainer.overfit_batches" if config["trainer"]["overfit_batches"] else "trainer.limit_train_batches"
    num_batches = _limited(data.num_training_batches(ranks), trainer.limit_train_batches, key)
    epochs = trainer.max_epochs
    return TrainingLength(
        num_batches, trainer.accumulate_grad_batches, ENDLESS if epochs is None else epochs, trainer.max_steps
    )


def _limited(num_batches: int, limit: float, key: str) -> int:
    """The number of batches that Lightning uses of `num_batches`; `limit` is a share if it is a float, else a count."""
    if isinstance(limit, int):
        return min(num_batches, limit)
    if limit > 0 and int(num_batches * limit) == 0:
        raise ConfigError(
            f"expected {key} to leave at least one of {num_batches} batches, got the share {limit}; set {key}=1 for "
            f"one batch"
        )
    return int(num_batches * limit)


def check_validations(
    config: Mapping[str, Any], trainer: pl.Trainer, length: TrainingLength, data: LesionDataModule, ranks: int
) -> None:
    """Raises ConfigError if training ends before its first validation, or a schedule waits for one that never comes."""
    key = "trainer.overfit_batches" if config["trainer"]["overfit_batches"] else "trainer.limit_val_batches"
    if not _limited(data.num_evaluation_batches("val", ranks), trainer.limit_val_batches, key):
        raise ConfigError(
            f"expected a training that is validated, since validation chooses its best epoch, got {key}="
            f"{trainer.limit_val_batches}; set {key}=1 for one batch"
        )
    by_time = getattr(trainer, "_val_check_time_interval", None) is not None
    monitor = str(config["scheduler"].get("monitor", ""))
    every = trainer.check_val_every_n_epoch
    if by_time:
        if monitor.startswith("val/"):
            raise ConfigError(
                f"expected validations by epochs or steps for scheduler.monitor={monitor}, got "
                f"trainer.val_check_interval={config['trainer']['val_check_interval']}; leave it out"
            )
        return
    batches = _batches_between(trainer, length)
    if every is None and batches > length.num_batches and monitor.startswith("val/"):
        raise ConfigError(
            f"expected a validation in each epoch of {length.num_batches} batches for scheduler.monitor={monitor}, got "
            f"a validation every {batches} batches; set trainer.check_val_every_n_epoch="
            f"{math.ceil(batches / length.num_batches)} and leave out trainer.val_check_interval"
        )
    first = batches if every is None else (every - 1) * length.num_batches + batches
    if first > length.total_batches:
        total = int(length.total_batches)
        inside = "" if total >= length.num_batches else f" trainer.val_check_interval={total}"
        raise ConfigError(
            f"expected a training that is validated at least once, since validation chooses its best epoch, but it "
            f"ends after {total} batches ({length.num_batches} an epoch) and its first validation would come after "
            f"{first}; set trainer.check_val_every_n_epoch=1{inside}, or train for longer"
        )


def _batches_between(trainer: pl.Trainer, length: TrainingLength) -> int:
    """The number of batches between two validations of an epoch."""
    interval = trainer.val_check_interval
    if not isinstance(interval, int):
        return max(1, int(length.num_batches * interval))
    if interval > length.num_batches and trainer.check_val_every_n_epoch is not None:
        raise ConfigError(
            f"expected trainer.val_check_interval of at most {length.num_batches}, the batches of an epoch, got "
            f"{interval}; set trainer.check_val_every_n_epoch={math.ceil(interval / length.num_batches)} instead"
        )
    return interval


def small_batch(data: LesionDataModule, batch_size: int, ranks: int) -> str:
    """Returns the warning of an epoch that is shorter than a step."""
    wanted = f"loader.batch_size={data.batch_size}" + (f" on {ranks} processes" if ranks > 1 else "")
    return (
        f"the sampler draws {data.images_per_epoch()} images an epoch, fewer than one step of {wanted}: each epoch is "
        f"one step of {batch_size * ranks} images; loader.batch_size={max(batch_size // 4, 2)} makes several"
    )


@dataclass(frozen=True)
class Trial:
    """A forward pass of the network of a job's config with the smallest batch that it will get."""

    config: Mapping[str, Any]
    num_classes: int
    metadata_width: int
    batch_size: int

    def check(self) -> None:
        """Checks that the network accepts its image size and its batches, once in a process and those forked from it.

        Raises:
            ConfigError: the network does not accept the image size, or its normalisation cannot use batches of one
                image.
        """
        if self._key not in _PASSED:
            self.check_now()
            _PASSED.add(self._key)

    def check_without_computing(self) -> None:
        """Does what `check` does on the meta device; a network that fails there is left to `check`."""
        try:
            self._run(int(self.config["image_size"]), "meta")
        except Exception:
            log.debug("the forward pass on the meta device failed", exc_info=True)
        else:
            _PASSED.add(self._key)

    @property
    def _key(self) -> str:
        """Everything on which the result depends."""
        read = {key: self.config[key] for key in ("backbone", "dataset", "image_size")}
        facts = [read, self.num_classes, self.metadata_width, self.batch_size]
        return json.dumps(facts, sort_keys=True, default=str)

    def check_now(self) -> None:
        """Does what `check` does, each time that it is called."""
        size = int(self.config["image_size"])
        reason = self._failure(size)
        if reason is None:
            return
        name = self.config["backbone"].get("name") or str(self.config["backbone"]["_target_"]).rpartition(".")[2]
        if _ONE_IMAGE in str(reason) and self.batch_size == 1:
            raise ConfigError(
                f"expected at least 2 images a step for the batch normalisation of backbone {name} at image_size="
                f"{size}, got 1; set loader.batch_size=2 or more (the training part must have as many images), or a "
                f"larger image_size"
            ) from reason
        fitting = [other for other in _sizes_near(size) if self._failure(other) is None]
        if not fitting:
            raise reason
        below, above = [s for s in fitting if s < size], [s for s in fitting if s > size]
        nearest = [f"image_size={s}" for s in (*([max(below)] if below else ()), *([min(above)] if above else ()))]
        raise ConfigError(
            f"expected an image_size that backbone {name} takes, got {size}, for which it raises: "
            f"{' '.join(str(reason).split()) or type(reason).__name__}; set {' or '.join(nearest)}"
        ) from reason

    def _failure(self, image_size: int) -> Exception | None:
        """The exception that images of that size raise; None if there is none."""
        try:
            self._run(image_size, "meta")
            return None
        except UserError:
            raise
        except Exception:  # not every network can run on the meta device, so the pass is repeated on the CPU
            log.debug("the forward pass on the meta device failed", exc_info=True)
        try:
            self._run(image_size, "cpu")
        except UserError:
            raise
        except Exception as error:  # whatever the network's own code raises
            return error
        return None

    def _run(self, image_size: int, device: str) -> None:
        sample = sample_options(self.config)
        backbone = {key: "none" if key == "weights" else value for key, value in self.config["backbone"].items()}
        width = self.metadata_width
        shape = InputsAndOutputs(self.num_classes, image_size, sample.in_channels, width, sample.clinical)
        with torch.random.fork_rng(devices=[]), torch.no_grad(), torch.device(device):
            network = make_backbone(backbone, shape).train()

            def images(channels: int) -> Tensor:
                return torch.zeros(self.batch_size, channels, image_size, image_size)

            network(
                images(sample.in_channels),
                images(3) if sample.clinical else None,
                torch.zeros(self.batch_size, width) if width else None,
            )


def _sizes_near(size: int) -> Iterator[int]:
    """Image sizes below and above `size` that networks usually accept."""
    for patch in PATCHES:
        below = (size - 1) // patch * patch
        yield from (found for found in (below, (size // patch + 1) * patch) if found >= SMALLEST_IMAGE)
