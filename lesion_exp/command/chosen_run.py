"""The run that `run=` names on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lesion_exp.tracking.find import Run
    from lesion_exp.tracking.store import Store

CHECKPOINT_ENDING = ".ckpt"


def chosen_run(store: Store, spec: str) -> Run:
    """As `find_run`, but `spec` may also be a checkpoint file, which carries the id of its run.

    Raises:
        ConfigError: no run, or several, are named so.
        DataError: a checkpoint file that holds more than plain tensors and values, or no id.
    """
    from lesion_exp.tracking.find import find_run

    path = Path(spec).expanduser()
    if path.suffix == CHECKPOINT_ENDING and path.is_file():
        from lesion_exp.job.checkpoint import run_of_checkpoint

        spec = run_of_checkpoint(path)
    return find_run(store, spec)
