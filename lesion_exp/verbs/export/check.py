"""Compares an exported file with the original network: probabilities, accuracy, size and speed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import torch

from lesion_exp.data.lesion_dataset import Sample
from lesion_exp.errors import DataError
from lesion_exp.evaluation.calibrator import Calibrator
from lesion_exp.evaluation.predictions import FloatArray, known_rows
from lesion_exp.image_file import UInt8Array, read_image
from lesion_exp.model.predictor import collate
from lesion_exp.model.restore import Restored
from lesion_exp.progress import Stage
from lesion_exp.verbs.export.network import IMAGES, other_inputs
from lesion_exp.verbs.export.program import Arrays, Runner
from lesion_exp.verbs.export.request import ExportRequest


class RealImages:
    """The images on which a file is compared with the original, by their position; read from their files each time.

    Args:
        restored: the original network.
        calibrator: the calibrator of its probabilities, or None.
        rows: the images, as rows of a data set's table.
        inside: whether the exported file takes photographs instead of normalised squares.
    """

    def __init__(self, restored: Restored, calibrator: Calibrator | None, rows: pd.DataFrame, *, inside: bool) -> None:
        self.restored = restored
        restored.classifier.eval()
        self.calibrator = calibrator
        self.rows = rows.reset_index(drop=True)
        self.inside = inside
        encoder = restored.encoder
        self.metadata = None if encoder is None else torch.from_numpy(encoder.encode(self.rows))

    def __len__(self) -> int:
        return len(self.rows)

    def samples(self, positions: Sequence[int]) -> Sample:
        """Returns the inputs of the original network, as a batch.

        Raises:
            DataError: a file can no longer be read.
        """
        preparation, made = self.restored.preparation, []
        for position in positions:
            row = self.rows.iloc[position]
            sample = preparation.from_files(row["image_path"], **{key: row[key] for key in preparation.companions})
            if self.metadata is not None:
                sample["metadata"] = self.metadata[position]
            made.append(sample)
        batch = collate([""] * len(made), made).sample
        assert batch is not None, "there are images"
        return batch

    def photographs(self, positions: Sequence[int]) -> UInt8Array:
        """Returns the decoded photographs, uint8 (N, H, W, 3); all must have the same size."""
        return np.stack([read_image(self.rows["image_path"].iloc[position]) for position in positions])

    def inputs(self, positions: Sequence[int], samples: Sample | None = None) -> Arrays:
        """Returns the inputs of the exported file.

        `samples` are the inputs of the original network, if they have been made already.
        """
        if self.inside:
            arrays = {IMAGES: self.photographs(positions)}
        else:
            samples = self.samples(positions) if samples is None else samples
            arrays = {IMAGES: self._normalised(samples["image"])}
        others = other_inputs(self.restored)
        if "clinical" in others:
            assert samples is not None, "a second photograph is prepared outside"
            arrays["clinical"] = self._normalised(samples["clinical"])
        if self.metadata is not None:
            arrays["metadata"] = self.metadata[list(positions)].numpy()
        return arrays

    def original(self, samples: Sample) -> FloatArray:
        """Returns the probabilities of the original network, float64 (N, C), computed in float32 on the CPU."""
        numbered = Sample(**{**samples, "index": torch.arange(len(samples["image"]))})
        with torch.inference_mode():
            _, probs, _ = self.restored.classifier.predict_batch(numbered)
        found: FloatArray = probs.numpy().astype(np.float64)
        return found if self.calibrator is None else self.calibrator.apply(found)

    def of_one_size(self, count: int) -> list[int]:
        """`count` positions, repeated if necessary, of photographs that have the size of the first one."""
        places = range(min(len(self), 2 * count)) if self.inside else range(len(self))
        shapes = [self.photographs([place]).shape if self.inside else () for place in places]
        alike = [place for place, shape in zip(places, shapes, strict=True) if shape == shapes[0]]
        return [alike[number % len(alike)] for number in range(count)]

    def _normalised(self, images: torch.Tensor) -> np.ndarray:
        values: np.ndarray = self.restored.classifier.normalize(images).contiguous().numpy()
        return values


def drawn(table: pd.DataFrame, part: str, count: int) -> pd.DataFrame:
    """Draws at most `count` rows of a part whose classes the network knows; the same rows at every call.

    Raises:
        DataError: there are none.
    """
    rows = known_rows(table[table["split"] == part])
    if rows.empty:
        raise DataError(f"expected images of known classes in the {part} part of the run, got none; name another run")
    return rows.sample(min(count, len(rows)), random_state=0)


BATCHES: Final = (1, 32)
"""Batch sizes for which the speed is measured."""
_SECONDS: Final = 3.0
_STRETCH: Final = 0.4
_PAUSE: Final = 0.05
"""Seconds of a measurement, of a stretch of it, and of the pause before each stretch."""
_FEWEST_CALLS: Final = 5


@dataclass(frozen=True)
class Check:
    """The comparison of an exported file with the original, on the same images."""

    kind: str
    preprocessing: str
    part: str
    images: int
    largest_difference: float
    """Largest difference of a probability."""
    mean_difference: float
    same_class: float
    """Share of the images with the same predicted class."""
    accuracy: tuple[float, float]
    """Of the original and of the file, as are the next fields."""
    balanced_accuracy: tuple[float, float]
    megabytes: tuple[float, float]
    images_per_second: Mapping[str, tuple[float, float]]
    """By batch size; measured in turn on the CPU of this machine."""
    threads: int
    failure: str | None
    """The reason why the file must not be used; None if it passed."""

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
    """Compares the file that `runner` runs with the original, on all of `images`.

    Args:
        images: the images, with the original network.
        runner: runs the exported file.
        request: the tolerances.
        part: the part of the data from which the images are, for the report.
        megabytes: size of the original and of the file.
        largest_batch: largest number of images that the file takes at once.
    """
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
        return f"its accuracy is lower by {lost:.3f}, more than max_accuracy_lost={request.max_accuracy_lost:g}"
    if largest <= request.tolerance:
        return None
    return f"a probability differs by {largest:.2g}, more than tolerance={request.tolerance:g}"


def _both(images: RealImages, runner: Runner, at_once: int) -> tuple[FloatArray, FloatArray]:
    """The probabilities of the original and of the file, float64 (N, C) each."""
    step = 1 if images.inside else at_once  # photographs differ in size
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
    """Images per second of the original and of the file: from image files if the file takes photographs, else from
    squares.
    """
    positions = images.of_one_size(size)
    if images.inside:
        return _in_turn(
            lambda: images.original(images.samples(positions)), lambda: runner(images.inputs(positions)), size
        )
    samples = images.samples(positions)
    inputs = images.inputs(positions, samples)
    return _in_turn(lambda: images.original(samples), lambda: runner(inputs), size)


def _in_turn(first: Callable[[], object], second: Callable[[], object], size: int) -> tuple[float, float]:
    """Images per second of both calls, measured in alternating stretches of time.

    Alternating single calls would be wrong: the threads of one library spin for a while after a call and would slow
    down the other library.
    """
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
