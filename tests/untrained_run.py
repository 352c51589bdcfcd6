"""A finished run of a network that was never trained, in seconds: its job, its checkpoint, its calibration."""

import numpy as np
import pandas as pd
import torch

from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze
from lesion_exp.config.instantiate import instantiate
from lesion_exp.config.project import Project
from lesion_exp.data.metadata import MetadataEncoder
from lesion_exp.evaluation.posthoc import fit_on_validation
from lesion_exp.evaluation.predictions import predictions_table
from lesion_exp.model.classifier import make_classifier
from lesion_exp.model.network import make_network
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.training.part_evaluation import log_posthoc_models
from tests.tiny import TINY

CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")


def untrained_run(root, *overrides, encoder=None, name="untrained"):
    """The run, as a version before there were models kept it, in the store of the project `root`."""
    job = freeze(compose([*TINY, "backbone=small_cnn", "augmentation=none", *overrides], root=root))
    config = job.config
    torch.manual_seed(config["seed"])
    card = {"classes": list(CLASSES), "metadata": encoder.to_dict() if encoder else None}
    network = make_network(config, len(CLASSES), encoder)
    pipeline = instantiate(config["augmentation"], "augmentation")
    classifier = make_classifier(config, network, pipeline, card, [1] * len(CLASSES)).eval()
    store = Project.from_config(config).store
    with TrackedRun.start(store, "study", name, params=config, system_metrics_seconds=0) as run:
        with run.new_file("config/job.yaml") as path:
            job.write(path)
        with run.new_file("checkpoints/best.ckpt") as path:
            torch.save({"state_dict": classifier.state_dict(), "lesion_exp": card}, path)
        log_posthoc_models(run, fit_on_validation(validation_table()))
    return find_run(store, run.run_id), config


def encoder():
    """Of a network that reads metadata."""
    return MetadataEncoder(("female", "male"), ("back", "face"))


def validation_table(seed=0):
    """Predictions of a validation part with 20 images of each class, most of them right."""
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame({"image_id": [str(number) for number in range(140)], "label": list(CLASSES) * 20})
    logits = rng.normal(size=(len(rows), len(CLASSES))) + 2 * np.eye(len(CLASSES))[np.arange(len(rows)) % len(CLASSES)]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    ids = dict.fromkeys(("row_id", "lesion_id", "patient_id"), rows["image_id"])
    rows = rows.assign(**ids, age=50.0, sex="female", site="back", source="none")
    return predictions_table(rows, probs.astype(np.float32), CLASSES)
