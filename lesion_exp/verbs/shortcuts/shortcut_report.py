"""The report of the shortcut checks of a run: verdicts, numbers and metrics."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from lesion_exp.evaluation.flips import Flips
from lesion_exp.evaluation.intervals import Estimate
from lesion_exp.evaluation.registry import AUROC_MACRO, WATCHED
from lesion_exp.split import PARTS
from lesion_exp.verbs.shortcuts.perturbations import CONTROL, INSERTIONS, PAINTED

Level = Literal["ok", "look", "warning"]
LEVELS: Final[tuple[Level, ...]] = ("ok", "look", "warning")

CHANCE: Final = 0.5
"""The AUROC of guessing."""
LOOK_SHARE: Final = 0.25
"""The level of a check is `look` from this share on: macro AUROC above chance without the lesion, divided by that of
the network, if the 95% interval lies above chance. Some is expected, because age and site are related to diagnoses."""
WARNING_SHARE: Final = 0.5
"""The same for `warning`: this score is due to the collection of the images as much as to lesions."""
LOOK_FLIPS: Final = 0.05
"""The level of a check is `look` from this share on: predictions that change with an artefact, minus those that change
in the control, if the 95% interval lies above 0. It is one image of twenty."""
WARNING_FLIPS: Final = 0.15
"""The same for `warning`, about one image of seven. These four numbers are conventions of this package."""


@dataclass(frozen=True)
class ShortcutVerdict:
    """The result of a check."""

    check: str
    """The name of the check in files and metrics."""
    level: Level
    words: str


def worst(verdicts: list[ShortcutVerdict]) -> Level:
    """Returns the most serious level."""
    return max((verdict.level for verdict in verdicts), key=LEVELS.index)


def verdict_without_lesion(check: str, what: str, score: Estimate, own: float) -> ShortcutVerdict:
    """Returns the verdict on predictions that are made without seeing a lesion.

    The AUROC does not depend on how often a model predicts a class, so models with and without class weights can be
    compared.

    Args:
        check: name of the check.
        what: description of the model.
        score: its macro AUROC.
        own: the macro AUROC of the network on unchanged images.
    """
    reached = f"{what}: AUROC {score.value:.3f} ({score.low:.3f} to {score.high:.3f})"
    if own <= CHANCE:
        if score.low <= CHANCE:
            return ShortcutVerdict(check, "ok", f"{reached}; not above chance, nor is the network ({own:.3f})")
        return ShortcutVerdict(check, "look", f"{reached}; above chance, although the network ({own:.3f}) is not")
    share, most = (score.value - CHANCE) / (own - CHANCE), (score.high - CHANCE) / (own - CHANCE)
    network = f"of the network's distance from chance ({own:.3f})"
    if score.low <= CHANCE:
        if most < WARNING_SHARE:
            return ShortcutVerdict(check, "ok", f"{reached}; not above chance")
        return ShortcutVerdict(check, "look", f"{reached}; too few images to rule out {most:.0%} {network}")
    level: Level = "warning" if share >= WARNING_SHARE else "look" if share >= LOOK_SHARE else "ok"
    return ShortcutVerdict(check, level, f"{reached}; {share:.0%} {network}")


def verdict_on_flips(check: str, what: str, found: Flips) -> ShortcutVerdict:
    """Returns the verdict on the effect of an artefact, described by `what`, on predictions."""
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


SHALLOW: Final[Mapping[str, str]] = {
    "metadata": "a shallow model of age, sex, site, source and which of these are missing",
    "rim_and_file": "a shallow model of border pixels, file size and image size",
    "rim": "a shallow model of border pixels alone",
    "file": "a shallow model of file size and image size alone",
}
"""The models that never see a lesion."""
NETWORK, MAJORITY = "network", "majority"
COMPARED: Final = AUROC_MACRO
"""The metric by which these models are compared with the network."""
Scores = Mapping[str, Estimate]


@dataclass(frozen=True)
class ShortcutReport:
    """All checks of a run on one part."""

    run_id: str
    run_name: str
    part: str
    images: int
    lesions: int
    scores: Mapping[str, Scores]
    """Accuracy, balanced accuracy and macro AUROC, by `network`, `majority` and the names of `SHALLOW`."""
    control: Flips
    inserted: Mapping[str, Flips]
    """By the names of `INSERTIONS`."""
    painted: Flips | None
    """The effect of painting lesions out; None if no image of the part has a lesion mask."""
    painted_own: Estimate | None
    """The network's macro AUROC on the unchanged images with masks."""
    notes: tuple[str, ...] = ()
    """What is assumed of the lesion masks, in sentences without full stops."""
    two_photographs: bool = False
    """Whether the network sees a dermoscopic and a clinical photograph of each lesion, which are changed alike."""

    def verdicts(self) -> list[ShortcutVerdict]:
        """Returns the verdict of each check."""
        own = self.scores[NETWORK][COMPARED].value
        found = [verdict_without_lesion(name, what, self.scores[name][COMPARED], own) for name, what in SHALLOW.items()]
        if self.painted is not None and self.painted_own is not None:
            also = " and one colour in place of the clinical photograph" if self.two_photographs else ""
            what = f"the network with the lesion painted out{also} ({self.painted.images:,} images with masks)"
            found.append(verdict_without_lesion(PAINTED, what, self.painted.scores[COMPARED], self.painted_own.value))
        return [*found, *(verdict_on_flips(name, INSERTIONS[name].words, flip) for name, flip in self.inserted.items())]

    @property
    def level(self) -> Level:
        """The most serious level of all verdicts."""
        return worst(self.verdicts())

    def metrics(self) -> dict[str, float]:
        """Returns the metrics to log, by names such as `metadata/balanced_accuracy` and `ruler/flip_rate`."""
        found: dict[str, Estimate] = {
            f"{who}/{name}": value for who, scores in self.scores.items() for name, value in scores.items()
        }
        for change, flip in self.changes():
            found |= {f"{change}/flip_rate": flip.flip_rate, f"{change}/excess": flip.excess}
            found |= {f"{change}/{name}": value for name, value in flip.scores.items()}
        values = {name: estimate.value for name, estimate in found.items()}
        lows = {f"{name}_low": estimate.low for name, estimate in found.items()}
        return values | lows | {f"{name}_high": estimate.high for name, estimate in found.items()}

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, for JSON."""
        return {
            "run_id": self.run_id,
            "part": self.part,
            "images": self.images,
            "lesions": self.lesions,
            "two_photographs": self.two_photographs,
            "level": self.level,
            "verdicts": [asdict(verdict) for verdict in self.verdicts()],
            "notes": list(self.notes),
            "scores": {who: _plain(scores) for who, scores in self.scores.items()},
            "changes": {
                change: {
                    "images": flip.images,
                    "flip_rate": flip.flip_rate._asdict(),
                    "excess": flip.excess._asdict(),
                    "scores": _plain(flip.scores),
                    "drops": _plain(flip.drops),
                    "mostly_to": flip.mostly_to,
                    "share_to": flip.share_to,
                }
                for change, flip in self.changes()
            },
        }

    def changes(self) -> Iterator[tuple[str, Flips]]:
        """Yields each change of the images with its effect, the control first."""
        yield CONTROL, self.control
        yield from self.inserted.items()
        if self.painted is not None:
            yield PAINTED, self.painted


def _plain(scores: Scores) -> dict[str, dict[str, float]]:
    return {name: value._asdict() for name, value in scores.items()}


_WIDTH: Final = 80
_TITLES: Final = {
    NETWORK: "the network",
    MAJORITY: "always the most frequent class",
    "metadata": "metadata and missingness",
    "rim_and_file": "border, file and image size",
    "rim": "border pixels alone",
    "file": "file and image size alone",
}


def as_text(report: ShortcutReport) -> str:
    """Returns the verdicts and then the numbers, in lines of at most 80 columns."""
    heading = (
        f"Shortcuts of {report.run_name} ({report.run_id[:8]}): {PARTS[report.part]} part, {report.images:,} images of "
        f"{report.lesions:,} lesions"
    )
    verdicts = [(str(verdict.level), f"{verdict.check}: {verdict.words}") for verdict in report.verdicts()]
    if report.painted is None:
        verdicts.append(("-", f"{PAINTED}: no image of this part has a lesion mask"))
    verdicts += [("note", f"{PAINTED}: {note}") for note in report.notes]
    if report.two_photographs:
        heading += ". Each change is made to the dermoscopic and to the clinical photograph of a lesion"
    lines = [textwrap.fill(heading, _WIDTH), ""]
    lines += [textwrap.fill(f"{level:<8} {words}", _WIDTH, subsequent_indent=" " * 9) for level, words in verdicts]
    lines += ["", f"{'model':<31}{'accuracy':>9}{'balanced':>10}{'AUROC':>8}{'95% interval':>18}"]
    lines += [_score_line(who, scores) for who, scores in report.scores.items()]
    lines += [
        "",
        f"{'change':<16}{'flipped':>9}{'95% interval':>17}{'accuracy':>9}{'drop':>8}{'95% interval':>19}",
    ]
    lines += [_flip_line(name, found) for name, found in report.changes()]
    return "\n".join(lines)


def _score_line(who: str, scores: Scores) -> str:
    accuracy, balanced, auroc = (scores[name] for name in ("accuracy", WATCHED, AUROC_MACRO))
    values = f"{accuracy.value:>9.3f}{balanced.value:>10.3f}{auroc.value:>8.3f}"
    return f"{_TITLES[who]:<31}{values}{f'{auroc.low:.3f} to {auroc.high:.3f}':>18}"


def _flip_line(name: str, found: Flips) -> str:
    rate, drop = found.flip_rate, found.drops["accuracy"]
    flipped = f"{rate.value:>9.1%}{f'{rate.low:.1%} to {rate.high:.1%}':>17}"
    scored = f"{found.scores['accuracy'].value:>9.3f}{drop.value:>+8.3f}{f'{drop.low:+z.3f} to {drop.high:+z.3f}':>19}"
    return f"{name.replace('_', ' '):<16}{flipped}{scored}"
