"""Measures how fast images reach the network: from the store, and by three other pipelines that do the same.

    python scripts/benchmark.py input [--images 256] [--rounds 5]

All ways make batches of normalised float images of 224 pixels with the augmentation `standard` or its like, on one
core, from the same generated photographs of 600 x 450 pixels:

- framework: from the image store, augmented, in batches, normalised a batch at a time;
- albumentations: its own transforms and its own normalisation, from the same stored pixels in memory;
- torchvision v2: its transforms on uint8 tensors, from the same stored pixels in memory;
- notebook: Pillow decodes the JPEG file, torchvision's transforms on Pillow images. Generated photographs are smooth
  and decode faster than real ones; `--photographs DIR` takes yours.

`epoch_start` is a batch's waiting time at the start of an epoch with two loader processes, beside the usual one's.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import albumentations
import cv2
import numpy as np
import torch
from benchmark_rounds import seconds_of, show, spread_of, summary, take_turns
from benchmark_train import FileDataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from lesion_exp.config.compose import compose
from lesion_exp.data.lesion_dataset import collate_samples
from lesion_exp.process.cpu_settings import keep_freed_memory
from lesion_exp.training.build import Built, build
from lesion_exp.training.data import load_data, split_data

SIDE = 224
BATCH = 32
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=int, default=256, help="images of one measurement (256)")
    parser.add_argument("--photographs", type=Path, help="folder of JPEG files for `notebook` (generated ones)")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each way, alternating (5)")


def run(asked: argparse.Namespace) -> dict[str, Any]:
    core = min(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        built, paths = prepared(Path(folder))
        if asked.photographs is not None:
            paths = sorted(str(path) for path in asked.photographs.glob("*.jpg"))
        start = epoch_start(built)
        os.sched_setaffinity(0, {core})
        torch.set_num_threads(1)
        keep_freed_memory()  # training does, and it speeds up the other ways too
        stored = [np.array(built.datamodule.store.read(row)) for row in built.datamodule.dataset("train").rows]
        ways = {
            "framework": framework(built),
            "albumentations": in_batches(plain_albumentations(stored)),
            "torchvision v2": in_batches(torchvision_v2(stored)),
            "notebook": in_batches(notebook(paths)),
        }
        rates = take_turns(
            {name: lambda way=way: asked.images / seconds_of(lambda: way(asked.images)) for name, way in ways.items()},
            asked.rounds,
        )
    found = summary(rates)
    medians = {name: entry["median"] for name, entry in found.items()}
    result = {
        "images_per_second": found,
        "ratio_to_albumentations": medians["framework"] / medians["albumentations"],
        "ratio_to_torchvision_v2": medians["framework"] / medians["torchvision v2"],
        "ratio_to_notebook": medians["framework"] / medians["notebook"],
        "epoch_start": start,
    }
    show(
        f"input to {SIDE} px, one core, images a second",
        ["way", "median", "spread", "framework is"],
        [
            [name, f"{medians[name]:.0f}", spread_of(found[name], 0), f"{medians['framework'] / medians[name]:.2f} x"]
            for name in medians
        ],
    )
    show(
        "waiting for a batch with two loader processes, milliseconds",
        ["first of an epoch", "usual"],
        [[f"{1000 * start['first_seconds']:.1f}", f"{1000 * start['usual_seconds']:.1f}"]],
    )
    return result


def prepared(folder: Path) -> tuple[Built, list[str]]:
    overrides = [
        "backbone=small_cnn", "augmentation=standard", f"image_size={SIDE}", "dataset.image_height=450",
        "dataset.image_width=600", "dataset.num_lesions=150", "trainer=cpu", "loader.num_workers=2",
        f"loader.batch_size={BATCH}",
    ]  # fmt: skip
    config = compose(overrides, root=folder).config
    split = split_data(config, load_data(config))
    return build(config, split), list(split.table["image_path"])


def framework(built: Built) -> Callable[[int], None]:
    dataset = built.datamodule.dataset("train", training=True)

    def make(images: int) -> None:
        for begin in range(0, images, BATCH):
            samples = [dataset[(begin, position % len(dataset))] for position in range(begin, begin + BATCH)]
            built.classifier.normalize(collate_samples(samples)["image"])

    return make


def in_batches(one: Callable[[int], torch.Tensor]) -> Callable[[int], None]:
    def make(images: int) -> None:
        for begin in range(0, images, BATCH):
            torch.stack([one(position) for position in range(begin, begin + BATCH)])

    return make


def plain_albumentations(stored: list[np.ndarray]) -> Callable[[int], torch.Tensor]:
    pipeline = albumentations.Compose(
        [
            albumentations.RandomResizedCrop((SIDE, SIDE), scale=(0.5, 1.0), ratio=(0.9, 1.1)),
            albumentations.D4(p=1),
            albumentations.Rotate(limit=45, border_mode=cv2.BORDER_REFLECT_101, p=0.5),
            albumentations.RandomBrightnessContrast(p=0.75),
            albumentations.HueSaturationValue(4, 20, 10, p=0.5),
            albumentations.Normalize(MEAN, STD),
            albumentations.ToTensorV2(),
        ],
        seed=0,
    )

    def one(position: int) -> torch.Tensor:
        made: torch.Tensor = pipeline(image=stored[position % len(stored)])["image"]
        return made

    return one


def torchvision_v2(stored: list[np.ndarray]) -> Callable[[int], torch.Tensor]:
    pipeline = v2.Compose(
        [
            v2.RandomResizedCrop(SIDE, scale=(0.5, 1.0), ratio=(0.9, 1.1), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomVerticalFlip(),
            v2.RandomApply([v2.RandomRotation(45, v2.InterpolationMode.BILINEAR)], p=0.5),
            v2.ColorJitter(0.2, 0.2, 0.1, 0.02),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    images = [tv_tensors.Image(torch.from_numpy(image).permute(2, 0, 1).contiguous()) for image in stored]

    def one(position: int) -> torch.Tensor:
        made: torch.Tensor = pipeline(images[position % len(images)])
        return made

    return one


def notebook(paths: list[str]) -> Callable[[int], torch.Tensor]:
    dataset = FileDataset(paths, SIDE)
    return lambda position: dataset[position % len(dataset)][0]


def epoch_start(built: Built, epochs: int = 6) -> dict[str, float]:
    """Seconds until the first batch of an epoch, and between two other batches, in the epochs after the first."""
    loader = built.datamodule.evaluation_dataloader("train")
    firsts: list[float] = []
    usual: list[float] = []
    for _ in range(epochs):
        waits = list(waiting(iter(loader)))
        firsts.append(waits[0])
        usual += waits[1:]
    return {"first_seconds": statistics.median(firsts[1:]), "usual_seconds": statistics.median(usual)}


def waiting(batches: Iterator[Any]) -> Iterator[float]:
    while True:
        begun = time.perf_counter()
        if next(batches, None) is None:
            return
        yield time.perf_counter() - begun
