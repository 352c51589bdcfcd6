"""The options of `import`; imports nothing heavy, since `--help` reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lesion_exp.choices import PREDICTED_VALUES, UNMATCHED
from lesion_exp.errors import ConfigError, check_file
from lesion_exp.option import REQUIRED, Kind, NamePairs, Truth, check_options, choice, file, option

ID_COLUMNS: Final = ("image_id", "lesion_id")
MAPPABLE: Final = (*ID_COLUMNS, "prediction", "split")


@dataclass(frozen=True)
class ImportRequest:
    """Which predictions are imported, and with which true classes."""

    predictions: Path = option(
        REQUIRED,
        file("predictions.csv", ".csv", ".tsv", ".tab", ".txt", ".parquet"),
        "the predictions: a row for each image with its id, and a column for each class or one with the predicted "
        "class; a submission to an ISIC challenge is read as it is",
    )
    truth: Path | None = option(
        None,
        file("truth.csv", ".csv", ".tsv", ".tab", ".txt", ".parquet"),
        "a table with the true classes, instead of dataset=: one-hot as the ground truths of ISIC challenges, or with "
        "the columns image_id and label",
    )
    like: str | None = option(
        None,
        Kind("RUN", "latest", "a run"),
        "a run whose validation and test images, with their true classes, are taken instead of dataset=, so that "
        "compare can pair both",
    )
    name: str | None = option(None, Kind("NAME", "winner2018", "a name"), "name of the run; without it, of the file")
    columns: Mapping[str, str] = option(
        {},
        NamePairs(example="'{image_id: file, mel: p1, nv: p2}'"),
        f"names of the columns in the file, for any of {', '.join(MAPPABLE)} and for each class; without it, columns "
        f"are recognised by their names",
    )
    values: str = option(
        PREDICTED_VALUES[0],
        choice(PREDICTED_VALUES),
        "what the columns of the classes hold, or labels to read the predicted class alone",
    )
    rescale: bool = option(
        False, Truth(), "divide each row of probabilities by its sum, for confidences that do not sum to 1"
    )
    on_unmatched: str = option(
        UNMATCHED[0],
        choice(UNMATCHED),
        "images without a prediction and predictions without an image: error, or skip to leave them out and count them",
    )

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ConfigError: an option does not accept its value, or two options contradict each other.
        """
        check_options(self)
        if self.rescale and self.values != PREDICTED_VALUES[0]:
            raise ConfigError(
                f"expected rescale=true for probabilities alone, got it beside values={self.values}; leave one out"
            )
        of_classes = [name for name in self.columns if name not in MAPPABLE]
        named = "columns='{prediction: COLUMN}'"
        if of_classes and self.values == PREDICTED_VALUES[2]:
            raise ConfigError(
                f"expected columns= without classes beside values=labels, got {of_classes[0]}; name the column of the "
                f"predicted class with {named}, or leave values= out"
            )
        if "prediction" not in self.columns:
            return
        other = [
            *([f"{of_classes[0]} in columns="] if of_classes else []),
            *([f"values={self.values}"] if self.values == PREDICTED_VALUES[1] else []),
            *(["rescale=true"] if self.rescale else []),
        ]
        if other:
            raise ConfigError(
                f"expected {named} for a file of which only the predicted class is read, got it beside {other[0]}; "
                f"leave one of them out"
            )

    @property
    def reads_labels(self) -> bool:
        """Whether the predicted class alone is read: it is asked for, or its column is named."""
        return self.values == PREDICTED_VALUES[2] or "prediction" in self.columns

    def check_files(self) -> None:
        """Checks that the files are there, before anything large is imported.

        Raises:
            DataError: one is not.
        """
        check_file(self.predictions.expanduser(), "predictions")
        if self.truth is not None:
            check_file(self.truth.expanduser(), "true classes")
