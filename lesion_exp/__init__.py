"""Config-driven experiments for classifying images of skin lesions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lesion_exp.report.shown_result import ShownResult

__version__ = "0.1.0"


def run(*overrides: str, config_dirs: Sequence[str | Path] = ()) -> ShownResult:
    """What a run came to that `lesion-exp train OVERRIDES` would make: its id and its final metrics.

    For scripts and notebooks: `run("dataset=ham10000", "dataset.root=data", "backbone=resnet18").metrics`. A notebook
    shows a progress bar and, where the result is the last line of a cell, its numbers, curves and confusion matrix.

    Raises:
        ValueError: an override, data set or file that cannot be used; the message says what to write instead.
    """
    from lesion_exp.job.compose import compose
    from lesion_exp.job.freeze import freeze
    from lesion_exp.job.messages import show_messages
    from lesion_exp.job.run import train
    from lesion_exp.job.shipped_conf import find_root
    from lesion_exp.progress import Stage
    from lesion_exp.report.shown_result import ShownResult

    show_messages()
    folders = [Path(folder) for folder in config_dirs]
    job = freeze(compose(overrides, config_dirs=folders, root=find_root(Path.cwd())))
    with Stage("training", background=True):
        result = train(job)
    return ShownResult(**vars(result), config=job.config)
