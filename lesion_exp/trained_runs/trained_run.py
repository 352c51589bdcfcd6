"""A run that exists: its job on this machine, its data, its network, and what it keeps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from lesion_exp.choices import CHOICES
from lesion_exp.config.compatibility import check_complete
from lesion_exp.config.freeze import Job
from lesion_exp.config.project import Project
from lesion_exp.config.relocate import relocated
from lesion_exp.errors import ConfigError, DataError, check_choice
from lesion_exp.evaluation.calibrator import METHODS, Calibrator, read_calibrator
from lesion_exp.evaluation.posthoc import calibrator_path
from lesion_exp.evaluation.registry import added_among, shown_in
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.find import Run, download_artifact, read_predictions
from lesion_exp.training.data import SplitData, load_data, split_data
from lesion_exp.training.tracked import check_same_data, job_of, names_of_job_tags

if TYPE_CHECKING:  # torch and Lightning are imported where a network is needed: kept predictions need none
    from lesion_exp.model.predictor import Predictor
    from lesion_exp.model.restore import Restored

WhichWeights = Literal["best", "last"] | Path
"""A checkpoint of the run, or a file with other weights of it."""


def headline_lines(metrics: Mapping[str, float]) -> list[str]:
    """What a run came to, a line a headline metric, with its interval where it has one."""
    stages, lines = ("test/", "best/val/"), []
    for name in (
        f"{stage}{name}" for stage in stages for name in (*shown_in("headline"), *added_among(metrics, stage))
    ):
        low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
        interval = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
        if name in metrics:
            lines.append(f"  {name} {metrics[name]:.3f}{interval}")
    return lines


@dataclass(frozen=True, repr=False)
class TrainedRun:
    """A run with its job on this machine."""

    run: Run
    job: Job | None
    """None for a run that trained nothing itself, such as an ensemble."""
    evaluation: Mapping[str, Any]
    """How it is evaluated: the node `evaluation` of its job, or another in its place."""

    def __repr__(self) -> str:
        """Id, name and status, and what it came to."""
        return "\n".join([f"run {self.run.run_id} ({self.run.name}), {self.run.status}", *headline_lines(self.metrics)])

    @property
    def run_id(self) -> str:
        """Its id in MLflow."""
        return self.run.run_id

    @property
    def card(self) -> dict[str, Any]:
        """What its checkpoint says of its network: classes, normalisation, metadata, the run it comes from.

        Raises:
            DataError: the run keeps no checkpoint.
        """
        from lesion_exp.model.checkpoint_file import read_checkpoint

        return dict(read_checkpoint(self.artifact(artifacts.checkpoint()))["lesion_exp"])

    @property
    def config(self) -> Mapping[str, Any] | None:
        """The job's config; None where there is no job."""
        return None if self.job is None else self.job.config

    @property
    def needs_new_predictions(self) -> bool:
        """Whether another test-time augmentation is asked for than that of the predictions that the run keeps."""
        return bool(self.evaluation["tta"] != own_tta(self.run))

    @property
    def leaky(self) -> bool:
        """Whether the run is marked as leaky."""
        return self.run.tags.get("leaky") == "true"

    @property
    def metrics(self) -> dict[str, float]:
        """What the run came to: `best/val/...`, `test/...`."""
        return self.run.results()

    def frozen_job(self, wanted_for: str) -> Job:
        """The job that the run was made from, with the places of this machine.

        Raises:
            ConfigError: the run trained nothing.
        """
        if self.job is None:
            remedy = "keeps predictions only; name the runs that it was made of, run=[A,B]"
            if sweep := self.run.tags.get("sweep_id"):
                remedy = f"trained nothing itself; name one of its cells, which lesion-exp sweep status {sweep} lists"
            raise ConfigError(
                f"expected a run that was trained, for {wanted_for}, got {self.run.run_id} ({self.run.name}), which "
                f"{remedy}"
            )
        return self.job

    def job_config(self, wanted_for: str) -> Mapping[str, Any]:
        """The job's config, with the places of this machine and the evaluation asked for.

        Raises:
            ConfigError: the run trained nothing, or its job was frozen by another version.
        """
        config = {**self.frozen_job(wanted_for).config, "evaluation": dict(self.evaluation)}
        check_complete(config)
        return config

    def artifact(self, path: str) -> Path:
        """The file or folder `path` of the run on this machine.

        Raises:
            DataError: the run has none of that name.
        """
        return download_artifact(self.run, path)

    def predictions(self, part: Literal["val", "test"] = "test") -> pd.DataFrame:
        """The predictions table on a part of the data that the run was made with, images of unknown classes included.

        Without another test-time augmentation it is the one that the run keeps: neither images nor network are read.

        Raises:
            ConfigError: the run trained nothing, or has not finished.
            DataError: the run keeps none of that part, or its data are no longer what they were.
        """
        if not self.needs_new_predictions:
            return read_predictions(self.run, part, with_unknown=True)
        split = self.data()
        return self.network().predict(split.table[split.table["split"] == part], split.loaded.store)

    def data(self) -> SplitData:
        """The data set of the run with its split, proven to be the one it was made with.

        Raises:
            ConfigError: the run trained nothing.
            DataError: something has changed since.
        """
        config = self.job_config("new predictions on its own data")
        split = split_data(config, load_data(config))
        check_same_data(self.run, split)
        return split

    def network(self, checkpoint: WhichWeights = "best") -> Restored:
        """The network with its best weights, its last ones, or those in a file.

        Raises:
            ConfigError: the run has none.
            DataError: its checkpoint is gone.
        """
        from lesion_exp.model.restore import restore

        config = self.job_config("a network")
        check_finished(self.run)
        if isinstance(checkpoint, Path):
            return restore(config, checkpoint.absolute())
        return restore(config, self.artifact(artifacts.checkpoint(checkpoint)))

    def predictor(
        self, calibration: str = "none", tta: str | None = None, checkpoint: WhichWeights = "best", top: int = 0
    ) -> Predictor:
        """What predicts images in memory, with the run's weights, on this machine.

        Args:
            calibration: the name of one that was fitted on the run's validation part; none: the network's own
                probabilities.
            tta: another test-time augmentation than that of the run.
            checkpoint: which of the run's weights, or a file with other weights of it.
            top: how many of the likeliest classes get a column of their own.

        Raises:
            ConfigError: a run without a network, or a calibration of other weights.
            DataError: its checkpoint or calibration is gone.
        """
        from lesion_exp.model.predictor import Predictor
        from lesion_exp.model.restore import restore

        check_calibration(calibration, checkpoint)
        return Predictor(restore(*self.weights(checkpoint, tta)), self.calibrator(calibration), top=top)

    def weights(
        self,
        checkpoint: WhichWeights = "best",
        tta: str | None = None,
        trainer: Mapping[str, Any] = MappingProxyType({}),
    ) -> tuple[dict[str, Any], Path]:
        """The config with which the run predicts on this machine, and the file of its weights.

        Args:
            checkpoint: which weights.
            tta: another test-time augmentation than that of the run.
            trainer: `accelerator` and `precision`, where they are chosen; the precision is else the run's.

        Raises:
            ConfigError: a run without a network, or one that has not finished.
            DataError: its checkpoint is gone.
        """
        from lesion_exp.model.precision import resolve_precision

        views = {} if tta is None else {"tta": tta}
        config = replace(self, evaluation={**self.evaluation, **views}).job_config("predictions")
        chosen = {key: value for key, value in trainer.items() if key != "devices"}
        accelerator = "cpu" if config["trainer"]["accelerator"] == "cpu" else "auto"  # it may have no GPU here
        node = {**config["trainer"], "accelerator": accelerator, "devices": 1, **chosen}
        if "precision" in chosen:  # auto, where the user says so, is what suits this machine, not what the run had
            node["precision"] = resolve_precision(node["precision"], node["accelerator"])
        config = {**config, "trainer": node}
        if isinstance(checkpoint, Path):
            return config, checkpoint.absolute()
        if self.run.status != "FINISHED":
            raise ConfigError(
                f"expected a run that has finished, got {self.run_id} ({self.run.status}); lesion-exp resume "
                f"run={self.run_id} goes on with one that stopped, and run=FILE.ckpt takes the weights that it has"
            )
        return config, self.artifact(artifacts.checkpoint(checkpoint))

    def calibrator(self, method: str) -> Calibrator | None:
        """The calibration `method` that was fitted on the run's validation part; None is that of `none`.

        Raises:
            DataError: the run keeps no such calibration.
        """
        if method == "none":
            return None
        kept = stored_calibrators(self.run)
        if method not in kept:
            raise DataError(
                f"expected a calibration that run {self.run.run_id} keeps, got {method}; it has "
                f"{', '.join(['none', *kept])}"
            )
        return kept[method]


