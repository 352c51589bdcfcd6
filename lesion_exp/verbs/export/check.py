"""Whether an exported file says what the original says, how well, how large it is and how fast."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import torch

from lesion_exp.evaluation.predictions import FloatArray
from lesion_exp.progress import Stage
from lesion_exp.verbs.export.program import Runner
from lesion_exp.verbs.export.real_images import RealImages
from lesion_exp.verbs.export.request import ExportRequest

BATCHES: Final = (1, 32)
"""Images at once for which the speed is measured."""
_SECONDS: Final = 3.0
_STRETCH: Final = 0.4
_PAUSE: Final = 0.05
"""Seconds: of a measurement, of a stretch of it, and before each stretch."""
_FEWEST_CALLS: Final = 5


@dataclass(frozen=True)
class Check:
    """An exported file beside its original, on the same images."""

    kind: str
    preprocessing: str
    part: str
    images: int
    largest_difference: float
    """Of a probability."""
    mean_difference: float
    same_class: float
    """Share of the images."""
    accuracy: tuple[float, float]
    """The original's, the file's."""
    balanced_accuracy: tuple[float, float]
    megabytes: tuple[float, float]
    images_per_second: Mapping[str, tuple[float, float]]
    """By the images at once: the original's, the file's, measured in turn on this machine's CPU."""
    threads: int
    failure: str | None
    """Why the file must not be used; None where nothing speaks against it."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def check(
    images: RealImages,
    runner: Runner,
    request: ExportRequest,
    part: str,
    megabytes: tuple[float, float],
    largest_batch: int,
) -> Check:
    """The file that `runner` runs beside the original, on all of `images`."""
    sizes = [min(size, largest_batch) for size in BATCHES]
    before, after = _both(images, runner, sizes[-1])
    classes = np.array(images.restored.classes, dtype=object)
    labels = images.rows["label"].to_numpy(dtype=object)
    truth = [(classes[probs.argmax(axis=1)] == labels) for probs in (before, after)]
    differences = np.abs(before - after)
    accuracy = float(truth[0].mean()), float(truth[1].mean())
    balanced = _balanced(truth[0], labels), _balanced(truth[1], labels)
    with Stage("measuring the speed"):
        rates = {str(size): _rates(images, runner, size) for size in sizes}
    largest = float(differences.max()) if np.isfinite(after).all() else float("inf")
    return Check(
        request.kind,
        request.preprocessing,
        part,
        len(images),
        largest,
        float(differences.mean()),
        float((before.argmax(axis=1) == after.argmax(axis=1)).mean()),
        accuracy,
        balanced,
        megabytes,
        rates,
        torch.get_num_threads(),
        _failure(request, largest, accuracy),
    )


def _failure(request: ExportRequest, largest: float, accuracy: tuple[float, float]) -> str | None:
    if request.kind == "onnx_int8":
        lost = accuracy[0] - accuracy[1]
        if lost <= request.max_accuracy_lost and np.isfinite(largest):
            return None
        return f"it loses {lost:.3f} of accuracy, more than max_accuracy_lost={request.max_accuracy_lost:g}"
    if largest <= request.tolerance:
        return None
    return f"a probability differs by {largest:.2g}, more than tolerance={request.tolerance:g}"


def _both(images: RealImages, runner: Runner, at_once: int) -> tuple[FloatArray, FloatArray]:
    """float64 (N, C) each: the probabilities of the original and of the file."""
    step = 1 if images.inside else at_once  # photographs have sizes of their own
    pairs = []
    with Stage("comparing the file with the original on", len(images), "images") as stage:
        for begin in range(0, len(images), step):
            positions = range(begin, min(begin + step, len(images)))
            samples = images.samples(positions)
            pairs.append((images.original(samples), runner(images.inputs(positions, samples)).astype(np.float64)))
            stage.advance(len(positions))
    before, after = (np.concatenate(column) for column in zip(*pairs, strict=True))
    return before, after


def _rates(images: RealImages, runner: Runner, size: int) -> tuple[float, float]:
    """Images a second of the original and of the file: from image files where the file takes photographs, else from
    squares."""
    positions = images.of_one_size(size)
    if images.inside:
        return _in_turn(
            lambda: images.original(images.samples(positions)), lambda: runner(images.inputs(positions)), size
        )
    samples = images.samples(positions)
    inputs = images.inputs(positions, samples)
    return _in_turn(lambda: images.original(samples), lambda: runner(inputs), size)


def _in_turn(first: Callable[[], object], second: Callable[[], object], size: int) -> tuple[float, float]:
    """In stretches, not call by call: the threads of one library wait awake for a while, and would slow the other."""
    times: tuple[list[float], list[float]] = ([], [])
    while sum(map(sum, times)) < _SECONDS or min(map(len, times)) < _FEWEST_CALLS:
        for call, taken in zip((first, second), times, strict=True):
            time.sleep(_PAUSE)
            call()
            ended = time.perf_counter() + _STRETCH
            while time.perf_counter() < ended:
                began = time.perf_counter()
                call()
                taken.append(time.perf_counter() - began)
    return size / statistics.median(times[0]), size / statistics.median(times[1])


def _balanced(hits: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean([hits[labels == name].mean() for name in np.unique(labels)]))
