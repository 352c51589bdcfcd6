"""What a sweep asks, how it stands, what is best and how often the test part was read for it."""

from __future__ import annotations

from collections import Counter

from lesion_exp.report.blocks import Block, Note, Section, Text
from lesion_exp.report.facts import Facts
from lesion_exp.report.kept import Kept
from lesion_exp.report.sections.question import QUESTION_TAG, RESEARCH_ONLY, headline
from lesion_exp.report.swept import Swept
from lesion_exp.report.wording import counted, listed, number, staged_metric_name
from lesion_exp.tracking.readings import READINGS_TAG


def question(swept: Swept) -> Section:
    """The first section."""
    counts = Counter(cell.status for cell in swept.cells)
    stand = ", ".join(f"{count} {status}" for status, count in counts.items())
    blocks: list[Block] = [
        Text(swept.parent.tags.get(QUESTION_TAG) or _asked(swept), lead=True),
        Text(f"{counted(len(swept.cells), 'cell')}: {stand}." if swept.cells else "There is no cell yet."),
        *_answer(swept),
        _readings(swept),
        Note(RESEARCH_ONLY),
    ]
    return Section("question", "The question", blocks)


def _asked(swept: Swept) -> str:
    if swept.are_folds:
        return "How well does one job do, trained once for each fold of a cross-validation?"
    what = listed([staged_metric_name(name) for name in swept.metrics])
    choice = f"choice of {listed(swept.keys)}" if swept.keys else "cell"
    return f"Which {choice} comes to the best {what}?"


def _answer(swept: Swept) -> list[Block]:
    best = swept.finished
    if not best:
        return [Note("No cell has finished: there is no result yet.")]
    if swept.are_folds:
        pooled = headline(Facts(swept.parent, Kept(swept.parent)))
        each = "Every image was judged by the network of the fold that had not seen it."
        return [
            Text(f"{pooled} {each}" if pooled else "The folds are not judged as one yet: see Repeats for their mean.")
        ]
    if len(swept.metrics) > 1 and not swept.best:
        return [Note("The sweep has not come to its end: its Pareto front is not noted yet.")]
    if len(swept.metrics) > 1:
        front = ", ".join(str(cell.number) for cell in swept.best)
        what = "where no other cell is better in one metric and as good in the others"
        return [Text(f"On the Pareto front, {what}, lie the cells {front}.")]
    name, first = swept.metrics[0], best[0]
    return [
        Text(
            f"Best was cell {first.number} ({first.text}), {staged_metric_name(name)} {number(first.metrics[name], 4)} "
            f"at its best epoch. It was chosen among {counted(len(best), 'finished cell')} on the very images that "
            f"this number is of: on others, expect less."
        )
    ]


def _readings(swept: Swept) -> Block:
    readers = [cell for cell in swept.cells if any(name.startswith("test/") for name in cell.metrics)]
    if not readers:
        return Note("No cell read the test part: every number here is of validation.", "good")
    noted = swept.parent.tags.get(READINGS_TAG)
    tag = f" ({READINGS_TAG} of the sweep: {noted})" if noted else ""
    return Note(
        f"{counted(len(readers), 'cell')} of this sweep read the test part{tag}. To choose between cells by these "
        f"numbers would make the chosen one look better than it is."
    )
