"""What the `auto` values of `conf/trainer` become on this machine."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

log = logging.getLogger(__name__)

RECORD: Final = "precision"
"""The entry of a network's card that names the precision in which its run was evaluated."""


def has_gpu(accelerator: str) -> bool:
    """Whether a trainer with this `accelerator` uses a GPU here."""
    return accelerator in {"gpu", "cuda"} or (accelerator == "auto" and torch.cuda.is_available())


def resolve_precision(precision: str, accelerator: str) -> str:
    """Lightning's name of the precision; `auto` is bf16 where the hardware computes it natively, fp16 on older GPUs.

    Without a GPU fp16 becomes bf16, as in Lightning, which has no fp16 on processors.
    """
    if precision != "auto":
        return "bf16-mixed" if precision == "16-mixed" and not has_gpu(accelerator) else precision
    if has_gpu(accelerator):
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if cpu_has_bf16() else "32-true"


def recorded_precision(trainer: Mapping[str, Any], card: Mapping[str, Any]) -> str:
    """The precision in which a trained network predicts, on every machine and by every verb.

    It is the one that `trainer` (the node of its job, with the user's changes) names; `auto` is the one in which the
    run was evaluated, which `card` says; a card of an older version says none, then it is what suits this machine.
    """
    chosen = str(trainer["precision"])
    if chosen != "auto":
        return chosen
    return str(card.get(RECORD) or resolve_precision(chosen, trainer["accelerator"]))


def precision_here(precision: str, accelerator: str) -> str:
    """The precision with which this machine predicts where `precision` is asked for: the same, except that a processor,
    which has no fp16, takes the more exact float32.
    """
    resolved = resolve_precision(precision, accelerator)
    if precision == "16-mixed" and not has_gpu(accelerator):
        log.warning("this machine has no GPU for precision 16-mixed: it predicts in 32-true, which is more exact")
        return "32-true"
    if resolved == "bf16-mixed" and not has_gpu(accelerator) and not cpu_has_bf16():
        log.warning("the run was evaluated in precision bf16-mixed, which this processor imitates slowly")
    return resolved


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bf16 natively (AVX-512 BF16, AMX or Arm's BF16)."""
    try:
        flags = Path("/proc/cpuinfo").read_text().lower()
    except OSError:
        return False
    return any(unit in flags.split() for unit in ("avx512_bf16", "amx_bf16", "bf16"))


def resolve_devices(devices: int | str | list[int], accelerator: str) -> int | list[int]:
    """The devices of this machine to use; `auto`, like Lightning's -1, is every GPU, or one process on the CPU."""
    if devices not in ("auto", -1):
        return devices if isinstance(devices, list) else int(devices)
    return torch.cuda.device_count() if has_gpu(accelerator) else 1
