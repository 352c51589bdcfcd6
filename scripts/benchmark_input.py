"""Measures how fast images reach the network: from the store and from files, beside other pipelines.

    python scripts/benchmark.py input [--images 256] [--rounds 5] [--photographs DIR]

All ways make batches of normalised float images with the augmentation `standard` or its like, on one core, from the
same generated photographs of 600 x 450 pixels. They take turns; what counts is the time for which a way, all of its
threads together, used a processor. To 224 pixels, from decoded images:

- framework: from the image store, augmented, in batches, normalised a batch at a time;
- albumentations: its own transforms and its own normalisation, from the same stored pixels in memory;
- torchvision v2: its transforms on uint8 tensors, from the same stored pixels in memory;
- dali: NVIDIA DALI's pipeline for CPUs, from the same stored pixels in memory.

To 112 pixels, from JPEG files:

- framework: `dataset.store_size=none`, which reduces a JPEG while it is decoded;
- framework, in full: the same with the pixels of the store: decoded in full and scaled by averaging;
- webdataset: a shard of the files, decoded by Pillow, with albumentations' transforms and normalisation;
- dali: NVIDIA DALI's pipeline for CPUs, which decodes the crop alone;
- notebook: Pillow decodes the file, torchvision's transforms on Pillow images.

DALI (`nvidia-dali-cuda120`) and webdataset are left out, with the reason, where they are not installed. Generated
photographs are smooth and decode faster than real ones; `--photographs DIR` takes yours.

`epoch_start` is a batch's waiting time at the start of an epoch with two loader processes, beside the usual one's.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from benchmark_loaders import BATCH, MEAN, STD, Way, absent, dali, plain_albumentations, webdataset
from benchmark_rounds import show, spread_of, summary, take_turns
from benchmark_train import FileDataset
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from lesion_exp.config.compose import compose
from lesion_exp.data.lesion_dataset import LesionDataset, collate_samples
from lesion_exp.data.store import ImageStore, open_or_build
from lesion_exp.data.store_builder import StoreRequest
from lesion_exp.dataset.synthetic import read_synthetic
from lesion_exp.image_file import UInt8Array, read_image
from lesion_exp.model.inputs import STORE_HEADROOM
from lesion_exp.process.cpu_settings import keep_freed_memory
from lesion_exp.training.build import Built, build
from lesion_exp.training.data import load_data, split_data

SIDE = 224
SMALL = 112


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=int, default=256, help="images of one measurement (256)")
    parser.add_argument("--photographs", type=Path, help="folder of JPEG files for the ways that read files")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each way, alternating (5)")


def run(asked: argparse.Namespace) -> dict[str, Any]:
    core = min(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        built = prepared(folder, SIDE)
        start = epoch_start(built)
        os.sched_setaffinity(0, {core})
        torch.set_num_threads(1)
        keep_freed_memory()  # training does, and it speeds up the other ways too
        paths = photographs(folder, asked.photographs)
        ways = {
            f"{SIDE} px": from_pixels(built),
            f"{SMALL} px from files": from_files(prepared(folder, SMALL), paths, folder),
        }
        left_out = {name: reason for name in ("nvidia.dali", "webdataset") if (reason := absent(name)) is not None}
        rates = take_turns(
            {
                f"{group}, {name}": lambda way=way: asked.images / processor_seconds_of(lambda: way(asked.images))
                for group, members in ways.items()
                for name, way in members.items()
            },
            asked.rounds,
        )
    found = summary(rates)
    result: dict[str, Any] = {"images_per_processor_second": found, "left_out": left_out, "epoch_start": start}
    for group, members in ways.items():
        medians = {name: found[f"{group}, {name}"]["median"] for name in members}
        result[f"ratios {group}"] = {name: medians["framework"] / rate for name, rate in medians.items()}
        show(
            f"input to {group}, images per second of a processor",
            ["way", "median", "spread", "framework is"],
            [
                [name, f"{rate:.0f}", spread_of(found[f"{group}, {name}"], 0), f"{medians['framework'] / rate:.2f} x"]
                for name, rate in medians.items()
            ],
        )
    for name, reason in left_out.items():
        print(f"{name} was left out: {reason}", file=sys.stderr)
    show(
        "waiting for a batch with two loader processes, milliseconds",
        ["first of an epoch", "usual"],
        [[f"{1000 * start['first_seconds']:.1f}", f"{1000 * start['usual_seconds']:.1f}"]],
    )
    return result


def processor_seconds_of(action: Callable[[], object]) -> float:
    """Time for which all threads of this process used a processor during one call."""
    begun = time.process_time()
    action()
    return time.process_time() - begun


def photographs(folder: Path, chosen: Path | None) -> list[str]:
    """The JPEG files of the ways that read files: those in `chosen`, or generated ones of quality 95."""
    if chosen is not None:
        return sorted(str(path) for path in chosen.glob("*.jpg"))
    drawn = read_synthetic(str(folder / "drawn"), num_lesions=100, image_height=450, image_width=600)
    paths = []
    for number, path in enumerate(drawn["image_path"]):
        paths.append(str(folder / f"photograph_{number}.jpg"))
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            image.convert("RGB").save(paths[-1], quality=95)
    return paths


def prepared(folder: Path, side: int) -> Built:
    overrides = [
        "backbone=small_cnn", "augmentation=standard", f"image_size={side}", "dataset.image_height=450",
        "dataset.image_width=600", "dataset.num_lesions=150", "trainer=cpu", "loader.num_workers=2",
        f"loader.batch_size={BATCH}",
    ]  # fmt: skip
    config = compose(overrides, root=folder).config
    return build(config, split_data(config, load_data(config)))


def from_pixels(built: Built) -> dict[str, Way]:
    """The ways from decoded images to batches of `SIDE` pixels."""
    stored = [np.array(built.datamodule.store.read(row)) for row in built.datamodule.dataset("train").rows]
    transform = plain_albumentations(SIDE)
    ways = {
        "framework": framework(built),
        "albumentations": in_batches(lambda position: transform(stored[position % len(stored)])),
        "torchvision v2": in_batches(torchvision_v2(stored)),
    }
    return ways if absent("nvidia.dali") else {**ways, "dali": dali(stored, SIDE)}


def from_files(built: Built, paths: list[str], folder: Path) -> dict[str, Way]:
    """The ways from JPEG files to batches of `SMALL` pixels."""
    table = pd.DataFrame({"image_id": paths, "image_path": paths, "label": built.datamodule.classes[0]})
    store = open_or_build(table, StoreRequest(round(SMALL * STORE_HEADROOM), from_files=True), folder / "cache")
    ways = {"framework": framework(built, table, store), "framework, in full": framework(built, table, InFull(store))}
    if absent("webdataset") is None:
        ways["webdataset"] = webdataset(paths, folder, plain_albumentations(SMALL))
    if absent("nvidia.dali") is None:
        ways["dali"] = dali(paths, SMALL)
    dataset = FileDataset(paths, SMALL)
    return {**ways, "notebook": in_batches(lambda position: dataset[position % len(dataset)][0])}


class InFull(ImageStore):
    """A store of photographs in their files that are decoded at their whole size and averaged, as for a store."""

    def __init__(self, store: ImageStore) -> None:
        super().__init__(store.folder)
        self.paths = [str(image_id) for image_id in store.image_ids]

    def read(self, row: int, plane: str = "pixels") -> UInt8Array:
        """Returns the photograph."""
        return read_image(self.paths[row], round(SMALL * STORE_HEADROOM))


def framework(built: Built, table: pd.DataFrame | None = None, store: ImageStore | None = None) -> Way:
    """What training does with its own images, or with those of `table`, which are in `store`."""
    module = built.datamodule
    dataset = module.dataset("train", training=True)
    if table is not None and store is not None:
        dataset = LesionDataset(table, store, module.pipeline, module.classes, module.sample, training=True)

    def make(images: int) -> None:
        for begin in range(0, images, BATCH):
            samples = [dataset[(begin, position % len(dataset))] for position in range(begin, begin + BATCH)]
            built.classifier.normalize(collate_samples(samples)["image"])

    return make


def in_batches(one: Callable[[int], torch.Tensor]) -> Way:
    def make(images: int) -> None:
        for begin in range(0, images, BATCH):
            torch.stack([one(position) for position in range(begin, begin + BATCH)])

    return make


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
