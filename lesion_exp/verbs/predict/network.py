"""A prediction by one network: its plan, the batches that are left, and its output."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

from lesion_exp.config.own_code import code_tags
from lesion_exp.dataset.table import UNKNOWN
from lesion_exp.evaluation.calibrator import Calibrator
from lesion_exp.model.checkpoint_file import weights_hash
from lesion_exp.model.precision import check_accelerator, precision_here, resolve_devices
from lesion_exp.model.predictor import Predictor
from lesion_exp.model.restore import Restored, restore
from lesion_exp.process.distributed_environment import run_modules
from lesion_exp.process.signals import preserve_stop_signals
from lesion_exp.text_table import write_csv
from lesion_exp.trained_runs.trained_run import TrainedRun
from lesion_exp.verbs.predict.active_learning import images_to_label
from lesion_exp.verbs.predict.images import contents_digest
from lesion_exp.verbs.predict.loop import Share, predict_plan
from lesion_exp.verbs.predict.output_files import check_is_new, folder_of, output_of, to_label_file
from lesion_exp.verbs.predict.plan import DONE_FILE, PLAN_FILE, PredictionPlan
from lesion_exp.verbs.predict.request import PredictionRequest
from lesion_exp.verbs.predict.requested_images import RequestedImages, requested_images, seen_images
from lesion_exp.verbs.predict.results import HEAD, FloatArray, Results, write_of_head
from lesion_exp.verbs.predict.thresholds import decision_thresholds, few_lesions

log = logging.getLogger(__name__)

WITHOUT_GPU: Final = "trainer.accelerator=cpu predicts without a GPU"


@dataclass(frozen=True)
class NetworkPrediction:
    """A prediction by the network of one run."""

    plan: PredictionPlan
    images: RequestedImages
    classes: tuple[str, ...]
    calibrator: Calibrator | None
    warnings: tuple[str, ...]

    @property
    def output(self) -> Path:
        """The file that is written."""
        return Path(self.plan.output)

    @property
    def facts(self) -> dict[str, Any]:
        """See `PredictionPlan.facts`."""
        return self.plan.facts

    @property
    def results(self) -> Results:
        """The batches so far."""
        return Results(folder_of(self.output), self.plan, len(self.images.table))

    def predicted(self, request: PredictionRequest) -> tuple[pd.DataFrame, str | None, int]:
        """Predicts what is left and writes the output; returns it, the file of the images to label next, and the number
        of images that were predicted before.

        Raises:
            ConfigError: the output exists, or another command began it.
        """
        results = self.results
        resumed = _begin(results, self.images.table, force=request.force)
        if results.are_whole:
            label_file = None if self.plan.rank is None else str(to_label_file(self.output))
            return results.read(), label_file, resumed
        fill(results)
        table = results.join()
        of_head = {name: results.of_head(name) for name in HEAD} if self.plan.with_features else {}
        if self.plan.features is not None:
            write_of_head(Path(self.plan.features), table, of_head, self.classes)
        return table, write_images_to_label(table, self.output, request, of_head.get("features")), resumed

    def finish(self) -> None:
        """Removes what only a prediction that is not complete needs."""
        self.results.finish()


def open_network(opened: TrainedRun, request: PredictionRequest) -> NetworkPrediction:
    """Opens the network of a run, and the images.

    Raises:
        ConfigError: the run has no network, or options contradict each other.
        DataError: there are no images, or columns that the network needs are missing.
    """
    config, checkpoint = opened.weights(request.checkpoint, request.tta, request.trainer)
    check_accelerator({**config["trainer"], **request.trainer}, WITHOUT_GPU)
    restored = restore(config, checkpoint, opened.run)
    calibrator = opened.calibrator(request.calibration)
    needed = Predictor(restored, calibrator, top=request.top or 0).needed_columns
    images = requested_images(request, needed, config)
    log_unknown_values(restored, images.table)
    plan = plan_of(
        opened.run_id, request, restored.config, checkpoint, images.table, output_of(request),
        calibrator=None if calibrator is None else calibrator.to_dict(), top=request.top or 0, rank=request.rank,
        heat_maps=None if request.heat_maps is None else str(request.heat_maps.expanduser().absolute()),
        features=None if request.features is None else str(request.features.expanduser().absolute()),
        thresholds=decision_thresholds(request, opened.run, restored.classes),
    )  # fmt: skip
    warnings = (*seen_images([opened.run], images, request), *few_lesions(request, opened.run))
    return NetworkPrediction(plan, images, restored.classes, calibrator, warnings)


def plan_of(
    run_id: str, request: PredictionRequest, config: Mapping[str, Any], checkpoint: Path, images: pd.DataFrame,
    output: Path, *, calibrator: Mapping[str, Any] | None = None, top: int = 0, rank: str | None = None,
    heat_maps: str | None = None, features: str | None = None, thresholds: Mapping[str, float] | None = None,
) -> PredictionPlan:  # fmt: skip
    """The plan of the predictions of one network."""
    loader = config["loader"]
    trainer = config["trainer"]
    precision = precision_here(trainer["precision"], trainer["accelerator"])
    config = {**config, "trainer": {**trainer, "precision": precision}}
    at_once = request.batch_size or loader["evaluation_batch_size"] or 2 * loader["batch_size"]
    devices = resolve_devices(request.trainer.get("devices", 1), config["trainer"]["accelerator"])
    num_batches = -(-len(images) // at_once)
    limit = devices[:num_batches] if isinstance(devices, list) else min(devices, num_batches)
    return PredictionPlan(
        run_id=run_id,
        checkpoint=str(checkpoint),
        weights_hash=weights_hash(checkpoint),
        config=config,
        calibrator=calibrator,
        source=request.shown_source,
        digest=contents_digest(images),
        output=str(output),
        top=top,
        rank=rank,
        batch_size=int(at_once),
        num_workers=request.num_workers,
        devices=limit,
        heat_maps=heat_maps,
        features=features,
        thresholds=dict(thresholds or {}),
        code=code_tags(config),
    )


def _begin(results: Results, images: pd.DataFrame, *, force: bool) -> int:
    """Begins or continues a prediction; returns the number of images that are predicted already."""
    plan, folder = results.plan, results.folder
    output = Path(plan.output)
    begun = (folder / PLAN_FILE).is_file()
    if results.are_whole:
        if not force and output.exists() and not plan.differences(PredictionPlan.read(folder, DONE_FILE)):
            log.info("%s is complete: the command that wrote it was stopped right afterwards", output)
            return len(images)
        results.finish()
    if not begun:
        results.clear()  # a folder without a plan cannot be continued
    if begun and not force:
        plan.check_same(PredictionPlan.read(folder))
    else:
        check_is_new(output, force=force)
        results.clear()
    plan.write(folder, images)
    if plan.heat_maps is not None:
        Path(plan.heat_maps).mkdir(parents=True, exist_ok=True)
    return num_done(results)


def num_done(results: Results) -> int:
    """The number of images that are predicted already, which the log says."""
    done = results.total - results.num_images(results.missing())
    if done:
        log.info("continuing: %s of %s images are predicted already", f"{done:,}", f"{results.total:,}")
    return done


def fill(results: Results) -> None:
    """Predicts the missing batches, in this process or, on several devices, in one process for each."""
    if not results.missing():
        return
    devices = results.plan.devices
    indices = devices if isinstance(devices, list) else range(devices)
    if len(indices) == 1:
        with preserve_stop_signals():
            predict_plan(results.folder, Share(gpu=indices[0]))
        return
    shares = [Share(rank, len(indices), index) for rank, index in enumerate(indices)]
    calls = [(str(results.folder), *map(str, share)) for share in shares]
    code = run_modules("lesion_exp.verbs.predict.process", calls)
    if code or results.missing():
        raise RuntimeError(f"a process of the prediction ended with exit code {code}; see its messages above")


def write_images_to_label(
    table: pd.DataFrame, output: Path, request: PredictionRequest, features: FloatArray | None
) -> str | None:
    """Writes the images to label next, if they are asked for, and returns their file."""
    if request.rank is None:
        return None
    path = to_label_file(output)
    write_csv(images_to_label(table, request.rank, request.count, features), path)
    return str(path)


def log_unknown_values(restored: Restored, images: pd.DataFrame) -> None:
    """Warns about values of metadata with which the network was not trained."""
    if restored.encoder is None:
        return
    for column, known in (("sex", restored.encoder.sexes), ("site", restored.encoder.sites)):
        strange = sorted(set(images[column]) - {*known, UNKNOWN})
        if strange:
            log.warning(
                "%s of %s is not a value of the training part and counts as missing; the known values are %s",
                column, ", ".join(map(repr, strange[:5])), ", ".join(known),
            )  # fmt: skip
