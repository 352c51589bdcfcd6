"""The verb `preview`: a grid of augmented images as the network will see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from matplotlib.figure import Figure

from lesion_exp.config.freeze import Job
from lesion_exp.config.project import Project
from lesion_exp.data.cache_names import PREVIEWS
from lesion_exp.data.datamodule import LesionDataModule, stack_images
from lesion_exp.dataset.display_name import display_name
from lesion_exp.image_file import UInt8Array
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.run_writer import save_figure
from lesion_exp.training.build import build
from lesion_exp.training.data import load_data, split_data
from lesion_exp.training.run_context import RunContext
from lesion_exp.training.tracked import start_run

ROWS: Final = 6
"""Images in the grid."""
DRAWS: Final = 6
"""Augmented versions of each image."""


def preview_grid(
    images: Sequence[UInt8Array],
    augmented: Sequence[Sequence[UInt8Array]],
    titles: Sequence[str],
) -> Figure:
    """Returns a figure with a row for each image: the original, then its augmented versions.

    Args:
        images: originals, uint8 (H, W, 3) RGB, of any size.
        augmented: the augmented versions of each original, uint8 (S, S, 3); the same number for each.
        titles: a short name for each row, such as the class.
    """
    assert images, "no image to show"
    assert len(images) == len(augmented) == len(titles), "a list of draws and a title for each image"
    num_draws = len(augmented[0])
    assert all(len(draws) == num_draws for draws in augmented), "the same number of draws for each image"
    tile = 1.55  # inches
    top = 0.36  # inches
    width, height = tile * (num_draws + 1.45) + 0.3, tile * len(images) + top + 0.05
    figure = Figure(figsize=(width, height), dpi=120, facecolor="white")
    cells = figure.subplots(
        len(images),
        num_draws + 1,
        squeeze=False,
        gridspec_kw={
            "width_ratios": [1.4, *[1.0] * num_draws],
            "wspace": 0.04,
            "hspace": 0.04,
            "left": 0.3 / width,
            "right": 1 - 0.05 / width,
            "top": 1 - top / height,
            "bottom": 0.05 / height,
        },
    )
    for row, (original, draws, title) in enumerate(zip(images, augmented, titles, strict=True)):
        for column, pixels in enumerate([original, *draws]):
            axes = cells[row, column]
            axes.imshow(pixels, interpolation="lanczos" if max(pixels.shape) > 300 else "bilinear")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        cells[row, 0].set_ylabel(title, fontsize=9, color="#333333", parse_math=False)
    heads = ["original", *[f"draw {number}" for number in range(1, num_draws + 1)]]
    for axes, head in zip(cells[0], heads, strict=True):
        axes.set_title(head, fontsize=8, color="#777777", pad=4)
    return figure


@dataclass(frozen=True)
class Preview:
    """The file of the picture, and the run that stores it."""

    path: Path
    run_id: str


def preview(job: Job) -> Preview:
    """Draws the augmented images of `job`, saves the picture in the data cache and logs it to MLflow.

    Raises:
        UserError: a data set, split or augmentation that cannot be used.
    """
    config = job.config
    split = split_data(config, load_data(config))
    datamodule = build(config, split).datamodule
    figure = augmentation_grid(datamodule)
    with start_run(
        Project.from_config(config).store,
        job,
        split,
        kind="preview",
        context=RunContext(name=f"preview {display_name(config['dataset'])}"),
    ) as run:
        path = Project.from_config(config).data_cache / PREVIEWS / f"{run.run_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_figure(figure, path, run.footer("training part"))
        if config["tracking"]["log_images"]:
            run.log_file(path, artifacts.PREVIEW_FIGURE)
    return Preview(path, run.run_id)


def augmentation_grid(datamodule: LesionDataModule) -> Figure:
    """Returns a figure with `ROWS` training images, of as many classes as fit: each as it is and augmented."""
    rows = datamodule.parts["train"]
    chosen = rows.groupby("label").head(max(1, ROWS // rows["label"].nunique())).index[:ROWS].to_numpy()
    plain, training = datamodule.dataset("train"), datamodule.dataset("train", training=True)

    originals = list(stack_images(plain, chosen))
    draws = [stack_images(training, chosen, epoch) for epoch in range(DRAWS)]
    augmented = [[images[row] for images in draws] for row in range(len(chosen))]
    titles = [f"{rows.loc[position, 'label']}  {rows.loc[position, 'image_id']}" for position in chosen]
    return preview_grid(originals, augmented, titles)
