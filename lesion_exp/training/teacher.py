"""The teacher of a distillation: one network, or several whose probabilities are averaged.

With `loss.views=fixed` its probabilities for each training image, without augmentation and as the teacher itself
prepares images, are computed once and kept beside the image store. With `loss.views=same` it looks at the pixels that
the student is shown, in each step: it has its own mean, deviation and size, but the student's crop. In both cases the
teacher is in evaluation mode, in the precision in which its run was evaluated, without test-time augmentation.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from lesion_exp.choices import POOLED
from lesion_exp.config.named_run import METHOD_TAG, TEACHER, TEACHER_WEIGHTS, hash_of_weights, members_of, named_run
from lesion_exp.config.own_code import code_tags
from lesion_exp.config.project import Project
from lesion_exp.data.batches import EvaluationBatches
from lesion_exp.data.cache_names import TEACHERS
from lesion_exp.data.datamodule import LesionDataModule
from lesion_exp.data.features import VERSION, Batches, open_or_compute
from lesion_exp.data.lesion_dataset import LesionDataset, Sample, collate_samples
from lesion_exp.data.loaders import resolve_num_workers
from lesion_exp.data.store import ImageStore, open_or_build
from lesion_exp.errors import ConfigError, DataError, first_cases
from lesion_exp.evaluation.calibrator import Calibrator, log_probs, read_calibrator
from lesion_exp.evaluation.posthoc import calibrator_path
from lesion_exp.loss.distill import Distill
from lesion_exp.model.checkpoint_file import read_checkpoint, state_hash
from lesion_exp.model.inputs import sample_options, store_request
from lesion_exp.model.network import library_version
from lesion_exp.model.restore import Restored, restore
from lesion_exp.progress import Stage
from lesion_exp.task import LesionClassifier
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.stored_run import Run, check_classifies, download_artifact, read_stored_table
from lesion_exp.training.build import Built
from lesion_exp.training.data import SplitData
from lesion_exp.training.photographs import can_show, photographs
from lesion_exp.training.tracked import job_of

log = logging.getLogger(__name__)

BATCH_SIZE: Final = 64
"""Images at a time; see `BATCH_SIZE` of `frozen_features`."""
_VIEW_KEYS: Final = ("mask", "mask_margin", "view")
_OF_NETWORK: Final = ("backbone", "augmentation", "image_size")


@dataclass(frozen=True)
class Member:
    """One network of a teacher."""

    run: Run
    restored: Restored
    weights: str
    """The hash of its weights."""
    tested: frozenset[str]
    """The images of its test part, by their ids."""

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """Returns the context in which the network computes in the precision of its run."""
        precision = str(self.restored.config["trainer"]["precision"])
        if "16" not in precision or (device.type == "cpu" and not precision.startswith("bf16")):
            return torch.autocast(device.type, enabled=False)
        return torch.autocast(device.type, torch.bfloat16 if precision.startswith("bf16") else torch.float16)

    def log_probs(self, batch: Sample, device: torch.device) -> Tensor:
        """Logarithms of the probabilities of a batch that is prepared for this network, float32 (N, C)."""
        with torch.no_grad(), self.autocast(device):
            return self.restored.classifier(batch).float().log_softmax(dim=1)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Teacher:
    """An open teacher."""

    run: Run
    members: tuple[Member, ...]
    order: tuple[int, ...]
    """For each class of the student its place among the teacher's."""
    calibrator: Calibrator | None
    by_fold: bool
    """Whether an image that a member was tested with is predicted by such members alone."""

    def shares(self, table: pd.DataFrame) -> Tensor:
        """How much each member counts for each row of `table`, float32 (N, members), with rows that add up to 1.

        For the folds of a cross-validation the member whose test part has the image counts alone, since the others were
        trained on it. All count equally for an image that none of them was tested with, and in other ensembles.
        """
        counts = np.ones((len(table), len(self.members)), dtype=np.float32)
        if self.by_fold:
            tested = np.stack([table["image_id"].isin(list(member.tested)) for member in self.members], axis=1)
            counts = np.where(tested.any(axis=1, keepdims=True), tested, counts).astype(np.float32)
        return torch.from_numpy(counts / counts.sum(axis=1, keepdims=True))

    def combined(self, predicted: Sequence[Tensor], shares: Tensor) -> Tensor:
        """Logarithms of the mean probabilities in the order of the student's classes, float32 (N, C).

        Args:
            predicted: logarithms of the probabilities of each member, (N, C) in the order of the teacher's classes.
            shares: how much each member counts, (N, members).
        """
        if len(predicted) == 1:
            logs = predicted[0]
        else:
            weighted = torch.stack(list(predicted), dim=2) + shares.to(predicted[0].device).log()[:, None, :]
            logs = torch.logsumexp(weighted, dim=2)
        if self.calibrator is not None:
            probs = self.calibrator.apply(logs.double().exp().cpu().numpy())
            logs = torch.from_numpy(log_probs(probs)).to(logs)
        return logs[:, list(self.order)]


