"""The options of `predict`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lesion_exp.choices import (
    ACCELERATORS,
    ANY_CALIBRATION,
    CHALLENGES,
    NONE,
    PRECISIONS,
    RANKINGS,
    RULES,
    TTA,
    WEIGHTS,
)
from lesion_exp.dataset.display_name import display_name
from lesion_exp.errors import ConfigError
from lesion_exp.option import (
    REQUIRED,
    Devices,
    Kind,
    NamePairs,
    Number,
    Thresholds,
    Truth,
    check_options,
    choice,
    file,
    folder,
    option,
    whole,
)

if TYPE_CHECKING:
    from lesion_exp.trained_runs.trained_run import WhichWeights

IMAGE_COLUMNS: Final = ("image_path", "image", "image_id")
PICTURES: Final = ("mask_path", "clinical_path")
METADATA: Final = ("age", "sex", "site")
IDS: Final = ("lesion_id", "patient_id")
MAPPABLE: Final = (*IMAGE_COLUMNS, *PICTURES, *METADATA, *IDS)
"""Columns of a csv of images that may have other names, see `columns`."""
OUTPUT_ENDINGS: Final = (".csv", ".parquet")
NO_IMAGES: Final = "expected input=, or dataset=NAME for a data set, got none; for example input=FOLDER"


@dataclass(frozen=True)
class PredictionRequest:
    """Which images are predicted, and how."""

    output: Path = option(
        REQUIRED,
        file("predictions.csv", *OUTPUT_ENDINGS),
        "file to write, .csv or .parquet, with the columns image, prediction, p_<class> and error",
    )
    source: str | None = option(
        None,
        Kind("PATH", "FOLDER", "a path or a pattern"),
        "an image, a folder with its subfolders, 'a pattern', a zip, or a csv with the column image_path",
        key="input",
    )
    calibration: str = option(
        NONE,
        choice(ANY_CALIBRATION),
        "a calibration fitted on the validation part; none gives the probabilities of the run's tables",
    )
    tta: str | None = option(None, choice(TTA), "test-time augmentation; without it, as the run was evaluated")
    top: int | None = option(None, whole(example="3"), "add the columns top1 to topN with the likeliest classes")
    heat_maps: Path | None = option(
        None,
        folder("maps"),
        "folder for pictures with the Grad-CAM map of each prediction; the column gradcam names the picture",
        key="gradcam",
    )
    features: Path | None = option(
        None,
        file("features.npz", ".npz", ".parquet"),
        "also write the features before the head, and the logits, of each image",
        key="output_features",
    )
    thresholds: Mapping[str, float | str] = option(
        {},
        Thresholds("'{CLASS: P}'", "'{mel: 0.3}'", rules=RULES, by_class=True),
        "predict these classes from these probabilities on, and else the likeliest of the others; a rule in place of a "
        "probability is the threshold that the run's evaluation found by it on validation",
    )
    rank: str | None = option(
        None, choice(RANKINGS), "how the images to label next are chosen; they are written into FILE_to_label.csv"
    )
    count: int = option(100, whole(example="50"), "with rank=: number of images to label")
    pseudo_labels: Path | None = option(
        None,
        file("pseudo.csv", ".csv", ".parquet"),
        "also write the sure predictions as labels, for dataset.pseudo_labels= of another run",
    )
    threshold: float | Mapping[str, float] | None = option(
        None,
        Thresholds(),
        "with pseudo_labels=: smallest probability of a label, for all classes or by class, such as '{mel: 0.95}', "
        "where others get none; without it, 0.9",
    )
    target_precision: float | None = option(
        None,
        Number(example="0.95", most=1, above=True),
        "with pseudo_labels=, instead of threshold=: for each class the smallest probability from which on this share "
        "of the run's validation images is right",
    )
    challenge: str | None = option(
        None,
        choice(CHALLENGES),
        "also write FILE_NAME.csv beside the output: a submission to this ISIC challenge",
        key="format",
    )
    columns: Mapping[str, str] = option(
        {},
        NamePairs(example="'{image_path: file, site: localization}'"),
        f"names of the columns in the csv, for any of {', '.join(MAPPABLE)}",
    )
    checkpoint: WhichWeights = option("best", choice(WEIGHTS, path_too=True), "which of the run's weights")
    force: bool = option(False, Truth(), "start over, and replace an existing output")
    num_workers: int | str = option(
        "auto", whole(0, words=("auto",)), "number of processes that decode images", key="loader.num_workers"
    )
    batch_size: int | None = option(
        None, whole(), "images in a batch; without it, as the run was evaluated", key="loader.batch_size"
    )
    devices: int | list[int] | str | None = option(
        None, Devices(), "number of devices, a list of their indices, or auto; without it, one", key="trainer.devices"
    )
    accelerator: str | None = option(
        None,
        choice(ACCELERATORS),
        "device of the network; without it, a GPU if there is one, unless the run was trained with cpu",
        key="trainer.accelerator",
    )
    precision: str | None = option(
        None,
        choice(PRECISIONS),
        "precision of the network; without it, as the run was evaluated",
        key="trainer.precision",
    )
    dataset: Mapping[str, Any] | None = None
    """The node `dataset` of the data set whose images are predicted, in place of `source`."""
    view: str | None = None
    """The `dataset.view` that the user set for `dataset`; None shows the photographs as `view_elsewhere` says."""

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ConfigError: an option does not accept its value, two options contradict each other, or there are no images.
        """
        check_options(self)
        if self.source is None and self.dataset is None:
            raise ConfigError(NO_IMAGES)
        if self.dataset is not None and (self.source is not None or self.columns):
            key = "columns" if self.source is None else "input"
            raise ConfigError(f"expected input= or dataset=, got {key}= beside dataset=; leave one out")
        if self.calibration != NONE:
            from lesion_exp.trained_runs.trained_run import check_calibration  # heavy

            check_calibration(self.calibration, self.checkpoint)
        if self.pseudo_labels is None and (self.threshold is not None or self.target_precision is not None):
            key = "threshold" if self.threshold is not None else "target_precision"
            raise ConfigError(f"expected pseudo_labels=FILE beside {key}=, got none; for example pseudo_labels=new.csv")
        if self.thresholds and self.pseudo_labels is not None:
            raise ConfigError(
                "expected thresholds= or pseudo_labels=, got both; the key threshold= says from which probability on "
                "an image gets a pseudo-label"
            )
        if self.threshold is not None and self.target_precision is not None:
            raise ConfigError("expected threshold= or target_precision=, got both; leave one out")
        if self.heat_maps is not None and self.source is not None and _lies_below(self.heat_maps, self.source):
            raise ConfigError(
                f"expected gradcam to be a folder outside of input={self.source}, where its pictures would be images "
                f"to predict the next time, got {self.heat_maps}; name another folder"
            )

    @property
    def shown_source(self) -> str:
        """`input=`, or the name of the data set."""
        return self.source or f"dataset={display_name(self.dataset or {})}"

    @property
    def trainer(self) -> dict[str, Any]:
        """Those of `accelerator`, `devices` and `precision` that are given."""
        given = {"accelerator": self.accelerator, "devices": self.devices, "precision": self.precision}
        return {key: value for key, value in given.items() if value is not None}


def _lies_below(folder: Path, source: str) -> bool:
    return folder.expanduser().resolve().is_relative_to(Path(source).expanduser().resolve())
