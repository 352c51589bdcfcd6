"""Measures the load of the machine, under the names that MLflow's page shows as system metrics."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping

import psutil


def system_metrics() -> dict[str, float]:
    """The current use of CPUs (percent of all), memory and GPUs; memory in megabytes (10^6 bytes).

    `system/process_memory_usage_megabytes` is the resident memory of this process and its loader workers.
    The first call in a process gives 0 for the CPUs, since psutil measures between calls.
    """
    memory = psutil.virtual_memory()
    values = {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": memory.used / 1e6,
        "system_memory_usage_percentage": memory.percent,
        "process_memory_usage_megabytes": _process_memory() / 1e6,
    }
    for index, used, total, utilization, watts in gpu_readings():
        values[f"gpu_{index}_memory_usage_megabytes"] = used * 1.048576
        values[f"gpu_{index}_memory_usage_percentage"] = used / total * 100
        values[f"gpu_{index}_utilization_percentage"] = utilization
        values[f"gpu_{index}_power_usage_watts"] = watts
    return {f"system/{name}": round(value, 1) for name, value in values.items() if value == value}


def gpu_readings() -> Iterator[tuple[int, float, float, float, float]]:
    """For each NVIDIA GPU: index, used and total memory (MiB), utilisation (percent), power (watts); NaN if unknown."""
    for row in nvidia_smi("index", "memory.used", "memory.total", "utilization.gpu", "power.draw"):
        index, *readings = row
        used, total, utilization, watts = (_number(reading) for reading in readings)
        yield int(index), used, total, utilization, watts


def nvidia_smi(*columns: str) -> list[list[str]]:
    """The output of nvidia-smi, a row for each GPU; empty on a machine without it."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", f"--query-gpu={','.join(columns)}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [[cell.strip() for cell in line.split(",")] for line in answer.splitlines() if line.strip()]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _process_memory() -> int:
    this = psutil.Process()
    total = 0
    for process in [this, *this.children(recursive=True)]:
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue  # the process has ended
    return total


class MachineLoad:
    """Passes `system_metrics` to `record` every `seconds` in a separate thread; 0: never."""

    def __init__(self, record: Callable[[Mapping[str, float]], object], seconds: float) -> None:
        self._record = record
        self._seconds = seconds
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._read, name="machine load", daemon=True)
        if seconds:
            self._thread.start()

    def stop(self) -> None:
        """Ends the thread; nothing is recorded afterwards."""
        self._ending.set()
        if self._seconds:
            self._thread.join()

    def _read(self) -> None:
        while not self._ending.is_set():
            self._record(system_metrics())
            self._ending.wait(self._seconds)
