"""The shortcut checks of a run as text."""

from __future__ import annotations

import textwrap
from typing import Final

from lesion_exp.evaluation.flips import Flips
from lesion_exp.evaluation.registry import AUROC_MACRO, WATCHED
from lesion_exp.split import PARTS
from lesion_exp.verbs.shortcuts.perturbations import PAINTED
from lesion_exp.verbs.shortcuts.report import MAJORITY, NETWORK, Scores, ShortcutReport

_WIDTH: Final = 80
_TITLES: Final = {
    NETWORK: "the network, which looks",
    MAJORITY: "always the most frequent class",
    "metadata": "metadata and missingness",
    "rim_and_file": "border, file and image size",
    "rim": "border pixels alone",
    "file": "file and image size alone",
}


def as_text(report: ShortcutReport) -> str:
    """Verdicts, then the numbers behind them, in lines of at most 80 columns."""
    heading = (
        f"Shortcuts of {report.run_name} ({report.run_id[:8]}): {PARTS[report.part]} part, {report.images:,} images of "
        f"{report.lesions:,} lesions"
    )
    verdicts = [(str(verdict.level), f"{verdict.check}: {verdict.words}") for verdict in report.verdicts()]
    if report.painted is None:
        verdicts.append(("-", f"{PAINTED}: no image of this part has a lesion mask"))
    lines = [textwrap.fill(heading, _WIDTH), ""]
    lines += [textwrap.fill(f"{level:<8} {words}", _WIDTH, subsequent_indent=" " * 9) for level, words in verdicts]
    lines += ["", f"{'who predicts':<31}{'accuracy':>9}{'balanced':>10}{'AUROC':>8}{'95% interval':>18}"]
    lines += [_score_line(who, scores) for who, scores in report.scores.items()]
    lines += [
        "",
        f"{'what is changed':<16}{'flipped':>9}{'95% interval':>17}{'accuracy':>9}{'drop':>8}{'95% interval':>19}",
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
    scored = f"{found.scores['accuracy'].value:>9.3f}{drop.value:>+8.3f}{f'{drop.low:+.3f} to {drop.high:+.3f}':>19}"
    return f"{name.replace('_', ' '):<16}{flipped}{scored}"
