"""The evaluation of a run or of an ensemble of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lesion_exp.dataset.display_name import display_name
from lesion_exp.evaluation.comparison import Difference
from lesion_exp.evaluation.evaluation_result import EvaluationResult
from lesion_exp.evaluation.posthoc import PosthocModels
from lesion_exp.split import PARTS
from lesion_exp.verbs.evaluate.request import EvaluationRequest


@dataclass(frozen=True)
class RunEvaluation:
    """The evaluation of a run, or of an ensemble of runs."""

    run_id: str
    """The run that stores the results."""
    run_name: str
    name: str
    """The name of the evaluated images in paths and metrics: `test`, `test-flips8`, `ph2`."""
    title: str
    """A title for the evaluated images."""
    members: tuple[str, ...]
    """The ids of the runs of the ensemble; empty for a single run."""
    options: Mapping[str, Any]
    """The node `evaluation` that was used."""
    leaky: bool
    """Whether evaluated images are also in the training or validation data."""
    result: EvaluationResult
    posthoc: PosthocModels | None
    """The models that were fitted on the validation part; None if there are none."""
    against: Mapping[str, Mapping[str, Difference]] = field(default_factory=dict)
    """For a stacked ensemble, the difference from each member and from their mean, by metric."""
    importance: Sequence[Mapping[str, Any]] = ()
    """For a stacked ensemble, what its features are worth, see `evaluation.stacking.Importance`."""
    notes: Sequence[str] = ()
    """What of its features the data of a stacked ensemble do not have; for an import, how the file was read."""


def name_and_title(request: EvaluationRequest, num_images: int, tta: str | None = None) -> tuple[str, str]:
    """Returns the name and the title of the evaluated images; `tta` only if it differs from the run's own."""
    name, title = str(request.part), f"{PARTS[request.part]} part"
    if request.dataset is not None:
        name = title = display_name(request.dataset)
        if request.view is not None:
            name, title = f"{name}-{request.view}", f"{title}, {request.view} view"
    if tta is not None:
        name, title = f"{name}-{tta}", f"{title}, tta {tta}"
    return name, f"{title}, {num_images:,} images"


def against_as_plain(against: Mapping[str, Mapping[str, Difference]]) -> dict[str, dict[str, Any]]:
    """Returns the differences of `RunEvaluation.against` as plain values, for JSON."""
    return {
        other: {
            name: {"stacked": one.first, "other": one.second, "difference": one.difference, "low": one.low,
                   "high": one.high, "p_corrected": one.p_corrected, "test": one.test}
            for name, one in found.items()
        }
        for other, found in against.items()
    }  # fmt: skip
