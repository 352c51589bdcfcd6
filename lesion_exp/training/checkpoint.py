"""Checkpoints of a training: when they are saved, how they are written, and which one a stopped run is resumed from."""

from __future__ import annotations

import functools
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, TypeVar

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint

from lesion_exp.errors import ConfigError
from lesion_exp.model.checkpoint_file import is_whole, read_checkpoint
from lesion_exp.tracking.stored_run import Run
from lesion_exp.training.run_context import NO_CONTEXT, RunContext
from lesion_exp.training.watched_metrics import Watched

log = logging.getLogger(__name__)

T = TypeVar("T")
LAST: Final = "last.ckpt"
BEFORE_LAST: Final = "last-1.ckpt"
COUNTED: Final = "batches_per_batch"
"""Key of a checkpoint: batches that its counters count for each batch of one of the job's processes."""


class ResumePoints(Checkpoint):
    """Saves `last.ckpt` after each epoch, and within epochs every `every_steps` steps or `every_minutes` minutes.

    A run that is resumed from any of them ends with the weights of a run that never stopped. For that, the checkpoint
    of an epoch is saved when the next epoch begins: only then have schedules and counters been updated. Within an epoch
    it is saved after an optimizer step, when no gradients are accumulated, and not where a validation is due, which
    Lightning would leave out after resuming.
    """

    def __init__(self, folder: Path, every_steps: int | None, every_minutes: float | None) -> None:
        self.path = folder / LAST
        self.every_steps = every_steps
        self.every_seconds = None if every_minutes is None else 60 * every_minutes
        self._saved_step = 0
        self._saved_time = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Corrects the state that Lightning restored: the order of the images, and a checkpoint between two epochs."""
        self._saved_step, self._saved_time = trainer.global_step, time.monotonic()
        loop = trainer.fit_loop
        if loop.is_resuming:
            assert loop._data_fetcher is not None, "the loaders are made"
            iter(
                loop._data_fetcher
            )  # the first iterator was made, and its workers started, before the counters were restored
        if loop.epoch_loop.batch_progress.current.ready == 0:
            loop._restarting = loop.epoch_loop._restarting = False

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves the state at the end of the previous epoch."""
        if trainer.global_step > self._saved_step:
            self._save(trainer)

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Lets the rest of a resumed epoch end like a whole one, with the step of an epoch-wise schedule."""
        trainer.fit_loop._restarting = False

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Saves the state within an epoch if that is due."""
        loop = trainer.fit_loop
        if loop.epoch_loop._should_accumulate() or not self._is_due(trainer):  # no checkpoint contains gradients
            return
        assert loop._data_fetcher is not None, "an epoch is running"
        if not loop.epoch_loop.batch_progress.is_last_batch and not loop.epoch_loop._should_check_val_fx(
            loop._data_fetcher
        ):
            self._save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves the state at the end of training."""
        self._save(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Corrects Lightning's counters, in which the next epoch has begun already, and says what they count."""
        checkpoint[COUNTED] = str(_counted(pl_module))
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
        """Lets a finished training continue with a new epoch if it has been extended, or on other processes."""
        state = checkpoint["loops"]["fit_loop"]
        epochs, batches = state["epoch_progress"]["total"], state["epoch_loop.batch_progress"]
        factor = _counted(pl_module) / Fraction(checkpoint.get(COUNTED, "1"))
        if factor != 1:
            for scope in ("total", "current"):
                batches[scope] = _counted_anew(batches[scope], factor, pl_module)
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
            logger.save()  # metrics of steps that the checkpoint contains must not be lost with the process
        trainer.save_checkpoint(self.path)
        self._saved_step, self._saved_time = trainer.global_step, time.monotonic()


def _counted(pl_module: pl.LightningModule) -> Fraction:
    """How many batches of this process are one batch of a process of the job."""
    counted: Fraction = getattr(pl_module, "batches_per_batch", Fraction(1))
    return counted


def _counted_anew(counts: Mapping[str, int], factor: Fraction, pl_module: pl.LightningModule) -> dict[str, int]:
    """Lightning's `counts` of batches, with `factor` batches of this process in the place of each.

    In a checkpoint within an epoch, Lightning has not yet counted the last batch as completed, and knows by this
    difference of 1 that it was trained.

    Raises:
        ConfigError: the checkpoint was saved in the middle of a step.
    """
    scaled = {name: count * factor for name, count in counts.items()}
    if counts["completed"] == counts["processed"] - 1:
        scaled["completed"] = scaled["processed"] - 1
    if any(count.denominator != 1 for count in scaled.values()):
        num_here = pl_module.trainer.world_size
        asked = getattr(pl_module, "asked_processes", None) or num_here
        before = asked * factor / _counted(pl_module)
        raise ConfigError(
            f"expected a checkpoint at the end of a step, got one within a step, as an earlier version saved it, with "
            f"which {num_here} processes cannot go on; start {before}, as before, with trainer.devices= or torchrun"
        )
    return {name: int(count) for name, count in scaled.items()}


