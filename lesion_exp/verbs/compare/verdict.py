"""The outcome of a comparison in words."""

from __future__ import annotations

from collections.abc import Mapping

from lesion_exp.evaluation.comparison import OVERALL, Difference, Pair
from lesion_exp.evaluation.lesion_counts import TOO_FEW, too_few
from lesion_exp.evaluation.limits import LEAST_LESIONS
from lesion_exp.evaluation.registry import is_lower_better


def p_text(p_value: float | None) -> str:
    """A p-value in three digits, `-` where there is none."""
    return "-" if p_value is None else "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def verdict(pair: Pair, num_lesions: int) -> str:
    """Whether accuracy tells the two apart, and how many lesions carry this; which other metrics do. Of fewer than
    `LEAST_LESIONS` lesions it says only that they are too few."""
    accuracy = pair.differences["accuracy"]
    if accuracy.test == TOO_FEW:
        return f"{too_few(accuracy.lesions)} to compare: at least {LEAST_LESIONS} are needed."
    ahead = pair.first if accuracy.difference >= 0 else pair.second
    p_value = p_text(accuracy.p_corrected)
    lead = f"p {p_value}" if p_value.startswith("<") else f"p = {p_value}"
    change = "wrong instead of right" if accuracy.significant else "right instead of wrong"
    if pair.to_change is None:
        carried = f"no number of lesions that {ahead} read otherwise would change this"
    else:
        each = "" if pair.only_first is not None else ", in the mean of its seeds"
        lesions = "lesion" if pair.to_change == 1 else "lesions"
        carried = f"{pair.to_change:,} {lesions} of {num_lesions:,} would have to change ({ahead} {change}{each})"
    if accuracy.significant:
        return f"{ahead} is ahead in accuracy ({lead}): {carried}. {_others(pair)}"
    return f"not distinguishable in accuracy ({lead}): {carried}. {_others(pair)}"


def _others(pair: Pair) -> str:
    found = {name: d for name, d in pair.differences.items() if d.significant and name != "accuracy"}
    overall = {name: d for name, d in found.items() if name in OVERALL}
    classes = {name: d for name, d in found.items() if name not in OVERALL}
    if not found:
        return "No other metric tells them apart."
    return " ".join(f"{text}." for text in (*_listed(pair, overall, "Better"), *_listed(pair, classes, "By class")))


def _listed(pair: Pair, found: Mapping[str, Difference], heading: str) -> list[str]:
    better: dict[str, list[str]] = {pair.first: [], pair.second: []}
    for name, difference in found.items():
        first = (difference.difference > 0) != is_lower_better(name)
        better[pair.first if first else pair.second].append(name)
    texts = [f"{letter} in {', '.join(names)}" for letter, names in better.items() if names]
    return [f"{heading}: {'; '.join(texts)}"] if texts else []
