"""Measures training, beside a bare loop and a notebook-style loop that are measured alternately in the same call.

python scripts/benchmark.py train [--cases resnet18_112,resnet50_224] [--seconds 20] [--rounds 2] [--json]

All images are generated, so no data set is needed. Three ways of training the same network on the same images:

- framework: what `lesion-exp train` does in its training steps, with loading, augmentation and logging to MLflow;
- bare: the best loop without any of that, on tensors in memory, at the same precision and memory layout: the limit;
- notebook: Pillow, torchvision transforms, float32 and a DataLoader with two workers.

`ratio_to_bare` is framework / bare (1 is the limit), `ratio_to_notebook` framework / notebook. Other programs on the
machine change images a second, and the ratios much less. On a CPU in bfloat16 the framework computes the gradients of
depthwise convolutions faster than torch does (`lesion_exp/backbone/depthwise.py`), so that a network such as
EfficientNet has a ratio above 1.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torchvision
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch.nn import functional as F
from torchvision import transforms

from lesion_exp.config.compose import compose
from lesion_exp.model.precision import has_gpu, resolve_precision
from lesion_exp.process.cpu_settings import keep_freed_memory
from lesion_exp.tracking.lightning_logger import TrackingLogger
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.tracking.store import open_store
from lesion_exp.training.build import build
from lesion_exp.training.data import SplitData, load_data, split_data
from lesion_exp.training.trainer import build_trainer

NUM_CLASSES = 7
WARM_UP_STEPS = 3


@dataclass(frozen=True)
class Case:
    """A network with an image size and a batch size."""

    name: str
    backbone: str
    image_size: int
    batch_size: int


CASES = {
    case.name: case
    for case in (
        Case("resnet18_112", "resnet18", 112, 32),
        Case("resnet50_224", "resnet50", 224, 16),
        Case("efficientnet_lite0_128", "efficientnet_lite0", 128, 32),
    )
}
Measure = Callable[[float], float]


def rate(steps: Iterator[int], seconds: float) -> float:
    """Images per second over `steps` (each yields the images of a finished step), after some warm-up steps."""
    for _ in range(WARM_UP_STEPS):
        next(steps)
    images, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        images += next(steps)
    return images / (time.perf_counter() - start)


class StepClock(pl.Callback):
    """Counts the images of the training steps of a fit, and stops the fit when the time is over."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.images, self.start, self.end, self.steps = 0, 0.0, 0.0, 0

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.steps += 1
        self.end = time.perf_counter()
        if self.steps == WARM_UP_STEPS:
            self.start = self.end
        elif self.steps > WARM_UP_STEPS:
            self.images += len(batch["label"])
            trainer.should_stop = self.end - self.start > self.seconds


def framework(config: dict[str, Any], split: SplitData, folder: Path) -> Measure:
    store = open_store(None, folder)

    def measure(seconds: float) -> float:
        built, clock = build(config, split), StepClock(seconds)
        trainer_config = {**config["trainer"], "limit_val_batches": 0, "min_epochs": 0, "max_epochs": 10_000}
        with TrackedRun.start(store, "benchmark", "framework", {}) as run:
            trainer = build_trainer(trainer_config, TrackingLogger(run, folder), folder, [clock])
            trainer.fit(built.classifier, datamodule=built.datamodule)
        return clock.images / (clock.end - clock.start)

    return measure


