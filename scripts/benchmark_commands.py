"""Measures whole commands on data sets of several sizes, up to the 401,059 images of ISIC 2024.

    python scripts/benchmark.py commands [--images 25000 100000 401059] [--folder DIR]

For each number of images a data set is generated in the layout of ISIC 2024 (`planted_isic2024.py`), with one
near-duplicate for 2,000 images. Then these commands run as processes of their own, in a project of their own:
`prepare`, `prepare` again, `audit`, `train` (one epoch of small_cnn at 32 pixels, with the validation and the test
part), `evaluate` and `report`. Near-duplicates are searched in all of them that split. Measured of each command are

- wall: seconds on the clock;
- CPU: seconds for which it and its processes used a processor;
- memory: the largest sum over its processes of anonymous memory, which is theirs alone. Pages that processes share
  count once, and those of files, such as the image store, are not counted. It is looked at five times a second;
- process: the largest resident memory of a single process, with the pages of files.

A command is ended after `--minutes`, which is then what the table has of it. The data are deleted at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from benchmark_rounds import seconds_of, show
from benchmark_start import variables
from planted_isic2024 import plant

SIZES = (25_000, 100_000, 401_059)
DATA = ("dataset=isic2024", "dataset.root=data", "image_size=32", "print_config=false")
COMMANDS = {
    "prepare": ("prepare", *DATA, "--json"),
    "prepare, again": ("prepare", *DATA, "--json"),
    "audit": ("audit", *DATA, "--json"),
    "train": ("train", *DATA, "backbone=small_cnn", "trainer=cpu", "trainer.max_epochs=1", "loader.batch_size=128",
              "test=true"),
    "evaluate": ("evaluate", "run=latest"),
    "report": ("report", "run=latest"),
}  # fmt: skip
SECONDS_BETWEEN = 0.2


@dataclass
class Measured:
    """What a command took."""

    wall_seconds: float
    processor_seconds: float
    memory_mb: float
    """The largest anonymous memory of all processes together."""
    process_mb: float
    """The largest resident memory of one process."""
    code: int
    """The code with which it ended; negative if it was ended by a signal."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=int, nargs="+", default=list(SIZES), help="images of each data set")
    parser.add_argument("--minutes", type=float, default=60, help="after which a command is ended (60)")
    parser.add_argument("--folder", type=Path, default=None, help="folder for the data (a temporary one); 3 GB")
    parser.add_argument("--keep", action="store_true", help="keep the data sets and projects")


def run(asked: argparse.Namespace) -> dict[str, Any]:
    found = {}
    with tempfile.TemporaryDirectory(prefix="lesion_exp_benchmark_") as temporary:
        for images in asked.images:
            folder = (asked.folder or Path(temporary)) / f"images_{images}"
            found[str(images)] = measured_on(folder, images, 60 * asked.minutes)
            if not asked.keep:
                shutil.rmtree(folder)
    return {"images": found}


def measured_on(folder: Path, images: int, limit: float) -> dict[str, Any]:
    """Generates a data set of `images` images in `folder` and runs the commands on it."""
    pairs: list[tuple[str, str]] = []
    made = seconds_of(lambda: pairs.extend(plant(folder / "data", images)))
    print(f"{images:,} images: generated in {made:.0f} s", file=sys.stderr)
    commands: dict[str, Measured] = {}
    for name, words in COMMANDS.items():
        print(f"{images:,} images, {name} ...", file=sys.stderr)
        file = name.replace(", ", "_")
        commands[name] = measure(folder, file, words, limit)
        print(json.dumps({name: asdict(commands[name])}), file=sys.stderr)  # later commands may take hours
        if commands[name].code:
            print(f"ended with code {commands[name].code}: see {folder / file}.err", file=sys.stderr)
    show(
        f"{images:,} images",
        ["command", "wall s", "CPU s", "memory MB", "process MB", "code"],
        [
            [name, f"{one.wall_seconds:.0f}", f"{one.processor_seconds:.0f}", f"{one.memory_mb:.0f}",
             f"{one.process_mb:.0f}", str(one.code)]
            for name, one in commands.items()
        ],
    )  # fmt: skip
    print(f"{len(pairs)} pairs planted, {near_duplicates(folder)} found", file=sys.stderr)
    return {
        "seconds_to_generate": made,
        "commands": {name: asdict(one) for name, one in commands.items()},
        "pairs_planted": len(pairs),
        "pairs_found": near_duplicates(folder),
    }


def measure(folder: Path, name: str, words: tuple[str, ...], limit: float) -> Measured:
    """Runs a command in `folder`, which gets what it writes as `name`.out and `name`.err."""
    begun = time.perf_counter()
    with (folder / f"{name}.out").open("w") as out, (folder / f"{name}.err").open("w") as err:
        command = [sys.executable, "-m", "lesion_exp", *words]
        process = subprocess.Popen(
            command, cwd=folder, env=variables(), stdin=subprocess.DEVNULL, stdout=out, stderr=err
        )
        watched = _Memory(process.pid)
        watched.start()
        timer = threading.Timer(limit, process.send_signal, [signal.SIGTERM])
        timer.start()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        timer.cancel()
        watched.ended.set()
        watched.join()
    return Measured(
        time.perf_counter() - begun,
        used.ru_utime + used.ru_stime,
        watched.memory / 1e6,
        watched.process / 1e6,
        process.returncode,
    )


class _Memory(threading.Thread):
    """Looks at the memory of a process and its descendants until `ended` is set."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.ended = pid, threading.Event()
        self.memory = self.process = 0

    def run(self) -> None:
        while not self.ended.wait(SECONDS_BETWEEN):
            try:
                first = psutil.Process(self.pid)
                family = [first, *first.children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
            facts = [_facts(process.pid) for process in family]
            self.memory = max(self.memory, sum(fact["Pss_Anon"] for fact in facts))
            self.process = max(self.process, *(fact["VmHWM"] for fact in facts))


def _facts(pid: int) -> dict[str, int]:
    """The share of a process in anonymous memory, and its largest resident memory, bytes; 0 if it has ended."""
    found = {"Pss_Anon": 0, "VmHWM": 0}
    for file in ("smaps_rollup", "status"):
        try:
            lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
        except OSError:
            continue
        found |= {
            name: 1024 * int(line.split()[1]) for line in lines if (name := line.partition(":")[0]) in found
        }  # kB
    return found


def near_duplicates(folder: Path) -> int | None:
    """The near-duplicate pairs that `prepare` found: each has joined two patients to one group; None if it failed."""
    try:
        parts = json.loads((folder / "prepare.out").read_text())["audit"]["parts"].values()
    except (OSError, ValueError, KeyError):
        return None
    return sum(part["patients"] for part in parts) - sum(part["groups"] for part in parts)
