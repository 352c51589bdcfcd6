"""The words of a run in MLflow's page: its name, the tags behind the columns, its description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

CHOICES: Final = ("dataset", "backbone", "sampler", "loss")
"""Config groups whose choice is a tag of the run and a column of the list of runs."""
_HEADLINE: Final = (
    ("balanced_accuracy", "balanced accuracy"),
    ("auroc_macro", "AUROC, macro"),
    ("f1_macro", "F1, macro"),
    ("accuracy", "accuracy"),
)


def run_name(choices: Mapping[str, str], seed: int, fold: int | None = None) -> str:
    """The name of a run by its config groups: `ham10000 resnet18 weighted focal s1`, or `... fold 2 s1`."""
    folded = [] if fold is None else [f"fold {fold}"]
    return " ".join([*(choices[group] for group in CHOICES if group in choices), *folded, f"s{seed}"])


def choice_tags(choices: Mapping[str, str]) -> dict[str, str]:
    """The choices that the list of runs shows as columns."""
    return {group: choices[group] for group in CHOICES if group in choices}


def description(
    title: str, counts: Mapping[str, Mapping[str, int]], metrics: Mapping[str, float], warnings: Sequence[str] = ()
) -> dict[str, str]:
    """The tag with a run's description in markdown: what was trained on what, on how many images, the result.

    `counts` maps a part (`train`, `val`, `test`) to its numbers of `images`, `lesions` and so on; `metrics` are those
    of the run, of which the test part's are shown, else the best epoch's; `warnings` come first, in bold.
    """
    blocks = [f"**{warning}**" for warning in warnings]
    blocks.append(title)
    if counts:
        columns = list(dict.fromkeys(name for numbers in counts.values() for name in numbers))
        rows = [[part, *(f"{numbers[name]:,}" if name in numbers else "" for name in columns)]
                for part, numbers in counts.items()]  # fmt: skip
        blocks.append(_table(["part", *columns], rows))
    prefix, part = next(
        ((prefix, part) for prefix, part in (("test/", "test"), ("best/val/", "validation, best epoch"))
         if f"{prefix}balanced_accuracy" in metrics), ("", "")
    )  # fmt: skip
    if prefix:
        results = [[label, _value(metrics, prefix + name)] for name, label in _HEADLINE if prefix + name in metrics]
        blocks.append(_table([part, ""], results))
    return {"mlflow.note.content": "\n\n".join(blocks)}


def _value(metrics: Mapping[str, float], name: str) -> str:
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    interval = f" (95% interval {low:.3f} to {high:.3f})" if low is not None and high is not None else ""
    return f"{metrics[name]:.3f}{interval}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
