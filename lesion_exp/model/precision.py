"""Resolves the `auto` values of `conf/trainer` on this machine: precision and devices."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from lesion_exp.errors import ConfigError

log = logging.getLogger(__name__)

RECORD: Final = "precision"
"""The entry of a network's card that names the precision in which its run was evaluated."""


def has_gpu(accelerator: str) -> bool:
    """Returns whether a trainer with this `accelerator` uses a GPU on this machine."""
    if accelerator != "auto":
        return accelerator in {"gpu", "cuda"}
    import torch

    return torch.cuda.is_available()


def resolve_precision(precision: str, accelerator: str) -> str:
    """Lightning's name of the precision; `auto` is bf16 where the hardware supports it natively, fp16 on older GPUs.

    Without a GPU fp16 becomes bf16, as in Lightning, which does not support fp16 on CPUs.
    """
    if precision != "auto":
        return "bf16-mixed" if precision == "16-mixed" and not has_gpu(accelerator) else precision
    if has_gpu(accelerator):
        import torch

        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if cpu_has_bf16() else "32-true"


def recorded_precision(trainer: Mapping[str, Any], card: Mapping[str, Any]) -> str:
    """Returns the precision in which a trained network predicts, the same on every machine and in every verb.

    It is that of `trainer` (the node of its job, with the user's changes). `auto` is the precision in which the run was
    evaluated, which `card` records; where a card of an earlier version does not, it is resolved on this machine.
    """
    chosen = str(trainer["precision"])
    if chosen != "auto":
        return chosen
    return str(card.get(RECORD) or resolve_precision(chosen, trainer["accelerator"]))


def precision_here(precision: str, accelerator: str) -> str:
    """Returns the precision in which this machine predicts if `precision` is asked for.

    It is the same, except that a CPU, which does not support fp16, uses float32.
    """
    resolved = resolve_precision(precision, accelerator)
    if precision == "16-mixed" and not has_gpu(accelerator):
        log.warning("this machine has no GPU for precision 16-mixed: it predicts in 32-true, which is more exact")
        return "32-true"
    if resolved == "bf16-mixed" and not has_gpu(accelerator) and not cpu_has_bf16():
        log.warning("the run was evaluated in precision bf16-mixed, which this CPU emulates slowly")
    return resolved


def cpu_has_bf16() -> bool:
    """Returns whether the CPU multiplies bf16 natively (AVX-512 BF16, AMX or Arm's BF16)."""
    try:
        flags = Path("/proc/cpuinfo").read_text().lower()
    except OSError:
        return False
    return any(unit in flags.split() for unit in ("avx512_bf16", "amx_bf16", "bf16"))


def resolve_devices(devices: int | str | list[int], accelerator: str) -> int | list[int]:
    """Returns the number or the indices of the devices to use; `auto` and -1 are all GPUs, or one process on a CPU."""
    if devices not in ("auto", -1):
        return devices if isinstance(devices, list) else int(devices)
    if not has_gpu(accelerator):
        return 1
    import torch

    return torch.cuda.device_count()


def check_accelerator(trainer: Mapping[str, Any], remedy: str | Callable[[int], str]) -> None:
    """Checks that this machine has the accelerator and the devices of `trainer` (a node of that name).

    Args:
        trainer: the node `trainer`.
        remedy: the end of the message, or a function that makes it from the number of GPUs that there are.

    Raises:
        ConfigError: there are too few GPUs, or the indices of GPUs are given where there is none.
    """
    import torch

    accelerator = trainer["accelerator"]
    if accelerator == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("expected an Apple GPU for trainer.accelerator=mps, but there is none; use trainer=cpu")
    found = torch.cuda.device_count()
    if accelerator == "auto" and found:
        accelerator = "gpu"
    is_cpu = accelerator == "cpu" or (accelerator == "auto" and not torch.backends.mps.is_available())
    if is_cpu and not isinstance(trainer["devices"], int | str):
        why = "trainer.accelerator=cpu" if accelerator == "cpu" else "a machine on which torch finds no GPU"
        raise ConfigError(
            f"expected trainer.devices to be the number of processes for {why}, got {list(trainer['devices'])}, the "
            f"indices of GPUs; leave trainer.devices out"
        )
    if accelerator not in {"gpu", "cuda"}:
        return
    devices = resolve_devices(trainer["devices"], accelerator)
    wanted = max(devices, default=-1) + 1 if isinstance(devices, list) else devices
    if found == 0 or wanted > found:
        raise ConfigError(
            f"expected {max(wanted, 1)} GPU(s) for trainer.accelerator={accelerator}, but this machine has "
            f"{found} that torch can use; {remedy if isinstance(remedy, str) else remedy(found)}"
        )
