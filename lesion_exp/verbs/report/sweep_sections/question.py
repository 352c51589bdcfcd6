"""What a sweep asks, how it stands, what is best and how often the test part was read for it."""

from __future__ import annotations

from collections import Counter

from lesion_exp.tracking.test_set_reads import READINGS_TAG
from lesion_exp.trained_runs.run_artifacts import RunArtifacts
from lesion_exp.trained_runs.run_summary import RunSummary
from lesion_exp.trained_runs.statements import headline
from lesion_exp.trained_runs.wording import counted, listed, staged_metric_name
from lesion_exp.verbs.report.blocks import Block, Note, Section, Text
from lesion_exp.verbs.report.sections.question import QUESTION_TAG, RESEARCH_ONLY
from lesion_exp.verbs.report.swept import Swept


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
    if swept.keys and not swept.choice_keys:
        return f"How well does one job do, trained once for each {listed(swept.keys)}?"
    what = listed([staged_metric_name(name) for name in swept.metrics])
    choice = f"choice of {listed(swept.choice_keys)}" if swept.choice_keys else "cell"
    return f"Which {choice} comes to the best {what}?"


def _answer(swept: Swept) -> list[Block]:
    if not swept.finished:
        return [Note("No cell has finished: there is no result yet.")]
    if swept.are_folds:
        pooled = headline(RunSummary(swept.parent, RunArtifacts(swept.parent)))
        each = "Every image was judged by the network of the fold that had not seen it."
        return [Text(f"{pooled} {each}" if pooled else "The folds are not judged as one yet: see their mean below.")]
    if len(swept.metrics) > 1 and swept.best:
        front = "; ".join(choice.text for choice in swept.choices.front)
        what = "where the mean of no other choice is better in one metric and as good in the others"
        return [Text(f"On the Pareto front, {what}, lie: {front}.")]
    chosen = (
        " It was chosen on the very images that this number is of: on others, expect less."
        if len(swept.choices.ranked) > 1
        else ""
    )
    verdict = swept.choices.verdict()
    return [Text(f"{verdict}{chosen}")] if verdict else []


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
