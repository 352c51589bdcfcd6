"""What was judged, how, and what it came to."""

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
"""Parts of a run's own data that it is evaluated on."""


@dataclass(frozen=True)
class RunEvaluation:
    """The evaluation of a run, or of several as one."""

    run_id: str
    """The run that holds the results."""
    run_name: str
    name: str
    """Of what was judged, in paths and metrics: `test`, `test-flips8`, `ph2`."""
    title: str
    """The same in words."""
    members: tuple[str, ...]
    """The runs that were joined; none for a run that was judged by itself."""
    options: Mapping[str, Any]
    """The node `evaluation` that counted."""
    leaky: bool
    study: EvaluationResult
    fitted: PosthocModels | None
    """What was fitted on validation; None where nothing could be."""


def name_and_title(request: EvaluationRequest, num_images: int, tta: str | None = None) -> tuple[str, str]:
    """Name and title of what is judged; `tta` where it is another one than the run's own."""
    name, title = str(request.part), f"{PARTS[request.part]} part"
    if request.dataset is not None:
        name = title = display_name(request.dataset)
    if tta is not None:
        name, title = f"{name}-{tta}", f"{title}, tta {tta}"
    return name, f"{title}, {num_images:,} images"
