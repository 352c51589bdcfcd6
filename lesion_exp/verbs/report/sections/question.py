"""The first section: the question of the experiment, its answer in a sentence, and warnings."""

from __future__ import annotations

from typing import Final

from lesion_exp.evaluation.figures.style import NUMBERED_FROM
from lesion_exp.trained_runs.run_summary import RunSummary
from lesion_exp.trained_runs.statements import baseline_sentence, headline, warnings_of
from lesion_exp.trained_runs.wording import listed
from lesion_exp.verbs.report.blocks import Block, Note, Section, Text, not_stored

QUESTION_TAG: Final = "question"
"""The tag of a run (`tags.question=...`) with the question in the words of its author."""
RESEARCH_ONLY: Final = (
    "Research use only. This page describes an experiment: nothing in it is a medical device, a diagnosis or advice "
    "about any lesion."
)


def question(facts: RunSummary) -> Section:
    """Returns the first section: question, answer and warnings."""
    blocks: list[Block] = [Text(question_of(facts), lead=True)]
    answer = headline(facts)
    blocks.append(Text(answer) if answer else not_stored("predictions of the validation or the test part"))
    floor = baseline_sentence(facts)
    blocks += [Text(floor)] if floor else []
    blocks += [Text(_members(facts))] if facts.members else []
    blocks += [Note(text) for text in warnings_of(facts)]
    blocks.append(Note(RESEARCH_ONLY))
    return Section("question", "The question", blocks)


def question_of(facts: RunSummary) -> str:
    """Returns the question of the author's tag, else a question made from the config."""
    if QUESTION_TAG in facts.run.tags:
        return facts.run.tags[QUESTION_TAG]
    classes = facts.classes
    names = f" ({listed(classes)})" if len(classes) < NUMBERED_FROM else ""
    named = f"{len(classes)} diagnoses{names}" if classes else "diagnoses"
    task = "malignant from benign lesions" if facts.key("task.target") == "malignant" else f"{named}"
    data = facts.data_name or "an unnamed data set"
    if facts.members:
        return f"How well do {len(facts.members)} networks, combined, distinguish {task} on images of {data}?"
    if facts.is_imported:
        return f"How well do the imported predictions {facts.run.name!r} distinguish {task} on images of {data}?"
    network = facts.option("backbone") or "the network"
    told = "" if facts.key("backbone.metadata") in (None, "none") else ", with age, sex and site"
    start = f", {_start(facts)}{told}," if facts.config else ""
    return f"How well does {network}{start} distinguish {task} on unseen images of {data}?"


def _members(facts: RunSummary) -> str:
    names = listed([member[:8] for member in facts.members])
    return f"This run combines the runs {names}; their pages have their data, training and config."


def _start(facts: RunSummary) -> str:
    weights, tune = facts.key("backbone.weights"), str(facts.key("backbone.tune") or "full")
    is_random = weights in (None, "none")
    start = "random weights" if is_random else f"the weights {weights}"
    if tune == "head":
        head = "the votes of its nearest training images" if facts.key("backbone.head") == "knn" else "a trained head"
        return f"frozen at {start}, with {head}"
    if tune == "full":
        return f"trained from {start}" if is_random else f"fine-tuned from {start}"
    return f"fine-tuned in part (backbone.tune={tune}) from {start}"