def open_teacher(config: Mapping[str, Any], classes: Sequence[str]) -> Teacher | None:
    """Opens the teacher of the job `config` for a student of `classes`; None if its loss has none.

    Raises:
        ConfigError: the store has no such run, or it does not suit the student.
        DataError: its checkpoint is missing, or has other weights than when the job was composed.
    """
    node = config["loss"]
    if not node.get(TEACHER_WEIGHTS):
        return None
    run = named_run(str(node["teacher"]), Project.from_config(config), TEACHER)
    check_classifies(run, TEACHER)
    if (found := hash_of_weights(run, TEACHER)) != node[TEACHER_WEIGHTS]:
        raise DataError(
            f"expected a teacher with the weights that the job names ({node[TEACHER_WEIGHTS]}), but run {run.run_id} "
            f"has others ({found}); restore that run, or start a new run with loss.teacher={run.run_id}"
        )
    names = members_of(run)
    runs = [find_run(run.store, name) for name in names] or [run]
    by_fold = run.tags.get(METHOD_TAG) == POOLED
    members = tuple(_member(each, config, with_parts=by_fold) for each in runs)
    known = members[0].restored.classes
    if any(member.restored.classes != known for member in members) or set(known) != set(classes):
        raise ConfigError(
            f"expected a teacher of the student's classes, {', '.join(classes)}, got {run.run_id} ({run.name}) with "
            f"{', '.join(known)}; train a teacher on these classes, or leave the others out with dataset.filter"
        )
    for member in members:
        _check_views(member, config)
    order = tuple(known.index(name) for name in classes)
    return Teacher(run, members, order, _calibrator(run, str(node["calibration"])), by_fold)


def _member(run: Run, config: Mapping[str, Any], *, with_parts: bool) -> Member:
    checkpoint = download_artifact(run, artifacts.checkpoint("best"))
    job = job_of(run).config
    trainer = {**job["trainer"], "accelerator": config["trainer"]["accelerator"]}
    restored = restore({**job, "trainer": trainer}, checkpoint, run)
    weights = state_hash(read_checkpoint(checkpoint)["state_dict"])
    if weights != run.tags.get("weights_hash"):
        raise DataError(
            f"expected the checkpoint of run {run.run_id} with the weights {run.tags.get('weights_hash')}, got "
            f"{weights}, since the file was changed; restore it, or name another teacher"
        )
    restored.classifier.eval().requires_grad_(False)
    tested: frozenset[str] = frozenset()
    if with_parts:
        download_artifact(run, artifacts.MANIFEST)
        parts = read_stored_table(run, artifacts.MANIFEST, ["image_id", "split"])
        assert parts is not None, "it was fetched just now"
        tested = frozenset(parts.loc[parts["split"] == "test", "image_id"].astype(str))
    return Member(run, restored, weights, tested)


