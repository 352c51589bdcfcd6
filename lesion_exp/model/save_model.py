"""Saves the best network of a finished run: the checkpoint, plain weights, and a model that MLflow can serve."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from lesion_exp.backbone.backbone import Backbone
from lesion_exp.backbone.weights import own_state
from lesion_exp.evaluation.calibrator import Calibrator
from lesion_exp.model.checkpoint_file import portable, read_checkpoint, write_weights
from lesion_exp.model.mlflow_model import DESCRIPTION, MODEL, WEIGHTS, write_mlflow_model
from lesion_exp.model.model_card import Card, completed
from lesion_exp.model.network import merged_weights
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.run_writer import RunWriter

BEST: Final = artifacts.checkpoint()
SAFETENSORS: Final = f"checkpoints/{WEIGHTS}"
STATE_DICT: Final = artifacts.checkpoint("best", ".state_dict.pt")

Content = dict[str, Any]


def keep_checkpoint(
    run: RunWriter,
    checkpoint: Path,
    config: Mapping[str, Any],
    calibrators: Mapping[str, Calibrator],
    precision: str | None = None,
) -> Content:
    """Saves the best checkpoint, with the run's id and calibration in its card, and returns its content.

    What LoRA trained is merged into its weights.

    `precision` is that in which the run was evaluated; None leaves the one in the card.
    """
    content = portable(read_checkpoint(checkpoint))
    content["state_dict"] = merged_weights(content["state_dict"], config["backbone"])
    content["lesion_exp"] = completed(content["lesion_exp"], config, run.run_id, calibrators, precision)
    with run.new_file(BEST) as path:
        torch.save(content, path)
    return content


def keep_model(run: RunWriter, backbone: Backbone, content: Content) -> None:
    """Saves the weights of the checkpoint `content`, of a network such as `backbone`, in three further formats.

    They are safetensors, a plain state_dict and an MLflow model. The names in the state_dict are those of the library
    that the network comes from, unless layers were added to it.
    """
    card: Card = content["lesion_exp"]
    weights = own_state(content["state_dict"])
    assert weights is not None, "a checkpoint holds a backbone"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / WEIGHTS
        write_weights(path, {f"backbone.{name}": tensor for name, tensor in weights.items()}, card)
        run.log_file(path, SAFETENSORS)
        names = backbone.library_names()
        plain = {
            f"backbone.{name}" if names is None else names[name]: tensor.detach().cpu().contiguous()
            for name, tensor in weights.items()
        }
        torch.save(plain, Path(folder) / "plain.pt")
        run.log_file(Path(folder) / "plain.pt", STATE_DICT)
        described = Path(folder) / MODEL
        write_mlflow_model(described, card)
        run.log_again(path, SAFETENSORS, f"{MODEL}/{WEIGHTS}")
        files = [file for file in described.rglob("*") if file.is_file()]
        for file in sorted(files, key=lambda file: (file.name == DESCRIPTION, file)):
            run.log_file(file, f"{MODEL}/{file.relative_to(described).as_posix()}")
