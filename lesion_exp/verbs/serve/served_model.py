"""The served network of a run: calibrated probabilities, conformal sets and saliency maps of prepared images."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch.utils.data import default_collate

from lesion_exp.config.project import Project
from lesion_exp.data.lesion_dataset import Sample
from lesion_exp.data.metadata import MetadataEncoder
from lesion_exp.dataset.table import UNKNOWN
from lesion_exp.errors import ConfigError
from lesion_exp.evaluation.answer_rates import AnswerRates, Rate, answer_rates
from lesion_exp.evaluation.calibrator import DEFAULT_CALIBRATION, Calibrator
from lesion_exp.evaluation.conformal import ConformalSets
from lesion_exp.evaluation.limits import LEAST_LESIONS
from lesion_exp.evaluation.predictions import FloatArray, probabilities
from lesion_exp.image_file import UInt8Array
from lesion_exp.model.heat_maps import SaliencyMaps, square_of
from lesion_exp.model.predictor import NOT_FINITE, Predictor, collate
from lesion_exp.tracking.stored_run import Run, download_artifact, read_stored_json, unit_of
from lesion_exp.trained_runs.statements import calibration_warning, tested_predictions
from lesion_exp.trained_runs.trained_run import check_calibration, trained_run
from lesion_exp.verbs.serve.settings import ModelOptions

log = logging.getLogger(__name__)


LEVELS: Final = ((0.9, "high"), (0.7, "moderate"), (0.5, "low"))
"""The least probability of each level of confidence; below all of them it is very low."""
UNDECIDED: Final = "very low"
EDGES: Final = (0.0, *sorted(least for least, _ in LEVELS), 1.0)
"""Limits of the bands of probability, the lowest first."""
NAMES: Final = (UNDECIDED, *(name for _, name in reversed(LEVELS)))
"""The level of confidence in each band."""
NOT_TESTED: Final = "was not measured: these weights were not evaluated on a test part"


def confidence_level(probability: float) -> str:
    """`high`, `moderate`, `low` or `very low`."""
    return next((name for least, name in LEVELS if probability >= least), UNDECIDED)


def confidence_sentence(probability: float, rates: AnswerRates | None) -> str:
    """Returns a sentence on how often predictions of this confidence were right on the test part.

    `rates` is None if these weights were not evaluated on a test part.
    """
    level = confidence_level(probability)
    opening = f"{level.capitalize()} confidence"
    if rates is None:
        return f"{opening}. How often such predictions are right {NOT_TESTED}."
    rate, band = rates.right[NAMES.index(level)], band_in_words(level)
    if rate is None:
        return (
            f"{opening} ({band}). No test image had such a probability, so how often such predictions are right was "
            f"not measured."
        )
    return (
        f"{opening} ({band}). Of {_counted(rate, 'test image')} with such a probability, the "
        f"prediction was right in {_interval(rate)}.{_few(rate)}"
    )


def malignant_sentence(rates: AnswerRates | None) -> str:
    """Returns the caution beside a benign prediction: how many malignant lesions are predicted as benign."""
    if rates is None:
        return f"How often this network calls a malignant lesion benign {NOT_TESTED}."
    rate = rates.malignant_sensitivity
    if rate is None:
        return (
            "How often this network calls a malignant lesion benign was not measured: no test image shows one, or its "
            "classes do not separate malignant from benign."
        )
    return (
        f"A benign answer does not rule out a malignant lesion: of {_counted(rate, 'test image')} of malignant "
        f"lesions, the likeliest class was a malignant one in {_interval(rate)}; the others were called benign, as "
        f"here.{_few(rate)}"
    )


def band_in_words(level: str) -> str:
    """Returns the probabilities of a level of confidence in words, such as `probability of 50% to 70%`."""
    place = NAMES.index(level)
    low, high = EDGES[place], EDGES[place + 1]
    return f"probability below {high:.0%}" if place == 0 else f"probability of {low:.0%} to {high:.0%}"


def _counted(rate: Rate, what: str) -> str:
    unit, number = ("lesion", rate.lesions) if rate.patients is None else ("patient", rate.patients)
    units = "" if number == rate.images else f" ({number:,} {unit}{'s' * (number != 1)})"
    return f"{rate.images:,} {what}{'s' * (rate.images != 1)}{units}"


def _interval(rate: Rate) -> str:
    return f"{rate.value:.0%} (95% interval {rate.low:.0%} to {rate.high:.0%})"


def _few(rate: Rate) -> str:
    units = "lesions" if rate.patients is None else "patients"
    return f" Fewer than {LEAST_LESIONS} {units} are too few to rely on this." if rate.is_of_few else ""


MOST_THREADS: Final = 8
"""Largest number of threads of torch; more do not speed up a small batch."""


@dataclass(frozen=True)
class Patient:
    """What a network may read beside the image; NaN or `unknown` if it is not known."""

    age: float = float("nan")
    """Years."""
    sex: str = UNKNOWN
    site: str = UNKNOWN


@dataclass(frozen=True)
class Asked:
    """A prepared image to predict."""

    sample: Sample
    with_heat_map: bool


@dataclass(frozen=True)
class ServedPrediction:
    """The prediction for an image."""

    probs: FloatArray
    """float64 (C,), calibrated; NaN if the network gives no finite values."""
    in_set: npt.NDArray[np.bool_] | None
    """bool (C,), whether each class belongs to the conformal set; None without conformal sets."""
    square: UInt8Array | None = None
    """uint8 (S, S, 3) RGB, what the network sees; only with a saliency map."""
    saliency: npt.NDArray[np.float32] | None = None
    """float32 (S, S), for the likeliest class; only if asked for."""


class ServedModel:
    """Predictor, calibration and conformal sets of one run.

    Args:
        predictor: without calibration, since conformal sets are fitted on uncalibrated probabilities.
        calibrator: None leaves the probabilities as they are.
        conformal: the conformal sets; None for other weights than the best of the run. The stored sets and results are
            those of the best weights.
        layer: the layer of the saliency maps; None is the last.
        rates: how often predictions were right on the test part; None if these weights were not evaluated on one.
        warning: a warning that the calibration makes probabilities worse, if it does.

    Raises:
        ConfigError: the network needs further pictures beside the image.
    """

    def __init__(
        self,
        predictor: Predictor,
        calibrator: Calibrator | None,
        conformal: ConformalSets | None,
        layer: str | None = None,
        rates: AnswerRates | None = None,
        warning: str | None = None,
    ) -> None:
        if predictor.preparation.companions:
            raise ConfigError(
                f"expected a run whose network sees the image alone, or with age, sex and site; this one needs "
                f"{', '.join(predictor.preparation.companions)} of each image, which the server does not take; "
                f"lesion-exp predict does, from a csv"
            )
        assert predictor.calibrator is None, "conformal sets are about uncalibrated probabilities"
        self.predictor = predictor
        self.classes = predictor.classes
        self.calibrator = calibrator
        self.conformal = conformal
        self.rates = rates
        self.warning = warning
        self._preparation = predictor.preparation
        self._saliency = SaliencyMaps(predictor, layer)

    @property
    def is_evaluated(self) -> bool:
        """Whether these are the best weights of the run, whose results and conformal sets are stored."""
        return self.conformal is not None

    @property
    def calibration(self) -> str:
        """The name of the calibration; `none` for the network's own probabilities."""
        return DEFAULT_CALIBRATION if self.calibrator is None else self.calibrator.scaling.method

    @property
    def precision(self) -> str:
        """The precision of the network, which is that of the run's evaluation."""
        return self.predictor.precision

    @property
    def encoder(self) -> MetadataEncoder | None:
        """The encoder of age, sex and site; None for a network that sees only the image."""
        return self.predictor.encoder

    def prepare(self, encoded: bytes, name: str, patient: Patient) -> Sample:
        """Prepares an image file for the network. Thread-safe.

        Raises:
            DataError: the file cannot be decoded; `name` is its name in the message.
        """
        sample = self._preparation.from_bytes(encoded, name)
        if self.encoder is not None:
            row = pd.DataFrame([{"age": patient.age, "sex": patient.sex, "site": patient.site}])
            sample["metadata"] = torch.from_numpy(self.encoder.encode(row)[0])
        return sample

    def answer(self, asked: Sequence[Asked]) -> list[ServedPrediction]:
        """Predicts a batch; to be called by one thread only."""
        table = self.predictor.predict(collate([""] * len(asked), [entry.sample for entry in asked])).table
        raw = probabilities(table)
        finite = np.isfinite(raw).all(axis=1)
        probs = np.full_like(raw, np.nan)
        in_set = None if self.conformal is None else np.zeros(raw.shape, dtype=np.bool_)
        if finite.any():
            probs[finite] = raw[finite] if self.calibrator is None else self.calibrator.apply(raw[finite])
            if in_set is not None and self.conformal is not None:
                in_set[finite] = self.conformal.sets(raw[finite])
        predictions = [
            ServedPrediction(probs[row], None if in_set is None else in_set[row]) for row in range(len(asked))
        ]
        self._add_saliency(predictions, asked)
        return predictions

    def _add_saliency(self, predictions: list[ServedPrediction], asked: Sequence[Asked]) -> None:
        rows = [row for row, entry in enumerate(asked) if entry.with_heat_map and failure_of(predictions[row]) is None]
        if not rows:
            return
        sample: Sample = default_collate([asked[row].sample for row in rows])
        sample = self.predictor.moved(sample)
        maps = self._saliency.maps(sample, [int(predictions[row].probs.argmax()) for row in rows])
        for place, row in enumerate(rows):
            found = predictions[row]
            predictions[row] = ServedPrediction(found.probs, found.in_set, square_of(sample, place), maps[place])


