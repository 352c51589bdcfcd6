"""Measures what it costs that malloc returns freed memory to the system: training steps with and without our setting.

    python scripts/benchmark.py memory --cases efficientnet_lite0_160 --steps 4 --rounds 3

A bare network trains on one batch, in 32 bits, in processes of its own, in turns: as glibc's malloc is, and after
`keep_freed_memory` (`lesion_exp/process/cpu_settings.py`), which training, prediction and serving call on CPUs. `ratio`
is the rate with the setting over the rate without it. Beside it stand page faults and CPU seconds of a step, the share
of these seconds that the kernel took, and the largest memory. The weights after the last step must be the same.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

CASES = {
    "efficientnet_lite0_160": ("timm", "tf_efficientnet_lite0", 160),
    "resnet18_96": ("torchvision", "resnet18", 96),
    "small_cnn_64": ("lesion_exp", "small_cnn", 64),
}
"""Where the network comes from, its name, and pixels."""
WAYS = {"as it is": False, "kept": True}
TRAINING = """
import hashlib, json, resource, sys, time
from lesion_exp.process.cpu_settings import keep_freed_memory
import torch

library, name, pixels, batch_size, num_steps, kept = json.loads(sys.argv[1])
if library == "timm":
    import timm
    build = lambda: timm.create_model(name, num_classes=7)
elif library == "torchvision":
    import torchvision
    build = lambda: torchvision.models.get_model(name, num_classes=7)
else:
    from lesion_exp.backbone.small_cnn import small_cnn
    build = lambda: small_cnn(num_classes=7, width=32)
if kept:
    assert keep_freed_memory()
torch.manual_seed(0)
network = build()
network = getattr(network, "module", network).train().to(memory_format=torch.channels_last)
images, labels = torch.randn(batch_size, 3, pixels, pixels), torch.randint(0, 7, (batch_size,))
images = images.to(memory_format=torch.channels_last)
optimizer = torch.optim.AdamW(network.parameters())


def step():
    loss = torch.nn.functional.cross_entropy(network(images), labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


step()
before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
for _ in range(num_steps):
    step()
seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
weights = b"".join(values.detach().contiguous().numpy().tobytes() for values in network.state_dict().values())
print(json.dumps({
    "rate": num_steps * batch_size / seconds,
    "cpu_seconds": (user + system) / num_steps,
    "system_seconds": system / num_steps,
    "faults": (after.ru_minflt - before.ru_minflt) / num_steps,
    "megabytes": after.ru_maxrss / 1000,
    "weights": hashlib.sha256(weights).hexdigest(),
}))
"""
MEASURED = ("rate", "cpu_seconds", "system_seconds", "faults", "megabytes")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="networks and pixels (all)")
    parser.add_argument("--batch-size", type=int, default=64, help="images in a batch (64)")
    parser.add_argument("--steps", type=int, default=4, help="training steps of each measurement (4)")
    parser.add_argument("--rounds", type=int, default=3, help="times that every way is measured, in turns (3)")


def run(asked: argparse.Namespace) -> dict[str, Any]:
    table = Table(title=f"training steps, batches of {asked.batch_size}: malloc as it is / kept", title_justify="left")
    for column in ("", "images/s", "ratio", "page faults", "CPU s", "kernel", "most MB"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    result: dict[str, Any] = {}
    for case in asked.cases:
        rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in WAYS}
        for _ in range(asked.rounds):
            for name, kept in WAYS.items():
                rounds[name].append(measured(case, asked.batch_size, asked.steps, kept))
        if len({entry["weights"] for entries in rounds.values() for entry in entries}) > 1:
            raise RuntimeError(f"expected the same weights of {case} with and without the setting")
        found = {
            name: {key: statistics.median(entry[key] for entry in entries) for key in MEASURED}
            for name, entries in rounds.items()
        }
        ratios = [after["rate"] / before["rate"] for before, after in zip(*rounds.values(), strict=True)]
        result[case] = {**found, "ratios": ratios}
        usual, kept = found.values()
        shares = [entry["system_seconds"] / entry["cpu_seconds"] for entry in (usual, kept)]
        pairs = [("rate", ".0f"), ("faults", ",.0f"), ("cpu_seconds", ".2f"), ("megabytes", ",.0f")]
        rate, faults, seconds, memory = (f"{usual[key]:{form}} / {kept[key]:{form}}" for key, form in pairs)
        kernel = f"{shares[0]:.0%} / {shares[1]:.0%}"
        table.add_row(case, rate, f"{statistics.median(ratios):.2f}", faults, seconds, kernel, memory)
    Console(file=sys.stderr).print(table)
    return result


def measured(case: str, batch_size: int, num_steps: int, kept: bool) -> dict[str, Any]:
    """What a process of its own says of its training steps."""
    given = json.dumps([*CASES[case], batch_size, num_steps, kept])
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MALLOC_") and name not in ("GLIBC_TUNABLES", "LD_PRELOAD")
    }
    answer = subprocess.run(
        [sys.executable, "-c", TRAINING, given], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(answer.stdout)
    return found
