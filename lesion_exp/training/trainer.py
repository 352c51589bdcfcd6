"""Builds Lightning's Trainer, with callbacks and profiler, from the node `trainer`, and checks the node."""

from __future__ import annotations

import functools
import importlib.util
import json
import logging
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any, Final

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback, EarlyStopping
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.profilers import AdvancedProfiler, Profiler, PyTorchProfiler, SimpleProfiler
from pytorch_lightning.trainer.connectors.signal_connector import _SignalConnector

from lesion_exp.errors import ConfigError, not_installed
from lesion_exp.evaluation.registry import WATCHED_METRIC, mode_of
from lesion_exp.model.checkpoint_file import is_whole
from lesion_exp.model.precision import check_accelerator, has_gpu, resolve_devices, resolve_precision
from lesion_exp.next_command import next_command
from lesion_exp.process.cpu_settings import keep_freed_memory
from lesion_exp.process.messages import quiet_libraries
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.training.callbacks import LearningRate, MovingAverage
from lesion_exp.training.checkpoint import AtomicCheckpointIO, BestCheckpoints, ResumePoints
from lesion_exp.training.sharded import SHARDED, ShardedStrategy, is_sharded
from lesion_exp.training.watched_metrics import Watched

log = logging.getLogger(__name__)

OWN_KEYS: Final = frozenset(
    {
        "monitor", "early_stopping", "ema_decay", "channels_last", "compile", "activation_checkpointing",
        "find_lr", "find_batch_size", "checkpoint_every_steps", "checkpoint_every_minutes",
    }
)  # fmt: skip
"""Keys of `conf/trainer` that are not arguments of Lightning's Trainer."""
FOLDER: Final = "profile"
"""The folder of the profile, among the run's artifacts and in its live folder."""
_KINDS: Final = MappingProxyType({"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler})
_DDP_WITH_FROZEN: Final = "ddp_find_unused_parameters_true"
"""Lightning's name of DDP that does not wait for the gradients of weights that have none in this step."""
_USUAL: Final = Watched(WATCHED_METRIC, mode_of(WATCHED_METRIC))


def build_trainer(
    config: Mapping[str, Any],
    logger: Logger | bool,
    live_dir: Path,
    callbacks: list[Callback],
    watched: Watched | None = _USUAL,
    *,
    freezes: bool = False,
) -> pl.Trainer:
    """Builds the Trainer that `config` (the node `trainer`) describes; it saves checkpoints in `live_dir`.

    The best epochs are those with the best value of the metric `watched`; None keeps the checkpoint of the last epoch
    alone. With `freezes`, some epochs train only a part of the weights, so that DDP looks in each step for those
    without a gradient.

    Raises:
        ConfigError: Lightning's Trainer refuses a value, or a GPU is missing.
    """
    quiet_libraries()
    arguments = {key: value for key, value in config.items() if key not in OWN_KEYS}
    accelerator = arguments["accelerator"]
    arguments["precision"] = resolve_precision(arguments["precision"], accelerator)
    arguments["devices"] = resolve_devices(arguments["devices"], accelerator)
    if not has_gpu(accelerator):
        keep_freed_memory()
    # in deterministic mode torch fills all new memory, which takes a twentieth of the time and is not needed
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if "profiler" in arguments:
        arguments["profiler"] = profiler_in(live_dir, arguments["profiler"])
    if is_sharded(config):
        arguments |= _sharded(num_processes(config), arguments["precision"])
    if freezes and _is_ddp(config):
        arguments["strategy"] = _DDP_WITH_FROZEN
    callbacks = [*_callbacks(config, live_dir, watched, logging=bool(logger)), *callbacks]
    try:
        trainer = pl.Trainer(
            **arguments,
            logger=logger,
            callbacks=callbacks,
            default_root_dir=str(live_dir),
            plugins=[
                AtomicCheckpointIO(),
                LightningEnvironment(),
            ],  # distributed_environment.py decides which process this is
            use_distributed_sampler=False,  # the batch samplers shard the order themselves
            enable_model_summary=False,
            enable_progress_bar=any(isinstance(callback, pl.callbacks.ProgressBar) for callback in callbacks),
            num_sanity_val_steps=0,  # it would log metrics of an untrained network
        )
    except (MisconfigurationException, ValueError, TypeError, ImportError, RuntimeError) as error:
        lacks_gpu = accelerator in {"gpu", "cuda"} and torch.cuda.device_count() == 0
        hint = "; trainer=cpu trains without a GPU" if lacks_gpu else ""
        raise ConfigError(
            f"expected a trainer that can be built on this machine, but Lightning raises: {error}{hint}"
        ) from error
    trainer._signal_connector = SignalConnector(trainer)
    return trainer


def _is_ddp(config: Mapping[str, Any]) -> bool:
    """Whether Lightning distributes the training with DDP, which waits for the gradient of each weight."""
    return bool(config["strategy"] == "ddp" or (config["strategy"] == "auto" and num_processes(config) > 1))


class SignalConnector(_SignalConnector):
    """Lightning's answer to SIGTERM, without its broadcast to the other processes.

    SLURM and torchrun send the signal to each process, some of them twice. A process would wait in the broadcast for
    others that have left already, or are within another exchange, and be killed before it has ended. The loss of a
    process that alone gets the signal shows to the others by its heartbeats.
    """

    def _sigterm_notifier_fn(self, signum: int, _: FrameType) -> None:
        self.received_sigterm = True


def _sharded(num_processes: int, precision: str) -> dict[str, Any]:
    """The arguments of Lightning's Trainer that shard; one process has nothing to divide.

    Raises:
        ConfigError: Lightning does not shard in `precision`.
    """
    if num_processes == 1:
        return {"strategy": "auto"}
    if precision == "16-mixed":
        raise ConfigError(
            f"expected a precision in which weights can be divided, for trainer.strategy={SHARDED}, got 16-mixed, "
            f"which trainer.precision=auto is on GPUs that do not compute bf16 natively; set "
            f"trainer.precision=32-true, or use trainer.strategy=ddp"
        )
    # in inference mode tensors would be gathered that no later step can use
    return {"strategy": ShardedStrategy(num_processes), "inference_mode": False}


def _callbacks(config: Mapping[str, Any], live_dir: Path, watched: Watched | None, *, logging: bool) -> list[Callback]:
    points = ResumePoints(live_dir, config["checkpoint_every_steps"], config["checkpoint_every_minutes"])
    callbacks: list[Callback] = [*([] if watched is None else [BestCheckpoints(live_dir, watched)]), points]
    if config["ema_decay"] is not None:
        callbacks.append(MovingAverage(float(config["ema_decay"])))
    stopping = config["early_stopping"]
    if stopping["patience"] is not None:
        monitor, mode = stopping["monitor"], stopping["mode"]
        after_epoch = (
            True if monitor.startswith("train/") else None
        )  # the metric has no value yet when a validation ends
        callbacks.append(
            EarlyStopping(monitor, mode=mode, patience=int(stopping["patience"]), check_on_train_epoch_end=after_epoch)
        )
    if logging:
        callbacks.append(LearningRate())
    return callbacks


def check_devices(config: Mapping[str, Any], continued: str | None = None) -> None:
    """Checks that this machine has the accelerator, devices and compiler that `config` (the node `trainer`) needs.

    Args:
        config: the node `trainer`.
        continued: the id of the run that goes on; None for a new one.

    Raises:
        ConfigError: there are too few GPUs, or `trainer.compile` has no compiler.
    """
    _check_compiler(config)
    check_accelerator(config, lambda found: _without_gpus(config, found, continued))


def _without_gpus(config: Mapping[str, Any], found: int, continued: str | None) -> str:
    """What to do where there are only `found` of the GPUs that `config` asks for."""
    if continued is None:
        return "trainer=cpu trains without a GPU"
    if not found:
        return "resume the run on a machine that has some"
    number = fitting_devices(num_devices_and_nodes(config)[0], found)
    command = next_command("resume", f"run={continued[:8]}", f"trainer.devices={number}")
    return f"{command} goes on with the same images in each step"


def _check_compiler(config: Mapping[str, Any]) -> None:
    if config["compile"] in (False, "none"):
        return
    if has_gpu(config["accelerator"]):
        if importlib.util.find_spec("triton") is None:
            raise not_installed("triton", f"trainer.compile={config['compile']} on a GPU")
        return
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        raise ConfigError(
            f"expected a C++ compiler for trainer.compile={config['compile']}, but there is no {compiler}; install "
            f"one, name one in the environment variable CXX, or set trainer.compile=none"
        )


def check_whole_parts(config: Mapping[str, Any]) -> None:
    """Checks that `config` (the node `trainer`) does not cut the parts that are evaluated when training has ended.

    Raises:
        ConfigError: it does.
    """
    if config.get("fast_dev_run"):
        raise ConfigError(
            f"expected trainer.fast_dev_run=false, since results would be those of a few images, got "
            f"{config['fast_dev_run']}; set debug=fast, which trains a few batches and evaluates all images"
        )
    limit = config.get("limit_predict_batches")
    if limit is not None and not (isinstance(limit, float) and limit == 1):
        raise ConfigError(
            f"expected trainer.limit_predict_batches=null, since results would be those of the first images of each "
            f"part, got {limit}; set dataset.limit=100 to train and evaluate on fewer lesions"
        )


def check_trainer(config: Mapping[str, Any]) -> pl.Trainer:
    """Checks that Lightning accepts `config` (the node `trainer`) and returns a Trainer of it without logging.

    Raises:
        ConfigError: see `build_trainer`.
    """
    return _trial_trainer(json.dumps(config, sort_keys=True, default=str))


@functools.lru_cache(maxsize=8)
def _trial_trainer(config: str) -> pl.Trainer:
    return build_trainer(json.loads(config), False, Path(), [])


def num_devices_and_nodes(config: Mapping[str, Any]) -> tuple[int, int]:
    """Returns the number of devices per machine, each of which has its own process, and the number of machines."""
    devices = resolve_devices(config["devices"], config["accelerator"])
    return len(devices) if isinstance(devices, list) else devices, int(config["num_nodes"])


def fitting_devices(wanted: int, here: int) -> int:
    """Returns the largest number of devices, at most `here`, that divides `wanted`; `wanted` if there is none."""
    return max((number for number in range(1, here + 1) if wanted % number == 0), default=wanted)


def num_processes(config: Mapping[str, Any]) -> int:
    """Returns the number of processes of this trainer, on all machines."""
    num_devices, num_nodes = num_devices_and_nodes(config)
    return num_devices * num_nodes


def best_checkpoint(trainer: pl.Trainer, last: Path) -> Path | None:
    """Returns the file of the best epoch; None before the first validation.

    If the files of all best epochs were lost, it is `last`, the file of the last epoch.
    """
    callback = next(c for c in trainer.checkpoint_callbacks if isinstance(c, BestCheckpoints))
    found = callback.best_file()
    if found is None and callback.has_lost and is_whole(last):
        log.warning("no checkpoint of a best epoch is left: the weights of the last epoch are evaluated instead")
        return last
    return found


def describe_resolved(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the `auto` values are on this machine."""
    accelerator = config["accelerator"]
    return {
        "trainer.accelerator": "gpu" if has_gpu(accelerator) else "cpu",
        "trainer.devices": resolve_devices(config["devices"], accelerator),
        "trainer.precision": resolve_precision(config["precision"], accelerator),
    }


def profiler_in(live_dir: Path, chosen: Any) -> Profiler | None:
    """Lightning's profiler with the name `chosen`, which writes below `live_dir`; None for null.

    Raises:
        ConfigError: no profiler has that name.
    """
    if chosen is None:
        return None
    if not isinstance(chosen, str) or chosen not in _KINDS:
        raise ConfigError(f"expected trainer.profiler to be one of {', '.join(_KINDS)} or null, got {chosen!r}")
    profiler: Profiler = _KINDS[chosen](dirpath=live_dir / FOLDER, filename="profile")
    return profiler


def keep_profile(run: TrackedRun, live_dir: Path) -> None:
    """Logs the files that a profiler wrote below `live_dir`, if any."""
    written = sorted((live_dir / FOLDER).glob("*"))
    for path in written:
        run.log_text(path.read_text(encoding="utf-8", errors="replace"), f"{FOLDER}/{path.name}")
    if written:
        log.info("profile: %d file(s) below %s/ in the run's artifacts", len(written), FOLDER)
