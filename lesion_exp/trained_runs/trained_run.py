"""An existing run with its job on this machine: its data, network, predictions, artifacts; and a table of all runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

import pandas as pd

from lesion_exp.choices import CHOICES
from lesion_exp.config.compatibility import check_complete
from lesion_exp.config.freeze import Job, place_keys, relocated
from lesion_exp.config.named_run import WEIGHTS, WEIGHTS_TAG
from lesion_exp.config.places import PSEUDO_LABELS, check_new_places, check_places
from lesion_exp.config.project import Project
from lesion_exp.errors import ConfigError, DataError, check_choice
from lesion_exp.evaluation.calibrator import METHODS, Calibrator, read_calibrator
from lesion_exp.evaluation.posthoc import calibrator_path
from lesion_exp.evaluation.registry import added_among, shown_in
from lesion_exp.next_command import next_command
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.find import runs_where
from lesion_exp.tracking.store import Store
from lesion_exp.tracking.stored_run import (
    IMPORTED,
    PARENT_TAG,
    TRAINING_KINDS,
    Run,
    check_classifies,
    download_artifact,
    read_predictions,
    read_stored_json,
)
from lesion_exp.training.data import SplitData, load_data, read_ahead, split_data
from lesion_exp.training.tracked import check_same_data, job_of, names_of_job_tags

if TYPE_CHECKING:
    from lesion_exp.model.predictor import Predictor
    from lesion_exp.model.restore import Restored

IMPORTED_REMEDY: Final = (
    "has predictions that were imported from a file, and no network: evaluate, compare, report and label-errors work "
    "on it; lesion-exp train makes a run with a network"
)
WhichWeights = Literal["best", "last"] | Path
"""A checkpoint of the run, or a file with weights of the same network."""


@dataclass(frozen=True, repr=False)
class TrainedRun:
    """A run with its job on this machine."""

    run: Run
    job: Job | None
    """None for a run that trained nothing itself, such as an ensemble."""
    evaluation: Mapping[str, Any]
    """How it is evaluated: the node `evaluation` of its job, or a replacement."""

    def __repr__(self) -> str:
        """Id, name, status and headline results."""
        return "\n".join([f"run {self.run.run_id} ({self.run.name}), {self.run.status}", *headline_lines(self.metrics)])

    @property
    def run_id(self) -> str:
        """The id of the run in MLflow."""
        return self.run.run_id

    @property
    def card(self) -> dict[str, Any]:
        """The card of its checkpoint: classes, preprocessing, metadata, the id of the run.

        Raises:
            DataError: the run has no checkpoint.
        """
        from lesion_exp.model.checkpoint_file import read_checkpoint

        return dict(read_checkpoint(self.artifact(artifacts.checkpoint()))["lesion_exp"])

    @property
    def config(self) -> Mapping[str, Any] | None:
        """The config of the job; None if there is no job."""
        return None if self.job is None else self.job.config

    @property
    def needs_new_predictions(self) -> bool:
        """Whether `evaluation` asks for another test-time augmentation than that of the stored predictions."""
        return bool(self.evaluation["tta"] != own_tta(self.run))

    @property
    def leaky(self) -> bool:
        """Whether the run is marked as leaky."""
        return self.run.tags.get("leaky") == "true"

    @property
    def metrics(self) -> dict[str, float]:
        """The results of the run: `best/val/...`, `test/...`."""
        return self.run.results()

    def frozen_job(self, wanted_for: str) -> Job:
        """Returns the job of the run, with the paths of this machine.

        Raises:
            ConfigError: the run has no job, because nothing was trained.
        """
        if self.job is None:
            remedy = "has predictions only; name the runs that it combines, run=[A,B]"
            if self.run.tags.get("kind") == IMPORTED:
                remedy = IMPORTED_REMEDY
            if sweep := self.run.tags.get("sweep_id"):
                status = next_command("sweep", "status", sweep)
                remedy = f"is a sweep; name one of its cells, which {status} lists"
            raise ConfigError(
                f"expected a run that was trained, for {wanted_for}, got {self.run.run_id} ({self.run.name}), which "
                f"{remedy}"
            )
        return self.job

    def job_config(self, wanted_for: str) -> Mapping[str, Any]:
        """Returns the config of the job, with the paths of this machine and the node `evaluation`.

        Raises:
            ConfigError: the run has no job, or its job was frozen by another version.
        """
        check_classifies(self.run, wanted_for)
        config = {**self.frozen_job(wanted_for).config, "evaluation": dict(self.evaluation)}
        check_complete(config)
        return config

    def artifact(self, path: str) -> Path:
        """Returns the path on this machine of the artifact `path`, a file or folder.

        Raises:
            DataError: the run has no artifact of that name.
        """
        return download_artifact(self.run, path)

    def predictions(self, part: Literal["val", "test"] = "test") -> pd.DataFrame:
        """Returns the predictions table on a part of the run's data, images of unknown classes included.

        It is the stored table, which needs neither images nor network, unless another test-time augmentation is set.

        Raises:
            ConfigError: new predictions are needed, but the run has no job or has not finished.
            DataError: the run has no predictions of that part, or its data have changed.
        """
        if not self.needs_new_predictions:
            return read_predictions(self.run, part, with_unknown=True)
        split = self.data()
        return self.network().predict(split.table[split.table["split"] == part], split.loaded.store)

    def lacks_predictions(self, part: Literal["val", "test"]) -> bool:
        """Returns whether the run has no network, such as one of imported predictions, and no predictions of `part`."""
        return self.job is None and self.run.fetch(artifacts.predictions(part)) is None

    def data(self) -> SplitData:
        """Returns the data set of the run with its split, checked to be the one that the run was trained on.

        Raises:
            ConfigError: the run has no job.
            DataError: the data or the split have changed since, or are not where the job says.
        """
        config = self.job_config("new predictions on its own data")
        _check_data(self.frozen_job("new predictions on its own data"))
        split = split_data(config, load_data(config))
        check_same_data(self.run, split)
        return split

    def network(self, checkpoint: WhichWeights = "best") -> Restored:
        """Returns the network with the best or the last weights, or those in a file.

        Raises:
            ConfigError: the run has no network, or has not finished.
            DataError: its checkpoint is missing.
        """
        check_network(self)
        from lesion_exp.model.restore import restore

        config = self.job_config("a network")
        if isinstance(checkpoint, Path):
            return restore(config, checkpoint.absolute(), self.run)
        return restore(config, self.artifact(artifacts.checkpoint(checkpoint)), self.run)

    def predictor(
        self, calibration: str = "none", tta: str | None = None, checkpoint: WhichWeights = "best", top: int = 0
    ) -> Predictor:
        """Returns a predictor for images in memory, with the weights of the run.

        Args:
            calibration: a method that was fitted on the run's validation part; `none` leaves the probabilities
                uncalibrated.
            tta: test-time augmentation; None is that of the run.
            checkpoint: which weights of the run, or a file with weights of its network.
            top: number of the most probable classes that get a column each.

        Raises:
            ConfigError: the run has no network, or the calibration belongs to other weights.
            DataError: its checkpoint or calibration is missing.
        """
        from lesion_exp.model.predictor import Predictor
        from lesion_exp.model.restore import restore

        fits = calibration == "none" or self.has_best_weights(checkpoint)
        check_calibration(calibration, "best" if fits else checkpoint)
        return Predictor(restore(*self.weights(checkpoint, tta), self.run), self.calibrator(calibration), top=top)

    def weights(
        self,
        checkpoint: WhichWeights = "best",
        tta: str | None = None,
        trainer: Mapping[str, Any] = MappingProxyType({}),
    ) -> tuple[dict[str, Any], Path]:
        """Returns the config with which the run predicts on this machine, and the file of its weights.

        Args:
            checkpoint: which weights of the run, or a file with weights of its network.
            tta: test-time augmentation; None is that of the run.
            trainer: `accelerator` and `precision` that the user has chosen; the precision is that of the run otherwise.

        Raises:
            ConfigError: the run has no network, or has not finished.
            DataError: its checkpoint is missing.
        """
        from lesion_exp.model.precision import resolve_precision

        check_weights(self, checkpoint)
        views = {} if tta is None else {"tta": tta}
        config = replace(self, evaluation={**self.evaluation, **views}).job_config("predictions")
        chosen = {key: value for key, value in trainer.items() if key != "devices"}
        accelerator = "cpu" if config["trainer"]["accelerator"] == "cpu" else "auto"  # this machine may have no GPU
        node = {**config["trainer"], "accelerator": accelerator, "devices": 1, **chosen}
        if "precision" in chosen:  # auto, if the user asks for it, depends on this machine, not on the run
            node["precision"] = resolve_precision(node["precision"], node["accelerator"])
        config = {**config, "trainer": node}
        if isinstance(checkpoint, Path):
            return config, checkpoint.absolute()
        return config, self.artifact(artifacts.checkpoint(checkpoint))

    def has_best_weights(self, checkpoint: WhichWeights) -> bool:
        """Returns whether `checkpoint` has the best weights of the run, whose results and calibrations it stores.

        That is false for each checkpoint of a run that has not finished, except `best` by its name.

        Raises:
            DataError: the checkpoint is missing, damaged or that of another program.
        """
        if checkpoint == "best":
            return True
        if self.run.status != "FINISHED":
            return False
        from lesion_exp.model.checkpoint_file import weights_hash

        path = checkpoint if isinstance(checkpoint, Path) else self.artifact(artifacts.checkpoint(checkpoint))
        return weights_hash(path) == self.run.tags.get(WEIGHTS_TAG)

    def calibrator(self, method: str) -> Calibrator | None:
        """Returns the calibrator `method` that was fitted on the run's validation part; None for `none`.

        Raises:
            DataError: the run has no such calibrator.
        """
        check_kept(self.run, method)
        return None if method == "none" else stored_calibrators(self.run)[method]


def trained_run(run: Run, project: Project, places: Mapping[str, Path] = MappingProxyType({})) -> TrainedRun:
    """Opens `run`: its job is relocated to this machine, and its evaluation is that of the stored predictions.

    Args:
        run: see `find_run`.
        project: of this machine.
        places: where data of the run are now that have moved, by the keys of the job, see `place_keys`.

    Raises:
        ConfigError, DataError: its job is damaged, was frozen by another version, or has no such key, or nothing is at
            one of `places`.
    """
    tta = {"tta": own_tta(run)}
    if run.fetch(artifacts.JOB) is None and not names_of_job_tags(run.tags):
        return TrainedRun(run, None, tta)
    job = relocated(job_of(run), replace(project, store_uri=run.store.uri), places)
    check_new_places(job.config, places)
    return TrainedRun(run, job, {**job.config["evaluation"], **tta})


def check_network(trained: TrainedRun, wanted_for: str = "a network") -> None:
    """Checks, without importing torch, that a run has a network and has finished.

    Raises:
        ConfigError: it has no network, or has not finished.
    """
    trained.job_config(wanted_for)
    check_finished(trained.run)


def check_weights(trained: TrainedRun, checkpoint: WhichWeights = "best") -> None:
    """Checks, without importing torch, that a run can predict with the weights `checkpoint`.

    Raises:
        ConfigError: it has no network, or has not finished and `checkpoint` is no file.
    """
    trained.job_config("predictions")
    if not isinstance(checkpoint, Path) and trained.run.status != "FINISHED":
        raise ConfigError(
            f"expected a run that has finished, got {trained.run_id} ({trained.run.status}); "
            f"{next_command('resume', f'run={trained.run_id}')} continues a run that stopped, and run=FILE.ckpt uses "
            f"the weights that it has"
        )


def reading_ahead(trained: TrainedRun) -> AbstractContextManager[None]:
    """Returns a block before which the table of a run's data set is read, see `read_ahead`.

    Raises:
        ConfigError: the run has no job.
        DataError: its data are not where the job says, or cannot be read.
    """
    job = trained.frozen_job("a look at its data")
    _check_data(job)
    return read_ahead(job.config["dataset"])


def _check_data(job: Job) -> None:
    """Checks that the files and folders of the data of `job` exist; the messages name the keys for other places."""
    unread = {WEIGHTS} | ({PSEUDO_LABELS} if job.config["dataset"].get("pseudo_weight") == 0 else set())
    check_places(job.config, {*place_keys(job)} - unread)


def headline_lines(metrics: Mapping[str, float]) -> list[str]:
    """Returns a line for each headline metric of a run, with its interval if it has one."""
    stages, lines = ("test/", "best/val/"), []
    for name in (
        f"{stage}{name}" for stage in stages for name in (*shown_in("headline"), *added_among(metrics, stage))
    ):
        low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
        interval = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
        if name in metrics:
            lines.append(f"  {name} {metrics[name]:.3f}{interval}")
    return lines


def check_calibration(calibration: str, checkpoint: WhichWeights) -> None:
    """Checks that `calibration` exists, and that it belongs to the weights of `checkpoint`.

    Raises:
        ConfigError: it does not exist, or `checkpoint` is not `best`.
    """
    check_choice("calibration", calibration, CHOICES["evaluation.calibration"])
    if calibration != "none" and checkpoint != "best":
        given = "a checkpoint file" if isinstance(checkpoint, Path) else f"checkpoint={checkpoint}"
        raise ConfigError(
            f"expected calibration=none beside {given}, got {calibration}, which was fitted on predictions of the "
            f"run's best weights; leave calibration= out, or name the run by its id without checkpoint="
        )


def own_tta(run: Run) -> str:
    """Returns the test-time augmentation of the stored predictions of `run`.

    That of an ensemble of predictions is the text of `joined_tta`.
    """
    return run.params.get("evaluation.tta", "none")


def joined_tta(names: Iterable[str]) -> str:
    """Returns the test-time augmentation of several networks as one text, each that occurs once: `none, flips8`."""
    return ", ".join(dict.fromkeys(names))


def check_trains(run: Run) -> None:
    """Checks that `run` trains by a job.

    Raises:
        ConfigError: it does not, as an ensemble or imported predictions.
    """
    kind = run.tags.get("kind", "unknown")
    if kind not in TRAINING_KINDS:
        remedy = f"which {IMPORTED_REMEDY}" if kind == IMPORTED else f"of kind {kind}; name a run of lesion-exp train"
        raise ConfigError(f"expected a run that trains, got {run.run_id} ({run.name}), {remedy}")


def check_finished(run: Run) -> None:
    """Checks that `run` has finished.

    Raises:
        ConfigError: it has not.
    """
    if run.status != "FINISHED":
        raise ConfigError(
            f"expected a run that has finished, got {run.run_id} ({run.status}); "
            f"{next_command('resume', f'run={run.run_id}')} continues a run that stopped"
        )


def check_kept(run: Run, method: str) -> None:
    """Checks that `run` has the calibrator `method`, which is true for `none`.

    Raises:
        DataError: it has no such calibrator.
    """
    if method == "none":
        return
    kept = stored_calibrators(run)
    if method not in kept:
        raise DataError(
            f"expected a calibration that run {run.run_id} has, got {method}; it has {', '.join(['none', *kept])}"
        )


def stored_calibrators(run: Run) -> dict[str, Calibrator]:
    """Returns the calibrators of `run` by method."""
    kept = {method: read_stored_json(run, calibrator_path(method)) for method in METHODS}
    return {method: read_calibrator(content) for method, content in kept.items() if content is not None}


def listing(store: Store, condition: str = "") -> pd.DataFrame:
    """Returns a table with a row for each run that matches `condition` (MLflow's filter), the newest first.

    Columns: `run_id, name, status, started, parent`, then `params.NAME`, `metrics.NAME` and `tags.NAME`.
    """
    columns = ["run_id", "name", "status", "started", "parent"]
    table = pd.DataFrame([_row(run) for run in runs_where(store, condition)])
    return table if len(table) else pd.DataFrame(columns=columns)


def _row(run: Run) -> dict[str, object]:
    return {
        "run_id": run.run_id,
        "name": run.name,
        "status": run.status,
        "started": pd.Timestamp(run.started, unit="s", tz="UTC"),
        "parent": run.tags.get(PARENT_TAG),
        **{f"params.{name}": text for name, text in run.params.items()},
        **{f"metrics.{name}": value for name, value in run.metrics.items()},
        **{f"tags.{name}": text for name, text in run.tags.items()},
    }
