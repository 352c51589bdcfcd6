"""Measures what another busy program costs a training: one busy process per round, with and without our setting.

    python scripts/benchmark.py neighbour --seconds 15 --rounds 3

A ResNet-18 trains at 112 pixels on all cores, in processes of its own, in turns: with OpenMP's default, in which
waiting threads stay active, and with the limit that `import lesion_exp` sets (`lesion_exp/process/cpu_settings.py`);
each on the machine as it is, and beside a process that counts on one core. `share` is the rate beside that process over
the rate without it: with n cores the fair share is (n - 0.5) / n, since the neighbour takes half a core where all are
busy.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from typing import Any

from benchmark_rounds import with_ends
from rich.console import Console
from rich.table import Table

SETTINGS = {"OpenMP's default": False, "with the limit": True}
COUNTING = "while True: pass"
TRAINING = """
import sys
if sys.argv[1] == "True":
    import lesion_exp
import time
import torch
import torchvision

network = torchvision.models.resnet18(num_classes=7).to(memory_format=torch.channels_last)
images, labels = torch.randn(32, 3, 112, 112), torch.randint(0, 7, (32,))
images = images.to(memory_format=torch.channels_last)
optimizer = torch.optim.AdamW(network.parameters())


def step():
    with torch.autocast("cpu", torch.bfloat16):
        loss = torch.nn.functional.cross_entropy(network(images).float(), labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


step()
done, start = 0, time.perf_counter()
while time.perf_counter() - start < float(sys.argv[2]):
    step()
    done += len(images)
print(done / (time.perf_counter() - start))
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=15.0, help="seconds of each measurement (15)")
    parser.add_argument("--rounds", type=int, default=3, help="times that every way is measured, in turns (3)")


def run(asked: argparse.Namespace) -> dict[str, Any]:
    rates: dict[tuple[str, bool], list[float]] = {}
    for _ in range(asked.rounds):
        for name, limited in SETTINGS.items():
            for beside in (False, True):
                rates.setdefault((name, beside), []).append(training_rate(limited, beside, asked.seconds))
    table = Table(title="training steps of ResNet-18, 112 pixels, images/s", title_justify="left")
    for column in ("", "as it is", "beside a busy process", "share"):
        table.add_column(column, justify="right" if column else "left")
    result = {}
    for name in SETTINGS:
        quiet, busy = (rates[name, beside] for beside in (False, True))
        share = statistics.median(busy) / statistics.median(quiet)
        result[name] = {"quiet": quiet, "busy": busy, "share": share}
        table.add_row(name, with_ends(quiet, 0), with_ends(busy, 0), f"{share:.2f}")
    Console(file=sys.stderr).print(table)
    return result


def training_rate(limited: bool, beside: bool, seconds: float) -> float:
    """Images per second of a process that trains."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    }
    neighbour = subprocess.Popen([sys.executable, "-c", COUNTING]) if beside else None
    try:
        command = [sys.executable, "-c", TRAINING, str(limited), str(seconds)]
        answer = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    finally:
        if neighbour is not None:
            neighbour.kill()
            neighbour.wait()
    return float(answer.stdout)
