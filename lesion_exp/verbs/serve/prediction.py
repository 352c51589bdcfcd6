"""Answers a request for predictions: limits, decoding, the network, heat maps."""

from __future__ import annotations

import asyncio
import base64
import math
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from starlette.requests import Request

from lesion_exp.data.lesion_dataset import Sample
from lesion_exp.dataset.table import UNKNOWN
from lesion_exp.errors import DataError, first_cases, nearest
from lesion_exp.model.heat_maps import heat_map_png, square_png
from lesion_exp.verbs.serve.answers import Answer, ImageAnswer, Pictures, answered, failed
from lesion_exp.verbs.serve.batcher import Batcher, PixelBudget
from lesion_exp.verbs.serve.intake import Form, Intake, Refusal, check_picture, read_form
from lesion_exp.verbs.serve.monitoring import Monitoring
from lesion_exp.verbs.serve.served_model import Asked, Patient, ServedModel, ServedPrediction
from lesion_exp.verbs.serve.settings import Settings

PATIENT_FIELDS: Final = ("age", "sex", "site")
OLDEST: Final = 130
"""Years."""
NOT_KNOWN: Final = ("", UNKNOWN)
"""Values of these fields for an unknown value."""
UNKNOWN_FORMAT: Final = 415
_NUMBER: Final = re.compile(r"\d+(\.\d+|,\d{1,2})?([eE][+-]?\d+)?", re.ASCII)
Made = TypeVar("Made")


