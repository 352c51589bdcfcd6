"""The verb `prepare`: checks a data set, builds its image store and summarizes it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

from lesion_exp import taxonomy
from lesion_exp.config.freeze import Job
from lesion_exp.dataset.understood import column_rows, labels_in_words, understood
from lesion_exp.fitted_table import FittedTable
from lesion_exp.terminal import say
from lesion_exp.training.data import LoadedData, SplitData, load_data, published_differences, split_data


@dataclass(frozen=True)
class PreparedData:
    """A data set that was read and split, with its summary."""

    split: SplitData
    summary: dict[str, Any]
    """Counts of each class and part, faults, and differences from the published counts, as plain values."""


def prepare(job: Job) -> PreparedData:
    """Reads the data set of `job`, builds its image store, and splits and audits it.

    Raises:
        UserError: whatever would stop a training run on this data set and split.
    """
    loaded = load_data(job.config)
    split = split_data(job.config, loaded)
    return PreparedData(split, summarize(job.config, loaded, split))


def summarize(config: dict[str, Any], loaded: LoadedData, split: SplitData) -> dict[str, Any]:
    """Returns the summary of a data set as plain values, as `prepare --json` prints it."""
    table = split.table
    counts = table.groupby(["label", "split"]).size().unstack(fill_value=0)
    return {
        "dataset": config["dataset"]["name"],
        "fingerprint": loaded.fingerprint,
        "fingerprint_of_parts": dict(loaded.data.parts),
        "store": str(loaded.store.folder),
        "images": len(table),
        "classes": {
            str(label): {str(part): int(row[part]) for part in counts.columns} for label, row in counts.iterrows()
        },
        "understood": understood(loaded.table, loaded.flow.findings),
        "flow": [{"step": step.step, "images": step.images, "lesions": step.lesions} for step in loaded.flow.steps],
        "left_out": [{"image_id": image_id, "reason": reason} for image_id, reason in loaded.flow.left_out],
        "findings": [asdict(each) for each in loaded.flow.findings],
        "differs_from_published": {
            label: {"found": found, "published": published}
            for label, (found, published) in published_differences(loaded).items()
        },
        "split_hash": split.split_hash,
        "leaky": split.leaky,
        "audit": split.audit.to_dict(),
        "audit_in_words": split.audit.summary(),
    }


def show(summary: dict[str, Any], shown: Console) -> None:
    """Prints the summary of a data set on `shown`."""
    parts = [part for part in ("train", "val", "test") if any(part in row for row in summary["classes"].values())]
    heads = ("class", "name", *(f">{part}" for part in [*parts, "all"]))
    table = FittedTable(*heads, title=f"{summary['dataset']}: images of each class")
    for place, (label, row) in enumerate(summary["classes"].items(), 1):
        numbers = [row.get(part, 0) for part in parts]
        cells = (f"{number:,}" for number in [*numbers, sum(numbers)])
        table.add_row(label, taxonomy.full_name(label), *cells, ends_section=place == len(summary["classes"]))
    sums = [sum(row.get(part, 0) for row in summary["classes"].values()) for part in parts]
    table.add_row("all", "", *(f"{number:,}" for number in [*sums, sum(sums)]))
    shown.print(table)
    _show_understood(summary["understood"], shown)
    for step in summary["flow"]:
        shown.print(f"{step['images']:>9,} images of {step['lesions']:,} lesions: {step['step']}")
    if summary["left_out"]:
        shown.print(f"left out: {len(summary['left_out']):,} (listed in --json and in the run's dataset/flow.json)")
    audited = " ".join(summary["audit_in_words"].split())
    for found in summary["findings"]:  # what is no warning was logged while the data were read
        if found["level"] == "warning" and " ".join(found["text"].split()) not in audited:
            shown.print(found["text"], style="yellow", markup=False)
            for case in found["cases"]:
                shown.print(f"  - {case}", style="yellow", markup=False)
    for label, row in summary["differs_from_published"].items():
        shown.print(f"[yellow]{label}: {row['found']:,} images, published {row['published']:,}[/]")
    shown.print(summary["audit_in_words"], markup=False)
    say(f"image store: {summary['store']}", shown.file)


def _show_understood(found: dict[str, Any], shown: Console) -> None:
    table = FittedTable("column", "understood", ">known", ">missing", ">not understood", title="the images' columns")
    for name, words, *counts in column_rows(found["columns"]):
        table.add_row(name, words, *(f"{count:,}" for count in counts))
    shown.print(table)
    for words in labels_in_words(found["labels"]):
        shown.print(f"class {words}", markup=False)
