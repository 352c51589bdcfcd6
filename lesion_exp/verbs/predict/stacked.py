"""A prediction by a stacked ensemble: its networks predict one after the other, then the model that was fitted on them.

The context of a lesion is made of the patient's other lesions among the images of the same command.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from lesion_exp.config.project import Project
from lesion_exp.dataset.missing_values import known_texts
from lesion_exp.dataset.table import UNKNOWN, standardize
from lesion_exp.errors import ConfigError, DataError
from lesion_exp.evaluation.calibrator import Calibrator, with_probabilities
from lesion_exp.evaluation.predictions import PREFIX, FloatArray, probabilities
from lesion_exp.evaluation.stacking import Stacking
from lesion_exp.model.precision import check_accelerator
from lesion_exp.model.predictor import Predictor, predicted_table
from lesion_exp.model.restore import Restored, restore
from lesion_exp.taxonomy import RESEARCH_ONLY
from lesion_exp.text_table import typed
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.stored_run import Run
from lesion_exp.trained_runs.trained_run import TrainedRun, joined_tta, own_tta, trained_run
from lesion_exp.verbs.predict.network import (
    WITHOUT_GPU,
    fill,
    log_unknown_values,
    num_done,
    plan_of,
    write_images_to_label,
)
from lesion_exp.verbs.predict.output_files import check_is_new, folder_of, output_of
from lesion_exp.verbs.predict.plan import PLAN_FILE, PredictionPlan
from lesion_exp.verbs.predict.request import PredictionRequest
from lesion_exp.verbs.predict.requested_images import RequestedImages, seen_images
from lesion_exp.verbs.predict.results import Results, write_output
from lesion_exp.verbs.predict.stack_images import stack_images
from lesion_exp.verbs.predict.thresholds import decision_thresholds, few_lesions
from lesion_exp.version import __version__

_OF_NETWORKS: Final = "a stacked ensemble reads the probabilities of its networks alone"


@dataclass(frozen=True)
class StackPrediction:
    """A prediction by a stacked ensemble."""

    run: Run
    stacking: Stacking
    members: tuple[tuple[PredictionPlan, ...], ...]
    """The plans of the networks of each member; the folds of a cross-validation are one, whose mean it is."""
    images: RequestedImages
    tables: Mapping[str, pd.DataFrame]
    """The table of images that each network reads, by its run."""
    columns: pd.DataFrame
    """What the ensemble reads beside the predictions, a row for each image."""
    calibrator: Calibrator | None
    output: Path
    warnings: tuple[str, ...]
    thresholds: Mapping[str, float]
    """By which a class is predicted, see `decided`."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of the ensemble."""
        return self.stacking.features.classes

    @property
    def _folder(self) -> Path:
        return folder_of(self.output)

    @property
    def _plans(self) -> list[PredictionPlan]:
        return [plan for plans in self.members for plan in plans]

    @property
    def facts(self) -> dict[str, Any]:
        """How the probabilities are made, as plain values; see `PredictionPlan.facts`."""
        fitted = None if self.calibrator is None else self.calibrator.to_dict()
        tta = {plan.run_id: plan.config["evaluation"]["tta"] for plan in self._plans}
        made_of = [json.dumps(self.stacking.to_dict(), sort_keys=True), *(plan.weights_hash for plan in self._plans)]
        return {
            "run_id": self.run.run_id,
            "weights_hash": hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:16],
            "networks": {plan.run_id: plan.weights_hash for plan in self._plans},
            "calibration": "none" if fitted is None else fitted["method"],
            "calibration_fitted_on": None if fitted is None else fitted["fitted_on"],
            "tta": joined_tta(tta.values()),
            "tta_by_network": tta,
            "precision": ", ".join(dict.fromkeys(plan.config["trainer"]["precision"] for plan in self._plans)),
            "thresholds": dict(self.thresholds),
            "version": __version__,
            "use": RESEARCH_ONLY,
        }

    def predicted(self, request: PredictionRequest) -> tuple[pd.DataFrame, str | None, int]:
        """See `NetworkPrediction.predicted`; the number is that of the last network.

        Raises:
            ConfigError: the output exists, or another command began it.
        """
        self._begin(force=request.force)
        resumed = 0
        tables = []
        for plans in self.members:
            found = []
            for plan in plans:
                results = Results(self._folder / plan.run_id, plan, len(self.images.table))
                resumed = num_done(results)
                fill(results)
                found.append(pd.concat(list(results.tables()), ignore_index=True))
            tables.append(_mean(found))
        table = self._combined(tables, request.top or 0)
        write_output(table, self.output, self.facts)
        return table, write_images_to_label(table, self.output, request, None), resumed

    def finish(self) -> None:
        """Removes the batches of the networks."""
        shutil.rmtree(self._folder)

    def _begin(self, *, force: bool) -> None:
        if force:
            shutil.rmtree(self._folder, ignore_errors=True)
        elif not self._folder.is_dir():
            check_is_new(self.output, force=False)
        elif (self._folder / PLAN_FILE).is_file():
            self._plans[0].check_same(PredictionPlan.read(self._folder))
        for plan in self._plans:
            folder = self._folder / plan.run_id
            if (folder / PLAN_FILE).is_file():
                plan.check_same(PredictionPlan.read(folder))
            plan.write(folder, self.tables[plan.run_id])

    def _combined(self, tables: Sequence[pd.DataFrame], top: int) -> pd.DataFrame:
        """The predictions of the ensemble; an image that a network could not predict has none, and is no context."""
        errors = pd.concat([table["error"] for table in tables], axis=1).bfill(axis=1).iloc[:, 0].fillna("")
        usable = (errors == "").to_numpy()
        probs = np.full((len(errors), len(self.classes)), np.nan)
        if usable.any():
            columns = self.columns[usable].reset_index(drop=True)
            chosen = [_probs_of(table[usable]).reset_index(drop=True) for table in tables]
            found = self.stacking.probabilities([pd.concat([columns, each], axis=1) for each in chosen])
            probs[usable] = found if self.calibrator is None else self.calibrator.apply(found)
        names = self.images.table["image"].tolist()
        return predicted_table(names, errors.tolist(), probs, self.classes, top, self.thresholds)