class Prediction:
    """Answers requests for predictions.

    Args:
        model: the network.
        run_id: the run of the network.
        settings: the limits.
        monitoring: counts images and predictions.
        num_decoders: number of threads that decode images.
    """

    def __init__(
        self,
        model: ServedModel,
        run_id: str,
        settings: Settings,
        monitoring: Monitoring,
        num_decoders: int,
    ) -> None:
        self.model = model
        self.run_id = run_id
        self.settings = settings
        self.monitoring = monitoring
        self.intake = Intake(settings)
        self.fields = () if model.encoder is None else PATIENT_FIELDS
        self.batcher: Batcher[Asked, ServedPrediction] = Batcher(
            self._compute, settings.max_batch, settings.max_wait_ms / 1000, monitoring.batch_size.observe
        )
        self._pixels = PixelBudget(settings.max_pixels)
        self._pool = ThreadPoolExecutor(num_decoders, thread_name_prefix="decoder")

    def start(self) -> None:
        """Starts the thread of the network."""
        self.batcher.start()

    def stop(self) -> None:
        """Finishes the images that are in work, and ends the threads."""
        self._pool.shutdown(cancel_futures=True)
        self.batcher.stop()

    async def answer(self, request: Request, *, with_heat_map: bool) -> Answer:
        """Answers a request whose body has not been read.

        Raises:
            Refusal: the request cannot be answered; with several images, none of them has a prediction.
        """
        is_read = False
        try:
            async with asyncio.timeout(self.settings.timeout_s):
                with self.intake.request() as upload:
                    form = await read_form(request, upload, self.fields, self.settings.max_images)
                    is_read = True
                    if not form.files:
                        raise Refusal(422, "expected at least one image in the field 'file', got none")
                    upload.add_images(len(form.files))
                    patients = self._patients(form)
                    images = await self._all(form, patients, with_heat_map=with_heat_map)
        except TimeoutError as error:
            if not is_read:
                raise Refusal(
                    408, f"expected the whole request within {self.settings.timeout_s:g} s, but it arrived too slowly"
                ) from error
            raise Refusal(
                429, "expected fewer or smaller images at once: the time limit was reached; try again soon"
            ) from error
        return Answer(
            images=images, run_id=self.run_id, calibration=self.model.calibration, precision=self.model.precision
        )

    async def _all(self, form: Form, patients: list[Patient], *, with_heat_map: bool) -> list[ImageAnswer]:
        """An answer for each image; if all of them are refused, the request is refused."""
        found = await asyncio.gather(
            *(
                self._one(name, content, patient, with_heat_map=with_heat_map)
                for (name, content), patient in zip(form.files, patients, strict=True)
            ),
            return_exceptions=True,
        )
        for error in found:
            if isinstance(error, BaseException) and not isinstance(error, Refusal):
                raise error
        refusals = [entry for entry in found if isinstance(entry, Refusal)]
        self.monitoring.images.labels("refused").inc(len(refusals))
        if len(refusals) == len(found):
            raise _joined(refusals)
        return [
            failed(name, entry.message) if isinstance(entry, Refusal) else entry
            for (name, _), entry in zip(form.files, found, strict=True)
            if not isinstance(entry, BaseException) or isinstance(entry, Refusal)
        ]

    async def _one(self, name: str, content: bytes, patient: Patient, *, with_heat_map: bool) -> ImageAnswer:
        self.batcher.expect(1)
        try:
            sample = await self._in_pool(self._prepared, content, name, patient)
            future = self.batcher.submit(Asked(sample, with_heat_map))
        finally:
            self.batcher.expect(-1)
        predicted = await asyncio.wrap_future(future)
        pictures = None
        if predicted.saliency is not None:
            pictures = await self._in_pool(self._pictures, predicted)
        found = answered(name, self.model, predicted, pictures)
        self.monitoring.images.labels("failed" if found.error else "predicted").inc()
        if found.prediction is not None:
            self.monitoring.predictions.labels(found.prediction).inc()
        return found

    async def _in_pool(self, function: Callable[..., Made], *arguments: object) -> Made:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    def _prepared(self, content: bytes, name: str, patient: Patient) -> Sample:
        num_pixels = check_picture(content, name, self.settings.max_pixels)
        try:
            with self._pixels.hold(num_pixels):
                return self.model.prepare(content, name, patient)
        except DataError as error:
            raise Refusal(422, str(error)) from error

    def _compute(self, asked: Sequence[Asked]) -> list[ServedPrediction]:
        with self.monitoring.network_seconds.time():
            return self.model.answer(asked)

    def _pictures(self, predicted: ServedPrediction) -> Pictures:
        assert predicted.square is not None
        assert predicted.saliency is not None
        return Pictures(
            seen=base64.b64encode(square_png(predicted.square)).decode(),
            heat_map=base64.b64encode(heat_map_png(predicted.square, predicted.saliency)).decode(),
            of=self.model.classes[int(predicted.probs.argmax())],
        )

    def _patients(self, form: Form) -> list[Patient]:
        """Age, sex and site of the patient of each image, given once for all images or once for each.

        Raises:
            Refusal: with status 422 for a value that the network does not know, or another number of values.
        """
        count = len(form.files)
        columns = {}
        for name in self.fields:
            values = form.values.get(name, [""])
            if len(values) not in {1, count}:
                raise Refusal(
                    422, f"expected {name} once, or once for each of {count} images, got it {len(values)} times"
                )
            columns[name] = values * count if len(values) == 1 else values
        if not columns:
            return [Patient()] * count
        encoder = self.model.encoder
        assert encoder is not None, "else there are no such fields"
        return [
            Patient(_age(age), _known("sex", sex, encoder.sexes), _known("site", site, encoder.sites))
            for age, sex, site in zip(columns["age"], columns["sex"], columns["site"], strict=True)
        ]


def _joined(refusals: Sequence[Refusal]) -> Refusal:
    """The refusal of a request without a usable image: with status 415 only if all formats are unknown."""
    if len(refusals) == 1:
        return refusals[0]
    status = next((refusal.status for refusal in refusals if refusal.status != UNKNOWN_FORMAT), UNKNOWN_FORMAT)
    reasons = first_cases(refusal.message for refusal in refusals)
    return Refusal(status, f"expected an image that can be used, got {len(refusals)} that cannot be used:\n{reasons}")


def _age(text: str) -> float:
    if text in NOT_KNOWN:
        return math.nan
    age = float(text.replace(",", ".")) if _NUMBER.fullmatch(text) else math.nan
    if not 0 <= age <= OLDEST:
        raise Refusal(422, f"expected age in years, from 0 to {OLDEST}, or {UNKNOWN}, got {text!r}")
    return age


def _known(name: str, text: str, known: Sequence[str]) -> str:
    if text in NOT_KNOWN:
        return UNKNOWN
    if text not in known:
        raise Refusal(
            422, f"expected {name} to be {UNKNOWN} or one that the network knows, got {text!r}; {nearest(text, known)}"
        )
    return text
