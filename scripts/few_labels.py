"""Measures what a pretraining without labels is worth where few images are labelled, and writes a table and a figure.

    python scripts/few_labels.py root=DIR               # trains what the store does not have yet: about an hour
    python scripts/few_labels.py root=DIR --table       # trains nothing

DIR is the folder of HAM10000. An EfficientNet-Lite0 is pretrained on the images of the training part, without their
labels. Then the same network learns from 1%, 10% and 100% of the labels, with one recipe, from each of three starts:
random weights, those of the pretraining, and those of ImageNet. The shares are drawn by lesion and class and are the
same for the three starts. The recipe was not adapted to any of them. A run belongs to a cell if it has the hash of its
job, so the script goes on after an interruption.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd
from matplotlib.figure import Figure
from results import (
    PAGE,
    as_root,
    difference_in_words,
    estimate_in_words,
    finished,
    job_minutes,
    machine_of,
    paired_difference,
    train,
    written_into,
)

from lesion_exp import open_run
from lesion_exp.dataset.path_patterns import as_value
from lesion_exp.evaluation.figures.style import PALETTE, style
from lesion_exp.tracking.artifacts import AUDIT
from lesion_exp.trained_runs.printed_table import Entry, PrintedTable

MARKS: Final = ("<!-- written by scripts/few_labels.py -->\n", "<!-- end of what scripts/few_labels.py writes -->\n")
PICTURE: Final = Path("pictures") / "few_labels.png"
"""Relative to the folder of the page."""
NETWORK: Final = ("dataset=ham10000", "backbone=efficientnet_lite0", "image_size=96")
PRETRAINING: Final = ("experiment=pretrain", *NETWORK, "trainer.max_epochs=24")
RECIPE: Final = ("experiment=ham10000_finetuned", *NETWORK, "backbone.metadata=none", "evaluation.tta=none")
EPOCHS: Final = {0.01: (80, 20), 0.1: (15, 3), 1.0: (3, 1)}
"""Share of the labels -> epochs, and epochs from one validation to the next."""
STARTS: Final = {"none": "random weights", "pretrained": "pretrained without labels", "imagenet": "ImageNet"}
METRICS: Final = {"balanced_accuracy": "balanced accuracy", "auroc_macro": "macro AUROC"}


@dataclass(frozen=True)
class Cell:
    """The run of a start and a share of the labels."""

    start: str
    share: float
    run_id: str
    images: int
    """Labelled images that it trained on."""
    scores: Mapping[str, Mapping[str, float]]
    """By metric: `value`, `low`, `high`."""


def overrides(start: str, share: float, pretraining: str, root: Path) -> list[str]:
    """Returns the words after `lesion-exp train` of the cell of `start` and `share`."""
    epochs, every = EPOCHS[share]
    weights = f"run:{pretraining}" if start == "pretrained" else start
    lengths = (f"trainer.max_epochs={epochs}", f"trainer.check_val_every_n_epoch={every}")
    return [*RECIPE, f"backbone.weights={weights}", f"split.train_share={share:g}", *lengths, _in_root(root)]


def read_cell(start: str, share: float, run: pd.Series) -> Cell:
    """Returns the results of a finished run on the test part."""
    opened = open_run(str(run["run_id"]))
    names = {"value": "", "low": "_low", "high": "_high"}
    scores = {name: {key: opened.metrics[f"test/{name}{end}"] for key, end in names.items()} for name in METRICS}
    audit = json.loads(opened.artifact(AUDIT).read_text(encoding="utf-8"))
    return Cell(start, share, opened.run_id, int(audit["parts"]["train"]["images"]), scores)


def table(cells: Sequence[Cell]) -> PrintedTable:
    """Returns a row for each share of the labels and start, with the difference from random weights."""
    entries = []
    for share in EPOCHS:
        of_share = {cell.start: cell for cell in cells if cell.share == share}
        if "none" not in of_share:
            continue
        rows = []
        for start, cell in of_share.items():
            scores = [estimate_in_words(cell.scores[name]) for name in METRICS]
            rows.append([Entry(f"{share:.0%} ({cell.images:,} images)"), Entry(STARTS[start]), *scores,
                         Entry("") if start == "none" else _from_random(cell, of_share["none"])])  # fmt: skip
        entries.append(rows)
    head = ["labels", "start", *METRICS.values(), "difference in balanced accuracy from random weights"]
    return PrintedTable(head, entries, 2, [])


def _from_random(cell: Cell, other: Cell) -> Entry:
    return difference_in_words(paired_difference([cell.run_id], [other.run_id]))


def figure(cells: Sequence[Cell]) -> Figure:
    """Draws balanced accuracy with its 95% interval over the number of labelled images, a line for each start."""
    with style():
        drawn = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = drawn.subplots()
        for place, (start, name) in enumerate(STARTS.items()):
            found = sorted((cell for cell in cells if cell.start == start), key=lambda cell: cell.images)
            scores = [cell.scores["balanced_accuracy"] for cell in found]
            ends = [[abs(score["value"] - score[end]) for score in scores] for end in ("low", "high")]
            images = [cell.images * 1.06 ** (place - 1) for cell in found]  # beside each other
            values = [score["value"] for score in scores]
            axes.errorbar(images, values, yerr=ends, marker="o", capsize=3, color=PALETTE[place], label=name)
        axes.set_xscale("log")
        images = sorted({cell.images for cell in cells})
        axes.set_xticks(images, [f"{count:,}" for count in images])
        axes.minorticks_off()
        axes.set(xlabel="labelled training images", ylabel="balanced accuracy, test part", ylim=(0, 1))
        axes.set_title("HAM10000: what the start is worth")
        axes.grid(axis="y", color="#E6E6E6", linewidth=0.7)
        axes.legend(loc="lower right")
    return drawn


def part(cells: Sequence[Cell], pretraining: str) -> str:
    """Returns the written part of the page."""
    middle = sorted(EPOCHS)[len(EPOCHS) // 2]
    words = [" ".join(overrides(start, middle, "RUN", Path("DIR"))[:-1]) for start in STARTS]
    opened = open_run(pretraining)
    return "\n\n".join(
        [
            "`scripts/few_labels.py` writes this part of the page. An EfficientNet-Lite0 at 96 pixels was pretrained "
            f"with SimCLR on the images of the training part for {job_minutes(opened.run):.0f} minutes on "
            f"{machine_of(opened)}. Then it "
            "was trained on 1%, 10% and 100% of the labels from three starts, with one recipe, which was adapted to "
            f"none of them. The trainings are short: {_listed(EPOCHS[share][0] for share in sorted(EPOCHS))} epochs. "
            "One run each; the intervals are 95% intervals over the lesions of the test part and leave out how much "
            "another seed would change.",
            table(cells).markdown().strip(),
            f"![Balanced accuracy over the number of labelled images, for three starts]({PICTURE.as_posix()})",
            "```bash\n"
            f"lesion-exp train {' '.join(PRETRAINING)} dataset.root=DIR     # RUN\n"
            + "\n".join(f"lesion-exp train {each} dataset.root=DIR" for each in words)
            + "\n```",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains the cells where the store has no run of them, and writes the page and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=as_root, help="root=DIR: the folder of HAM10000")
    parser.add_argument("--table", action="store_true", help="train nothing")
    parser.add_argument("--output", type=Path, default=PAGE, help="the page, which has the two marks")
    parsed = parser.parse_args(arguments)
    words = [*PRETRAINING, _in_root(parsed.root)]
    if finished(words) is None and not parsed.table:
        train(words)
    pretraining = finished(words)
    if pretraining is None:
        parser.exit(2, "expected a finished pretraining in the store, got none; leave --table out to train it\n")
    run_id, cells = str(pretraining["run_id"]), []
    for share in sorted(EPOCHS, reverse=True):
        for start in STARTS:
            of_cell = overrides(start, share, run_id, parsed.root)
            if finished(of_cell) is None and not parsed.table:
                train(of_cell)
            if (run := finished(of_cell)) is not None:
                cells.append(read_cell(start, share, run))
    if not any(cell.start == "none" for cell in cells):
        parser.exit(2, "expected finished runs from random weights, got none; leave --table out to train them\n")
    path = parsed.output.parent / PICTURE
    path.parent.mkdir(exist_ok=True)
    figure(cells).savefig(path, dpi=150)
    text = written_into(parsed.output.read_text(encoding="utf-8"), part(cells, run_id), MARKS)
    parsed.output.write_text(text, encoding="utf-8")
    print(f"written: {parsed.output} and {path}", file=sys.stderr)


def _listed(numbers: Iterable[int]) -> str:
    *first, last = map(str, numbers)
    return f"{', '.join(first)} and {last}" if first else last


def _in_root(root: Path) -> str:
    return f"dataset.root={as_value(str(root))}"


if __name__ == "__main__":
    main()
