"""Logs the inputs of a run, its galleries of right and wrong predictions, and its description."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import torch

from lesion_exp.config.own_code import code_digests
from lesion_exp.data.datamodule import LesionDataModule, stack_images
from lesion_exp.data.loaders import Part
from lesion_exp.dataset.display_name import display_name
from lesion_exp.dataset.pseudo_labels import without_pseudo
from lesion_exp.dataset.table import DatasetInfo
from lesion_exp.evaluation.failures import surest_right, surest_wrong
from lesion_exp.evaluation.figures.class_distribution import class_distribution
from lesion_exp.evaluation.figures.gallery import PNG_LEVEL, gallery
from lesion_exp.evaluation.figures.style import labels
from lesion_exp.evaluation.predictions import classes_of, is_unknown, known_rows, probabilities
from lesion_exp.sampler.sampler import order_of_epoch
from lesion_exp.scheduler.schedule import ENDLESS
from lesion_exp.split import PARTS
from lesion_exp.split.manifest import characteristics, manifest
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.environment import environment, source_state
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.tracking.run_description import artifact_link, description
from lesion_exp.training.data import SplitData, published_differences

BATCH_PICTURE = 24
GALLERY = 16
_TITLE = 17
"""Longest line above an image of the gallery, letters; an arrow and a space may come before it."""
_FOLDER = re.compile(r"(?:[A-Za-z]:)?[^\s'\"]*[/\\](?=\S)")
"""The folders before the name of a file in a text."""


def log_inputs(
    run: TrackedRun,
    config: Mapping[str, Any],
    split: SplitData,
    datamodule: LesionDataModule,
    own_code: Mapping[str, str],
) -> None:
    """Logs the inputs of a run: split, audit, data flow, class counts, environment, and a batch of images.

    `own_code` has the digests of the user's code in all states, if the training of another run goes on.
    """
    loaded = split.loaded
    run.log_table(manifest(split.table, split.split_hash), artifacts.MANIFEST)
    run.log_json(split.audit.to_dict(), artifacts.AUDIT)
    flow = {
        "identity": None if loaded.info is None else identity(loaded.info),
        "steps": [asdict(step) for step in loaded.flow.steps],
        "left_out": [
            {"image_id": image_id, "reason": reason if config["tracking"]["log_images"] else _FOLDER.sub("", reason)}
            for image_id, reason in loaded.flow.left_out
        ],
        "findings": [asdict(each) for each in loaded.flow.findings],
        "differs_from_published": published_differences(loaded),
    }
    run.log_json(flow, artifacts.FLOW)
    run.log_json(characteristics(without_pseudo(split.table)), artifacts.CHARACTERISTICS)
    run.log_figure(class_distribution(without_pseudo(split.table)), artifacts.CLASSES_FIGURE, "all parts")
    if config["tracking"]["log_images"]:
        rows = datamodule.parts["train"]
        order = order_of_epoch(datamodule.sampler, rows, np.random.default_rng([config["seed"], 0]))[:BATCH_PICTURE]
        dataset = datamodule.dataset("train", training=True)
        names = rows["label"].iloc[order].astype(str)
        kinds = sorted(set(names))
        titles = names.map(dict(zip(kinds, labels(kinds, _TITLE, 2), strict=True))).tolist()
        footer = run.footer("training part, augmented")
        with run.new_file(artifacts.BATCH_FIGURE) as path:
            gallery(stack_images(dataset, order), titles, footer).save(path, compress_level=PNG_LEVEL)
    contexts = {"train": "training", "val": "validation", "test": "testing"}
    columns = ["image_id", "label", "lesion_id", "age", "sex", "site", "source"]
    for part, context in contexts.items():
        counts = split.audit.parts[part]["counts"]
        rows = split.table[split.table["split"] == part]
        if rows.empty:
            continue
        run.log_dataset(
            rows[columns],
            f"{display_name(config['dataset'])} {part}",
            fingerprint=f"{loaded.fingerprint}{split.split_hash}",
            source=loaded.info.where if loaded.info else display_name(config["dataset"]),
            context=context,  # type: ignore[arg-type]
            profile=counts,
        )
    for name, text in environment(source_state(), torch.get_num_threads(), own_code or code_digests(config)).items():
        run.log_text(text, artifacts.environment(name))


def identity(info: DatasetInfo) -> dict[str, str]:
    """Title, citation, licence and address of a data set, and what its photographs are, if that is known."""
    known = {"title": info.title, "citation": info.citation, "licence": info.licence, "where": info.where}
    return known if info.view is None else known | {"view": info.view}


def log_gallery(run: TrackedRun, part: Part, table: pd.DataFrame, datamodule: LesionDataModule) -> None:
    """Logs pictures of the most confident right and wrong predictions of `part`; `table` has all its predictions.

    Images of unknown classes are neither right nor wrong. Each lesion is shown once.
    """
    probs, known = probabilities(table).max(axis=1), np.flatnonzero(~is_unknown(table))
    closed = known_rows(table)
    footer = run.footer(f"{PARTS[part]} part")
    classes = classes_of(table)
    short = dict(zip(classes, labels(classes, _TITLE, 2), strict=True))
    for name, chosen in (
        ("right", surest_right(closed, GALLERY, once_a_lesion=True)),
        ("wrong", surest_wrong(closed, GALLERY, once_a_lesion=True)),
    ):
        rows = known[chosen]
        if len(rows):
            shown = table.iloc[rows]
            words = shown["label"].map(short)
            if name == "wrong":
                words += "\n→ " + shown["prediction"].map(short)
            titles = [f"{text}\n{prob:.2f}" for text, prob in zip(words, probs[rows], strict=True)]
            with run.new_file(f"gallery/{name}_{part}.png") as path:
                gallery(stack_images(datamodule.dataset(part), rows), titles, footer).save(
                    path, compress_level=PNG_LEVEL
                )


def describe_run(
    run: TrackedRun,
    config: Mapping[str, Any],
    split: SplitData,
    choices: Mapping[str, str],
    metrics: Mapping[str, float],
    part: Part,
) -> dict[str, str]:
    """Returns the tag with the description that MLflow's page shows, with a link to the confusion matrix of `part`."""
    trainer = config["trainer"]
    title = (
        f"{choices['backbone']} on {choices['dataset']} ({config['task']['target']}), {config['image_size']} px, "
        f"{end_in_words(trainer)}, split {choices['split']}, seed {config['seed']}"
    )
    counts = {
        part: {key: int(numbers[key]) for key in ("images", "lesions")} for part, numbers in split.audit.parts.items()
    }
    warnings = ["LEAKY: parts of the training data reappear in validation or test"] if split.leaky else []
    name = f"Confusion matrix of the {PARTS[part]} part"
    link = artifact_link(name, run.experiment_id, run.run_id, artifacts.confusion_matrix(part, ".png"))
    return description(title, counts, metrics, [*warnings, *split.audit.warnings], [link])


def end_in_words(trainer: Mapping[str, Any]) -> str:
    """Returns the limits of the training in words: epochs, and the steps or the time that may end it earlier."""
    epochs, steps, time = (trainer.get(key) for key in ("max_epochs", "max_steps", "max_time"))
    ends = [] if epochs in (None, ENDLESS) else ["1 epoch" if epochs == 1 else f"{epochs} epochs"]
    ends += [] if steps in (None, ENDLESS) else [f"at most {steps} steps"]
    ends += [] if time is None else [f"at most {time} (DD:HH:MM:SS)"]
    return ", ".join(ends) or "trained until early stopping"
