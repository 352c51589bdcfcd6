"""The decision curve: net benefit over the threshold of concern."""

from __future__ import annotations

from textwrap import wrap
from typing import Final

from matplotlib.figure import Figure

from lesion_exp.evaluation.decision_curve import DecisionCurve
from lesion_exp.evaluation.figures.labels import shortened
from lesion_exp.evaluation.figures.style import GREY, PALETTE, style

_NAME: Final = 30
_LINE: Final = 58
"""Of the class and of each line below the curve, letters."""


def decision_curve_figure(curve: DecisionCurve, title: str = "") -> Figure:
    """The model with its 95% band, acting on everyone, and acting on no one."""
    model = curve.model
    lowest = min(0.0, min(estimate.low for estimate in model))
    highest = max(0.01, max(estimate.high for estimate in model))
    with style():
        figure = Figure(figsize=(5.6, 4.4), layout="constrained")
        axes = figure.subplots()
        axes.fill_between(
            curve.thresholds, [e.low for e in model], [e.high for e in model], color=PALETTE[0], alpha=0.18, linewidth=0
        )
        axes.plot(curve.thresholds, [e.value for e in model], color=PALETTE[0], linewidth=1.8, label="the model")
        axes.plot(curve.thresholds, curve.everyone, color=PALETTE[1], linewidth=1.3, linestyle="--", label="everyone")
        axes.axhline(0, color=GREY, linewidth=1.0, linestyle=":", label="no one")
        name = shortened(curve.target, _NAME)
        threshold = wrap(f"threshold: probability of {name} from which one acts", _LINE)
        axes.set(
            title=title or f"decision curve, {name}",
            xlabel="\n".join(threshold),
            ylabel="net benefit (true positives an image)",
            xlim=(0, max(curve.thresholds)),
            ylim=(lowest - 0.1 * highest, 1.05 * highest),
        )
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        handles, names = axes.get_legend_handles_labels()
        figure.legend(handles, [f"act on {name}" for name in names], loc="outside lower center", ncols=len(names))
    return figure
