"""The options of verbs that read the data of a run, for data that have moved; imports nothing heavy, for `--help`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lesion_exp.option import Place, file, option, options_of

SETS: Final = "dataset.sets"
"""The node of a job that names the folder of each of several data sets."""


@dataclass(frozen=True)
class MovedFiles:
    """Where the files of a run's data, and the folders of its data sets if it has several, are now."""

    split_path: Path | None = option(
        None, file("parts.csv"), "where the file of split=file is now, if it has moved", key="split.path"
    )
    pseudo_labels: Path | None = option(
        None,
        file("pseudo.csv"),
        "where the file of the run's pseudo-labels is now, if it has moved",
        key="dataset.pseudo_labels",
    )
    sets: Mapping[str, Path] = field(default_factory=dict)
    """The folders of the data sets of `dataset=combined` by their keys, `dataset.sets.NAME`."""

    @property
    def places(self) -> dict[str, Path]:
        """The paths on this machine by the keys of the job."""
        values = {one.key: getattr(self, one.field) for one in options_of(type(self))}
        return {key: value for key, value in values.items() if isinstance(value, Path)} | dict(self.sets)


@dataclass(frozen=True)
class MovedData(MovedFiles):
    """Where the data of a run are now."""

    data_root: Path | None = option(
        None, Place("DIR", "DIR"), "folder where the run's data are now, if they have moved", key="dataset.root"
    )


@dataclass(frozen=True)
class MovedTraining(MovedData):
    """Where the files that a training reads are now."""

    weights: Path | None = option(
        None,
        file("weights.pth"),
        "where the file of the pretrained weights is now, if it has moved",
        key="backbone.weights",
    )
