"""What somebody wants explained, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from lesion_exp.explanation.explainer import Explainer

Part = Literal["val", "test"]
Checkpoint = Literal["best", "last"]
PASSES: Final = 10_000
"""Forward passes of a method, by which the number of images behind its figures is chosen where nobody says it."""
FEWEST: Final = 20


@dataclass(frozen=True)
class ExplanationRequest:
    """What `explain` is asked for."""

    methods: Mapping[str, Explainer]
    part: Part | None = None
    """None: the test part if the run has read it, else validation."""
    count: int = 6
    """Images a row of a gallery."""
    images: int | None = None
    """How many images, drawn from the part, the figures are about; None: as many as `PASSES` allow, at least 20."""
    checkpoint: Checkpoint = "best"
    data_root: Path | None = None
    """Where the run's data lie now, if they have moved."""
    log_images: bool = True
    """Whether galleries may be kept in the store; false in the run's own config rules this out, too."""

    def num_images(self, explainer: Explainer) -> int:
        """How many images the figures of a method are about, unless the part has fewer."""
        return max(PASSES // explainer.passes, FEWEST) if self.images is None else self.images
