"""Measures many images: preparing, splitting and auditing them, and the memory of the processes that read them.

    python scripts/benchmark.py scale [--rows 400000] [--images 2000] [--rounds 3]

- prepare: building the image store of `--images` generated photographs (600 x 450), beside decoding and resizing alone
  by the same library with as many threads, in seconds of the clock and of a processor; `--photographs DIR` takes yours;
- split, audit: a grouped split of `--rows` rows, four of a patient, and its audit, without the search for
  near-duplicates; that search for a sixteenth, a quarter and all of the rows, to see how it grows;
- memory: an HDF5 file of `--rows` tiny images; by how much the process that builds the store of it grows at most, and
  what a loader's process holds after it has read all of them.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import numpy as np
import pandas as pd
from benchmark_rounds import seconds_of, show, spread_of, summary, take_turns
from PIL import Image

from lesion_exp.augmentation.pipeline import AugmentationPipeline
from lesion_exp.data.lesion_dataset import LesionDataset, SampleOptions
from lesion_exp.data.store import open_or_build
from lesion_exp.data.store_builder import StoreRequest
from lesion_exp.dataset.synthetic import read_synthetic
from lesion_exp.image_file import read_image
from lesion_exp.split import audit as audit_module
from lesion_exp.split import groups
from lesion_exp.split.grouped import Grouped
from lesion_exp.split.groups import DEFAULT_THRESHOLD, near_duplicate_pairs

SHORT_SIDE = 280
CLASSES = ("benign", "malignant")
RATIOS = {"train": 0.7, "val": 0.15, "test": 0.15}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=400_000, help="rows of the large table (400000)")
    parser.add_argument("--images", type=int, default=2000, help="photographs to prepare (2000)")
    parser.add_argument("--photographs", type=Path, help="folder of JPEG files to prepare (generated ones)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each way, alternating (3)")


def run(asked: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare(Path(folder), asked.images, asked.rounds, asked.photographs)
        split = split_and_audit(asked.rows)
        memory = memory_of_rows(Path(folder), asked.rows)
    return {"prepare": prepared, "split": split, "memory": memory}


def prepare(folder: Path, images: int, rounds: int, photographs: Path | None) -> dict[str, Any]:
    if photographs is None:
        drawn = read_synthetic(str(folder), num_lesions=150, image_height=450, image_width=600)
    else:
        paths = sorted(str(path) for path in photographs.glob("*.jpg"))
        drawn = pd.DataFrame({"image_id": paths, "image_path": paths, "label": CLASSES[0]})
    copies = -(-images // len(drawn))
    table = pd.concat([drawn.assign(image_id=drawn["image_id"] + f"_{copy}") for copy in range(copies)])[:images]
    threads = len(os.sched_getaffinity(0))

    def decode_alone() -> None:
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(lambda path: read_image(path, SHORT_SIDE), table["image_path"]):
                pass

    def build() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as cache:
            open_or_build(table, StoreRequest(SHORT_SIDE), Path(cache))

    used: dict[str, list[float]] = {"prepare": [], "decoding alone": []}

    def timed(name: str, action: Callable[[], None]) -> float:
        begun = time.process_time()
        seconds = seconds_of(action)
        used[name].append(time.process_time() - begun)
        return seconds

    actions = {"prepare": build, "decoding alone": decode_alone}
    clock = summary(
        take_turns({name: lambda name=name, action=action: timed(name, action) for name, action in actions.items()},
                   rounds)
    )  # fmt: skip
    processor = summary(used)
    ratios = [found["prepare"]["median"] / found["decoding alone"]["median"] for found in (clock, processor)]
    show(
        f"{images:,} photographs on {threads} threads, seconds of the clock and of a processor (ratios: "
        f"{ratios[0]:.2f}, {ratios[1]:.2f})",
        ["way", "clock", "spread", "processor", "spread"],
        [
            [name, *(text for found in (clock, processor) for text in
                     (f"{found[name]['median']:.2f}", spread_of(found[name], 2)))]
            for name in actions
        ],
    )  # fmt: skip
    return {
        "seconds": clock,
        "processor_seconds": processor,
        "ratio_to_decoding": ratios[0],
        "processor_ratio_to_decoding": ratios[1],
    }


def large_table(rows: int) -> pd.DataFrame:
    """Four images a patient, few malignant, no two images alike."""
    rng = np.random.default_rng(0)
    numbers = np.arange(rows)
    return pd.DataFrame(
        {
            "row_id": [f"r{number}" for number in numbers],
            "image_id": [f"ISIC_{number:07d}" for number in numbers],
            "label": np.where(rng.random(rows) < 0.01, *CLASSES[::-1]),
            "lesion_id": [f"IL_{number}" for number in numbers],
            "patient_id": [f"IP_{number // 4}" for number in numbers],
            "source": "isic2024",
            "sha256": [f"{number:064x}" for number in numbers],
            "phash": rng.integers(0, 2**64, rows, dtype=np.uint64),
            "thumbnail": [bytes(row) for row in rng.integers(0, 256, (rows, 256), dtype=np.uint8)],
        }
    )


def split_and_audit(rows: int) -> dict[str, Any]:
    table = large_table(rows)
    nothing = near_duplicate_pairs(table[:2], DEFAULT_THRESHOLD)
    splitter = Grouped(0, RATIOS)
    made: list[pd.DataFrame] = []
    with mock.patch.object(groups, "near_duplicate_pairs", return_value=nothing):
        split = seconds_of(
            lambda: made.append(splitter.split(table.assign(group=groups.assign_groups(table, DEFAULT_THRESHOLD))))
        )
        audited = seconds_of(lambda: audit_module.audit(made[0], DEFAULT_THRESHOLD))
    search = {
        count: seconds_of(lambda count=count: near_duplicate_pairs(table[:count], DEFAULT_THRESHOLD))
        for count in (rows // 16, rows // 4, rows)
    }
    show(
        f"{rows:,} rows, seconds",
        ["what", "seconds"],
        [
            ["split by group", f"{split:.2f}"],
            ["audit", f"{audited:.2f}"],
            *([f"near-duplicates among {count:,}", f"{seconds:.2f}"] for count, seconds in search.items()),
        ],
    )
    return {"split_seconds": split, "audit_seconds": audited, "near_duplicate_seconds": search}


def memory_of_rows(folder: Path, rows: int) -> dict[str, Any]:
    container = folder / "images.hdf5"
    with h5py.File(container, "w") as file:
        for number in range(rows):
            file[f"ISIC_{number:07d}"] = np.void(jpeg(number % 64))
    answers: Queue[dict[str, float]] = multiprocessing.get_context("spawn").Queue()
    child = multiprocessing.get_context("spawn").Process(target=read_all, args=(container, rows, answers))
    child.start()
    found = answers.get()
    child.join()
    show(
        f"{rows:,} images of an HDF5 file, MB beyond the libraries",
        ["building the store, peak", "a loader's process, after reading all", "seconds to build"],
        [[f"{found['build_mb']:.0f}", f"{found['loader_mb']:.0f}", f"{found['build_seconds']:.0f}"]],
    )
    return found


def jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG")
    return encoded.getvalue()


def read_all(container: Path, rows: int, answers: Queue[dict[str, float]]) -> None:
    """Builds the store of `container` and reads all of it in a loader's process."""
    libraries = anonymous_mb()
    ids = [f"ISIC_{number:07d}" for number in range(rows)]
    table = pd.DataFrame({"image_id": ids, "image_path": [f"{container}!/{name}" for name in ids], "label": "benign"})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    begun = time.perf_counter()
    store = open_or_build(table, StoreRequest(8), container.parent / "cache")
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    pipeline = AugmentationPipeline(8, "crop", None, None, None, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    dataset = LesionDataset(table, store, pipeline, CLASSES, SampleOptions(), training=False)
    del table, ids
    inside: Queue[float] = multiprocessing.get_context("fork").Queue()
    worker = multiprocessing.get_context("fork").Process(target=read_in_order, args=(dataset, inside))
    worker.start()
    loader = inside.get() - libraries
    worker.join()
    answers.put({"build_mb": peak - before, "loader_mb": loader, "build_seconds": seconds})


def read_in_order(dataset: LesionDataset, answer: Queue[float]) -> None:
    for position in range(len(dataset)):
        dataset[(0, position)]
    answer.put(anonymous_mb())


def anonymous_mb() -> float:
    """Anonymous memory of this process, MB; the pages of the store are shared by all processes and not counted."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024
