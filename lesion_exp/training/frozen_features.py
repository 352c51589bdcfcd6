"""The features of a frozen network for a whole image store, computed where no earlier run has left them.

A run ends with the same weights whether its features were computed now, found, or computed anew in every step: a frozen
body is in evaluation mode, in which an image's features follow from that image alone and draw no random numbers; they
are computed on the same device in the same precision, and kept in the type in which they came. What may remain is
rounding, where a library multiplies batches of another size in another order.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any, Final

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from lesion_exp.augmentation.fixed_views import NUM_FLIPS, FixedView, num_views
from lesion_exp.augmentation.pipeline import AugmentationPipeline
from lesion_exp.backbone.options import SHARED_KEYS
from lesion_exp.byte_size import file_size
from lesion_exp.choices import FLIPS8
from lesion_exp.config.own_code import code_tags
from lesion_exp.config.project import Project
from lesion_exp.data.batches import EvaluationBatches
from lesion_exp.data.cache_names import FEATURES
from lesion_exp.data.datamodule import LesionDataModule
from lesion_exp.data.features import VERSION, Batches, CachedFeatures, ViewFeatures, kept_features, open_or_compute
from lesion_exp.data.lesion_dataset import LesionDataset, collate_samples
from lesion_exp.data.loaders import resolve_num_workers
from lesion_exp.model.checkpoint_file import state_hash
from lesion_exp.model.network import is_own_pipeline, library_version
from lesion_exp.progress import Stage
from lesion_exp.task import LesionClassifier
from lesion_exp.training.build import Built

log = logging.getLogger(__name__)

BATCH_SIZE: Final = 64
"""Images at a time where loader.evaluation_batch_size is null. It does not follow loader.batch_size: a product of
matrices may round otherwise in batches of another size, and runs that differ in loader.batch_size share features."""
_OF_THE_BODY: Final = frozenset({"attention", "share_branches"})


def can_cache(config: Mapping[str, Any], pipeline: AugmentationPipeline) -> bool:
    """Returns whether the views of each image have the same features throughout a run of `config`.

    That is so if nothing before the head is trained, and images are seen in a fixed set of views.
    """
    needs_images = config["loss"].get("views") == "same"  # a teacher that sees the student's images
    return config["backbone"].get("tune") == "head" and pipeline.has_fixed_views and not needs_images


def cached_features(config: Mapping[str, Any], built: Built, trainer: pl.Trainer) -> ViewFeatures | None:
    """Returns the features of all images of the run's store, in all views; None where `can_cache` is false.

    They are computed on the device and in the precision of `trainer`. Those of the flips and quarter turns are kept
    where training or test-time augmentation shows them.
    """
    views = built.datamodule.pipeline.views
    if not can_cache(config, built.datamodule.pipeline):
        return None
    found = _Features(config, built, trainer)
    plain = found.of_view(None)
    flips: tuple[CachedFeatures, ...] = ()
    if FLIPS8 in (views, config["evaluation"]["tta"]):
        flips = (plain, *(found.of_view(FixedView(True, number)) for number in range(1, NUM_FLIPS)))
    training = flips if views == FLIPS8 else (plain,)
    if views not in (None, FLIPS8):
        training = tuple(found.of_view(FixedView(False, number)) for number in range(num_views(views)))
    found.say_what_is_kept()
    return ViewFeatures(plain, training, flips)


class _Features:
    """Finds or computes the features of the network of a run."""

    def __init__(self, config: Mapping[str, Any], built: Built, trainer: pl.Trainer) -> None:
        self.config, self.built, self.trainer = config, built, trainer
        self.batch_size = int(config["loader"]["evaluation_batch_size"] or BATCH_SIZE)
        self.folder = Project.from_config(config).data_cache / FEATURES
        self.facts = _facts(config, built, trainer, self.batch_size)
        self.opened = self.computed = 0

    def of_view(self, view: FixedView | None) -> CachedFeatures:
        """Returns the features of all images of the store in a view; None is the images as evaluation shows them."""

        def compute(done: int) -> Batches:
            self.computed += 1
            return _batches(self.built, self.trainer, self.batch_size, view, done)

        self.opened += 1
        folder = self.folder / _key(self.facts, self.config, view)
        return open_or_compute(folder, len(self.built.datamodule.store.image_ids), compute)

    def say_what_is_kept(self) -> None:
        """Logs that nothing was computed, or how much the folder holds if this run reads only a part of it."""
        count, size = kept_features(self.folder)
        if not self.computed:
            log.info("the features of the frozen network were found in %s", self.folder)
        elif count > self.opened:
            log.info(
                "%s now holds %d sets of features, each of a network, a data set and a view, %s; delete the folder to "
                "free the space: finished runs do not need it, and new runs compute their features again",
                self.folder,
                count,
                file_size(size),
            )


def _batches(built: Built, trainer: pl.Trainer, batch_size: int, view: FixedView | None, done: int) -> Batches:
    """The features batch by batch, without the first `done` batches, which an interrupted computation has left."""
    classifier, data = built.classifier, built.datamodule
    images = _all_images(data, view)
    device = trainer.strategy.root_device
    on_gpu = device.type == "cuda"
    left = list(EvaluationBatches(len(images), batch_size, (0, 1)))[done:]
    count = sum(map(len, left))
    if done:
        log.info("the features of %s images come from a run that was interrupted", f"{len(images) - count:,}")
    loader: DataLoader[Any] = DataLoader(
        images,
        batch_sampler=left,
        num_workers=resolve_num_workers(data.loader.num_workers, on_gpu, decodes=images.store.decodes),
        pin_memory=on_gpu,
        collate_fn=collate_samples,
    )
    was_training = classifier.training
    classifier.to(device).eval()
    began = time.monotonic()
    with (
        Stage(f"computing the features of{_in_words(view)}", count, "images", shown=trainer.is_global_zero) as stage,
        torch.inference_mode(),
        trainer.precision_plugin.forward_context(),
    ):
        yield from _encoded(classifier, images, loader, device, stage)
    classifier.train(was_training)
    seconds = time.monotonic() - began
    log.info("the features of %s images took %.1f s: %.0f images/s", f"{count:,}", seconds, count / seconds)


def _encoded(
    classifier: LesionClassifier, images: LesionDataset, loader: DataLoader[Any], device: torch.device, stage: Stage
) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
    for batch in loader:
        moved = {name: values.to(device, non_blocking=True) for name, values in batch.items()}
        yield images.rows[batch["index"].numpy()], classifier.encode(moved)  # type: ignore[arg-type]
        stage.advance(len(batch["index"]))


def _in_words(view: FixedView | None) -> str:
    return "" if view is None else f" {'flip' if view.is_flip else 'draw'} {view.number + 1} of"


def _all_images(data: LesionDataModule, view: FixedView | None) -> LesionDataset:
    """Every readable image of the store, prepared as for an evaluation or in a view; labels are not used."""
    ids = data.store.image_ids
    table = pd.DataFrame({"image_id": ids[~ids.isin(list(data.store.errors))], "label": data.classes[0]})
    training = view is not None and not view.is_flip
    return LesionDataset(table, data.store, data.pipeline, data.classes, data.sample, training=training, view=view)


def _facts(config: Mapping[str, Any], built: Built, trainer: pl.Trainer, batch_size: int) -> dict[str, Any]:
    """Everything on which the features depend, except the view."""
    data, backbone = built.datamodule, built.classifier.backbone
    pipeline, sample = data.pipeline, data.sample
    node, whole = config["backbone"], config["augmentation"]
    shown = {"preprocess": whole["preprocess"], **({"pipeline": whole} if is_own_pipeline(whole) else {})}
    return {
        "version": [VERSION, torch.__version__, library_version(node)],
        "store": data.store.folder.name,
        "weights": state_hash({name: tensor.cpu() for name, tensor in backbone.state_of_bodies().items()}),
        "network": {key: value for key, value in node.items() if key not in SHARED_KEYS or key in _OF_THE_BODY},
        **shown,
        "frame": [pipeline.image_size, pipeline.fit, pipeline.interpolation, pipeline.crop_share],
        "colours": [pipeline.mean, pipeline.std],
        "views": [sample.mask, sample.mask_margin, sample.clinical],
        "computed": [trainer.strategy.root_device.type, str(trainer.precision), batch_size],
        "layout": built.classifier.options.channels_last,
        **code_tags({"backbone": node, **shown}),
    }


def _key(facts: Mapping[str, Any], config: Mapping[str, Any], view: FixedView | None) -> str:
    """A hash (16 digits) of `facts`, the view, and for a draw the transforms that are drawn."""
    found = dict(facts)
    if view is not None and view.is_flip:
        found["flip"] = view.number
    elif view is not None:
        node = config["augmentation"]
        drawn = [json.dumps(node["transforms"], default=str), node.get("join", True), version("albumentations")]
        found |= {"draw": view.number, "drawn": drawn, **code_tags({"augmentation": node})}
    return hashlib.sha256(json.dumps(found, sort_keys=True, default=str).encode()).hexdigest()[:16]
