"""Pictures that the run keeps: images as the network saw them, right and wrong ones, maps of evidence."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Final

from lesion_exp.tracking import artifacts
from lesion_exp.trained_runs.run_summary import RunSummary
from lesion_exp.trained_runs.wording import Value, counted, interval, number
from lesion_exp.verbs.report.blocks import Block, Cell, Picture, Section, Table, Text, not_stored
from lesion_exp.verbs.report.picture import picture_address

BATCH: Final = artifacts.BATCH_FIGURE
RIGHT: Final = "gallery/right_{part}.png"
WRONG: Final = "gallery/wrong_{part}.png"
_EXPLANATIONS: Final = "explanations"
_MOST: Final = 8
"""Pictures of explanations that travel inside the page; all stay with the run."""


def galleries(facts: RunSummary) -> Section:
    """The section with pictures."""
    chosen = {
        BATCH: "Images of the training part as the network sees them, augmented, with their classes",
        RIGHT.format(part=facts.part): "The surest right predictions of each class, with their probability",
    }
    blocks: list[Block] = [block for name, words in chosen.items() for block in picture(facts, name, words)]
    if not blocks:
        why = "The run was told to keep none (tracking.log_images=false)." if _none_wanted(facts) else ""
        blocks = [not_stored("pictures of images", why)]
    return Section("galleries", "Galleries", [*blocks, *_explanations(facts)])


def picture(facts: RunSummary, name: str, caption: str) -> list[Block]:
    """The picture that the run keeps as `name`, if it does."""
    path = facts.kept.path(name)
    address = None if path is None else picture_address(path)
    return [Picture(address, caption, caption)] if address else []


def _none_wanted(facts: RunSummary) -> bool:
    return facts.key("tracking.log_images") is False


def _explanations(facts: RunSummary) -> list[Block]:
    names = facts.kept.below(_EXPLANATIONS, ".png")
    blocks: list[Block] = [*_evidence(facts)]
    for name in names[:_MOST]:
        words = PurePosixPath(name).with_suffix("").as_posix().removeprefix(f"{_EXPLANATIONS}/")
        blocks += picture(facts, name, f"Maps of evidence: {words.replace('_', ' ').replace('/', ', ')}")
    if len(names) > _MOST:
        blocks.append(Text(f"{counted(len(names) - _MOST, 'further picture')} lie in {_EXPLANATIONS}/ of the run."))
    return blocks


def _evidence(facts: RunSummary) -> list[Block]:
    """How much of the evidence lies inside the lesion, by method, as lesion-exp explain measured it."""
    rows: list[list[Cell]] = []
    for name, value in sorted(facts.run.metrics.items()):
        _, _, rest = name.partition("explanation/")
        method, _, measure = rest.partition("/")
        if measure and not measure.endswith(("_low", "_high")):
            found = Value(value, facts.run.metrics.get(f"{name}_low"), facts.run.metrics.get(f"{name}_high"))
            rows.append([method.replace("_", " "), measure.replace("_", " "), number(value), interval(found)])
    columns = ["method", "measure", ">value", ">95% interval"]
    return [Table("Where the evidence lies", columns, rows)] if rows else []
