"""The options of `plan`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lesion_exp.option import Number, Truth, folder, option


@dataclass(frozen=True)
class PlanRequest:
    """The options of `plan`, beside the data set."""

    hours: float = option(
        1.0, Number(above=True, example="0.5"), "time for the whole training, from its start to its last result, hours"
    )
    output: Path = option(Path("plan"), folder("my_plan"), "folder to write; the preset in it is experiment/plan.yaml")
    force: bool = option(False, Truth(), "replace an existing plan")
