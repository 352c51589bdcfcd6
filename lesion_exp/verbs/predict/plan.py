"""A prediction, frozen in a folder beside its output, so that any process can continue it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import pandas as pd

from lesion_exp.errors import ConfigError
from lesion_exp.taxonomy import RESEARCH_ONLY
from lesion_exp.version import __version__

PLAN_FILE: Final = "plan.json"
DONE_FILE: Final = "done.json"
"""Name of the plan once its output is complete."""
IMAGES_FILE: Final = "images.json"
FREE: Final = ("num_workers", "devices")
"""Keys that may differ when a prediction is continued, since no result depends on them."""


@dataclass(frozen=True)
class PredictionPlan:
    """Which images are predicted, with which weights, and how."""

    run_id: str
    checkpoint: str
    weights_hash: str
    config: Mapping[str, Any]
    """The config of the run's job, with the precision, devices and test-time augmentation of this prediction."""
    calibrator: Mapping[str, Any] | None
    """See `Calibrator.to_dict`."""
    source: str
    """`input=`, as the user gave it, or the name of the data set."""
    digest: str
    """See `contents_digest`."""
    output: str
    top: int
    rank: str | None
    batch_size: int
    num_workers: int | str
    devices: int | list[int]
    heat_maps: str | None = None
    """Folder for the pictures with Grad-CAM maps."""
    features: str | None = None
    """File for the inputs and outputs of the head."""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """By which a class is predicted, see `decided`."""
    code: Mapping[str, str] = field(default_factory=dict)
    """The state of the user's own code in `config`, by package."""
    version: str = field(default=__version__)

    @property
    def with_features(self) -> bool:
        """Whether inputs and outputs of the head are stored."""
        return self.rank == "coreset" or self.features is not None

    @property
    def facts(self) -> dict[str, Any]:
        """How the probabilities are made, as plain values, for readers of them."""
        fitted = None if self.calibrator is None else self.calibrator["fitted_on"]
        return {
            "run_id": self.run_id,
            "weights_hash": self.weights_hash,
            "calibration": "none" if self.calibrator is None else self.calibrator["method"],
            "calibration_fitted_on": fitted,
            "tta": self.config["evaluation"]["tta"],
            "precision": self.config["trainer"]["precision"],
            "thresholds": dict(self.thresholds),
            "version": self.version,
            "use": RESEARCH_ONLY,
        }

    def write(self, folder: Path, images: pd.DataFrame) -> None:
        """Freezes the plan and its images in `folder`. The plan is written last; a folder without it holds no plan.

        A plan that replaces another one keeps its time, the time at which the prediction was begun: what is newer may
        be a file that the prediction wrote before it was stopped.
        """
        folder.mkdir(parents=True, exist_ok=True)
        columns = {str(name): values.where(values.notna(), None).tolist() for name, values in images.items()}
        (folder / IMAGES_FILE).write_text(json.dumps(columns), encoding="utf-8")
        partial, plan = folder / f"{PLAN_FILE}.part", folder / PLAN_FILE
        partial.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        if plan.is_file():
            began = plan.stat().st_mtime_ns
            os.utime(partial, ns=(began, began))
        partial.replace(plan)

    @classmethod
    def read(cls, folder: Path, name: str = PLAN_FILE) -> PredictionPlan:
        """The plan that was frozen in `folder`; with the name `DONE_FILE`, that of a complete prediction."""
        return cls(**json.loads((folder / name).read_text(encoding="utf-8")))

    def differences(self, begun: PredictionPlan) -> dict[str, tuple[Any, Any]]:
        """The keys by which the results of this plan would differ from those of `begun`, with both values."""
        mine, other = (json.loads(json.dumps(asdict(plan))) for plan in (self, begun))
        return {key: (text, other[key]) for key, text in mine.items() if key not in FREE and text != other[key]}

    def check_same(self, begun: PredictionPlan) -> None:
        """Checks that continuing `begun` gives the results of this plan.

        Raises:
            ConfigError: it would give others.
        """
        for name, (mine, other) in self.differences(begun).items():
            word = _WORDS.get(name, f"{name}=")
            shown = f" ({other}, now {mine})" if name not in {"config", "calibrator", "code"} else ""
            raise ConfigError(
                f"expected the command with which {self.output} was begun, to continue it, but {word} "
                f"differs{shown}; give the same command, another output=, or force=true to start over"
            )


_WORDS: Final = {
    "run_id": "run=",
    "weights_hash": "the content of the checkpoint",
    "config": "how the network predicts",
    "calibrator": "calibration=",
    "source": "input= or dataset=",
    "digest": "the list of images",
    "heat_maps": "gradcam=",
    "features": "output_features=",
    "thresholds": "thresholds=",
    "code": "your own code",
    "version": "the version of lesion_exp",
}


def read_images(folder: Path) -> pd.DataFrame:
    """The images of the plan in `folder`, in the order of the results."""
    images = pd.DataFrame(json.loads((folder / IMAGES_FILE).read_text(encoding="utf-8")), dtype=object)
    return images.assign(age=images["age"].astype(float)) if "age" in images else images
