"""The texts about a run in MLflow's page: its name, the tags of the columns, and its description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote, urlencode

from lesion_exp.evaluation.registry import WATCHED, WATCHED_METRIC, added_among, short_of, shown_in

SCORE_TAGS: Final = {f"best/{WATCHED_METRIC}": "val", f"test/{WATCHED}": "test"}
"""Metrics whose values are also tags, rounded to three digits for the table of runs, with the names of the tags."""
LEAKS_TAG: Final = "leaks"
"""Tag of leaky runs only, so that the column of other runs is empty."""
OVER_SEEDS_TAG: Final = "over seeds"
"""Tag of the cells of a sweep with the result of their choice over all seeds and folds."""
CHOICE_TAG: Final = "choice"
"""Tag of the cells of a sweep with the values that they set, except seeds and folds, for grouping in MLflow."""
CHOICES: Final = ("dataset", "backbone", "sampler", "loss")
"""Config groups whose option is a tag of the run and a column of the table of runs."""


def run_name(choices: Mapping[str, str], seed: int, fold: int | None = None) -> str:
    """Returns the name of a run by its config groups: `ham10000 resnet18 weighted focal s1`, or `... fold 2 s1`."""
    folded = [] if fold is None else [f"fold {fold}"]
    return " ".join([*(choices[group] for group in CHOICES if group in choices), *folded, f"s{seed}"])


def choice_tags(choices: Mapping[str, str]) -> dict[str, str]:
    """Returns the tags with the options that the table of runs shows as columns."""
    return {group: choices[group] for group in CHOICES if group in choices}


def score_tags(metrics: Mapping[str, float], leaky: bool) -> dict[str, str]:
    """Returns the tags with the scores among `metrics` for the table of runs, and a mark if the run is leaky."""
    scores = {tag: f"{metrics[name]:.3f}" for name, tag in SCORE_TAGS.items() if name in metrics}
    return {**scores, **({LEAKS_TAG: "yes"} if leaky else {})}


def description(
    title: str,
    counts: Mapping[str, Mapping[str, int]],
    metrics: Mapping[str, float],
    warnings: Sequence[str] = (),
    links: Sequence[str] = (),
) -> dict[str, str]:
    """Returns the tag with a run's description in markdown: links, warnings, results, title and numbers of images.

    MLflow's page shows about five lines and hides the rest behind a link, so each block is one line. It lays a fading
    layer over the lines from the third on, which takes the clicks, so the links are in the first line.

    Args:
        title: a text about what was trained.
        counts: for each part (`train`, `val`, `test`) its numbers of `images`, `lesions` and so on.
        metrics: results of the run; the results of the test part are shown, else those of the best epoch.
        warnings: sentences in bold type.
        links: see `artifact_link`.
    """
    blocks = [" · ".join(links)] if links else []
    blocks += [f"**{warning}**" for warning in warnings]
    prefix, part = next(
        ((prefix, part) for prefix, part in (("test/", "Test"), ("best/val/", "Validation, best epoch"))
         if f"{prefix}{WATCHED}" in metrics), ("", "")
    )  # fmt: skip
    if prefix:
        names = [name for name in shown_in("headline") if prefix + name in metrics] + added_among(metrics, prefix)
        blocks.append(
            f"**{part}:** " + ", ".join(f"{short_of(name)} {_value(metrics, prefix + name)}" for name in names)
        )
    blocks.append(title)
    if counts:
        numbers = [
            f"{part} " + ", ".join(f"{number:,} {name}" for name, number in found.items())
            for part, found in counts.items()
        ]
        blocks.append("; ".join(numbers))
    return {"mlflow.note.content": "\n\n".join(blocks)}


def artifact_link(title: str, experiment_id: str, run_id: str, path: str) -> str:
    """Returns a link to an artifact of a run in MLflow's page, which shows it as large as possible."""
    return f"[{title}](#/experiments/{experiment_id}/runs/{run_id}/artifacts/{quote(path)})"


def artifact_picture(title: str, run_id: str, path: str) -> str:
    """Returns a picture from the artifacts of a run for a description; it should be at most 750 pixels wide.

    MLflow's page does not show pictures that are embedded in text (`data:`), but those of its own server. The address
    is relative, so that it is valid on every server.
    """
    return f"![{title}](get-artifact?{urlencode({'path': path, 'run_uuid': run_id})})"


def _value(metrics: Mapping[str, float], name: str) -> str:
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    interval = f" (95% interval {low:.3f} to {high:.3f})" if low is not None and high is not None else ""
    return f"{metrics[name]:.3f}{interval}"
