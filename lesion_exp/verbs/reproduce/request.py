"""What somebody wants reproduced, and how: options of `reproduce`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lesion_exp.option import Number, Place, file, option, options_of


@dataclass(frozen=True)
class ReproductionRequest:
    """What `reproduce` is asked for, beside the run."""

    data_root: Path | None = option(
        None, Place("DIR", "DIR"), "where the data lie here, if they have moved", key="dataset.root"
    )
    split_path: Path | None = option(
        None, file("parts.csv"), "where the file of split=file lies here", key="split.path"
    )
    weights: Path | None = option(
        None, file("weights.pth"), "where the file of pretrained weights lies here", key="backbone.weights"
    )
    tolerance: float = option(
        0.01,
        Number(example="0.001"),
        "largest difference of a metric (divided by its size, if above 1) that is no divergence",
    )

    @property
    def places(self) -> dict[str, Path]:
        """Each key of the job that names a file or a folder, with where it lies here."""
        values = {one.key: getattr(self, one.field) for one in options_of(type(self))}
        return {key: value for key, value in values.items() if isinstance(value, Path)}
