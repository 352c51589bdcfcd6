"""What was asked, and in one sentence what came out."""

from __future__ import annotations

from typing import Final

import numpy as np

from lesion_exp.evaluation.figures.labels import NUMBERED_FROM
from lesion_exp.evaluation.intervals import lesion_of
from lesion_exp.report.blocks import Block, Note, Section, Text, not_stored
from lesion_exp.report.run_summary import RunSummary
from lesion_exp.report.wording import counted, listed, number, percent, with_interval
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.test_set_reads import READINGS_TAG

QUESTION_TAG: Final = "question"
"""A tag of the run (`tags.question=...`) in which its author puts the question in words of their own."""
PATCH: Final = artifacts.environment("changes.patch")
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


def headline(facts: RunSummary) -> str | None:
    """The result in one sentence; None without predictions."""
    table, value = facts.predictions, facts.values.get("balanced_accuracy")
    if table is None or value is None:
        return None
    size = f"On {counted(len(table), 'image')} of {counted(lesion_of(table)[1], 'lesion')}"
    seen = {
        (True, "test"): "some of which, or their copies, were trained on as well",
        (True, "val"): "some of which, or their copies, were trained on as well",
        (False, "test"): "never seen in training",
        (False, "val"): "of the validation part, on which the best epoch was chosen",
    }[facts.is_leaky, facts.part or "val"]
    interval = "" if value.low is None else f" (95% interval {number(value.low)} to {number(value.high)})"
    further = [
        f"{words} {with_interval(facts.values[name])}"
        for name, words in (("auroc_macro", "mean AUROC"), ("accuracy", "accuracy"))
        if name in facts.values
    ]
    rest = f"; {' and '.join(further)}" if further else ""
    return f"{size} {seen}, balanced accuracy was {number(value.value)}{interval}{rest}."


def floor_of(facts: RunSummary) -> str | None:
    """What answering the most frequent class alone would come to on the same images."""
    if facts.predictions is None:
        return None
    shares = facts.predictions["label"].value_counts(normalize=True)
    name = str(shares.index[0])
    return (
        f"For comparison, always answering {name} has an accuracy of {number(float(shares.iloc[0]))} and a balanced "
        f"accuracy of {number(1 / int(np.count_nonzero(shares)))} on these images."
    )


def warnings_of(facts: RunSummary) -> list[str]:
    """What a reader must know first: leaks, an end that was none, code that nobody can get, readings of the test."""
    run = facts.run
    found = []
    if facts.is_leaky:
        shared = facts.audit.get("test_rows_with_lesion_in_train", {}).get("all")
        how_many = "" if not shared else f": {percent(shared)} of the test images show a lesion that was trained on"
        found.append(f"LEAKY: parts of the training data reappear in validation or test{how_many}. No result of "
                     f"this run says how well the network does on new lesions.")  # fmt: skip
    if run.status != "FINISHED":
        error = f": {run.tags['error']}" if run.tags.get("error") else ""
        found.append(f"This run has not finished ({run.status}){error}. What is made at its end is missing here.")
    readings = run.tags.get(READINGS_TAG, "")
    if readings.isdecimal() and int(readings) > 1:
        found.append(f"This was reading {readings} of this test part by runs of the store: the more often it is read "
                     f"to choose between runs, the more its results flatter.")  # fmt: skip
    if run.tags.get("git_dirty") == "true":
        kept = "are kept with the run" if PATCH in facts.kept.names else "are not kept"
        found.append(f"The code had changes that no commit holds; those of tracked files {kept}.")
    return found


def _members(facts: RunSummary) -> str:
    names = listed([member[:8] for member in facts.members])
    return f"This run joins the runs {names}; their own pages tell of their data, training and config."


def _start(facts: RunSummary) -> str:
    weights = facts.key("backbone.weights")
    return "trained from random weights" if weights in (None, "none") else f"starting from the weights {weights}"
