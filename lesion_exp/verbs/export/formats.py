"""The formats: how a file is written and run, which packages it needs, and the facts that describe it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lesion_exp.model.precision import RECORD
from lesion_exp.verbs.export.network import IMAGES, OUTPUT
from lesion_exp.verbs.export.request import ExportRequest

Facts = dict[str, Any]


def facts_of(card: Mapping[str, Any], request: ExportRequest, others: tuple[str, ...], largest_batch: int) -> Facts:
    """Returns the facts about an exported file: classes, inputs and outputs, preprocessing, licence and permitted use.

    Args:
        card: the card of the run's network.
        request: the options of the export.
        others: the inputs beside the images, see `other_inputs`.
        largest_batch: largest number of images in a batch.
    """
    prepared = card["preprocessing"]
    side = prepared["image_size"]
    channels = 4 if prepared["mask"] == "channel" else 3
    images = (
        {"dtype": "uint8", "shape": ["batch", "height", "width", 3], "is": "RGB photographs, upright, of any one size"}
        if request.inside
        else {
            "dtype": "float32",
            "shape": ["batch", channels, side, side],
            "is": "squares as preprocessing says, RGB / 255, less mean, divided by std"
            + (", then the lesion mask (0 or 1) less 0.5, divided by 0.5" if channels == 4 else ""),
        }
    )
    inputs = {IMAGES: images}
    if "clinical" in others:
        inputs["clinical"] = {"dtype": "float32", "shape": ["batch", 3, side, side], "is": "clinical photographs, too"}
    if "metadata" in others:
        inputs["metadata"] = {"dtype": "float32", "shape": ["batch", len(metadata_columns(card))],
                              "is": metadata_columns(card)}  # fmt: skip
    return {
        "classes": card["classes"],
        "class_names": card["class_names"],
        "run_id": card["run_id"],
        "dataset": card["dataset"],
        "licence": card["dataset"]["licence"],
        "use": card["use"],
        "format": request.kind,
        "inputs": inputs,
        "largest_batch": largest_batch,
        "output": {OUTPUT: {"dtype": "float32", "shape": ["batch", len(card["classes"])]}},
        "preprocessing": {**prepared, "where": request.preprocessing},
        "calibration": request.calibration,
        "tta": request.tta,
        "precision": "float32",
        "run_precision": card[RECORD],  # of the run's evaluation; probabilities differ by its rounding
        "version": card["version"],
    }


def metadata_columns(card: Mapping[str, Any]) -> list[str]:
    """Descriptions of the columns of the input `metadata`, in their order."""
    known = card["metadata"]
    sexes, sites = [f"sex is {value}" for value in known["sexes"]], [f"site is {value}" for value in known["sites"]]
    return ["age / 100, else 0", "age unknown", *sexes, "sex unknown", *sites, "site unknown"]


def as_texts(facts: Facts) -> dict[str, str]:
    """Returns the facts as texts by their names; values that are no texts as JSON."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}
