"""The evaluation of a run or of an ensemble of runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from lesion_exp.dataset.display_name import display_name
from lesion_exp.evaluation.evaluation_result import EvaluationResult
from lesion_exp.evaluation.posthoc import PosthocModels
from lesion_exp.split import PARTS
from lesion_exp.verbs.evaluate.request import EvaluationRequest

OWN_PARTS: Final = ("val", "test")
"""The parts of a run's own data on which it can be evaluated."""


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


def name_and_title(request: EvaluationRequest, num_images: int, tta: str | None = None) -> tuple[str, str]:
    """Returns the name and the title of the evaluated images; `tta` only if it differs from the run's own."""
    name, title = str(request.part), f"{PARTS[request.part]} part"
    if request.dataset is not None:
        name = title = display_name(request.dataset)
    if tta is not None:
        name, title = f"{name}-{tta}", f"{title}, tta {tta}"
    return name, f"{title}, {num_images:,} images"
