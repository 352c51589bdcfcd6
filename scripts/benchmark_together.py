"""Measures what two trainings at once cost each other, with the cores shared and with all cores for each.

    python scripts/benchmark.py together --steps 10 --rounds 3

A ResNet-18 trains at 112 pixels in processes of their own, in turns of these ways:

- one: a cell of a sweep with `launcher.workers=1`, which uses all cores;
- one on its share: a cell with as many threads as one of two gets, alone;
- two on their shares: two cells at once, as `launcher.workers=2` starts them;
- two on all cores: two commands at once, of which each uses all cores.

`processor` is the time for which a step uses a processor, all of its threads together, `clock` that which passes. On a
machine with other work compare the former: it shows what caches and waiting threads cost, and a program of two
processes gets more of such a machine than one of one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from typing import Any

from benchmark_rounds import show, spread_of, summary

TRAINING = """
import sys
import time
import lesion_exp
import torch
import torchvision
from lesion_exp.process.cpu_settings import keep_freed_memory

keep_freed_memory()
torch.set_num_threads(int(sys.argv[1]))
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
step()
print("ready", flush=True)
sys.stdin.readline()
used, start, steps = time.process_time(), time.perf_counter(), int(sys.argv[2])
for _ in range(steps):
    step()
print((time.process_time() - used) / steps, (time.perf_counter() - start) / steps, flush=True)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, default=10, help="training steps of one measurement (10)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each way, alternating (3)")


def run(asked: argparse.Namespace) -> dict[str, Any]:
    cores = len(os.sched_getaffinity(0))
    share = max(cores // 2, 1)
    ways = {
        "one": (1, cores),
        "one on its share": (1, share),
        "two on their shares": (2, share),
        "two on all cores": (2, cores),
    }
    processor: dict[str, list[float]] = {name: [] for name in ways}
    clock: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(asked.rounds):
        for name, (count, threads) in ways.items():
            print(f"round {number + 1}, {name} ...", file=sys.stderr)
            found = trained_at_once(count, threads, asked.steps)
            processor[name].append(statistics.mean(used for used, _ in found))
            clock[name].append(max(passed for _, passed in found))
    of_processor, of_clock = summary(processor), summary(clock)
    show(
        f"a training step of ResNet-18, 112 px, on {cores} cores, seconds",
        ["trainings at once", "threads of each", "processor", "spread", "clock", "spread"],
        [
            [
                name,
                str(threads),
                f"{of_processor[name]['median']:.2f}",
                spread_of(of_processor[name], 2),
                f"{of_clock[name]['median']:.2f}",
                spread_of(of_clock[name], 2),
            ]
            for name, (_, threads) in ways.items()
        ],
    )
    return {"processor_seconds": of_processor, "clock_seconds": of_clock}


def trained_at_once(count: int, threads: int, steps: int) -> list[tuple[float, float]]:
    """Seconds of a processor and of the clock for a step of each of `count` processes, which begin together."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TRAINING, str(threads), str(steps)],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(count)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None, "it was opened as a pipe"
        if not process.stdout.readline():
            raise RuntimeError("expected a training that starts; its message is above")
    for process in processes:
        assert process.stdin is not None, "it was opened as a pipe"
        print(file=process.stdin, flush=True)
    found = []
    for process in processes:
        used, passed = process.communicate()[0].split()
        found.append((float(used), float(passed)))
    return found
