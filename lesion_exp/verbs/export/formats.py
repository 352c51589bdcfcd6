"""The formats: how a file is written and run, which packages it needs, and the facts that describe it."""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from lesion_exp.errors import not_installed
from lesion_exp.model.precision import RECORD
from lesion_exp.verbs.export.network import IMAGES, OUTPUT
from lesion_exp.verbs.export.request import ExportRequest


@dataclass(frozen=True)
class Format:
    """How a network is written to a file, and how the file is run."""

    file: str
    """Name of the file."""
    write_target: str
    """`module:function`, imported when needed; so is `open_target`."""
    open_target: str
    packages: tuple[str, ...] = ()
    extra: str = ""
    """The extra of this project that installs the packages."""
    largest_batch: int = 1024
    """Largest number of images in a batch."""

    @property
    def write(self) -> Callable[..., None]:
        """The function that writes a file: (network, examples, path, facts), and batches for int8."""
        return _function(self.write_target)

    @property
    def open(self) -> Callable[..., Any]:
        """The function that opens the file at a path; it returns a `Runner`."""
        return _function(self.open_target)

    def check_installed(self) -> None:
        """Checks that the packages are installed.

        Raises:
            ConfigError: a package is missing.
        """
        for package in self.packages:
            if importlib.util.find_spec(package) is None:
                raise not_installed(f"lesion-exp[{self.extra}]", f"format {self.file} ({package})")


_ONNX: Final = ("onnx", "onnxscript", "onnxruntime")

FORMATS: Final = {
    "onnx": Format("model.onnx", "onnx_file:write_onnx", "onnx_file:open_onnx", _ONNX, "export"),
    "onnx_int8": Format("model_int8.onnx", "onnx_file:write_int8", "onnx_file:open_onnx", _ONNX, "export"),
    "torch_export": Format("model.pt2", "program:write_program", "program:open_program"),
    "torchscript": Format("model.torchscript.pt", "program:write_torchscript", "program:open_torchscript"),
    "executorch": Format(
        "model.pte", "executorch_file:write_executorch", "executorch_file:open_executorch", ("executorch",),
        "executorch", 15,
    ),
}  # fmt: skip


def _function(target: str) -> Callable[..., Any]:
    module, _, name = target.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(f"lesion_exp.verbs.export.{module}"), name)
    return found


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