def _check_views(member: Member, config: Mapping[str, Any]) -> None:
    own, node = member.restored.config, config["dataset"]
    what = f"run {member.run.run_id}"
    seen, shown = photographs(own["dataset"]), photographs(node)
    known = seen is not None and shown is not None
    view = own["dataset"]["view"]
    kind = seen or view
    can_choose = can_show(node, kind)
    if known and seen != shown and view == node["view"] and not can_choose:
        log.warning("%s was trained on photographs of another kind (%s) than the student sees (%s)", what, seen, shown)
    elif (seen != shown) if known else (view != node["view"]):
        remedy = f"set dataset.view={kind}, or " if can_choose else ""
        raise ConfigError(
            f"expected a teacher that sees the student's photographs, got {what} with dataset.view={view}"
            f"{'' if kind == view else f', which shows {kind} ones'}; {remedy}name another teacher"
        )
    if config["loss"]["views"] == "fixed":
        return
    if member.restored.encoder is not None:
        raise ConfigError(
            f"expected a teacher that sees nothing but images, for loss.views=same, got {what}, which reads metadata; "
            f"use loss.views=fixed"
        )
    differing = [key for key in ("mask", "mask_margin") if own["dataset"][key] != node[key]]
    if differing:
        raise ConfigError(
            f"expected a teacher that gets the images of the student, for loss.views=same, got {what} with another "
            f"{', '.join(f'dataset.{key}' for key in differing)}; use loss.views=fixed"
        )


def _calibrator(run: Run, method: str) -> Calibrator | None:
    if method == "none":
        return None
    path = run.fetch(calibrator_path(method))
    if path is None:
        raise ConfigError(
            f"expected a calibration that the teacher, run {run.run_id}, has, got loss.calibration={method}; set "
            f"loss.calibration=none"
        )
    return read_calibrator(json.loads(path.read_text(encoding="utf-8")))


class SameView:
    """The teacher of `loss.views=same`: it predicts the images of a batch as the student sees them.

    Args:
        teacher: the open teacher.
        rows: the table of the training part, in the order of its positions.
    """

    def __init__(self, teacher: Teacher, rows: pd.DataFrame) -> None:
        self.teacher = teacher
        self._shares = teacher.shares(rows)

    def __call__(self, batch: Sample, student: LesionClassifier) -> Tensor:
        """Logarithms of the teacher's probabilities, float32 (N, C), in the order of the student's classes."""
        device = batch["image"].device
        predicted = []
        for member in self.teacher.members:
            network = member.restored.classifier
            if network.shift.device != device:
                network.to(device)
            shown = Sample(image=_reprepared(batch["image"], student, member))
            if "clinical" in batch:
                shown["clinical"] = _reprepared(batch["clinical"], student, member)
            predicted.append(member.log_probs(shown, device))
        return self.teacher.combined(predicted, self._shares[batch["index"].cpu()])

    def __deepcopy__(self, memo: dict[int, Any]) -> SameView:
        return self  # a copy of the student, for its moving average, has the same teacher