def check_calibration(calibration: str, checkpoint: WhichWeights) -> None:
    """Checks that `calibration` is one, and that it belongs to the weights of `checkpoint`.

    Raises:
        ConfigError: it is or does not.
    """
    check_choice("calibration", calibration, CHOICES["evaluation.calibration"])
    if calibration != "none" and checkpoint != "best":
        raise ConfigError(
            f"expected calibration=none with other weights than the run's best, got {calibration}: it was "
            f"fitted on what the best ones say; leave calibration= or the checkpoint out"
        )


def trained_run(run: Run, project: Project, data_root: Path | None = None) -> TrainedRun:
    """`run` with its job moved to this machine, to be evaluated as its own predictions were made.

    Args:
        run: as `find_run` gives it.
        project: of this machine.
        data_root: where its data set lies now; None: where it did.

    Raises:
        ConfigError, DataError: its job is damaged, or was frozen by another version.
    """
    tta = {"tta": own_tta(run)}
    if run.fetch(artifacts.JOB) is None and not names_of_job_tags(run.tags):
        return TrainedRun(run, None, tta)
    places = {} if data_root is None else {"dataset.root": data_root}
    job = relocated(job_of(run), replace(project, store_uri=run.store.uri), places)
    return TrainedRun(run, job, {**job.config["evaluation"], **tta})


def own_tta(run: Run) -> str:
    """The test-time augmentation of the predictions that the run keeps."""
    return run.params.get("evaluation.tta", "none")


def check_finished(run: Run) -> None:
    """Checks that the training of `run` has come to its end.

    Raises:
        ConfigError: it has not.
    """
    if run.status != "FINISHED":
        raise ConfigError(
            f"expected a run that has finished, got {run.run_id} ({run.status}); lesion-exp resume run={run.run_id} "
            f"goes on with one that stopped"
        )


def stored_calibrators(run: Run) -> dict[str, Calibrator]:
    """The calibrations that `run` keeps, by their methods."""
    kept = {method: run.fetch(calibrator_path(method)) for method in METHODS}
    return {
        method: read_calibrator(json.loads(path.read_text(encoding="utf-8")))
        for method, path in kept.items()
        if path is not None
    }
