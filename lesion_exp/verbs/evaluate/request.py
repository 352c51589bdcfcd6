"""The request of an evaluation: which images, and with which options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lesion_exp.errors import ConfigError
from lesion_exp.evaluation.stacking import StackOptions
from lesion_exp.training.part_evaluation import EvaluatedPart

SHARED_KEYS: Final = ("mask", "mask_margin", "view", "store_size")
"""Keys of `dataset` that change what a network sees of an image; they keep the values of its training."""


@dataclass(frozen=True)
class EvaluationRequest:
    """What to evaluate, and how."""

    part: EvaluatedPart
    evaluation: Mapping[str, Any]
    """The node `evaluation` of the config."""
    chosen: frozenset[str] = field(default_factory=frozenset)
    """The keys of `evaluation` that the user set; for all others a run keeps its own values."""
    dataset: Mapping[str, Any] | None = None
    """The node `dataset` of another data set; None evaluates a part of the run's own data."""
    places: Mapping[str, Path] = field(default_factory=dict)
    """Where data of the runs are now that have moved, by the keys of their jobs, see `MovedData`."""
    allow_leakage: bool = False
    """Whether another data set may have images that a run has seen."""
    stack: StackOptions = field(default_factory=StackOptions)
    """How a stacked ensemble is fitted."""
    overrides: tuple[str, ...] = ()
    """The overrides of the command that asks for this, without the runs, the method of an ensemble and the store."""
    view: str | None = None
    """The `dataset.view` that the user set for `dataset`; None shows the photographs as `view_elsewhere` says."""

    def __post_init__(self) -> None:
        """Checks that the options do not contradict each other.

        Raises:
            ConfigError: a calibration is set for the part on which it would be fitted.
        """
        calibration = self.evaluation["calibration"]
        on_validation = self.part == "val" and self.dataset is None
        if on_validation and "calibration" in self.chosen and calibration != "none":
            raise ConfigError(
                f"expected calibration=none with split.part=val, got {calibration}: calibrations are fitted on the "
                f"validation part and cannot be evaluated on it; evaluate the test part, or another data set"
            )

    def options_of(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the node `evaluation` for a run whose job has `own`."""
        return {**self.evaluation, **own, **{key: self.evaluation[key] for key in self.chosen}}
