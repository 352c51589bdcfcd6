"""The options of `reproduce`; imports nothing heavy, since `--help` reads them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lesion_exp.errors import ConfigError
from lesion_exp.next_command import next_command
from lesion_exp.option import Number, Place, file, option, options_of

if TYPE_CHECKING:
    from lesion_exp.tracking.stored_run import Run


@dataclass(frozen=True)
class ReproductionRequest:
    """The options of `reproduce` other than the run."""

    data_root: Path | None = option(
        None, Place("DIR", "DIR"), "folder of the data set on this machine, if it has moved", key="dataset.root"
    )
    split_path: Path | None = option(
        None, file("parts.csv"), "path of the file of split=file on this machine", key="split.path"
    )
    weights: Path | None = option(
        None, file("weights.pth"), "path of the file of pretrained weights on this machine", key="backbone.weights"
    )
    pseudo_labels: Path | None = option(
        None, file("pseudo.csv"), "path of the file of pseudo-labels on this machine", key="dataset.pseudo_labels"
    )
    tolerance: float = option(
        0.01,
        Number(example="0.001"),
        "largest difference of a metric (divided by its absolute value, if above 1) that does not count as divergence",
    )

    @property
    def places(self) -> dict[str, Path]:
        """The paths on this machine by the keys of the job."""
        values = {one.key: getattr(self, one.field) for one in options_of(type(self))}
        return {key: value for key, value in values.items() if isinstance(value, Path)}


def check_comparable(run: Run) -> None:
    """Checks that another training can be compared with `run`.

    Raises:
        ConfigError: it has not finished.
    """
    if run.status != "FINISHED":
        raise ConfigError(
            f"expected a finished run to compare with, but {run.run_id} is {run.status}; "
            f"{next_command('resume', f'run={run.run_id}')} continues it, --check-only compares its conditions"
        )
