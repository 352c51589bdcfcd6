"""Config-driven experiments for classifying images of skin lesions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lesion_exp.version import __version__

if TYPE_CHECKING:
    import pandas as pd

    from lesion_exp.tracking.store import Store
    from lesion_exp.verbs.report.shown_result import ShownResult, ShownRun

__all__ = ["__version__", "open_run", "run", "runs"]


def run(*overrides: str, config_dirs: Sequence[str | Path] = ()) -> ShownResult:
    """What a run came to that `lesion-exp train OVERRIDES` would make: its id and its final metrics.

    For scripts and notebooks: `run("dataset=ham10000", "dataset.root=data", "backbone=resnet18").metrics`. A notebook
    shows a progress bar and, where the result is the last line of a cell, its numbers, curves and confusion matrix.

    Raises:
        ValueError: an override, data set or file that cannot be used; the message says what to write instead.
    """
    from lesion_exp.config.compose import compose
    from lesion_exp.config.freeze import freeze
    from lesion_exp.config.shipped_conf import find_root
    from lesion_exp.process.messages import show_messages
    from lesion_exp.progress import Stage
    from lesion_exp.training.run import train
    from lesion_exp.verbs.report.shown_result import ShownResult

    show_messages()
    folders = [Path(folder) for folder in config_dirs]
    job = freeze(compose(overrides, config_dirs=folders, root=find_root(Path.cwd())))
    with Stage("training", background=True):
        result = train(job)
    return ShownResult(**vars(result), config=job.config)


def open_run(run: str = "latest", *, tracking_uri: str | None = None, data_root: str | Path | None = None) -> ShownRun:
    """A run that exists, with its job, data, network and all that it keeps.

    `open_run("best:test/balanced_accuracy").predictions("test")` is its predictions table, `.network().predict(rows,
    store)` predicts anew, `.metrics` is what it came to, `.artifact("split/audit.json")` a file.

    Args:
        run: what `run=` takes: an id, a unique prefix of one, `latest`, `best:METRIC`, a registered alias, or the file
            of a bundle or a checkpoint.
        tracking_uri: the MLflow store; None is the one of this folder, or what `MLFLOW_TRACKING_URI` names.
        data_root: where the run's data set lies now; None: where it did.

    Raises:
        ValueError: no run, or several, are named so, or the run cannot be read; the message says what to do.
    """
    from lesion_exp.command.chosen_run import chosen_run
    from lesion_exp.trained_runs.trained_run import trained_run
    from lesion_exp.verbs.report.shown_result import ShownRun

    store, paths = _store(tracking_uri)
    opened = trained_run(chosen_run(store, run), paths, None if data_root is None else Path(data_root))
    return ShownRun(opened.run, opened.job, opened.evaluation)


def runs(condition: str = "", *, tracking_uri: str | None = None) -> pd.DataFrame:
    """The runs of a store, the one that started last first: a row each.

    Columns: `run_id, name, status, started` (UTC), `parent` (id of the sweep's run, or None), then `params.NAME`,
    `metrics.NAME` (the last value) and `tags.NAME`, as `mlflow.search_runs` has them.

    Args:
        condition: a filter in MLflow's language, such as `tags.loss = 'focal' and metrics.val/accuracy > 0.8`.
        tracking_uri: as `open_run`.

    Raises:
        ValueError: a store that cannot be opened.
        mlflow.exceptions.MlflowException: a condition that is none.
    """
    from lesion_exp.trained_runs.listing import listing

    return listing(_store(tracking_uri)[0], condition)


def _store(uri: str | None) -> tuple[Store, Mapping[str, Any]]:
    """The MLflow store, and the folders of this machine."""
    from lesion_exp.config.compose import compose
    from lesion_exp.config.shipped_conf import find_root
    from lesion_exp.dataset.path_patterns import as_override
    from lesion_exp.training.tracked import open_job_store

    chosen = [] if uri is None else [as_override("tracking.uri", uri)]
    config = compose(chosen, root=find_root(Path.cwd())).config
    return open_job_store(config), config["paths"]
