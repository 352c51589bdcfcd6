"""Runs in notebooks: headline metrics with intervals, curves and the confusion matrix."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from markupsafe import Markup

from lesion_exp.config.project import Project
from lesion_exp.errors import UserError
from lesion_exp.evaluation.registry import WATCHED, WATCHED_METRIC, added_among, short_of, shown_in
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.stored_run import History, Run, read_history
from lesion_exp.trained_runs.trained_run import TrainedRun, headline_lines
from lesion_exp.training.run_context import JobResult
from lesion_exp.verbs.report.charts import Line, plot, round_axis

HEADLINE: Final = {name: short_of(name) for name in shown_in("headline")}
_PARTS: Final = {"test/": "test part", "best/val/": "validation part, best epoch"}
_CURVES: Final = {"loss": ("train/loss", "val/loss"), short_of(WATCHED): (WATCHED_METRIC,)}
_STYLE: Final = Markup(
    "<style>.lesion-exp{display:flex;flex-wrap:wrap;gap:1.5em;align-items:flex-start}"
    ".lesion-exp td,.lesion-exp th{text-align:left;padding:.1em .8em .1em 0}"
    ".lesion-exp svg.plot{width:22em;font:12px sans-serif}.lesion-exp img{max-width:46em;background:#fff}"
    ".lesion-exp svg text{fill:currentColor}.lesion-exp .grid{stroke:currentColor;opacity:.15}"
    ".lesion-exp .line{fill:none;stroke:#0072b2;stroke-width:2}.lesion-exp .s1{stroke:#b34700}"
    ".lesion-exp .dashed{stroke-dasharray:6 4}"
    ".lesion-exp .f0{fill:#0072b2}.lesion-exp .f1{fill:#b34700}</style>"
)


@dataclass(frozen=True, repr=False)
class ShownResult(JobResult):
    """The result of a finished run, which a notebook shows as HTML."""

    config: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The config of the run, which names its store."""

    def __repr__(self) -> str:
        """The id and the headline metrics; `metrics` has all metrics."""
        return "\n".join([f"run {self.run_id}", *headline_lines(self.metrics)])

    def _repr_html_(self) -> str:
        try:
            run = find_run(Project.from_config(self.config).store, self.run_id)
            numbers = number_table(_with_validation(run, self.metrics))
            return page(run.name, self.run_id, [numbers, *_curves(read_history(run)), _confusion(run)])
        except (UserError, OSError):  # the metrics are shown even if the store is gone
            return page("run", self.run_id, [number_table(self.metrics)])


@dataclass(frozen=True, repr=False)
class ShownRun(TrainedRun):
    """The result of `lesion_exp.open_run`, which a notebook shows as HTML."""

    def _repr_html_(self) -> str:
        run = self.run
        parts = [number_table(_with_validation(run, self.metrics)), *_curves(read_history(run)), _confusion(run)]
        return page(run.name, run.run_id, parts)


def _with_validation(run: Run, metrics: Mapping[str, float]) -> dict[str, float]:
    """`metrics` with the intervals of the validation metrics of the best epoch, which a file of the run has."""
    path = run.fetch(artifacts.evaluation("val/metrics.json"))
    kept = {} if path is None else json.loads(path.read_text("utf-8"))
    found: dict[str, float] = {}
    for name, entry in kept.items():
        if f"best/val/{name}" in metrics and isinstance(entry, Mapping) and "low" in entry:
            found |= {f"best/val/{name}_{end}": float(entry[end]) for end in ("low", "high")}
    return {**metrics, **found}


def page(title: str, run_id: str, parts: Sequence[Markup]) -> str:
    """Returns a result as HTML for a notebook: its title, the id of its run, and `parts` side by side."""
    head = Markup("<p><b>{}</b> <code>{}</code></p>").format(title, run_id)
    return str(Markup('{}<div>{}<div class="lesion-exp">{}</div></div>').format(_STYLE, head, Markup("").join(parts)))


def picture(png: bytes, alt: str) -> Markup:
    """Returns a PNG file as an embedded picture; `alt` is the text alternative."""
    return Markup('<img alt="{}" src="data:image/png;base64,{}">').format(alt, base64.b64encode(png).decode())


def number_table(metrics: Mapping[str, float], parts: Mapping[str, str] = _PARTS) -> Markup:
    """Returns a table of the headline metrics with their intervals.

    Args:
        metrics: metrics by name, with the ends of intervals as `<name>_low` and `<name>_high`.
        parts: the prefixes of the names to show, with the title of each.
    """
    rows = Markup("")
    for prefix, part in parts.items():
        added = {name: short_of(name) for name in added_among(metrics, prefix)}
        for name, title in {**HEADLINE, **added}.items():
            value = metrics.get(f"{prefix}{name}", math.nan)
            if not math.isnan(value):
                ends = [metrics.get(f"{prefix}{name}_{end}") for end in ("low", "high")]
                interval = "" if None in ends else f"{ends[0]:.3f} to {ends[1]:.3f}"
                cells = (part, title, f"{value:.3f}", interval)
                rows += Markup("<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>").format(*cells)
    heads = Markup("<tr><th>part</th><th>metric</th><th>value</th><th>95% interval</th></tr>")
    return Markup("<table>{}{}</table>").format(heads, rows)


def _curves(history: History) -> list[Markup]:
    found = []
    for title, names in _CURVES.items():
        curves = {name: [point.value for point in history[name]] for name in names if len(history.get(name, ())) > 1}
        if not curves:
            continue
        epochs = round_axis("epoch", [1.0, float(max(map(len, curves.values())))], least=1.0, whole=True)
        values = round_axis(" and ".join(curves), [value for curve in curves.values() for value in curve])
        lines = [
            Line([float(number) for number in range(1, len(curve) + 1)], curve, colour=place, dashed=place > 0)
            for place, curve in enumerate(curves.values())
        ]
        key = ", ".join(f"{name} {look}" for name, look in zip(curves, ("solid", "dashed"), strict=False))
        drawn = plot(f"{title} of each epoch", epochs, values, lines)
        found.append(Markup("<div>{}<br><small>{}</small></div>").format(drawn, key if len(curves) > 1 else ""))
    return found


def _confusion(run: Run) -> Markup:
    for part, title in (("test", "test part"), ("val", "validation part")):
        path = run.fetch(artifacts.confusion_matrix(part, ".png"))
        if path is not None:
            return picture(path.read_bytes(), f"confusion matrix, {title}")
    return Markup("")
