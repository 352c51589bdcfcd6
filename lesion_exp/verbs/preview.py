"""The verb `preview`: a grid of augmented images as the network will see them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lesion_exp.augmentation.grid import preview_grid
from lesion_exp.config.freeze import Job
from lesion_exp.data.datamodule import LesionDataModule
from lesion_exp.dataset.display_name import display_name
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.run_writer import save_figure
from lesion_exp.training.build import build
from lesion_exp.training.data import load_data, split_data
from lesion_exp.training.run_context import RunContext
from lesion_exp.training.tracked import open_job_store, start_run

ROWS = 6
DRAWS = 6


@dataclass(frozen=True)
class Preview:
    """Where the picture lies, and the run that holds it."""

    path: Path
    run_id: str


def preview(job: Job) -> Preview:
    """Draws the grid of `job`'s augmentation, saves it in the data cache and logs it to MLflow.

    Raises:
        UserError: a data set, split or augmentation that cannot be used.
    """
    config = job.config
    split = split_data(config, load_data(config))
    datamodule = build(config, split).datamodule
    figure = augmentation_grid(datamodule)
    with start_run(
        open_job_store(config),
        job,
        split,
        kind="preview",
        link=RunContext(name=f"preview {display_name(config['dataset'])}"),
    ) as run:
        path = Path(config["paths"]["data_cache"]) / "previews" / f"{run.run_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_figure(figure, path, run.footer("training part"))
        if config["tracking"]["log_images"]:
            run.log_file(path, artifacts.PREVIEW_FIGURE)
    print(f"preview: {path}", file=sys.stderr)
    return Preview(path, run.run_id)


def augmentation_grid(datamodule: LesionDataModule) -> Figure:
    """Images of the training part, one a class as far as they go, each as stored and as drawn six times."""
    rows = datamodule.parts["train"]
    chosen = rows.groupby("label").head(max(1, ROWS // rows["label"].nunique())).index[:ROWS]
    plain, training = datamodule.dataset("train"), datamodule.dataset("train", training=True)

    def picture(dataset: Any, epoch: int, position: int) -> Any:
        return np.ascontiguousarray(dataset[(epoch, position)]["image"][:3].permute(1, 2, 0).numpy())

    originals = [picture(plain, 0, position) for position in chosen]
    augmented = [[picture(training, epoch, position) for epoch in range(DRAWS)] for position in chosen]
    titles = [f"{rows.loc[position, 'label']}  {rows.loc[position, 'image_id']}" for position in chosen]
    return preview_grid(originals, augmented, titles)
