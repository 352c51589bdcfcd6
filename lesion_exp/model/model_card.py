"""The card in the file of a network, which makes it usable alone: classes, preprocessing, calibration, job."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from lesion_exp.backbone.class_token import CLASS_TOKEN, gives_class_token
from lesion_exp.backbone.preprocessing import IMAGENET
from lesion_exp.data.lesion_masks import Squash
from lesion_exp.data.metadata import MetadataEncoder
from lesion_exp.data.statistics import with_statistics
from lesion_exp.dataset.table import DatasetInfo
from lesion_exp.evaluation.calibrator import Calibrator
from lesion_exp.model.inputs import SAMPLE_KEYS, store_request
from lesion_exp.model.precision import RECORD, resolve_precision
from lesion_exp.taxonomy import RESEARCH_ONLY, full_names
from lesion_exp.version import __version__

Card = dict[str, Any]
"""Plain values only, so that torch reads it with `weights_only` and JSON holds it."""
SQUASHED: Final = "squashed_copies"
"""Key in the preprocessing of a card: the sizes of images and masks, width and height in pixels, if each mask of these
sizes is stretched to its image."""

_NODES: Final = (
    "seed", "image_size", "task", "backbone", "augmentation", "sampler", "loss", "optimizer", "scheduler", "trainer",
    "evaluation", "loader",
)  # fmt: skip
"""Keys of a job from which its network can be built again; none of them contains a path."""


def model_card(
    config: Mapping[str, Any],
    classes: tuple[str, ...],
    encoder: MetadataEncoder | None,
    info: DatasetInfo | None,
    squash: Squash | None = None,
) -> Card:
    """Returns the card of a network that the job `config` trains.

    Its run and calibration are added later by `completed`. `squash` are the sizes of the images and masks of its data
    if the images are squashed copies.
    """
    return {
        "version": __version__,
        "run_id": None,
        "classes": list(classes),
        "class_names": full_names(classes),
        "image_size": int(config["image_size"]),
        "preprocessing": preprocessing(config) | ({} if squash is None else {SQUASHED: squash.to_dict()}),
        "pretrained": pretrained(config["backbone"]),
        CLASS_TOKEN: gives_class_token(config["backbone"]),
        "teacher": teacher(config["loss"]),
        "metadata": encoder.to_dict() if encoder else None,
        "dataset": {"name": config["dataset"]["name"], "licence": info.licence if info else "not stated"},
        "tta": config["evaluation"]["tta"],
        RECORD: resolve_precision(config["trainer"]["precision"], config["trainer"]["accelerator"]),
        "calibration": {},
        "use": RESEARCH_ONLY,
        "config": _portable(config),
    }


def preprocessing(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the steps from a decoded image to the input of the network, in this order, as plain values."""
    node, augmentation = config["dataset"], config["augmentation"]
    steps = augmentation.get("preprocess") or {}
    return {
        "input": "uint8 RGB, upright by its EXIF orientation",
        "short_side": store_request(config).short_side,  # pixels; a larger image is first averaged down to it
        "steps": [name for name, step in steps.items() if step is not None],
        "fit": augmentation["fit"],
        "image_size": int(config["image_size"]),
        "interpolation": augmentation.get("interpolation", IMAGENET.interpolation),
        "crop_share": float(augmentation.get("crop_share", IMAGENET.crop_share)),  # of the sides of the frame of fit
        "mean": [float(value) for value in augmentation["mean"]],  # of each channel, shares of 255
        "std": [float(value) for value in augmentation["std"]],
        "mask": node["mask"],
        "mask_margin": float(node["mask_margin"]),
        "view": node["view"],
    }


def pretrained(node: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the weights that training began with, by the name of their file, and what they were trained with.

    `node` is the key `backbone` of a job. Returns None if the weights were random.
    """
    weights = str(node.get("weights", "none"))
    if weights == "none":
        return None
    named = Path(weights).name if Path(weights).is_absolute() else weights
    return {"weights": named, "licence": node.get("licence"), "preprocessing": node.get("preprocessing")}


def teacher(node: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the run from whose probabilities the network learned, and the hash of its weights.

    `node` is the key `loss` of a job. Returns None if the network learned from labels alone.
    """
    if not node.get("teacher_weights"):
        return None
    return {"run_id": node["teacher"], "weights": node["teacher_weights"], "temperature": node.get("temperature")}


def completed(
    card: Mapping[str, Any],
    config: Mapping[str, Any],
    run_id: str,
    calibrators: Mapping[str, Calibrator],
    precision: str | None = None,
) -> Card:
    """Returns the card of a finished run: with its id, the models that were fitted on its validation part, and the
    `precision` in which it was evaluated (None leaves the one that the card names).

    What a card of an older version lacks is taken from the job `config`, except that its network gives no class token.
    """
    classes = tuple(card["classes"])
    encoder = MetadataEncoder(**card["metadata"]) if card["metadata"] else None
    config = {**config, "augmentation": with_statistics(config["augmentation"], card.get("preprocessing", {}))}
    fresh = model_card(config, classes, encoder, None)
    kept = {key: value for key, value in card.items() if key in fresh}
    fitted = {method: found.to_dict() for method, found in calibrators.items()}
    known = {} if precision is None else {RECORD: precision}
    return {**fresh, CLASS_TOKEN: False, **kept, **known, "run_id": run_id, "calibration": fitted}


def _portable(config: Mapping[str, Any]) -> dict[str, Any]:
    nodes = {key: config[key] for key in _NODES}
    nodes["backbone"] = {key: "none" if key == "weights" else value for key, value in config["backbone"].items()}
    nodes["dataset"] = {key: config["dataset"][key] for key in sorted({"name", *SAMPLE_KEYS})}
    return nodes
