"""The Python interface: the verbs as functions, whose results can be shown in a notebook.

Each function does what its verb does on the command line. Overrides are written as there; the other arguments are
checked by the options of the verb. Heavy packages are imported when a function is called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lesion_exp.config.project import Project

if TYPE_CHECKING:
    import pandas as pd

    from lesion_exp.command.arguments import Arguments
    from lesion_exp.shown import ShownComparison, ShownData, ShownEvaluation, ShownPlan, ShownPredictions, ShownSweep
    from lesion_exp.trained_runs.trained_run import TrainedRun
    from lesion_exp.verbs.report.shown_result import ShownResult, ShownRun


def run(*overrides: str, config_dirs: Sequence[str | Path] = ()) -> ShownResult:
    """Trains a run, as `lesion-exp train OVERRIDES` does, and returns its id and its final metrics.

    For example `run("dataset=ham10000", "dataset.root=data", "backbone=resnet18").metrics`. A notebook shows a progress
    bar and, if the result is the last line of a cell, its metrics, curves and confusion matrix.

    Raises:
        ValueError: an override, data set or file cannot be used; the message says what to write instead.
    """
    from lesion_exp.command.arguments import compose_job
    from lesion_exp.progress import Stage
    from lesion_exp.training.run import train
    from lesion_exp.verbs.report.shown_result import ShownResult

    job = compose_job(_arguments(overrides, config_dirs))
    assert job is not None, "it is None only after --cfg job"
    with Stage("working on the run", background=True):
        result = train(job)
    return ShownResult(**vars(result), config=job.config)


def open_run(
    run: str = "latest",
    *,
    tracking_uri: str | None = None,
    data_root: str | Path | None = None,
    places: Mapping[str, str | Path] | None = None,
) -> ShownRun:
    """Opens a run, with its job, data, network and everything that it stores.

    `open_run("best:test/balanced_accuracy").predictions("test")` is its predictions table, `.network().predict(rows,
    store)` predicts images, `.metrics` are its metrics, `.artifact("split/audit.json")` is the path of a file.

    Args:
        run: as `run=` on the command line: an id, a unique prefix of one, `latest`, `best:METRIC`, a registered alias,
            or the file of a bundle or a checkpoint.
        tracking_uri: the MLflow store; None is the one that `MLFLOW_TRACKING_URI` names, else that of this project.
        data_root: folder where the run's data are now; None if they have not moved.
        places: where further data of the run are now that have moved, by the keys of its config: `dataset.sets.NAME`
            for each of several data sets, `dataset.pseudo_labels` and `split.path`.

    Raises:
        ValueError: no run, or several, have this name, or the run cannot be read; the message says what to do.
    """
    from lesion_exp.command.chosen_run import chosen_run
    from lesion_exp.trained_runs.trained_run import trained_run
    from lesion_exp.verbs.report.shown_result import ShownRun

    project = _project(tracking_uri)
    moved = {key: Path(place) for key, place in (places or {}).items()}
    if data_root is not None:
        moved["dataset.root"] = Path(data_root)
    opened = trained_run(chosen_run(project.store, run), project, moved)
    return ShownRun(opened.run, opened.job, opened.evaluation)


def runs(condition: str = "", *, tracking_uri: str | None = None) -> pd.DataFrame:
    """Returns the runs of a store, one in each row, the most recent first.

    Columns: `run_id, name, status, started` (UTC), `parent` (id of the sweep's run, or None), then `params.NAME`,
    `metrics.NAME` (the last value) and `tags.NAME`, as `mlflow.search_runs` has them.

    Args:
        condition: a filter in MLflow's language, such as `tags.loss = 'focal' and metrics.val/accuracy > 0.8`.
        tracking_uri: as in `open_run`.

    Raises:
        ValueError: the store cannot be opened.
        mlflow.exceptions.MlflowException: the condition is not in MLflow's language.
    """
    from lesion_exp.trained_runs.trained_run import listing

    return listing(_project(tracking_uri).store, condition)


def prepare(*overrides: str, config_dirs: Sequence[str | Path] = ()) -> ShownData:
    """Checks the data set that `overrides` name, builds its image store, and splits and audits it.

    `prepare("dataset=ham10000", "dataset.root=data").table` has a row for each image, with the column `split`.

    Raises:
        ValueError: a training run on this data set and split would be refused; the message says what to do.
    """
    from lesion_exp.command.arguments import compose_job
    from lesion_exp.shown import ShownData
    from lesion_exp.verbs.prepare import prepare as prepare_data

    job = compose_job(_arguments(overrides, config_dirs))
    assert job is not None, "it is None only after --cfg job"
    return ShownData(prepare_data(job))


def plan(
    *overrides: str,
    hours: float = 1.0,
    output: str | Path = "plan",
    force: bool = False,
    config_dirs: Sequence[str | Path] = (),
) -> ShownPlan:
    """Writes a preset for the data set that `overrides` name, this machine and a budget, as `lesion-exp plan` does.

    After `made = plan("dataset=ham10000", "dataset.root=data", hours=0.5)` a training by it is
    `run("experiment=plan", config_dirs=[made.folder])`, or `sweep` with the same arguments where it has folds or seeds.

    Args:
        overrides: data set, split, task and trainer.
        hours: time for the whole training, from its start to its last result.
        output: the folder that is written; the preset in it is `experiment/plan.yaml`.
        force: whether an existing plan is replaced.
        config_dirs: folders with configs of your own.

    Raises:
        ValueError: the data set cannot be trained on, or the budget is too small for it; the message says what to do.
    """
    from lesion_exp.command.plan import planned
    from lesion_exp.shown import ShownPlan

    words = [f"hours={hours}", f"output={output}", f"force={str(force).lower()}"]
    return ShownPlan(planned(_arguments([*words, *overrides], config_dirs, verb="plan")))


def sweep(*overrides: str, force: bool = False, config_dirs: Sequence[str | Path] = ()) -> ShownSweep:
    """Runs the sweep that `overrides` describe to its end, as `lesion-exp train -m OVERRIDES` does.

    `sweep("dataset=ham10000", "dataset.root=data", "loss=focal,cross_entropy", "seed=0,1,2").table` has a row for each
    cell. If the process is stopped, `lesion-exp sweep resume` continues the sweep.

    Args:
        overrides: those of a run, some of them with several values, separated by commas.
        force: whether cells whose job has a finished run in the store are trained again.
        config_dirs: folders with configs of your own.

    Raises:
        ValueError: a name or value cannot be used in one of the cells; nothing was trained.
    """
    from lesion_exp.command.sweep import launched
    from lesion_exp.shown import ShownSweep

    summary = launched(_arguments([*overrides, f"force={str(force).lower()}"], config_dirs))
    assert summary is not None, "it is None only after --cfg job"
    return ShownSweep(summary)


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
    """Evaluates a run, or several as an ensemble, as `lesion-exp evaluate` does; the results are stored with the run.

    Args:
        run: the run, or several.
        overrides: another data set to evaluate on (`"dataset=ph2", "dataset.root=DIR"`), and keys of `evaluation`.
        part: part of the run's own data.
        tta: test-time augmentation; None is that with which the run was evaluated.
        calibration: as `evaluation.calibration`; None is the run's own.
        ensemble: how several runs are combined, as `evaluation.ensemble`.
        data_root: folder where the run's own data are now; None if they have not moved. Overrides say where other data
            are: `"dataset.sets.NAME=DIR"`, `"dataset.pseudo_labels=FILE"` and `"split.path=FILE"`.
        tracking_uri: as in `open_run`.

    Raises:
        ValueError: there is no such run, its data have changed, or the arguments contradict each other.
    """
    from lesion_exp.command.evaluate import evaluated
    from lesion_exp.shown import ShownEvaluation

    given = {"split.part": part, "tta": tta, "calibration": calibration, "ensemble": ensemble}
    words = [f"run={_spec(run)}", *(f"{key}={value}" for key, value in given.items() if value is not None)]
    arguments = _arguments([*words, *overrides, *_places(tracking_uri, data_root)], verb="evaluate")
    result = evaluated(arguments)
    assert result is not None, "it is None only after --cfg job"
    return ShownEvaluation(result)


def predict(
    run: str | TrainedRun = "latest",
    *overrides: str,
    input: str | Path | None = None,  # noqa: A002  (it is called so on the command line)
    output: str | Path = "predictions.csv",
    calibration: str | None = None,
    tta: str | None = None,
    top: int = 0,
    force: bool = False,
    pseudo_labels: str | Path | None = None,
    threshold: float | Mapping[str, float] | None = None,
    target_precision: float | None = None,
    format: Literal["isic2018", "isic2019", "isic2020", "isic2024", "milk10k"] | None = None,  # noqa: A002
    tracking_uri: str | None = None,
) -> ShownPredictions:
    """Predicts images without labels with a run's network, as `lesion-exp predict` does.

    Args:
        run: the run.
        overrides: a data set to predict in place of `input` (`"dataset=ham10000", "dataset.root=DIR"`).
        input: an image, a folder, a glob, a zip or a csv of images.
        output: the csv or parquet file that is written; `.table` reads it.
        calibration: `none`, or a calibration that was fitted on the run's validation part; None is `none`.
        tta: test-time augmentation; None is that with which the run was evaluated.
        top: number of columns `top1`, `top2`, ... with the likeliest classes.
        force: whether to start over and to replace an existing output.
        pseudo_labels: a csv or parquet file for the sure predictions, which `dataset.pseudo_labels` takes as labels.
        threshold: smallest probability of these, for all classes or by class; None is 0.9.
        target_precision: instead of `threshold`, the share of right predictions that each threshold has to reach on the
            validation part.
        format: a challenge for which a submission is written beside the output.
        tracking_uri: as in `open_run`.

    Raises:
        ValueError: there is no such run, there are no images, or the output exists already.
    """
    from lesion_exp.command.predict import predicted
    from lesion_exp.shown import ShownPredictions

    limits = dict(threshold) if isinstance(threshold, Mapping) else threshold
    given = {
        "calibration": calibration,
        "tta": tta,
        "top": top or None,
        "pseudo_labels": pseudo_labels,
        "threshold": limits,
        "target_precision": target_precision,
        "format": format,
    }
    words = [f"run={_spec(run)}", f"output={output}", f"force={str(force).lower()}", *overrides]
    given["input"] = input
    words += [f"{key}={value}" for key, value in given.items() if value is not None]
    return ShownPredictions(predicted(_arguments([*words, *_places(tracking_uri, None)], verb="predict")))


def compare(
    *runs: str | TrainedRun,
    part: Literal["val", "test"] | None = None,
    against: str | TrainedRun | None = None,
    unit: Literal["lesion", "patient"] | None = None,
    tracking_uri: str | None = None,
) -> ShownComparison:
    """Compares runs on the same images, as `lesion-exp compare` does: differences, intervals, p-values, conclusions.

    Args:
        runs: two runs or more; those that differ only in their seed are pooled. Overrides may stand among them, such as
            `"evaluation.bootstrap_draws=500"`.
        part: part of the data; None is `test` if every run has it, else `val`.
        against: the run with which all others are compared; None compares every pair.
        unit: what intervals and tests take together, the images of a lesion or those of a patient; None is `patient` if
            the intervals of any of the runs are over patients, else `lesion`.
        tracking_uri: as in `open_run`.

    Raises:
        ValueError: there are fewer than two runs, or they were not evaluated on the same images.
    """
    from lesion_exp.command.compare import compared
    from lesion_exp.shown import ShownComparison

    given = {
        "split.part": part,
        "against": None if against is None else _spec(against),
        "evaluation.bootstrap_unit": unit,
    }
    words = [f"{key}={value}" for key, value in given.items() if value is not None]
    named = [_spec(run) for run in runs]
    # the name of a checkpoint file may contain an equals sign as well
    overrides = [word for word in named if "=" in word and not Path(word).expanduser().is_file()]
    arguments = _arguments([*words, *overrides, *_places(tracking_uri, None)], verb="compare")
    arguments.names = [word for word in named if word not in overrides]
    found = compared(arguments)
    assert found is not None, "it is None only after --cfg job"
    return ShownComparison(found)


def import_predictions(
    predictions: str | Path,
    *overrides: str,
    truth: str | Path | None = None,
    like: str | TrainedRun | None = None,
    name: str | None = None,
    columns: Mapping[str, str] | None = None,
    values: Literal["probabilities", "logits", "labels"] = "probabilities",
    rescale: bool = False,
    on_unmatched: Literal["error", "skip"] = "error",
    tracking_uri: str | None = None,
) -> ShownEvaluation:
    """Makes a run of predictions that somebody else made, and evaluates it, as `lesion-exp import` does.

    One of `truth`, `like` and an override `"dataset=NAME"` says where the true classes are.

    Args:
        predictions: a csv or parquet file with a row for each image: probabilities, logits or classes, or a submission
            to an ISIC challenge.
        overrides: the data set (`"dataset=ham10000", "dataset.root=DIR"`), and keys of `evaluation`.
        truth: a table with the true classes.
        like: a run whose validation and test images are taken.
        name: name of the run; None is that of the file.
        columns: class, `image_id`, `lesion_id`, `prediction` or `split` -> column of the file; None recognises them.
        values: what the columns of the classes hold.
        rescale: whether each row is divided by its sum.
        on_unmatched: whether images without a prediction, and predictions without an image, are an error.
        tracking_uri: as in `open_run`.

    Raises:
        ValueError: predictions and images do not fit, or a value is missing or out of range.
    """
    from lesion_exp.command.import_predictions import imported
    from lesion_exp.shown import ShownEvaluation

    given = {
        "truth": truth,
        "like": None if like is None else _spec(like),
        "name": name,
        "columns": dict(columns) if columns else None,
        "values": values,
        "on_unmatched": on_unmatched,
    }
    words = [f"predictions={predictions}", f"rescale={str(rescale).lower()}"]
    words += [f"{key}={value}" for key, value in given.items() if value is not None]
    result = imported(_arguments([*words, *overrides, *_places(tracking_uri, None)], verb="import"))
    assert result is not None, "it is None only after --cfg job"
    return ShownEvaluation(result)


def _arguments(overrides: Sequence[str], config_dirs: Sequence[str | Path] = (), verb: str = "train") -> Arguments:
    """The command line of `verb` with these words, as if it had been parsed."""
    from lesion_exp.command.arguments import Arguments
    from lesion_exp.command.verbs import VERBS

    folders = [Path(folder) for folder in config_dirs]
    return Arguments([*overrides], VERBS[verb].own_keys, config_dirs=folders, show_tree=False, from_python=True)


def _spec(run: str | TrainedRun | Sequence[str | TrainedRun]) -> str:
    """A run, or several, as `run=` on the command line."""
    if isinstance(run, str):
        return run
    return f"[{','.join(map(_spec, run))}]" if isinstance(run, Sequence) else run.run_id


def _places(tracking_uri: str | None, data_root: str | Path | None) -> list[str]:
    from lesion_exp.dataset.path_patterns import as_value

    given = {"tracking.uri": tracking_uri, "dataset.root": data_root}
    return [f"{key}={as_value(str(value))}" for key, value in given.items() if value is not None]


def _project(uri: str | None) -> Project:
    """The project of the current folder, with the store `uri` if given."""
    from lesion_exp.config.compose import compose
    from lesion_exp.config.project import Project
    from lesion_exp.config.shipped_conf import find_root
    from lesion_exp.next_command import repeat_in_commands

    places = _places(uri, None)
    repeat_in_commands(places)
    return Project.from_config(compose(places, root=find_root(Path.cwd())).config)