def open_stack(opened: TrainedRun, request: PredictionRequest, project: Project) -> StackPrediction:
    """Opens the stacked ensemble of a run, its networks, and the images.

    Raises:
        ConfigError: an option needs one network, or a network is not in the store.
        DataError: there are no images, or columns are missing that the ensemble reads.
    """
    run = opened.run
    _check_options(request)
    content = json.loads(opened.artifact(artifacts.STACKING).read_text(encoding="utf-8"))
    stacking = Stacking.from_dict(content)
    calibrator = opened.calibrator(request.calibration)
    members = [[trained_run(find_run(run.store, name), project) for name in names] for names in content["predicts"]]
    networks = [network for member in members for network in member]
    fitted_with = _tta_of_fit(content, run, networks)
    needed: dict[str, tuple[str, ...]] = {}
    configs: dict[str, tuple[Mapping[str, Any], Path, Restored]] = {}
    for network in networks:
        tta = request.tta or fitted_with[network.run_id]
        config, checkpoint = network.weights("best", tta, request.trainer)
        check_accelerator({**config["trainer"], **request.trainer}, WITHOUT_GPU)
        restored = restore(config, checkpoint, network.run)
        needed[network.run_id] = Predictor(restored, top=request.top or 0).needed_columns
        configs[network.run_id] = (restored.config, checkpoint, restored)
    images, tables = stack_images(request, needed, {name: config for name, (config, _, _) in configs.items()})
    for name, (_, _, restored) in configs.items():
        log_unknown_values(restored, tables[name])
    columns = _columns(stacking, images, request)
    output = output_of(request)

    def plan(network: TrainedRun) -> PredictionPlan:
        config, checkpoint, _ = configs[network.run_id]
        own = folder_of(output) / f"{network.run_id}.parquet"
        return plan_of(network.run_id, request, config, checkpoint, tables[network.run_id], own)

    plans = tuple(tuple(plan(network) for network in member) for member in members)
    thresholds = decision_thresholds(request, run, stacking.features.classes)
    seen = seen_images([one.run for one in networks], images, request)
    views = _other_tta(request.tta, fitted_with)
    warnings = (*stacking.features.missing(columns), *views, *seen, *few_lesions(request, run))
    return StackPrediction(run, stacking, plans, images, tables, columns, calibrator, output, warnings, thresholds)


