"""What an answer means, in words that claim no more than what was measured on the run's test part."""

from __future__ import annotations

from typing import Final

from lesion_exp.evaluation.answer_rates import AnswerRates, Rate
from lesion_exp.evaluation.limits import LEAST_LESIONS

LEVELS: Final = ((0.9, "high"), (0.7, "moderate"), (0.5, "low"))
"""From which probability on a confidence is called what; below all of them, very low."""
UNDECIDED: Final = "very low"
EDGES: Final = (0.0, *sorted(least for least, _ in LEVELS), 1.0)
"""Where the bands of confidence begin and end, the lowest first."""
NAMES: Final = (UNDECIDED, *(name for _, name in reversed(LEVELS)))
"""Of the bands between them."""
NOT_TESTED: Final = "was not measured: these weights were not judged on a test part"


def confidence_level(probability: float) -> str:
    """`high`, `moderate`, `low` or `very low`."""
    return next((name for least, name in LEVELS if probability >= least), UNDECIDED)


def confidence_sentence(probability: float, rates: AnswerRates | None) -> str:
    """How often predictions of that confidence were right on the test part; `rates` None: there was none."""
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
    """What must stand beside a benign answer: how many malignant lesions get one."""
    if rates is None:
        return f"How often this network calls a malignant lesion benign {NOT_TESTED}."
    rate = rates.malignant_sensitivity
    if rate is None:
        return (
            "How often this network calls a malignant lesion benign was not measured: no test image shows one, or its "
            "classes do not tell."
        )
    return (
        f"A benign answer does not rule out a malignant lesion: of {_counted(rate, 'test image')} of malignant "
        f"lesions, the likeliest class was a malignant one in {_interval(rate)}; the others were called benign, as "
        f"here.{_few(rate)}"
    )


def band_in_words(level: str) -> str:
    """The probabilities of a confidence: `50% to 70%`."""
    place = NAMES.index(level)
    low, high = EDGES[place], EDGES[place + 1]
    return f"probability below {high:.0%}" if place == 0 else f"probability of {low:.0%} to {high:.0%}"


def _counted(rate: Rate, what: str) -> str:
    lesions = "" if rate.lesions == rate.images else f" ({rate.lesions:,} lesion{'s' * (rate.lesions != 1)})"
    return f"{rate.images:,} {what}{'s' * (rate.images != 1)}{lesions}"


def _interval(rate: Rate) -> str:
    return f"{rate.value:.0%} (95% interval {rate.low:.0%} to {rate.high:.0%})"


def _few(rate: Rate) -> str:
    return f" Fewer than {LEAST_LESIONS} lesions are too few to rely on this." if rate.is_of_few else ""
