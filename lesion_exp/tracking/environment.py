"""Records the environment of a run: packages, machine and source code, and the load of the machine while it runs."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from importlib.metadata import Distribution, PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any, Final

import psutil

from lesion_exp.cores import usable_cores
from lesion_exp.privacy import redacted

LARGEST_PATCH: Final = 1_000_000
"""Largest patch of uncommitted changes that is stored, bytes."""
OWN_CODE: Final = "own_code.json"
_VARIABLES: Final = (
    "CUDA_VISIBLE_DEVICES",
    "CUBLAS_WORKSPACE_CONFIG",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "PYTHONHASHSEED",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_CPUS_PER_TASK",
    "SLURM_JOB_ID",
    "SLURM_JOB_PARTITION",
)
"""The only environment variables that are recorded: others may hold secrets."""
_VERSION_TAG: Final = "version."
_COMMIT_TAG: Final = "git_commit"
_DIRTY_TAG: Final = "git_dirty"
_CHANGES_TAG: Final = "git_changes"
_NO_CHANGES: Final = "none"
CODE_TAG: Final = "own_code."
"""Beginning of the tags with the digests of the user's own packages, followed by the name of the package."""
_CPU_FLAGS: Final = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "bf16")
_SHARED: Final[list[SourceState]] = []
"""What `share_source_state` has read of the checkout."""
_SHARED_PACKAGES: Final[list[str]] = []
"""What it has read of the installed packages."""


def system_metrics() -> dict[str, float]:
    """Returns the current use of CPUs (percent of all), memory and GPUs; memory in megabytes (10^6 bytes).

    `system/process_memory_usage_megabytes` is the resident memory of this process and its loader workers.
    The first call in a process returns 0 for the CPUs, since psutil measures between calls.
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
    """Yields for each NVIDIA GPU index, used and total memory (MiB), utilisation (percent) and power (watts).

    Unknown values are NaN.
    """
    for row in nvidia_smi("index", "memory.used", "memory.total", "utilization.gpu", "power.draw"):
        index, *readings = row
        used, total, utilization, watts = (_number(reading) for reading in readings)
        yield int(index), used, total, utilization, watts


def nvidia_smi(*columns: str) -> list[list[str]]:
    """Returns the output of nvidia-smi, a row for each GPU; empty on a machine without it."""
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


@dataclass(frozen=True)
class SourceState:
    """The commit of the checkout from which the package runs; `commit` is empty outside a checkout."""

    commit: str
    dirty: bool
    patch: str | None
    """Uncommitted changes of tracked files; None if there are none or they are larger than a megabyte."""
    changes: str = ""
    """Digest (16 digits) of the uncommitted changes of the package's own files; empty if there are none."""

    def tags(self) -> dict[str, str]:
        """Returns the tags `git_commit`, `git_dirty` and `git_changes`; none outside a checkout."""
        if not self.commit:
            return {}
        dirty = "true" if self.dirty else "false"
        return {
            "git_commit": self.commit,
            _DIRTY_TAG: dirty,
            _CHANGES_TAG: self.changes or _NO_CHANGES,
            "mlflow.source.git.commit": self.commit,
        }


def environment(source: SourceState, num_threads: int, own_code: Mapping[str, str] | None = None) -> dict[str, str]:
    """Returns the texts of the files below `environment/`, by name.

    The files are `packages.txt`, `python.json` and `hardware.json`; from a checkout also `git.json` and, with
    uncommitted changes, `changes.patch`; with code of the user's own also `own_code.json`.

    Args:
        source: the checkout from which this package runs.
        num_threads: PyTorch's number of threads.
        own_code: digests of the files of the user's packages, by name.
    """
    files = {
        "packages.txt": "\n".join(_packages()) + "\n",
        "python.json": _json(_python(num_threads)),
        "hardware.json": _json(_hardware()),
    }
    if own_code:
        files[OWN_CODE] = _json(dict(own_code))
    if source.commit:
        files["git.json"] = _json({"commit": source.commit, "dirty": source.dirty})
        if source.patch:
            files["changes.patch"] = source.patch
    return redacted(files)


def versions() -> dict[str, str]:
    """Returns the tags with the versions of this package and of PyTorch."""
    found = {}
    for name in ("lesion_exp", "torch"):
        with suppress(PackageNotFoundError):  # the package is not installed, only on the path
            found[f"{_VERSION_TAG}{name}"] = version(name)
    return found


def current_versions() -> dict[str, str]:
    """Returns the tags with the versions of this process, and with the commit of its checkout."""
    return {**versions(), **source_state().tags()}


