"""What clients get: the shapes of the answers, as the API's schema describes them."""

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
    """Why a request was not answered."""

    error: str = Field(description="what was expected, what arrived, what to do")


class Measured(BaseModel):
    """A share of images of the run's test part, with its 95% interval."""

    value: float = Field(description="the share, 0 to 1")
    low: float
    high: float
    images: int = Field(description="test images that it is a share of")
    lesions: int = Field(description="lesions that they show; the interval allows for several images of one lesion")


class Confidence(BaseModel):
    """The highest probability in words."""

    level: str = Field(description="high, moderate, low or very low")
    sentence: str = Field(description="how often predictions of this level were right on the test part")
    measured: Measured | None = Field(
        default=None,
        description="the share of right predictions among test images of this level; null where none was tested",
    )


class Pictures(BaseModel):
    """Two pictures of equal size, PNG files in base64."""

    seen: str = Field(description="the square that the network sees")
    heat_map: str = Field(description="the evidence for the predicted class (Grad-CAM), drawn over that square in grey")
    of: str = Field(description="the class whose evidence is drawn")


class ImageAnswer(BaseModel):
    """What the network says of one image, or why it says nothing."""

    image: str = Field(description="the name of the file, as it was sent")
    prediction: str | None = Field(description="the likeliest class; null where there is an error")
    name: str | None = Field(description="its name in words")
    probability: float | None = Field(description="its probability, calibrated as `calibration` says")
    confidence: Confidence | None = Field(default=None, description="its probability in words")
    probabilities: dict[str, float] | None = Field(description="the probability of each class, calibrated likewise")
    malignant_probability: float | None = Field(
        description="the sum over the malignant classes; null where the classes do not tell"
    )
    caution: str | None = Field(
        default=None, description="beside a benign prediction: how many malignant lesions of the test part got one"
    )
    malignant_sensitivity: Measured | None = Field(
        default=None,
        description="beside a benign prediction: the share of test images of malignant lesions whose likeliest class "
        "was a malignant one",
    )
    conformal_set: list[str] | None = Field(
        description="the classes among which the true one is, at the rate that /model promises; likeliest first"
    )
    gradcam: Pictures | None = Field(default=None, description="only where asked for")
    error: str | None = Field(description="why this image has no prediction; null where it has one")


class Answer(BaseModel):
    """What the network says of the images of a request, in their order."""

    images: list[ImageAnswer]
    run_id: str = Field(description="the run whose network answered")
    calibration: str = Field(
        description="of the probabilities: none (the network's own), temperature, vector or isotonic"
    )
    precision: str = Field(description="in which the network computed; its head computes in float32")
    notice: str = Field(default=RESEARCH_ONLY, description="to be shown wherever an answer is")


class Health(BaseModel):
    """Whether the server can answer."""

    status: str = Field(description="ok")
    run_id: str
    version: str
    images_waiting: int


class Example(BaseModel):
    """A generated image to try the server with; no photograph of a person went into it."""

    name: str
    address: str = Field(description="where the JPEG file is, relative to the page")
    drawn_as: str = Field(description="the class that it was drawn to look like")
    title: str


def failed(image: str, error: str) -> ImageAnswer:
    """The answer for an image without a prediction."""
    return ImageAnswer(
        image=image, prediction=None, name=None, probability=None, probabilities=None, malignant_probability=None,
        conformal_set=None, error=error,
    )  # fmt: skip


def answered(image: str, model: ServedModel, verdict: ServedPrediction, pictures: Pictures | None) -> ImageAnswer:
    """The answer for an image that went through the network."""
    classes, rates = model.classes, model.rates
    failure = failure_of(verdict)
    if failure is not None:
        return failed(image, failure)
    by_class = {name: float(prob) for name, prob in zip(classes, verdict.probs, strict=True)}
    order = sorted(range(len(classes)), key=lambda place: -verdict.probs[place])
    likeliest, top = classes[order[0]], float(verdict.probs[order[0]])
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
        conformal_set=[classes[place] for place in order if verdict.members[place]],
        gradcam=pictures,
        error=None,
    )


def measured(rate: Rate | None) -> Measured | None:
    """`rate` as clients get it."""
    return None if rate is None else Measured(**asdict(rate))


def malignant_share(by_class: dict[str, float]) -> float | None:
    """The probability that a lesion is malignant; None where the classes do not tell."""
    try:
        kinds = [taxonomy.is_malignant(name) for name in by_class]
    except DataError:
        return None
    if all(kinds) or not any(kinds):
        return None
    return min(sum(prob for prob, kind in zip(by_class.values(), kinds, strict=True) if kind), 1.0)
