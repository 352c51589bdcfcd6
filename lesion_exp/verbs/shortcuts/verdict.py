"""What a shortcut check comes to, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from lesion_exp.evaluation.flips import Flips
from lesion_exp.evaluation.intervals import Estimate

Level = Literal["ok", "look", "warning"]
LEVELS: Final[tuple[Level, ...]] = ("ok", "look", "warning")

CHANCE: Final = 0.5
"""AUROC of guessing."""
LOOK_SHARE: Final = 0.25
"""Share of the network's macro AUROC above chance that is reached without the lesion, from which on it is worth a look,
where the 95% interval lies above chance. A little is expected: age and site do tell something of a diagnosis."""
WARNING_SHARE: Final = 0.5
"""The same for a warning: such a score says as much of how the images were collected as of lesions."""
LOOK_FLIPS: Final = 0.05
"""Share of the predictions that a drawn artefact flips beyond the control, from which on it is worth a look, where the
95% interval lies above 0: one image of twenty."""
WARNING_FLIPS: Final = 0.15
"""The same for a warning: about one of seven. These four are conventions of this package, none is a law."""


@dataclass(frozen=True)
class ShortcutVerdict:
    """What one check says."""

    check: str
    """Its name in files and metrics."""
    level: Level
    words: str


def worst(verdicts: list[ShortcutVerdict]) -> Level:
    """The most serious level."""
    return max((verdict.level for verdict in verdicts), key=LEVELS.index)


def judge_without_lesion(check: str, what: str, score: Estimate, own: float) -> ShortcutVerdict:
    """The verdict on what reaches the macro AUROC `score` without seeing a lesion.

    AUROC does not depend on how often a model says which class, so that models with classes weighed and not can be held
    against each other.

    Args:
        check: name of the check.
        what: who scores, in words.
        score: macro AUROC of it.
        own: macro AUROC of the network on the images as they are.
    """
    reached = f"{what}: AUROC {score.value:.3f} ({score.low:.3f} to {score.high:.3f})"
    if own <= CHANCE:
        if score.low <= CHANCE:
            return ShortcutVerdict(check, "ok", f"{reached}; not above chance, nor is the network ({own:.3f})")
        return ShortcutVerdict(check, "look", f"{reached}; above chance, which the network itself ({own:.3f}) is not")
    share, most = (score.value - CHANCE) / (own - CHANCE), (score.high - CHANCE) / (own - CHANCE)
    network = f"of what the network ({own:.3f}) is above chance"
    if score.low <= CHANCE:
        if most < WARNING_SHARE:
            return ShortcutVerdict(check, "ok", f"{reached}; not above chance")
        return ShortcutVerdict(check, "look", f"{reached}; too few images to rule out {most:.0%} {network}")
    level: Level = "warning" if share >= WARNING_SHARE else "look" if share >= LOOK_SHARE else "ok"
    return ShortcutVerdict(check, level, f"{reached}; {share:.0%} {network}")


def judge_flips(check: str, what: str, found: Flips) -> ShortcutVerdict:
    """The verdict on what a drawn artefact does to predictions."""
    rate, excess = found.flip_rate, found.excess
    words = f"with {what}, {rate.value:.1%} of the predictions change ({rate.low:.1%} to {rate.high:.1%})"
    if found.mostly_to is not None:
        words += f", {found.share_to:.0%} of them to {found.mostly_to}"
    if excess.low <= 0:
        if excess.high < WARNING_FLIPS:
            return ShortcutVerdict(check, "ok", f"{words}; not more than when the image is mirrored")
        rest = f"too few images to rule out {100 * excess.high:.0f} points more than when the image is mirrored"
        return ShortcutVerdict(check, "look", f"{words}; {rest}")
    span = f"{100 * excess.low:.1f} to {100 * excess.high:.1f}"
    more = f"{100 * excess.value:.1f} points more than when the image is mirrored ({span})"
    level: Level = "warning" if excess.value >= WARNING_FLIPS else "look" if excess.value >= LOOK_FLIPS else "ok"
    return ShortcutVerdict(check, level, f"{words}; {more}")
