"""The measurement of the leak meter: every trained network on its own test part and on the clean part."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

from lesion_exp.config.freeze import Job
from lesion_exp.data.store import ImageStore
from lesion_exp.dataset.display_name import display_name
from lesion_exp.errors import DataError
from lesion_exp.evaluation.figures.forest_plots import inflation_figure
from lesion_exp.evaluation.inflation import inflation
from lesion_exp.evaluation.intervals import lesion_of
from lesion_exp.evaluation.paired_tests import paired_differences
from lesion_exp.evaluation.pairing import aligned
from lesion_exp.split.audit import audit
from lesion_exp.split.held_out import HeldOut
from lesion_exp.sweeps.cell import Cell
from lesion_exp.sweeps.ledger import Sweep
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.run_writer import RunWriter
from lesion_exp.tracking.store import Store
from lesion_exp.tracking.stored_run import Run, download_artifact, read_predictions, read_stored_table
from lesion_exp.training.data import LoadedData, load_data, make_splitter, split_data, with_groups
from lesion_exp.training.tracked import check_same_data, job_choices
from lesion_exp.verbs.leakage.leakage_report import METRICS, Arm, LeakageReport

log = logging.getLogger(__name__)

CLEAN: Final = artifacts.CLEAN_PREDICTIONS
"""The path at which a run stores its predictions on the clean part."""
CHECKPOINT: Final = artifacts.checkpoint()
FIGURE: Final = f"{artifacts.LEAKAGE}.png"


@dataclass(frozen=True)
class Measured:
    """The report, and the path of its figure."""

    report: LeakageReport
    figure: Path


@dataclass(frozen=True)
class _Trained:
    """A trained network with its predictions on the clean part."""

    way: str
    run: Run
    job: Job
    clean: pd.DataFrame


def measure(sweep: Sweep, store: Store) -> Measured:
    """Returns the report of a leak meter whose cells have all finished, and stores it in the run of the sweep.

    Each network predicts the clean part once, and its run stores the predictions.

    Raises:
        DataError: data, checkpoints or predictions are missing or have changed.
    """
    trained = _on_clean_part(sweep.cells(), store)
    parent = sweep.facts.parent_run_id
    assert parent is not None, "a sweep with finished cells has a run"
    config = trained[0].job.config
    report = LeakageReport(
        run_id=parent,
        sweep_id=sweep.facts.sweep_id,
        title=_title(trained[0].job),
        dataset=display_name(config["dataset"]),
        clean_images=len(trained[0].clean),
        clean_lesions=lesion_of(trained[0].clean)[1],
        epochs=int(config["trainer"]["max_epochs"]),
        batches=int(config["trainer"]["limit_train_batches"]),
        batch_size=int(config["loader"]["batch_size"]),
        draws=int(config["evaluation"]["bootstrap_draws"]),
        unnamed=_unnamed(trained[0].run),
        arms=tuple(_arm(one, trained[0].clean) for one in trained),
    )
    return Measured(report, _keep(report, store))


def _on_clean_part(cells: Sequence[Cell], store: Store) -> list[_Trained]:
    """The trained networks with their predictions on the clean part, the same rows in the same order."""
    loaded: LoadedData | None = None
    found: list[tuple[str, Run, Job]] = []
    tables: dict[str, pd.DataFrame] = {}
    for cell in cells:
        job, run_id = cell.job(), cell.state().run_id
        assert run_id is not None, "a finished cell has a run"
        run = find_run(store, run_id)
        way = str(job.config["split"]["way"])
        kept = read_stored_table(run, CLEAN)
        if kept is None:
            loaded = loaded or load_data(job.config)
            log.info("%s: the network of run %s on the clean part", way, run.run_id)
            tables[way] = _predict_clean(run, job.config, loaded)
        else:
            tables[way] = kept
        found.append((way, run, job))
    same = aligned(tables)
    return [_Trained(way, run, job, same[way]) for way, run, job in found]


def _predict_clean(run: Run, config: Mapping[str, Any], loaded: LoadedData) -> pd.DataFrame:
    """The predictions of a network on the clean part, after a check that it is clean. The run stores them.

    Raises:
        DataError: the data have changed since training, or the part is not clean.
    """
    from lesion_exp.model.restore import restore

    split = split_data(config, loaded)
    check_same_data(run, split)
    splitter = make_splitter(config["split"])
    assert isinstance(splitter, HeldOut), "plan_meter() sets this split"
    clean = splitter.clean_rows(with_groups(config["split"], loaded.table))
    _check_clean(clean, split.table, config["split"]["near_duplicate_threshold"])
    table = _predicted(restore(config, download_artifact(run, CHECKPOINT), run), clean, loaded.store)
    written = RunWriter.of(run)
    written.log_table(table, CLEAN)
    return table


def _predicted(network: Any, rows: pd.DataFrame, store: ImageStore) -> pd.DataFrame:
    table: pd.DataFrame = network.predict(rows, store)
    return table


def _check_clean(clean: pd.DataFrame, rest: pd.DataFrame, threshold: float) -> None:
    once = rest.drop_duplicates("image_id").assign(split="train")
    found = audit(pd.concat([once, clean.assign(split="test")], ignore_index=True), threshold)
    if not found.passed:
        raise DataError(
            f"expected a clean part that shares no lesion or image with the other parts, got one that does:\n"
            f"{found.summary()}\nset another split.seed, or remove the duplicates with dataset.filter"
        )


def _arm(trained: _Trained, control: pd.DataFrame) -> Arm:
    run, node = trained.run, trained.job.config["evaluation"]
    own = read_predictions(run, "test")
    audited = _audit(run)
    draws, seed = int(node["bootstrap_draws"]), int(node["bootstrap_seed"])
    return Arm(
        way=trained.way,
        run_id=run.run_id,
        train_rows=int(audited["parts"]["train"]["images"]),
        test_rows=len(own),
        test_lesions=lesion_of(own)[1],
        image_in_train=float(audited["test_rows_with_image_in_train"]["all"]),
        lesion_in_train=float(audited["test_rows_with_lesion_in_train"]["all"]),
        scores=inflation(own, trained.clean, METRICS, draws, seed, node["bootstrap_unit"]),
        against_grouped=paired_differences(trained.clean, control, METRICS, draws, seed, node["bootstrap_unit"]),
    )


def _audit(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(download_artifact(run, artifacts.AUDIT).read_text(encoding="utf-8"))
    return found


def _unnamed(run: Run) -> float:
    audited = _audit(run)
    return float(audited["unnamed_images"] / audited["num_images"])


def _title(job: Job) -> str:
    choices = job_choices(job)
    return f"{choices['backbone']} on {choices['dataset']}, {job.config['image_size']} px"


def _keep(report: LeakageReport, store: Store) -> Path:
    """Stores values, figure, text and metrics in the run of the sweep, and returns the path of the figure."""
    run = find_run(store, report.run_id)
    written = RunWriter.of(run)
    written.log_json(report.to_dict(), f"{artifacts.LEAKAGE}.json")
    written.log_text(report.as_markdown(), f"{artifacts.LEAKAGE}.md")
    written.log_figure(
        inflation_figure(report.panels(), report.title, report.reference()), FIGURE, "test and clean parts"
    )
    written.log_late_metrics(report.metrics())
    store.client.set_tag(run.run_id, "mlflow.note.content", report.as_markdown())
    store.client.set_tag(run.run_id, "mlflow.runName", f"leak meter: {report.title}")
    return download_artifact(run, FIGURE)
