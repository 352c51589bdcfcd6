"""Published loaders that `benchmark.py input` measures where they are installed. None is a dependency."""

from __future__ import annotations

import importlib
import io
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import albumentations
import cv2
import numpy as np
import torch

Way = Callable[[int], None]
"""Makes at least as many images as it is asked for, in batches."""
BATCH = 32
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def absent(package: str) -> str | None:
    """Returns why `package` cannot be measured, or None if it can."""
    try:
        importlib.import_module(package)
    except ImportError as error:
        return f"not installed ({error})"
    return None


def plain_albumentations(side: int) -> Callable[[np.ndarray], torch.Tensor]:
    """Albumentations' own transforms and normalisation, like the recipe `standard`."""
    pipeline = albumentations.Compose(
        [
            albumentations.RandomResizedCrop((side, side), scale=(0.5, 1.0), ratio=(0.9, 1.1)),
            albumentations.D4(p=1),
            albumentations.Rotate(limit=45, border_mode=cv2.BORDER_REFLECT_101, p=0.5),
            albumentations.RandomBrightnessContrast(p=0.75),
            albumentations.HueSaturationValue(4, 20, 10, p=0.5),
            albumentations.Normalize(MEAN, STD),
            albumentations.ToTensorV2(),
        ],
        seed=0,
    )

    def transform(image: np.ndarray) -> torch.Tensor:
        made: torch.Tensor = pipeline(image=image)["image"]
        return made

    return transform


def dali(source: Sequence[str] | Sequence[np.ndarray], side: int) -> Way:
    """NVIDIA DALI's pipeline for CPUs, from JPEG files (it decodes the crop alone) or from decoded images.

    Its changes of colour are one operator, `color_twist`, and its flips leave out transposing.
    """
    from nvidia.dali import fn, pipeline_def, types

    files = isinstance(source[0], str)
    given = {"batch_size": BATCH, "num_threads": 1, "device_id": None, "seed": 0, "enable_conditionals": True}

    @pipeline_def(**given, exec_async=False, exec_pipelined=False)  # nothing is made beyond what is measured
    def pipeline() -> Any:
        area, ratio = [0.5, 1.0], [0.9, 1.1]
        if files:
            encoded, _ = fn.readers.file(files=list(source))
            cropped = fn.decoders.image_random_crop(encoded, random_area=area, random_aspect_ratio=ratio)
            images = fn.resize(cropped, size=[side, side])
        else:
            decoded = fn.external_source(source=batches_of(source), batch=True, layout="HWC", dtype=types.UINT8)
            images = fn.random_resized_crop(decoded, size=[side, side], random_area=area, random_aspect_ratio=ratio)
        images = fn.flip(images, horizontal=fn.random.coin_flip(), vertical=fn.random.coin_flip())
        if fn.random.coin_flip(dtype=types.BOOL):
            images = fn.rotate(images, angle=fn.random.uniform(range=[-45.0, 45.0]), keep_size=True, fill_value=0)
        images = fn.color_twist(
            images,
            brightness=fn.random.uniform(range=[0.8, 1.2]),
            contrast=fn.random.uniform(range=[0.8, 1.2]),
            saturation=fn.random.uniform(range=[0.9, 1.1]),
            hue=fn.random.uniform(range=[-8.0, 8.0]),
        )
        mean, std = [255 * value for value in MEAN], [255 * value for value in STD]
        return fn.crop_mirror_normalize(images, dtype=types.FLOAT, output_layout="CHW", mean=mean, std=std)

    made = pipeline()
    made.build()

    def make(images: int) -> None:
        for _ in range(0, images, BATCH):
            (batch,) = made.run()
            torch.from_dlpack(batch.as_tensor())

    return make


def batches_of(images: Sequence[np.ndarray]) -> Callable[[], list[np.ndarray]]:
    """Returns a function that gives the next batch of `images`, which begin anew at their end."""
    begin = 0

    def batch() -> list[np.ndarray]:
        nonlocal begin
        begin += BATCH
        return [images[position % len(images)] for position in range(begin - BATCH, begin)]

    return batch


def webdataset(paths: Sequence[str], folder: Path, transform: Callable[[np.ndarray], torch.Tensor]) -> Way:
    """webdataset from a shard of JPEG files, which it has Pillow decode; it brings no augmentation of its own."""
    import webdataset as wds

    shard = folder / "shard.tar"
    with tarfile.open(shard, "w") as tar:
        for number, path in enumerate(paths):
            encoded = Path(path).read_bytes()
            entry = tarfile.TarInfo(f"{number:06d}.jpg")
            entry.size = len(encoded)
            tar.addfile(entry, io.BytesIO(encoded))
    loader = wds.WebDataset(str(shard), shardshuffle=False, empty_check=False).decode("rgb8")
    batches = iter(loader.map_dict(jpg=transform).to_tuple("jpg").repeat().batched(BATCH))

    def make(images: int) -> None:
        for _ in range(0, images, BATCH):
            next(batches)

    return make
