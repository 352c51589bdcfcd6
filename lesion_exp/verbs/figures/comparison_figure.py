"""Draws the figure of a stored comparison again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from matplotlib.figure import Figure

from lesion_exp.evaluation.comparison import Comparison, Difference, Pair
from lesion_exp.evaluation.figures.forest_plots import differences_figure
from lesion_exp.split import PARTS


def comparison_figure(stored: Mapping[str, Any]) -> Figure:
    """Returns the figure of a comparison; `stored` is what `compare` keeps as JSON."""
    pairs = tuple(
        Pair(
            first=pair["first"],
            second=pair["second"],
            differences={name: _difference(values) for name, values in pair["differences"].items()},
            only_first=pair["only_first_right"],
            only_second=pair["only_second_right"],
            to_change=pair["lesions_to_change"],
        )
        for pair in stored["pairs"]
    )
    comparison = Comparison(
        num_images=stored["images"],
        num_lesions=stored["lesions"],
        class_images=stored["classes"],
        groups=(),
        pairs=pairs,
        added={name: values["higher_is_better"] for name, values in stored["added_metrics"].items()},
        unit=stored.get("unit", "lesion"),  # which the first comparisons do not have, nor titles
    )
    names = {job["letter"]: job.get("title", job["name"]) for job in stored["jobs"]}
    return differences_figure(comparison, names, f"differences on the {PARTS[stored['part']]} part")


def _difference(values: Mapping[str, Any]) -> Difference:
    return Difference(**{field.name: values[field.name] for field in fields(Difference)})