def bare(case: Case, device: torch.device) -> Measure:
    precision = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(resolve_precision("auto", device.type))

    def steps() -> Iterator[int]:
        torch.use_deterministic_algorithms(False)  # the framework's trainer has switched it on
        torch.manual_seed(0)
        network = torchvision.models.get_model(case.backbone, num_classes=NUM_CLASSES).to(device)
        network = network.to(memory_format=torch.channels_last).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
        shape = (case.batch_size, 3, case.image_size, case.image_size)
        images = torch.randn(shape, device=device).contiguous(memory_format=torch.channels_last)
        labels = torch.randint(NUM_CLASSES, (case.batch_size,), device=device)
        while True:
            with torch.autocast(device.type, dtype=precision, enabled=precision is not None):
                logits = network(images)
            loss = F.cross_entropy(logits.float(), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            yield case.batch_size

    return lambda seconds: rate(steps(), seconds)


class FileDataset(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """JPEG files, read by Pillow and torchvision's transforms as in notebooks."""

    def __init__(self, paths: list[str], image_size: int) -> None:
        self.paths = paths
        self.transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(image_size, scale=(0.5, 1.0)),
                transforms.RandomHorizontalFlip(),
                transforms.RandomVerticalFlip(),
                transforms.RandomRotation(45),
                transforms.ColorJitter(0.2, 0.2, 0.2),
                transforms.ToTensor(),
                transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: int) -> tuple[torch.Tensor, int]:
        with Image.open(self.paths[position], formats=["JPEG"]) as image:
            return self.transform(image.convert("RGB")), position % NUM_CLASSES


def notebook(case: Case, paths: list[str], device: torch.device) -> Measure:
    def steps() -> Iterator[int]:
        torch.use_deterministic_algorithms(False)  # the framework's trainer has switched it on
        torch.manual_seed(0)
        network = torchvision.models.get_model(case.backbone, num_classes=NUM_CLASSES).to(device).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
        dataset = FileDataset(paths, case.image_size)
        loader = torch.utils.data.DataLoader(dataset, case.batch_size, shuffle=True, num_workers=2, drop_last=True)
        while True:
            for images, labels in loader:
                loss = F.cross_entropy(network(images.to(device)), labels.to(device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                loss.item()
                yield len(labels)

    return lambda seconds: rate(steps(), seconds)


def measure_case(case: Case, folder: Path, seconds: float, rounds: int) -> dict[str, Any]:
    overrides = [
        f"backbone={case.backbone}",
        f"image_size={case.image_size}",
        f"loader.batch_size={case.batch_size}",
        "dataset.image_height=450",
        "dataset.image_width=600",
        "dataset.num_lesions=150",
        "sampler=oversample",
        "sampler.samples_per_class=5000",  # one long epoch: nothing is validated or saved while it is measured
    ]
    config = compose(overrides, root=folder).config
    split = split_data(config, load_data(config))
    device = torch.device("cuda" if has_gpu("auto") else "cpu")
    ways = {
        "framework": framework(config, split, folder),
        "bare": bare(case, device),
        "notebook": notebook(case, list(split.table["image_path"]), device),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, measure in ways.items():
            print(f"{case.name}: round {number + 1}, {name} ...", file=sys.stderr)
            rates[name].append(measure(seconds))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "images_per_second": medians,
        "spread": {name: [min(values), max(values)] for name, values in rates.items()},
        "ratio_to_bare": medians["framework"] / medians["bare"],
        "ratio_to_notebook": medians["framework"] / medians["notebook"],
    }


def show(results: dict[str, Any]) -> None:
    table = Table(title="training, images a second (median)", title_justify="left")
    for column in ("case", "framework", "bare", "notebook", "to bare", "to notebook"):
        table.add_column(column, justify="left" if column == "case" else "right")
    for name, result in results["cases"].items():
        rates = [f"{result['images_per_second'][way]:.1f}" for way in ("framework", "bare", "notebook")]
        table.add_row(name, *rates, f"{result['ratio_to_bare']:.2f}", f"{result['ratio_to_notebook']:.2f}")
    Console(file=sys.stderr).print(table)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cases", default=",".join(CASES), help="comma-separated, of: " + ", ".join(CASES))
    parser.add_argument("--seconds", type=float, default=20.0, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=2, help="measurements of each way, alternating")


def run(asked: argparse.Namespace) -> dict[str, Any]:
    chosen = asked.cases.split(",")
    unknown = [name for name in chosen if name not in CASES]
    if unknown:
        sys.exit(f"unknown cases: {', '.join(unknown)}; known: {', '.join(CASES)}")
    results: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "precision": resolve_precision("auto", "auto"),
        "cases": {},
    }
    keep_freed_memory()  # training does, and it speeds up the other ways too
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            results["cases"][name] = measure_case(CASES[name], Path(folder), asked.seconds, asked.rounds)
    show(results)
    return results
