"""Predicts calibrated probabilities for images with the network of a run."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn

from lesion_exp.data.lesion_dataset import Sample, collate_samples
from lesion_exp.errors import ConfigError, DataError
from lesion_exp.evaluation.calibrator import Calibrator
from lesion_exp.evaluation.predictions import PREFIX, FloatArray
from lesion_exp.model.device import PredictionDevice, prediction_device
from lesion_exp.model.restore import Restored

METADATA_COLUMNS: Final = ("age", "sex", "site")
NOT_FINITE: Final = "the network gives no finite probabilities for it"


class Batch(NamedTuple):
    """A batch of images for the network."""

    names: list[str]
    errors: list[str]
    """For each image the reason why it has no sample; empty if it has one."""
    sample: Sample | None
    """The samples, stacked; None if no image has one."""


class Predicted(NamedTuple):
    """The predictions of a batch."""

    table: pd.DataFrame
    """`image`, `prediction`, `p_<class>`, `top1`... and `error`, a row for each of the batch's names."""
    features: npt.NDArray[np.float32] | None
    """Inputs of the head, float32 (N, F), NaN for images with an error; None unless asked for."""
    logits: npt.NDArray[np.float32] | None = None
    """Outputs of the head, float32 (N, C), before calibration, NaN for images with an error; None unless asked for."""


