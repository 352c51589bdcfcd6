"""What the `auto` values of `conf/trainer` become on this machine."""

from __future__ import annotations

from pathlib import Path

import torch


def has_gpu(accelerator: str) -> bool:
    """Whether a trainer with this `accelerator` uses a GPU here."""
    return accelerator in {"gpu", "cuda"} or (accelerator == "auto" and torch.cuda.is_available())


def resolve_precision(precision: str, accelerator: str) -> str:
    """Lightning's name of the precision; `auto` is bf16 where the hardware computes it natively, fp16 on older GPUs."""
    if precision != "auto":
        return precision
    if has_gpu(accelerator):
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if cpu_has_bf16() else "32-true"


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
