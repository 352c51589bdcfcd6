"""A probability in words that claim no more than the number."""

from __future__ import annotations

from typing import Final

LEVELS: Final = ((0.9, "high"), (0.7, "moderate"), (0.5, "low"))
"""From which probability on a confidence is called what; below all of them, very low."""
UNDECIDED: Final = "very low"


def confidence_level(probability: float) -> str:
    """`high`, `moderate`, `low` or `very low`."""
    return next((name for least, name in LEVELS if probability >= least), UNDECIDED)


def confidence_sentence(probability: float, *, calibrated: bool) -> str:
    """What the probability of a prediction means, in tens of cases where it is `calibrated`."""
    level = confidence_level(probability)
    opening = f"{level.capitalize()} confidence"
    if not calibrated:
        return f"{opening}, as the network says it; not calibrated, so it may be too sure of itself."
    tens = min(max(round(10 * probability), 1), 10)
    often = "nearly all" if tens == 10 else f"about {tens} in 10"
    ending = "The network is undecided." if level == UNDECIDED else ""
    return f"{opening}: on images like those it was tested on, {often} such predictions are right. {ending}".rstrip()
