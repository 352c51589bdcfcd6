"""The answers of the API, as its schema describes them."""

from __future__ import annotations

from dataclasses import asdict

from pydantic import BaseModel, Field

from lesion_exp import taxonomy
from lesion_exp.errors import DataError
from lesion_exp.evaluation.answer_rates import Rate
from lesion_exp.verbs.serve.served_model import (
    NAMES,
    ServedModel,
    ServedPrediction,
    confidence_level,
    confidence_sentence,
    failure_of,
    malignant_sentence,
)

RESEARCH_ONLY = "Research use only. This is no medical device, and no answer of it is a diagnosis or advice."


class Problem(BaseModel):
    """The reason why a request was refused."""

    error: str = Field(description="what was expected, what arrived and what to do")


class Measured(BaseModel):
    """A share of the images of the run's test part, with its 95% interval."""

    value: float = Field(description="the share, 0 to 1")
    low: float
    high: float
    images: int = Field(description="number of test images of which it is a share")
    lesions: int = Field(
        description="number of lesions in these images; the interval allows for several images of one lesion"
    )
    patients: int | None = Field(
        default=None,
        description="number of patients in these images, if the interval allows for several images of one patient, as "
        "in the evaluation of the run; else null",
    )


class Confidence(BaseModel):
    """The confidence of a prediction, by its probability."""

    level: str = Field(description="high, moderate, low or very low")
    sentence: str = Field(description="how often predictions of this level were right on the test part")
    measured: Measured | None = Field(
        default=None,
        description="the share of right predictions among test images of this level; null if there are none",
    )


class Pictures(BaseModel):
    """Two pictures of equal size, PNG files in base64."""

    seen: str = Field(description="the square that the network sees")
    heat_map: str = Field(description="the Grad-CAM map of the predicted class, drawn over that square in grey")
    of: str = Field(description="the class whose map is drawn")


class ImageAnswer(BaseModel):
    """The prediction for one image, or the reason why there is none."""

    image: str = Field(description="the name of the file, as it was sent")
    prediction: str | None = Field(description="the likeliest class; null if there is an error")
    name: str | None = Field(description="its name in words")
    probability: float | None = Field(description="its probability; `calibration` says how it is calibrated")
    confidence: Confidence | None = Field(default=None, description="the confidence of the prediction")
    probabilities: dict[str, float] | None = Field(description="the probability of each class")
    malignant_probability: float | None = Field(
        description="the sum over the malignant classes; null if the classes do not separate malignant from benign"
    )
    caution: str | None = Field(
        default=None,
        description="with a benign prediction: how many malignant lesions of the test part were predicted as benign",
    )
    malignant_sensitivity: Measured | None = Field(
        default=None,
        description="with a benign prediction: the share of test images of malignant lesions whose likeliest class "
        "was a malignant one",
    )
    conformal_set: list[str] | None = Field(
        description="a set of classes that contains the true class at the rate that /model names, the likeliest first; "
        "null if the served weights are not the best of a finished run, for which alone sets are fitted"
    )
    gradcam: Pictures | None = Field(default=None, description="only with gradcam=true")
    error: str | None = Field(description="the reason why this image has no prediction; null if it has one")


class Answer(BaseModel):
    """The predictions for the images of a request, in their order."""

    images: list[ImageAnswer]
    run_id: str = Field(description="the run whose network made the predictions")
    calibration: str = Field(description="calibration of the probabilities: none, temperature, vector or isotonic")
    precision: str = Field(description="precision of the network; its head always computes in float32")
    notice: str = Field(default=RESEARCH_ONLY, description="must be shown with every answer")


class Health(BaseModel):
    """Whether the server can answer."""

    status: str = Field(description="ok")
    run_id: str
    version: str
    images_waiting: int


class Example(BaseModel):
    """A generated image to try the server with; it is drawn by software and shows no person."""

    name: str
    address: str = Field(description="address of the JPEG file, relative to the page")
    drawn_as: str = Field(description="the class that the drawing imitates")
    title: str


def failed(image: str, error: str) -> ImageAnswer:
    """Returns the answer for an image without a prediction."""
    return ImageAnswer(
        image=image, prediction=None, name=None, probability=None, probabilities=None, malignant_probability=None,
        conformal_set=None, error=error,
    )  # fmt: skip


def answered(image: str, model: ServedModel, predicted: ServedPrediction, pictures: Pictures | None) -> ImageAnswer:
    """Returns the answer for an image that was predicted."""
    classes, rates = model.classes, model.rates
    failure = failure_of(predicted)
    if failure is not None:
        return failed(image, failure)
    by_class = {name: float(prob) for name, prob in zip(classes, predicted.probs, strict=True)}
    order = sorted(range(len(classes)), key=lambda place: -predicted.probs[place])
    likeliest, top = classes[order[0]], float(predicted.probs[order[0]])
    level = confidence_level(top)
    right = None if rates is None else rates.right[NAMES.index(level)]
    is_benign = taxonomy.malignancy(likeliest) is False
    return ImageAnswer(
        image=image,
        prediction=likeliest,
        name=taxonomy.full_name(likeliest),
        probability=top,
        confidence=Confidence(level=level, sentence=confidence_sentence(top, rates), measured=measured(right)),
        probabilities=by_class,
        malignant_probability=malignant_share(by_class),
        caution=malignant_sentence(rates) if is_benign else None,
        malignant_sensitivity=measured(rates.malignant_sensitivity) if is_benign and rates is not None else None,
        conformal_set=(
            None if predicted.in_set is None else [classes[place] for place in order if predicted.in_set[place]]
        ),
        gradcam=pictures,
        error=None,
    )


def measured(rate: Rate | None) -> Measured | None:
    """`rate` as part of an answer."""
    return None if rate is None else Measured(**asdict(rate))


def malignant_share(by_class: dict[str, float]) -> float | None:
    """Returns the probability that a lesion is malignant; None if the classes do not separate malignant from benign."""
    try:
        kinds = [taxonomy.is_malignant(name) for name in by_class]
    except DataError:
        return None
    if all(kinds) or not any(kinds):
        return None
    return min(sum(prob for prob, kind in zip(by_class.values(), kinds, strict=True) if kind), 1.0)