class Predictor:
    """Predicts images with the network of a run and its calibration.

    Args:
        restored: the network.
        calibrator: applied to the probabilities; None leaves them uncalibrated.
        top: number of the most probable classes that get a column each.
        with_features: whether to return inputs and outputs of the head; with several views, their means.
        thresholds: of classes, see `decided`.

    Raises:
        ConfigError: `top` is larger than the number of classes.
    """

    def __init__(
        self,
        restored: Restored,
        calibrator: Calibrator | None = None,
        *,
        top: int = 0,
        with_features: bool = False,
        thresholds: Mapping[str, float] | None = None,
    ) -> None:
        if top > len(restored.classes):
            raise ConfigError(f"expected top of at most {len(restored.classes)}, the number of classes, got {top}")
        self.restored = restored
        self.classifier = restored.classifier.eval()
        self.classes = restored.classes
        self.preparation = restored.preparation
        self.encoder = restored.encoder
        self.calibrator = calibrator
        self.top = top
        self.thresholds = dict(thresholds or {})
        self._seen: list[tuple[Tensor, Tensor]] | None = [] if with_features else None
        if with_features:
            self.classifier.backbone.head.register_forward_hook(self._keep_features)

    @property
    def needed_columns(self) -> tuple[str, ...]:
        """The columns that a table of images needs in addition to the image."""
        return (*(METADATA_COLUMNS if self.encoder else ()), *self.preparation.companions)

    @property
    def precision(self) -> str:
        """Lightning's name of the precision in which the network computes here."""
        return self._device.precision

    def predict(self, batch: Batch) -> Predicted:
        """Predicts `batch` on the device of this machine, in the precision of the run."""
        self._device.prepare(self.classifier)
        moved: Batch = self._device.moved(batch)
        with self._device.computing():
            return self.compute(moved)

    def moved(self, sample: Sample) -> Sample:
        """Returns a stacked sample on the device on which the network predicts."""
        found: Sample = self._device.moved(sample)
        return found

    def predict_files(
        self, encoded: Sequence[bytes], names: Sequence[str], metadata: pd.DataFrame | None = None
    ) -> pd.DataFrame:
        """Predicts images that are encoded files in memory; a damaged file has a row with the reason in `error`.

        Args:
            encoded: the files.
            names: a name for each image, which messages use as well.
            metadata: columns `age, sex, site`, a row for each image; required if the network uses metadata.

        Raises:
            DataError: the network needs more than an image, and it is not given.
        """
        lacking = [name for name in self.needed_columns if metadata is None or name not in metadata]
        if lacking:
            raise DataError(
                f"expected {', '.join(lacking)} of each image, which this network needs besides the pixels, got none"
            )
        samples: list[Sample | str] = []
        for number, content in enumerate(encoded):
            try:
                sample = self.preparation.from_bytes(content, names[number])
            except DataError as error:
                samples.append(str(error))
                continue
            if self.encoder is not None and metadata is not None:
                sample["metadata"] = torch.from_numpy(self.encoder.encode(metadata.iloc[[number]])[0])
            samples.append(sample)
        return self.predict(collate(names, samples)).table

    @functools.cached_property
    def _device(self) -> PredictionDevice:
        return prediction_device(self.restored.config["trainer"])

    def compute(self, batch: Batch) -> Predicted:
        """Predicts `batch` on the device and in the precision that the caller has set up."""
        readable = np.array([not error for error in batch.errors], dtype=bool)
        probs = np.full((len(batch.names), len(self.classes)), np.nan)
        features, logits = None, None
        if self._seen is not None:
            width = self.classifier.backbone.head.in_features
            features = np.full((len(batch.names), width), np.nan, dtype=np.float32)
            logits = np.full(probs.shape, np.nan, dtype=np.float32)
        if batch.sample is not None:
            probs[readable] = self._probabilities(batch.sample)
            if self._seen is not None and features is not None and logits is not None:
                for kept, views in zip((features, logits), zip(*self._seen, strict=True), strict=True):
                    kept[readable] = torch.stack(views).float().mean(dim=0).cpu().numpy()
        table = predicted_table(batch.names, batch.errors, probs, self.classes, self.top, self.thresholds)
        return Predicted(table, features, logits)

    def _probabilities(self, sample: Sample) -> FloatArray:
        if self._seen is not None:
            self._seen.clear()
        numbered = Sample(**{**sample, "index": torch.arange(len(sample["image"]))})
        _, probs, _ = self.classifier.predict_batch(numbered)
        found: FloatArray = probs.float().cpu().numpy().astype(np.float64)
        return found if self.calibrator is None else self.calibrator.apply(found)

    def _keep_features(self, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        assert self._seen is not None
        self._seen.append((inputs[0], output))


def decided(probs: FloatArray, classes: Sequence[str], thresholds: Mapping[str, float]) -> npt.NDArray[np.int64]:
    """Returns the position (N,) of the predicted class of each image, where some classes have thresholds.

    It is the class whose probability reaches its threshold; of several, the one with the largest ratio of the two. If
    none does, it is the most probable of the classes without a threshold.

    Args:
        probs: (N, C), finite.
        classes: the names of the C classes.
        thresholds: above 0, for any of the classes but not for all of them.
    """
    limits = np.array([thresholds.get(name, np.inf) for name in classes])
    has_limit = np.isfinite(limits)
    assert not has_limit.all(), "a class without a threshold is left"
    ratios = probs / limits
    others = np.where(has_limit, -1.0, probs)
    found: npt.NDArray[np.int64] = np.where(ratios.max(axis=1) >= 1, ratios.argmax(axis=1), others.argmax(axis=1))
    return found


def predicted_table(
    names: Sequence[str],
    errors: Sequence[str],
    probs: FloatArray,
    classes: Sequence[str],
    top: int,
    thresholds: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Returns the field `table` of `Predicted`.

    Args:
        names: of the images.
        errors: why an image has no prediction, else empty.
        probs: (N, C); NaN for images without a prediction.
        classes: the names of the C classes.
        top: number of the most probable classes that get a column each.
        thresholds: of classes, see `decided`; without any, the most probable class is predicted.
    """
    finite = np.asarray(np.isfinite(probs).all(axis=1), dtype=np.bool_)
    errors = [error or ("" if fine else NOT_FINITE) for error, fine in zip(errors, finite, strict=True)]
    probs = np.where(finite[:, None], probs, np.nan)
    labels = np.array([*classes, None], dtype=object)
    order = np.where(finite[:, None], np.argsort(-probs, axis=1, kind="stable"), len(classes))
    columns = {f"{PREFIX}{name}": probs[:, position] for position, name in enumerate(classes)}
    predicted = np.where(finite, decided(np.nan_to_num(probs), classes, thresholds), len(classes)) if thresholds else (
        order[:, 0])  # fmt: skip
    likeliest = {f"top{rank + 1}": labels[order[:, rank]] for rank in range(top)}
    return pd.DataFrame(
        {"image": list(names), "prediction": labels[predicted]}
        | {name: values.astype(np.float32) for name, values in columns.items()}
        | likeliest
        | {"error": [error or None for error in errors]}
    )


def collate(names: Sequence[str], samples: Sequence[Sample | str]) -> Batch:
    """Stacks `samples` to a batch; a sample that could not be made is given by the reason, a string."""
    made = [sample for sample in samples if not isinstance(sample, str)]
    errors = [" ".join(sample.split()) if isinstance(sample, str) else "" for sample in samples]
    return Batch(list(names), errors, collate_samples(made) if made else None)
