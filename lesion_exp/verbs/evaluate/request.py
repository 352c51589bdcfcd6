"""What somebody wants judged, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lesion_exp.errors import ConfigError
from lesion_exp.training.part_evaluation import JudgedPart

SHARED_KEYS: Final = ("mask", "mask_margin", "view", "store_size")
"""Keys of `dataset` that say what a network sees of an image, and so stay as it was trained."""


@dataclass(frozen=True)
class EvaluationRequest:
    """What `evaluate` is asked for."""

    part: JudgedPart
    evaluation: Mapping[str, Any]
    """The node `evaluation` of the config."""
    chosen: frozenset[str] = field(default_factory=frozenset)
    """Keys of it that the user gave; for all others a run keeps its own."""
    dataset: Mapping[str, Any] | None = None
    """The node of another data set to judge on."""
    data_root: Path | None = None
    """Where the runs' own data lie now, if they have moved."""
    allow_leakage: bool = False
    """Whether another data set may hold images that a run was trained on."""

    def __post_init__(self) -> None:
        """Refuses what contradicts itself.

        Raises:
            ConfigError: a calibration of the part that it would be fitted on.
        """
        calibration = self.evaluation["calibration"]
        on_validation = self.part == "val" and self.dataset is None
        if on_validation and "calibration" in self.chosen and calibration != "none":
            raise ConfigError(
                f"expected calibration=none with split.part=val, got {calibration}: calibrations are fitted on the "
                f"validation part and prove nothing there; judge the test part, or another data set"
            )

    def options_of(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """The node `evaluation` for a run whose own one is `own`."""
        return {**self.evaluation, **own, **{key: self.evaluation[key] for key in self.chosen}}