def _tta_of_fit(content: Mapping[str, Any], run: Run, networks: Sequence[TrainedRun]) -> dict[str, str]:
    """The test-time augmentation of the predictions on which the ensemble was fitted, by network.

    An ensemble that was stored without them was fitted on the networks' own predictions, unless its own augmentation is
    not that of its first network: then it was chosen for all.
    """
    if "tta" in content:
        kept = [tta for member in content["tta"] for tta in member]
        return {network.run_id: tta for network, tta in zip(networks, kept, strict=True)}
    own = {network.run_id: own_tta(network.run) for network in networks}
    is_chosen = own_tta(run) != own[networks[0].run_id]
    return dict.fromkeys(own, own_tta(run)) if is_chosen else own


def _other_tta(chosen: str | None, fitted_with: Mapping[str, str]) -> list[str]:
    """A warning if `chosen` is not the test-time augmentation with which the ensemble was fitted."""
    if chosen is None or set(fitted_with.values()) == {chosen}:
        return []
    before = ", ".join(f"{name[:8]} {tta}" for name, tta in fitted_with.items())
    return [
        f"the ensemble was fitted on predictions with another test-time augmentation ({before}) than tta={chosen}, so "
        f"that its probabilities are others than those of its evaluation; leave tta= out to get the same"
    ]


def _check_options(request: PredictionRequest) -> None:
    refused = {
        "gradcam": request.heat_maps is not None,
        "rank=coreset": request.rank == "coreset",
        "output_features": request.features is not None,
        "checkpoint": request.checkpoint != "best",
    }
    for key, given in refused.items():
        if given:
            raise ConfigError(f"expected no {key} for a stacked ensemble, since {_OF_NETWORKS}; leave it out, or "
                              f"predict with one of its runs")  # fmt: skip


def _columns(stacking: Stacking, images: RequestedImages, request: PredictionRequest) -> pd.DataFrame:
    """The ids and metadata that the ensemble reads, with the types of a data set's table."""
    features, known = stacking.features, images.known
    lacking = [name for name in (*features.numbers, *features.texts) if name not in known]
    if lacking:
        raise DataError(
            f"expected a csv, or dataset=, with the columns {', '.join(lacking)}, since this stacked ensemble reads "
            f"them beside the images, got none of that name in {request.shown_source}; a column without values is "
            f"enough"
        )
    wanted = [name for name in ("lesion_id", "patient_id", *features.numbers, *features.texts) if name in known]
    if request.dataset is not None:
        return known[wanted]
    table = standardize(known[["image_id", *wanted]].assign(label=None), request.shown_source)
    own = {name: typed(table[name]) for name in wanted if table[name].dtype == object and name in features.numbers}
    if "source" in wanted:  # `standardize` writes the name of the input into it
        own["source"] = known_texts(known["source"]).fillna(UNKNOWN).reset_index(drop=True)
    return table.assign(**own)[wanted]


def _mean(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The mean probabilities of several networks, and the first reason why an image has none."""
    if len(tables) == 1:
        return tables[0]
    probs: FloatArray = np.mean([probabilities(table) for table in tables], axis=0)
    errors = pd.concat([table["error"] for table in tables], axis=1).bfill(axis=1).iloc[:, 0]
    values = probs / probs.sum(axis=1, keepdims=True)
    return with_probabilities(tables[0], values).assign(error=errors)


def _probs_of(table: pd.DataFrame) -> pd.DataFrame:
    return table.filter(regex=f"^{PREFIX}")