class BestCheckpoints(ModelCheckpoint):
    """Keeps the checkpoints of the two best epochs, and skips files that are lost or damaged when a run is resumed."""

    def __init__(self, folder: Path, watched: Watched) -> None:
        # No metric in file names, since "=" would break overrides that name them. Two files, so that after a crash
        # between two saves the best one that `last.ckpt` refers to still exists.
        super().__init__(
            dirpath=folder,
            filename="best-{epoch:03d}-{step:06d}",  # an epoch may have several validations
            monitor=watched.metric,
            mode=watched.mode,
            save_top_k=2,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )
        self.has_lost = False
        """Whether a file of a best epoch was missing or damaged."""

    @property
    def state_key(self) -> str:
        """The key of the class that earlier versions used, so that their checkpoints can be resumed from."""
        return super().state_key.replace(type(self).__qualname__, "ModelCheckpoint", 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the best files that are whole, in this folder or where they were before the project was moved.

        The first process looks for all, which have to agree when they save; others may not see its files.
        """
        known: dict[str, Any] = state_dict.get("best_k_models", {})
        places = read_by_first(lambda: [self._place_of(Path(path)) for path in known])
        scores = dict(zip(places, known.values(), strict=True))
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
        """Returns the file of the best epoch whose file is whole; None if there is none."""
        scores = self.best_k_models
        ranked = sorted(scores, key=lambda path: float(scores[path]), reverse=self.mode == "max")
        return next((path for path in map(self._place_of, map(Path, ranked)) if path is not None), None)

    def _place_of(self, path: Path) -> Path | None:
        for place in (Path(str(self.dirpath)) / path.name, path):
            if is_whole(place):
                return place
        if path.is_absolute():  # otherwise it belongs to the run that this one extends, which kept a single file
            self.has_lost = True
            log.warning("the checkpoint %s of one of the best epochs is lost or damaged; the next best is taken", path)
        return None


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint under a temporary name, flushes it to the disk and renames it; keeps the previous `last`.

    The first process reads for all, whose machines may not have the file.
    """

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Reads the checkpoint at `path` in the first process and returns it in each."""
        read = functools.partial(super().load_checkpoint, path, *args, **kwargs)
        return dict(read_by_first(read))

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Saves `checkpoint` at `path`; `storage_options` are not used for files."""
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


def read_by_first(read: Callable[[], T]) -> T:
    """Returns on every process what `read` returns on the first."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return read()
    given: list[Any] = [None]
    if dist.get_rank() == 0:
        given = [read()]
    dist.broadcast_object_list(given)
    found: T = given[0]
    return found


def newest_checkpoint(folder: Path) -> Path | None:
    """Returns the newest whole checkpoint in the live folder of a run; a damaged one is skipped with a warning."""
    for path in (folder / LAST, folder / BEFORE_LAST):
        if path.is_file():
            if is_whole(path):
                return path
            log.warning("the checkpoint %s is damaged; looking for the one before it", path)
    return None


def best_file_name(content: Mapping[str, Any]) -> str | None:
    """Returns the file name of the best epoch so far, read from the checkpoint `content`.

    Returns None before the first validation.
    """
    states = (state for key, state in content["callbacks"].items() if key.startswith("ModelCheckpoint"))
    path = next((state["best_model_path"] for state in states), "")
    return Path(path).name if path else None


def copy_best_checkpoint(best: Path, checkpoint: Path, live_dir: Path) -> None:
    """Copies `best`, of the run that saved `checkpoint`, to where a continuation in `live_dir` expects it."""
    name = best_file_name(read_checkpoint(checkpoint))
    if name is not None:
        live_dir.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(best, live_dir / name)


def resume_context(run: Run, context: RunContext = NO_CONTEXT) -> RunContext:
    """`context` for resuming `run` from its newest whole checkpoint, with what the run resolved when it began.

    The best checkpoint of a run that `run` extends is left out: `run` has copied it, and may have a better one since.
    """
    checkpoint = newest_checkpoint(run.live_dir)
    return replace(
        context,
        continues=run.run_id,
        checkpoint=None if checkpoint is None else str(checkpoint),
        best=None,
        begun_devices=begun_devices(run),
        found=found_by_tuners(run),
    )


def begun_devices(run: Run) -> int | None:
    """Returns the number of devices of each machine with which `run` began; None if it is not known."""
    devices = run.params.get("resolved.trainer.devices", "")
    return int(devices) if devices.isdecimal() else None


def found_by_tuners(run: Run) -> dict[str, str]:
    """Returns the values that Lightning's tuners found in `run`, as texts, by the names `batch_size` and `lr`."""
    return {name.removeprefix("found."): text for name, text in run.params.items() if name.startswith("found.")}
