from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from lesion_exp.tracking.lightning_logger import TrackingLogger
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.tracking.store import Store
from lesion_exp.training.callbacks import LearningRate


class Line(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = self.layer(batch[0]).square().mean()
        self.log("train/loss", loss, on_step=True, on_epoch=False)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/loss", self.layer(batch[0]).square().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(logger: TrackingLogger, folder: Path, *callbacks: pl.Callback) -> None:
    trainer = pl.Trainer(
        max_epochs=2,
        logger=logger,
        callbacks=list(callbacks),
        log_every_n_steps=1,
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    loader = DataLoader(TensorDataset(torch.ones(6, 1)), batch_size=2)
    trainer.fit(Line(), loader, loader)


def test_metrics_of_a_fit_reach_the_run_under_their_names_at_global_steps(store: Store, tmp_path: Path) -> None:
    with TrackedRun.start(store, "tests", "fit", system_metrics_seconds=0) as run:
        logger = TrackingLogger(run, tmp_path)
        fit(logger, tmp_path)
        assert store.client.get_run(run.run_id).info.status == "RUNNING", "a fit is not the whole run"
        assert (logger.version, logger.name) == (run.run_id, run.experiment_id)
    metrics = store.client.get_run(run.run_id).data.metrics
    assert set(metrics) == {"train/loss", "val/loss"}
    points = store.client.get_metric_history(run.run_id, "train/loss")
    assert [point.step for point in points] == list(range(6))
    assert [point.step for point in store.client.get_metric_history(run.run_id, "val/loss")] == [2, 5]


def test_an_epoch_has_its_number_and_all_its_metrics_at_one_step(store: Store, tmp_path: Path) -> None:
    with TrackedRun.start(store, "tests", "epochs", system_metrics_seconds=0) as run:
        fit(TrackingLogger(run, tmp_path), tmp_path, LearningRate())
    found = {
        name: [(point.step, point.value) for point in store.client.get_metric_history(run.run_id, name)]
        for name in ("epoch", "train/lr", "val/loss")
    }
    assert found["epoch"] == [(2, 1.0), (5, 2.0)]
    assert found["train/lr"] == [(2, pytest.approx(0.1)), (5, pytest.approx(0.1))]
    assert [step for step, _ in found["val/loss"]] == [2, 5]


def test_other_ranks_log_nothing(tmp_path: Path) -> None:
    logger = TrackingLogger(None, tmp_path)
    fit(logger, tmp_path)
    assert (logger.version, logger.experiment, logger.save_dir) == (None, None, str(tmp_path))