def _reprepared(images: Tensor, student: LesionClassifier, member: Member) -> Tensor:
    """Images that are prepared for the student as the member wants them: its size, mean and deviation."""
    network, size = member.restored.classifier, member.restored.pipeline.image_size
    if images.dtype == torch.uint8 and images.shape[-1] == size:
        return network.normalize(images)
    channels = images.shape[1]
    pixels = images.float()
    if images.dtype != torch.uint8:  # mixed, and standardised by the student's mean and deviation
        pixels = (pixels - _column(student.shift, channels)) / _column(student.scale, channels)
    if pixels.shape[-1] != size:
        pixels = F.interpolate(pixels, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    return pixels * _column(network.scale, channels) + _column(network.shift, channels)


def _column(values: Tensor, channels: int) -> Tensor:
    return values[:channels].view(1, channels, 1, 1)


def attach_teacher(
    teacher: Teacher | None, config: Mapping[str, Any], split: SplitData, built: Built, trainer: pl.Trainer
) -> None:
    """Gives the data module the teacher's probabilities, or the classifier the teacher itself.

    Raises:
        DataError: the teacher needs pictures that training images do not have.
    """
    loss = built.classifier.loss
    if teacher is None or not isinstance(loss, Distill):
        return
    rows = built.datamodule.parts["train"]
    what = f"run {teacher.run.run_id}" + (f" of {len(teacher.members)} networks" if len(teacher.members) > 1 else "")
    if teacher.by_fold:
        alone = np.any([rows["image_id"].isin(list(member.tested)) for member in teacher.members], axis=0)
        log.info(
            "the teacher is a cross-validation: %s of %s training images are predicted by folds that were not trained "
            "on them, the others by the mean of all folds", f"{int(alone.sum()):,}", f"{len(rows):,}",
        )  # fmt: skip
    if loss.views == "same":
        built.classifier.teacher = SameView(teacher, rows)
        log.info("the teacher, %s, sees each image as the student does, in each step", what)
        return
    predicted = [_kept(member, config, split, rows, built.datamodule, trainer) for member in teacher.members]
    built.datamodule.soft_targets = teacher.combined(predicted, teacher.shares(rows)).float()
    log.info("the teacher, %s, has predicted the training images without augmentation", what)


def _kept(
    member: Member,
    config: Mapping[str, Any],
    split: SplitData,
    rows: pd.DataFrame,
    data: LesionDataModule,
    trainer: pl.Trainer,
) -> Tensor:
    """Logarithms of a member's probabilities for `rows`, float32 (N, C), computed unless an earlier run did so."""
    own, table = member.restored.config, split.loaded.table.drop_duplicates("image_id")
    cache, device = Project.from_config(config).data_cache, trainer.strategy.root_device
    request = store_request(own)
    store = split.loaded.store if request == store_request(config) else open_or_build(table, request, cache)
    if lost := sorted(set(rows["image_id"]) & set(store.errors)):
        raise DataError(
            f"expected everything that the teacher needs of each training image, but {len(lost):,} cannot be used:\n"
            f"{first_cases(f'{name}: {store.errors[name]}' for name in lost)}\nname a teacher that needs no more than "
            f"the student"
        )
    images = _images(member, table[~table["image_id"].isin(list(store.errors))], store)
    folder = cache / TEACHERS / _key(member, images, device)

    def compute(done: int) -> Batches:
        return _predicted(member, images, data, device, done)

    found = open_or_compute(folder, len(store.image_ids), compute)
    return found.read(store.rows(rows["image_id"]))


def _images(member: Member, table: pd.DataFrame, store: ImageStore) -> LesionDataset:
    """The images of `table`, prepared as for an evaluation of the member; labels are not used."""
    restored = member.restored
    encoded = None if restored.encoder is None else restored.encoder.encode(table)
    bare = pd.DataFrame({"image_id": table["image_id"].to_numpy(), "label": restored.classes[0]})
    options = sample_options(restored.config)
    return LesionDataset(bare, store, restored.pipeline, restored.classes, options, encoded, training=False)


def _predicted(
    member: Member, images: LesionDataset, data: LesionDataModule, device: torch.device, done: int
) -> Batches:
    """The batches after the first `done`, which an interrupted computation has left."""
    loader: DataLoader[Any] = DataLoader(
        images,
        batch_sampler=list(EvaluationBatches(len(images), BATCH_SIZE, (0, 1)))[done:],
        num_workers=resolve_num_workers(data.loader.num_workers, device.type == "cuda", decodes=images.store.decodes),
        collate_fn=collate_samples,
    )
    member.restored.classifier.to(device).eval()
    with Stage("the teacher predicts", len(images), "images") as stage, torch.inference_mode():
        stage.advance(min(done * BATCH_SIZE, len(images)))
        yield from _batches(member, images, loader, device, stage)


def _batches(
    member: Member, images: LesionDataset, loader: DataLoader[Any], device: torch.device, stage: Stage
) -> Iterator[tuple[np.ndarray, Tensor]]:
    for batch in loader:
        moved = {name: values.to(device, non_blocking=True) for name, values in batch.items()}
        yield images.rows[batch["index"].numpy()], member.log_probs(moved, device)  # type: ignore[arg-type]
        stage.advance(len(batch["index"]))


def _key(member: Member, images: LesionDataset, device: torch.device) -> str:
    """A hash (16 digits) of everything on which the probabilities depend."""
    own = member.restored.config
    facts = {
        "version": [VERSION, torch.__version__, library_version(own["backbone"])],
        "store": images.store.folder.name,
        "images": len(images),
        "weights": member.weights,
        "network": {key: own[key] for key in _OF_NETWORK},
        "views": [own["dataset"][key] for key in _VIEW_KEYS],
        "metadata": None if images.metadata is None else hashlib.sha256(images.metadata.numpy().tobytes()).hexdigest(),
        "computed": [device.type, str(own["trainer"]["precision"]), BATCH_SIZE],
        "layout": member.restored.classifier.options.channels_last,
        **code_tags({key: own[key] for key in _OF_NETWORK}),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]
