"""Devices, cores, memory and the scheduler."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import psutil

from lesion_exp.byte_size import memory_size
from lesion_exp.cores import usable_cores
from lesion_exp.errors import install_command
from lesion_exp.model.precision import resolve_precision
from lesion_exp.verbs.doctor.check_result import GIB, CheckResult, note, ok, problem

_CPU_LIMIT: Final = Path("/sys/fs/cgroup/cpu.max")
_MEMORY_LIMIT: Final = Path("/sys/fs/cgroup/memory.max")
_SHARED_MEMORY: Final = Path("/dev/shm")
LEAST_SHARED_MEMORY: Final = GIB
"""Loader processes hand batches over in it; Docker gives a container 64 MB."""
LEAST_MEMORY: Final = 4 * GIB
SCHEDULERS: Final = {
    "SLURM": ("sbatch", "SLURM_JOB_ID", "slurm", "submitit"),
    "Ray": ("ray", "RAY_ADDRESS", "ray", "ray"),
}
"""Of each scheduler: its command, its variable, the option of `launcher`, the package that it needs."""


def machine() -> Iterator[CheckResult]:
    """Findings about the memory of this machine, and the schedulers that it has."""
    yield memory(psutil.virtual_memory().available, memory_limit())
    if _SHARED_MEMORY.is_dir():
        yield shared_memory(shutil.disk_usage(_SHARED_MEMORY).free)
    yield from schedulers(os.environ)


def processors(trainer: Mapping[str, Any]) -> Iterator[CheckResult]:
    """Findings about what computes in a training with the node `trainer` of a config."""
    import torch

    yield from devices(trainer)
    yield cores(usable_cores(), torch.get_num_threads(), cpu_limit(), load())


def devices(trainer: Mapping[str, Any]) -> Iterator[CheckResult]:
    """The GPUs and the precision in which training computes with `trainer.precision=auto`."""
    import torch

    accelerator = str(trainer["accelerator"])
    precision = resolve_precision("auto", accelerator)
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            found = torch.cuda.get_device_properties(index)
            native = torch.cuda.is_bf16_supported(including_emulation=False)
            free, _ = torch.cuda.mem_get_info(index)
            yield ok(
                f"GPU {index}",
                f"{found.name}, {memory_size(found.total_memory)} ({memory_size(free)} free), bf16 "
                f"{'natively' if native else 'not natively'}; training computes in {precision}",
            )
        return
    if accelerator in {"gpu", "cuda"}:
        yield problem(
            "GPU",
            f"torch {torch.__version__} finds none, but trainer.accelerator={accelerator}",
            f"look at nvidia-smi; {install_command('--force-reinstall', 'torch')} replaces one without CUDA; or set "
            f"trainer=cpu",
        )
        return
    words = "natively" if precision == "bf16-mixed" else "not natively, so float32 is faster"
    card = shutil.which("nvidia-smi") is not None
    text = f"no GPU for torch {torch.__version__}; the CPU computes bf16 {words}; training computes in {precision}"
    if card:
        yield note(
            "devices",
            f"{text}; but nvidia-smi is installed",
            "compare nvidia-smi with python -c 'import torch; print(torch.version.cuda)'",
        )
    else:
        yield ok("devices", text)


def cores(usable: int, threads: int, limit: float | None, busy: float) -> CheckResult:
    """Checks the cores that this process may use, and what else uses them.

    Args:
        usable: cores that the system lets this process run on.
        threads: torch's threads.
        limit: cores that a container may use, None without a limit.
        busy: the machine's load average of the last minute.
    """
    text = f"{usable} cores, {threads} threads of torch"
    if limit is not None and limit < threads:
        return note(
            "cores",
            f"{text}, but the container may use only {limit:g}",
            f"set OMP_NUM_THREADS={max(1, int(limit))}: more threads wait for each other",
        )
    if busy > 0.5 * usable:
        return note(
            "cores",
            f"{text}; other programs keep {min(busy, usable):.1f} of them busy",
            "training slows down by their share; wait, or stop them",
        )
    return ok("cores", text)


def memory(available: int, limit: int | None) -> CheckResult:
    """Checks the free memory, bytes, and the limit of a container, None without one."""
    free = available if limit is None else min(available, limit)
    text = f"{memory_size(free)} free" + ("" if limit is None else f", the container's limit is {memory_size(limit)}")
    if free < LEAST_MEMORY:
        return note(
            "memory", text, "use fewer loader processes (loader.num_workers=0) and smaller batches, or free some memory"
        )
    return ok("memory", text)


def shared_memory(free: int) -> CheckResult:
    """Checks the free shared memory, bytes, through which loader processes hand over batches."""
    if free < LEAST_SHARED_MEMORY:
        return note(
            "shared memory",
            f"{memory_size(free)} free in {_SHARED_MEMORY}",
            "start the container with --shm-size=4g, or set loader.num_workers=0: loaders may end with a bus error",
        )
    return ok("shared memory", f"{memory_size(free)} free in {_SHARED_MEMORY}")


def schedulers(environment: Mapping[str, str]) -> Iterator[CheckResult]:
    """The schedulers that are here, and whether sweeps can use them."""
    from importlib.util import find_spec

    for name, (command, variable, launcher, package) in SCHEDULERS.items():
        if shutil.which(command) is None and variable not in environment:
            continue
        inside = f"inside job {environment[variable]}, " if variable in environment else ""
        if find_spec(package) is None:
            yield note(
                name,
                f"{inside}its package {package} is not installed",
                f"{install_command(f'lesion-exp[{launcher}]')} for launcher={launcher}",
            )
        else:
            yield ok(name, f"{inside}sweeps can use launcher={launcher}")


def cpu_limit(file: Path = _CPU_LIMIT) -> float | None:
    """Cores that a container may use (cgroup v2); None without a limit."""
    parts = _text(file).split()
    return int(parts[0]) / int(parts[1]) if len(parts) == 2 and parts[0].isdecimal() else None


def memory_limit(file: Path = _MEMORY_LIMIT) -> int | None:
    """Bytes that a container may use (cgroup v2); None without a limit."""
    text = _text(file).strip()
    return int(text) if text.isdecimal() else None


def load() -> float:
    """Returns the machine's load average of the last minute; 0 where the system has none."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
