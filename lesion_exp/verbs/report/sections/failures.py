"""The mistakes that a reader should see first."""

from __future__ import annotations

from typing import Final

from lesion_exp.evaluation.failures import failures as worst
from lesion_exp.trained_runs.run_summary import RunSummary
from lesion_exp.trained_runs.wording import counted, number
from lesion_exp.verbs.report.blocks import Block, Cell, Section, Table, Text, not_stored
from lesion_exp.verbs.report.sections.galleries import WRONG, picture

_SHOWN: Final = 20


def failures(facts: RunSummary) -> Section:
    """The section with failure cases."""
    title = "Failure cases"
    if facts.predictions is None:
        return Section("failures", title, [not_stored("predictions of the validation or the test part")])
    cases = worst(facts.predictions, _SHOWN)
    if not cases:
        return Section("failures", title, [Text("Every image was read rightly.")])
    rows: list[list[Cell]] = [
        [
            case["image_id"],
            case["label"],
            case["prediction"],
            number(case["probability"]),
            number(case["probability_of_label"]),
        ]
        for case in cases
    ]
    columns = ["image", "true", "predicted", ">probability", ">of the true class"]
    intro = Text("Wrong predictions that were made with the highest probability, the surest first.")
    blocks: list[Block] = [intro, *picture(facts, WRONG.format(part=facts.part), "The surest mistakes")]
    caption = f"The {counted(len(cases), 'surest mistake')}"
    return Section("failures", title, [*blocks, Table(caption, columns, rows)])
