"""Restores a trained network from its job and its checkpoint, without the data that it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor

from lesion_exp.augmentation.pipeline import AugmentationPipeline
from lesion_exp.backbone.class_token import CLASS_TOKEN, give_mean, gives_class_token
from lesion_exp.backbone.weights import own_state
from lesion_exp.config.own_code import warn_of_other_code
from lesion_exp.config.registered import check_registered
from lesion_exp.data.lesion_dataset import Preparation
from lesion_exp.data.lesion_masks import Squash
from lesion_exp.data.loaders import LoaderOptions, PartLoaders
from lesion_exp.data.metadata import MetadataEncoder
from lesion_exp.data.statistics import with_statistics
from lesion_exp.data.store import ImageStore
from lesion_exp.dataset.path_patterns import as_override
from lesion_exp.errors import DataError, first_cases
from lesion_exp.evaluation.predictions import is_unknown
from lesion_exp.image_classifier import ImageClassifier
from lesion_exp.model.checkpoint_file import read_weights
from lesion_exp.model.device import prediction_device
from lesion_exp.model.inputs import sample_options, store_request
from lesion_exp.model.model_card import SQUASHED
from lesion_exp.model.network import (
    classifier_that_predicts,
    make_network,
    merged_node,
    merged_weights,
    prediction_pipeline,
)
from lesion_exp.model.precision import has_gpu, recorded_precision
from lesion_exp.model.prediction import predict_part
from lesion_exp.process.cpu_settings import keep_freed_memory

if TYPE_CHECKING:
    from lesion_exp.tracking.stored_run import Run


@dataclass(frozen=True)
class Restored:
    """A trained network; `config` is that of its job, with the precision in which the run was evaluated."""

    classifier: ImageClassifier
    pipeline: AugmentationPipeline
    encoder: MetadataEncoder | None
    config: Mapping[str, Any]

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in the order of the probabilities."""
        return self.classifier.options.classes

    @property
    def card(self) -> Mapping[str, Any]:
        """The card in its file (see `model_card`)."""
        return self.classifier.options.card

    @property
    def preparation(self) -> Preparation:
        """Prepares image files for the network, with the same result as by way of an image store."""
        request = store_request(self.config)
        squash = self.card.get("preprocessing", {}).get(SQUASHED)
        return Preparation(
            self.pipeline,
            sample_options(self.config),
            request.short_side,
            reduced=request.from_files,
            squash=None if squash is None else Squash.from_dict(squash),
        )

    def data(self, table: pd.DataFrame, store: ImageStore, *, on_gpu: bool = False) -> PartLoaders:
        """Loaders of the parts of a table with a split, whose images are in `store`, for a network on a GPU or a CPU.

        Raises:
            DataError: an image has a label that the network does not know, and is not marked as `is_unknown`.
        """
        others = table.loc[~table["label"].isin(self.classes) & ~is_unknown(table), "label"].value_counts()
        if len(others):
            cases = [f"{label}: {count:,} images" for label, count in others.items()]
            raise DataError(
                f"expected labels among the network's classes {', '.join(self.classes)}, got others:\n"
                f"{first_cases(cases)}\nleave them out with "
                f"{as_override('dataset.filter', f'label in {list(self.classes)}')}"
            )
        return PartLoaders(
            table,
            store,
            self.pipeline,
            self.classes,
            sample_options(self.config),
            LoaderOptions(**self.config["loader"]),
            self.encoder,
            on_gpu=on_gpu,
        )

    def predict(self, rows: pd.DataFrame, store: ImageStore) -> pd.DataFrame:
        """Returns the predictions table of `rows` (of a data set's table), whose images are in `store`.

        Raises:
            DataError: see `data`.
        """
        device = prediction_device(self.config["trainer"])
        loaders = self.data(rows.assign(split="test"), store, on_gpu=device.on_gpu)
        return predict_part(device, self.classifier, loaders, "test")


def restore(config: Mapping[str, Any], checkpoint: Path, run: Run | None = None) -> Restored:
    """Restores the network of the job `config`, weights from `checkpoint`, with the job's test-time augmentation.

    With the `run` that was trained, it warns if the user's own code in `config` has changed since.
    """
    if run is not None:
        warn_of_other_code(run, config)
    # mapped, since only the weights are read: the state of the optimizer is often twice as large
    content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    return _restored(config, content["lesion_exp"], content["state_dict"])


def restore_file(path: Path) -> Restored:
    """Restores the network in a file that `write_weights` wrote; neither run, job nor store is needed.

    Raises:
        DataError: see `read_weights`.
    """
    weights, card = read_weights(path)
    return _restored(card["config"], card, weights)


def _restored(config: Mapping[str, Any], card: Mapping[str, Any], state: Mapping[str, Tensor]) -> Restored:
    check_registered(config)
    trainer = config["trainer"]
    if not has_gpu("cpu" if trainer["accelerator"] == "cpu" else "auto"):  # a run of a GPU, restored without one
        keep_freed_memory()
    config = {**config, "trainer": {**trainer, "precision": recorded_precision(trainer, card)}}
    config["augmentation"] = with_statistics(config["augmentation"], card.get("preprocessing", {}))
    encoder = MetadataEncoder(**card["metadata"]) if card["metadata"] else None
    pipeline = prediction_pipeline(config["augmentation"])
    node = merged_node(config["backbone"])
    network = make_network({**config, "backbone": node}, len(card["classes"]), encoder, is_trained=True)
    if gives_class_token(config["backbone"]) and not card.get(CLASS_TOKEN):  # trained by an earlier version
        give_mean(network)
    network.load_state_dict(own_state(merged_weights(state, config["backbone"])) or {})
    classifier = classifier_that_predicts(config, network, pipeline, card)
    return Restored(classifier, pipeline, encoder, config)
