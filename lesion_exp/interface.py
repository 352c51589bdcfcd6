"""The Python interface: what the verbs do, as functions whose results a notebook shows.

Each function takes what its verb takes on the command line, and does the same. Heavy packages are imported when a
function is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lesion_exp.config.project import Project

if TYPE_CHECKING:
    import pandas as pd

    from lesion_exp.command.arguments import Arguments
    from lesion_exp.shown import ShownComparison, ShownData, ShownEvaluation, ShownPredictions, ShownSweep
    from lesion_exp.trained_runs.trained_run import TrainedRun
    from lesion_exp.verbs.report.shown_result import ShownResult, ShownRun


def run(*overrides: str, config_dirs: Sequence[str | Path] = ()) -> ShownResult:
    """What a run came to that `lesion-exp train OVERRIDES` would make: its id and its final metrics.

    For scripts and notebooks: `run("dataset=ham10000", "dataset.root=data", "backbone=resnet18").metrics`. A notebook
    shows a progress bar and, where the result is the last line of a cell, its numbers, curves and confusion matrix.

    Raises:
        ValueError: an override, data set or file that cannot be used; the message says what to write instead.
    """
    from lesion_exp.command.arguments import compose_job
    from lesion_exp.progress import Stage
    from lesion_exp.training.run import train
    from lesion_exp.verbs.report.shown_result import ShownResult

    job = compose_job(_arguments(overrides, config_dirs))
    assert job is not None, "only --cfg job makes none"
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

    project = _project(tracking_uri)
    opened = trained_run(chosen_run(project.store, run), project, None if data_root is None else Path(data_root))
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

    return listing(_project(tracking_uri).store, condition)


def prepare(*overrides: str, config_dirs: Sequence[str | Path] = ()) -> ShownData:
    """The data set that `overrides` name, checked, with its image store built, split and audited.

    `prepare("dataset=ham10000", "dataset.root=data").table` has a row an image, with the column `split`.

    Raises:
        ValueError: whatever would stop a training run on this data set and split; the message says what to do.
    """
    from lesion_exp.command.arguments import compose_job
    from lesion_exp.shown import ShownData
    from lesion_exp.verbs.prepare import prepare as prepare_data

    job = compose_job(_arguments(overrides, config_dirs))
    assert job is not None, "only --cfg job makes none"
    return ShownData(prepare_data(job))


def sweep(*overrides: str, force: bool = False, config_dirs: Sequence[str | Path] = ()) -> ShownSweep:
    """The sweep that `overrides` describe, run to its end, as by `lesion-exp train -m OVERRIDES`.

    `sweep("dataset=ham10000", "dataset.root=data", "loss=focal,cross_entropy", "seed=0,1,2").table` has a row a cell.
    What stops the process stops the sweep: `lesion-exp sweep resume` goes on with it.

    Args:
        overrides: those of a run, of which some have several values, separated by commas.
        force: whether cells whose job has a finished run already are trained again.
        config_dirs: folders with configs of your own.

    Raises:
        ValueError: a name or value that cannot be used in any cell; nothing was trained.
    """
    from lesion_exp.command.sweep import launched
    from lesion_exp.shown import ShownSweep

    made = launched(_arguments([*overrides, f"force={str(force).lower()}"], config_dirs))
    assert made is not None, "only --cfg job makes none"
    return ShownSweep(made[0])


def evaluate(
    run: str | TrainedRun | Sequence[str | TrainedRun] = "latest",
    *overrides: str,
    part: Literal["val", "test"] = "test",
    tta: str | None = None,
    calibration: str | None = None,
    ensemble: str | None = None,
    data_root: str | Path | None = None,
    tracking_uri: str | None = None,
) -> ShownEvaluation:
    """A run evaluated once more, or several as an ensemble, as by `lesion-exp evaluate`; the run keeps the results.

    Args:
        run: the run; several are evaluated as one.
        overrides: another data set to evaluate on (`"dataset=ph2", "dataset.root=DIR"`), and keys of `evaluation`.
        part: of the run's own data.
        tta: test-time augmentation; None: as the run was evaluated.
        calibration: as `evaluation.calibration`.
        ensemble: how several runs become one, as `evaluation.ensemble`.
        data_root: where the run's own data set lies now; None: where it did.
        tracking_uri: the MLflow store; None is the one of this folder, or what `MLFLOW_TRACKING_URI` names.

    Raises:
        ValueError: no such run, data that are no longer what they were, or options that do not go together.
    """
    from lesion_exp.command.evaluate import evaluated
    from lesion_exp.shown import ShownEvaluation

    given = {"split.part": part, "tta": tta, "calibration": calibration, "ensemble": ensemble}
    words = [f"run={_spec(run)}", *(f"{key}={value}" for key, value in given.items() if value is not None)]
    arguments = _arguments([*words, *overrides, *_places(tracking_uri, data_root)], verb="evaluate")
    judged = evaluated(arguments)
    assert judged is not None, "only --cfg job makes none"
    return ShownEvaluation(judged)


def predict(
    run: str | TrainedRun = "latest",
    *,
    input: str | Path,  # noqa: A002  (it is called so on the command line)
    output: str | Path = "predictions.csv",
    calibration: str | None = None,
    tta: str | None = None,
    top: int = 0,
    force: bool = False,
    tracking_uri: str | None = None,
) -> ShownPredictions:
    """What a run's network says of images without labels, as by `lesion-exp predict`.

    Args:
        run: the run.
        input: an image, a folder, a glob, a zip or a csv of images.
        output: the csv or parquet file that is written; `.table` reads it.
        calibration: the name of one that was fitted on the run's validation part; None: the network's probabilities.
        tta: another test-time augmentation than the run's own.
        top: how many of the likeliest classes get a column of their own.
        force: whether an output that is there already is made anew.
        tracking_uri: as `evaluate`.

    Raises:
        ValueError: no such run, no images, or an output that is there already.
    """
    from lesion_exp.command.predict import predicted
    from lesion_exp.shown import ShownPredictions

    given = {"calibration": calibration, "tta": tta, "top": top or None}
    words = [f"run={_spec(run)}", f"input={input}", f"output={output}", f"force={str(force).lower()}"]
    words += [f"{key}={value}" for key, value in given.items() if value is not None]
    return ShownPredictions(predicted(_arguments([*words, *_places(tracking_uri, None)], verb="predict")))


def compare(
    *runs: str | TrainedRun,
    part: Literal["val", "test"] | None = None,
    against: str | TrainedRun | None = None,
    tracking_uri: str | None = None,
) -> ShownComparison:
    """Runs compared on the same images, as by `lesion-exp compare`: differences, intervals, p-values and verdicts.

    Args:
        runs: two runs or more; those that differ in their seed alone count as one job.
        part: None is `test` where every run has it, else `val`.
        against: a run with whose job all others are compared; None compares every pair.
        tracking_uri: as `evaluate`.

    Raises:
        ValueError: fewer than two runs, or runs that were not evaluated on the same images.
    """
    from lesion_exp.command.compare import compared
    from lesion_exp.shown import ShownComparison

    given = {"split.part": part, "against": None if against is None else _spec(against)}
    words = [f"{key}={value}" for key, value in given.items() if value is not None]
    arguments = _arguments([*words, *_places(tracking_uri, None)], verb="compare")
    arguments.names = [_spec(run) for run in runs]
    found = compared(arguments)
    assert found is not None, "only --cfg job makes none"
    return ShownComparison(found)


def _arguments(overrides: Sequence[str], config_dirs: Sequence[str | Path] = (), verb: str = "train") -> Arguments:
    """What the command line of the same words would be taken apart to."""
    from lesion_exp.command.arguments import Arguments
    from lesion_exp.command.verbs import VERBS

    folders = [Path(folder) for folder in config_dirs]
    return Arguments([*overrides], VERBS[verb].own_keys, config_dirs=folders, show_tree=False, from_python=True)


def _spec(run: str | TrainedRun | Sequence[str | TrainedRun]) -> str:
    """What `run=` takes for a run, or for several."""
    if isinstance(run, str):
        return run
    return f"[{','.join(map(_spec, run))}]" if isinstance(run, Sequence) else run.run_id


def _places(tracking_uri: str | None, data_root: str | Path | None) -> list[str]:
    from lesion_exp.dataset.path_patterns import as_value

    given = {"tracking.uri": tracking_uri, "dataset.root": data_root}
    return [f"{key}={as_value(str(value))}" for key, value in given.items() if value is not None]


def _project(uri: str | None) -> Project:
    """The project of the current folder."""
    from lesion_exp.config.compose import compose
    from lesion_exp.config.project import Project
    from lesion_exp.config.shipped_conf import find_root

    return Project.from_config(compose(_places(uri, None), root=find_root(Path.cwd())).config)
