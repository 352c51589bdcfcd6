"""What somebody wants predicted, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lesion_exp.errors import ConfigError, check_choice
from lesion_exp.evaluation.calibrator import DEFAULT_CALIBRATION
from lesion_exp.evaluation.tta import tta_views
from lesion_exp.trained_runs.trained_run import WhichWeights, check_calibration
from lesion_exp.verbs.predict.active_learning import RANKINGS
from lesion_exp.verbs.predict.output import check_output

PRECISIONS: Final = ("auto", "32-true", "bf16-mixed", "16-mixed")


@dataclass(frozen=True)
class PredictionRequest:
    """What `predict` is asked for; None means: as the run was trained."""

    source: str
    output: Path
    checkpoint: WhichWeights = "best"
    """Of the run; a path is a file with other weights of it."""
    calibration: str = DEFAULT_CALIBRATION
    """Fitted on the run's validation part; none: the network's own probabilities."""
    tta: str | None = None
    top: int = 0
    rank: str | None = None
    count: int = 100
    """How many images to label."""
    heat_maps: Path | None = None
    """Folder for a picture of the evidence in each image."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Names that are known here -> those in the csv."""
    batch_size: int | None = None
    num_workers: int | str = "auto"
    trainer: Mapping[str, Any] = field(default_factory=dict)
    """`accelerator`, `devices` and `precision`, where given."""
    force: bool = False
    """Whether to start over, also where there is a result."""

    def __post_init__(self) -> None:
        """Refuses what is no value of its key.

        Raises:
            ConfigError: one of the keys.
        """
        check_output(self.output)
        check_calibration(self.calibration, self.checkpoint)
        if self.heat_maps is not None and _lies_below(self.heat_maps, self.source):
            raise ConfigError(
                f"expected gradcam to be a folder outside of input={self.source}, where its pictures would be images "
                f"to predict the next time, got {self.heat_maps}; name another folder"
            )
        if self.tta is not None:
            tta_views(self.tta)
        if self.rank is not None:
            check_choice("rank", self.rank, RANKINGS)


def _lies_below(folder: Path, source: str) -> bool:
    return folder.expanduser().resolve().is_relative_to(Path(source).expanduser().resolve())
