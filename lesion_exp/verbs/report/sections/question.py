"""What was asked, and in one sentence what came out."""

from __future__ import annotations

from typing import Final

from lesion_exp.evaluation.figures.style import NUMBERED_FROM
from lesion_exp.trained_runs.run_summary import RunSummary
from lesion_exp.trained_runs.statements import floor_of, headline, warnings_of
from lesion_exp.trained_runs.wording import listed
from lesion_exp.verbs.report.blocks import Block, Note, Section, Text, not_stored

QUESTION_TAG: Final = "question"
"""A tag of the run (`tags.question=...`) in which its author puts the question in words of their own."""
RESEARCH_ONLY: Final = (
    "Research use only. This page describes an experiment: nothing in it is a medical device, a diagnosis or advice "
    "about any lesion."
)


def question(facts: RunSummary) -> Section:
    """The first section: question, answer, and what must be known before believing it."""
    blocks: list[Block] = [Text(question_of(facts), lead=True)]
    answer = headline(facts)
    blocks.append(Text(answer) if answer else not_stored("predictions of the validation or the test part"))
    floor = floor_of(facts)
    blocks += [Text(floor)] if floor else []
    blocks += [Text(_members(facts))] if facts.members else []
    blocks += [Note(text) for text in warnings_of(facts)]
    blocks.append(Note(RESEARCH_ONLY))
    return Section("question", "The question", blocks)


def question_of(facts: RunSummary) -> str:
    """The author's own words where a tag holds them, else the question that the config asks."""
    if QUESTION_TAG in facts.run.tags:
        return facts.run.tags[QUESTION_TAG]
    classes = facts.classes
    names = f" ({listed(classes)})" if len(classes) < NUMBERED_FROM else ""
    named = f"{len(classes)} diagnoses{names}" if classes else "diagnoses"
    apart = "malignant from benign lesions" if facts.key("task.target") == "malignant" else f"{named} apart"
    data = facts.data_name or "a data set that this run does not name"
    if facts.members:
        return f"How well do {len(facts.members)} trained networks, joined as one, tell {apart} on images of {data}?"
    network = facts.option("backbone") or "the network"
    return f"Can {network}, {_start(facts)}, tell {apart} on images of {data} that it has not seen?"


def _members(facts: RunSummary) -> str:
    names = listed([member[:8] for member in facts.members])
    return f"This run joins the runs {names}; their own pages tell of their data, training and config."


def _start(facts: RunSummary) -> str:
    weights = facts.key("backbone.weights")
    return "trained from random weights" if weights in (None, "none") else f"starting from the weights {weights}"
