"""What the shortcut checks of a run came to: verdicts, numbers, metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from lesion_exp.evaluation.flips import Flips
from lesion_exp.evaluation.intervals import Estimate
from lesion_exp.evaluation.registry import AUROC_MACRO
from lesion_exp.verbs.shortcuts.perturbations import CONTROL, INSERTIONS, PAINTED
from lesion_exp.verbs.shortcuts.verdict import Level, ShortcutVerdict, judge_flips, judge_without_lesion, worst

SHALLOW: Final[Mapping[str, str]] = {
    "metadata": "a shallow model on age, sex, site, source and what of these is missing",
    "rim_and_file": "a shallow model on border pixels, file size and image size",
    "rim": "a shallow model on border pixels alone",
    "file": "a shallow model on file size and image size alone",
}
"""Models that never see a lesion."""
NETWORK, MAJORITY = "network", "majority"
JUDGED: Final = AUROC_MACRO
"""The score by which models without the lesion are held against the network."""
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
    """By `network`, `majority` and the names of `SHALLOW`: accuracy, balanced accuracy and macro AUROC."""
    control: Flips
    inserted: Mapping[str, Flips]
    """By the names of `INSERTIONS`."""
    painted: Flips | None
    """None where no image of the part has a lesion mask."""
    painted_own: Estimate | None
    """The network's macro AUROC on the images with masks, as they are."""

    def verdicts(self) -> list[ShortcutVerdict]:
        """One a check."""
        own = self.scores[NETWORK][JUDGED].value
        found = [judge_without_lesion(name, what, self.scores[name][JUDGED], own) for name, what in SHALLOW.items()]
        if self.painted is not None and self.painted_own is not None:
            what = f"the network with the lesion painted out ({self.painted.images:,} images with masks)"
            found.append(judge_without_lesion(PAINTED, what, self.painted.scores[JUDGED], self.painted_own.value))
        return [*found, *(judge_flips(name, INSERTIONS[name].words, flip) for name, flip in self.inserted.items())]

    @property
    def level(self) -> Level:
        """The most serious verdict's."""
        return worst(self.verdicts())

    def metrics(self) -> dict[str, float]:
        """What is logged, by names such as `metadata/balanced_accuracy` and `ruler/flip_rate`."""
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
        """Plain values, for JSON."""
        return {
            "run_id": self.run_id,
            "part": self.part,
            "images": self.images,
            "lesions": self.lesions,
            "level": self.level,
            "verdicts": [asdict(verdict) for verdict in self.verdicts()],
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
        """Each change of the images with what it does, the control first."""
        yield CONTROL, self.control
        yield from self.inserted.items()
        if self.painted is not None:
            yield PAINTED, self.painted


def _plain(scores: Scores) -> dict[str, dict[str, float]]:
    return {name: value._asdict() for name, value in scores.items()}
