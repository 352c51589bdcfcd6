"""Measures how fast this machine trains and evaluates a network, with the real network, loader and trainer."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import psutil
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from lesion_exp.training.build import Built, build
from lesion_exp.training.data import SplitData
from lesion_exp.training.trainer import build_trainer
from lesion_exp.verbs.plan.candidate import Candidate, Speed

log = logging.getLogger(__name__)

TRAINING_SHARE: Final = 0.75
"""Share of the time of a measurement in which the network trains; in the rest it evaluates."""
WARM_UP: Final = 2
"""Training batches at the start that do not count: they allocate memory and choose kernels."""
LEAST_BATCHES: Final = 4
"""Batches that count, however long they take."""


def measure(config: Mapping[str, Any], split: SplitData, candidate: Candidate, seconds: float) -> Speed | None:
    """Trains the job `config` of `candidate` for about `seconds`; None if the device has too little memory for it.

    The test part is left out, so that none of its images can be read.
    """
    seen = replace(split, table=split.table[split.table["split"] != "test"])
    trains = candidate.tune != "head"
    timer = _Timer(time.monotonic() + TRAINING_SHARE * seconds)
    node = {**config["trainer"], "check_val_every_n_epoch": 10**6, "max_epochs": 10**6, "devices": 1}
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        built = build({**config, "trainer": node}, seen)
        with tempfile.TemporaryDirectory(prefix="lesion_exp_plan_") as folder:
            trainer = build_trainer(node, False, Path(folder), [timer], watched=None)
            if trains:
                trainer.fit(built.classifier, datamodule=built.datamodule)
            trainer.limit_val_batches = _batches_within((1 - TRAINING_SHARE) * seconds, timer.speed("train"), built)
            trainer.validate(built.classifier, datamodule=built.datamodule, verbose=False)
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
        log.warning("%s needs more memory than the GPU has free", candidate.name)
        return None
    on_gpu = trainer.strategy.root_device.type == "cuda"
    memory = torch.cuda.max_memory_allocated() if on_gpu else psutil.Process().memory_info().rss
    return Speed(candidate, timer.speed("train"), timer.speed("val"), memory)


def _batches_within(seconds: float, training_speed: float, built: Built) -> int:
    """The validation batches that take about `seconds`, if evaluation is twice as fast as training."""
    size = built.datamodule.loader.evaluation_batch_size or 2 * built.datamodule.batch_size
    return max(round(seconds * 2 * training_speed / size), LEAST_BATCHES + 1)


class _Timer(Callback):
    """Counts the images and the time of training and validation, and ends training at `end`, by the monotonic clock."""

    def __init__(self, end: float) -> None:
        self._end = end
        self._counted: dict[str, list[tuple[int, float]]] = {"train": [], "val": []}
        self._mark = 0.0

    def speed(self, part: str) -> float:
        """Images a second in `part`; 0 if nothing was measured."""
        counted = self._counted[part]
        usable = counted[WARM_UP if part == "train" else 1 :] or counted
        images, seconds = (sum(each) for each in zip(*usable, strict=True)) if usable else (0, 1.0)
        return images / seconds

    def on_train_epoch_start(self, *_: Any) -> None:
        """Leaves the time between two epochs out."""
        self._mark = time.monotonic()

    def on_validation_start(self, *_: Any) -> None:
        """Leaves the time before the first batch out."""
        self._mark = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Counts a batch, and ends training when its time is over."""
        self._count("train", batch, trainer)
        if time.monotonic() > self._end and len(self._counted["train"]) >= WARM_UP + LEAST_BATCHES:
            trainer.should_stop = True

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        """Counts a batch."""
        self._count("val", batch, trainer)

    def _count(self, part: str, batch: Any, trainer: pl.Trainer) -> None:
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize()
        now = time.monotonic()
        self._counted[part].append((len(batch["label"]), now - self._mark))
        self._mark = now
