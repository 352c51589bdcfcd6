"""A network that a plan may choose, its measured speed, and the choice of a key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lesion_exp.dataset.path_patterns import as_value


@dataclass(frozen=True)
class Candidate:
    """A network that a plan may choose, with its image size in pixels and values of `backbone.weights` and `tune`."""

    backbone: str
    image_size: int
    weights: str = "none"
    tune: str = "full"

    @property
    def name(self) -> str:
        """The name of the candidate in messages."""
        start = "from ImageNet weights" if self.weights == "imagenet" else "from scratch"
        how = {"full": start, "head": "frozen, with a trained head"}.get(self.tune, f"{start}, {self.tune} trained")
        return f"{self.backbone} at {self.image_size} px {how}"

    @property
    def is_fine_tuned(self) -> bool:
        """Whether it starts from ImageNet weights."""
        return self.weights == "imagenet"

    @property
    def is_probe(self) -> bool:
        """Whether its head alone is trained, on features that are computed once."""
        return self.tune == "head"


@dataclass(frozen=True)
class Speed:
    """The measured speed of a candidate.

    Args:
        candidate: what was measured.
        training: images a second in training steps; 0 for a probe, whose network is not trained.
        evaluation: images a second in evaluation.
        memory: bytes of the device (without a GPU: of the process) at most.
    """

    candidate: Candidate
    training: float
    evaluation: float
    memory: int = 0


@dataclass(frozen=True)
class Choice:
    """A key of the preset, or a group with its option, and why it has its value."""

    key: str
    value: Any
    reason: str = ""
    is_group: bool = False

    @property
    def override(self) -> str:
        """The choice as on the command line."""
        return f"{self.key}={self.value if self.is_group else as_value(self.value)}"
