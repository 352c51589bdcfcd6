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
from typing import Any, Final

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from lesion_exp.augmentation.pipeline import AugmentationPipeline
from lesion_exp.backbone.options import SHARED_KEYS
from lesion_exp.byte_size import file_size
from lesion_exp.config.project import Project
from lesion_exp.data.batches import EvaluationBatches
from lesion_exp.data.cache_names import FEATURES
from lesion_exp.data.datamodule import LesionDataModule
from lesion_exp.data.features import VERSION, Batches, CachedFeatures, kept_features, open_or_compute
from lesion_exp.data.lesion_dataset import LesionDataset, collate_samples
from lesion_exp.data.loaders import resolve_num_workers
from lesion_exp.model.checkpoint_file import state_hash
from lesion_exp.progress import Stage
from lesion_exp.task import LesionClassifier
from lesion_exp.training.build import Built

log = logging.getLogger(__name__)

BATCH_SIZE: Final = 64
"""Images at a time where loader.evaluation_batch_size is null. It does not follow loader.batch_size: a product of
matrices may round otherwise in batches of another size, and runs that differ in loader.batch_size share features."""
_OF_THE_BODY: Final = frozenset({"attention", "share_branches"})


def can_cache(config: Mapping[str, Any], pipeline: AugmentationPipeline) -> bool:
    """Returns whether each image has the same features throughout a run of `config`.

    That is so if nothing before the head is random or trained.
    """
    needs_images = config["loss"].get("views") == "same"  # a teacher that sees the student's images
    return config["backbone"].get("tune") == "head" and pipeline.is_fixed and not needs_images


def cached_features(config: Mapping[str, Any], built: Built, trainer: pl.Trainer) -> CachedFeatures | None:
    """Returns the features of all images of the run's store; None where `can_cache` is false.

    They are computed on the device and in the precision of `trainer`.
    """
    data, classifier = built.datamodule, built.classifier
    if not can_cache(config, data.pipeline):
        return None
    batch_size = int(config["loader"]["evaluation_batch_size"] or BATCH_SIZE)
    key = _key(config, built, trainer, batch_size)
    folder = Project.from_config(config).data_cache / FEATURES / key
    computed = False

    def compute(done: int) -> Batches:
        nonlocal computed
        computed = True
        return _batches(classifier, data, trainer, batch_size, done)

    features = open_or_compute(folder, len(data.store.image_ids), compute)
    if not computed:
        log.info("the features of the frozen network were found in %s", folder)
    elif (kept := kept_features(folder.parent))[0] > 1:
        log.info(
            "%s now holds the features of %d networks or data sets, %s; delete the folder to free the space: "
            "finished runs do not need it, and new runs compute their features again",
            folder.parent,
            kept[0],
            file_size(kept[1]),
        )
    return features


def _batches(
    classifier: LesionClassifier, data: LesionDataModule, trainer: pl.Trainer, batch_size: int, done: int
) -> Batches:
    """The features batch by batch, without the first `done` batches, which an interrupted computation has left."""
    images = _all_images(data)
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
        Stage("computing the features of", count, "images", shown=trainer.is_global_zero) as stage,
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


def _all_images(data: LesionDataModule) -> LesionDataset:
    """Every readable image of the store, prepared as for an evaluation; labels are not used."""
    ids = data.store.image_ids
    table = pd.DataFrame({"image_id": ids[~ids.isin(list(data.store.errors))], "label": data.classes[0]})
    return LesionDataset(table, data.store, data.pipeline, data.classes, data.sample, training=False)


def _key(config: Mapping[str, Any], built: Built, trainer: pl.Trainer, batch_size: int) -> str:
    """A hash (16 digits) of everything on which the features depend."""
    data, backbone = built.datamodule, built.classifier.backbone
    pipeline, sample = data.pipeline, data.sample
    node = config["backbone"]
    facts = {
        "version": [VERSION, torch.__version__],
        "store": data.store.folder.name,
        "weights": state_hash({name: tensor.cpu() for name, tensor in backbone.state_of_bodies().items()}),
        "network": {key: value for key, value in node.items() if key not in SHARED_KEYS or key in _OF_THE_BODY},
        "preprocess": config["augmentation"]["preprocess"],
        "frame": [pipeline.image_size, pipeline.fit, pipeline.interpolation, pipeline.crop_share],
        "colours": [pipeline.mean, pipeline.std],
        "views": [sample.mask, sample.mask_margin, sample.clinical],
        "computed": [trainer.strategy.root_device.type, str(trainer.precision), batch_size],
        "layout": built.classifier.options.channels_last,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]
