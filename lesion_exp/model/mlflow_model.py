"""Writes a network as an MLflow model, a folder that `mlflow.pyfunc.load_model` and `mlflow models serve` read."""

from __future__ import annotations

import importlib.metadata
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
import yaml
from PIL import Image

from lesion_exp.evaluation.calibrator import DEFAULT_CALIBRATION
from lesion_exp.evaluation.predictions import PREFIX
from lesion_exp.model.model_card import Card
from lesion_exp.model.precision import RECORD
from lesion_exp.tracking.stored_run import Run, artifact_names
from lesion_exp.version import __version__

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

WEIGHTS: Final = "best.safetensors"
"""The file of the folder that contains the network and its card."""
MODEL: Final = "model"
"""The folder of a run's artifacts that `runs:/ID/model` names."""
DESCRIPTION: Final = "MLmodel"
"""The file by which MLflow recognises a model; it names the other files and is written last."""
LOADER: Final = "lesion_exp.model.mlflow_loader"
"""The module that MLflow imports, to call its `_load_pyfunc`: the folder itself contains no code."""
_PINNED: Final = (
    "torch", "torchvision", "pytorch-lightning", "albumentations", "opencv-python-headless", "pillow", "numpy",
    "pandas", "safetensors",
)  # fmt: skip
"""Packages whose version may change the probabilities."""
_EXAMPLE_COLOUR: Final = (200, 160, 140)


def write_mlflow_model(folder: Path, card: Card) -> None:
    """Writes the files of the folder other than the weights: signature, input example, requirements.

    The network is not loaded for it. The input example is a generated image, not one of a patient.
    """
    import mlflow.pyfunc
    from mlflow.models import Model

    mlflow.pyfunc.save_model(
        path=str(folder),
        loader_module=LOADER,
        mlflow_model=Model(artifact_path="model", run_id=card["run_id"]),
        signature=signature(card),
        input_example=_example(card),
        pip_requirements=_requirements(),
        metadata={
            **{key: card[key] for key in ("run_id", "classes", "class_names", "dataset", "use", "tta", RECORD)},
            "calibration": DEFAULT_CALIBRATION,
            "calibrations": sorted(card["calibration"]),
        },
    )


def parts_of_model(description: str) -> set[str]:
    """Returns the files of a model, read from the text of its file `MLmodel`."""
    content = yaml.safe_load(description)
    flavor = content["flavors"]["python_function"]
    example = content.get("saved_input_example_info") or {}
    named = [*(flavor.get("env") or {}).values(), example.get("artifact_path"), example.get("serving_input_path")]
    return {DESCRIPTION, WEIGHTS, "requirements.txt", *filter(None, named)}


def has_model(run: Run) -> bool:
    """Returns whether `run` has an MLflow model with all of its files.

    A model can be incomplete if the process that saved it was killed.
    """
    described = run.fetch(f"{MODEL}/{DESCRIPTION}")
    if described is None:
        return False
    wanted = {f"{MODEL}/{name}" for name in parts_of_model(described.read_text(encoding="utf-8"))}
    return wanted <= artifact_names(run)


def signature(card: Card) -> ModelSignature:
    """MLflow's signature of a network.
    The input is a table with `image` (a path) or `content` (an encoded file) and further columns, the output a table.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    inputs: list[Any] = [ColSpec("string", "image", required=False), ColSpec("binary", "content", required=False)]
    inputs += [ColSpec(kind, name, required=True) for name, kind in _companions(card).items()]
    outputs: list[Any] = [ColSpec("string", "image"), ColSpec("string", "prediction", required=False)]
    outputs += [ColSpec("float", f"{PREFIX}{name}", required=False) for name in card["classes"]]
    outputs += [ColSpec("string", "error", required=False)]
    params = [ParamSpec("calibration", "string", DEFAULT_CALIBRATION), ParamSpec("top", "long", 0)]
    return ModelSignature(Schema(inputs), Schema(outputs), ParamSchema(params))


def _companions(card: Card) -> dict[str, str]:
    """The columns that the network needs in addition to the image, with the MLflow type of each."""
    prepared = card["preprocessing"]
    columns = {"age": "double", "sex": "string", "site": "string"} if card["metadata"] else {}
    columns |= {"mask_path": "string"} if prepared["mask"] != "none" else {}
    return columns | ({"clinical_path": "string"} if prepared["view"] == "both" else {})


def _example(card: Card) -> pd.DataFrame:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), _EXAMPLE_COLOUR).save(buffer, "png")
    pictures = {"mask_path", "clinical_path"} & _companions(card).keys()
    row: dict[str, Any] = dict.fromkeys(sorted(pictures), "example.png")
    row |= {"image": "example.png"} if pictures else {"content": buffer.getvalue()}
    if card["metadata"]:
        row |= {"age": 50.0, "sex": "unknown", "site": "unknown"}
    return pd.DataFrame([row])


def _requirements() -> list[str]:
    return [f"lesion-exp=={__version__}", *(f"{name}=={importlib.metadata.version(name)}" for name in _PINNED)]