def open_model(run: Run, options: ModelOptions, project: Project) -> ServedModel:
    """Opens the network of a run with its calibration.

    Args:
        run: the run.
        options: which weights, calibration, conformal sets and layer.
        project: of this machine.

    Raises:
        ConfigError: the run has no network, it needs further pictures beside the image, or the calibration is that of
            other weights.
        DataError: an artifact of the run is missing.
    """
    calibration = options.calibration
    limit_threads()
    opened = trained_run(run, project)
    predictor = opened.predictor(checkpoint=options.checkpoint)
    is_best = opened.has_best_weights(options.checkpoint)
    check_calibration(calibration, "best" if is_best else options.checkpoint)
    calibrator = opened.calibrator(calibration)
    conformal: ConformalSets | None = None
    tested: pd.DataFrame | None = None
    if is_best:  # the stored sets and predictions are those of the best weights
        conformal = ConformalSets.from_dict(_kept(run, f"conformal/{options.conformal}.json"))
        tested = tested_predictions(run)
    rates = None
    if tested is not None:
        shown = tested if calibrator is None else calibrator.calibrate(tested)
        rates = answer_rates(shown, EDGES, unit_of(run, "test"))
    warning = calibration_warning(run, calibration)
    if warning is not None:
        log.warning("warning: %s", warning)
    return ServedModel(predictor, calibrator, conformal, options.layer, rates, warning)


def limit_threads() -> None:
    """Limits the threads of torch to `MOST_THREADS`, unless the user says how many there are to be."""
    if not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(min(torch.get_num_threads(), MOST_THREADS))


def failure_of(predicted: ServedPrediction) -> str | None:
    """Returns the reason why a decoded image has no prediction; None if it has one."""
    return None if np.isfinite(predicted.probs).all() else NOT_FINITE


def _kept(run: Run, name: str) -> dict[str, Any]:
    download_artifact(run, name)
    content = read_stored_json(run, name)
    return content if isinstance(content, dict) else {}
