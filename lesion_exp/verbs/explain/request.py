"""What somebody wants explained, and how: options of `explain`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from lesion_exp.choices import EVALUATED_PARTS, WEIGHTS
from lesion_exp.option import Place, Truth, check_options, choice, option, whole

if TYPE_CHECKING:
    from lesion_exp.explanation.explainer import Explainer
    from lesion_exp.trained_runs.trained_run import WhichWeights

Part = Literal["val", "test"]
PASSES: Final = 10_000
"""Forward passes of a method, by which the number of images behind its figures is chosen where nobody says it."""
FEWEST: Final = 20
DEFAULT_METHODS: Final = ("grad_cam", "grad_cam_plus_plus", "integrated_gradients")
"""What `explain` shows where nothing else is said."""


@dataclass(frozen=True)
class ExplanationRequest:
    """What `explain` is asked for."""

    methods: Mapping[str, Explainer]
    part: Part | None = option(
        None, choice(EVALUATED_PARTS), "the part; without it, test if the run has read it, else val"
    )
    count: int = option(6, whole(example="8"), "images a row of a gallery")
    images: int | None = option(
        None, whole(example="500"), "images behind the figures, drawn from the part; without it, by the method's cost"
    )
    checkpoint: WhichWeights = option("best", choice(WEIGHTS, path_too=True), "which of the run's weights")
    data_root: Path | None = option(
        None, Place("DIR", "DIR"), "where the run's data lie now, if they have moved", key="dataset.root"
    )
    log_images: bool = option(
        True,
        Truth(),
        "false: no galleries, so that pictures of patients stay out of the store (also where the run's config says so)",
        key="tracking.log_images",
    )

    def __post_init__(self) -> None:
        """Refuses values that an option does not take.

        Raises:
            ConfigError: one of the keys.
        """
        check_options(self)

    def num_images(self, explainer: Explainer) -> int:
        """How many images the figures of a method are about, unless the part has fewer."""
        return max(PASSES // explainer.passes, FEWEST) if self.images is None else self.images
