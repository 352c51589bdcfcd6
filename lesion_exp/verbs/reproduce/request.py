"""The options of `reproduce`; imports nothing heavy, since `--help` reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lesion_exp.errors import ConfigError
from lesion_exp.next_command import next_command
from lesion_exp.option import Number, option
from lesion_exp.trained_runs.moved_data import MovedTraining

if TYPE_CHECKING:
    from lesion_exp.tracking.stored_run import Run


@dataclass(frozen=True)
class ReproductionRequest(MovedTraining):
    """The options of `reproduce` other than the run."""

    tolerance: float = option(
        0.01,
        Number(example="0.001"),
        "largest difference of a metric (divided by its absolute value, if above 1) that does not count as divergence",
    )


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
