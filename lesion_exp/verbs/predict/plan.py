"""A prediction, frozen in a folder beside its output, so that any process can go on with it."""

from __future__ import annotations

import json
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
"""The plan, once its output is whole."""
IMAGES_FILE: Final = "images.json"
FREE: Final = ("num_workers", "devices")
"""Keys that may differ when a prediction goes on: no result depends on them."""


@dataclass(frozen=True)
class PredictionPlan:
    """What is predicted of which images, by which weights, and how."""

    run_id: str
    checkpoint: str
    weights_hash: str
    config: Mapping[str, Any]
    """The run's job, with the precision, devices and test-time augmentation that count here."""
    calibrator: Mapping[str, Any] | None
    """What `Calibrator.to_dict` gave."""
    source: str
    """`input=`, as the user gave it."""
    digest: str
    """Of the images."""
    output: str
    top: int
    rank: str | None
    batch_size: int
    num_workers: int | str
    devices: int | list[int]
    heat_maps: str | None = None
    """Folder for the pictures of the evidence."""
    version: str = field(default=__version__)

    @property
    def with_features(self) -> bool:
        """Whether what the last layer sees is kept."""
        return self.rank == "coreset"

    @property
    def facts(self) -> dict[str, Any]:
        """What a reader of the probabilities must know of them, as plain values."""
        fitted = None if self.calibrator is None else self.calibrator["fitted_on"]
        return {
            "run_id": self.run_id,
            "weights_hash": self.weights_hash,
            "calibration": "none" if self.calibrator is None else self.calibrator["method"],
            "calibration_fitted_on": fitted,
            "tta": self.config["evaluation"]["tta"],
            "precision": self.config["trainer"]["precision"],
            "version": self.version,
            "use": RESEARCH_ONLY,
        }

    def write(self, folder: Path, images: pd.DataFrame) -> None:
        """Freezes the plan and its images in `folder`; the plan's file comes last, a folder without it is none."""
        folder.mkdir(parents=True, exist_ok=True)
        columns = {str(name): values.where(values.notna(), None).tolist() for name, values in images.items()}
        (folder / IMAGES_FILE).write_text(json.dumps(columns), encoding="utf-8")
        (folder / f"{PLAN_FILE}.part").write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        (folder / f"{PLAN_FILE}.part").replace(folder / PLAN_FILE)

    @classmethod
    def read(cls, folder: Path, name: str = PLAN_FILE) -> PredictionPlan:
        """The plan that was frozen in `folder`, or under the name `DONE_FILE` the one that is done."""
        return cls(**json.loads((folder / name).read_text(encoding="utf-8")))

    def differences(self, begun: PredictionPlan) -> dict[str, tuple[Any, Any]]:
        """The keys in which the results of this plan would differ from those of `begun`, with both values."""
        mine, other = (json.loads(json.dumps(asdict(plan))) for plan in (self, begun))
        return {key: (text, other[key]) for key, text in mine.items() if key not in FREE and text != other[key]}

    def check_same(self, begun: PredictionPlan) -> None:
        """Checks that going on with `begun` gives what this plan would give.

        Raises:
            ConfigError: it would not.
        """
        for name, (mine, other) in self.differences(begun).items():
            word = _WORDS.get(name, f"{name}=")
            shown = f" ({other}, now {mine})" if name not in {"config", "calibrator"} else ""
            raise ConfigError(
                f"expected the command that {self.output} was begun with, to go on with it, but {word} "
                f"differs{shown}; give the same command, another output=, or force=true to start over"
            )


_WORDS: Final = {
    "run_id": "run=",
    "weights_hash": "what the checkpoint holds",
    "config": "how the network predicts",
    "calibrator": "calibration=",
    "source": "input=",
    "digest": "what lies at input=",
    "heat_maps": "gradcam=",
    "version": "the version of lesion_exp",
}


def read_images(folder: Path) -> pd.DataFrame:
    """The images of the plan in `folder`, in the order of the results."""
    images = pd.DataFrame(json.loads((folder / IMAGES_FILE).read_text(encoding="utf-8")), dtype=object)
    return images.assign(age=images["age"].astype(float)) if "age" in images else images
