"""The paths of the files that a prediction writes."""

from __future__ import annotations

from pathlib import Path

from lesion_exp.errors import ConfigError
from lesion_exp.verbs.predict.request import OUTPUT_ENDINGS, PredictionRequest


def output_of(request: PredictionRequest) -> Path:
    """The absolute path of the output of `request`."""
    return request.output.expanduser().absolute()


def folder_of(output: Path) -> Path:
    """The folder of the batches of `output` until it is complete."""
    return output.with_name(f"{output.name}.part")


def facts_path(output: Path) -> Path:
    """The file that says how the probabilities in `output` were made, see `PredictionPlan.facts`."""
    return output.with_name(f"{output.stem}_facts.json")


def same_stem(request: PredictionRequest) -> Path | None:
    """Returns the other output of the same stem, `p.csv` for `p.parquet`, whose facts have the same path; else None.

    The input of the prediction is no output.
    """
    output = output_of(request)
    known = [output, *([] if request.source is None else [Path(request.source).expanduser().absolute()])]
    others = (output.with_suffix(ending) for ending in OUTPUT_ENDINGS)
    return next((path for path in others if path not in known and path.exists()), None)


def to_label_file(output: Path) -> Path:
    """The file of the images to label next, beside `output`."""
    return output.with_name(f"{output.stem}_to_label.csv")


def submission_path(output: Path, challenge: str) -> Path:
    """Returns the file of the submission beside `output`: `new_isic2018.csv` for `new.csv`."""
    return output.with_name(f"{output.stem}_{challenge}.csv")


def check_is_new(output: Path, *, force: bool) -> None:
    """Checks that nothing is lost when `output` is written.

    Raises:
        ConfigError: the file exists, is not empty, and may not be replaced.
    """
    if not force and output.exists() and output.stat().st_size:
        raise ConfigError(
            f"expected a new file as output, but {output} exists; name another one, or use force=true to replace it"
        )
