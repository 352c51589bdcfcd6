"""The points that a stopped run goes on from: when they are saved, how they are written, which one is whole."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint

from lesion_exp.evaluation.registry import mode_of
from lesion_exp.model.checkpoint_file import is_whole, read_checkpoint
from lesion_exp.tracking.find import Run
from lesion_exp.training.run_context import NO_CONTEXT, RunContext

log = logging.getLogger(__name__)

LAST: Final = "last.ckpt"
BEFORE_LAST: Final = "last-1.ckpt"


class ResumePoints(Checkpoint):
    """Saves `last.ckpt` whenever an epoch is over, and inside epochs every so many steps or minutes.

    A run that starts from any of them ends with the weights of one that never stopped. Two moments make that so. After
    an epoch the point is saved when the next one begins: only then have schedules and counters moved on. Inside an
    epoch it is saved after an optimizer step, so that no gradient is half gathered, and never where a validation is
    due: Lightning would leave that validation out.
    """

    def __init__(self, folder: Path, every_steps: int | None, every_minutes: float | None) -> None:
        self.path = folder / LAST
        self.every_steps = every_steps
        self.every_seconds = None if every_minutes is None else 60 * every_minutes
        self._saved_step = 0
        self._saved_time = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Puts what Lightning restored at the right place: the order of the images, and a point between two epochs."""
        self._saved_step, self._saved_time = trainer.global_step, time.monotonic()
        loop = trainer.fit_loop
        if loop.is_resuming:
            assert loop._data_fetcher is not None, "the loaders are made"
            iter(loop._data_fetcher)  # the first was made, and its workers began, before the counters were restored
        if loop.epoch_loop.batch_progress.current.ready == 0:
            loop._restarting = loop.epoch_loop._restarting = False

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves the state after the epoch before."""
        if trainer.global_step > self._saved_step:
            self._save(trainer)

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Lets the rest of a resumed epoch end like a whole one, with its step of an epoch-wise schedule."""
        trainer.fit_loop._restarting = False

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Saves the state inside an epoch where one is due."""
        if not self._is_due(trainer):
            return
        loop = trainer.fit_loop
        assert loop._data_fetcher is not None, "an epoch is running"
        if not loop.epoch_loop.batch_progress.is_last_batch and not loop.epoch_loop._should_check_val_fx(
            loop._data_fetcher
        ):
            self._save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves the end."""
        self._save(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Counts an epoch that has not begun as not begun."""
        state = checkpoint["loops"]["fit_loop"]
        epochs, batches = state["epoch_progress"], state["epoch_loop.batch_progress"]
        if epochs["total"]["ready"] == epochs["total"]["started"] + 1:
            for scope in ("total", "current"):
                epochs[scope]["ready"] = epochs[scope]["completed"]
            batches["current"] = dict.fromkeys(batches["current"], 0)
            batches["is_last_batch"] = False

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Lets a training that had ended go on with a new epoch, where it is longer now."""
        state = checkpoint["loops"]["fit_loop"]
        epochs, batches = state["epoch_progress"]["total"], state["epoch_loop.batch_progress"]
        if epochs["completed"] == epochs["ready"] and batches["is_last_batch"]:
            batches["current"] = dict.fromkeys(batches["current"], 0)
            batches["is_last_batch"] = False

    def _is_due(self, trainer: pl.Trainer) -> bool:
        new_steps = trainer.global_step - self._saved_step
        if new_steps == 0:
            return False
        if self.every_steps is not None and new_steps >= self.every_steps:
            return True
        if self.every_seconds is None:
            return False
        due = time.monotonic() - self._saved_time >= self.every_seconds
        return bool(trainer.strategy.broadcast(due)) if trainer.world_size > 1 else due  # all ranks save, or none

    def _save(self, trainer: pl.Trainer) -> None:
        for logger in trainer.loggers:
            logger.save()  # metrics of steps that the point counts as done must not be lost with the process
        trainer.save_checkpoint(self.path)
        self._saved_step, self._saved_time = trainer.global_step, time.monotonic()


class BestCheckpoints(ModelCheckpoint):
    """Keeps the two best epochs. Files that were lost or damaged while the run was stopped are passed over."""

    def __init__(self, folder: Path, metric: str) -> None:
        # "=" in file names would break overrides that name them, hence no metric names in them; two of them, so that
        # after a crash between two saves the best that `last.ckpt` knows of is still there
        super().__init__(
            dirpath=folder,
            filename="best-{epoch:03d}",
            monitor=metric,
            mode=mode_of(metric),
            save_top_k=2,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )
        self.has_lost = False
        """Whether a file of a best epoch was missing or damaged."""

    @property
    def state_key(self) -> str:
        """That of the class that earlier versions used, whose checkpoints can be gone on with."""
        return super().state_key.replace(type(self).__qualname__, "ModelCheckpoint", 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the best files that are whole, in this folder or where they lay before the project was moved."""
        scores = {self._place_of(Path(path)): score for path, score in state_dict.get("best_k_models", {}).items()}
        kept = {str(path): score for path, score in scores.items() if path is not None}
        ranked = sorted(kept, key=lambda path: float(kept[path]), reverse=self.mode == "max")
        is_full = len(ranked) == self.save_top_k
        super().load_state_dict(
            {
                **state_dict,
                "dirpath": self.dirpath,
                "best_k_models": kept,
                "best_model_path": ranked[0] if ranked else "",
                "best_model_score": kept[ranked[0]] if ranked else None,
                "kth_best_model_path": ranked[-1] if is_full else "",
                "kth_value": kept[ranked[-1]] if is_full else self.kth_value,
            }
        )

    def best_file(self) -> Path | None:
        """The file of the best epoch that is whole; None where there is none."""
        scores = self.best_k_models
        ranked = sorted(scores, key=lambda path: float(scores[path]), reverse=self.mode == "max")
        return next((path for path in map(self._place_of, map(Path, ranked)) if path is not None), None)

    def _place_of(self, path: Path) -> Path | None:
        for place in (Path(str(self.dirpath)) / path.name, path):
            if is_whole(place):
                return place
        if path.is_absolute():  # else it is of a run that this one continues, which kept no more than one
            self.has_lost = True
            log.warning("the checkpoint %s of one of the best epochs is lost or damaged; the next best is taken", path)
        return None


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint under another name, brings it to the disk, renames it; of `last` the one before is kept."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """See the class; `storage_options` are of no use for files."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.part")
        with partial.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        if path.name == LAST and path.exists():
            path.replace(path.with_name(BEFORE_LAST))
        partial.replace(path)


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint in the folder of a living run; a torn one is passed over with a warning."""
    for path in (folder / LAST, folder / BEFORE_LAST):
        if path.is_file():
            if is_whole(path):
                return path
            log.warning("the checkpoint %s is damaged; looking for the one before it", path)
    return None


def best_name(content: Mapping[str, Any]) -> str | None:
    """The file name of the best epoch so far, as the checkpoint `content` knows it; None before a validation."""
    states = (state for key, state in content["callbacks"].items() if key.startswith("ModelCheckpoint"))
    path = next((state["best_model_path"] for state in states), "")
    return Path(path).name if path else None


def place_best(best: Path, checkpoint: Path, live_dir: Path) -> None:
    """Copies `best`, of the run that saved `checkpoint`, to where a run that goes on from it in `live_dir` wants it."""
    name = best_name(read_checkpoint(checkpoint))
    if name is not None:
        live_dir.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(best, live_dir / name)


def link_to(run: Run, link: RunContext = NO_CONTEXT) -> RunContext:
    """`link` with `run` as the one to be gone on with, from its newest whole checkpoint."""
    checkpoint = newest_checkpoint(run.live_dir)
    return replace(link, continues=run.run_id, checkpoint=None if checkpoint is None else str(checkpoint))