def version_differences(tags: Mapping[str, str], now: Mapping[str, str] | None = None) -> list[str]:
    """Returns a text for each version that differs between a run with `tags` and a run with the tags `now`.

    An example is `torch: 2.9.0 then, 2.10.0 now`. Digests of code are versions, too. By default `now` are the versions
    of this process.
    """
    now = current_versions() if now is None else now
    names = [name for name in now if name.startswith((_VERSION_TAG, CODE_TAG)) or name == _COMMIT_TAG]
    found = [
        f"{_in_words(name)}: {tags[name]} then, {now[name]} now"
        for name in names
        if name in tags and tags[name] != now[name]
    ]
    changes = [_changes(one) for one in (tags, now)]
    if None not in changes and changes[0] != changes[1]:
        found.append(f"set of uncommitted changes of lesion_exp: {changes[0]} then, {changes[1]} now")
    return found


def _in_words(name: str) -> str:
    """Returns what the tag `name` is the version of."""
    if name.startswith(CODE_TAG):
        return f"state of your code {name.removeprefix(CODE_TAG)}"
    return "commit of lesion_exp" if name == _COMMIT_TAG else name.removeprefix(_VERSION_TAG)


def _changes(tags: Mapping[str, str]) -> str | None:
    """Returns the digest of the uncommitted changes of a run; None if it is not known, as in earlier versions."""
    if _DIRTY_TAG not in tags:
        return None
    return tags.get(_CHANGES_TAG, _NO_CHANGES if tags[_DIRTY_TAG] == "false" else None)


def source_state(package_dir: Path | None = None) -> SourceState:
    """Returns the state of the checkout that contains the package; other repositories are not read.

    After `share_source_state`, it is the state at that time.
    """
    if package_dir is None and _SHARED:
        return _SHARED[0]
    folder = package_dir or Path(__file__).resolve().parents[1]
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit or not _git(folder, "ls-files", "--", "__init__.py"):
        return SourceState("", dirty=False, patch=None)
    dirty = bool(_git(folder, "status", "--porcelain"))
    patch = _git(folder, "diff", "HEAD", "--binary") if dirty else ""
    small = bool(patch) and len(patch.encode()) <= LARGEST_PATCH
    own = _git(folder, "diff", "HEAD", "--binary", "--", ".") if dirty else ""
    changes = hashlib.sha256(own.encode()).hexdigest()[:16] if own else ""
    return SourceState(commit.strip(), dirty, patch if small else None, changes)


def share_source_state() -> None:
    """Reads the state of the checkout, and which packages are installed, once for this process, which has imported its
    code, and for those that are forked from it."""
    _SHARED[:] = [source_state()]
    _SHARED_PACKAGES[:] = _packages()


def _git(folder: Path, *arguments: str) -> str:
    try:
        command = ["git", "-C", str(folder), *arguments]
        answer = subprocess.run(command, capture_output=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.decode(errors="replace")


def _packages() -> list[str]:
    """Returns the installed packages; after `share_source_state`, those at that time."""
    if _SHARED_PACKAGES:
        return list(_SHARED_PACKAGES)
    heads = map(_head_of_metadata, distributions())
    found = {f"{head['Name']}=={head['Version']}" for head in heads if head["Name"]}
    return sorted(found, key=str.lower)


def _head_of_metadata(package: Distribution) -> Message:
    """Returns the fields of a package's metadata; `package.metadata` would parse the description as well."""
    text = package.read_text("METADATA") or package.read_text("PKG-INFO") or ""
    return HeaderParser().parsestr(text.partition("\n\n")[0])


def _python(num_threads: int) -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "executable": sys.executable,
        "torch_num_threads": num_threads,
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }


def _hardware() -> dict[str, Any]:
    model, flags = _cpu()
    gpus = [
        {"name": name, "memory_mib": memory, "driver": driver}
        for name, memory, driver in nvidia_smi("name", "memory.total", "driver_version")
    ]
    return {
        "cpu": model,
        "physical_cores": psutil.cpu_count(logical=False),
        "logical_cores": psutil.cpu_count(),
        "usable_cores": usable_cores(),
        "instructions": flags,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": gpus,
    }


def _cpu() -> tuple[str, list[str]]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux
        return platform.processor() or platform.machine(), []
    model = re.search(r"model name\s*:\s*(.+)", text)
    flags = re.search(r"(?:flags|Features)\s*:\s*(.+)", text)
    present = set(flags[1].split()) if flags else set()
    return model[1] if model else platform.machine(), [flag for flag in _CPU_FLAGS if flag in present]


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"
